//! What people read: findings, the table of operations, the live line, the page about a campaign.

pub mod finding;
pub mod interface;
pub mod live;
pub mod operations;
pub mod output;
pub mod page;
pub mod serve;
