//! The coverage hypercall: how a guest sees which code of the hypervisor its calls ran.
//!
//! `hypercall(COVERAGE_OP, cmd, arg)`; the `README.md` of this crate is the contract in prose. [`handle`] is the
//! hypervisor's side up to the two traits that it must implement: [`Instrumentation`] (the counters) and
//! [`Caller`] (the vCPU that calls: its memory, its rights, its address space). It allocates nothing, does a bounded
//! amount of work per call and takes `dyn` arguments, so that all of its code lies in this crate and is instrumented
//! like the rest of the hypervisor: the coverage hypercall is fuzzed, too. [`crate::client`] is the guest's side.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Hypercall number: `__HYPERVISOR_arch_7` of Xen's `public/xen.h`, free on x86.
pub const COVERAGE_OP: u64 = 55;
/// Version of this interface; the first word of every structure.
pub const VERSION: u32 = 1;
/// Bytes of a page that [`cmd::MAP`] counts in.
pub const PAGE: u32 = 4096;
/// Most counters that one [`cmd::READ`] copies; the caller asks again for the rest.
pub const MAX_READ: u32 = 4096;
/// Most pages of one [`cmd::MAP`].
pub const MAX_MAP_PAGES: u32 = 64;
/// Most mappings that a domain can have at a time.
pub const MAX_WINDOWS: usize = 8;
/// vCPUs of one domain that can record.
pub const MAX_VCPUS: usize = 64;

/// Operations: the first argument.
pub mod cmd {
    /// Fills an [`super::Info`] at the address `arg`.
    pub const INFO: u64 = 0;
    /// Starts recording on the calling vCPU; `arg` is the address of an [`super::Enable`].
    pub const ENABLE: u64 = 1;
    /// Stops recording on the calling vCPU; `arg` is 0.
    pub const DISABLE: u64 = 2;
    /// Zeroes all counters and empties the comparison log; `arg` is 0.
    pub const RESET: u64 = 3;
    /// Copies counters out; `arg` is the address of a [`super::Read`]. Returns how many were copied.
    pub const READ: u64 = 4;
    /// Maps counters or comparison log read-only; `arg` is the address of a [`super::Map`].
    pub const MAP: u64 = 5;
    /// Takes a mapping away; `arg` is the address of an [`super::Unmap`].
    pub const UNMAP: u64 = 6;
    /// Gives the domain's right to this hypercall up, for good; `arg` is 0.
    pub const RELEASE: u64 = 7;
}

/// Status codes; a call returns them negated. The numbers are Xen's (`public/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Errno {
    /// The domain has no right to this hypercall, or gave it up.
    EPERM = 1,
    /// No such mapping.
    ENOENT = 2,
    /// More pages than one call maps.
    E2BIG = 7,
    /// No room for another mapping.
    EAGAIN = 11,
    /// A guest address that cannot be read or written.
    EFAULT = 14,
    /// The vCPU records already, or the frames are taken.
    EBUSY = 16,
    /// Arguments that are never right, or an operation that the vCPU's state does not allow.
    EINVAL = 22,
    /// No such operation (or no such hypercall).
    ENOSYS = 38,
    /// Right, but not on this hypervisor: a version or a feature that it lacks.
    EOPNOTSUPP = 95,
}

impl Errno {
    /// What the hypercall returns.
    pub const fn status(self) -> i64 {
        -(self as i64)
    }

    /// The code that a returned status stands for, if it is one of these.
    pub const fn from_status(status: i64) -> Option<Self> {
        Some(match status {
            -1 => Self::EPERM,
            -2 => Self::ENOENT,
            -7 => Self::E2BIG,
            -11 => Self::EAGAIN,
            -14 => Self::EFAULT,
            -16 => Self::EBUSY,
            -22 => Self::EINVAL,
            -38 => Self::ENOSYS,
            -95 => Self::EOPNOTSUPP,
            _ => return None,
        })
    }
}

/// A guest address that cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}

bitflags! {
    /// What can be recorded, and what a hypervisor promises about it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Edge counters, one byte each.
        const EDGES = 1 << 0;
        /// The comparison log.
        const COMPARISONS = 1 << 1;
        /// INFO only: edges are counted only while the hypervisor works for a vCPU that enabled them. Without it
        /// the counters hold what ran for anybody.
        const ATTRIBUTED = 1 << 2;
        /// INFO only: MAP works.
        const MAPPING = 1 << 3;
    }
}

