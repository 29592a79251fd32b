//! Event channels of a domain: the table of ports. Where their bits lie is a matter of the ABI: in the shared-info page in
//! the two-level one, else as [`crate::fifo`] says.

use crate::{address::Mfn, fifo::Fifo};
use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use xen_abi::{DomId, errno::Errno, event};

/// Ports in one bucket. Buckets are allocated when a port in them is.
pub(crate) const BUCKET: u32 = 64;
/// Ports that a domain can have in the two-level ABI.
pub(crate) const MAX_PORTS: u32 = 1024;
/// Ports that a domain can have in the FIFO ABI: two pages of its array.
pub(crate) const MAX_PORTS_FIFO: u32 = 2048;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    /// What it is.
    pub binding: Binding,
    /// The vCPU that it notifies.
    pub vcpu: u8,
    /// Queue that its events go to, in the FIFO ABI.
    pub priority: u8,
    /// The queue that it was put into last: vCPU and priority.
    pub last: (u8, u8),
    /// An event happened while its event word was not there.
    pub pending: bool,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            binding: Binding::Closed,
            vcpu: 0,
            priority: event::FIFO_PRIORITY_DEFAULT as u8,
            last: (0, 0),
            pending: false,
        }
    }
}

/// The ports of a domain.
#[derive(Debug)]
pub(crate) struct EventChannels {
    buckets: Vec<Option<Box<[Channel; BUCKET as usize]>>>,
    /// No port below this one is free.
    lowest: u32,
    /// Ports of virtual interrupts, by vCPU and interrupt.
    pub virqs: BTreeMap<(u8, u32), u32>,
    /// State of the FIFO ABI, where the domain uses that.
    pub fifo: Option<Box<Fifo>>,
}

impl EventChannels {
    /// No port is in use.
    pub(crate) fn new() -> Self {
        let mut buckets: Vec<_> = (0..MAX_PORTS_FIFO / BUCKET).map(|_| None).collect();
        buckets[0] = Some(Box::new([Channel::default(); BUCKET as usize]));
        Self { buckets, lowest: 1, virqs: BTreeMap::new(), fifo: None }
    }

    /// Ports that there can be.
    pub(crate) const fn max_ports(&self) -> u32 {
        if self.fifo.is_some() { MAX_PORTS_FIFO } else { MAX_PORTS }
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
            if channel.binding == Binding::Closed && port != 0 {
                self.lowest = self.lowest.min(port);
            }
        }
    }

    /// The lowest port that is closed and not `busy`; port 0 is never used.
    ///
    /// # Errors
    /// `ENOSPC` when all are in use.
    pub(crate) fn allocate(&mut self, mut busy: impl FnMut(&Fifo, u32) -> bool) -> Result<u32, Errno> {
        let mut first_closed = None;
        for port in self.lowest..self.max_ports() {
            let bucket = &mut self.buckets[(port / BUCKET) as usize];
            let bucket = bucket.get_or_insert_with(|| Box::new([Channel::default(); BUCKET as usize]));
            if bucket[(port % BUCKET) as usize].binding != Binding::Closed {
                continue;
            }
            self.lowest = *first_closed.get_or_insert(port);
            if !self.fifo.as_ref().is_some_and(|fifo| busy(fifo, port)) {
                return Ok(port);
            }
        }
        if first_closed.is_none() {
            self.lowest = self.max_ports();
        }
        Err(Errno::Nospc)
    }

    /// The first port in use from `from` on.
    pub(crate) fn next_in_use(&self, from: u32) -> Option<u32> {
        let mut port = from;
        while let Some(bucket) = self.buckets.get((port / BUCKET) as usize) {
            let Some(bucket) = bucket else {
                port = (port / BUCKET + 1) * BUCKET;
                continue;
            };
            if bucket[(port % BUCKET) as usize].binding != Binding::Closed {
                return Some(port);
            }
            port += 1;
        }
        None
    }

    /// Ports of the two-level ABI that are not as they were at first.
    pub(crate) fn changed(&self) -> Vec<u32> {
        let mut ports = Vec::new();
        for (n, bucket) in (0..MAX_PORTS / BUCKET).zip(&self.buckets) {
            let Some(bucket) = bucket else { continue };
            for (at, channel) in (0..).zip(bucket.iter()) {
                if *channel != Channel::default() {
                    ports.push(n * BUCKET + at);
                }
            }
        }
        ports
    }

    /// Buckets that were allocated.
    pub(crate) fn buckets(&self) -> u64 {
        self.buckets.iter().flatten().count() as u64
    }

    /// References that the FIFO ABI holds to a frame.
    pub(crate) fn uses(&self, mfn: Mfn) -> u32 {
        self.fifo.as_ref().map_or(0, |fifo| fifo.frames().filter(|used| *used == mfn).count() as u32)
    }
}
