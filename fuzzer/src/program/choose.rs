//! Which operation comes next: shares of families, what a program is about, and what goes with the calls that are there.
//!
//! Ten operations out of all have little to say to each other. Defects that need a history need several calls about one
//! thing, so fresh programs are mostly made from a few families, and a call that joins a program mostly goes with one
//! that is in it.

use coverage_hypercall::program::AGENT_OPS;
use rand::Rng;

use super::model::{Call, Value};
use crate::interface::{Interface, Kind, Operation, Resource, Type};

/// Families that a program is made from, a bit for each position in [`Interface::families`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Theme(u64);

impl Theme {
    /// Every family.
    pub(super) const ALL: Self = Self(u64::MAX);

    /// Mostly one to four families, chosen by their shares; sometimes all.
    pub(super) fn random<R: Rng + ?Sized>(rng: &mut R, interface: &Interface) -> Self {
        if rng.random_bool(0.3) {
            return Self::ALL;
        }
        let mut theme = Self(0);
        for _ in 0..rng.random_range(1..=4) {
            if let Some(at) = family(rng, interface, Self::ALL, true) {
                theme.0 |= 1 << at;
            }
        }
        theme
    }

    fn has(self, family: usize) -> bool {
        self.0 >> family & 1 == 1
    }
}

/// An operation out of those of a theme. Without `agent`, only hypercalls.
pub(super) fn pick<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    theme: Theme,
    agent: bool,
) -> Option<&'static Operation> {
    let at = family(rng, interface, theme, agent)?;
    Some(weighted(rng, &interface.families()[at].2))
}

/// An operation that goes with one of the calls of a program, every other time: it takes what the call gives, or is of its family.
/// Otherwise any.
pub(super) fn fitting<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    calls: &[Call],
) -> Option<&'static Operation> {
    if calls.is_empty() || rng.random() {
        return pick(rng, interface, Theme::ALL, true);
    }
    let call = &calls[rng.random_range(0..calls.len())];
    let beside = within(rng, call);
    if !beside.results.is_empty() && rng.random() {
        let given = beside.results[rng.random_range(0..beside.results.len())].kind;
        let takers: Vec<_> =
            interface.operations().iter().copied().filter(|op| about(op) == Some(given)).collect();
        if !takers.is_empty() {
            return Some(takers[rng.random_range(0..takers.len())]);
        }
    }
    let family = interface.families().iter().find(|(name, ..)| *name == beside.family());
    family.map(|(_, _, list)| weighted(rng, list)).or_else(|| pick(rng, interface, Theme::ALL, true))
}

/// The operation of a call, or of one of its entries if it has some.
fn within<R: Rng + ?Sized>(rng: &mut R, call: &Call) -> &'static Operation {
    let entries = call.args.iter().find_map(|value| match value {
        Value::Pointer(pointer) => match pointer.to.as_deref() {
            Some(Value::Array(items)) if matches!(items.first(), Some(Value::Entry(_))) => Some(items),
            _ => None,
        },
        _ => None,
    });
    match entries.map(|items| &items[rng.random_range(0..items.len())]) {
        Some(Value::Entry(entry)) => entry.op.operation(),
        _ => call.op.operation(),
    }
}

/// The kind of resource that an operation is about, if it is about one. Frames are there without anybody's doing.
pub(super) fn about(op: &Operation) -> Option<Resource> {
    fn scan(ty: &Type, wanted: Resource) -> bool {
        match ty {
            Type::Int { kind: Kind::Domain | Kind::Peer, .. } => false,
            Type::Int { kind, .. } => kind.resource() == Some(wanted),
            Type::Ptr { to, .. } | Type::Array(to) => scan(to, wanted),
            Type::Struct(layout) => layout.fields.iter().any(|field| !field.out && scan(&field.ty, wanted)),
            _ => false,
        }
    }
    [Resource::GrantHandle, Resource::GrantRef, Resource::BusAddress, Resource::Port, Resource::Domain]
        .into_iter()
        .find(|kind| op.args.iter().any(|field| scan(&field.ty, *kind)))
}

/// Position of a family of a theme, by the shares of families.
fn family<R: Rng + ?Sized>(rng: &mut R, interface: &Interface, theme: Theme, agent: bool) -> Option<usize> {
    let families = || {
        interface.families().iter().enumerate().filter(move |(at, (_, _, list))| {
            theme.has(*at) && (agent || list.iter().all(|op| op.number < AGENT_OPS))
        })
    };
    let total: u32 = families().map(|(_, (_, share, _))| share).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.random_range(0..total);
    for (at, (_, share, _)) in families() {
        if left < *share {
            return Some(at);
        }
        left -= share;
    }
    None
}

/// One of the operations of a family. The more there is to say to an operation, the more there is to try.
fn weighted<R: Rng + ?Sized>(rng: &mut R, list: &[&'static Operation]) -> &'static Operation {
    let mut at = rng.random_range(0..list.iter().map(|op| weight(op)).sum());
    for op in list {
        let weight = weight(op);
        if at < weight {
            return op;
        }
        at -= weight;
    }
    list[0]
}

/// Two, and one for each number or buffer that a caller chooses.
fn weight(op: &Operation) -> u32 {
    fn leaves(ty: &Type) -> u32 {
        match ty {
            Type::Ptr { to, .. } | Type::Array(to) => leaves(to),
            Type::Struct(layout) => {
                layout.fields.iter().filter(|field| !field.out).map(|f| leaves(&f.ty)).sum()
            }
            _ => 1,
        }
    }
    2 + op.args.iter().filter(|field| !field.out).map(|field| leaves(&field.ty)).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::{interface::interface, program::generate};

    #[test]
    fn a_theme_keeps_to_its_families_and_all_themes_together_leave_none_out() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut all = BTreeSet::new();
        for _ in 0..200 {
            let theme = Theme::random(&mut rng, interface());
            let seen: BTreeSet<_> = (0..100)
                .map(|_| pick(&mut rng, interface(), theme, true).expect("no theme is empty").family())
                .collect();
            assert!(theme == Theme::ALL || seen.len() <= 4, "{seen:?}");
            all.extend(seen);
        }
        assert_eq!(all.len(), interface().families().len());
    }

    #[test]
    fn without_the_agent_there_are_hypercalls_only() {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        for _ in 0..1000 {
            let op = pick(&mut rng, interface(), Theme::ALL, false).expect("there are hypercalls");
            assert!(op.number < AGENT_OPS, "{}", op.name);
        }
    }

    #[test]
    fn what_fits_is_often_of_the_family_or_takes_what_was_given() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let alloc = interface().by_name("event_channel_op.alloc_unbound").expect("known");
        let calls = [generate::call_of(&mut rng, interface(), alloc, &[])];
        let share = |name: &str, rng: &mut Pcg64Mcg| {
            let fits = (0..2000).filter(|_| fitting(rng, interface(), &calls).expect("some").name == name);
            fits.count()
        };
        let near = share("event_channel_op.send", &mut rng);
        let far = share("xen_version.version", &mut rng);
        assert!(near > 20 && near > 2 * far, "{near} {far}");
    }

    #[test]
    fn an_operation_may_be_about_something_and_most_frames_are_just_there() {
        let kind = |name: &str| about(interface().by_name(name).expect("known"));
        assert_eq!(kind("event_channel_op.send"), Some(Resource::Port));
        assert_eq!(kind("grant_table_op.unmap_grant_ref"), Some(Resource::GrantHandle));
        assert_eq!(kind("memory_op.decrease_reservation"), None);
    }
}
