//! What the compiler and a panic need, and the ways to end.
#![expect(unsafe_code, reason = "assembly and symbols that the compiler expects")]

use core::{
    arch::asm,
    fmt::Write,
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

// Linked for the functions that the compiler calls.
use bare_mem as _;
use xen_abi::{console, hypercall, sched};
use xtf_agent::Exception;
use zerocopy::IntoBytes;

use crate::platform;

/// Longest message.
const MESSAGE: usize = 200;

/// A message that is cut off where it is too long.
pub(crate) struct Text {
    bytes: [u8; MESSAGE],
    len: usize,
}

impl Text {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; MESSAGE], len: 0 }
    }

    /// What was written.
    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("agent: this cannot be said\n")
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let n = s.len().min(room.len());
        room[..n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Ends the domain, saying why, on the vCPU that runs this.
pub(crate) fn die(vcpu: usize, message: &str) -> ! {
    static DYING: AtomicBool = AtomicBool::new(false);
    if DYING.swap(true, Ordering::Relaxed) {
        // Not even the way out works.
        die_silently();
    }
    let text = [u64::from(console::WRITE), message.len() as u64, message.as_ptr().expose_provenance() as u64];
    let _ = platform::hypercall(vcpu, hypercall::CONSOLE_IO, &[text[0], text[1], text[2], 0, 0, 0]);
    let mut shutdown = sched::Shutdown { reason: sched::SHUTDOWN_CRASH };
    let at = shutdown.as_mut_bytes().as_mut_ptr().expose_provenance() as u64;
    let _ = platform::hypercall(vcpu, hypercall::SCHED_OP, &[u64::from(sched::SHUTDOWN), at, 0, 0, 0, 0]);
    die_silently()
}

/// Ends the domain because of an exception outside a guarded call.
pub(crate) fn die_of(vcpu: usize, e: &Exception) -> ! {
    let mut text = Text::new();
    let Exception { vector, error, rip, address } = e;
    let _ = writeln!(text, "agent: exception {vector}, error {error:#x}, rip {rip:#x}, address {address:#x}");
    die(vcpu, text.as_str())
}

/// Ends the domain by a triple fault: works without a hypervisor, too. A pv guest, which cannot have one, takes its handlers back
/// and raises an exception.
pub(crate) fn die_silently() -> ! {
    if platform::is_pv() {
        // SAFETY: the hypercall takes a null table; no handler is left that could run code of this image.
        unsafe { asm!("syscall", "ud2", in("rax") hypercall::SET_TRAP_TABLE, in("rdi") 0, options(noreturn)) }
    }
    let no_table = [0u16; 5];
    // SAFETY: with an empty table the exception cannot be delivered, so nothing of this image runs again.
    unsafe { asm!("lidt [{0}]", "ud2", in(reg) &raw const no_table, options(noreturn)) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = Text::new();
    let _ = writeln!(text, "agent: {info}");
    // Which vCPU this is does not matter any more: nothing of the image goes on.
    die(0, text.as_str())
}

/// Never called: nothing unwinds. The precompiled core library of the host's target refers to it.
#[cfg(not(target_os = "none"))]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
