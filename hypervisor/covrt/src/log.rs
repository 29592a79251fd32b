//! The comparison log and the counters.
#![expect(unsafe_code, reason = "shares memory with instrumented code and with the host")]

use core::{cell::UnsafeCell, ops::Range};

use coverage_hypercall::harness::{CmpEntry, CmpHeader};

/// Entries that fit into 32 pages with the header.
pub(crate) const CAPACITY: usize = 4095;

/// The log, in pages of its own because guests may map it.
#[repr(C, align(4096))]
pub(crate) struct Log {
    header: CmpHeader,
    entries: [CmpEntry; CAPACITY],
}

/// Holds the log; everybody goes through the raw pointer.
#[repr(transparent)]
pub(crate) struct Shared(UnsafeCell<Log>);

// SAFETY: there is one processor, nothing here is interrupted and resumed, and all accesses are volatile.
unsafe impl Sync for Shared {}

const NOTHING: CmpEntry = CmpEntry { pc: 0, left: 0, right: 0, width: 0, constant: 0 };

/// `enabled` is the first word: the callbacks rely on that. A capacity of zero until the first [`reset`] keeps the
/// log out of the image's file.
///
/// The name is LLVM's, of the word that instrumented functions look at before they call a callback at all: zero for never. It is the
/// first word of the log, with the number of entries in its upper half.
#[unsafe(export_name = "__sancov_should_track")]
pub(crate) static LOG: Shared = Shared(UnsafeCell::new(Log {
    header: CmpHeader { enabled: 0, count: 0, capacity: 0, reserved: 0 },
    entries: [NOTHING; CAPACITY],
}));

unsafe extern "C" {
    static __start___sancov_cntrs: u8;
    static __stop___sancov_cntrs: u8;
}

/// Virtual addresses of the counters: one byte per edge.
pub fn counters() -> Range<u64> {
    (&raw const __start___sancov_cntrs) as u64..(&raw const __stop___sancov_cntrs) as u64
}

/// Virtual addresses of the comparison log.
pub fn comparisons() -> Range<u64> {
    let start = LOG.0.get() as u64;
    start..start + size_of::<Log>() as u64
}

/// Copies counters out, from counter `first` on, as far as there are any.
pub(crate) fn read_counters(first: usize, out: &mut [u8]) {
    let range = counters();
    let total = (range.end - range.start) as usize;
    let len = out.len().min(total.saturating_sub(first));
    for (n, to) in out[..len].iter_mut().enumerate() {
        // SAFETY: `first + n` is below the number of counters, which the linker script puts between two symbols.
        *to = unsafe { (range.start as *const u8).add(first + n).read_volatile() };
    }
}

/// Sets all counters to zero.
pub fn reset_counters() {
    let range = counters();
    for at in range {
        // SAFETY: the address lies between the two symbols, in writable memory that holds nothing but counters.
        unsafe { (at as *mut u8).write_volatile(0) };
    }
}

/// Empties the log and switches recording off.
pub fn reset_comparisons() {
    let log = LOG.0.get();
    // SAFETY: the log is a static; nothing holds a reference into it. The host and guests that map it only see
    // whole words change.
    unsafe {
        (&raw mut (*log).header).write_volatile(CmpHeader {
            enabled: 0,
            count: 0,
            capacity: CAPACITY as u32,
            reserved: 0,
        });
        for n in 0..CAPACITY {
            (&raw mut (*log).entries).cast::<CmpEntry>().add(n).write_volatile(NOTHING);
        }
    }
}

/// Switches recording on or off.
pub(crate) fn record_comparisons(on: bool) {
    // SAFETY: as above.
    unsafe { (&raw mut (*LOG.0.get()).header.enabled).write_volatile(on.into()) };
}

/// Empties the log and leaves it switched as it is.
pub(crate) fn forget_comparisons() {
    // SAFETY: as above.
    unsafe { (&raw mut (*LOG.0.get()).header.count).write_volatile(0) };
}

/// Appends an entry. The header may have been written by the host: its numbers are bounded here.
pub(crate) fn append(entry: CmpEntry) {
    let log = LOG.0.get();
    // SAFETY: as above; `count` is below the number of entries where it is used as an index.
    unsafe {
        let count = (&raw const (*log).header.count).read_volatile();
        if (count as usize) < CAPACITY {
            (&raw mut (*log).entries).cast::<CmpEntry>().add(count as usize).write_volatile(entry);
            (&raw mut (*log).header.count).write_volatile(count + 1);
        }
    }
}
