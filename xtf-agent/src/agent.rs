//! From READY to DONE: takes the program, walks its groups, hands over to other domains.
//!
//! All agents walk the same program; the channel says how far it is. An agent that comes back from a call or a
//! switch believes the channel only if it says "further": each agent moves forward only, so that no content of the
//! channel can keep them running for ever.

use coverage_hypercall::{
    harness::{HARNESS_DONE, HARNESS_OP, HARNESS_READY, HARNESS_SWITCH},
    program::{Completion, Group, Header, MAGIC, MAX_CALLS, MAX_LEN, Reject, Status, VERSION, WHOLE_PROGRAM},
};
use xen_abi::errno::Errno;

use crate::{
    Exception, Platform,
    channel::{self, Position, Request},
    group::{self, MAX_CHANGES, Scratch},
};

/// Bytes of the largest completion: call, status (1 + 1 + 5 + 10 + 10) and changes with their length.
const MAX_COMPLETION: usize = MAX_CHANGES + 64;

/// Why an agent stopped: READY did not return 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop(pub Result<i64, Exception>);

/// A program that was taken out of the ring.
struct Program {
    request: Request,
    header: Header,
    /// Offset of the first group.
    body: u32,
    /// Bytes of the program.
    len: u32,
}

/// What an agent does after a step.
enum Next {
    /// Goes on in the same program, at this position.
    At(Position),
    /// The program has ended: somebody else said DONE.
    Over,
}

/// An agent: one vCPU of one domain.
#[derive(Debug)]
pub struct Agent {
    domain: Option<u16>,
    vcpu: u8,
    code: [u8; MAX_LEN],
    scratch: Scratch,
    completion: [u8; MAX_COMPLETION],
}

impl Agent {
    /// The agent of a vCPU. A domain that does not know its number finds out at the first group of its own.
    pub const fn new(domain: Option<u16>, vcpu: u8) -> Self {
        Self { domain, vcpu, code: [0; MAX_LEN], scratch: Scratch::new(), completion: [0; MAX_COMPLETION] }
    }

    /// Says which domain this is, where that is known.
    pub fn identify(&mut self, domain: Option<u16>, vcpu: u8) {
        self.domain = domain;
        self.vcpu = vcpu;
    }

    /// Runs programs until the hypervisor refuses to.
    pub fn run<P: Platform>(&mut self, p: &mut P) -> Stop {
        channel::claim(p);
        loop {
            match harness(p, HARNESS_READY, 0) {
                Ok(0) => self.serve(p),
                other => return Stop(other),
            }
        }
    }

    /// Works on the request in the ring, until it is done.
    pub fn serve<P: Platform>(&mut self, p: &mut P) {
        loop {
            let consumed = match self.take(p) {
                Ok(program) => match self.walk(p, &program) {
                    Ok(true) => Some(program.request.after),
                    // Somebody else ended it. The next one may be there already: a switch brought us here then.
                    Ok(false) if channel::request_waiting(p) => continue,
                    Ok(false) => return,
                    Err(reject) => {
                        self.report(p, WHOLE_PROGRAM, Status::Rejected(reject), false);
                        Some(program.request.after)
                    }
                },
                Err(reject) => {
                    self.report(p, WHOLE_PROGRAM, Status::Rejected(reject), false);
                    None
                }
            };
            channel::end(p, consumed);
            // A hypervisor that cannot say DONE would not have said READY either.
            let _ = harness(p, HARNESS_DONE, 0);
            return;
        }
    }

