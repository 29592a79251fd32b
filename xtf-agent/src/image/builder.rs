//! Makes an unprivileged pv domain with the agent in it, out of the initial domain of Xen.
//!
//! The initial domain is no more than a stage then: it copies its own image into the new domain, lets that run, and waits for ever. So the new
//! domain is entered as the initial one was, with the same addresses, and the agent does there what it does in the initial one.
//!
//! | frame of the new domain | what |
//! |---|---|
//! | 0x100 | image, arena, playground, channel: as everywhere |
//! | [`START_INFO`] | the start info |
//! | [`FRAMES`] | the list of frames, two pages |
//! | [`TABLES`] | page tables: one page each of the upper three levels, two of the lowest |
//!
//! All memory is mapped at the address that is its number; page tables read-only, as Xen demands. It comes in two pieces of 2 MiB of
//! machine memory, so that the image is in one piece, and the channel is.
#![expect(unsafe_code, reason = "writes pages of another domain")]

use core::{fmt::Write, mem::offset_of, ptr};

use coverage_hypercall::channel::{CHANNEL_LEN, OWN_CHANNEL, PLAYGROUND_GFN};
use xen_abi::{
    domctl::{self, CreateDomain, Domctl, GRANT_VERSION_MASK, MaxMem, MaxVcpus, VcpuContext},
    errno::Errno,
    hypercall,
    memory::{self, Reservation},
    pv::{self, CODE_SELECTOR, DATA_SELECTOR, GuestContext, MmuextOp, START_MAGIC, StartInfo, UserRegisters},
    sched,
};
use zerocopy::IntoBytes;

use crate::{boot, platform, runtime};

/// Word of the command line by which the initial domain becomes a stage.
const WORD: &[u8] = b"domu";

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Words of a page.
const WORDS: usize = 512;
/// Pages of the new domain.
const PAGES: u64 = 1024;
/// An extent of its memory has this many pages.
const EXTENT: u64 = 512;
/// The same as an exponent.
const EXTENT_ORDER: u32 = 9;
/// Extents.
const EXTENTS: usize = (PAGES / EXTENT) as usize;

/// Frame of the start info.
const START_INFO: u64 = 0x3f0;
/// First frame of the list of frames.
const FRAMES: u64 = 0x3f1;
/// First frame of the page tables: levels four, three, two, and as many of level one as there are extents.
const TABLES: u64 = 0x3f4;
/// Frames of the page tables.
const TABLES_COUNT: u64 = 3 + EXTENTS as u64;

const _: () = assert!(OWN_CHANNEL + CHANNEL_LEN as u64 <= START_INFO * PAGE);
const _: () = assert!(FRAMES + PAGES * 8 / PAGE <= TABLES && TABLES + TABLES_COUNT <= PAGES);

/// Where the stage maps one page of the new domain after the other.
const WINDOW: u64 = PLAYGROUND_GFN * PAGE;
/// Entry of a page table: present, for the guest, accessed, and dirty.
const READABLE: u64 = 0x65;
/// The same, and writable.
const WRITABLE: u64 = READABLE | 2;

/// Versions of the domctl interface that are tried; Xen 4.6 has 11, and each later one a few more.
const VERSIONS: core::ops::Range<u32> = 0xb..0x40;
/// Event channels that the domain can have, less one.
const MAX_PORT: u32 = 1023;
/// RFLAGS.IF, without which Xen lets no guest run.
const FLAG_IF: u64 = 1 << 9;

/// True where the command line says that the initial domain is to make another one.
pub(crate) fn is_wanted(start_info: u64) -> bool {
    let at = start_info as usize + offset_of!(StartInfo, cmd_line);
    // SAFETY: the start info is where Xen says, mapped, and nobody changes it.
    let text = unsafe { ptr::with_exposed_provenance::<[u8; pv::COMMAND_LINE]>(at).read() };
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    text.split(|byte| *byte == b' ').any(|word| word == WORD)
}

/// Makes the domain, lets it run, and waits for ever.
pub(crate) fn hand_over() -> ! {
    if let Err((step, error)) = build() {
        let mut text = runtime::Text::new();
        let _ = writeln!(text, "agent: no domain can be made: {step}: {error}");
        runtime::die(0, text.as_str());
    }
    loop {
        // Whatever wakes it, there is nothing to do.
        let _ = platform::hypercall(0, hypercall::SCHED_OP, &[sched::BLOCK.into(), 0, 0, 0, 0, 0]);
    }
}

