//! The hypercall interface as data.
//!
//! Each family has its file with a table of [`Operation`]s; everything else (generation, mutation, text, lowering,
//! transcripts) follows the tables. A new hypercall is a new entry, a new family a new file and one line in
//! [`FAMILIES`]. What only Xen itself has stands in [`xen`]; [`targets`] says who gets what.

mod agent;
mod argo_op;
mod console_io;
mod coverage_op;
mod dm_op;
mod domctl;
mod event_channel_op;
mod grant_table_op;
mod hvm_op;
mod memory_op;
mod multicall;
mod raw;
mod sched_op;
pub mod sequence;
mod set_timer_op;
mod sysctl;
pub mod targets;
mod types;
mod vcpu_op;
mod vm_assist;
pub mod xen;
mod xen_version;

pub use types::{
    DOMAINS, Dir, Field, Kind, Named, OpId, Operation, Resource, ResultFrom, ResultSpec, Returns, Select,
    StructType, Type, Versioned,
};

use std::sync::LazyLock;

/// Numbers by which programs name the page tables of their domain: L4, L3, L2, and the L1 tables of the first and the second 2 MiB.
/// They lie behind everything that a domain uses of its first 4 MiB.
pub const TABLES_GFN: u64 = 0x3f0;
/// Number by which programs name the first page of the grant table of their domain.
pub const GRANT_GFN: u64 = 0x3f8;
/// Number by which programs name the shared info of their domain.
pub const SHARED_GFN: u64 = 0x3f9;

/// A family: its name, its share in generated programs, its operations.
pub type Family = (&'static str, u32, &'static [Operation]);

/// Every family that the reference hypervisor has, in the order in which the generator sees them.
pub const FAMILIES: &[(&str, u32, &[Operation])] = &[
    ("xen_version", 2, xen_version::OPERATIONS),
    ("console_io", 2, console_io::OPERATIONS),
    ("sched_op", 4, sched_op::OPERATIONS),
    ("vcpu_op", 6, vcpu_op::OPERATIONS),
    ("set_timer_op", 1, set_timer_op::OPERATIONS),
    ("vm_assist", 1, vm_assist::OPERATIONS),
    ("memory_op", 10, memory_op::OPERATIONS),
    ("event_channel_op", 10, event_channel_op::OPERATIONS),
    ("argo_op", 4, argo_op::OPERATIONS),
    ("grant_table_op", 10, grant_table_op::OPERATIONS),
    ("multicall", 3, multicall::OPERATIONS),
    ("domctl", 4, domctl::OPERATIONS),
    ("sysctl", 1, sysctl::OPERATIONS),
    ("hvm_op", 2, hvm_op::OPERATIONS),
    ("dm_op", 3, dm_op::OPERATIONS),
    ("coverage_op", 3, coverage_op::OPERATIONS),
    ("agent", 4, agent::OPERATIONS),
    ("raw", 1, raw::OPERATIONS),
];

/// Families that only the control domain may use.
pub const CONTROL_FAMILIES: &[&str] = &["domctl", "sysctl", "dm_op"];
/// Operations of other families that succeed for the control domain only.
pub const CONTROL_OPERATIONS: &[&str] = &["memory_op.claim_pages", "memory_op.set_pod_target"];

/// All operations, or those that a target allows.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Sorted by name.
    operations: Vec<&'static Operation>,
    /// Families that are left, with their share; never with an empty list.
    families: Vec<(&'static str, u32, Vec<&'static Operation>)>,
    /// The only domain that issues calls, if there is but one.
    alone: Option<u16>,
}

impl Interface {
    /// The operations of the reference hypervisor for which `allowed` says yes.
    pub fn subset(allowed: impl FnMut(&Operation) -> bool) -> Self {
        Self::of(FAMILIES, allowed)
    }

