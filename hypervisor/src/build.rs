//! Building domains from the bundle: memory, shared regions, the guest's image and its PVH start info.

use crate::{
    address::{Gfn, Gpa, Maddr, Mfn, PAGE_SIZE},
    bundle::{self, BundleError},
    config::{self, Config, ConfigError, DomainConfig},
    control::Control,
    domain::{Domain, WATCHDOGS},
    event::EventChannels,
    grant::Grants,
    hypervisor::{Hypervisor, Region},
    mem::{
        Memory,
        frames::Owner,
        p2m::{Kind, Mapping, P2m},
    },
    options::Mode,
    oracle::isolation::hide_secret,
    platform::Platform,
    pv,
    start::StartState,
    vcpu::Vcpu,
};
use alloc::{string::String, vec, vec::Vec};
use core::fmt;
use coverage_hypercall::coverage::DomainCoverage;
use elf::{ElfBytes, abi, endian::LittleEndian, note::Note};
use xen_abi::{
    DomId, elfnote,
    memory::{E820_RAM, E820_RESERVED, E820Entry},
    shared_info::SHARED_INFO_GPA,
    start_info::{
        MAGIC, MEMMAP_RAM, MEMMAP_RESERVED, MemmapEntry, SIF_INITDOMAIN, SIF_PRIVILEGED, StartInfo, VERSION,
    },
};
use zerocopy::IntoBytes;

/// Why the domains could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The boot module.
    Bundle(BundleError),
    /// The configuration is not UTF-8.
    Encoding,
    /// The configuration.
    Config(ConfigError),
    /// The guest's image is no little-endian ELF file, or damaged.
    Elf,
    /// The guest's image has no PVH entry note.
    NoEntry,
    /// The guest's image has no entry note for pv mode.
    NoPvEntry,
    /// A part of the guest's image lies outside the memory of the domain.
    DoesNotFit {
        /// Where that part begins.
        at: Gpa,
    },
    /// The machine has too little memory.
    OutOfMemory,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::Encoding => f.write_str("domains.conf is not UTF-8"),
            Self::Config(error) => error.fmt(f),
            Self::NoPvEntry => f.write_str("the guest's image has no pv entry note (Xen, type 1)"),
            Self::Elf => f.write_str("the guest's image is no valid little-endian ELF file"),
            Self::NoEntry => f.write_str("the guest's image has no PVH entry note (Xen, type 18)"),
            Self::DoesNotFit { at } => {
                write!(f, "the guest's image: the part at {:#x} does not fit into the domain's memory", at.0)
            }
            Self::OutOfMemory => f.write_str("the machine has too little memory for these domains"),
        }
    }
}

impl From<BundleError> for BuildError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

/// A part of an image.
struct Segment<'a> {
    at: Gpa,
    data: &'a [u8],
    /// Bytes that it takes in memory.
    len: u64,
    writable: bool,
}

/// What is to be loaded.
struct Image<'a> {
    entry: u32,
    /// Entry in pv mode; 0: none.
    pv_entry: u64,
    segments: Vec<Segment<'a>>,
}

impl<'a> Image<'a> {
    fn parse(file: &'a [u8]) -> Result<Self, BuildError> {
        let bad = |_| BuildError::Elf;
        let parsed = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(bad)?;
        let mut image = Self { entry: 0, pv_entry: 0, segments: Vec::new() };
        for header in parsed.segments().ok_or(BuildError::Elf)? {
            match header.p_type {
                abi::PT_LOAD => {
                    let data = parsed.segment_data(&header).map_err(bad)?;
                    image.segments.push(Segment {
                        at: Gpa(header.p_paddr),
                        data,
                        len: header.p_memsz,
                        writable: header.p_flags & abi::PF_W != 0,
                    });
                }
                abi::PT_NOTE => {
                    for note in parsed.segment_data_as_notes(&header).map_err(bad)? {
                        let Note::Unknown(note) = note else { continue };
                        if !elfnote::NAME.starts_with(note.name) {
                            continue;
                        }
                        if note.n_type == u64::from(elfnote::PHYS32_ENTRY)
                            && let Some(entry) = note.desc.first_chunk()
                        {
                            image.entry = u32::from_le_bytes(*entry);
                        }
                        if note.n_type == u64::from(elfnote::ENTRY)
                            && let Some(entry) = note.desc.first_chunk()
                        {
                            image.pv_entry = u64::from_le_bytes(*entry);
                        }
                    }
                }
                _ => {}
            }
        }
        if image.entry == 0 { Err(BuildError::NoEntry) } else { Ok(image) }
    }
}

