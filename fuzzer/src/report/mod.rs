//! What people read: findings, the table of operations, the live line.

pub mod finding;
pub mod interface;
pub mod live;
pub mod operations;
pub mod output;
