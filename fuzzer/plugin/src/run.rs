// SPDX-License-Identifier: GPL-2.0-or-later
//! The life of the machine: snapshot, wait for the doorbell, reset, run, end.
//!
//! A run can be ended by a marker, by the watchdog, or by QEMU's own shutdown. Whoever changes [`Phase`] from `Running` to `Ending`
//! first has ended it, and queues [`end_run`]. That work item hands the result to the host, waits for the next
//! doorbell without the big lock, and resets the machine.
#![expect(unsafe_code, reason = "callbacks from and calls into QEMU")]

use core::ffi::{c_int, c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use coverage_hypercall::harness::{MARKER_LEN, Marker};
use hyperfuzz_control::{COMPARE, CONTINUE, Control, DATA_LEN, DATA_OFFSET, End, KEEP, SVM_GUEST, State};
use rustix::thread::futex;

use crate::api::Callback;
use crate::budget::{Account, Limits};
use crate::compare;
use crate::counter::{BLOCKS, PORT_ACCESSES};
use crate::cpu::{CpuState, Layout};
use crate::devices::Devices;
use crate::edges;
use crate::iommu::Iommu;
use crate::jumps::Jumps;
use crate::memory::{Memory, Restored};
use crate::path;
use crate::qemu::{Cpu, Qemu};
use crate::tables;
use crate::ticks::Ticks;
use crate::translate::{BEGINS_BLOCK, Callbacks, Observer, Spot};

mod foreign;
mod shutdown;
mod turns;

use foreign::Verdict;
use shutdown::state_changed;
use turns::{TablesPlace, guest_entered, guest_left, tables_due};

/// The plugin. Set once, before the machine exists.
static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// Period of the watchdog.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a block after which a halted machine is looked at: nothing can wake it, as its clock stands still.
const HALTED_TICKS: u32 = 2;

/// Ticks without a block after which a guest is looked at; see [`Account::look`].
const GUEST_TICKS: u32 = 100;

/// What the machine is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Phase {
    /// No snapshot yet.
    Boot,
    /// A program runs.
    Running,
    /// The end was noticed, and [`end_run`] is queued.
    Ending,
    /// The host has the machine.
    Waiting,
}

/// The machine at the snapshot.
struct Snapshot {
    cpu: CpuState,
    devices: Devices,
    /// Where the machine has one.
    iommu: Option<Iommu>,
    /// Where the clock may go on in a run.
    ticks: Option<Ticks>,
}

/// What only the vCPU's thread uses, and QEMU's main thread while the vCPU stands still.
#[derive(Default)]
struct Machine {
    memory: Option<Memory>,
    snapshot: Option<Snapshot>,
    /// Tables of jumps, if the form of QEMU's is known.
    jumps: Option<Jumps>,
    /// Devices may differ from the snapshot.
    devices_touched: bool,
    /// Where the hypervisor changes page tables.
    tables: Vec<&'static TablesPlace>,
    run_began: Option<Instant>,
}

// SAFETY: the pointers in it lead to objects of QEMU that live as long as the process and belong to no thread.
unsafe impl Send for Machine {}

/// Everything.
struct Plugin {
    qemu: Qemu,
    /// QEMU's version, as the host knows it.
    version: (u32, u32),
    control: &'static Control,
    layout: Layout,
    machine: Mutex<Machine>,
    phase: AtomicU32,
    /// An [`End`] that this run has reached, whatever else has asked for its end; [`End::Ready`] if none.
    reached: AtomicU32,
    account: Account,
    cpu: AtomicPtr<Cpu>,
    /// Guest-virtual address of the ready marker, if that can be executed once more; zero if not.
    marker: AtomicU64,
    /// How often it was.
    waits: AtomicU32,
}

/// The plugin; it exists before any callback is registered.
fn plugin() -> Option<&'static Plugin> {
    PLUGIN.get()
}

