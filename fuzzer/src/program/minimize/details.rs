//! Finer steps than whole values: results that are used together, flags, runs of bytes, a multicall of one.

use super::Search;
use crate::{
    interface::{Kind, Type},
    program::{
        model::{Call, Program, Value},
        walk,
    },
};

/// Runs of bytes that a buffer is cut into, at most: more would cost more than they show.
const FINEST: usize = 32;

impl Search<'_> {
    /// Makes constants of all that a call gives, at once: an address and the handle that goes with it hold each other.
    pub(super) fn results(&mut self) {
        for giver in 0..self.best.calls.len() {
            for plainest in [true, false] {
                let mut candidate = self.best.clone();
                let mut users = 0;
                walk::each(&mut candidate, &|_, _| true, &mut |_, _, site, value| {
                    let Value::Result(reference) = *value else { return };
                    if usize::from(reference.call) == giver {
                        users += 1;
                        *value =
                            if plainest { Value::plainest(site.ty) } else { Value::Int(reference.otherwise) };
                    }
                });
                // A single one is dealt with as any value is.
                if users < 2 || self.offer(candidate) {
                    break;
                }
            }
        }
    }

    /// Issues the only entry of a multicall as a call.
    pub(super) fn unwrap(&mut self) {
        for index in 0..self.best.calls.len() {
            let outer = &self.best.calls[index];
            let [Value::Entry(entry)] = outer.entries() else { continue };
            let inner = Call { op: entry.op, args: entry.args.clone(), ..*outer };
            let mut candidate = self.best.clone();
            candidate.calls[index] = inner;
            for call in candidate.calls.iter_mut().skip(index + 1) {
                walk::values_mut(call.op, &mut call.args, &mut |_, value| {
                    let Value::Result(reference) = value else { return };
                    if usize::from(reference.call) == index {
                        match reference.entry {
                            Some(_) => reference.entry = None,
                            None => *value = Value::Int(reference.otherwise),
                        }
                    }
                });
            }
            self.offer(candidate);
        }
    }

    /// Clears flags one by one, and zeroes bytes by ever shorter runs.
    pub(super) fn parts(&mut self) {
        let mut at = 0;
        while let Some((site, value)) = nth(&self.best, at) {
            match (site.ty, value) {
                (Type::Int { kind: Kind::Flags(_) | Kind::UsualFlags(..), .. }, Value::Int(flags)) => {
                    for bit in (0..u64::BITS).filter(|bit| flags >> bit & 1 == 1) {
                        self.change(at, &mut |value| {
                            if let Value::Int(number) = value {
                                *number &= !(1 << bit);
                            }
                        });
                    }
                }
                (_, Value::Bytes(bytes)) => self.zero_runs(at, bytes.len()),
                _ => {}
            }
            at += 1;
        }
    }

    fn zero_runs(&mut self, at: usize, len: usize) {
        let shortest = (len / FINEST).max(1);
        let mut run = len.div_ceil(2);
        while run >= shortest && self.left > 0 {
            for start in (0..len).step_by(run) {
                self.change(at, &mut |value| {
                    if let Value::Bytes(bytes) = value {
                        let end = (start + run).min(bytes.len());
                        bytes[start..end].fill(0);
                    }
                });
            }
            run /= 2;
        }
    }

    /// Offers the program with one of its values changed.
    fn change(&mut self, at: usize, change: &mut dyn FnMut(&mut Value)) {
        let mut candidate = self.best.clone();
        walk::each(&mut candidate, &|_, _| true, &mut |index, _, _, value| {
            if index == at {
                change(value);
            }
        });
        self.offer(candidate);
    }
}

/// A value by its number, and where it stands.
fn nth(program: &Program, at: usize) -> Option<(walk::Site, Value)> {
    let mut found = None;
    walk::each(&mut program.clone(), &|_, _| true, &mut |index, _, site, value| {
        if index == at {
            found = Some((site, value.clone()));
        }
    });
    found
}
