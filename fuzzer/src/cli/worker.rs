//! `hyperfuzz worker`: what `fuzz --cores` starts for each processor. Its orders come on standard input.

use std::io::Read;

use anyhow::Context;

use super::{Exit, signals::stop_flag};
use crate::campaign::team::worker::{Orders, work};

/// Longest orders that are read, in bytes.
const MAX_ORDERS: u64 = 1 << 20;

pub(super) fn run() -> anyhow::Result<Exit> {
    let stop = stop_flag()?;
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_ORDERS).read_to_string(&mut text).context("cannot read the orders")?;
    let orders: Orders = serde_json::from_str(&text)
        .context("a worker is started by `hyperfuzz fuzz --cores`, which tells it what to do")?;
    work(&orders, &stop)?;
    Ok(Exit::Clean)
}
