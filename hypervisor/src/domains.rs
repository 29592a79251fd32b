//! All domains, by identifier. Identifiers of destroyed domains are used again, the lowest first.

use crate::domain::Domain;
use alloc::{boxed::Box, vec::Vec};
use xen_abi::DomId;

/// Most domains at one time; also one more than the highest identifier.
pub(crate) const MAX_DOMAINS: usize = 16;

/// The table of domains.
pub(crate) struct Domains {
    slots: Vec<Option<Box<Domain>>>,
}

impl Domains {
    /// There is none.
    pub(crate) fn new() -> Self {
        Self { slots: (0..MAX_DOMAINS).map(|_| None).collect() }
    }

    /// The domain with this identifier.
    pub(crate) fn get(&self, id: DomId) -> Option<&Domain> {
        self.slots.get(usize::from(id))?.as_deref()
    }

    /// The domain with this identifier, to be changed.
    pub(crate) fn get_mut(&mut self, id: DomId) -> Option<&mut Domain> {
        self.slots.get_mut(usize::from(id))?.as_deref_mut()
    }

    /// Puts a domain where its identifier says, if such a place is free.
    pub(crate) fn insert(&mut self, domain: Domain) -> bool {
        match self.slots.get_mut(usize::from(domain.id)) {
            Some(slot @ None) => {
                *slot = Some(Box::new(domain));
                true
            }
            _ => false,
        }
    }

    /// The lowest identifier that nobody has, 0 excepted: that is the control domain's.
    pub(crate) fn free_id(&self) -> Option<DomId> {
        (1..MAX_DOMAINS).find(|id| self.slots[*id].is_none()).map(|id| id as DomId)
    }

    /// Takes a domain out of the table.
    pub(crate) fn remove(&mut self, id: DomId) {
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            *slot = None;
        }
    }

    /// Number of domains.
    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    /// All domains, in the order of their identifiers.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Domain> + Clone {
        self.slots.iter().flatten().map(|domain| &**domain)
    }
}
