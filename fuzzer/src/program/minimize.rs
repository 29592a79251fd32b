//! Makes a program smaller and plainer while it still does what is wanted of it.

mod details;
mod issuers;

use super::{
    model::{Call, Pointer, Program, Shape, Value, mask},
    mutate::change_length,
    validate, walk,
};
use crate::interface::{Field, Kind, Type};

/// Looks for a smaller program for which `keeps` still says yes, asking at most `budget` times.
///
/// Results become constants and calls go first, then domains and virtual CPUs are merged, multicall entries and elements go, and
/// pointers, numbers, flags and bytes are made plain. The outcome depends on nothing but the arguments and the answers. The original is returned if nothing smaller is accepted.
pub fn minimize(program: &Program, budget: usize, keeps: &mut dyn FnMut(&Program) -> bool) -> Program {
    let mut search = Search { best: program.clone(), left: budget, keeps };
    while search.left > 0 {
        let before = search.best.clone();
        search.results();
        search.calls();
        search.issuers();
        search.lengths();
        search.unwrap();
        search.counts();
        search.values();
        search.parts();
        if search.best == before {
            break;
        }
    }
    search.best
}

struct Search<'a> {
    best: Program,
    left: usize,
    keeps: &'a mut dyn FnMut(&Program) -> bool,
}

impl Search<'_> {
    /// Takes the candidate if it is different, valid and wanted.
    fn offer(&mut self, mut candidate: Program) -> bool {
        walk::mend(&mut candidate);
        if self.left == 0 || candidate == self.best || validate::validate(&candidate).is_err() {
            return false;
        }
        self.left -= 1;
        let wanted = (self.keeps)(&candidate);
        if wanted {
            self.best = candidate;
        }
        wanted
    }

    /// Removes runs of calls, long ones first, from the end.
    fn calls(&mut self) {
        let mut chunk = self.best.calls.len().div_ceil(2);
        while chunk > 0 {
            let mut end = self.best.calls.len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                if end - start < self.best.calls.len() {
                    let mut candidate = self.best.clone();
                    for at in (start..end).rev() {
                        walk::remove(&mut candidate, at);
                    }
                    self.offer(candidate);
                }
                end = start;
            }
            chunk /= 2;
        }
    }

    /// Makes arrays and buffers shorter: by half, then one by one from the end.
    fn lengths(&mut self) {
        for index in 0..self.best.calls.len() {
            let mut group = 0;
            while let Some(positions) = self.variable(index, group) {
                for position in positions {
                    self.shorten(index, group, position);
                }
                group += 1;
            }
        }
    }

    /// Lets fields that count their siblings count right.
    fn counts(&mut self) {
        for call in 0..self.best.calls.len() {
            let mut group = 0;
            loop {
                let mut fields = 0;
                in_group(&mut self.best.calls[call].clone(), group, &mut |_, values| {
                    fields = values.len() + 1
                });
                if fields == 0 {
                    break;
                }
                for position in 0..fields - 1 {
                    let mut candidate = self.best.clone();
                    in_group(&mut candidate.calls[call], group, &mut |fields, values| {
                        let Type::Int { width, kind: Kind::Len(of) } = &fields[position].ty else { return };
                        if let Some(sibling) = fields.iter().position(|field| field.name == *of) {
                            values[position] = Value::Int(values[sibling].len_of() & mask(*width));
                        }
                    });
                    self.offer(candidate);
                }
                group += 1;
            }
        }
    }

    /// Which fields of a group point to something of variable length; nothing if there is no such group.
    fn variable(&self, call: usize, group: usize) -> Option<Vec<usize>> {
        let mut found = None;
        in_group(&mut self.best.calls[call].clone(), group, &mut |fields, _| {
            let variable =
                |field: &Field| matches!(field.ty, Type::Ptr { to: Type::Array(_) | Type::Bytes(_), .. });
            found = Some((0..fields.len()).filter(|at| variable(&fields[*at])).collect());
        });
        found
    }

    fn shorten(&mut self, call: usize, group: usize, position: usize) {
        let len = |program: &Program| {
            let mut len = 0;
            in_group(&mut program.calls[call].clone(), group, &mut |_, values| {
                len = values.get(position).map_or(0, Value::len_of);
            });
            len as usize
        };
        let mut chunk = len(&self.best).div_ceil(2);
        while chunk > 0 && self.left > 0 {
            let mut end = len(&self.best);
            while end > 0 && self.left > 0 {
                let start = end.saturating_sub(chunk);
                for follow in [true, false] {
                    let mut candidate = self.best.clone();
                    let mut entries = 0..0;
                    in_group(&mut candidate.calls[call], group, &mut |fields, values| {
                        change_length(fields, values, position, follow, &mut |of, items| {
                            let gone = start.min(items.len())..end.min(items.len());
                            items.drain(gone.clone());
                            // Only the outermost entries have results that later calls can use.
                            if group == 0 && matches!(of, Type::Entry) {
                                entries = gone;
                            }
                        });
                    });
                    walk::entries_removed(&mut candidate, call, entries);
                    if self.offer(candidate) {
                        break;
                    }
                }
                end = start;
            }
            chunk /= 2;
        }
    }

    /// Makes values plain, outer ones first.
    fn values(&mut self) {
        let mut at = 0;
        loop {
            let mut candidates = Vec::new();
            let total = walk::each(&mut self.best.clone(), &|_, _| true, &mut |index, _, site, value| {
                if index == at {
                    candidates = plainer(site, value);
                }
            });
            if at >= total || self.left == 0 {
                return;
            }
            for plain in candidates {
                let mut candidate = self.best.clone();
                walk::each(&mut candidate, &|_, _| true, &mut |index, _, _, value| {
                    if index == at {
                        *value = plain.clone();
                    }
                });
                if self.offer(candidate) {
                    break;
                }
            }
            at += 1;
        }
    }
}

