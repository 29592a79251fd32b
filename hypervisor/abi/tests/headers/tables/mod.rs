//! What each item of the crate is called in C, by module of the crate.

mod argo;
mod base;
mod control;
mod event;
mod grant;
mod guests;
mod memory;
mod sched;
mod vcpu;

use crate::table::Table;

/// Everything.
pub(crate) fn all() -> Table {
    let mut table = Table::default();
    base::add(&mut table);
    argo::add(&mut table);
    event::add(&mut table);
    memory::add(&mut table);
    sched::add(&mut table);
    control::add(&mut table);
    grant::add(&mut table);
    guests::add(&mut table);
    vcpu::add(&mut table);
    table
}
