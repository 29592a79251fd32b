//! What `domctl` has beyond the reference hypervisor: domains as a whole, and their memory. Numbers: Xen `public/domctl.h`.

use xen_abi::{domctl as abi, hypercall};

use super::{
    super::{
        domctl::{DOMAIN_FIELD, PAD, VERSION, cmd},
        types::*,
    },
    member, one_pointer,
};

const NUMBER: u32 = hypercall::DOMCTL as u32;
/// Bytes of `struct xen_domctl`.
pub(super) const SIZE: usize = size_of::<abi::Domctl>();

/// Commands, each with its member of the union.
macro_rules! domctl {
    ($($name:literal = $number:literal, $layout:literal, [$($field:expr),* $(,)?];)+) => {
        /// The sub-operations.
        pub(in crate::interface::xen) const OPERATIONS: &[Operation] = &[$(one_pointer!(
            $name, NUMBER, Select::Whole,
            member!($layout, SIZE, [cmd($number), VERSION, DOMAIN_FIELD, PAD], [$($field),*]),
            []
        ),)+];
    };
}
pub(super) use domctl;

/// Emulated devices that Xen 4.17 takes for HVM and for PVH guests, and those that newer ones take as well; none for pv.
const EMULATION: Kind =
    Kind::Enum(&[("hvm", 0x3ff), ("lapic", abi::EMU_LAPIC as u64), ("without_pirq", 0x1ff)]);
const EMULATION_OF: Kind = Kind::By(
    "flags",
    &[
        (0, Kind::Const(0)),
        (abi::CDF_XS_DOMAIN as u64, Kind::Const(0)),
        ((abi::CDF_HVM | abi::CDF_HAP) as u64, EMULATION),
        (abi::CDF_HVM as u64, EMULATION),
        ((abi::CDF_HVM | abi::CDF_OOS_OFF) as u64, EMULATION),
    ],
);
const CREATION: &[Named] = &[
    ("pv", 0),
    ("pv_xenstore", abi::CDF_XS_DOMAIN as u64),
    ("hvm_hap", (abi::CDF_HVM | abi::CDF_HAP) as u64),
    ("hvm_shadow", abi::CDF_HVM as u64),
    ("hvm_oos_off", (abi::CDF_HVM | abi::CDF_OOS_OFF) as u64),
];
const CREATE: StructType = member!(
    "xen_domctl_createdomain",
    SIZE,
    [cmd(abi::CREATE_DOMAIN), VERSION, field("domain", int(2, Kind::Range(0, 2))), PAD],
    [
        field("ssidref", ZERO32),
        field("handle", Type::Blob(16)),
        field("flags", int(4, Kind::Enum(CREATION))),
        field("iommu_opts", ZERO32),
        field("max_vcpus", int(4, Kind::Range(1, 2))),
        field("max_evtchn_port", int(4, Kind::Enum(&[("all", 0xffff_ffff), ("few", 127), ("none", 0)]))),
        field("max_grant_frames", int(4, Kind::Enum(&[("usual", 0xffff_ffff), ("one", 1), ("few", 4)]))),
        field("max_maptrack_frames", int(4, Kind::Enum(&[("usual", 0xffff_ffff), ("none", 0), ("few", 4)]))),
        field("grant_opts", int(4, Kind::Range(1, 2))),
        field("vmtrace_size", ZERO32),
        field("cpupool_id", ZERO32),
        field("emulation_flags", int(4, EMULATION_OF)),
        field("misc_flags", int(4, Kind::Flags(&[("msr_relaxed", 1)]))),
    ]
);
/// What makes domains that Xen takes.
pub(super) const CREATE_OPERATIONS: &[Operation] = &[one_pointer!(
    "domctl.create_guest",
    NUMBER,
    Select::Whole,
    CREATE,
    [gives("domain", Resource::Domain)]
)];

/// `struct xenctl_bitmap`.
pub(super) const BITMAP: StructType = StructType {
    name: "xenctl_bitmap",
    fields: &[
        field("bitmap", ptr_inout(&Type::Bytes(8))),
        field("nr_bits", int(4, Kind::Enum(&[("byte", 8), ("one", 1), ("word", 64), ("none", 0)]))),
    ],
};

