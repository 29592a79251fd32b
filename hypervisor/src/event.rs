//! Event channels of a domain, in the two-level ABI: the table of ports. Pending and mask bits lie in the shared-info
//! page.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use xen_abi::{DomId, errno::Errno};

/// Ports in one bucket. Buckets are allocated when a port in them is.
pub(crate) const BUCKET: u32 = 64;
/// Ports that a domain can have.
pub(crate) const MAX_PORTS: u32 = 1024;

/// What a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Free.
    #[default]
    Closed,
    /// Waits for that domain to connect.
    Unbound(DomId),
    /// Connected to a port of a domain.
    Interdomain(DomId, u32),
    /// Bound to a virtual interrupt.
    Virq(u32),
    /// Interprocessor events.
    Ipi,
}

/// A port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    /// What it is.
    pub binding: Binding,
    /// The vCPU that it notifies.
    pub vcpu: u8,
}

/// The ports of a domain.
#[derive(Debug)]
pub(crate) struct EventChannels {
    buckets: Vec<Option<Box<[Channel; BUCKET as usize]>>>,
    /// Ports of virtual interrupts, by vCPU and interrupt.
    pub virqs: BTreeMap<(u8, u32), u32>,
}

impl EventChannels {
    /// No port is in use.
    pub(crate) fn new() -> Self {
        Self { buckets: (0..MAX_PORTS / BUCKET).map(|_| None).collect(), virqs: BTreeMap::new() }
    }

    /// The bucket of a port was allocated.
    pub(crate) fn has_bucket(&self, port: u32) -> bool {
        matches!(self.buckets.get((port / BUCKET) as usize), Some(Some(_)))
    }

    /// A port of an allocated bucket, closed ones included.
    pub(crate) fn get(&self, port: u32) -> Option<Channel> {
        let bucket = self.buckets.get((port / BUCKET) as usize)?.as_ref()?;
        Some(bucket[(port % BUCKET) as usize])
    }

    /// Changes a port of an allocated bucket.
    pub(crate) fn set(&mut self, port: u32, channel: Channel) {
        if let Some(Some(bucket)) = self.buckets.get_mut((port / BUCKET) as usize) {
            bucket[(port % BUCKET) as usize] = channel;
        }
    }

    /// The lowest free port; port 0 is never used.
    ///
    /// # Errors
    /// `ENOSPC` when all are in use.
    pub(crate) fn allocate(&mut self) -> Result<u32, Errno> {
        for (n, bucket) in self.buckets.iter_mut().enumerate() {
            let bucket = bucket.get_or_insert_with(|| Box::new([Channel::default(); BUCKET as usize]));
            let first = usize::from(n == 0);
            let free = bucket[first..].iter().position(|channel| channel.binding == Binding::Closed);
            if let Some(free) = free {
                return Ok(n as u32 * BUCKET + (first + free) as u32);
            }
        }
        Err(Errno::Nospc)
    }

    /// Numbers of the ports in use.
    pub(crate) fn in_use(&self) -> Vec<u32> {
        (1..MAX_PORTS)
            .filter(|port| self.get(*port).is_some_and(|channel| channel.binding != Binding::Closed))
            .collect()
    }
}
