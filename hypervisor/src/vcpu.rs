//! A virtual processor and what belongs to it.

use crate::{
    areas::Areas,
    hypervisor::{GuestContext, PagingMode},
    pv::Pv,
    runstate::Runstate,
    start::StartState,
    timer::Timers,
};
use alloc::vec::Vec;

/// What a vCPU is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Runs, or goes on as soon as it is chosen.
    Runnable,
    /// Waits in a harness call until it is chosen.
    Parked,
    /// Waits for any event.
    Blocked,
    /// Waits for an event on one of the ports of its poll.
    Polling,
    /// Its domain has ended.
    Dead,
}

/// A virtual processor.
#[derive(Clone, Debug)]
pub(crate) struct Vcpu {
    /// What it is doing while it is up.
    pub state: State,
    /// It may not run, whatever it is doing.
    pub down: bool,
    /// The state in which it begins; none before it is initialised.
    pub start: Option<StartState>,
    /// What its hypercall returns once it goes on.
    pub resume: Option<i64>,
    /// Ports of its poll.
    pub poll: Vec<u32>,
    /// It said that it is ready.
    pub ready: bool,
    /// How its addresses were translated when it last had the processor.
    pub context: GuestContext,
    /// An NMI is to be raised when it goes on.
    pub nmi: bool,
    /// What it did with its time.
    pub runstate: Runstate,
    /// Its timers.
    pub timers: Timers,
    /// What is kept up to date for it in the guest's memory.
    pub areas: Areas,
    /// What it has in pv mode only.
    pub pv: Pv,
}

impl Vcpu {
    /// The first vCPU of a domain, which begins at once.
    pub(crate) fn first(start: StartState) -> Self {
        Self { start: Some(start), down: false, context: start.context(), ..Self::other() }
    }

    /// Another vCPU, which somebody has to initialise.
    pub(crate) fn other() -> Self {
        Self {
            state: State::Runnable,
            down: true,
            start: None,
            resume: None,
            poll: Vec::new(),
            ready: false,
            context: GuestContext { cr3: 0, cpl: 0, paging: PagingMode::Other },
            nmi: false,
            runstate: Runstate::new(),
            timers: Timers::default(),
            areas: Areas::default(),
            pv: Pv::new(),
        }
    }

    /// It can be chosen to run.
    pub(crate) fn can_run(&self) -> bool {
        !self.down && matches!(self.state, State::Runnable | State::Parked)
    }

    /// It goes on by itself as soon as the processor is free.
    pub(crate) fn is_runnable(&self) -> bool {
        !self.down && self.state == State::Runnable
    }

    /// It waits, and can be woken.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Blocked | State::Polling)
    }
}
