//! Entries of the domain's grant table: what it lets others do.
//!
//! Entries are written by whoever grants, in memory that the hypervisor shares. Nothing is set up before a program
//! grants something, so that programs see hypervisors without a table, too.

use coverage_hypercall::{
    channel::{GRANT_TABLE_FRAMES, GRANT_TABLE_GFN},
    program::agent_op,
};
use xen_abi::{
    DOMID_SELF,
    errno::Errno,
    grant::{
        self, EntryHeader, EntryV1, EntryV2, GTF_PERMIT_ACCESS, GTF_SUB_PAGE, GTF_TRANSITIVE, GetVersion,
        SetVersion,
    },
    hypercall::{GRANT_TABLE_OP, MEMORY_OP},
    memory,
};
use zerocopy::{Immutable, IntoBytes, transmute};

use crate::{Exception, Platform};

/// What is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described where its number is defined")]
pub enum Operation {
    Access,
    SubPage,
    Transitive,
    Revoke,
}

impl Operation {
    /// The operation with this call number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            agent_op::GRANT_ACCESS => Self::Access,
            agent_op::GRANT_SUB_PAGE => Self::SubPage,
            agent_op::GRANT_TRANSITIVE => Self::Transitive,
            agent_op::GRANT_REVOKE => Self::Revoke,
            _ => return None,
        })
    }
}

/// Writes an entry, in the version that the table has. Returns the reference, or the error of the set-up.
///
/// # Errors
/// The exception that a call or the write raised.
pub fn run<P: Platform>(p: &mut P, operation: Operation, args: &[u64; 6]) -> Result<i64, Exception> {
    let reference = args[0] & u64::from(u32::MAX);
    let mut version = match version(p)? {
        Ok(version) => version,
        Err(error) => return Ok(error),
    };
    if matches!(operation, Operation::SubPage | Operation::Transitive) && version != 2 {
        let status = call(p, GRANT_TABLE_OP, grant::SET_VERSION, &mut SetVersion { version: 2 })?;
        if status < 0 {
            return Ok(status);
        }
        version = 2;
    }
    let size = if version == 2 { size_of::<EntryV2>() } else { size_of::<EntryV1>() } as u64;
    let idx = reference * size / 4096;
    if idx >= GRANT_TABLE_FRAMES {
        return Ok(Errno::Inval.code());
    }
    let mut request = memory::AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: memory::MAPSPACE_GRANT_TABLE,
        idx,
        gpfn: GRANT_TABLE_GFN + idx,
    };
    let status = call(p, MEMORY_OP, memory::ADD_TO_PHYSMAP, &mut request)?;
    if status < 0 {
        return Ok(status);
    }
    let at = (GRANT_TABLE_GFN << 12) + reference * size;
    let entry = entry(operation, args);
    if version == 2 {
        // What the entry says of the frame comes before what makes it valid.
        let [first, second]: [u64; 2] = transmute!(entry);
        write(p, at + 8, second)?;
        write(p, at, first)?;
    } else {
        write(p, at, transmute!(EntryV1 { header: entry.header, frame: entry.frame as u32 }))?;
    }
    // A reference has 32 bits.
    Ok(reference as i64)
}

fn entry(operation: Operation, args: &[u64; 6]) -> EntryV2 {
    let header = |kind: u16, flags: u64| EntryHeader { flags: flags as u16 | kind, domid: args[1] as u16 };
    match operation {
        Operation::Access => {
            EntryV2 { header: header(GTF_PERMIT_ACCESS, args[3]), frame: args[2], ..EntryV2::default() }
        }
        Operation::SubPage => EntryV2 {
            header: header(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, args[5]),
            page_off: args[3] as u16,
            length: args[4] as u16,
            frame: args[2],
        },
        Operation::Transitive => EntryV2 {
            header: header(GTF_TRANSITIVE, args[4]),
            page_off: args[2] as u16,
            length: 0,
            frame: args[3] & u64::from(u32::MAX),
        },
        Operation::Revoke => EntryV2::default(),
    }
}

fn version<P: Platform>(p: &mut P) -> Result<Result<u32, i64>, Exception> {
    let mut request = GetVersion { dom: DOMID_SELF, ..GetVersion::default() };
    let status = call(p, GRANT_TABLE_OP, grant::GET_VERSION, &mut request)?;
    Ok(if status < 0 { Err(status) } else { Ok(request.version) })
}

/// A hypercall with a structure.
fn call<P: Platform, T: IntoBytes + Immutable + zerocopy::FromBytes>(
    p: &mut P,
    number: u64,
    cmd: u32,
    request: &mut T,
) -> Result<i64, Exception> {
    // Exposed: the hypervisor reads and writes it behind the compiler's back.
    let at = request.as_mut_bytes().as_mut_ptr().expose_provenance() as u64;
    p.hypercall(number, &[cmd.into(), at, 1, 0, 0, 0])
}

fn write<P: Platform>(p: &mut P, at: u64, word: u64) -> Result<i64, Exception> {
    p.operate(crate::Operation::Write, &[at, word, 0, 0, 0, 0])
}