/// What could not be done, and what Xen says.
type Failed = (&'static str, i64);

/// Makes a hypercall of the stage, which has to succeed.
fn call(step: &'static str, number: u64, args: [u64; 4]) -> Result<i64, Failed> {
    let [a, b, c, d] = args;
    match platform::hypercall(0, number, &[a, b, c, d, 0, 0]) {
        Ok(result) if result >= 0 => Ok(result),
        Ok(error) => Err((step, error)),
        Err(exception) => Err((step, exception.vector.into())),
    }
}

/// Address of something that a hypercall reads and writes.
fn address<T>(of: &mut T) -> u64 {
    ptr::from_mut(of).expose_provenance() as u64
}

/// Operations on one domain.
struct Control {
    version: u32,
    domain: u16,
}

impl Control {
    /// Finds out the version of the interface: any other is refused before anything else is looked at.
    fn probe() -> Result<Self, Failed> {
        for version in VERSIONS {
            let control = Self { version, domain: 0 };
            match control.call("version", domctl::GET_DOMAIN_INFO, &[]) {
                Err((_, error)) if error == Errno::Acces.code() => {}
                _ => return Ok(control),
            }
        }
        Err(("version", Errno::Acces.code()))
    }

    /// Asks for an operation. What is not in `argument` is zero.
    fn call(&self, step: &'static str, cmd: u32, argument: &[u8]) -> Result<u16, Failed> {
        let mut operation = Domctl {
            cmd,
            interface_version: self.version,
            domain: self.domain,
            pad: [0; 3],
            u: [0; size_of::<[u64; 16]>()],
        };
        operation.u[..argument.len()].copy_from_slice(argument);
        call(step, hypercall::DOMCTL, [address(&mut operation), 0, 0, 0])?;
        Ok(operation.domain)
    }
}

/// The new domain.
struct Domain {
    control: Control,
    /// First machine frame of each extent.
    extents: [u64; EXTENTS],
}

impl Domain {
    /// Makes it, with memory and a vCPU.
    fn create() -> Result<Self, Failed> {
        let mut control = Control::probe()?;
        // Later versions have more fields before the last one; all of those are zero for a pv domain.
        let create = CreateDomain {
            max_vcpus: 1,
            max_evtchn_port: MAX_PORT,
            max_grant_frames: -1,
            max_maptrack_frames: -1,
            grant_opts: 1 & GRANT_VERSION_MASK,
            ..CreateDomain::default()
        };
        control.domain = control.call("create", domctl::CREATE_DOMAIN, create.as_bytes())?;
        control.call("vCPUs", domctl::MAX_VCPUS, MaxVcpus { max: 1 }.as_bytes())?;
        let memory = MaxMem { max_memkb: PAGES * PAGE / 1024 };
        control.call("memory", domctl::MAX_MEM, memory.as_bytes())?;
        let mut extents: [u64; EXTENTS] = core::array::from_fn(|n| n as u64 * EXTENT);
        let mut reservation = Reservation {
            extent_start: address(&mut extents),
            nr_extents: EXTENTS as u64,
            extent_order: EXTENT_ORDER,
            domid: control.domain,
            ..Reservation::default()
        };
        let arguments = [memory::POPULATE_PHYSMAP.into(), address(&mut reservation), 0, 0];
        match call("extents", hypercall::MEMORY_OP, arguments)? {
            n if n == EXTENTS as i64 => Ok(Self { control, extents }),
            n => Err(("extents", n)),
        }
    }

    /// Machine frame of a frame below [`PAGES`].
    fn machine(&self, frame: u64) -> u64 {
        self.extents[(frame / EXTENT) as usize] + frame % EXTENT
    }

    /// Its machine address.
    fn address(&self, frame: u64) -> u64 {
        self.machine(frame) * PAGE
    }

    /// Maps a page of the domain at the window, or nothing.
    fn map(&self, entry: u64) -> Result<(), Failed> {
        let arguments = [WINDOW, entry, pv::INVALIDATE_PAGE, self.control.domain.into()];
        call("window", hypercall::UPDATE_VA_MAPPING_OTHERDOMAIN, arguments).map(|_| ())
    }

    /// Fills a page with words by their index.
    fn fill(&self, frame: u64, word: impl Fn(usize) -> u64) -> Result<(), Failed> {
        self.map(self.address(frame) | WRITABLE)?;
        let window = ptr::with_exposed_provenance_mut::<u64>(WINDOW as usize);
        for n in 0..WORDS {
            // SAFETY: one page is mapped at the window, and no reference of Rust's points into the playground.
            unsafe { window.add(n).write_volatile(word(n)) };
        }
        Ok(())
    }

    /// Copies a page of the stage's own.
    fn copy(&self, frame: u64) -> Result<(), Failed> {
        let from = ptr::with_exposed_provenance::<u64>((frame * PAGE) as usize);
        // SAFETY: a page of the image. Variables may be written meanwhile, but by nobody else.
        self.fill(frame, |n| unsafe { from.add(n).read_volatile() })
    }

    /// Entry of a table: the page with this frame, which is itself a table or not.
    fn entry(&self, frame: u64) -> u64 {
        let is_table = (TABLES..TABLES + TABLES_COUNT).contains(&frame);
        self.address(frame) | if is_table { READABLE } else { WRITABLE }
    }

    /// Writes the page tables.
    fn write_tables(&self) -> Result<(), Failed> {
        // Of upper levels the first entries are used, and all of them may be written through.
        let leads_to = |first: u64, count: usize| {
            move |n: usize| if n < count { self.address(first + n as u64) | WRITABLE } else { 0 }
        };
        self.fill(TABLES, leads_to(TABLES + 1, 1))?;
        self.fill(TABLES + 1, leads_to(TABLES + 2, 1))?;
        self.fill(TABLES + 2, leads_to(TABLES + 3, EXTENTS))?;
        for extent in 0..EXTENTS as u64 {
            self.fill(TABLES + 3 + extent, |n| self.entry(extent * EXTENT + n as u64))?;
        }
        Ok(())
    }

    /// Writes the list of frames and the start info.
    fn write_start_info(&self) -> Result<(), Failed> {
        for page in 0..PAGES / WORDS as u64 {
            self.fill(FRAMES + page, |n| self.machine(page * WORDS as u64 + n as u64))?;
        }
        self.fill(START_INFO, |_| 0)?;
        let window = ptr::with_exposed_provenance_mut::<u8>(WINDOW as usize);
        let put = |at: usize, value: u64| {
            // SAFETY: the start info's page is mapped at the window; its fields are aligned.
            unsafe { window.add(at).cast::<u64>().write_volatile(value) };
        };
        for (n, byte) in START_MAGIC.iter().enumerate() {
            // SAFETY: as above.
            unsafe { window.add(n).write_volatile(*byte) };
        }
        put(offset_of!(StartInfo, nr_pages), PAGES);
        put(offset_of!(StartInfo, pt_base), TABLES * PAGE);
        put(offset_of!(StartInfo, nr_pt_frames), TABLES_COUNT);
        put(offset_of!(StartInfo, mfn_list), FRAMES * PAGE);
        Ok(())
    }

    /// Makes the tables what they are to be. No page of theirs may be mapped writable any more.
    fn pin_tables(&self) -> Result<(), Failed> {
        self.map(0)?;
        let mut operation =
            MmuextOp { cmd: pv::PIN_L4_TABLE, arg1: self.machine(TABLES), ..MmuextOp::default() };
        let arguments = [address(&mut operation), 1, 0, self.control.domain.into()];
        call("tables", hypercall::MMUEXT_OP, arguments).map(|_| ())
    }

    /// Lets the vCPU begin where the initial domain's began.
    fn start(&self) -> Result<(), Failed> {
        let (rip, rsp) = boot::pv_start();
        let mut context = GuestContext {
            flags: pv::CONTEXT_IN_KERNEL | pv::CONTEXT_ONLINE,
            user_regs: UserRegisters {
                rip,
                rsp,
                rsi: START_INFO * PAGE,
                rflags: FLAG_IF,
                cs: CODE_SELECTOR.into(),
                ss: DATA_SELECTOR.into(),
                ..UserRegisters::default()
            },
            kernel_ss: DATA_SELECTOR.into(),
            kernel_sp: rsp,
            ..GuestContext::ZERO
        };
        context.ctrlreg[3] = self.address(TABLES);
        let state = VcpuContext { vcpu: 0, pad: 0, ctxt: address(&mut context) };
        self.control.call("context", domctl::SET_VCPU_CONTEXT, state.as_bytes())?;
        self.control.call("start", domctl::UNPAUSE_DOMAIN, &[]).map(|_| ())
    }
}

fn build() -> Result<(), Failed> {
    let domain = Domain::create()?;
    for frame in boot::image_frames() {
        domain.copy(frame)?;
    }
    domain.write_start_info()?;
    domain.write_tables()?;
    domain.pin_tables()?;
    domain.start()
}
