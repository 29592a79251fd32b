//! Statics of a machine with one processor and no interrupts.
#![expect(unsafe_code, reason = "shares statics without a lock")]

use core::cell::UnsafeCell;

/// A static that is reached by raw pointer only. There is one processor and interrupts stay off, so no two
/// accesses overlap, except that a fault may come in between: its handler never returns to the code it broke.
#[repr(transparent)]
pub(crate) struct Global<T>(UnsafeCell<T>);

// SAFETY: there is one processor, interrupts are off, and exception handlers do not return.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Wraps the initial value.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where the value lies.
    pub(crate) const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }

    /// Virtual address of the value.
    pub(crate) fn address(&self) -> u64 {
        self.0.get() as u64
    }
}
