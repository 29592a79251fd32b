//! Coverage in terms of source code: which lines and functions of the hypervisor stand behind the edges of a campaign.
//!
//! | module | task |
//! |---|---|
//! | [`lines`] | lines and functions that belong to edges |
//! | [`sources`] | the hypervisor's source code, as it was built |
//! | [`lcov`] | export for genhtml and editors |

pub mod lcov;
pub mod lines;
pub mod sources;

pub use lines::{FileCoverage, FunctionCoverage, Map};