/// Installs the plugin and starts the watchdog.
///
/// # Errors
/// If the watchdog cannot be started.
pub(crate) fn install(
    qemu: Qemu,
    layout: Layout,
    control: &'static Control,
) -> Result<&'static dyn Observer, String> {
    let plugin = PLUGIN.get_or_init(|| Plugin {
        qemu,
        version: control.qemu_version(),
        control,
        layout,
        machine: Mutex::default(),
        phase: AtomicU32::new(Phase::Boot as u32),
        reached: AtomicU32::new(End::Ready as u32),
        account: Account::default(),
        cpu: AtomicPtr::new(ptr::null_mut()),
        marker: AtomicU64::new(0),
        waits: AtomicU32::new(0),
    });
    compare::prepare(control, &plugin.layout);
    std::thread::Builder::new()
        .name("hyperfuzz-watchdog".into())
        .spawn(move || plugin.watch())
        .map_err(|error| format!("cannot start the watchdog: {error}"))?;
    // SAFETY: the handler lives as long as the process and ignores its argument.
    unsafe { (qemu.on_state_change)(state_changed, ptr::null_mut()) };
    Ok(plugin)
}

impl Plugin {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A panic cannot leave the machine half changed: nothing in here panics.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::SeqCst);
    }

    /// Changes the phase, if it is `from`.
    fn advance(&self, from: Phase, to: Phase) -> bool {
        self.phase.compare_exchange(from as u32, to as u32, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Privilege level whose markers are honoured; see [`Layout::runs_at`].
    fn marker_ring(&self) -> u32 {
        self.control.marker_ring.load(Ordering::Relaxed)
    }

    /// True where the agent is in an SVM guest of such a hypervisor, whose machine has an IOMMU.
    fn in_foreign_guest(&self) -> bool {
        self.marker_ring() & SVM_GUEST != 0
    }

    /// Tells the host that the plugin cannot go on.
    fn fail(&self, text: &str) {
        self.control.set_error(text);
        wake(&self.control.answer);
    }

    /// A run that is over one of its limits ends here, in a callback of translated code.
    fn stop_over_limit(&self, cpu: *mut Cpu) {
        if self.request_end(cpu, End::Hang) || self.phase.load(Ordering::SeqCst) == Phase::Ending as u32 {
            // SAFETY: as in `ready_reached`.
            unsafe { (self.qemu.cpu_loop_exit)(cpu) };
        }
    }

    /// Ends the run, if it is still going on. For [`End::Hang`] the vCPU's thread looks first whether it has to end, and
    /// how.
    fn request_end(&self, cpu: *mut Cpu, end: End) -> bool {
        let ours = self.advance(Phase::Running, Phase::Ending);
        if ours {
            // SAFETY: the CPU is alive; any thread may queue work.
            unsafe { (self.qemu.async_run_on_cpu)(cpu, end_run, end as usize) };
        }
        ours
    }

    /// Takes the snapshot. On the vCPU's thread, between two blocks, with the big lock held.
    fn take_snapshot(&self, cpu: *mut Cpu) -> Result<(), String> {
        // From here on the clock of the machine stands still: the time-stamp counter is the same in each run, and
        // no timer ever fires.
        // SAFETY: the big lock is held.
        unsafe { (self.qemu.disable_ticks)() };
        let cpu_state = CpuState::save(&self.layout, cpu, self.marker_ring())?;
        // Not earlier: in the middle of a block registers need not be in memory.
        self.control.beacon.store(self.layout.rdi(cpu), Ordering::Relaxed);
        let iommu = if self.in_foreign_guest() { Some(Iommu::save()?) } else { None };
        let ticks = if self.foreign() { Some(Ticks::save()?) } else { None };
        let devices = Devices::save(&self.qemu)?;
        let mut machine = self.machine();
        let root = tables::root(cpu_state.cr3());
        let memory = machine.memory.as_mut().ok_or("the machine has no memory")?;
        memory.save(&self.qemu, root);
        if self.on_one_set_of_tables() {
            memory.use_lower(root);
        }
        // What the boot did to the devices is part of the snapshot.
        PORT_ACCESSES.store(0, Ordering::Relaxed);
        machine.snapshot = Some(Snapshot { cpu: cpu_state, devices, iommu, ticks });
        // Where no marker says whose turn it is, one table is for all.
        machine.jumps = if self.foreign() { None } else { Jumps::find(cpu) };
        Ok(())
    }

    /// Hands the machine to the host. On the vCPU's thread.
    fn post(&self, end: End) {
        let control = self.control;
        control.end.store(end as u32, Ordering::Relaxed);
        control.state.store(State::Waiting as u32, Ordering::Relaxed);
        let next = control.doorbell.load(Ordering::Relaxed).wrapping_add(1);
        control.answer.store(next, Ordering::Release);
        wake(&control.answer);
    }

    /// Waits for the next doorbell, without the big lock.
    fn wait(&self) {
        let control = self.control;
        let answer = control.answer.load(Ordering::Relaxed);
        // SAFETY: a work item runs with the big lock held; it may be given up in between, as QEMU's own do.
        unsafe { (self.qemu.unlock)() };
        loop {
            let doorbell = control.doorbell.load(Ordering::Acquire);
            if doorbell == answer {
                break;
            }
            // Any error (a signal, a changed value) leads to another look at the word.
            let _ = futex::wait(&control.doorbell, futex::Flags::empty(), doorbell, None);
        }
        // SAFETY: the lock was given up above, on this thread.
        unsafe { (self.qemu.lock)(c"hyperfuzz".as_ptr(), 0) };
    }

    /// Whether the host has set a flag for this run.
    fn flag(&self, flag: u32) -> bool {
        self.control.state_flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Brings the machine back to the snapshot, unless it goes on, and applies the pokes. On the vCPU's thread, big lock held.
    fn reset(&self, cpu: *mut Cpu) -> Result<(), String> {
        let began = Instant::now();
        let control = self.control;
        let mut machine = self.machine();
        let machine = &mut *machine;
        let memory = machine.memory.as_mut().ok_or("the machine has no memory")?;
        let snapshot = machine.snapshot.as_ref().ok_or("there is no snapshot")?;
        let mut restored = Restored::default();
        machine.devices_touched |= self.foreign() || PORT_ACCESSES.load(Ordering::Relaxed) != 0;
        if self.flag(CONTINUE) {
            // What changed stays changed, and in the bitmap of what the next reset brings back.
        } else {
            let root = tables::root(snapshot.cpu.cr3());
            let alike = snapshot.cpu.translates_alike(cpu);
            let same_tables = alike && self.layout.cr3(cpu) == snapshot.cpu.cr3();
            let alike = alike && memory.has_upper_of_snapshot(tables::root(self.layout.cr3(cpu)), root);
            restored = memory.restore(&self.qemu);
            let upper = alike && !restored.upper_changed;
            let devices = core::mem::take(&mut machine.devices_touched);
            if devices {
                // SAFETY: the big lock is held.
                unsafe { (self.qemu.disable_ticks)() };
                snapshot.devices.restore(&self.qemu)?;
                snapshot.iommu.iter().for_each(Iommu::restore);
                snapshot.ticks.iter().for_each(Ticks::restore);
                control.device_resets.fetch_add(1, Ordering::Relaxed);
            }
            snapshot.cpu.restore(&self.qemu, cpu);
            if let Some(jumps) = &mut machine.jumps {
                jumps.reset(cpu, !restored.lower_changed, upper);
            }
            let jumps = machine.jumps.as_ref();
            if self.on_one_set_of_tables() && same_tables && !restored.table_written {
                // All that QEMU knows is still true.
            } else if upper && !devices {
                tables::forget_lower(&self.qemu, cpu, self.version, jumps);
            } else {
                tables::forget_all(&self.qemu, cpu, jumps);
            }
        }
        self.apply_pokes(memory)?;
        edges::clear(control);
        compare::begin(control, cpu, self.foreign() && self.flag(COMPARE));
        path::clear(control);
        self.account.reset(self.in_foreign_guest());
        self.reached.store(End::Ready as u32, Ordering::Relaxed);
        PORT_ACCESSES.store(0, Ordering::Relaxed);
        let now = Instant::now();
        machine.run_began = Some(now);
        control.dirty_pages.store(u32::try_from(restored.pages).unwrap_or(u32::MAX), Ordering::Relaxed);
        control.reset_ns.store(nanoseconds(now - began), Ordering::Relaxed);
        control.state.store(State::Running as u32, Ordering::Relaxed);
        Ok(())
    }

    /// Applies what the host staged.
    fn apply_pokes(&self, memory: &mut Memory) -> Result<(), String> {
        let control = self.control;
        let count = control.poke_count.load(Ordering::Relaxed) as usize;
        for poke in control.pokes.iter().take(count) {
            let at = poke.ram_offset.load(Ordering::Relaxed);
            let (from, len) = (poke.data_offset.load(Ordering::Relaxed), poke.len.load(Ordering::Relaxed));
            let (from, len) = (from as usize, len as usize);
            let done = from.checked_add(len).is_some_and(|end| end <= DATA_LEN) && {
                let staged = ptr::from_ref(control).cast::<u8>().wrapping_add(DATA_OFFSET + from);
                // SAFETY: `control` is the start of a mapping of FILE_LEN bytes; the range lies in its data (checked above).
                unsafe { memory.poke(&self.qemu, at, staged, len) }
            };
            if !done {
                return Err(format!("a poke of {len} bytes at {at:#x} is outside of guest memory"));
            }
        }
        Ok(())
    }

    /// Asks for the end of runs that are over a limit or stand still. Never returns.
    fn watch(&self) {
        let (mut last, mut still) = (0, 0u32);
        loop {
            std::thread::sleep(TICK);
            let cpu = self.cpu.load(Ordering::Acquire);
            if self.phase.load(Ordering::SeqCst) != Phase::Running as u32 || cpu.is_null() {
                still = 0;
                continue;
            }
            self.control.in_guest.store(u32::from(self.account.in_guest()), Ordering::Relaxed);
            let blocks = BLOCKS.load(Ordering::Relaxed);
            still = if blocks == last { still + 1 } else { 0 };
            last = blocks;
            if self.suspicious(cpu, still, last) {
                // SAFETY: this thread does not hold the lock. While it is held no other run can begin, so the second look is at
                // the run that is ended.
                unsafe { (self.qemu.lock)(c"hyperfuzz".as_ptr(), 0) };
                if self.suspicious(cpu, still, last) {
                    self.request_end(cpu, End::Hang);
                    still = 0;
                }
                // SAFETY: taken above.
                unsafe { (self.qemu.unlock)() };
            }
        }
    }

    /// True where the run may have to be ended.
    fn suspicious(&self, cpu: *mut Cpu, still: u32, last: u64) -> bool {
        let stands = BLOCKS.load(Ordering::Relaxed) == last && still >= HALTED_TICKS;
        let idle = stands && still >= GUEST_TICKS && self.account.in_guest();
        idle || (stands && self.layout.halted(cpu)) || self.account.over(Limits::of(self.control)).is_some()
    }

    /// How a run ended for which `end` was asked; none if it goes on. On the vCPU's thread, between two blocks.
    ///
    /// When the watchdog looks depends on the host's load, so a run that is over a limit is judged by that, however it ended.
    fn judge(&self, cpu: *mut Cpu, end: End) -> Option<End> {
        let reached = match End::from_u32(self.reached.load(Ordering::Relaxed)) {
            None | Some(End::Ready) => end,
            Some(reached) => reached,
        };
        let over = self.account.over(Limits::of(self.control));
        if self.foreign() {
            match self.judge_foreign(cpu, over, reached) {
                Verdict::GoesOn => return None,
                Verdict::Ended(end) => return Some(end),
                Verdict::AsAlways => {}
            }
        }
        match over {
            Some(over) => Some(over),
            None if reached == End::Hang && self.layout.halted_for_ever(cpu) => {
                // The idle loop of a hypervisor waits for interrupts.
                let idle = self.foreign() && self.layout.takes_interrupts(cpu);
                Some(if idle { End::Idle } else { End::Hang })
            }
            None if reached == End::Hang => self.account.look().then_some(End::Runaway),
            None => Some(reached),
        }
    }
}

impl Observer for Plugin {
    fn translated(&self, host: *const u8) -> Option<usize> {
        let mut machine = self.machine();
        if machine.memory.is_none() {
            match Memory::find(&self.qemu, self.control.ram_size.load(Ordering::Relaxed)) {
                Ok(memory) => machine.memory = Some(memory),
                Err(error) => {
                    self.fail(&error);
                    return None;
                }
            }
        }
        let memory = machine.memory.as_mut()?;
        let offset = memory.offset_of(host)?;
        memory.note_code(offset);
        Some(offset)
    }

    fn control(&self) -> &'static Control {
        self.control
    }

    fn counts(&self) -> bool {
        true
    }

    fn tables(&self, offset: usize, behind: u64) -> Option<(Callback, *mut c_void)> {
        Some((tables_due, self.tables_argument(offset, behind)))
    }

    fn spot(&self, spot: Spot, address: u64) -> Option<Callback> {
        self.foreign_spot(spot, address)
    }

    fn blocks_gone(&self) {
        self.forget_jumps();
    }

    fn callbacks(&self) -> &'static Callbacks {
        &Callbacks { ready: ready_reached, end: end_reached, enter: guest_entered, leave: guest_left }
    }
}

