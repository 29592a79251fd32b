//! `argo_op`: messages from one domain into a ring of the other.

use crate::common::Vm;

/// A program: calls, and what they answer.
type Calls = Vec<(String, &'static str)>;

/// Registers a ring of d1 in the first page of the playground.
fn register(partner: &str, len: u32, flags: &str) -> String {
    format!(
        "d1 argo_op.register_ring(&{{aport: 1, partner_id: {partner}, pad: 0, len: {len}}}, &[0x280], 1, {flags})"
    )
}

fn unregister(partner: &str) -> String {
    format!("d1 argo_op.unregister_ring(&{{aport: 1, partner_id: {partner}, pad: 0}})")
}

/// Sends pieces to port 1 of d1.
fn send(issuer: &str, pieces: &[&str]) -> String {
    let (count, pieces) = (pieces.len(), pieces.join(", "));
    format!(
        "{issuer} argo_op.sendv(&{{src: {{aport: 2, domain_id: 0x7ff4, pad: 0}}, dst: {{aport: 1, domain_id: d1, pad: 0}}}}, &[{pieces}], {count}, 7)"
    )
}

/// A piece of a message.
fn piece(text: &str) -> String {
    format!("{{iov_hnd: &\"{text}\", iov_len: {}, pad: 0}}", text.len())
}

/// A piece of so many bytes, all of them 0x61.
fn long(len: u32) -> String {
    format!("{{iov_hnd: &fill(0x61, {len}), iov_len: {len}, pad: 0}}")
}

/// Asks whether so many bytes fit into the ring at a port.
fn ask(issuer: &str, aport: u32, domain: &str, space: u32) -> String {
    format!(
        "{issuer} argo_op.notify(&{{nent: 1, pad: 0, first: {{ring: {{aport: {aport}, domain_id: {domain}, pad: 0}}, flags: out, pad: 0, space_required: {space}, max_message_size: out}}}})"
    )
}

/// Bytes of messages in a ring of one page.
const PAGE: u32 = 4096 - 64;
/// Where the ring's owner reads on, and where the next message goes: two words.
const POINTERS: &str = "d1 agent.read(playground)";

fn ring(partner: &str) -> (String, &'static str) {
    (register(partner, PAGE, "0x0"), "= 0")
}

#[track_caller]
fn check(vm: &mut Vm, calls: Calls) {
    let calls: Vec<(&str, &str)> = calls.iter().map(|(call, answer)| (call.as_str(), *answer)).collect();
    vm.check(&calls);
}

#[test]
fn a_message_arrives_whole_and_with_its_source() {
    let mut vm = Vm::boot();
    let (hello, world) = (piece("hello, "), piece("world"));
    check(
        &mut vm,
        vec![
            ring("d2"),
            (POINTERS.into(), "= 0"),
            (send("d2", &[&hello, &world]), "= 12"),
            // Sixteen bytes of header, sixteen of text.
            (POINTERS.into(), "= 0x2000000000"),
            ("d1 agent.read(0x280040)".into(), "= 0x20000001c"),
            ("d1 agent.read(0x280048)".into(), "= 0x700000002"),
            ("d1 agent.read(0x280050)".into(), "= 0x77202c6f6c6c6568"),
            ("d1 agent.read(0x280058)".into(), "= 0x646c726f"),
            // A message without content is one.
            (send("d2", &[]), "= 0"),
            (POINTERS.into(), "= 0x3000000000"),
            ("d1 agent.read(0x280060)".into(), "= 0x200000010"),
        ],
    );
    vm.check_well();
}

#[test]
fn the_owner_is_told_by_a_virq() {
    let mut vm = Vm::boot();
    check(
        &mut vm,
        vec![
            ring("d2"),
            ("d1 event_channel_op.bind_virq(&{virq: 11, vcpu: 0, port: out})".into(), "= 0; arg.port = 1"),
            ("d1 agent.read(0x39000800)".into(), "= 0"),
            (send("d2", &[&piece("x")]), "= 1"),
            ("d1 agent.read(0x39000800)".into(), "= 2"),
        ],
    );
    vm.check_well();
}

#[test]
fn who_finds_no_space_is_told_when_there_is_some() {
    let mut vm = Vm::boot();
    let room = ask("d2", 1, "d1", 64);
    check(
        &mut vm,
        vec![
            ring("d2"),
            ("d2 event_channel_op.bind_virq(&{virq: 11, vcpu: 0, port: out})".into(), "= 0; arg.port = 1"),
            // Exists, empty, sufficient.
            (room.clone(), "= 0; data.first.flags = 0xd; data.first.max_message_size = 4000"),
            (send("d2", &[&long(4000)]), "= 4000"),
            (room.clone(), "= 0; data.first.flags = 0x1; data.first.max_message_size = 4000"),
            (send("d2", &[&piece("x")]), "= -11 (EAGAIN)"),
            // The ring is as full as before.
            ("d1 argo_op.notify(null)".into(), "= 0"),
            ("d2 agent.read(0x39000800)".into(), "= 0"),
            // Its owner reads everything.
            ("d1 agent.write(playground, 0xfb000000fb0)".into(), "= 0"),
            ("d1 argo_op.notify(null)".into(), "= 0"),
            ("d2 agent.read(0x39000800)".into(), "= 2"),
            (room, "= 0; data.first.flags = 0xd; data.first.max_message_size = 4000"),
            // Around the end: the header fills the last slot, the text is at the beginning.
            (send("d2", &[&piece("again")]), "= 5"),
            ("d1 agent.read(0x280040)".into(), "= 0x6e69616761"),
        ],
    );
    vm.check_well();
}

#[test]
fn questions_about_rings_are_answered() {
    let mut vm = Vm::boot();
    check(
        &mut vm,
        vec![
            ring("invalid"),
            // Exists, shared, empty; more than ever fits.
            (ask("d2", 1, "d1", 4001), "= 0; data.first.flags = 0x17; data.first.max_message_size = 4000"),
            (ask("d2", 1, "d1", 4000), "= 0; data.first.flags = 0xf; data.first.max_message_size = 4000"),
            (ask("d1", 1, "self", 1), "= 0"),
            (ask("d1", 1, "d1", 1), "= 0; data.first.flags = 0xf; data.first.max_message_size = 4000"),
            (ask("d2", 2, "d1", 1), "= 0"),
            (ask("d2", 1, "77", 1), "= 0"),
            (ask("d2", 1, "d1", 1).replace("nent: 1", "nent: 257"), "= -13 (EACCES)"),
            (ask("d2", 1, "d1", 1).replace("nent: 1, pad: 0", "nent: 1, pad: 1"), "= -22 (EINVAL)"),
            (
                ask("d2", 1, "d1", 1).replace("domain_id: d1, pad: 0", "domain_id: d1, pad: 1"),
                "= -22 (EINVAL)",
            ),
            (ask("d2", 1, "d1", 1).replace("nent: 1", "nent: 0"), "= 0"),
            ("d2 argo_op.notify(bad(0x3ffffc))".into(), "= -14 (EFAULT)"),
            ("d2 raw.call(39, 4, 0, 0x290000, 0, 0, 0)".into(), "= -22 (EINVAL)"),
        ],
    );
    vm.check_well();
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let mut vm = Vm::boot();
    let text = piece("x");
    let to = |what: &str, other: &str| send("d2", &[&text]).replace(what, other);
    check(
        &mut vm,
        vec![
            (send("d2", &[&text]), "= -111 (ECONNREFUSED)"),
            ring("d2"),
            (send("d0", &[&text]), "= -111 (ECONNREFUSED)"),
            (to("dst: {aport: 1", "dst: {aport: 2"), "= -111 (ECONNREFUSED)"),
            (to("domain_id: d1", "domain_id: 77"), "= -3 (ESRCH)"),
            (to("domain_id: 0x7ff4", "domain_id: 1"), "= -1 (EPERM)"),
            (to("domain_id: d1, pad: 0", "domain_id: d1, pad: 1"), "= -22 (EINVAL)"),
            (to("iov_len: 1, pad: 0", "iov_len: 1, pad: 1"), "= -22 (EINVAL)"),
            (to("iov_len: 1", "iov_len: 0x1000001"), "= -90 (EMSGSIZE)"),
            (to("iov_len: 1", "iov_len: 4001"), "= -90 (EMSGSIZE)"),
            (send("d2", &[text.as_str(); 9]), "= -22 (EINVAL)"),
            (send("d2", &["{iov_hnd: null, iov_len: 1, pad: 0}"]), "= -14 (EFAULT)"),
            (send("d2", &["{iov_hnd: bad(0xfffffffffffffff8), iov_len: 16, pad: 0}"]), "= -14 (EFAULT)"),
            ("d2 argo_op.sendv(null, null, 0, 7)".into(), "= -14 (EFAULT)"),
            (to("&[{iov_hnd: &\"x\", iov_len: 1, pad: 0}]", "null"), "= -14 (EFAULT)"),
            (POINTERS.into(), "= 0"),
            (to("domain_id: 0x7ff4", "domain_id: 2"), "= 1"),
        ],
    );
    vm.check_well();
}

#[test]
fn rings_are_registered_as_documented() {
    let mut vm = Vm::boot();
    let good = register("d2", PAGE, "0x0");
    let with = |what: &str, other: &str| good.replace(what, other);
    check(
        &mut vm,
        vec![
            (register("d2", 32, "0x0"), "= -22 (EINVAL)"),
            (register("d2", PAGE - 1, "0x0"), "= -22 (EINVAL)"),
            (register("d2", PAGE + 16, "0x0"), "= -22 (EINVAL)"),
            (register("d2", 0x100_0010, "0x0"), "= -22 (EINVAL)"),
            (register("d2", PAGE, "0x2"), "= -22 (EINVAL)"),
            (register("77", PAGE, "0x0"), "= -3 (ESRCH)"),
            (with("pad: 0", "pad: 1"), "= -22 (EINVAL)"),
            (with("], 1,", "], 2,"), "= -22 (EINVAL)"),
            (with("[0x280]", "[0x600]"), "= -22 (EINVAL)"),
            (with("&[0x280]", "null"), "= -14 (EFAULT)"),
            ("d1 argo_op.register_ring(null, null, 1, 0x0)".into(), "= -14 (EFAULT)"),
            (unregister("d2"), "= -2 (ENOENT)"),
            (register("d2", PAGE, "fail_exist"), "= 0"),
            (register("d2", PAGE, "fail_exist"), "= -17 (EEXIST)"),
            (register("d2", PAGE - 16, "0x0"), "= -22 (EINVAL)"),
            // The same ring, in another page.
            (with("[0x280]", "[0x281]"), "= 0"),
            (send("d2", &[&piece("x")]), "= 1"),
            ("d1 agent.read(playground1)".into(), "= 0x2000000000"),
            (POINTERS.into(), "= 0"),
            // A domain's own ring goes before the one for all.
            (register("invalid", PAGE, "0x0"), "= 0"),
            (send("d2", &[&piece("x")]), "= 1"),
            ("d1 agent.read(playground1)".into(), "= 0x4000000000"),
            (unregister("d2"), "= 0"),
            (unregister("d2"), "= -2 (ENOENT)"),
            (send("d2", &[&piece("x")]), "= 1"),
            (POINTERS.into(), "= 0x2000000000"),
            (unregister("invalid").replace("pad: 0", "pad: 1"), "= -22 (EINVAL)"),
            (unregister("invalid"), "= 0"),
            (send("d2", &[&piece("x")]), "= -111 (ECONNREFUSED)"),
            ("d1 argo_op.unregister_ring(null)".into(), "= -14 (EFAULT)"),
            ("d1 raw.call(39, 2, 0x290000, 0, 1, 0, 0)".into(), "= -22 (EINVAL)"),
            ("d1 raw.call(39, 5, 0, 0, 0, 0, 0)".into(), "= -95 (EOPNOTSUPP)"),
            ("d1 raw.call(39, 3, 0, 0, 0x100000000, 0, 0)".into(), "= -22 (EINVAL)"),
        ],
    );
    vm.check_well();
}

#[test]
fn rings_are_limited_in_number() {
    let mut vm = Vm::boot();
    let mut calls: Calls = (0..16)
        .map(|port| (register("d2", PAGE, "0x0").replace("aport: 1", &format!("aport: {port}")), "= 0"))
        .collect();
    calls.push((register("d2", PAGE, "0x0").replace("aport: 1", "aport: 16"), "= -28 (ENOSPC)"));
    calls.push((unregister("d2"), "= 0"));
    calls.push((register("d2", PAGE, "0x0").replace("aport: 1", "aport: 16"), "= 0"));
    check(&mut vm, calls);
    vm.check_well();
}

#[test]
fn a_ring_keeps_its_pages_and_goes_with_its_domain() {
    let mut vm = Vm::boot();
    let destroy = ("d0 domctl.destroydomain(&{domain: d1})".to_owned(), "= *");
    check(
        &mut vm,
        vec![
            ring("d2"),
            // The owner gives its page away; the ring still has it.
            (
                "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x280], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})"
                    .into(),
                "= 1",
            ),
            (send("d2", &[&piece("x")]), "= 1"),
            destroy.clone(),
            destroy.clone(),
            destroy,
            ("d0 domctl.destroydomain(&{domain: d1})".into(), "= -3 (ESRCH)"),
            (send("d2", &[&piece("x")]), "= -3 (ESRCH)"),
        ],
    );
    vm.check_well();
}
