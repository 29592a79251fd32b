//! Who issues the calls: as few domains and virtual CPUs as will do.
//!
//! What calls give each other holds them together: a mapping is undone by the domain that made it. So all calls of a domain are
//! moved at once before they are tried one by one, and what names the domain goes along or stays.

use std::collections::BTreeSet;

use super::Search;
use crate::{
    interface::{Kind, Resource, Type},
    program::{
        model::{Call, LAST_DOMAIN, Program, Value},
        walk,
    },
};

impl Search<'_> {
    /// Lets the first virtual CPU of the first domain issue the calls, or at least one domain less.
    pub(super) fn issuers(&mut self) {
        for from in [LAST_DOMAIN, 0] {
            for to in [1, LAST_DOMAIN, 0] {
                let merges = to == 1 || uses(&self.best, to);
                if from != to && merges && uses(&self.best, from) {
                    self.move_all(&|domain| if domain == from { to } else { domain });
                }
            }
        }
        if self.best.calls.first().is_some_and(|call| call.domain == LAST_DOMAIN) {
            self.move_all(&|domain| match domain {
                1 => LAST_DOMAIN,
                LAST_DOMAIN => 1,
                other => other,
            });
        }
        for domain in 0..=LAST_DOMAIN {
            self.first_vcpu(domain);
        }
        for index in 0..self.best.calls.len() {
            for change in [|call: &mut Call| call.vcpu = 0, |call: &mut Call| call.domain = 1] {
                let mut candidate = self.best.clone();
                change(&mut candidate.calls[index]);
                // One more of them is not plainer.
                if count(&candidate) <= count(&self.best) {
                    self.offer(candidate);
                }
            }
        }
    }

    /// Moves calls from domain to domain, and arguments that name one as well; then without these.
    fn move_all(&mut self, to: &dyn Fn(u16) -> u16) {
        for rename in [true, false] {
            let mut candidate = self.best.clone();
            for call in &mut candidate.calls {
                call.domain = to(call.domain);
            }
            if rename {
                for call in &mut candidate.calls {
                    each_number(call, &|kind| kind.resource() == Some(Resource::Domain), &mut |number| {
                        if let Some(domain) = u16::try_from(*number).ok().filter(|d| *d <= LAST_DOMAIN) {
                            *number = to(domain).into();
                        }
                    });
                }
            }
            if self.offer(candidate) {
                return;
            }
        }
    }

    /// Lets the first virtual CPU of a domain issue all of its calls; what names the others names it, or still them.
    fn first_vcpu(&mut self, domain: u16) {
        let others = |program: &Program| program.calls.iter().any(|c| c.domain == domain && c.vcpu != 0);
        for rename in [true, false] {
            if !others(&self.best) {
                return;
            }
            let mut candidate = self.best.clone();
            for call in candidate.calls.iter_mut().filter(|call| call.domain == domain) {
                call.vcpu = 0;
                if rename {
                    each_number(call, &|kind| matches!(kind, Kind::Vcpu), &mut |number| *number = 0);
                }
            }
            self.offer(candidate);
        }
    }
}

/// Virtual CPUs that issue calls.
fn count(program: &Program) -> usize {
    program.calls.iter().map(|call| (call.domain, call.vcpu)).collect::<BTreeSet<_>>().len()
}

fn uses(program: &Program, domain: u16) -> bool {
    program.calls.iter().any(|call| call.domain == domain)
}

/// Visits the numbers of some kinds in a call.
fn each_number(call: &mut Call, accept: &dyn Fn(&Kind) -> bool, visit: &mut dyn FnMut(&mut u64)) {
    walk::values_mut(call.op, &mut call.args, &mut |site, value| {
        if let (Type::Int { kind, .. }, Value::Int(number)) = (site.ty, value)
            && accept(kind)
        {
            visit(number);
        }
    });
}