impl Features {
    /// The features that a vCPU can switch on.
    pub const RECORDABLE: Self = Self::EDGES.union(Self::COMPARISONS);
}

/// What [`cmd::INFO`] answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Info {
    /// [`VERSION`] of the hypervisor.
    pub version: u32,
    /// [`Features`].
    pub features: u32,
    /// Edge counters, one byte each.
    pub counters: u32,
    /// Entries that the comparison log can hold ([`crate::harness::CmpEntry`]).
    pub comparison_capacity: u32,
    /// Pages that hold the counters.
    pub counter_pages: u32,
    /// Pages that hold the comparison log, its [`crate::harness::CmpHeader`] first.
    pub comparison_pages: u32,
    /// Identifies the build: coverage of two builds must not be mixed.
    pub build_id: [u8; 32],
}

/// Argument of [`cmd::ENABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Enable {
    /// [`VERSION`] that the guest speaks.
    pub version: u32,
    /// One or both of [`Features::RECORDABLE`].
    pub flags: u32,
}

/// Argument of [`cmd::READ`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Read {
    /// [`VERSION`] that the guest speaks.
    pub version: u32,
    /// First counter.
    pub offset: u32,
    /// Counters wanted.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// Where to put them.
    pub buffer: u64,
}

/// Argument of [`cmd::MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Map {
    /// [`VERSION`] that the guest speaks.
    pub version: u32,
    /// A [`Mapped`].
    pub what: u32,
    /// First page of it.
    pub first_page: u32,
    /// Pages, 1 to [`MAX_MAP_PAGES`].
    pub pages: u32,
    /// Guest frame where the first page appears.
    pub gfn: u64,
}

/// Argument of [`cmd::UNMAP`]: one whole mapping, as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Unmap {
    /// [`VERSION`] that the guest speaks.
    pub version: u32,
    /// Pages of the mapping.
    pub pages: u32,
    /// Guest frame of its first page.
    pub gfn: u64,
}

const _: () = assert!(size_of::<Info>() == 56);
const _: () = assert!(size_of::<Enable>() == 8);
const _: () = assert!(size_of::<Read>() == 24 && core::mem::offset_of!(Read, buffer) == 16);
const _: () = assert!(size_of::<Map>() == 24 && core::mem::offset_of!(Map, gfn) == 16);
const _: () = assert!(size_of::<Unmap>() == 16 && core::mem::offset_of!(Unmap, gfn) == 8);

/// What can be mapped. A `u32` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mapped {
    /// The edge counters.
    Counters = 0,
    /// The comparison log.
    Comparisons = 1,
}

impl Mapped {
    /// The thing with this number, if there is one.
    pub const fn from_u32(n: u32) -> Option<Self> {
        match n {
            0 => Some(Self::Counters),
            1 => Some(Self::Comparisons),
            _ => None,
        }
    }
}

/// The hypervisor's counters and comparison log.
///
/// All methods are called with whatever lock the hypervisor uses for them held; none may block.
pub trait Instrumentation {
    /// What this build can do. [`Features::EDGES`] is always part of it.
    fn features(&self) -> Features;
    /// Number of edge counters; constant.
    fn counters(&self) -> u32;
    /// Copies the counters `first..first + out.len()`. The range was checked against [`Self::counters`].
    fn read(&self, first: u32, out: &mut [u8]);
    /// Zeroes all counters and the count of the comparison log.
    fn reset(&mut self);
    /// Switches the comparison log on or off.
    fn set_comparisons(&mut self, on: bool);
    /// Switches the edge counters on or off. Mandatory for a hypervisor that reports [`Features::ATTRIBUTED`];
    /// counters that are inline increments cannot be switched, and do nothing here.
    fn set_edges(&mut self, on: bool) {
        let _ = on;
    }
    /// Entries that fit into the comparison log; 0 where there is none.
    fn comparison_capacity(&self) -> u32;
    /// Identifies the build.
    fn build_id(&self) -> [u8; 32];
    /// Whole pages that `what` takes; nothing else may lie in them. 0 where it cannot be mapped.
    fn pages(&self, what: Mapped) -> u32;
}