domctl! {
    "domctl.shadow_op" = 10, "xen_domctl_shadow_op", [
        field("op", int(4, Kind::Enum(SHADOW))), field("mode", int(4, Kind::Flags(&[("refcount", 2), ("log_dirty", 4), ("translate", 8), ("external", 16)]))), field("mb", int(4, Kind::Range(0, 2))),
        field("dirty_bitmap", ptr_out(&Type::Bytes(64))), field("pages", int(8, Kind::Enum(&[("some", 512), ("none", 0), ("all", 0x4000)]))), out("fault_count", U32), out("dirty_count", U32),
    ];
    "domctl.scheduler_op" = 16, "xen_domctl_scheduler_op", [
        field("sched_id", int(4, Kind::Enum(SCHEDULERS))), field("cmd1", int(4, Kind::Range(0, 1))), field("weight", int(2, Kind::Range(0, 512))), field("cap", int(2, Kind::Range(0, 100))),
    ];
    "domctl.scheduler_vcpus" = 16, "xen_domctl_scheduler_op", [
        field("sched_id", int(4, Kind::Enum(SCHEDULERS))), field("cmd1", int(4, Kind::Range(2, 3))), field("vcpus", ptr_inout(&Type::Bytes(64))), field("nr_vcpus", int(4, Kind::Range(0, 4))), field("padding", ZERO32),
    ];
    "domctl.irq_permission" = 19, "xen_domctl_irq_permission", [field("pirq", int(4, Kind::Range(0, 24))), field("allow_access", YES8), field("pad1", Type::Blob(3))];
    "domctl.iomem_permission" = 20, "xen_domctl_iomem_permission", [field("first_mfn", FRAME), field("nr_mfns", int(8, Kind::Range(1, 4))), field("allow_access", YES8)];
    "domctl.ioport_permission" = 21, "xen_domctl_ioport_permission", [field("first_port", PORTS), field("nr_ports", int(4, Kind::Range(0, 8))), field("allow_access", YES8)];
    "domctl.subscribe" = 29, "xen_domctl_subscribe", [field("port", PORT)];
    "domctl.gethvmcontext" = 33, "xen_domctl_hvmcontext", [field("size", int(4, Kind::Len("buffer"))), field("buffer", ptr_out(&Type::Bytes(1024)))];
    "domctl.sethvmcontext" = 34, "xen_domctl_hvmcontext", [field("size", int(4, Kind::Len("buffer"))), field("buffer", ptr_in(&Type::Bytes(256)))];
    "domctl.memory_mapping" = 39, "xen_domctl_memory_mapping", [field("first_gfn", HOLE), field("first_mfn", FRAME), field("nr_mfns", int(8, Kind::Range(0, 4))), field("add_mapping", YES32), field("padding", ZERO32)];
    "domctl.ioport_mapping" = 40, "xen_domctl_ioport_mapping", [field("first_gport", PORTS), field("first_mport", PORTS), field("nr_ports", int(4, Kind::Range(0, 8))), field("add_mapping", YES32)];
    "domctl.set_target" = 46, "xen_domctl_set_target", [field("target", DOMAIN)];
    "domctl.gethvmcontext_partial" = 55, "xen_domctl_hvmcontext_partial", [field("type", int(4, Kind::Range(1, 20))), field("instance", int(4, Kind::Range(0, 1))), field("bufsz", int(8, Kind::Len("buffer"))), field("buffer", ptr_out(&Type::Bytes(256)))];
    "domctl.vm_event_op" = 56, "xen_domctl_vm_event_op", [field("op", int(4, Kind::Range(0, 3))), field("mode", int(4, Kind::Range(1, 3))), out("port", U32)];
    "domctl.mem_sharing_op" = 57, "xen_domctl_mem_sharing_op", [field("op", int(1, Kind::Const(0))), field("enable", YES8)];
    "domctl.getpageframeinfo3" = 61, "xen_domctl_getpageframeinfo3", [field("num", int(8, Kind::Len("array"))), field("array", ptr_inout(&Type::Array(&FRAME)))];
    "domctl.set_access_required" = 64, "xen_domctl_set_access_required", [field("access_required", YES8)];
    "domctl.audit_p2m" = 65, "xen_domctl_audit_p2m", [out("orphans", U64), out("m2p_bad", U64), out("p2m_bad", U64)];
    "domctl.set_virq_handler" = 66, "xen_domctl_set_virq_handler", [field("virq", int(4, Kind::Range(0, 24)))];
    "domctl.set_broken_page_p2m" = 67, "xen_domctl_set_broken_page_p2m", [field("pfn", HOLE)];
    "domctl.setnodeaffinity" = 68, "xen_domctl_nodeaffinity", [field("nodemap", Type::Struct(&BITMAP))];
    "domctl.getnodeaffinity" = 69, "xen_domctl_nodeaffinity", [field("nodemap", Type::Struct(&BITMAP))];
    "domctl.setvnumainfo" = 74, "xen_domctl_vnuma", [
        field("nr_vnodes", int(4, Kind::Range(0, 2))), field("nr_vmemranges", int(4, Kind::Range(0, 2))), field("nr_vcpus", int(4, Kind::Range(0, 2))), field("pad1", ZERO32),
        field("vdistance", ptr_in(&Type::Bytes(16))), field("vcpu_to_vnode", ptr_in(&Type::Bytes(16))), field("vnode_to_pnode", ptr_in(&Type::Bytes(16))), field("vmemrange", ptr_in(&Type::Bytes(64))),
    ];
    "domctl.psr_cmt_op" = 75, "xen_domctl_psr_cmt_op", [field("cmd1", int(4, Kind::Range(0, 2))), field("data", U32)];
    "domctl.psr_alloc" = 78, "xen_domctl_psr_alloc", [field("cmd1", int(4, Kind::Range(0, 9))), field("target", int(4, Kind::Range(0, 1))), field("data", U64)];
    "domctl.soft_reset" = 79, "xen_domctl", [];
    "domctl.get_cpu_policy" = 82, "xen_domctl_cpu_policy", [field("nr_leaves", int(4, Kind::Enum(&[("many", 128), ("none", 0), ("few", 4)]))), field("nr_msrs", int(4, Kind::Enum(&[("many", 32), ("none", 0)]))), field("leaves", ptr_out(&Type::Bytes(3072))), field("msrs", ptr_out(&Type::Bytes(512))), out("err_leaf", HEX32), out("err_subleaf", HEX32), out("err_msr", HEX32)];
    "domctl.set_cpu_policy" = 83, "xen_domctl_cpu_policy", [field("nr_leaves", int(4, Kind::Range(0, 4))), field("nr_msrs", int(4, Kind::Range(0, 2))), field("leaves", ptr_in(&Type::Array(&Type::Struct(&LEAF)))), field("msrs", ptr_in(&Type::Bytes(32))), out("err_leaf", HEX32), out("err_subleaf", HEX32), out("err_msr", HEX32)];
    "domctl.get_paging_mempool_size" = 85, "xen_domctl_paging_mempool", [out("size", U64)];
    "domctl.set_paging_mempool_size" = 86, "xen_domctl_paging_mempool", [field("size", int(8, Kind::Enum(&[("mib", 1 << 20), ("none", 0), ("page", 4096), ("odd", 4097)])))];
    "domctl.gdbsx_guestmemio" = 1000, "xen_domctl_gdbsx_memio", [field("pgd3val", int(8, Kind::Const(0))), field("gva", int(8, Kind::PageOf(""))), field("uva", ptr_inout(&Type::Bytes(32))), field("len", int(4, Kind::Len("uva"))), field("gwr", YES8), out("remain", U32)];
    "domctl.gdbsx_domstatus" = 1003, "xen_domctl_gdbsx_domstatus", [out("paused", U8), out("vcpu_id", U32), out("vcpu_ev", U32)];
}

