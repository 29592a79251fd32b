//! `hvm_op`: parameters of a domain, and small questions. Numbers: Xen `public/hvm/hvm_op.h` and `params.h`.

use xen_abi::{hvm as abi, hvm::param, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::HVM_OP as u32;

const PARAMS: &[Named] = &[
    ("callback_irq", param::CALLBACK_IRQ as u64),
    ("store_pfn", param::STORE_PFN as u64),
    ("store_evtchn", param::STORE_EVTCHN as u64),
    ("ioreq_pfn", param::IOREQ_PFN as u64),
    ("bufioreq_pfn", param::BUFIOREQ_PFN as u64),
    ("viridian", param::VIRIDIAN as u64),
    ("timer_mode", param::TIMER_MODE as u64),
    ("hpet_enabled", param::HPET_ENABLED as u64),
    ("ident_pt", param::IDENT_PT as u64),
    ("dm_domain", param::DM_DOMAIN as u64),
    ("acpi_s_state", param::ACPI_S_STATE as u64),
    ("vm86_tss", param::VM86_TSS as u64),
    ("vpt_align", param::VPT_ALIGN as u64),
    ("console_pfn", param::CONSOLE_PFN as u64),
    ("console_evtchn", param::CONSOLE_EVTCHN as u64),
    ("acpi_ioports_location", param::ACPI_IOPORTS_LOCATION as u64),
    ("memory_event_cr0", param::MEMORY_EVENT_CR0 as u64),
    ("nestedhvm", param::NESTEDHVM as u64),
    ("triple_fault_reason", param::TRIPLE_FAULT_REASON as u64),
    ("ioreq_server_pfn", param::IOREQ_SERVER_PFN as u64),
    ("nr_ioreq_server_pages", param::NR_IOREQ_SERVER_PAGES as u64),
    ("vm_generation_id_addr", param::VM_GENERATION_ID_ADDR as u64),
    ("altp2m", param::ALTP2M as u64),
    ("x87_fip_width", param::X87_FIP_WIDTH as u64),
    ("vm86_tss_sized", param::VM86_TSS_SIZED as u64),
    ("mca_cap", param::MCA_CAP as u64),
];

const INDEX: Field = field("index", int(4, Kind::Enum(PARAMS)));
/// What a parameter is set to.
const VALUE: Type = int(
    8,
    Kind::By(
        "index",
        &[
            (param::STORE_PFN as u64, Kind::Frame),
            (param::IOREQ_SERVER_PFN as u64, Kind::Frame),
            (param::NR_IOREQ_SERVER_PAGES as u64, Kind::Range(0, 8)),
            (param::TRIPLE_FAULT_REASON as u64, Kind::Range(0, 5)),
            (param::CALLBACK_IRQ as u64, Kind::Hex),
        ],
    ),
);
const SET: StructType =
    StructType { name: "xen_hvm_param", fields: &[field("domid", DOMAIN), INDEX, field("value", VALUE)] };
const GET: StructType =
    StructType { name: "xen_hvm_param", fields: &[field("domid", DOMAIN), INDEX, out("value", U64)] };
const MEM_TYPE: StructType = StructType {
    name: "xen_hvm_get_mem_type",
    fields: &[
        field("domid", DOMAIN),
        out("mem_type", int(2, Kind::Plain)),
        out("pad", Type::Blob(4)),
        field("pfn", FRAME),
    ],
};
const VECTOR: StructType = StructType {
    name: "xen_hvm_evtchn_upcall_vector",
    fields: &[
        field("vcpu", VCPU),
        field("vector", int(1, Kind::Range(0x10, 0xff))),
        out("pad", Type::Blob(3)),
    ],
};
const DYING: StructType = StructType { name: "xen_hvm_pagetable_dying", fields: &[field("domid", DOMAIN)] };
const TIME: StructType = StructType { name: "xen_hvm_get_time", fields: &[out("now", U64)] };

const fn op(
    name: &'static str,
    number: u32,
    args: &'static [Field],
    results: &'static [ResultSpec],
) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).giving(results)
}

const NOTHING: Field = field("arg", int(8, Kind::Const(0)));

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("hvm_op.set_param", abi::SET_PARAM, &[field("arg", ptr_in(&Type::Struct(&SET)))], &[]),
    op(
        "hvm_op.get_param",
        abi::GET_PARAM,
        &[field("arg", ptr_inout(&Type::Struct(&GET)))],
        &[gives("value", Resource::Number)],
    ),
    op("hvm_op.flush_tlbs", abi::FLUSH_TLBS, &[NOTHING], &[]),
    op("hvm_op.pagetable_dying", abi::PAGETABLE_DYING, &[field("arg", ptr_in(&Type::Struct(&DYING)))], &[]),
    op("hvm_op.get_time", abi::GET_TIME, &[field("arg", ptr_out(&Type::Struct(&TIME)))], &[]),
    op("hvm_op.get_mem_type", abi::GET_MEM_TYPE, &[field("arg", ptr_inout(&Type::Struct(&MEM_TYPE)))], &[]),
    op(
        "hvm_op.set_evtchn_upcall_vector",
        abi::SET_EVTCHN_UPCALL_VECTOR,
        &[field("arg", ptr_in(&Type::Struct(&VECTOR)))],
        &[],
    ),
    op("hvm_op.guest_request_vm_event", abi::GUEST_REQUEST_VM_EVENT, &[NOTHING], &[]),
    op("hvm_op.altp2m", abi::ALTP2M, &[field("arg", ptr_inout(&Type::Bytes(96)))], &[]),
];
