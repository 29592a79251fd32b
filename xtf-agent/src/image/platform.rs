//! Memory, hypercalls and operations for the library.
#![expect(unsafe_code, reason = "channel and arena are memory at fixed addresses")]

use core::{
    arch::{asm, x86_64::__cpuid},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use coverage_hypercall::{
    channel::{ARENA_GPA, CHANNEL_GPA, OWN_CHANNEL},
    harness::{HARNESS_IDENTIFY, HARNESS_OP},
};
use xen_abi::{cpuid, errno::Errno, hypercall};
use xtf_agent::{Exception, Operation, Platform};

use crate::{Global, guard, harness};

/// Room for a hypercall of the hypercall page (`public/arch-x86/cpuid.h`, leaf 2): 32 bytes each.
const STUB: u64 = 32;

#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// Filled by the hypervisor, mapped read-only afterwards.
#[unsafe(link_section = ".protected")]
static HYPERCALL_PAGE: Global<Page> = Global::new(Page([0; 4096]));

/// What the hypervisor says of the domain.
pub(crate) struct Xen {
    /// Its number, where the hypervisor tells.
    pub(crate) domain: Option<u16>,
    /// Number of this vCPU.
    pub(crate) vcpu: u8,
}

/// First of Xen's CPUID leaves. Other interfaces may come first; Xen's then follow at a multiple of 0x100.
fn leaves() -> Option<u32> {
    (cpuid::BASE..cpuid::BASE + 0x1_0000).step_by(0x100).find(|base| {
        let leaf = __cpuid(*base);
        (leaf.ebx, leaf.ecx, leaf.edx) == (cpuid::SIGNATURE_EBX, cpuid::SIGNATURE_ECX, cpuid::SIGNATURE_EDX)
    })
}

/// Looks for Xen's CPUID leaves and has the hypercall page filled.
pub(crate) fn detect() -> Option<Xen> {
    let base = leaves()?;
    let msr = __cpuid(base + 2).ebx;
    let page = HYPERCALL_PAGE.get().addr() as u64;
    // SAFETY: the MSR is the one that the hypervisor names; it overwrites exactly that page of ours.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") page as u32, in("edx") (page >> 32) as u32, options(nostack));
    }
    identify()
}

/// What the hypervisor says of the vCPU that runs this.
pub(crate) fn identify() -> Option<Xen> {
    let base = leaves()?;
    let mut xen = Xen { domain: None, vcpu: 0 };
    if __cpuid(base).eax >= base + 4 {
        let leaf = __cpuid(base + 4);
        if leaf.eax & cpuid::HVM_DOMID_PRESENT != 0 {
            xen.domain = u16::try_from(leaf.ecx).ok();
        }
        if leaf.eax & cpuid::HVM_VCPU_ID_PRESENT != 0 {
            xen.vcpu = leaf.ebx as u8;
        }
    }
    Some(xen)
}

/// This is a pv guest.
static PV: AtomicBool = AtomicBool::new(false);

/// Says that this is a pv guest.
pub(crate) fn set_pv() {
    PV.store(true, Ordering::Relaxed);
}

/// True in a pv guest.
pub(crate) fn is_pv() -> bool {
    PV.load(Ordering::Relaxed)
}

unsafe extern "C" {
    fn agent_pv_cpuid();
}

/// Looks for Xen's leaves as the first vCPU of a pv guest sees them. They do not tell the domain.
pub(crate) fn identify_pv() -> Option<Xen> {
    let args = [cpuid::BASE.into(), 0, 0, 0, 0, 0];
    let leaf = guard::call(0, agent_pv_cpuid as *const () as u64, 0, &args).ok()?;
    (leaf as u64 >> 32 == cpuid::SIGNATURE_EBX.into()).then_some(Xen { domain: None, vcpu: 0 })
}

/// Number of the domain, where the harness tells it.
pub(crate) fn domain(vcpu: usize) -> Option<u16> {
    let answer = hypercall(vcpu, HARNESS_OP, &[HARNESS_IDENTIFY, 0, 0, 0, 0, 0]).ok()?;
    u16::try_from(answer).ok()
}

