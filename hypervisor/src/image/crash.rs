//! Crash records: what the host gets to see when the hypervisor, or an oracle in it, gives up.
#![expect(unsafe_code, reason = "walks the stack and fills a static that the host reads")]

use core::{
    arch::asm,
    fmt::{self, Write},
    panic::PanicInfo,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use coverage_hypercall::{
    crash::{CRASH_MAGIC, CRASH_VERSION, CrashKind, CrashRecord, GPR_RBP, GPR_RSP, MAX_FRAMES, MAX_MESSAGE},
    harness::Region,
};
use x86_64::registers::{
    control::{Cr2, Cr3},
    rflags,
};
use zerocopy::FromZeros;

use super::{arch::ExceptionFrame, beacon, console::println, global::Global, layout, stack};

const PAGE_FAULT: u64 = 14;
const DOUBLE_FAULT: u64 = 8;

#[repr(C, align(4096))]
struct Page(CrashRecord);

static RECORD: Global<Page> = Global::new(Page(EMPTY));
static BUSY: AtomicBool = AtomicBool::new(false);
static DOMAIN: AtomicU32 = AtomicU32::new(u32::MAX);
static HYPERCALL: AtomicU64 = AtomicU64::new(u64::MAX);

const EMPTY: CrashRecord = CrashRecord {
    magic: 0,
    version: CRASH_VERSION,
    kind: 0,
    vector: 0,
    domain: u32::MAX,
    hypercall: u64::MAX,
    error: 0,
    rip: 0,
    rflags: 0,
    cr2: 0,
    cr3: 0,
    gpr: [0; 16],
    frames: [0; MAX_FRAMES],
    frame_count: 0,
    message_len: 0,
    message: [0; MAX_MESSAGE],
};

/// Where the record lies in physical memory.
pub(crate) fn region() -> Region {
    Region { base: layout::image_to_phys(RECORD.address()).as_u64(), len: size_of::<CrashRecord>() as u64 }
}

/// Remembers on whose behalf the hypervisor runs from here on.
pub(crate) fn set_context(domain: u32, hypercall: Option<u64>) {
    DOMAIN.store(domain, Ordering::Relaxed);
    HYPERCALL.store(hypercall.unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Text that is cut off where the record ends.
struct Message<'a>(&'a mut CrashRecord);

impl Write for Message<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let at = self.0.message_len as usize;
        let mut len = text.len().min(MAX_MESSAGE - at);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.0.message[at..at + len].copy_from_slice(&text.as_bytes()[..len]);
        self.0.message_len += len as u32;
        Ok(())
    }
}

/// The value of RBP: the frame of the caller, because this is inlined into it.
#[inline(always)]
fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// Collects return addresses along the chain of frame pointers. It stops at the first link that leaves the stack it is
/// on, does not go up, or leads to something that is not our code.
fn walk(mut rbp: u64, record: &mut CrashRecord) {
    let text = layout::text();
    let Some(stack) = stack::containing(rbp) else { return };
    while (record.frame_count as usize) < MAX_FRAMES {
        if !rbp.is_multiple_of(8) || rbp < stack.start || rbp > stack.end - 16 {
            return;
        }
        // SAFETY: both words lie on a stack of ours, which is mapped, and are aligned.
        let (next, address) = unsafe { ((rbp as *const u64).read(), (rbp as *const u64).add(1).read()) };
        if !text.contains(&address) {
            return;
        }
        record.frames[record.frame_count as usize] = address;
        record.frame_count += 1;
        if next <= rbp {
            return;
        }
        rbp = next;
    }
}

/// A record with what is the same for every kind.
fn begin(kind: CrashKind) -> CrashRecord {
    if BUSY.swap(true, Ordering::Relaxed) {
        // A crash while one is being recorded: what is there has to do.
        beacon::crashed();
    }
    let mut record = CrashRecord::new_zeroed();
    record.version = CRASH_VERSION;
    record.kind = kind as u32;
    record.domain = DOMAIN.load(Ordering::Relaxed);
    record.hypercall = HYPERCALL.load(Ordering::Relaxed);
    record.cr3 = Cr3::read_raw().0.start_address().as_u64();
    record
}

