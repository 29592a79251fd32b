//! What a reset costs by the pages that it brings back.
//!
//! Guests write one byte to each of many pages of their memory, by a few instructions of machine code. The time of the reset after
//! that is the plugin's own account. A line through the points gives a fixed part and a slope.

use coverage_hypercall::{
    channel::ARENA_GPA,
    program::{Group, Header, Insn, MAGIC, Source, Status, VERSION, agent_op},
};
use serde::Serialize;

use super::{MeasureError, median};
use crate::{
    engine::{Engine, Execution, Request, qemu::QemuEngine},
    target::Target,
};

/// First page that is written: behind the arena.
const FIRST: u64 = 0x240;
/// Pages that are written, beside those that every program writes to, and where so many can be had.
const WANTED: [u32; 9] = [0, 4, 16, 64, 128, 256, 512, 1024, 1344];
/// Resets of each, of which the middle one counts.
const RESETS: usize = 41;

/// Who can write to pages that nobody needs.
#[derive(Clone, Copy, Debug)]
pub struct Writers {
    /// Domains that write, in this order.
    domains: &'static [u16],
    /// Pages of each behind the first one.
    pages: u32,
}

impl Writers {
    /// Those of a target.
    #[must_use]
    pub fn of(target: Target) -> Self {
        if target.is_reference() {
            // Up to the end of a domain's memory.
            Self { domains: &[1, 2, 0], pages: 0x400 - FIRST as u32 }
        } else {
            // Up to the channel, which is the domain's own here. All domains are one.
            Self { domains: &[1], pages: 0x300 - FIRST as u32 }
        }
    }

    /// Pages in all.
    fn all(self) -> u32 {
        self.pages * self.domains.len() as u32
    }
}

/// One program's resets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Pages that came back.
    pub pages: u32,
    /// Microseconds, the middle of all resets.
    pub microseconds: f64,
}

/// The cost of resets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResetCost {
    /// Microseconds without any page: where the line begins.
    pub fixed_microseconds: f64,
    /// Microseconds for each further page.
    pub microseconds_per_page: f64,
    /// What the line goes through.
    pub points: Vec<Point>,
}

/// Machine code that writes a byte to each of `pages` pages.
fn code(pages: u32) -> Vec<u8> {
    // mov edi, FIRST << 12; mov ecx, pages; 1: mov byte [rdi], 1; add rdi, 4096; dec ecx; jnz 1b; ret
    let mut code = vec![0xbf];
    code.extend(((FIRST as u32) << 12).to_le_bytes());
    code.push(0xb9);
    code.extend(pages.to_le_bytes());
    code.extend([0xc6, 0x07, 0x01, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xf2, 0xc3]);
    code
}

fn put<T: serde::Serialize>(bytes: &mut Vec<u8>, value: &T) {
    bytes.extend(postcard::to_stdvec(value).expect("postcard writes plain structures to memory"));
}

/// A lowered program that writes to so many pages.
fn program(pages: u32, writers: Writers) -> Vec<u8> {
    let mut groups = Vec::new();
    let (mut left, mut calls) = (pages, 0);
    for &domain in writers.domains {
        let here = left.min(writers.pages);
        left -= here;
        if here == 0 && calls > 0 {
            break;
        }
        let mut insns = Vec::new();
        // Nothing to write: the loop would go round for ever.
        let code = if here == 0 { vec![0xc3] } else { code(here) };
        put(&mut insns, &Insn::Write { at: 0, bytes: &code });
        let [nothing @ .., _] = [Source::Const(0); 6];
        let mut args = [Source::Const(ARENA_GPA); 6];
        args[1..].copy_from_slice(&nothing);
        put(&mut insns, &Insn::Call { number: agent_op::EXEC, args });
        put(&mut groups, &Group { domain, vcpu: 0, len: u16::try_from(insns.len()).unwrap_or(0) });
        groups.extend(insns);
        calls += 1;
    }
    let mut bytes = Vec::new();
    put(&mut bytes, &Header { magic: MAGIC, version: VERSION, calls, repeat: 1 });
    bytes.extend(groups);
    bytes
}

/// The line with the least squares of relative distances: small resets count as much as large ones.
fn line(points: &[Point]) -> Option<(f64, f64)> {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for Point { pages, microseconds: y } in points {
        let x = f64::from(*pages);
        let weight = 1.0 / (y * y).max(1e-6);
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    let spread = w * wxx - wx * wx;
    if points.len() < 2 || spread <= 0.0 {
        return None;
    }
    let slope = (w * wxy - wx * wy) / spread;
    Some(((wy - slope * wx) / w, slope))
}

/// Finds out what resets cost.
///
/// # Errors
/// [`MeasureError`].
pub fn reset_cost(engine: &mut QemuEngine, writers: Writers) -> Result<ResetCost, MeasureError> {
    let mut execution = Execution::default();
    let mut points = Vec::new();
    for wanted in WANTED.into_iter().filter(|wanted| *wanted <= writers.all()) {
        let program = program(wanted, writers);
        let request = Request { program: &program, comparisons: false };
        let (mut times, mut pages) = (Vec::new(), 0);
        // What a reset costs is known after the execution behind it.
        for turn in 0..=RESETS {
            engine.execute(&request, &mut execution)?;
            let good = |status| matches!(status, Status::Returned(_));
            if execution.calls.is_empty() || !execution.calls.iter().all(|call| good(call.status)) {
                break;
            }
            if turn > 0 {
                let timing = engine.timing();
                times.push(timing.reset.as_secs_f64() * 1e6);
                pages = timing.dirty_pages;
            }
        }
        if times.len() == RESETS {
            points.push(Point { pages, microseconds: median(times) });
        }
    }
    let (fixed, slope) = line(&points).ok_or(MeasureError::Reset(points.len()))?;
    Ok(ResetCost { fixed_microseconds: fixed, microseconds_per_page: slope, points })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let point = |pages: u32| Point { pages, microseconds: 12.0 + 0.25 * f64::from(pages) };
        let (fixed, slope) = line(&[point(30), point(40), point(1000)]).unwrap();
        assert!((fixed - 12.0).abs() < 1e-6 && (slope - 0.25).abs() < 1e-9, "{fixed} {slope}");
        assert_eq!(line(&[point(1), point(1)]), None);
        assert_eq!(line(&[point(1)]), None);
    }

    #[test]
    fn domains_share_the_pages() {
        let writers = Writers::of(Target::ReferenceHvm);
        let calls = |pages| {
            let (header, _): (Header, _) =
                postcard::take_from_bytes(&program(pages, writers)).map(|(h, r)| (h, r.len())).unwrap();
            header.calls
        };
        assert_eq!((calls(0), calls(1), calls(writers.pages), calls(writers.pages + 1)), (1, 1, 1, 2));
        assert_eq!((writers.all(), calls(writers.all())), (1344, 3), "as many as are wanted at most");
    }
}