/// Calls `visit` for one list of fields of a call.
fn in_group(call: &mut Call, group: usize, visit: &mut dyn FnMut(&'static [Field], &mut [Value])) {
    let mut at = 0;
    walk::groups_mut(call.op.operation().args, &mut call.args, &mut |fields, values| {
        if at == group {
            visit(fields, values);
        }
        at += 1;
    });
}

/// Values that are plainer than this one, the plainest first.
fn plainer(site: walk::Site, value: &Value) -> Vec<Value> {
    let plainest = if site.out && matches!(site.ty, Type::Int { .. }) {
        Value::Int(0)
    } else {
        Value::plainest(site.ty)
    };
    if *value == plainest {
        return Vec::new();
    }
    match value {
        // What counts siblings is right or wrong on purpose; [`Search::counts`] deals with it.
        Value::Int(_) if matches!(site.ty, Type::Int { kind: Kind::Len(_), .. }) => Vec::new(),
        Value::Int(0) => vec![plainest],
        Value::Int(number) => {
            let mut list = vec![plainest, Value::Int(0)];
            // A limit is easier to read as the power of two beside it, a large number as a small one.
            if *number > 1 {
                list.push(Value::Int(1));
            }
            list
        }
        Value::Result(reference) => {
            let mut plain = *reference;
            plain.otherwise = 0;
            vec![plainest, Value::Int(reference.otherwise), Value::Result(plain)]
        }
        Value::Pointer(Pointer { shape: Shape::Plain, .. }) => vec![plainest],
        Value::Pointer(Pointer { to: Some(data), .. }) => {
            vec![plainest, Value::Pointer(Pointer { shape: Shape::Plain, to: Some(data.clone()) })]
        }
        Value::Bytes(bytes) => vec![plainest, Value::Bytes(vec![0; bytes.len()])],
        _ => vec![plainest],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::text;

    const NOISY: &str = "\
r0 = d2 event_channel_op.alloc_unbound(&@cross(3) {dom: self, remote_dom: d1, port: 77})
d1 xen_version.version()
d2:1 memory_op.decrease_reservation(2, &{extent_start: &@unaligned(1) [0x290, 0x280, 0xffff, 0x281], nr_extents: 4, extent_order: 3, mem_flags: addr32, domid: d2})
d1 sched_op.yield()
d2 event_channel_op.send(&{port: r0.port?12})
";

    fn minimized(keeps: &mut dyn FnMut(&str) -> bool) -> String {
        let program = text::parse(NOISY).expect("valid");
        text::print(&minimize(&program, 2000, &mut |candidate| keeps(&text::print(candidate))))
    }

    #[test]
    fn what_matters_stays_and_the_rest_becomes_plain() {
        assert_eq!(
            minimized(&mut |text| text.contains("send(&{port: r")),
            "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: self, port: out})\n\
             d1 event_channel_op.send(&{port: r0.port})\n"
        );
        assert_eq!(
            minimized(&mut |text| text.contains("0xffff]") || text.contains("0xffff,")),
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0xffff], nr_extents: 1, extent_order: 0, \
             mem_flags: 0x0, domid: self})\n"
        );
    }

    #[test]
    fn entries_whose_results_are_used_keep_their_users() {
        let program = text::parse(
            "r0 = d1 multicall.multicall(&[sched_op.yield(), xen_version.version(), event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})], 3)\n\
             d1 event_channel_op.send(&{port: r0[2].port})\n",
        )
        .expect("valid");
        let small = minimize(&program, 2000, &mut |candidate| text::print(candidate).contains("].port"));
        assert_eq!(
            text::print(&small),
            "r0 = d1 multicall.multicall(&[event_channel_op.alloc_unbound(&{dom: self, remote_dom: self, port: out})], 1)\n\
             d1 event_channel_op.send(&{port: r0[0].port})\n"
        );
    }

    #[test]
    fn domains_are_merged_where_their_calls_hold_each_other() {
        // The mapping and its end have to be of one domain, and the grant names it: no call can be moved alone.
        let program = text::parse(
            "d2 agent.grant_access(9, d0, 0x280, 0x0)\n\
             r1 = d0:1 grant_table_op.map_grant_ref(&[{host_addr: 0x400000, flags: host_map, ref: 9, dom: d2, status: out, handle: out, dev_bus_addr: out}], 1)\n\
             d0:1 grant_table_op.unmap_grant_ref(&[{host_addr: r1.host_addr, dev_bus_addr: 0, handle: r1.handle, status: out}], 1)\n",
        )
        .expect("valid");
        let small = minimize(&program, 2000, &mut |candidate| {
            let [grant, map, unmap] = candidate.calls.as_slice() else { return false };
            let text = text::print(candidate);
            map.domain == unmap.domain
                && map.vcpu == unmap.vcpu
                && grant.domain != map.domain
                && text.contains(&format!("dom: d{},", grant.domain))
                && text.contains(&format!("grant_access(9, d{},", map.domain))
                && text.contains("r1.host_addr")
                && text.contains("r1.handle")
        });
        assert_eq!(
            text::print(&small),
            "d1 agent.grant_access(9, d0, 0x280, 0x0)\n\
             r1 = d0 grant_table_op.map_grant_ref(&[{host_addr: 0x400000, flags: 0x0, ref: 0, dom: d1, status: out, handle: out, dev_bus_addr: out}], 1)\n\
             d0 grant_table_op.unmap_grant_ref(&[{host_addr: r1.host_addr, dev_bus_addr: 0x0, handle: r1.handle, status: out}], 1)\n"
        );
    }

    #[test]
    fn results_that_go_together_become_constants_together() {
        let program = text::parse(
            "r0 = d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\n\
             d1 event_channel_op.send(&{port: r0.port?7})\n\
             d1 event_channel_op.close(&{port: r0.port?7})\n",
        )
        .expect("valid");
        let ports = |program: &Program| {
            let mut ports = Vec::new();
            walk::each(&mut program.clone(), &|site, _| site.name == "port", &mut |_, call, _, value| {
                ports.push((program.calls[call].op.operation().name, value.clone()));
            });
            ports
        };
        let small = minimize(&program, 2000, &mut |candidate| match ports(candidate).as_slice() {
            [.., ("event_channel_op.send", one), ("event_channel_op.close", other)] => one == other,
            _ => false,
        });
        assert_eq!(
            text::print(&small),
            "d1 event_channel_op.send(&{port: 0})\nd1 event_channel_op.close(&{port: 0})\n"
        );
    }

    #[test]
    fn a_multicall_of_one_becomes_a_call_and_its_result_follows() {
        let program = text::parse(
            "r0 = d1 multicall.multicall(&[sched_op.yield(), event_channel_op.bind_ipi(&{vcpu: 0, port: out})], 2)\n\
             d1 event_channel_op.send(&{port: r0[1].port})\n",
        )
        .expect("valid");
        let small = minimize(&program, 2000, &mut |candidate| {
            let text = text::print(candidate);
            text.contains("bind_ipi") && text.contains("port: r0")
        });
        assert_eq!(
            text::print(&small),
            "r0 = d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\nd1 event_channel_op.send(&{port: r0.port})\n"
        );
    }

    #[test]
    fn flags_and_bytes_that_do_not_matter_are_cleared() {
        let program = text::parse(
            "d1 agent.grant_access(9, d2, 0x280, readonly|writing)\nd1 console_io.write(4, &\"ABCD\")\n",
        );
        let program = program.expect("valid");
        let small = minimize(&program, 2000, &mut |candidate| {
            let text = text::print(candidate);
            text.contains("readonly")
                && candidate.calls.iter().any(|call| {
                    let mut kept = false;
                    walk::values_mut(call.op, &mut call.args.clone(), &mut |_, value| {
                        kept |= matches!(value, Value::Bytes(bytes) if bytes.len() == 4 && bytes[2] == 0x43);
                    });
                    kept
                })
        });
        let text = text::print(&small);
        assert!(text.contains("readonly") && !text.contains("writing"), "{text}");
        assert!(text.contains(r#""\x00\x00C\x00""#), "{text}");
    }

    #[test]
    fn nothing_is_asked_without_a_budget() {
        let program = text::parse(NOISY).expect("valid");
        assert_eq!(minimize(&program, 0, &mut |_| panic!("asked")), program);
        assert_eq!(minimize(&program, 100, &mut |_| false), program);
    }
}