/// Publishes the record, the magic last, and stops.
fn finish(mut record: CrashRecord) -> ! {
    record.magic = 0;
    let text = core::str::from_utf8(&record.message[..record.message_len as usize]).unwrap_or_default();
    let name = CrashKind::from_u32(record.kind).map_or("?", CrashKind::name);
    println!("hypervisor crash: {name}: {text}");
    println!("  rip {:#x} domain {} hypercall {}", record.rip, record.domain as i32, record.hypercall as i64);
    for frame in &record.frames[..record.frame_count as usize] {
        println!("  at {frame:#x}");
    }
    let target = RECORD.as_ptr();
    // SAFETY: the record is a static that only this function writes, once: `begin` lets nobody in twice.
    unsafe {
        (&raw mut (*target).0).write_volatile(record);
        (&raw mut (*target).0.magic).write_volatile(CRASH_MAGIC);
    }
    beacon::crashed()
}

/// An exception in hypervisor code.
pub(crate) fn exception(frame: &ExceptionFrame) -> ! {
    let cr2 = Cr2::read_raw();
    let overflow = frame.vector == PAGE_FAULT && stack::is_guard(cr2);
    let kind = match frame.vector {
        DOUBLE_FAULT => CrashKind::DoubleFault,
        _ if overflow => CrashKind::DoubleFault,
        _ => CrashKind::Fault,
    };
    let mut record = begin(kind);
    record.vector = frame.vector as u32;
    record.error = frame.error;
    record.rip = frame.rip;
    record.rflags = frame.rflags;
    record.cr2 = if frame.vector == PAGE_FAULT || frame.vector == DOUBLE_FAULT { cr2 } else { 0 };
    record.gpr = frame.gpr;
    record.gpr[GPR_RSP] = frame.rsp;
    walk(frame.gpr[GPR_RBP], &mut record);
    let mut message = Message(&mut record);
    // The message takes everything, up to its length.
    let _ = match frame.vector {
        PAGE_FAULT if overflow => write!(message, "stack overflow: {cr2:#x} is in a guard page"),
        PAGE_FAULT => write!(message, "page fault at {cr2:#x}, error {:#x}", frame.error),
        vector => write!(message, "exception {vector}, error {:#x}", frame.error),
    };
    finish(record)
}

/// What an oracle, or anything else in the library, has to report.
#[inline(never)]
pub(crate) fn report(kind: CrashKind, text: &dyn fmt::Display) -> ! {
    let rbp = frame_pointer();
    let mut record = begin(kind);
    record.gpr[GPR_RBP] = rbp;
    record.gpr[GPR_RSP] = rbp;
    record.rflags = rflags::read_raw();
    walk(rbp, &mut record);
    record.rip = record.frames[0];
    // The message takes everything, up to its length.
    let _ = write!(Message(&mut record), "{text}");
    finish(record)
}

/// Text that `core` and `alloc` panic with where a check of the language or of a container failed.
const CHECKS: [&str; 12] = [
    "assertion ",
    "attempt to ",
    "index out of bounds",
    "called `Option::unwrap()`",
    "called `Result::unwrap()`",
    "range start index",
    "range end index",
    "slice index starts",
    "copy_from_slice: ",
    "source slice length",
    "mid > len",
    "unsafe precondition",
];

/// Recognises the messages of language checks without a heap.
struct Classifier {
    head: [u8; 32],
    len: usize,
}

impl Write for Classifier {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = text.len().min(self.head.len() - self.len);
        self.head[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

fn classify(info: &PanicInfo<'_>) -> CrashKind {
    let mut classifier = Classifier { head: [0; 32], len: 0 };
    // The classifier takes everything.
    let _ = write!(classifier, "{}", info.message());
    let head = &classifier.head[..classifier.len];
    if CHECKS.iter().any(|check| head.starts_with(check.as_bytes())) {
        CrashKind::Assertion
    } else {
        CrashKind::Panic
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    struct WithPlace<'a>(&'a PanicInfo<'a>);
    impl fmt::Display for WithPlace<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0.message())?;
            match self.0.location() {
                Some(place) => write!(f, " at {}:{}", place.file(), place.line()),
                None => Ok(()),
            }
        }
    }
    report(classify(info), &WithPlace(info))
}
