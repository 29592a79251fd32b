//! What the agent does by itself between hypercalls: touching memory, executing odd instructions.

use coverage_hypercall::{
    channel::{ARENA_GPA, PLAYGROUND_GFN},
    program::agent_op,
};
use xen_abi::grant;

use super::types::*;

/// Addresses that a program can reach, and some that it must not.
const PLACES: &[Named] = &[
    ("arena", ARENA_GPA),
    ("playground", PLAYGROUND_GFN << 12),
    ("playground1", (PLAYGROUND_GFN + 1) << 12),
    ("playground2", (PLAYGROUND_GFN + 2) << 12),
];
const PLACE: Type = int(8, Kind::Enum(PLACES));

/// Model-specific registers that a hypervisor treats in its own way (AMD APM volume 2, appendix A).
const MSRS: &[Named] = &[
    ("efer", 0xc000_0080),
    ("star", 0xc000_0081),
    ("lstar", 0xc000_0082),
    ("sfmask", 0xc000_0084),
    ("fs_base", 0xc000_0100),
    ("gs_base", 0xc000_0101),
    ("tsc", 0x10),
    ("apic_base", 0x1b),
    ("pat", 0x277),
    ("vm_cr", 0xc001_0114),
    ("vm_hsave_pa", 0xc001_0117),
    ("hypercall_page", 0x4000_0000),
];
const MSR: Type = int(4, Kind::Enum(MSRS));

const LEAVES: &[Named] = &[
    ("basic", 0),
    ("features", 1),
    ("xen", 0x4000_0000),
    ("xen_version", 0x4000_0001),
    ("xen_pages", 0x4000_0002),
    ("xen_hvm", 0x4000_0004),
    ("extended", 0x8000_0000),
];
const PORTS: &[Named] = &[("debugcon", 0xe9), ("com1", 0x3f8), ("pic", 0x20), ("pci", 0xcf8)];

/// `GTF_*` beside the type.
const GRANT_FLAGS: &[Named] = &[
    ("readonly", grant::GTF_READONLY as u64),
    ("reading", grant::GTF_READING as u64),
    ("writing", grant::GTF_WRITING as u64),
    ("pwt", grant::GTF_PWT as u64),
    ("pcd", grant::GTF_PCD as u64),
    ("pat", grant::GTF_PAT as u64),
    ("sub_page", grant::GTF_SUB_PAGE as u64),
];
/// References that a program gives out; the first eight outlive a change of the table's version.
const REFERENCE: Field = field("ref", int(4, Kind::Range(6, 12)));
const FLAGS: Field =
    field("flags", int(2, Kind::UsualFlags(GRANT_FLAGS, &[0, 0, grant::GTF_READONLY as u64])));
const REF: &[ResultSpec] = &[returns(Resource::GrantRef)];

const RET: &[ResultSpec] = &[returns(Resource::Number)];

const fn grants(name: &'static str, number: u32, args: &'static [Field]) -> Operation {
    Operation { name, number, select: Select::Whole, args, results: REF, returns: Returns::Anything }
}

const fn op(name: &'static str, number: u32, args: &'static [Field]) -> Operation {
    Operation { name, number, select: Select::Whole, args, results: &[], returns: Returns::Anything }
}

const fn reads(name: &'static str, number: u32, args: &'static [Field]) -> Operation {
    Operation { name, number, select: Select::Whole, args, results: RET, returns: Returns::Anything }
}

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    reads("agent.read", agent_op::READ, &[field("address", PLACE)]),
    op("agent.write", agent_op::WRITE, &[field("address", PLACE), field("value", int(8, Kind::Hex))]),
    op("agent.ud2", agent_op::UD2, &[]),
    reads("agent.rdmsr", agent_op::RDMSR, &[field("msr", MSR)]),
    op("agent.wrmsr", agent_op::WRMSR, &[field("msr", MSR), field("value", int(8, Kind::Hex))]),
    reads(
        "agent.cpuid",
        agent_op::CPUID,
        &[field("leaf", int(4, Kind::Enum(LEAVES))), field("subleaf", U32)],
    ),
    reads("agent.inb", agent_op::INB, &[field("port", int(2, Kind::Enum(PORTS)))]),
    op(
        "agent.outb",
        agent_op::OUTB,
        &[field("port", int(2, Kind::Enum(PORTS))), field("value", int(1, Kind::Hex))],
    ),
    grants(
        "agent.grant_access",
        agent_op::GRANT_ACCESS,
        &[REFERENCE, field("domid", PEER), field("frame", FRAME), FLAGS],
    ),
    grants(
        "agent.grant_sub_page",
        agent_op::GRANT_SUB_PAGE,
        &[
            REFERENCE,
            field("domid", PEER),
            field("frame", FRAME),
            field("page_off", int(2, Kind::Range(0, 32))),
            field("length", int(2, Kind::Range(0, 128))),
            FLAGS,
        ],
    ),
    grants(
        "agent.grant_transitive",
        agent_op::GRANT_TRANSITIVE,
        &[
            REFERENCE,
            field("domid", PEER),
            field("trans_domid", PEER),
            field("gref", int(4, Kind::GrantRefOf("trans_domid"))),
            FLAGS,
        ],
    ),
    op("agent.grant_revoke", agent_op::GRANT_REVOKE, &[field("ref", int(4, Kind::GrantRef))]),
    op("agent.exec", agent_op::EXEC, &[field("address", PLACE)]),
];