    /// The operations of these families for which `allowed` says yes. Families of one name are one, with the first one's share.
    pub fn of<'f>(
        families: impl IntoIterator<Item = &'f Family>,
        mut allowed: impl FnMut(&Operation) -> bool,
    ) -> Self {
        let mut operations = Vec::new();
        let mut kept: Vec<(&'static str, u32, Vec<&'static Operation>)> = Vec::new();
        for (name, share, list) in families {
            let list: Vec<&'static Operation> = list.iter().filter(|op| allowed(op)).collect();
            operations.extend(list.iter().copied());
            match kept.iter_mut().find(|(known, ..)| known == name) {
                Some((.., all)) => all.extend(list),
                None if list.is_empty() => {}
                None => kept.push((name, *share, list)),
            }
        }
        operations.sort_by_key(|op| op.name);
        Self { operations, families: kept, alone: None }
    }

    /// The same for a target with one domain that issues calls, with other shares for some families.
    #[must_use]
    pub fn alone(mut self, domain: u16, shares: &[(&str, u32)]) -> Self {
        for (family, share, _) in &mut self.families {
            if let Some((_, other)) = shares.iter().find(|(name, _)| name == family) {
                *share = *other;
            }
        }
        self.alone = Some(domain);
        self
    }

    /// The only domain that issues calls, if there is but one. Programs may name others as issuers: it is this one all the same.
    pub fn only_domain(&self) -> Option<u16> {
        self.alone
    }

    /// The operations, sorted by name.
    pub fn operations(&self) -> &[&'static Operation] {
        &self.operations
    }

    /// Families with their share in generated programs and their operations.
    pub fn families(&self) -> &[(&'static str, u32, Vec<&'static Operation>)] {
        &self.families
    }

    /// The operation of that name (`family.operation`).
    pub fn by_name(&self, name: &str) -> Option<&'static Operation> {
        self.operations.binary_search_by_key(&name, |op| op.name).ok().map(|at| self.operations[at])
    }

    /// Operations that produce a resource of this kind.
    pub fn producers(&self, kind: Resource) -> impl Iterator<Item = &'static Operation> + '_ {
        self.operations.iter().copied().filter(move |op| op.results.iter().any(|result| result.kind == kind))
    }
}

/// The interface of the reference hypervisor.
pub fn interface() -> &'static Interface {
    static ALL: LazyLock<Interface> = LazyLock::new(|| Interface::subset(|_| true));
    &ALL
}

