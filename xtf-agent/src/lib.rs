//! The agent: runs hypercall programs inside a guest.
//!
//! The library is the logic, over the trait [`Platform`]: it builds and is tested on the host. The binary
//! `xtf-agent-image` (feature `image`) is that logic with an entry point, page tables and exception handlers.
//!
//! | module | what |
//! |---|---|
//! | [`agent`] | from READY to DONE: takes the program, walks its groups, hands over to other domains |
//! | [`group`] | carries out one group: arena, call, captures |
//! | [`grant`] | writes entries of the domain's grant table |
//! | [`channel`] | typed access to the channel's header and rings |
//!
//! The channel can be overwritten at any time, by the host, by other domains and by the program itself, whose
//! pointers may lead anywhere. So the request is copied once and validated in private memory, and every number that
//! is read from the channel is checked each time. Whatever is found there, the agent ends the program properly.
#![no_std]
#![forbid(unsafe_code)]

pub mod agent;
pub mod channel;
pub mod grant;
pub mod group;

pub use agent::{Agent, Stop};

/// An exception that ended a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// Vector, as in the Intel SDM volume 3, table 6-1.
    pub vector: u8,
    /// Error code, zero where the vector has none.
    pub error: u32,
    /// Guest-virtual address of the instruction.
    pub rip: u64,
    /// CR2 where the vector is 14, else zero.
    pub address: u64,
}

/// What the agent carries out itself ([`coverage_hypercall::program::agent_op`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described where its number is defined")]
pub enum Operation {
    Read,
    Write,
    Ud2,
    Rdmsr,
    Wrmsr,
    Cpuid,
    Inb,
    Outb,
    Exec,
}

impl Operation {
    /// The operation with this call number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        use coverage_hypercall::program::agent_op;
        Some(match number {
            agent_op::READ => Self::Read,
            agent_op::WRITE => Self::Write,
            agent_op::UD2 => Self::Ud2,
            agent_op::RDMSR => Self::Rdmsr,
            agent_op::WRMSR => Self::Wrmsr,
            agent_op::CPUID => Self::Cpuid,
            agent_op::INB => Self::Inb,
            agent_op::OUTB => Self::Outb,
            agent_op::EXEC => Self::Exec,
            _ => return None,
        })
    }
}

/// What the logic needs of the machine that it runs on.
///
/// Offsets and lengths were checked by the caller: they lie within [`coverage_hypercall::channel::CHANNEL_LEN`]
/// or [`coverage_hypercall::channel::ARENA_LEN`].
pub trait Platform {
    /// Copies out of the channel.
    fn channel_read(&self, at: usize, out: &mut [u8]);
    /// Copies into the channel.
    fn channel_write(&mut self, at: usize, data: &[u8]);
    /// Copies out of the arena.
    fn arena_read(&self, at: u32, out: &mut [u8]);
    /// Copies into the arena.
    fn arena_write(&mut self, at: u32, data: &[u8]);
    /// Fills a part of the arena.
    fn arena_fill(&mut self, at: u32, len: u32, byte: u8);
    /// Makes a hypercall.
    ///
    /// # Errors
    /// The exception that it raised in the guest.
    fn hypercall(&mut self, number: u64, args: &[u64; 6]) -> Result<i64, Exception>;
    /// Carries out an operation.
    ///
    /// # Errors
    /// The exception that it raised.
    fn operate(&mut self, operation: Operation, args: &[u64; 6]) -> Result<i64, Exception>;
}