/// Copies to guest-physical memory that is mapped.
fn load(memory: &mut Memory, p2m: &P2m, at: Gpa, data: &[u8]) -> Result<(), BuildError> {
    let mut done = 0;
    while done < data.len() {
        let to = Gpa(at.0.checked_add(done as u64).ok_or(BuildError::DoesNotFit { at })?);
        let len = (data.len() - done).min((PAGE_SIZE - to.offset()) as usize);
        let mapping = p2m.lookup(memory, to.frame()).ok_or(BuildError::DoesNotFit { at })?;
        memory.machine.write(Maddr(mapping.mfn.address().0 + to.offset()), &data[done..done + len]);
        done += len;
    }
    Ok(())
}

/// Takes the right to write to pages from a pv guest that lie in read-only parts of its image: in hvm mode its own page tables
/// do that.
fn protect(memory: &mut Memory, p2m: &mut P2m, segments: &[Segment<'_>]) -> Result<(), BuildError> {
    for segment in segments.iter().filter(|segment| !segment.writable) {
        let end = segment.at.0.saturating_add(segment.len);
        for gfn in segment.at.frame().0..end.div_ceil(PAGE_SIZE) {
            let mapping = p2m.lookup(memory, Gfn(gfn)).ok_or(BuildError::DoesNotFit { at: segment.at })?;
            let read_only = Mapping { writable: false, ..mapping };
            let old = p2m.set(memory, Gfn(gfn), read_only).map_err(|_| BuildError::OutOfMemory)?;
            if let Some(old) = old {
                memory.put(old.mfn);
            }
        }
    }
    Ok(())
}

impl Hypervisor {
    /// Builds all domains of the bundle: the files `domains.conf` and `agent.elf`.
    ///
    /// # Errors
    /// [`BuildError`]; the hypervisor is of no use then.
    pub fn build(&mut self, bundle: &[u8]) -> Result<(), BuildError> {
        let text = bundle::find(bundle, "domains.conf")?;
        let text = core::str::from_utf8(text).map_err(|_| BuildError::Encoding)?;
        let config = config::parse(text).map_err(BuildError::Config)?;
        let image = Image::parse(bundle::find(bundle, "agent.elf")?)?;
        if self.options.mode == Mode::Pv && image.pv_entry == 0 {
            return Err(BuildError::NoPvEntry);
        }
        for region in &config.shared {
            let pages = region.size / PAGE_SIZE;
            let first = self.memory.allocate_row(Owner::Region, pages, 1).ok_or(BuildError::OutOfMemory)?;
            self.regions.push(Region {
                name: region.name.clone(),
                first,
                len: region.size,
                owner: None,
                held: 0,
            });
        }
        let mut next: DomId = 1;
        for domain in &config.domains {
            let id = if domain.privileged { 0 } else { next };
            next += DomId::from(!domain.privileged);
            let built = self.build_domain(id, domain, &config, &image)?;
            self.domains.insert(built);
            for (region, place) in self.regions.iter_mut().zip(&config.shared) {
                if place.owner.as_ref().is_some_and(|owner| owner.domain == domain.name) {
                    (region.owner, region.held) = (Some(id), region.len / PAGE_SIZE);
                }
            }
        }
        self.memory.touched.clear();
        Ok(())
    }

    fn build_domain(
        &mut self,
        id: DomId,
        wanted: &DomainConfig,
        config: &Config,
        image: &Image<'_>,
    ) -> Result<Domain, BuildError> {
        let memory = &mut self.memory;
        let full = || BuildError::OutOfMemory;
        let mut p2m = P2m::new(memory, id).ok_or_else(full)?;
        p2m.make_room(wanted.pages());
        let shared_info = memory.allocate(Owner::Hypervisor).ok_or_else(full)?;
        for gfn in 0..wanted.pages() {
            let mfn = memory.allocate(Owner::Domain(id)).ok_or_else(full)?;
            p2m.set(memory, Gfn(gfn), Mapping::ram(mfn)).map_err(|_| BuildError::OutOfMemory)?;
            memory.set_gfn(mfn, Some(Gfn(gfn)));
            // Nothing looks at what building touches, and the log of a large domain would fill the heap.
            memory.touched.clear();
        }
        // The guest's image and its start info may lie over it; then there is less to be found.
        let secret = p2m.lookup(memory, Gfn(wanted.pages().saturating_sub(2))).ok_or_else(full)?.mfn;
        hide_secret(memory, id, secret);
        let mut memory_map = vec![E820Entry { addr: 0, size: wanted.memory, kind: E820_RAM }];
        for (region, place) in self.regions.iter().zip(&config.shared) {
            for share in place.shares().filter(|share| share.domain == wanted.name) {
                let first = region.first.0 + share.offset / PAGE_SIZE;
                for page in 0..share.size / PAGE_SIZE {
                    let mapping =
                        Mapping { mfn: Mfn(first + page), kind: Kind::Region, writable: share.writable };
                    let gfn = Gfn(share.gpa.frame().0 + page);
                    p2m.set(memory, gfn, mapping).map_err(|_| BuildError::OutOfMemory)?;
                    p2m.set_cache(memory, gfn, share.cache);
                }
                memory_map.push(E820Entry { addr: share.gpa.0, size: share.size, kind: E820_RESERVED });
            }
        }
        // The shared-info page waits outside of the domain's RAM: who maps it elsewhere, or not at all, makes no hole.
        let info = Mapping { mfn: shared_info, kind: Kind::SharedInfo, writable: true };
        let place = Gpa(SHARED_INFO_GPA).frame();
        p2m.set(memory, place, info).map_err(|_| BuildError::OutOfMemory)?;
        memory.set_gfn(shared_info, Some(place));
        memory_map.push(E820Entry { addr: SHARED_INFO_GPA, size: PAGE_SIZE, kind: E820_RESERVED });
        for hole in &wanted.holes {
            let mfn = memory.allocate(Owner::Hypervisor).ok_or_else(full)?;
            memory.machine.fill_page(mfn, 0xff);
            let mapping = Mapping { mfn, kind: Kind::Hole, writable: true };
            p2m.set(memory, hole.frame(), mapping).map_err(|_| BuildError::OutOfMemory)?;
        }
        for segment in &image.segments {
            load(memory, &p2m, segment.at, segment.data)?;
        }
        if memory.pv {
            protect(memory, &mut p2m, &image.segments)?;
        }
        let start_info = wanted.last_page().address();
        let (page, start) = if memory.pv {
            let page = pv::start_info_page(wanted);
            (page, StartState::pv(image.pv_entry, 0, start_info.0))
        } else {
            let page = start_info_page(start_info, &memory_map, wanted);
            (page, StartState::pvh(image.entry, start_info.0 as u32))
        };
        load(memory, &p2m, start_info, &page)?;
        let vcpus = (0..wanted.vcpus).map(|n| if n == 0 { Vcpu::first(start) } else { Vcpu::other() });
        Ok(Domain {
            id,
            name: wanted.name.clone(),
            p2m,
            pages: wanted.pages(),
            max_pages: wanted.max_pages(),
            claim: 0,
            control: Control::new(wanted.privileged, wanted.vcpus),
            platform: Platform::new(),
            vcpus: vcpus.collect(),
            events: EventChannels::new(),
            grants: Grants::new(),
            argo: crate::argo::Argo::new(),
            shared_info,
            may_cover: wanted.coverage,
            coverage: DomainCoverage::new(),
            secret,
            shutdown: None,
            shutdown_code: None,
            watchdogs: [0; WATCHDOGS],
            assists: 0,
            memory_map,
            console: Vec::new(),
        })
    }
}

/// What the start info says of a domain's rights.
pub(crate) const fn start_flags(wanted: &DomainConfig) -> u32 {
    match (wanted.privileged, wanted.initial) {
        (true, _) => SIF_PRIVILEGED | SIF_INITDOMAIN,
        (false, true) => SIF_INITDOMAIN,
        (false, false) => 0,
    }
}

/// The start info, its memory map and its command line, as they lie from `at` on. At most a page: the map has an entry
/// per shared region, and a command line that is too long is cut off.
fn start_info_page(at: Gpa, map: &[E820Entry], wanted: &DomainConfig) -> Vec<u8> {
    let map_at = at.0 + size_of::<StartInfo>() as u64;
    let text_at = map_at + (map.len() * size_of::<MemmapEntry>()) as u64;
    let start = StartInfo {
        magic: MAGIC,
        version: VERSION,
        flags: start_flags(wanted),
        cmdline_paddr: text_at,
        memmap_paddr: map_at,
        memmap_entries: map.len() as u32,
        ..StartInfo::default()
    };
    let mut page: Vec<u8> = start.as_bytes().to_vec();
    for entry in map {
        let kind = if entry.kind == E820_RAM { MEMMAP_RAM } else { MEMMAP_RESERVED };
        let entry = MemmapEntry { addr: entry.addr, size: entry.size, kind, reserved: 0 };
        page.extend_from_slice(entry.as_bytes());
    }
    let text: String = wanted.cmdline.chars().filter(char::is_ascii).collect();
    let room = (PAGE_SIZE as usize).saturating_sub(page.len() + 1);
    page.extend_from_slice(&text.as_bytes()[..text.len().min(room)]);
    page.push(0);
    page
}