/// Makes a hypercall through the page, on the vCPU that runs this; numbers beyond the page with its own instruction.
pub(crate) fn hypercall(vcpu: usize, number: u64, args: &[u64; 6]) -> Result<i64, Exception> {
    unsafe extern "C" {
        fn agent_vmmcall();
        fn agent_vmcall();
    }
    if number == HARNESS_OP && harness::is_own() {
        return Ok(harness::answer(args[0]));
    }
    if is_pv() {
        return guard::pv_hypercall(vcpu, number, args);
    }
    let page = HYPERCALL_PAGE.get();
    let target = if number < hypercall::COUNT {
        page.addr() as u64 + number * STUB
    } else {
        // SAFETY: the page is ours; the hypervisor wrote it once, before this.
        match unsafe { &(&(*page).0)[5..8] } {
            // `mov eax, imm32` takes the first five bytes of a stub.
            [0x0f, 0x01, 0xd9] => agent_vmmcall as *const () as u64,
            [0x0f, 0x01, 0xc1] => agent_vmcall as *const () as u64,
            _ => return Ok(Errno::Nosys.code()),
        }
    };
    guard::call(vcpu, target, number, args)
}

/// The machine, as a vCPU sees it.
pub(crate) struct Machine {
    vcpu: usize,
}

impl Machine {
    /// The machine for the vCPU that runs this.
    pub(crate) fn new(vcpu: usize) -> Self {
        Self { vcpu }
    }
}

/// An address in the channel.
fn channel(at: usize) -> *mut u8 {
    let base = if harness::is_own() { OWN_CHANNEL } else { CHANNEL_GPA };
    ptr::with_exposed_provenance_mut(base as usize + at)
}

/// An address in the arena.
fn arena(at: u32) -> *mut u8 {
    ptr::with_exposed_provenance_mut(ARENA_GPA as usize + at as usize)
}

// Channel and arena lie apart from the image and from each other, so no reference of Rust's points there and copies
// never overlap. The library keeps ranges inside. They change only while this vCPU is inside a call, which the
// compiler takes for a write to all memory whose address was exposed.
impl Platform for Machine {
    #[inline]
    fn channel_read(&self, at: usize, out: &mut [u8]) {
        // SAFETY: see above.
        unsafe { ptr::copy_nonoverlapping(channel(at), out.as_mut_ptr(), out.len()) }
    }

    #[inline]
    fn channel_write(&mut self, at: usize, data: &[u8]) {
        // SAFETY: see above.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), channel(at), data.len()) }
    }

    #[inline]
    fn arena_read(&self, at: u32, out: &mut [u8]) {
        // SAFETY: see above.
        unsafe { ptr::copy_nonoverlapping(arena(at), out.as_mut_ptr(), out.len()) }
    }

    #[inline]
    fn arena_write(&mut self, at: u32, data: &[u8]) {
        // SAFETY: see above.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), arena(at), data.len()) }
    }

    #[inline]
    fn arena_fill(&mut self, at: u32, len: u32, byte: u8) {
        // SAFETY: see above.
        unsafe { ptr::write_bytes(arena(at), byte, len as usize) }
    }

    fn hypercall(&mut self, number: u64, args: &[u64; 6]) -> Result<i64, Exception> {
        hypercall(self.vcpu, number, args)
    }

    fn operate(&mut self, operation: Operation, args: &[u64; 6]) -> Result<i64, Exception> {
        unsafe extern "C" {
            fn agent_op_read();
            fn agent_op_write();
            fn agent_op_ud2();
            fn agent_op_rdmsr();
            fn agent_op_wrmsr();
            fn agent_op_cpuid();
            fn agent_op_inb();
            fn agent_op_outb();
        }
        let routine: unsafe extern "C" fn() = match operation {
            Operation::Read => agent_op_read,
            Operation::Write => agent_op_write,
            Operation::Ud2 => agent_op_ud2,
            Operation::Rdmsr => agent_op_rdmsr,
            Operation::Wrmsr => agent_op_wrmsr,
            Operation::Cpuid if is_pv() => agent_pv_cpuid,
            Operation::Cpuid => agent_op_cpuid,
            Operation::Inb => agent_op_inb,
            Operation::Outb => agent_op_outb,
            Operation::Exec => return guard::call(self.vcpu, args[0], 0, args),
        };
        guard::call(self.vcpu, routine as *const () as u64, 0, args)
    }
}
