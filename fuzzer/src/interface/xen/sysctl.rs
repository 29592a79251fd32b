//! What `sysctl` has beyond the reference hypervisor. Numbers: Xen `public/sysctl.h`.

use xen_abi::{hypercall, sysctl as abi};

use super::{
    super::{
        sysctl::{VERSION, cmd},
        types::*,
    },
    domctl::BITMAP,
    member, one_pointer,
};

const NUMBER: u32 = hypercall::SYSCTL as u32;
/// Bytes of `struct xen_sysctl`.
pub(super) const SIZE: usize = size_of::<abi::Sysctl>();

/// Commands, each with its member of the union.
macro_rules! sysctl {
    ($($name:literal = $number:literal, $layout:literal, [$($field:expr),* $(,)?];)+) => {
        /// The sub-operations.
        pub(in crate::interface::xen) const OPERATIONS: &[Operation] = &[$(one_pointer!(
            $name, NUMBER, Select::Whole,
            member!($layout, SIZE, [cmd($number), VERSION], [$($field),*]),
            []
        )),+];
    };
}
pub(super) use sysctl;

/// Keys that neither end the machine nor print for a long time.
const KEYS: &[Named] = &[
    ("help", b'h' as u64),
    ("timers", b'a' as u64),
    ("cstates", b'c' as u64),
    ("grants", b'g' as u64),
    ("interrupts", b'i' as u64),
    ("memory", b'm' as u64),
    ("domains", b'q' as u64),
    ("runqueues", b'r' as u64),
    ("softtsc", b's' as u64),
    ("clocks", b't' as u64),
    ("numa", b'u' as u64),
    ("svm", b'v' as u64),
    ("ioapic", b'z' as u64),
    ("events", b'e' as u64),
    ("alternate", b'A' as u64),
    ("heap", b'H' as u64),
    ("iommu", b'o' as u64),
    ("msi", b'M' as u64),
    ("pci", b'Q' as u64),
    ("unknown", b'!' as u64),
];
const SCHEDULERS: &[Named] = &[("credit2", 6), ("credit", 5), ("arinc653", 7), ("rtds", 8), ("null", 9)];
const POOL: Type = int(4, Kind::Enum(&[("first", 0), ("second", 1), ("any", 0xffff_ffff)]));
const CPU: Type = int(4, Kind::Range(0, 1));

macro_rules! pool {
    ($number:literal) => {
        field("op", int(4, Kind::Const($number)))
    };
}
const POOL_REST: [Field; 6] = [
    field("cpupool_id", POOL),
    field("sched_id", int(4, Kind::Enum(SCHEDULERS))),
    field("domid", int(4, Kind::Target)),
    field("cpu", int(4, Kind::Enum(&[("first", 0), ("any", 0xffff_ffff), ("none", 1)]))),
    out("n_dom", U32),
    field("cpumap", Type::Struct(&BITMAP)),
];
const LIVEPATCH_NAME: [Field; 3] = [
    field("name", ptr_in(&Type::Bytes(8))),
    field("size", int(2, Kind::Len("name"))),
    field("pad", Type::Blob(6)),
];
const LIVEPATCH_PAD: Field = field("pad0", ZERO32);