/// The vCPU that makes the call.
pub trait Caller {
    /// Its number in the domain.
    fn vcpu(&self) -> u32;
    /// Whether the domain was given the right to use coverage.
    fn permitted(&self) -> bool;
    /// Copies from guest-virtual memory, once.
    ///
    /// # Errors
    /// [`Fault`] if any byte cannot be read.
    fn copy_from_guest(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault>;
    /// Copies to guest-virtual memory.
    ///
    /// # Errors
    /// [`Fault`] if any byte cannot be written; part of the data may have been written then.
    fn copy_to_guest(&mut self, addr: u64, data: &[u8]) -> Result<(), Fault>;
    /// Maps a page of `what` read-only at an empty guest frame.
    ///
    /// # Errors
    /// [`Errno::EBUSY`] if the frame is not empty, [`Errno::EINVAL`] if it cannot exist.
    fn map(&mut self, what: Mapped, page: u32, gfn: u64) -> Result<(), Errno>;
    /// Removes that page from that guest frame, if it is still there: the guest has other ways to change
    /// its address space.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] if something else or nothing is mapped there.
    fn unmap(&mut self, what: Mapped, page: u32, gfn: u64) -> Result<(), Errno>;
    /// The domain gave its right up; [`Self::permitted`] answers no from here on.
    fn release(&mut self);
}

/// What a vCPU is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VcpuState {
    /// Nothing is recorded for it.
    #[default]
    Off,
    /// These (never none) are recorded for it.
    Recording(Features),
}

impl VcpuState {
    /// Off → Recording.
    ///
    /// # Errors
    /// [`Errno::EBUSY`] in any other state.
    pub fn enable(self, what: Features) -> Result<Self, Errno> {
        match self {
            Self::Off => Ok(Self::Recording(what)),
            Self::Recording(_) => Err(Errno::EBUSY),
        }
    }

    /// Recording → Off.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] in any other state.
    pub fn disable(self) -> Result<Self, Errno> {
        match self {
            Self::Recording(_) => Ok(Self::Off),
            Self::Off => Err(Errno::EINVAL),
        }
    }

    /// What is recorded.
    pub fn features(self) -> Features {
        match self {
            Self::Off => Features::empty(),
            Self::Recording(what) => what,
        }
    }
}

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    what: Mapped,
    first_page: u32,
    pages: u32,
    gfn: u64,
}

/// What the hypervisor keeps for each domain.
#[derive(Clone, Debug)]
pub struct DomainCoverage {
    released: bool,
    vcpus: [VcpuState; MAX_VCPUS],
    windows: [Option<Window>; MAX_WINDOWS],
}

impl Default for DomainCoverage {
    fn default() -> Self {
        Self::new()
    }
}

impl DomainCoverage {
    /// A domain that has not used coverage yet.
    pub const fn new() -> Self {
        Self { released: false, vcpus: [VcpuState::Off; MAX_VCPUS], windows: [None; MAX_WINDOWS] }
    }

    /// What a vCPU is doing; `Off` for one that does not exist.
    pub fn vcpu(&self, vcpu: u32) -> VcpuState {
        self.vcpus.get(vcpu as usize).copied().unwrap_or_default()
    }

    /// True once the domain gave its right up.
    pub fn released(&self) -> bool {
        self.released
    }

    /// Pages that are mapped, over all mappings.
    pub fn mapped_pages(&self) -> u32 {
        self.windows.iter().flatten().map(|w| w.pages).sum()
    }

    /// Stops a vCPU's recording, whatever it did: for a vCPU that is taken down or reset.
    pub fn stop(&mut self, vcpu: u32, instrumentation: &mut dyn Instrumentation) {
        if let Some(state) = self.vcpus.get_mut(vcpu as usize) {
            switch(*state, VcpuState::Off, instrumentation);
            *state = VcpuState::Off;
        }
    }
}

