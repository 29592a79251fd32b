//! A simulated hypervisor with two domains, or two vCPUs of one. Each agent runs on a thread of its own; a baton says whose
//! turn it is.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use coverage_hypercall::{
    channel::{
        ARENA_GPA, ARENA_LEN, CHANNEL_LEN, COMPLETION_DATA, COMPLETION_RING, REQUEST_DATA, REQUEST_RING,
    },
    harness::{HARNESS_DONE, HARNESS_OP, HARNESS_READY, HARNESS_SWITCH},
    program::{Change, Completion, Group, Header, Insn, MAGIC, Status, VERSION},
    ring::SKIP,
};
use xtf_agent::{Agent, Exception, Operation, Platform, Stop};

/// Hypercall: returns its first argument.
pub(crate) const ECHO: u32 = 100;
/// Hypercall: writes the 8 bytes `arg1` at the address `arg0` of the arena.
pub(crate) const STORE: u32 = 101;
/// Hypercall: page fault at the address `arg0`.
pub(crate) const FAULT: u32 = 102;
/// Hypercall: blocks until somebody wakes the domain.
pub(crate) const BLOCK: u32 = 103;
/// Hypercall: wakes the domain `arg0`.
pub(crate) const WAKE: u32 = 104;
/// Hypercall: kills the caller.
pub(crate) const DIE: u32 = 105;
/// Hypercall: writes the word `arg1` at offset `arg0` of the channel.
pub(crate) const SCRIBBLE: u32 = 106;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vcpu {
    Running,
    Waiting,
    Blocked,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Idle,
}

struct State {
    channel: Vec<u8>,
    vcpus: Vec<Vcpu>,
    current: usize,
    programs: u32,
    outcome: Option<(Outcome, Vec<u8>)>,
    calls: Vec<(u16, u64)>,
}

struct Shared {
    state: Mutex<State>,
    turn: Condvar,
}

/// One domain's view. Domain numbers are indexes.
struct Domain {
    shared: Arc<Shared>,
    me: usize,
    arena: Vec<u8>,
}

impl Domain {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Waits for the baton. False if it is all over.
    fn wait(&self, mut state: MutexGuard<'_, State>) -> bool {
        while state.current != self.me && state.outcome.is_none() {
            state = self.shared.turn.wait(state).unwrap();
        }
        if state.outcome.is_some() {
            return false;
        }
        state.vcpus[self.me] = Vcpu::Running;
        true
    }

    /// What a call returns that waits for the baton.
    fn resumed(&self, state: MutexGuard<'_, State>) -> i64 {
        if self.wait(state) { 0 } else { -38 }
    }

    /// Gives the baton to whoever can run.
    fn yield_to_any(&self, state: &mut State) {
        match state.vcpus.iter().position(|v| *v == Vcpu::Waiting) {
            Some(n) => state.current = n,
            None => {
                let channel = state.channel.clone();
                state.outcome.get_or_insert((Outcome::Idle, channel));
            }
        }
        self.shared.turn.notify_all();
    }

    fn harness(&self, args: &[u64; 6]) -> i64 {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return -38;
        }
        match args[0] {
            HARNESS_READY => self.resumed(state),
            HARNESS_DONE => {
                state.programs -= 1;
                if state.programs == 0 {
                    let channel = state.channel.clone();
                    state.outcome.get_or_insert((Outcome::Done, channel));
                    self.shared.turn.notify_all();
                }
                0
            }
            HARNESS_SWITCH => {
                // There is only one of both: the second domain, or the second vCPU.
                let target = (args[1] as u16 as usize) + (args[1] >> 16) as usize;
                if target == self.me {
                    return -22;
                }
                match state.vcpus.get(target) {
                    None => return -2,
                    Some(Vcpu::Waiting) => {}
                    Some(_) => return -11,
                }
                state.vcpus[self.me] = Vcpu::Waiting;
                state.current = target;
                self.shared.turn.notify_all();
                self.resumed(state)
            }
            _ => -38,
        }
    }
}