sysctl! {
    "sysctl.readconsole" = 1, "xen_sysctl_readconsole", [field("clear", YES8), field("incremental", YES8), out("pad0", U8), out("pad1", U8), field("index", int(4, Kind::Range(0, 16384))), field("buffer", ptr_out(&Type::Bytes(256))), field("count", int(4, Kind::Len("buffer")))];
    "sysctl.tbuf_op" = 2, "xen_sysctl_tbuf_op", [field("op", int(4, Kind::Range(0, 5))), field("cpu_mask", Type::Struct(&BITMAP)), field("evt_mask", HEX32), out("buffer_mfn", FRAME), field("size", int(4, Kind::Range(0, 4)))];
    "sysctl.sched_id" = 4, "xen_sysctl_sched_id", [out("sched_id", U32)];
    "sysctl.perfc_op" = 5, "xen_sysctl_perfc_op", [field("op", int(4, Kind::Range(1, 2))), out("nr_counters", U32), out("nr_vals", U32), field("desc", ptr_out(&Type::Bytes(256))), field("val", ptr_out(&Type::Bytes(256)))];
    "sysctl.debug_keys" = 7, "xen_sysctl_debug_keys", [field("keys", ptr_in(&Type::Array(&int(1, Kind::Enum(KEYS))))), field("nr_keys", int(4, Kind::Len("keys")))];
    "sysctl.getcpuinfo" = 8, "xen_sysctl_getcpuinfo", [field("max_cpus", int(4, Kind::Len("info"))), field("info", ptr_out(&Type::Array(&U64))), out("nr_cpus", U32)];
    "sysctl.availheap" = 9, "xen_sysctl_availheap", [field("min_bitwidth", int(4, Kind::Enum(&[("any", 0), ("b20", 20), ("b32", 32)]))), field("max_bitwidth", int(4, Kind::Enum(&[("any", 0), ("b32", 32), ("b64", 64)]))), field("node", int(4, Kind::Enum(&[("all", 0xffff_ffff), ("first", 0), ("second", 1)]))), out("avail_bytes", U64)];
    "sysctl.page_offline_op" = 14, "xen_sysctl_page_offline_op", [field("op", int(4, Kind::Range(1, 3))), field("start", int(4, Kind::Frame)), field("end", int(4, Kind::Frame)), field("status", ptr_out(&Type::Bytes(64)))];
    "sysctl.lockprof_op" = 15, "xen_sysctl_lockprof_op", [field("op", int(4, Kind::Range(1, 2))), field("max_elem", int(4, Kind::Range(0, 4))), out("nr_elem", U32), out("time", U64), field("data", ptr_out(&Type::Bytes(320)))];
    "sysctl.cputopoinfo" = 16, "xen_sysctl_cputopoinfo", [field("num_cpus", int(4, Kind::Range(0, 4))), field("cputopo", ptr_out(&Type::Bytes(48)))];
    "sysctl.numainfo" = 17, "xen_sysctl_numainfo", [field("num_nodes", int(4, Kind::Range(0, 4))), field("meminfo", ptr_out(&Type::Bytes(64))), field("distance", ptr_out(&Type::Bytes(64)))];
    "sysctl.cpupool_create" = 18, "xen_sysctl_cpupool_op", [pool!(1), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.cpupool_destroy" = 18, "xen_sysctl_cpupool_op", [pool!(2), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.cpupool_info" = 18, "xen_sysctl_cpupool_op", [pool!(3), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.cpupool_addcpu" = 18, "xen_sysctl_cpupool_op", [pool!(4), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.cpupool_rmcpu" = 18, "xen_sysctl_cpupool_op", [pool!(5), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.cpupool_movedomain" = 18, "xen_sysctl_cpupool_op", [pool!(6), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.cpupool_freeinfo" = 18, "xen_sysctl_cpupool_op", [pool!(7), POOL_REST[0], POOL_REST[1], POOL_REST[2], POOL_REST[3], POOL_REST[4], POOL_REST[5]];
    "sysctl.scheduler_op" = 19, "xen_sysctl_scheduler_op", [field("cpupool_id", POOL), field("sched_id", int(4, Kind::Enum(SCHEDULERS))), field("op", YES32), field("padding", ZERO32), field("first", int(4, Kind::Range(0, 1000))), field("ratelimit_us", int(4, Kind::Range(0, 1000))), field("vcpu_migr_delay_us", int(4, Kind::Range(0, 1000)))];
    "sysctl.scheduler_schedule" = 19, "xen_sysctl_scheduler_op", [field("cpupool_id", POOL), field("sched_id", int(4, Kind::Const(7))), field("op", YES32), field("schedule", ptr_inout(&Type::Bytes(2576)))];
    "sysctl.psr_cmt_op" = 21, "xen_sysctl_psr_cmt_op", [field("op", int(4, Kind::Range(0, 4))), field("flags", ZERO32), field("cpu", CPU), field("rsvd", ZERO32)];
    "sysctl.pcitopoinfo" = 22, "xen_sysctl_pcitopoinfo", [field("num_devs", int(4, Kind::Range(0, 2))), field("devs", ptr_in(&Type::Bytes(8))), field("nodes", ptr_out(&Type::Bytes(8)))];
    "sysctl.psr_alloc" = 23, "xen_sysctl_psr_alloc", [field("op", int(4, Kind::Range(0, 2))), field("target", int(4, Kind::Range(0, 1)))];
    "sysctl.get_cpu_levelling_caps" = 25, "xen_sysctl_cpu_levelling_caps", [out("caps", HEX32)];
    "sysctl.get_cpu_featureset" = 26, "xen_sysctl_cpu_featureset", [field("index", int(4, Kind::Range(0, 5))), field("nr_features", int(4, Kind::Range(0, 32))), field("features", ptr_out(&Type::Bytes(128)))];
    "sysctl.livepatch_upload" = 27, "xen_sysctl_livepatch_op", [field("op", int(4, Kind::Const(0))), LIVEPATCH_PAD, LIVEPATCH_NAME[0], LIVEPATCH_NAME[1], LIVEPATCH_NAME[2], field("length", int(8, Kind::Len("payload"))), field("payload", ptr_in(&Type::Bytes(1024)))];
    "sysctl.livepatch_get" = 27, "xen_sysctl_livepatch_op", [field("op", int(4, Kind::Const(1))), LIVEPATCH_PAD, LIVEPATCH_NAME[0], LIVEPATCH_NAME[1], LIVEPATCH_NAME[2], out("state", U32), out("rc", U32)];
    "sysctl.livepatch_list" = 27, "xen_sysctl_livepatch_op", [field("op", int(4, Kind::Const(2))), LIVEPATCH_PAD, out("version", U32), field("idx", int(4, Kind::Range(0, 1))), field("nr", int(4, Kind::Range(0, 2))), field("pad1", ZERO32), out("name_total_size", U32), out("metadata_total_size", U32), field("status", ptr_out(&Type::Bytes(16))), field("names", ptr_out(&Type::Bytes(64))), field("len", ptr_out(&Type::Bytes(16))), field("metadata", ptr_out(&Type::Bytes(64))), field("metadata_len", ptr_out(&Type::Bytes(16)))];
    "sysctl.livepatch_unload" = 27, "xen_sysctl_livepatch_op", [field("op", int(4, Kind::Const(3))), LIVEPATCH_PAD, LIVEPATCH_NAME[0], LIVEPATCH_NAME[1], LIVEPATCH_NAME[2], field("action", int(4, Kind::Range(1, 2))), field("timeout", int(4, Kind::Range(0, 1000))), field("flags", YES32), field("pad1", ZERO32)];
    "sysctl.livepatch_apply" = 27, "xen_sysctl_livepatch_op", [field("op", int(4, Kind::Const(3))), LIVEPATCH_PAD, LIVEPATCH_NAME[0], LIVEPATCH_NAME[1], LIVEPATCH_NAME[2], field("action", int(4, Kind::Range(3, 4))), field("timeout", int(4, Kind::Range(0, 1000))), field("flags", YES32), field("pad1", ZERO32)];
    "sysctl.get_cpu_policy" = 29, "xen_sysctl_cpu_policy", [field("index", int(4, Kind::Range(0, 6))), field("nr_leaves", int(4, Kind::Enum(&[("many", 128), ("none", 0), ("few", 4)]))), field("nr_msrs", int(4, Kind::Enum(&[("many", 32), ("none", 0)]))), field("_rsvd", ZERO32), field("leaves", ptr_out(&Type::Bytes(3072))), field("msrs", ptr_out(&Type::Bytes(512)))];
}
