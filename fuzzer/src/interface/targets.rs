//! Who gets which hypercalls, and why not the others.
//!
//! The reference targets get [`FAMILIES`]. Those of Xen get these and [`xen::FAMILIES`], without what their lists leave out: whatever
//! ends the domain or the machine by design, since an end is no defect; what waits for something that never comes; what needs
//! the harness; and what an operation of Xen's own takes the place of.

use std::sync::LazyLock;

use super::{FAMILIES, Interface, xen};

/// What is left out: an operation or a family, and the reason.
pub type Denied = (&'static str, &'static str);

/// Of no use in any domain of Xen where the agent is alone.
const ALONE: &[Denied] = &[
    ("sched_op.shutdown", "ends the domain"),
    ("sched_op.block", "waits for an event, and nobody sends one"),
    ("sched_op.poll", "waits for an event, and nobody sends one"),
    ("vcpu_op.down", "the only vCPU is gone then"),
    ("agent.exec", "what it runs is the agent's own end, mostly"),
    ("agent.outb", "in dom0 the port is the machine's: its reset, the console's"),
    ("coverage_op", "Xen has no such hypercall"),
    ("raw", "reaches all that is left out here; `obsolete` has the numbers without a family"),
];

/// Of no use for whoever has the machine's privileges.
const DOM0: &[Denied] = &[
    ("sched_op.remote_shutdown", "ends the own domain, which is the machine's"),
    ("domctl.createdomain", "`domctl.create_guest` has the values that Xen takes"),
];

/// What only the reference hypervisor has in pv domains, and what is done in another way there.
const PV: &[Denied] = &[
    (
        "agent.grant_access",
        "needs memory that the hypervisor maps: `update_va_mapping.see_grants` and `agent.write_grant`",
    ),
    ("agent.grant_revoke", "as `agent.grant_access`"),
    ("agent.grant_sub_page", "as `agent.grant_access`"),
    ("agent.grant_transitive", "as `agent.grant_access`"),
    ("vcpu_op.initialise", "`vcpu_op.initialise_pv` takes the registers of a pv guest"),
    ("vcpu_op.initialise_32", "as `vcpu_op.initialise`"),
    (
        "grant_table_op.map_grant_ref",
        "`grant_table_op.map_at_page` and `map_at_entry` have addresses with page tables",
    ),
    ("grant_table_op.setup_table", "`grant_table_op.setup` gives the frames"),
];

/// What a PVH domain has no hypercall for: those without an entry in the columns `hvm64` of Xen's `include/hypercall-defs.c`.
const NOT_IN_HVM: &[Denied] = &[
    ("mmu_update", "only pv guests have it"),
    ("mmuext_op", "only pv guests have it"),
    ("update_va_mapping", "only pv guests have it"),
    ("pv_cpu", "only pv guests have it"),
    ("callback_op", "only pv guests have it"),
    ("nmi_op", "only pv guests have it"),
    ("kexec_op", "only pv guests have it"),
    ("obsolete", "only pv guests have it"),
    ("mca", "only pv guests have it"),
    ("agent.write_grant", "`agent.grant_access` does it there"),
    ("grant_table_op.map_at_page", "`grant_table_op.map_grant_ref` does it there"),
    ("grant_table_op.map_at_entry", "only pv guests have page tables that Xen knows"),
    ("grant_table_op.unmap_entry", "only pv guests have page tables that Xen knows"),
    ("vcpu_op.initialise_pv", "`vcpu_op.initialise` takes the registers there"),
];

/// Shares of families in dom0. One vCPU, no peers: events and scheduling have less to do than memory.
const DOM0_SHARES: &[(&str, u32)] =
    &[("domctl", 12), ("sysctl", 6), ("console_io", 1), ("agent", 5), ("memory_op", 10), ("argo_op", 2)];
/// Shares of families in an unprivileged domain.
const DOMU_SHARES: &[(&str, u32)] = &[
    ("domctl", 1),
    ("sysctl", 1),
    ("platform_op", 1),
    ("dm_op", 1),
    ("hypfs_op", 1),
    ("kexec_op", 1),
    ("mca", 1),
    ("xsm_op", 1),
    ("physdev_op", 3),
    ("console_io", 1),
    ("agent", 5),
];

