//! The stacks: each with an unmapped page below it, so that an overflow faults and does not spread.

use core::ops::Range;

use super::{global::Global, layout::PAGE};

/// Bytes of the stack that the hypervisor runs on.
pub(crate) const MAIN_LEN: usize = 0x1_0000;
/// Bytes of a stack that only handles an exception.
const EXCEPTION_LEN: usize = 0x4000;
/// Number of exception stacks.
pub(crate) const EXCEPTION_STACKS: usize = 5;

/// A stack and the page below it that paging leaves unmapped.
#[repr(C, align(4096))]
pub(crate) struct Stack<const LEN: usize> {
    guard: [u8; PAGE as usize],
    body: [u8; LEN],
}

impl<const LEN: usize> Stack<LEN> {
    const fn new() -> Self {
        Self { guard: [0; PAGE as usize], body: [0; LEN] }
    }
}

/// What the hypervisor runs on.
pub(crate) static MAIN: Global<Stack<MAIN_LEN>> = Global::new(Stack::new());
static EXCEPTION: [Global<Stack<EXCEPTION_LEN>>; EXCEPTION_STACKS] =
    [const { Global::new(Stack::new()) }; EXCEPTION_STACKS];

/// First usable and last usable byte of a stack whose structure is at `address`.
const fn body(address: u64, len: usize) -> Range<u64> {
    address + PAGE..address + PAGE + len as u64
}

/// All stacks, as the virtual addresses of their usable parts. The guard page is right below each.
pub(crate) fn all() -> impl Iterator<Item = Range<u64>> {
    core::iter::once(body(MAIN.address(), MAIN_LEN))
        .chain(EXCEPTION.iter().map(|stack| body(stack.address(), EXCEPTION_LEN)))
}

/// End of exception stack `n`: what the processor loads into RSP.
pub(crate) fn exception_top(n: usize) -> u64 {
    body(EXCEPTION[n].address(), EXCEPTION_LEN).end
}

/// True where an address lies in the page below a stack.
pub(crate) fn is_guard(address: u64) -> bool {
    all().any(|stack| (stack.start - PAGE..stack.start).contains(&address))
}

/// The stack that an address lies on.
pub(crate) fn containing(address: u64) -> Option<Range<u64>> {
    all().find(|stack| stack.contains(&address))
}
