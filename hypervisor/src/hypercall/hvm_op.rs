//! `hvm_op`: parameters of a domain, and small questions.
//!
//! Who may set a parameter, which ones can be set only once and which values they take is Xen's
//! (`hvm_allow_set_param`, `hvm_set_param`).

use crate::{
    address::Gfn,
    hypervisor::Hypervisor,
    mem::{guest::Call, p2m::Kind},
};
use xen_abi::{DomId, errno::Errno, hvm as abi, hvm::param, sched};

/// Pages of requests that a domain can have: bits of a word.
const MAX_REQUEST_PAGES: u64 = 64;
/// Vectors below this are exceptions.
const FIRST_VECTOR: u8 = 0x10;
/// Most modes of [`param::TIMER_MODE`].
const TIMER_MODES: u64 = 3;
/// Most modes of [`param::ALTP2M`].
const ALTP2M_MODES: u64 = 3;
/// Bits of [`param::VIRIDIAN`], and the one that all others need.
const VIRIDIAN: u64 = 0x3fff;
const VIRIDIAN_BASE: u64 = 1;

/// Whether a guest may set a parameter of its own.
const fn guest_sets(index: u32) -> bool {
    use param::*;
    matches!(
        index,
        CALLBACK_IRQ
            | VM86_TSS
            | VM86_TSS_SIZED
            | ACPI_IOPORTS_LOCATION
            | VM_GENERATION_ID_ADDR
            | STORE_EVTCHN
            | CONSOLE_EVTCHN
            | X87_FIP_WIDTH
    )
}

/// Whether a guest may read a parameter of its own.
const fn guest_reads(index: u32) -> bool {
    guest_sets(index) || matches!(index, param::STORE_PFN | param::CONSOLE_PFN | param::ALTP2M)
}

/// Parameters of an interface that is gone.
const fn is_obsolete(index: u32) -> bool {
    use param::*;
    matches!(index, MEMORY_EVENT_CR0..=MEMORY_EVENT_INT3 | MEMORY_EVENT_SINGLE_STEP | MEMORY_EVENT_MSR)
}

/// Whether a parameter keeps the first value that is not zero.
const fn is_set_once(index: u32) -> bool {
    use param::*;
    matches!(index, VIRIDIAN | IOREQ_SERVER_PFN | NR_IOREQ_SERVER_PAGES | ALTP2M | MCA_CAP)
}

/// Whether a parameter takes a value.
const fn takes(index: u32, value: u64) -> bool {
    match index {
        param::TIMER_MODE => value <= TIMER_MODES,
        param::VIRIDIAN => value & !VIRIDIAN == 0 && (value == 0 || value & VIRIDIAN_BASE != 0),
        param::ACPI_S_STATE => value == 0 || value == 3,
        param::NESTEDHVM => value == 0,
        param::NR_IOREQ_SERVER_PAGES => value != 0 && value <= MAX_REQUEST_PAGES,
        param::TRIPLE_FAULT_REASON => value <= sched::SHUTDOWN_MAX as u64,
        param::ALTP2M => value <= ALTP2M_MODES,
        param::X87_FIP_WIDTH => matches!(value, 0 | 4 | 8),
        param::MCA_CAP => value <= 1,
        param::DM_DOMAIN => false,
        _ => true,
    }
}

impl Hypervisor {
    pub(crate) fn hvm_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let arg = args[1];
        match args[0] as u32 {
            abi::SET_PARAM => self.set_param(&call, arg).map(|()| 0),
            abi::GET_PARAM => self.get_param(&call, arg).map(|()| 0),
            abi::FLUSH_TLBS | abi::GUEST_REQUEST_VM_EVENT if arg != 0 => Err(Errno::Inval),
            // Tables are always looked at anew, and nobody monitors guests.
            abi::FLUSH_TLBS | abi::GUEST_REQUEST_VM_EVENT => Ok(0),
            // There are no shadow page tables.
            abi::PAGETABLE_DYING => {
                let request: [u16; 1] = self.read_struct(&call, arg)?;
                self.own_domain(&call, request[0])?;
                Err(Errno::Inval)
            }
            abi::GET_TIME => self.write_struct(&call, arg, &self.time.clone()).map(|()| 0),
            abi::GET_MEM_TYPE => self.get_mem_type(&call, arg).map(|()| 0),
            abi::SET_EVTCHN_UPCALL_VECTOR => {
                let request: abi::UpcallVector = self.read_struct(&call, arg)?;
                let domain = self.domain_mut(call.caller.domain).ok_or(Errno::Srch)?;
                if request.vector < FIRST_VECTOR {
                    return Err(Errno::Inval);
                }
                if request.vcpu as usize >= domain.vcpus.len() {
                    return Err(Errno::Noent);
                }
                domain.platform.upcall_vectors.insert(request.vcpu, request.vector);
                Ok(0)
            }
            abi::ALTP2M => Err(Errno::Opnotsupp),
            _ => Err(Errno::Nosys),
        }
    }

    /// The domain whose parameter it is.
    fn param_owner(&self, call: &Call, request: &abi::Param) -> Result<DomId, Errno> {
        if request.index >= param::COUNT {
            return Err(Errno::Inval);
        }
        self.own_domain(call, request.domid)
    }

    fn set_param(&mut self, call: &Call, arg: u64) -> Result<(), Errno> {
        let request: abi::Param = self.read_struct(call, arg)?;
        let id = self.param_owner(call, &request)?;
        let (index, value) = (request.index, request.value);
        if is_obsolete(index) {
            return Err(Errno::Opnotsupp);
        }
        if id == call.caller.domain && !guest_sets(index) {
            return Err(Errno::Perm);
        }
        let params = &mut self.domain_mut(id).ok_or(Errno::Srch)?.platform.params;
        let param = params.get_mut(index as usize).ok_or(Errno::Inval)?;
        if is_set_once(index) && *param != 0 && *param != value {
            return Err(Errno::Exist);
        }
        if !takes(index, value) {
            return Err(Errno::Inval);
        }
        *param = value;
        Ok(())
    }

    fn get_param(&mut self, call: &Call, arg: u64) -> Result<(), Errno> {
        let mut request: abi::Param = self.read_struct(call, arg)?;
        let id = self.param_owner(call, &request)?;
        if is_obsolete(request.index) {
            return Err(Errno::Opnotsupp);
        }
        if id == call.caller.domain && !guest_reads(request.index) {
            return Err(Errno::Perm);
        }
        let params = &self.domain(id).ok_or(Errno::Srch)?.platform.params;
        request.value = *params.get(request.index as usize).ok_or(Errno::Inval)?;
        self.write_struct(call, arg, &request)
    }

    fn get_mem_type(&mut self, call: &Call, arg: u64) -> Result<(), Errno> {
        let mut request: abi::GetMemType = self.read_struct(call, arg)?;
        let id = self.own_domain(call, request.domid)?;
        request.mem_type = match self.lookup(id, Gfn(request.pfn)) {
            None => abi::memory::MMIO_DM,
            Some(mapping) if mapping.kind == Kind::Instrumentation || !mapping.writable => {
                abi::memory::RAM_RO
            }
            Some(_) => abi::memory::RAM_RW,
        };
        self.write_struct(call, arg, &request)
    }
}
