//! Outputs: nothing that is copied to a guest was never initialised, and nothing of it is another domain's secret.
//!
//! What is not initialised is made recognisable: the buffers that outputs are put together in begin as [`Output`], filled with
//! a word that occurs nowhere else, as `-ftrivial-auto-var-init=pattern` of C compilers does it. Secrets are words of the same kind.

use crate::{address::Maddr, mem::Memory};
use coverage_hypercall::crash::CrashKind;
use xen_abi::DomId;

/// What the word of memory that was never initialised says.
const UNINITIALISED: u32 = 0xaaaa_5555;
/// What the word of domain 0's secret says; others are counted from it.
const SECRET: u32 = 0x5ec2_e700;
/// Most bytes that one look at guest memory takes.
const PIECE: usize = 8;

/// What a domain's secret says.
pub(crate) const fn secret(domain: DomId) -> u32 {
    SECRET.wrapping_add(domain as u32)
}

/// A buffer for an output, of whose bytes none is initialised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output<const N: usize> {
    bytes: [u8; N],
}

impl<const N: usize> Output<N> {
    /// A buffer as it lies on the stack.
    pub(crate) fn new(memory: &Memory) -> Self {
        let mut bytes = [0; N];
        if memory.watch.is_on() {
            memory.watch.tag.fill(&mut bytes, UNINITIALISED);
        }
        Self { bytes }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, to be initialised.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Memory {
    /// Looks at a piece of an output on its way to `to`.
    pub(crate) fn check_output(&self, caller: DomId, data: &[u8], to: Maddr) {
        if !self.watch.is_on() {
            return;
        }
        let mut from = 0;
        while let Some(found) = self.watch.tag.find(data, from) {
            for says in found.says.into_iter().flatten() {
                let verdict = match says {
                    UNINITIALISED => {
                        (CrashKind::Uninitialised, "memory that nobody initialised goes to a guest")
                    }
                    other if other.wrapping_sub(SECRET) < 0x100 && other != secret(caller) => {
                        (CrashKind::Isolation, "the secret of another domain goes to a guest")
                    }
                    _ => continue,
                };
                if !self.is_echo(data, found.at, to) {
                    self.machine.report(verdict.0, verdict.1);
                }
            }
            from = found.at + 4;
        }
    }

    /// The guest has the same bytes there already: it gave them, and gets them back.
    fn is_echo(&self, data: &[u8], at: usize, to: Maddr) -> bool {
        let start = at.saturating_sub(PIECE / 2);
        let new = &data[start..(at + PIECE).min(data.len())];
        let mut old = [0; PIECE + PIECE / 2];
        let old = &mut old[..new.len()];
        self.machine.read(Maddr(to.0 + start as u64), old);
        old == new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::MAX_DOMAINS;

    #[test]
    fn each_domain_has_its_own_word() {
        const { assert!(MAX_DOMAINS <= 0x100) };
        assert_ne!(secret(1), secret(2));
        assert_ne!(secret(0), UNINITIALISED);
    }
}