/// `XEN_DOMCTL_SHADOW_OP_*`.
const SHADOW: &[Named] = &[
    ("enable_logdirty", 2),
    ("off", 0),
    ("clean", 11),
    ("peek", 12),
    ("enable", 32),
    ("get_allocation", 30),
    ("set_allocation", 31),
    ("enable_test", 1),
];
/// `XEN_SCHEDULER_*`.
const SCHEDULERS: &[Named] = &[("credit2", 6), ("credit", 5), ("arinc653", 7), ("rtds", 8), ("null", 9)];
const PORTS: Type =
    int(4, Kind::Enum(&[("com1", 0x3f8), ("pic", 0x20), ("none", 0x300), ("pci", 0xcf8), ("end", 0xfffc)]));
/// `struct xen_cpuid_leaf`.
const LEAF: StructType = StructType {
    name: "xen_cpuid_leaf",
    fields: &[
        field(
            "leaf",
            int(
                4,
                Kind::Enum(&[
                    ("basic", 0),
                    ("features", 1),
                    ("extended", 0x8000_0000),
                    ("cache", 4),
                    ("topology", 0xb),
                    ("xstate", 0xd),
                ]),
            ),
        ),
        field("subleaf", int(4, Kind::Enum(&[("none", 0xffff_ffff), ("first", 0), ("second", 1)]))),
        field("a", HEX32),
        field("b", HEX32),
        field("c", HEX32),
        field("d", HEX32),
    ],
};
