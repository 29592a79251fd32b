//! Why a guest stopped: raw exit codes become types here and nowhere else.

use super::vmcb::Control;

/// Exit codes: AMD APM volume 2, appendix C.
mod code {
    pub(super) const WRITE_CR4: u64 = 0x14;
    pub(super) const WRITE_DR0: u64 = 0x30;
    pub(super) const WRITE_DR15: u64 = 0x3f;
    pub(super) const EXCEPTION_0: u64 = 0x40;
    pub(super) const EXCEPTION_31: u64 = 0x5f;
    pub(super) const INTR: u64 = 0x60;
    pub(super) const NMI: u64 = 0x61;
    pub(super) const CPUID: u64 = 0x72;
    pub(super) const INVD: u64 = 0x76;
    pub(super) const HLT: u64 = 0x78;
    pub(super) const IO: u64 = 0x7b;
    pub(super) const MSR: u64 = 0x7c;
    pub(super) const SHUTDOWN: u64 = 0x7f;
    pub(super) const VMMCALL: u64 = 0x81;
    pub(super) const WBINVD: u64 = 0x89;
    /// IRET to XSETBV: all other codes of single instructions lie between them.
    pub(super) const FIRST_INSTRUCTION: u64 = 0x74;
    pub(super) const LAST_INSTRUCTION: u64 = 0x8d;
    pub(super) const NESTED_PAGE_FAULT: u64 = 0x400;
    /// VMEXIT_INVALID is −1; QEMU writes 32 bits of it.
    pub(super) const INVALID: u64 = u64::MAX;
    pub(super) const INVALID_NARROW: u64 = u32::MAX as u64;
}

/// Why a guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VmExit {
    /// VMMCALL: a hypercall.
    Hypercall,
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// HLT.
    Halt,
    /// INVD or WBINVD: without caches of its own the guest has nothing to flush.
    FlushCaches,
    /// MOV to a debug register. Guests have no breakpoints: it does nothing.
    WriteDebugRegister,
    /// MOV to CR4.
    WriteControl4,
    /// IN or OUT.
    Io,
    /// A guest-physical address that its domain's p2m does not map that way.
    NestedFault {
        /// The address.
        gpa: u64,
        /// Error code of the nested walk (section 15.25.6).
        error: u64,
    },
    /// Shutdown: a triple fault.
    Shutdown,
    /// The state that the guest had made was refused.
    InvalidState,
    /// An event of the host's: an interrupt or NMI that nobody expects.
    HostEvent,
    /// An instruction or an access that guests do not have.
    Forbidden {
        /// The exit code.
        code: u64,
    },
    /// A code that this file does not know.
    Unknown {
        /// The exit code.
        code: u64,
    },
}

impl VmExit {
    /// Reads what the processor reported.
    pub(super) fn decode(control: &Control) -> Self {
        match control.exit_code {
            code::VMMCALL => Self::Hypercall,
            code::CPUID => Self::Cpuid,
            code::MSR if control.exit_info_1 == 0 => Self::ReadMsr,
            code::MSR => Self::WriteMsr,
            code::HLT => Self::Halt,
            code::INVD | code::WBINVD => Self::FlushCaches,
            code::IO => Self::Io,
            code::NESTED_PAGE_FAULT => {
                Self::NestedFault { gpa: control.exit_info_2, error: control.exit_info_1 }
            }
            code::SHUTDOWN => Self::Shutdown,
            code::INVALID | code::INVALID_NARROW => Self::InvalidState,
            code::INTR | code::NMI => Self::HostEvent,
            code::WRITE_CR4 => Self::WriteControl4,
            code::WRITE_DR0..=code::WRITE_DR15 => Self::WriteDebugRegister,
            code @ (code::EXCEPTION_0..=code::EXCEPTION_31
            | code::FIRST_INSTRUCTION..=code::LAST_INSTRUCTION) => Self::Forbidden { code },
            code => Self::Unknown { code },
        }
    }
}
