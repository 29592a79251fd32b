//! `xsm_op`: the security module, in the form of FLASK. Numbers: Xen `public/xsm/flask_op.h`.

use xen_abi::hypercall;

use super::{super::types::*, member, one_pointer};

const NUMBER: u32 = hypercall::XSM_OP as u32;
/// Bytes of `struct xen_flask_op`.
const SIZE: usize = 40;

const VERSION: Field = field("interface_version", int(4, Kind::Const(1)));
const SID: Type = int(4, Kind::Range(0, 32));

macro_rules! flask {
    ($($name:literal = $number:literal, [$($field:expr),*];)+) => {
        /// The commands.
        pub(super) const OPERATIONS: &[Operation] = &[$(one_pointer!(
            $name, NUMBER, Select::Whole,
            member!("xen_flask_op", SIZE, [field("cmd", int(4, Kind::Const($number))), VERSION], [$($field),*]),
            []
        )),+];
    };
}

flask! {
    "xsm_op.load" = 1, [field("buffer", ptr_in(&Type::Bytes(64))), field("size", int(4, Kind::Len("buffer")))];
    "xsm_op.getenforce" = 2, [];
    "xsm_op.setenforce" = 3, [field("enforcing", YES32)];
    "xsm_op.context_to_sid" = 4, [field("sid", SID), field("size", int(4, Kind::Len("context"))), field("context", ptr_inout(&Type::Bytes(32)))];
    "xsm_op.sid_to_context" = 5, [field("sid", SID), field("size", int(4, Kind::Len("context"))), field("context", ptr_inout(&Type::Bytes(64)))];
    "xsm_op.access" = 6, [field("ssid", SID), field("tsid", SID), field("tclass", int(4, Kind::Range(0, 12))), field("req", HEX32)];
    "xsm_op.create" = 7, [field("ssid", SID), field("tsid", SID), field("tclass", int(4, Kind::Range(0, 12)))];
    "xsm_op.relabel" = 8, [field("ssid", SID), field("tsid", SID), field("tclass", int(4, Kind::Range(0, 12)))];
    "xsm_op.policyvers" = 10, [];
    "xsm_op.getbool" = 11, [field("bool_id", int(4, Kind::Range(0, 8))), field("values", Type::Blob(4)), field("size", int(4, Kind::Len("name"))), field("name", ptr_inout(&Type::Bytes(32)))];
    "xsm_op.setbool" = 12, [field("bool_id", int(4, Kind::Range(0, 8))), field("values", Type::Blob(4)), field("size", int(4, Kind::Len("name"))), field("name", ptr_inout(&Type::Bytes(32)))];
    "xsm_op.commitbools" = 13, [];
    "xsm_op.mls" = 14, [];
    "xsm_op.getavc_threshold" = 16, [];
    "xsm_op.setavc_threshold" = 17, [field("threshold", int(4, Kind::Range(0, 1024)))];
    "xsm_op.avc_hashstats" = 18, [];
    "xsm_op.avc_cachestats" = 19, [field("cpu", int(4, Kind::Range(0, 1)))];
    "xsm_op.member" = 20, [field("ssid", SID), field("tsid", SID), field("tclass", int(4, Kind::Range(0, 12)))];
    "xsm_op.add_ocontext" = 21, [field("ocon", int(4, Kind::Range(0, 5))), field("sid", SID), field("low", HEX64), field("high", HEX64)];
    "xsm_op.del_ocontext" = 22, [field("ocon", int(4, Kind::Range(0, 5))), field("sid", SID), field("low", HEX64), field("high", HEX64)];
    "xsm_op.get_peer_sid" = 23, [field("evtchn", PORT)];
    "xsm_op.relabel_domain" = 24, [field("domid", int(4, Kind::Target)), field("sid", SID)];
}