    /// Copies the request and reads its header.
    fn take<P: Platform>(&mut self, p: &P) -> Result<Program, Reject> {
        let request = channel::request(p).ok().flatten().ok_or(Reject::Malformed)?;
        let len = request.payload.len();
        let code = self.code.get_mut(..len).ok_or(Reject::Malformed)?;
        p.channel_read(request.payload.start, code);
        let (header, rest) = postcard::take_from_bytes::<Header>(code).map_err(|_| Reject::Malformed)?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(Reject::Version);
        }
        if header.calls > MAX_CALLS || header.repeat == 0 {
            return Err(Reject::Malformed);
        }
        // MAX_LEN fits into u32.
        Ok(Program { request, header, body: (len - rest.len()) as u32, len: len as u32 })
    }

    /// Goes through the program from wherever it is. True if it ended here.
    fn walk<P: Platform>(&mut self, p: &mut P, program: &Program) -> Result<bool, Reject> {
        let calls = u32::from(program.header.calls);
        let mut at = program.first_position(p)?;
        loop {
            if at.call == calls {
                let Some(turns_left) = at.turns_left.checked_sub(1) else { return Ok(true) };
                at = Position { turns_left, call: 0, offset: program.body };
                channel::clear_slots(p);
                at.write(p);
                continue;
            }
            let last_turn = at.turns_left == 0;
            let code = self.code.get(at.offset as usize..program.len as usize).ok_or(Reject::Malformed)?;
            let (group, rest) = postcard::take_from_bytes::<Group>(code).map_err(|_| Reject::Malformed)?;
            let insns = rest.get(..usize::from(group.len)).ok_or(Reject::Malformed)?;
            let behind = program.len - (rest.len() - insns.len()) as u32;
            let next = Position { call: at.call + 1, offset: behind, ..at };
            if self.domain == Some(group.domain) && self.vcpu == group.vcpu {
                next.write(p);
                let status = group::execute(p, insns, &mut self.scratch);
                if last_turn {
                    self.report(p, at.call as u16, status, true);
                }
                match program.position(p, next)? {
                    Next::At(position) => at = position,
                    Next::Over => return Ok(false),
                }
                continue;
            }
            let target = u64::from(group.domain) | u64::from(group.vcpu) << 16;
            match harness(p, HARNESS_SWITCH, target) {
                Ok(0) => match program.position(p, at)? {
                    Next::At(position) if position != at => {
                        at = position;
                        continue;
                    }
                    // Back, and nothing was done: whoever was meant does not do it.
                    Next::At(_) => {}
                    Next::Over => return Ok(false),
                },
                // That is this one, whatever it thought to be.
                Ok(status) if status == Errno::Inval.code() => {
                    self.domain = Some(group.domain);
                    self.vcpu = group.vcpu;
                    continue;
                }
                Ok(_) | Err(_) => {}
            }
            next.write(p);
            if last_turn {
                self.report(p, at.call as u16, Status::Skipped, false);
            }
            at = next;
        }
    }

    /// Writes a completion.
    fn report<P: Platform>(&mut self, p: &mut P, call: u16, status: Status, changes: bool) {
        let changes = if changes { self.scratch.changes() } else { &[] };
        let completion = Completion { call, status, changes };
        if let Ok(record) = postcard::to_slice(&completion, &mut self.completion) {
            channel::complete(p, record);
        }
    }
}

impl Program {
    /// Where an agent begins that has just been called: at the start of a new program, or where others left it.
    fn first_position<P: Platform>(&self, p: &mut P) -> Result<Position, Reject> {
        let start = Position { turns_left: self.header.repeat - 1, call: 0, offset: self.body };
        let found = Position::read(p);
        if found.offset == 0 && found.call == 0 {
            channel::clear_slots(p);
            start.write(p);
            return Ok(start);
        }
        if found == start || (found.is_after(start) && self.holds(found)) {
            Ok(found)
        } else {
            Err(Reject::Malformed)
        }
    }

    /// Where an agent goes on that was away and had come as far as `known`.
    fn position<P: Platform>(&self, p: &P, known: Position) -> Result<Next, Reject> {
        let found = Position::read(p);
        if found == known {
            return Ok(Next::At(found));
        }
        if channel::request_consumed(p) != self.request.before {
            return Ok(Next::Over);
        }
        if found.is_after(known) && self.holds(found) { Ok(Next::At(found)) } else { Err(Reject::Malformed) }
    }

    /// True if a position can exist in this program.
    fn holds(&self, position: Position) -> bool {
        position.call <= u32::from(self.header.calls)
            && (self.body..=self.len).contains(&position.offset)
            && position.turns_left < self.header.repeat
    }
}

/// The harness hypercall.
fn harness<P: Platform>(p: &mut P, operation: u64, argument: u64) -> Result<i64, Exception> {
    p.hypercall(HARNESS_OP, &[operation, argument, 0, 0, 0, 0])
}
