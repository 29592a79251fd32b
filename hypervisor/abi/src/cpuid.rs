//! Xen's CPUID leaves and model-specific registers (`public/arch-x86/cpuid.h`).

/// Signature leaf: EAX is the last leaf.
pub const BASE: u32 = 0x4000_0000;
/// EAX: major version << 16 | minor version.
pub const VERSION: u32 = 0x4000_0001;
/// EAX: hypercall pages; EBX: base of Xen's model-specific registers.
pub const HYPERCALL: u32 = 0x4000_0002;
/// Time-stamp counter.
pub const TIME: u32 = 0x4000_0003;
/// HVM features in EAX; EBX: vCPU; ECX: domain.
pub const HVM: u32 = 0x4000_0004;
/// PV parameters.
pub const PV: u32 = 0x4000_0005;
/// The last leaf that there is.
pub const LAST: u32 = 0x4000_0005;
/// `XenV`.
pub const SIGNATURE_EBX: u32 = 0x566e_6558;
/// `MMXe`.
pub const SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// `nVMM`.
pub const SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// HVM leaf, EAX: EBX holds the vCPU.
pub const HVM_VCPU_ID_PRESENT: u32 = 0x8;
/// HVM leaf, EAX: ECX holds the domain.
pub const HVM_DOMID_PRESENT: u32 = 0x10;
/// Written with the guest-physical address of a page: it becomes the hypercall page.
pub const MSR_HYPERCALL: u32 = 0x4000_0000;
