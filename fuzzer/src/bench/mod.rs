//! How well the fuzzer finds bugs: trials against planted bugs, for the fuzzer itself and for lesser ones on the same engine.
//!
//! [`mode`] says what is compared, [`plan`] which trials there are, [`trial`] runs one and [`run`] all of them over a directory
//! ([`store`]) that can be gone on with. The [`record`] of a trial says for each planted bug when its place was reached, when its
//! condition held, and when an oracle noticed ([`symptom`] attributes ends to bugs). [`survival`] and [`compare`] are the
//! statistics, [`summary`] applies them, and [`table`] and [`page`] show everything; [`gate`] makes a verdict of it.
//!
//! [`triage`] measures what comes after a detection: minimised programs, and buckets.
//!
//! Everything here looks at canaries, which a fuzzer must not see: nothing in here feeds back into a running trial.

pub mod compare;
pub mod gate;
pub mod mode;
pub mod page;
pub mod plan;
pub mod record;
mod recorder;
pub mod run;
pub mod store;
pub mod summary;
pub mod survival;
mod svg;
pub mod symptom;
pub mod table;
pub mod triage;
pub mod trial;
