//! `console_io`: the hypervisor's console. Numbers: Xen `public/xen.h`, `CONSOLEIO_*`.

use xen_abi::{console as abi, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::CONSOLE_IO as u32;

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "console_io.write",
        number: NUMBER,
        select: Select::First(abi::WRITE as u64),
        args: &[field("count", int(4, Kind::Len("buffer"))), field("buffer", ptr_in(&Type::Bytes(16)))],
        results: &[],
        returns: Returns::Value,
    },
    Operation {
        name: "console_io.read",
        number: NUMBER,
        select: Select::First(abi::READ as u64),
        args: &[field("count", int(4, Kind::Len("buffer"))), field("buffer", ptr_out(&Type::Bytes(16)))],
        results: &[returns(Resource::Number)],
        returns: Returns::Value,
    },
];