/// The hypervisor goes on to work for another vCPU (or for none: `Off`). To be called wherever the
/// running vCPU changes. Does nothing where both record the same, so a host that drives the instrumentation itself
/// is not disturbed while no guest uses this hypercall.
pub fn switch(from: VcpuState, to: VcpuState, instrumentation: &mut dyn Instrumentation) {
    let (from, to) = (from.features(), to.features());
    let changed = from ^ to;
    if changed.contains(Features::COMPARISONS) {
        instrumentation.set_comparisons(to.contains(Features::COMPARISONS));
    }
    if changed.contains(Features::EDGES) {
        instrumentation.set_edges(to.contains(Features::EDGES));
    }
}

/// Carries out one call. Returns what the guest finds in its result register: 0 or more, or a negated [`Errno`].
pub fn handle(
    state: &mut DomainCoverage,
    instrumentation: &mut dyn Instrumentation,
    caller: &mut dyn Caller,
    cmd: u64,
    arg: u64,
) -> i64 {
    match dispatch(state, instrumentation, caller, cmd, arg) {
        Ok(n) => i64::from(n),
        Err(e) => e.status(),
    }
}

fn dispatch(
    state: &mut DomainCoverage,
    instrumentation: &mut dyn Instrumentation,
    caller: &mut dyn Caller,
    cmd: u64,
    arg: u64,
) -> Result<u32, Errno> {
    if state.released || !caller.permitted() {
        return Err(Errno::EPERM);
    }
    match cmd {
        cmd::INFO => info(instrumentation, caller, arg),
        cmd::ENABLE => enable(state, instrumentation, caller, arg),
        cmd::DISABLE => no_argument(arg).and_then(|()| disable(state, instrumentation, caller)),
        cmd::RESET => no_argument(arg).and_then(|()| reset(state, instrumentation, caller)),
        cmd::READ => read(instrumentation, caller, arg),
        cmd::MAP => map(state, instrumentation, caller, arg),
        cmd::UNMAP => unmap(state, caller, arg),
        cmd::RELEASE => no_argument(arg).map(|()| release(state, instrumentation, caller)),
        _ => Err(Errno::ENOSYS),
    }
}