/// Every operation of every target: what programs in files may consist of.
pub fn known() -> &'static Interface {
    static ALL: LazyLock<Interface> =
        LazyLock::new(|| Interface::of(FAMILIES.iter().chain(xen::FAMILIES), |_| true));
    &ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(ty: &Type, out: &mut Vec<&'static str>) {
        match ty {
            Type::Ptr { to, .. } | Type::Array(to) => names_in(to, out),
            Type::Struct(layout) => names_in_fields(layout.fields, out),
            _ => {}
        }
    }

    fn names_in_fields(fields: &'static [Field], out: &mut Vec<&'static str>) {
        for field in fields {
            out.push(field.name);
            names_in(&field.ty, out);
            let Type::Int { kind, .. } = &field.ty else { continue };
            let counted = match kind {
                Kind::Len(of) | Kind::PageOf(of) => Some(*of).filter(|of| !of.is_empty()),
                _ => None,
            };
            if let Some(of) = kind.owner().or(counted) {
                assert!(fields.iter().any(|sibling| sibling.name == of), "{} names no sibling", field.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_belong_to_their_family() {
        let all = known();
        for pair in all.operations().windows(2) {
            assert!(pair[0].name < pair[1].name, "{}", pair[0].name);
        }
        for (family, _, list) in FAMILIES.iter().chain(xen::FAMILIES) {
            for op in *list {
                assert_eq!(op.name.split_once('.').map(|(left, _)| left), Some(*family));
                assert_eq!(all.by_name(op.name).map(|found| found.name), Some(op.name));
            }
        }
    }

    #[test]
    fn results_come_from_fields_that_exist() {
        for op in known().operations() {
            let mut names = Vec::new();
            names_in_fields(op.args, &mut names);
            for result in op.results {
                if result.from == ResultFrom::Field {
                    assert!(names.contains(&result.name), "{}: {}", op.name, result.name);
                }
            }
        }
    }

    #[test]
    fn subsets_keep_what_was_asked_for() {
        let some = Interface::subset(|op| op.family() == "sched_op");
        assert_eq!(some.operations().len(), sched_op::OPERATIONS.len());
        assert_eq!(some.families().len(), 1);
        assert!(some.by_name("sched_op.poll").is_some() && some.by_name("raw.call").is_none());
        assert_eq!(some.producers(Resource::Port).count(), 0);
        assert!(interface().producers(Resource::Port).count() >= 5);
    }

    #[test]
    fn arguments_fit_into_registers() {
        for op in known().operations() {
            let registers = op.args.len()
                + match op.select {
                    Select::First(_) => 1,
                    Select::Whole | Select::FirstWithStart { .. } => 0,
                    Select::Raw => continue,
                };
            assert!(registers <= 6, "{}", op.name);
        }
    }

    /// Offsets and size of the structure, or of each in the array, that the last pointer among the arguments leads to.
    fn layout(name: &str) -> (Vec<usize>, usize) {
        let op = known().by_name(name).expect("known");
        let to = op.args.iter().rev().find_map(|field| match field.ty {
            Type::Ptr { to: Type::Struct(layout) | Type::Array(Type::Struct(layout)), .. } => Some(layout),
            _ => None,
        });
        let layout = to.unwrap_or_else(|| panic!("{name} takes no struct"));
        (layout.offsets().collect(), layout.size())
    }

    /// Compares a structure of the tables with the one that the hypervisor uses.
    macro_rules! agree {
        ($name:literal, $ty:ty, $($field:ident),+) => {
            assert_eq!(
                layout($name),
                (vec![$(core::mem::offset_of!($ty, $field)),+], size_of::<$ty>()),
                $name
            );
        };
    }

    fn grants_agree() {
        use xen_abi::grant::*;
        agree!(
            "grant_table_op.map_grant_ref",
            MapGrantRef,
            host_addr,
            flags,
            grant,
            dom,
            status,
            handle,
            dev_bus_addr
        );
        agree!("grant_table_op.unmap_grant_ref", UnmapGrantRef, host_addr, dev_bus_addr, handle, status);
        agree!("grant_table_op.unmap_and_replace", UnmapAndReplace, host_addr, new_addr, handle, status);
        agree!("grant_table_op.setup_table", SetupTable, dom, nr_frames, status, frame_list);
        for copy in ["copy_frames", "copy_from_grant", "copy_to_grant", "copy_between_grants"] {
            assert_eq!(
                layout(&format!("grant_table_op.{copy}")),
                (
                    vec![
                        core::mem::offset_of!(Copy, source),
                        core::mem::offset_of!(Copy, dest),
                        core::mem::offset_of!(Copy, len),
                        core::mem::offset_of!(Copy, flags),
                        core::mem::offset_of!(Copy, status)
                    ],
                    size_of::<Copy>()
                )
            );
        }
        agree!("grant_table_op.query_size", QuerySize, dom, nr_frames, max_nr_frames, status);
        agree!("grant_table_op.set_version", SetVersion, version);
        agree!("grant_table_op.get_status_frames", GetStatusFrames, nr_frames, dom, status, frame_list);
        agree!("grant_table_op.get_version", GetVersion, dom, pad, version);
        agree!("grant_table_op.swap_grant_ref", SwapGrantRef, ref_a, ref_b, status);
        agree!("grant_table_op.cache_flush", CacheFlush, a, offset, length, op);
    }

    /// Unions are described member by member: each has the size of the whole.
    #[test]
    fn arguments_of_the_control_families_have_one_size() {
        for op in known().operations() {
            let size = match op.family() {
                "domctl" => size_of::<xen_abi::domctl::Domctl>(),
                "sysctl" => size_of::<xen_abi::sysctl::Sysctl>(),
                "platform_op" => xen::platform_op::SIZE,
                _ => continue,
            };
            assert_eq!(layout(op.name).1, size, "{}", op.name);
        }
    }

    #[test]
    fn layouts_are_those_of_the_abi() {
        use coverage_hypercall::coverage::{Enable, Info, Map, Read, Unmap};
        use xen_abi::{event::*, memory::*, sched::*, version::*};
        agree!(
            "memory_op.populate_physmap",
            Reservation,
            extent_start,
            nr_extents,
            extent_order,
            mem_flags,
            domid
        );
        agree!("memory_op.exchange", Exchange, input, output, nr_exchanged);
        agree!("memory_op.add_to_physmap", AddToPhysmap, domid, size, space, idx, gpfn);
        agree!(
            "memory_op.add_to_physmap_batch",
            AddToPhysmapBatch,
            domid,
            space,
            size,
            foreign_domid,
            idxs,
            gpfns,
            errs
        );
        agree!("memory_op.remove_from_physmap", RemoveFromPhysmap, domid, gpfn);
        agree!("memory_op.maximum_gpfn", Domain, domid);
        agree!("memory_op.machphys_mfn_list", MachphysMfnList, max_extents, extent_start, nr_extents);
        agree!("memory_op.machphys_mapping", MachphysMapping, v_start, v_end, max_mfn);
        agree!("memory_op.memory_map", MemoryMap, nr_entries, buffer);
        agree!("memory_op.set_memory_map", ForeignMemoryMap, domid, map);
        agree!(
            "memory_op.get_pod_target",
            PodTarget,
            target_pages,
            tot_pages,
            pod_cache_pages,
            pod_entries,
            domid
        );
        agree!(
            "memory_op.acquire_resource",
            AcquireResource,
            domid,
            kind,
            id,
            nr_frames,
            pad,
            frame,
            frame_list
        );
        grants_agree();
        agree!("event_channel_op.alloc_unbound", AllocUnbound, dom, remote_dom, port);
        agree!("event_channel_op.bind_interdomain", BindInterdomain, remote_dom, remote_port, local_port);
        agree!("event_channel_op.bind_virq", BindVirq, virq, vcpu, port);
        agree!("event_channel_op.bind_pirq", BindPirq, pirq, flags, port);
        agree!("event_channel_op.bind_ipi", BindIpi, vcpu, port);
        agree!("event_channel_op.send", Port, port);
        agree!("event_channel_op.status", Status, dom, port, status, vcpu, detail);
        agree!("event_channel_op.bind_vcpu", BindVcpu, port, vcpu);
        agree!("event_channel_op.reset", Reset, dom);
        agree!("event_channel_op.init_control", InitControl, control_gfn, offset, vcpu, link_bits, reserved);
        agree!("event_channel_op.expand_array", ExpandArray, array_gfn);
        agree!("event_channel_op.set_priority", SetPriority, port, priority);
        agree!("argo_op.register_ring", xen_abi::argo::RegisterRing, aport, partner_id, pad, len);
        agree!("argo_op.unregister_ring", xen_abi::argo::UnregisterRing, aport, partner_id, pad);
        agree!("argo_op.sendv", xen_abi::argo::Iov, iov_hnd, iov_len, pad);
        agree!("sched_op.shutdown", Shutdown, reason);
        agree!("sched_op.poll", Poll, ports, nr_ports, timeout);
        agree!("sched_op.remote_shutdown", RemoteShutdown, domain_id, reason);
        agree!("sched_op.watchdog", Watchdog, id, timeout);
        agree!("sched_op.pin_override", PinOverride, pcpu);
        {
            use xen_abi::vcpu::{Hvm32, Hvm64, HvmContext};
            let registers = core::mem::offset_of!(HvmContext, cpu_regs);
            let (offsets, size) = layout("vcpu_op.initialise");
            assert_eq!(offsets[15], registers + core::mem::offset_of!(Hvm64, efer));
            assert_eq!(size, size_of::<HvmContext>());
            let (offsets, size) = layout("vcpu_op.initialise_32");
            assert_eq!(offsets[16], registers + core::mem::offset_of!(Hvm32, efer));
            assert_eq!(offsets[31], registers + core::mem::offset_of!(Hvm32, tr_ar));
            assert_eq!(size, size_of::<HvmContext>());
        }
        agree!("vcpu_op.set_periodic_timer", xen_abi::vcpu::PeriodicTimer, period_ns);
        agree!("vcpu_op.set_singleshot_timer", xen_abi::vcpu::SingleshotTimer, timeout_abs_ns, flags);
        agree!("vcpu_op.register_vcpu_info", xen_abi::vcpu::RegisterVcpuInfo, mfn, offset, rsvd);
        agree!("vcpu_op.get_physid", xen_abi::vcpu::Physid, phys_id);
        agree!("vcpu_op.register_runstate_memory_area", xen_abi::vcpu::Area, addr);
        agree!("vcpu_op.register_vcpu_time_memory_area", xen_abi::vcpu::Area, addr);
        assert_eq!(layout("vcpu_op.get_runstate_info").1, size_of::<xen_abi::vcpu::RunstateInfo>());
        agree!("xen_version.compile_info", CompileInfo, compiler, compile_by, compile_domain, compile_date);
        agree!("xen_version.get_features", FeatureInfo, submap_idx, submap);
        agree!(
            "coverage_op.info",
            Info,
            version,
            features,
            counters,
            comparison_capacity,
            counter_pages,
            comparison_pages,
            build_id
        );
        agree!("coverage_op.enable", Enable, version, flags);
        agree!("coverage_op.read", Read, version, offset, count, reserved, buffer);
        agree!("coverage_op.map", Map, version, what, first_page, pages, gfn);
        agree!("coverage_op.unmap", Unmap, version, pages, gfn);
    }
}
