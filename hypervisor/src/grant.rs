//! The grant table of a domain: its frames, which of its entries are in use, and what the domain itself has mapped of
//! others.
//!
//! A table does not exist until its domain sets it up, in whichever way: its version is 0 then. Entries that somebody
//! maps or copies from are *active*: what was granted is kept here, whatever the guest makes of its entry meanwhile.

use crate::address::{Gfn, Mfn};
use alloc::{collections::BTreeMap, vec::Vec};
use xen_abi::{DomId, grant};

/// Most frames of a table.
pub(crate) const MAX_FRAMES: u32 = 16;
/// Most mappings that a domain can have of others' grants.
pub(crate) const MAX_HANDLES: u32 = 256;
/// Most uses of one kind that an entry can have.
pub(crate) const MAX_PINS: u32 = 255;
/// Status words in a frame.
pub(crate) const STATUSES: u32 = 2048;

/// Entries in a frame of a table of that version.
pub(crate) const fn entries_per_frame(version: u32) -> u32 {
    if version == 2 { 256 } else { 512 }
}

/// Frames that the status words of so many frames of version 2 take.
pub(crate) const fn status_frames(frames: u32) -> u32 {
    (frames * entries_per_frame(2)).div_ceil(STATUSES)
}

/// How often an entry is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// By processors, for reading.
    pub host_read: u32,
    /// By processors, for writing too.
    pub host_write: u32,
    /// By devices, for reading.
    pub device_read: u32,
    /// By devices, for writing too.
    pub device_write: u32,
}

impl Pins {
    /// One use by processors, by devices, or by both.
    pub(crate) const fn of(host: bool, device: bool, readonly: bool) -> Self {
        Self {
            host_read: (host && readonly) as u32,
            host_write: (host && !readonly) as u32,
            device_read: (device && readonly) as u32,
            device_write: (device && !readonly) as u32,
        }
    }

    /// All uses.
    pub(crate) const fn total(self) -> u32 {
        self.host_read + self.host_write + self.device_read + self.device_write
    }

    /// Uses for writing.
    pub(crate) const fn writers(self) -> u32 {
        self.host_write + self.device_write
    }

    /// Both together, if no number becomes too large.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let sum = |a: u32, b: u32| Some(a + b).filter(|sum| *sum <= MAX_PINS);
        Some(Self {
            host_read: sum(self.host_read, other.host_read)?,
            host_write: sum(self.host_write, other.host_write)?,
            device_read: sum(self.device_read, other.device_read)?,
            device_write: sum(self.device_write, other.device_write)?,
        })
    }

    /// What is left without the other.
    pub(crate) const fn minus(self, other: Self) -> Self {
        Self {
            host_read: self.host_read.saturating_sub(other.host_read),
            host_write: self.host_write.saturating_sub(other.host_write),
            device_read: self.device_read.saturating_sub(other.device_read),
            device_write: self.device_write.saturating_sub(other.device_write),
        }
    }
}

/// An entry that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    /// By whom.
    pub user: DomId,
    /// What it grants.
    pub mfn: Mfn,
    /// First byte that it grants.
    pub start: u32,
    /// Bytes that it grants.
    pub len: u32,
    /// It grants less than a page, or somebody else's page: no mapping of it can be made.
    pub partial: bool,
    /// The grant that it is based on: domain and reference. For a direct grant, its own.
    pub source: (DomId, u32),
    /// How often.
    pub pins: Pins,
}

/// A mapping that the domain has of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    /// Whose grant.
    pub granter: DomId,
    /// Which grant.
    pub reference: u32,
    /// Where processors find it, while they do.
    pub gfn: Option<Gfn>,
    /// Devices have it, too.
    pub device: bool,
    /// It was made for both.
    pub dual: bool,
    /// It is read-only.
    pub readonly: bool,
}

/// How often a frame is in use through grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Uses; each has a reference.
    pub uses: u32,
    /// Uses for writing.
    pub writers: u32,
}