fn no_argument(arg: u64) -> Result<(), Errno> {
    if arg == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn check_version(version: u32) -> Result<(), Errno> {
    if version == VERSION { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn info(instrumentation: &dyn Instrumentation, caller: &mut dyn Caller, arg: u64) -> Result<u32, Errno> {
    let info = Info {
        version: VERSION,
        features: instrumentation.features().bits(),
        counters: instrumentation.counters(),
        comparison_capacity: instrumentation.comparison_capacity(),
        counter_pages: instrumentation.pages(Mapped::Counters),
        comparison_pages: instrumentation.pages(Mapped::Comparisons),
        build_id: instrumentation.build_id(),
    };
    caller.copy_to_guest(arg, info.as_bytes())?;
    Ok(0)
}

fn enable(
    state: &mut DomainCoverage,
    instrumentation: &mut dyn Instrumentation,
    caller: &mut dyn Caller,
    arg: u64,
) -> Result<u32, Errno> {
    let mut request = Enable { version: 0, flags: 0 };
    caller.copy_from_guest(arg, request.as_mut_bytes())?;
    check_version(request.version)?;
    let what = Features::from_bits(request.flags).ok_or(Errno::EINVAL)?;
    if what.is_empty() || !Features::RECORDABLE.contains(what) {
        return Err(Errno::EINVAL);
    }
    if !instrumentation.features().contains(what) {
        return Err(Errno::EOPNOTSUPP);
    }
    let vcpu = state.vcpus.get_mut(caller.vcpu() as usize).ok_or(Errno::EOPNOTSUPP)?;
    let next = vcpu.enable(what)?;
    switch(*vcpu, next, instrumentation);
    *vcpu = next;
    Ok(0)
}

fn disable(
    state: &mut DomainCoverage,
    instrumentation: &mut dyn Instrumentation,
    caller: &dyn Caller,
) -> Result<u32, Errno> {
    let vcpu = state.vcpus.get_mut(caller.vcpu() as usize).ok_or(Errno::EINVAL)?;
    let next = vcpu.disable()?;
    switch(*vcpu, next, instrumentation);
    *vcpu = next;
    Ok(0)
}

fn reset(
    state: &DomainCoverage,
    instrumentation: &mut dyn Instrumentation,
    caller: &dyn Caller,
) -> Result<u32, Errno> {
    match state.vcpu(caller.vcpu()) {
        VcpuState::Recording(_) => instrumentation.reset(),
        VcpuState::Off => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn read(instrumentation: &dyn Instrumentation, caller: &mut dyn Caller, arg: u64) -> Result<u32, Errno> {
    let mut request = Read { version: 0, offset: 0, count: 0, reserved: 0, buffer: 0 };
    caller.copy_from_guest(arg, request.as_mut_bytes())?;
    check_version(request.version)?;
    if request.reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let left = instrumentation.counters().checked_sub(request.offset).ok_or(Errno::EINVAL)?;
    let count = request.count.min(left).min(MAX_READ);
    let mut done = 0;
    let mut chunk = [0u8; 256];
    while done < count {
        let part = &mut chunk[..(count - done).min(256) as usize];
        instrumentation.read(request.offset + done, part);
        let to = request.buffer.checked_add(u64::from(done)).ok_or(Errno::EFAULT)?;
        caller.copy_to_guest(to, part)?;
        done += part.len() as u32;
    }
    Ok(count)
}

fn map(
    state: &mut DomainCoverage,
    instrumentation: &dyn Instrumentation,
    caller: &mut dyn Caller,
    arg: u64,
) -> Result<u32, Errno> {
    let mut request = Map { version: 0, what: 0, first_page: 0, pages: 0, gfn: 0 };
    caller.copy_from_guest(arg, request.as_mut_bytes())?;
    check_version(request.version)?;
    let Map { first_page, pages, gfn, .. } = request;
    let what = Mapped::from_u32(request.what).ok_or(Errno::EINVAL)?;
    if !instrumentation.features().contains(Features::MAPPING) {
        return Err(Errno::EOPNOTSUPP);
    }
    if pages > MAX_MAP_PAGES {
        return Err(Errno::E2BIG);
    }
    let end = first_page.checked_add(pages).ok_or(Errno::EINVAL)?;
    if pages == 0 || end > instrumentation.pages(what) || gfn.checked_add(u64::from(pages)).is_none() {
        return Err(Errno::EINVAL);
    }
    let free = state.windows.iter_mut().find(|w| w.is_none()).ok_or(Errno::EAGAIN)?;
    for n in 0..pages {
        if let Err(e) = caller.map(what, first_page + n, gfn + u64::from(n)) {
            // All or nothing. What was mapped a moment ago is still there: no guest ran in between.
            for n in 0..n {
                let _ = caller.unmap(what, first_page + n, gfn + u64::from(n));
            }
            return Err(e);
        }
    }
    *free = Some(Window { what, first_page, pages, gfn });
    Ok(0)
}

fn unmap(state: &mut DomainCoverage, caller: &mut dyn Caller, arg: u64) -> Result<u32, Errno> {
    let mut request = Unmap { version: 0, pages: 0, gfn: 0 };
    caller.copy_from_guest(arg, request.as_mut_bytes())?;
    check_version(request.version)?;
    let same = |w: &Window| w.gfn == request.gfn && w.pages == request.pages;
    let window = state.windows.iter_mut().find(|w| w.as_ref().is_some_and(same)).ok_or(Errno::ENOENT)?;
    if let Some(window) = window.take() {
        close(window, caller);
    }
    Ok(0)
}

/// Takes a mapping away, as far as the guest has not done so by other means.
fn close(window: Window, caller: &mut dyn Caller) {
    for n in 0..window.pages {
        let _ = caller.unmap(window.what, window.first_page + n, window.gfn + u64::from(n));
    }
}

fn release(
    state: &mut DomainCoverage,
    instrumentation: &mut dyn Instrumentation,
    caller: &mut dyn Caller,
) -> u32 {
    state.released = true;
    // Only the caller's recording is in force now; of the others it is enough to forget it.
    state.stop(caller.vcpu(), instrumentation);
    state.vcpus = [VcpuState::Off; MAX_VCPUS];
    for window in &mut state.windows {
        if let Some(window) = window.take() {
            close(window, caller);
        }
    }
    caller.release();
    0
}
