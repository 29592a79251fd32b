//! `hypfs_op`: the hypervisor's file system. Numbers: Xen `public/hypfs.h`.

use xen_abi::hypercall;

use super::super::types::*;

const NUMBER: u32 = hypercall::HYPFS_OP as u32;

/// `XEN_HYPFS_OP_read`.
const READ: u64 = 1;
/// `XEN_HYPFS_OP_write_contents`.
const WRITE: u64 = 2;

/// A path of one length, with its zero: the length is an argument of its own.
macro_rules! path {
    ($name:literal, $op:expr, $len:literal, $dir:ident, $buf:literal) => {
        op($name, $op, {
            const ARGS: &[Field] = &[
                field("path", ptr_in(&Type::Bytes($len))),
                field("path_len", int(8, Kind::Len("path"))),
                field("buf", $dir(&Type::Bytes($buf))),
                field("buf_len", int(8, Kind::Len("buf"))),
            ];
            ARGS
        })
    };
}

const fn op(name: &'static str, number: u64, args: &'static [Field]) -> Operation {
    Operation::sub(NUMBER, number, name, args).returning(Returns::Value)
}

/// The sub-operations. Seeds know paths; the generator's bytes are none that exist.
pub(super) const OPERATIONS: &[Operation] = &[
    op("hypfs_op.get_version", 0, &[]),
    path!("hypfs_op.read", READ, 2, ptr_out, 256),
    path!("hypfs_op.write_contents", WRITE, 24, ptr_in, 1),
];
