//! The tests of this folder, for pv guests.

#[path = "main.rs"]
mod suite;

use suite::{common, machine_code};
