//! Time on the wall and time of the processor, of this process and a QEMU.

use std::{
    fs,
    ops::{Div, Sub},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds of processor time of this process.
    pub host: f64,
    /// Seconds of processor time of QEMU.
    pub qemu: f64,
}

impl Cost {
    /// Seconds of processor time of both, who share one core.
    #[must_use]
    pub fn processor(self) -> f64 {
        self.host + self.qemu
    }
}

impl Div<f64> for Cost {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { wall: self.wall / by, host: self.host / by, qemu: self.qemu / by }
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { wall: self.wall - other.wall, host: self.host - other.host, qemu: self.qemu - other.qemu }
    }
}

/// Ticks in a second of the kernel's accounts (`USER_HZ`), which is the same on all x86-64.
const TICKS: f64 = 100.0;

/// Processor time of this process, in seconds.
fn own() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of all threads of another process, in seconds (proc(5), `schedstat`: the first number, in nanoseconds).
fn threads(process: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return 0.0 };
    let spent = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    spent.sum::<u64>() as f64 / 1e9
}

/// Processor time of children that have ended, in seconds (proc(5), `stat`: fields 16 and 17).
fn ended_children() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0.0 };
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    fields.skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// A clock that runs.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    host: f64,
    qemu: f64,
}

impl Clock {
    /// Starts it. Without a process, QEMU's time is that of children which end before the clock stops.
    #[must_use]
    pub fn start(qemu: Option<u32>) -> Self {
        Self { began: Instant::now(), host: own(), qemu: qemu.map_or_else(ended_children, threads) }
    }

    /// Time on the wall so far.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.began.elapsed()
    }

    /// What was used since the start.
    #[must_use]
    pub fn stop(&self, qemu: Option<u32>) -> Cost {
        let spent = qemu.map_or_else(ended_children, threads) - self.qemu;
        Cost { wall: self.wall().as_secs_f64(), host: own() - self.host, qemu: spent.max(0.0) }
    }
}

/// Bytes of memory that a process has, shared ones included (proc(5), `VmRSS`).
#[must_use]
pub fn memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_this_process_like_another() {
        let me = std::process::id();
        let clock = Clock::start(Some(me));
        let mut sum = 0u64;
        // Until the account of threads has moved, however coarse it is.
        while clock.stop(Some(me)).qemu < 0.02 {
            sum = (0..10_000u64).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
        }
        let cost = clock.stop(Some(me));
        assert!(cost.host > 0.0 && cost.wall > 0.0, "{cost:?}");
        assert!(memory(me).is_some_and(|bytes| bytes > 1 << 20));
    }
}
