//! Many workers: one process that writes the campaign's directory, and a process with a machine for each core.
//!
//! ```text
//!   parent ([`lead`])  owns the directory, the terminal and the hub; starts, replaces and stops workers
//!     ├─ worker 0 ([`worker`])  a loop, an engine, a QEMU; sends what it finds, hears what others found
//!     ├─ worker 1
//!     └─ another machine's parent, over TCP
//! ```
//!
//! They exchange [`message`]s over LLMP ([`crate::feedback::exchange`]). The directory has one writer, so that everything that is
//! true of a campaign of one worker is true of one of many. Workers share nothing but messages: whichever is killed, the
//! others go on, and a new one hears from the hub everything that was found before it came.

mod crew;
pub mod lead;
pub mod message;
mod segments;
mod totals;
pub mod worker;
