//! Coverage in terms of source code: which lines and functions of the hypervisor stand behind the edges of a campaign.
//!
//! | module | task |
//! |---|---|
//! | `code` | the functions of an image, decoded as far as control flow is concerned |
//! | `flow` | what was executed besides the places that have counters |
//! | [`lines`] | lines and functions that belong to edges |
//! | [`path`] | functions that a path through the code entered |
//! | [`functions`] | functions that programs enter, by operation |
//! | [`sources`] | the hypervisor's source code, as it was built |
//! | [`lcov`] | export for genhtml and editors |

mod code;
mod flow;
pub mod functions;
pub mod lcov;
pub mod lines;
pub mod path;
pub mod sources;

pub use lines::{FileCoverage, FunctionCoverage, Map};