/// Wakes the host.
fn wake(word: &AtomicU32) {
    // Nobody may be waiting; that is no error, and there is no other for a mapped word.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

/// A duration as the control page counts it.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The plugin and the CPU that executes a marker, if that is honoured at its privilege level.
fn marker_context(vcpu: c_uint) -> Option<(&'static Plugin, *mut Cpu)> {
    let plugin = plugin()?;
    // SAFETY: no precondition; the CPU exists, as it executes the marker.
    let cpu = unsafe { (plugin.qemu.get_cpu)(c_int::try_from(vcpu).ok()?) };
    (!cpu.is_null() && plugin.layout.runs_at(cpu, plugin.marker_ring())).then_some((plugin, cpu))
}

/// The plugin and the CPU that executes VMRUN or goes on behind it, or a marker that says the same, at this offset in guest memory, if
/// that is the hypervisor's.
fn switch_context(vcpu: c_uint, offset: u64) -> Option<(&'static Plugin, *mut Cpu)> {
    let plugin = plugin()?;
    if !plugin.foreign() {
        return marker_context(vcpu).filter(|_| plugin.control.in_text(offset));
    }
    // Places of its own were noted, and no markers.
    // SAFETY: as in `marker_context`.
    let cpu = unsafe { (plugin.qemu.get_cpu)(c_int::try_from(vcpu).ok()?) };
    (!cpu.is_null() && plugin.layout.runs_at(cpu, 0)).then_some((plugin, cpu))
}

/// Runs before each ready marker.
unsafe extern "C" fn ready_reached(vcpu: c_uint, argument: *mut c_void) {
    let Some((plugin, cpu)) = marker_context(vcpu) else { return };
    if !plugin.advance(Phase::Boot, Phase::Ending) {
        return;
    }
    plugin.cpu.store(cpu, Ordering::Release);
    // SAFETY: the CPU is alive.
    unsafe { (plugin.qemu.async_run_on_cpu)(cpu, end_run, End::Ready as usize) };
    // Registers are in memory only where a block begins. If that is here, the machine can be stopped exactly behind
    // the marker; otherwise the rest of the block is part of the boot.
    let argument = argument.addr();
    if argument & BEGINS_BLOCK != 0 {
        let marker = (argument as i64) >> 1;
        plugin.marker.store(marker.cast_unsigned(), Ordering::Relaxed);
        plugin.layout.set_rip(cpu, marker.cast_unsigned().wrapping_add(MARKER_LEN));
        // SAFETY: called from translated code of this CPU, without locks; the frames that are jumped over hold nothing
        // that would have to be dropped.
        unsafe { (plugin.qemu.cpu_loop_exit)(cpu) };
    }
}

/// Runs before each other marker.
unsafe extern "C" fn end_reached(vcpu: c_uint, argument: *mut c_void) {
    let argument = argument.addr();
    #[expect(clippy::cast_possible_truncation, reason = "the low byte is the marker")]
    let end = match Marker::from_u8(argument as u8) {
        Some(Marker::Done) => End::Done,
        Some(Marker::Idle) => End::Idle,
        Some(Marker::Crash) => End::Crash,
        Some(Marker::Ready | Marker::Enter | Marker::Leave | Marker::Tables) | None => return,
    };
    let Some((plugin, cpu)) = marker_context(vcpu) else { return };
    if !plugin.control.in_text((argument >> 8) as u64) {
        return;
    }
    plugin.reached.store(end as u32, Ordering::Relaxed);
    if end == End::Done && plugin.flag(KEEP) {
        // Registers are in memory only between blocks: the machine stops by itself before the next one, with everything in its
        // place, as work is waiting.
        plugin.request_end(cpu, end);
        return;
    }
    // If the watchdog was faster, its work item is next, and finds what was reached.
    if plugin.request_end(cpu, end) || plugin.phase.load(Ordering::SeqCst) == Phase::Ending as u32 {
        // SAFETY: as in `ready_reached`.
        unsafe { (plugin.qemu.cpu_loop_exit)(cpu) };
    }
}

/// Work item: a run has ended, or the snapshot is due.
unsafe extern "C" fn end_run(cpu: *mut Cpu, end: usize) {
    let Some(plugin) = plugin() else { return };
    let Some(end) = u32::try_from(end).ok().and_then(End::from_u32) else { return };
    let end = if end == End::Ready {
        if plugin.has_to_settle(cpu) {
            plugin.set_phase(Phase::Boot);
            return;
        }
        if let Err(error) = plugin.take_snapshot(cpu) {
            plugin.fail(&error);
            return;
        }
        end
    } else {
        // SAFETY: no precondition.
        if end != End::TripleFault && unsafe { (plugin.qemu.shutdown_requested)() } != 0 {
            // The machine shut down in the same moment: that is on its way here, and counts.
            plugin.set_phase(Phase::Running);
            return;
        }
        let Some(end) = plugin.judge(cpu, end) else {
            // The watchdog looked at an odd moment.
            plugin.set_phase(Phase::Running);
            return;
        };
        let control = plugin.control;
        let mut machine = plugin.machine();
        machine.devices_touched |= !matches!(end, End::Done | End::Idle);
        let ran = machine.run_began.map_or(0, |began| nanoseconds(began.elapsed()));
        drop(machine);
        control.blocks.store(plugin.account.blocks(Limits::of(control), end), Ordering::Relaxed);
        control.run_ns.store(ran, Ordering::Relaxed);
        end
    };
    plugin.set_phase(Phase::Waiting);
    plugin.post(end);
    plugin.wait();
    match plugin.reset(cpu) {
        Ok(()) => plugin.set_phase(Phase::Running),
        Err(error) => plugin.fail(&error),
    }
}
