//! What a program cannot know of the machine that it runs on.
//!
//! Programs have frame numbers and interface versions of their own, so that they are the same everywhere. In a pv domain of Xen
//! hypercalls take machine frames, and `domctl` and `sysctl` want the version of this very hypervisor: lowering translates, and
//! transcripts translate back.

use std::ops::Range;

use crate::interface::{GRANT_GFN, Kind, SHARED_GFN, TABLES_GFN, Versioned};

use super::model::FIRST_HOLE;

/// Tables of a domain that programs have numbers for: L4, L3, L2, and the L1 tables of the first and the second 2 MiB.
pub const TABLES: usize = 5;

/// What numbers of a program stand for. The default is that of hypervisors that take them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Machine frame of the domain's first page, behind which [`FIRST_HOLE`] pages follow in one piece. None where frame numbers
    /// are taken as they are.
    pub frame_base: Option<u64>,
    /// Machine frames of the domain's page tables; [`Self::UNKNOWN`] where they are not known.
    pub tables: [u64; TABLES],
    /// Machine frame of the first page of its grant table, likewise.
    pub grants: u64,
    /// Machine frame of its shared info, likewise.
    pub shared: u64,
    /// Version of `domctl` that the hypervisor speaks; 0: the one of the tables.
    pub domctl: u32,
    /// Version of `sysctl`, likewise.
    pub sysctl: u32,
}

impl Environment {
    /// No frame.
    pub const UNKNOWN: u64 = 0;

    /// Frames with numbers of their own: the program's number and the machine's.
    fn named(&self) -> impl Iterator<Item = (u64, u64)> {
        let tables = (TABLES_GFN..).zip(self.tables);
        let all = tables.chain([(GRANT_GFN, self.grants), (SHARED_GFN, self.shared)]);
        all.filter(|(_, machine)| *machine != Self::UNKNOWN)
    }

    /// Machine frames of the domain's first pages.
    fn piece(&self) -> Range<u64> {
        self.frame_base.map_or(0..0, |base| base..base.saturating_add(FIRST_HOLE))
    }

    /// The machine's number of a frame.
    fn machine(&self, frame: u64) -> u64 {
        let Some(base) = self.frame_base else { return frame };
        let named = self.named().find(|(own, _)| *own == frame);
        match named {
            Some((_, machine)) => machine,
            None if frame < FIRST_HOLE => base.wrapping_add(frame),
            None => frame,
        }
    }

    /// The program's number of a machine frame. Frames that it has none for keep the machine's.
    fn own(&self, machine: u64) -> u64 {
        let named = self.named().find(|(_, of)| *of == machine);
        match (named, self.frame_base) {
            (Some((own, _)), _) => own,
            (None, Some(base)) if self.piece().contains(&machine) => machine - base,
            _ => machine,
        }
    }

    /// What the hypervisor gets for a number of a program.
    pub(super) fn lowered(&self, kind: &Kind, value: u64) -> u64 {
        match kind {
            // An address that the processor translates.
            Kind::PageOf(_) => value,
            Kind::Version(of) if value == u64::from(Versioned::USUAL) => match self.version(*of) {
                0 => value,
                version => u64::from(version),
            },
            _ => kind.frame_in(value).map_or(value, |frame| kind.with_frame(value, self.machine(frame))),
        }
    }

    /// The number of a program for what the hypervisor has or gave.
    pub(super) fn shown(&self, kind: &Kind, value: u64) -> u64 {
        match kind {
            Kind::PageOf(_) => value,
            Kind::Version(of) if value != 0 && value == u64::from(self.version(*of)) => {
                u64::from(Versioned::USUAL)
            }
            _ => kind.frame_in(value).map_or(value, |frame| kind.with_frame(value, self.own(frame))),
        }
    }

    fn version(&self, of: Versioned) -> u32 {
        match of {
            Versioned::Domctl => self.domctl,
            Versioned::Sysctl => self.sysctl,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{lower, text, transcript};

    const XEN: Environment = Environment {
        frame_base: Some(0x7000),
        tables: [0x7342, 0x7345, 0x7344, 0x7343, 0x7346],
        grants: 0x1234,
        shared: 0x1235,
        domctl: 0x17,
        sysctl: 0x16,
    };

    #[test]
    fn numbers_go_there_and_back() {
        let pte = Kind::Pte(&[]);
        for (kind, own, machine) in [
            (Kind::Frame, 0x280, 0x7280),
            (Kind::Frame, TABLES_GFN + 1, 0x7345),
            (Kind::Frame, GRANT_GFN, 0x1234),
            (Kind::Frame, 0x5000, 0x5000),
            (Kind::Hole, 0x280, 0x280),
            (Kind::TableEntry(2), (TABLES_GFN << 12) | 0x402, 0x734_2402),
            (pte, 1 << 63 | 0x28_0067, 1 << 63 | 0x728_0067),
            (pte, SHARED_GFN << 12 | 0x67, 0x123_5067),
            (Kind::GrantEntry, 0x280 << 32 | 1, 0x7280 << 32 | 1),
            (Kind::PageOf("x"), 0x28_0000, 0x28_0000),
            (Kind::Version(Versioned::Domctl), u64::from(Versioned::USUAL), 0x17),
            (Kind::Version(Versioned::Sysctl), u64::from(Versioned::USUAL), 0x16),
            (Kind::Version(Versioned::Sysctl), 9, 9),
        ] {
            assert_eq!(XEN.lowered(&kind, own), machine, "{kind:?} {own:#x}");
            assert_eq!(XEN.shown(&kind, machine), own, "{kind:?} {machine:#x}");
            assert_eq!(Environment::default().lowered(&kind, own), own, "{kind:?} {own:#x}");
        }
        // What goes beyond all numbers goes nowhere.
        assert_eq!(XEN.lowered(&Kind::Frame, u64::MAX), u64::MAX);
        assert_eq!(XEN.lowered(&Kind::Pte(&[]), u64::MAX), u64::MAX);
    }

    #[test]
    fn lowering_translates_what_the_tables_call_a_frame() {
        let program = text::parse(
            "d0 update_va_mapping.protect(0x280000, 0x280065, invlpg_local)\n\
             d0 mmuext_op.pin_l1_table(&[{cmd: 0, table: 0x280}], 1, null, self)\n\
             d0 domctl.pausedomain(&{domain: 7})\n",
        )
        .expect("parses");
        let plain = lower::lower(&program, 1).expect("lowers");
        let there = lower::lower_in(&program, 1, &XEN).expect("lowers");
        assert_eq!(lower::lower_in(&program, 1, &Environment::default()).expect("lowers"), plain);
        assert_ne!(plain.bytes, there.bytes);
        let said = transcript::render(&program, &there, &[]);
        assert!(said.contains("0x280065"), "{said}");
    }
}
