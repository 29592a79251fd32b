//! The places that hold a bug, by what they belong to. Each is given the right answer and what the wrong one is made of.

mod domains;
mod events;
mod general;
mod grants;
mod memory;
mod time;
mod vcpu;
