//! What people read: findings and the list of them, the table of operations, the live line, the page about a campaign; and [`ci`], what
//! pipelines read.

pub mod ci;
pub mod finding;
pub mod findings;
pub mod interface;
pub mod live;
pub mod operations;
pub mod output;
pub mod page;
pub mod serve;
pub mod steps;