/// Grant table and mappings of a domain.
#[derive(Debug)]
pub(crate) struct Grants {
    /// Version of the table; 0 while there is none.
    pub version: u32,
    /// Its frames.
    pub shared: Vec<Mfn>,
    /// Frames of the status words, in version 2.
    pub status: Vec<Mfn>,
    /// References to the table that calls hold while they are being carried out.
    pub users: u32,
    active: BTreeMap<u32, Active>,
    held: BTreeMap<u64, Held>,
    tracks: Vec<Option<Track>>,
}

impl Grants {
    /// There is no table.
    pub(crate) const fn new() -> Self {
        Self {
            version: 0,
            shared: Vec::new(),
            status: Vec::new(),
            users: 0,
            active: BTreeMap::new(),
            held: BTreeMap::new(),
            tracks: Vec::new(),
        }
    }

    /// A frame is part of the table.
    pub(crate) fn has_frame(&self, mfn: Mfn) -> bool {
        self.shared.contains(&mfn) || self.status.contains(&mfn)
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> u32 {
        if self.version == 0 { 0 } else { self.shared.len() as u32 * entries_per_frame(self.version) }
    }

    /// An entry that is in use.
    pub(crate) fn active(&self, reference: u32) -> Option<Active> {
        self.active.get(&reference).copied()
    }

    /// A domain uses a frame by one of the entries.
    pub(crate) fn is_used_by(&self, user: DomId, mfn: Mfn) -> bool {
        self.active.values().any(|active| active.user == user && active.mfn == mfn)
    }

    /// One of those entries that do not outlive a change of the version is in use.
    pub(crate) fn is_busy(&self) -> bool {
        self.active.keys().next_back().is_some_and(|last| *last >= grant::RESERVED_ENTRIES)
    }

    /// Another use of an entry. What it grants is kept from the first one on.
    pub(crate) fn pin(&mut self, reference: u32, entry: Active, pins: Pins) {
        let active = self.active.entry(reference).or_insert(Active { pins: Pins::default(), ..entry });
        active.pins = active.pins.plus(pins).unwrap_or(active.pins);
    }

    /// A use of an entry less. Returns the uses that are left.
    pub(crate) fn unpin(&mut self, reference: u32, pins: Pins) -> Pins {
        let Some(active) = self.active.get_mut(&reference) else { return Pins::default() };
        active.pins = active.pins.minus(pins);
        let left = active.pins;
        if left.total() == 0 {
            self.active.remove(&reference);
        }
        left
    }

    /// Notes uses of a frame of the domain.
    pub(crate) fn hold(&mut self, mfn: Mfn, pins: Pins) {
        let held = self.held.entry(mfn.0).or_default();
        held.uses += pins.total();
        held.writers += pins.writers();
    }

    /// Forgets uses of a frame of the domain.
    pub(crate) fn unhold(&mut self, mfn: Mfn, pins: Pins) {
        let Some(held) = self.held.get_mut(&mfn.0) else { return };
        held.uses = held.uses.saturating_sub(pins.total());
        held.writers = held.writers.saturating_sub(pins.writers());
        if held.uses == 0 {
            self.held.remove(&mfn.0);
        }
    }

    /// How often a frame of the domain is in use.
    pub(crate) fn held(&self, mfn: Mfn) -> Held {
        self.held.get(&mfn.0).copied().unwrap_or_default()
    }

    /// The mapping with that handle.
    pub(crate) fn track(&self, handle: u32) -> Option<Track> {
        *self.tracks.get(handle as usize)?
    }

    /// Lowest handle that is free.
    pub(crate) fn free_handle(&self) -> Option<u32> {
        let free = self.tracks.iter().position(Option::is_none).unwrap_or(self.tracks.len()) as u32;
        (free < MAX_HANDLES).then_some(free)
    }

    /// Changes what a handle stands for. It is in use, or the one that [`Self::free_handle`] named.
    pub(crate) fn set_track(&mut self, handle: u32, track: Option<Track>) {
        match self.tracks.get_mut(handle as usize) {
            Some(slot) => *slot = track,
            None => self.tracks.push(track),
        }
    }

    /// Handles in use.
    pub(crate) fn handles(&self) -> Vec<u32> {
        let used = self.tracks.iter().enumerate().filter(|(_, track)| track.is_some());
        used.map(|(handle, _)| handle as u32).collect()
    }
}
