//! What people read: findings, the table of operations, the live line.

pub mod finding;
pub mod live;
pub mod operations;
pub mod output;
