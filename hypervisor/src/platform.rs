//! What belongs to a domain's virtual hardware: its parameters, and the servers that a device model has for it.

use alloc::{collections::BTreeMap, vec::Vec};
use xen_abi::{DomId, errno::Errno, hvm::param};

/// Servers that a domain can have (`MAX_NR_IOREQ_SERVERS` of Xen).
pub(crate) const MAX_SERVERS: usize = 8;
/// Ranges of one kind that a server can look after (`MAX_NR_IO_RANGES` of Xen).
const MAX_RANGES: usize = 256;
/// Kinds of ranges: ports, memory, PCI.
pub(crate) const RANGE_KINDS: usize = 3;

/// Ranges that do not overlap, by their first address.
#[derive(Debug, Default)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// There is none.
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a range.
    ///
    /// # Errors
    /// `EEXIST` where it meets another, `ENOMEM` when there are too many.
    pub(crate) fn add(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        if self.0.range(..=end).next_back().is_some_and(|(_, last)| *last >= start) {
            return Err(Errno::Exist);
        }
        if self.0.len() == MAX_RANGES {
            return Err(Errno::Nomem);
        }
        self.0.insert(start, end);
        Ok(())
    }

    /// Takes a range away, which lies in one that was added.
    ///
    /// # Errors
    /// `ENOENT` where it does not, `ENOMEM` when what is left is too many.
    pub(crate) fn remove(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let Some((&first, &last)) = self.0.range(..=start).next_back().filter(|(_, last)| **last >= end)
        else {
            return Err(Errno::Noent);
        };
        if first < start && end < last && self.0.len() == MAX_RANGES {
            return Err(Errno::Nomem);
        }
        self.0.remove(&first);
        if first < start {
            self.0.insert(first, start - 1);
        }
        if end < last {
            self.0.insert(end + 1, last);
        }
        Ok(())
    }
}

/// A server of requests.
#[derive(Debug)]
pub(crate) struct Server {
    /// Who made it; nobody else may use it.
    pub emulator: DomId,
    /// It is switched on.
    pub enabled: bool,
    /// Its requests are buffered.
    pub buffered: bool,
    /// What it looks after, by kind.
    pub ranges: [Ranges; RANGE_KINDS],
}

/// The virtual hardware of a domain.
#[derive(Debug)]
pub(crate) struct Platform {
    /// Its parameters.
    pub params: [u64; param::COUNT as usize],
    /// The servers.
    pub servers: [Option<Server>; MAX_SERVERS],
    /// Vectors by which vCPUs are told of events.
    pub upcall_vectors: BTreeMap<u32, u8>,
    /// vCPUs for which an exception or interrupt waits, with its vector.
    pub injected: Vec<(u32, u8)>,
}

impl Platform {
    /// All parameters are zero, and there is no server.
    pub(crate) const fn new() -> Self {
        Self {
            params: [0; param::COUNT as usize],
            servers: [const { None }; MAX_SERVERS],
            upcall_vectors: BTreeMap::new(),
            injected: Vec::new(),
        }
    }

    /// A server, for whoever made it.
    ///
    /// # Errors
    /// `ENOENT` where there is none, `EPERM` where it is somebody else's.
    pub(crate) fn server(&mut self, id: u16, emulator: DomId) -> Result<&mut Server, Errno> {
        match self.servers.get_mut(usize::from(id)) {
            Some(Some(server)) if server.emulator == emulator => Ok(server),
            Some(Some(_)) => Err(Errno::Perm),
            _ => Err(Errno::Noent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_neither_overlap_nor_grow_without_limit() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.add(10, 20), Ok(()));
        for (start, end) in [(0, 10), (20, 30), (15, 15), (0, u64::MAX)] {
            assert_eq!(ranges.add(start, end), Err(Errno::Exist));
        }
        assert_eq!((ranges.add(21, 30), ranges.add(0, 9)), (Ok(()), Ok(())));
        assert_eq!(ranges.remove(15, 25), Err(Errno::Noent));
        assert_eq!((ranges.remove(12, 15), ranges.remove(12, 12)), (Ok(()), Err(Errno::Noent)));
        assert_eq!((ranges.remove(10, 11), ranges.remove(16, 20)), (Ok(()), Ok(())));
        assert_eq!((ranges.remove(0, 9), ranges.remove(21, 30)), (Ok(()), Ok(())));
        assert_eq!(ranges.0.len(), 0);
        for n in 0..MAX_RANGES as u64 {
            assert_eq!(ranges.add(n * 10, n * 10 + 5), Ok(()));
        }
        assert_eq!(ranges.add(9, 9), Err(Errno::Nomem));
        assert_eq!(ranges.remove(1, 2), Err(Errno::Nomem));
        assert_eq!(ranges.remove(0, 2), Ok(()));
    }
}