impl Platform for Domain {
    fn channel_read(&self, at: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.lock().channel[at..][..out.len()]);
    }
    fn channel_write(&mut self, at: usize, data: &[u8]) {
        self.lock().channel[at..][..data.len()].copy_from_slice(data);
    }
    fn arena_read(&self, at: u32, out: &mut [u8]) {
        out.copy_from_slice(&self.arena[at as usize..][..out.len()]);
    }
    fn arena_write(&mut self, at: u32, data: &[u8]) {
        self.arena[at as usize..][..data.len()].copy_from_slice(data);
    }
    fn arena_fill(&mut self, at: u32, len: u32, byte: u8) {
        self.arena[at as usize..][..len as usize].fill(byte);
    }
    fn hypercall(&mut self, number: u64, args: &[u64; 6]) -> Result<i64, Exception> {
        if number == HARNESS_OP {
            return Ok(self.harness(args));
        }
        let mut state = self.lock();
        state.calls.push((self.me as u16, number));
        Ok(match number as u32 {
            ECHO => args[0] as i64,
            STORE => {
                drop(state);
                let at = args[0].wrapping_sub(ARENA_GPA).min(u64::from(ARENA_LEN)) as usize;
                match self.arena.get_mut(at..at + 8) {
                    Some(word) => {
                        word.copy_from_slice(&args[1].to_le_bytes());
                        0
                    }
                    None => -14,
                }
            }
            FAULT => return Err(Exception { vector: 14, error: 2, rip: 0x10_0000, address: args[0] }),
            BLOCK => {
                state.vcpus[self.me] = Vcpu::Blocked;
                self.yield_to_any(&mut state);
                self.wait(state);
                0
            }
            WAKE => match state.vcpus.get_mut(args[0] as usize) {
                Some(v @ Vcpu::Blocked) => {
                    *v = Vcpu::Waiting;
                    0
                }
                _ => -22,
            },
            DIE => {
                state.vcpus[self.me] = Vcpu::Dead;
                self.yield_to_any(&mut state);
                drop(state);
                panic::resume_unwind(Box::new("dead"))
            }
            SCRIBBLE => {
                let at = args[0].min(CHANNEL_LEN as u64) as usize;
                match state.channel.get_mut(at..at + 4) {
                    Some(word) => {
                        word.copy_from_slice(&(args[1] as u32).to_le_bytes());
                        0
                    }
                    None => -14,
                }
            }
            _ => -38,
        })
    }
    fn operate(&mut self, operation: Operation, args: &[u64; 6]) -> Result<i64, Exception> {
        match operation {
            Operation::Ud2 => Err(Exception { vector: 6, error: 0, rip: 0x10_0100, address: 0 }),
            _ => Ok(args[0] as i64),
        }
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// The channel at the moment when the run ended.
    pub(crate) channel: Vec<u8>,
    /// Domain and number of each hypercall but those of the harness.
    pub(crate) calls: Vec<(u16, u64)>,
}

/// A channel with these requests in its ring.
pub(crate) fn channel(requests: &[&[u8]]) -> Vec<u8> {
    let mut channel = vec![0; CHANNEL_LEN];
    let mut produced = 0;
    for request in requests {
        let place = REQUEST_RING.place(produced, 0, request.len()).unwrap();
        if let Some(at) = place.skip_at {
            channel[REQUEST_DATA + at..][..4].copy_from_slice(&SKIP.to_le_bytes());
        }
        let at = REQUEST_DATA + place.length_at;
        channel[at..at + 4].copy_from_slice(&(request.len() as u32).to_le_bytes());
        let at = REQUEST_DATA + place.payload.start;
        channel[at..at + request.len()].copy_from_slice(request);
        produced = place.produced;
    }
    channel[8..12].copy_from_slice(&produced.to_le_bytes());
    channel
}

/// Runs agents in the domains 0 and 1 until DONE was said `programs` times or none can run. Domain 0 begins.
pub(crate) fn run(channel: Vec<u8>, programs: u32, know_their_number: bool) -> Report {
    run_as(channel, programs, [0, 1].map(|me| (know_their_number.then_some(me), 0)))
}

/// As [`run`], on two vCPUs of domain 0.
pub(crate) fn run_vcpus(channel: Vec<u8>, programs: u32) -> Report {
    run_as(channel, programs, [(Some(0), 0), (Some(0), 1)])
}