/// The number of the initial domain.
const DOMAIN_0: u16 = 0;
/// The number that the agent's unprivileged domain has in programs.
const DOMAIN_U: u16 = 1;

fn build(lists: &[&[Denied]], alone: u16, shares: &[(&str, u32)]) -> Interface {
    let families = FAMILIES.iter().chain(xen::FAMILIES);
    let denied = |name: &str| lists.iter().any(|list| list.iter().any(|(left_out, _)| *left_out == name));
    let allowed = Interface::of(families, |op| !denied(op.name) && !denied(op.family()));
    allowed.alone(alone, shares)
}

/// Of the agent as Xen's initial domain, in pv mode.
pub fn xen_pv() -> &'static Interface {
    static PV_DOM0: LazyLock<Interface> =
        LazyLock::new(|| build(&[ALONE, DOM0, PV, xen::ENDS], DOMAIN_0, DOM0_SHARES));
    &PV_DOM0
}

/// Of the agent in an unprivileged pv domain of Xen. What only the control domain may do is left, but rare: it asks whether the
/// check in front is there.
pub fn xen_domu() -> &'static Interface {
    static PV_DOMU: LazyLock<Interface> =
        LazyLock::new(|| build(&[ALONE, PV, xen::ENDS], DOMAIN_U, DOMU_SHARES));
    &PV_DOMU
}

/// Of the agent as Xen's initial domain, in PVH mode.
pub fn xen_pvh() -> &'static Interface {
    static PVH_DOM0: LazyLock<Interface> =
        LazyLock::new(|| build(&[ALONE, DOM0, NOT_IN_HVM, xen::ENDS], DOMAIN_0, DOM0_SHARES));
    &PVH_DOM0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::known;

    /// What only the control domain may use, and an unprivileged one gets −EPERM for: the check is one line in front of everything.
    const PRIVILEGED: &[&str] =
        &["domctl", "sysctl", "platform_op", "dm_op", "hypfs_op", "kexec_op", "mca", "xsm_op"];

    #[test]
    fn what_is_left_out_exists_and_has_a_reason() {
        for list in [ALONE, DOM0, PV, NOT_IN_HVM, xen::ENDS] {
            for (name, why) in list {
                let operation = known().by_name(name).is_some();
                let family = known().families().iter().any(|(family, ..)| family == name);
                assert!(operation || family, "{name}");
                assert!(!why.is_empty(), "{name}");
            }
        }
        for (family, _) in DOM0_SHARES.iter().chain(DOMU_SHARES) {
            assert!(known().families().iter().any(|(known, ..)| known == family), "{family}");
        }
    }

    #[test]
    fn each_target_gets_its_own() {
        let has = |interface: &Interface, name: &str| interface.by_name(name).is_some();
        for (interface, pv) in [(xen_pv(), true), (xen_domu(), true), (xen_pvh(), false)] {
            assert_eq!(has(interface, "mmu_update.normal"), pv);
            assert_eq!(has(interface, "grant_table_op.map_grant_ref"), !pv);
            assert!(has(interface, "memory_op.exchange") && has(interface, "domctl.create_guest"));
            assert!(!has(interface, "sched_op.shutdown") && !has(interface, "raw.call"));
            assert!(interface.families().len() < 64, "a theme has a bit for each family");
        }
        assert_eq!(crate::interface::interface().only_domain(), None);
        assert!(!has(crate::interface::interface(), "mmu_update.normal"));
    }

    /// What is privileged is a small part of what an unprivileged domain tries.
    #[test]
    fn an_unprivileged_domain_seldom_asks_for_privileges() {
        let share = |privileged: bool| -> u32 {
            let families = xen_domu().families().iter();
            let counted = families.filter(|(name, ..)| PRIVILEGED.contains(name) == privileged);
            counted.map(|(_, share, _)| share).sum()
        };
        assert!(share(true) * 6 < share(false), "{} {}", share(true), share(false));
    }
}