fn run_as(channel: Vec<u8>, programs: u32, agents: [(Option<u16>, u8); 2]) -> Report {
    let state = State {
        channel,
        vcpus: vec![Vcpu::Waiting; 2],
        current: 0,
        programs,
        outcome: None,
        calls: Vec::new(),
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), turn: Condvar::new() });
    let threads: Vec<_> = (0..2)
        .map(|me| {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut domain = Domain { shared, me, arena: vec![0; ARENA_LEN as usize] };
                let (number, vcpu) = agents[me];
                let mut agent = Box::new(Agent::new(number, vcpu));
                // A dead domain unwinds; everything else has to come to an orderly end.
                let end = panic::catch_unwind(AssertUnwindSafe(|| agent.run(&mut domain)));
                if let Err(payload) = &end {
                    // Nobody waits for a thread that has failed.
                    if payload.downcast_ref::<&str>() != Some(&"dead") {
                        domain.shared.state.lock().unwrap().outcome = Some((Outcome::Idle, Vec::new()));
                        domain.shared.turn.notify_all();
                    }
                    assert!(payload.downcast_ref::<&str>() == Some(&"dead"), "the agent panicked");
                } else {
                    assert_eq!(end.unwrap(), Stop(Ok(-38)));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut state = shared.state.lock().unwrap();
    let (outcome, channel) = state.outcome.take().unwrap();
    Report { outcome, channel, calls: std::mem::take(&mut state.calls) }
}

/// A completion that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) call: u16,
    pub(crate) status: Status,
    pub(crate) changes: Vec<(u32, Vec<u8>)>,
}

fn word(channel: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(channel[at..at + 4].try_into().unwrap())
}

impl Report {
    /// Everything in the completion ring.
    pub(crate) fn completions(&self) -> Vec<Completed> {
        let (produced, mut consumed) = (word(&self.channel, 16), word(&self.channel, 20));
        let data = &self.channel[COMPLETION_DATA..];
        let mut found = Vec::new();
        while let Some(record) = COMPLETION_RING.next(produced, consumed, |at| word(data, at)).unwrap() {
            consumed = record.consumed;
            let completion: Completion<'_> = postcard::from_bytes(&data[record.payload]).unwrap();
            let mut changes = Vec::new();
            let mut rest = completion.changes;
            while !rest.is_empty() {
                let (change, after) = postcard::take_from_bytes::<Change<'_>>(rest).unwrap();
                changes.push((change.at, change.bytes.to_vec()));
                rest = after;
            }
            found.push(Completed { call: completion.call, status: completion.status, changes });
        }
        found
    }

    /// The statuses alone.
    pub(crate) fn statuses(&self) -> Vec<(u16, Status)> {
        self.completions().iter().map(|c| (c.call, c.status)).collect()
    }
}

fn code<T: serde::Serialize>(value: &T, into: &mut Vec<u8>) {
    let mut buffer = [0; 0x5000];
    into.extend_from_slice(postcard::to_slice(value, &mut buffer).unwrap());
}

/// Lowers a program: groups of domain and instructions.
pub(crate) fn program(repeat: u32, groups: &[(u16, Vec<Insn<'_>>)]) -> Vec<u8> {
    lower(repeat, groups.iter().map(|(domain, insns)| (*domain, 0, insns.as_slice())))
}

/// Lowers a program of domain 0: groups of vCPU and instructions.
pub(crate) fn program_of_vcpus(repeat: u32, groups: &[(u8, Vec<Insn<'_>>)]) -> Vec<u8> {
    lower(repeat, groups.iter().map(|(vcpu, insns)| (0, *vcpu, insns.as_slice())))
}

fn lower<'a>(repeat: u32, groups: impl ExactSizeIterator<Item = (u16, u8, &'a [Insn<'a>])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    code(&Header { magic: MAGIC, version: VERSION, calls: groups.len() as u16, repeat }, &mut bytes);
    for (domain, vcpu, insns) in groups {
        let mut body = Vec::new();
        for insn in insns {
            code(insn, &mut body);
        }
        code(&Group { domain, vcpu, len: body.len() as u16 }, &mut bytes);
        bytes.extend(body);
    }
    bytes
}
