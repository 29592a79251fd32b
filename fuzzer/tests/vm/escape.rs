//! Guests that reach for the hypervisor: its memory, the processor's state, odd flags, stacks and return addresses. The guest may
//! lose its life; the hypervisor never does.

use hyperfuzz::{
    engine::{Execution, Outcome},
    target::Target,
};

use crate::common::{NEVER, TARGET, Vm};

/// Addresses of the hypervisor, in its direct map and its image, and around both halves.
const NOT_OURS: [u64; 8] = [
    0xffff_8000_0000_0000,
    0xffff_8000_0010_0000,
    0xffff_8000_0040_1000,
    0xffff_ffff_8010_0000,
    0xffff_ffff_8020_0000,
    0xffff_ffff_ffff_f000,
    0x0000_7fff_ffff_f000,
    0x0000_0000_0000_0008,
];
/// Where programs put code.
const CODE: u64 = 0x28_0000;
const WELL: (&str, &str) = ("d1 xen_version.version()", "= 0x40011");

/// The instruction of a hypercall: SYSCALL or VMMCALL.
fn hypercall() -> &'static [u8] {
    if TARGET == Target::ReferencePv { &[0x0f, 0x05] } else { &[0x0f, 0x01, 0xd9] }
}

/// Calls that put machine code at an address and run it.
fn program(at: u64, code: &[u8]) -> Vec<String> {
    let mut calls: Vec<String> = code
        .chunks(8)
        .enumerate()
        .map(|(n, chunk)| {
            let mut word = [0xcc; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            format!("d1 agent.write({:#x}, {:#x})", at + n as u64 * 8, u64::from_le_bytes(word))
        })
        .collect();
    calls.push(format!("d1 agent.exec({at:#x})"));
    calls
}

/// What running machine code answers.
fn answer(vm: &mut Vm, code: &[u8]) -> String {
    let run = vm.run(&program(CODE, code).join("\n"));
    assert_unharmed(&run.execution, &format!("{code:02x?}"));
    run.answers.last().cloned().unwrap_or_default()
}

#[track_caller]
fn assert_unharmed(execution: &Execution, what: &str) {
    let harmed =
        matches!(execution.outcome, Outcome::Crash | Outcome::TripleFault | Outcome::Timeout | Outcome::Hang);
    assert!(!harmed && execution.crash.is_none(), "{what}: {execution:?}");
}

/// `mov eax, 17; xor edi, edi`, then the hypercall: xen_version.version().
fn version_call() -> Vec<u8> {
    [&[0xb8, 17, 0, 0, 0, 0x31, 0xff][..], hypercall()].concat()
}

#[test]
fn memory_of_the_hypervisor_is_not_there() {
    let mut vm = Vm::boot();
    for at in NOT_OURS {
        vm.check(&[
            (&format!("d1 agent.read({at:#x})"), "raised exception 14, error 0x0, *"),
            (&format!("d1 agent.write({at:#x}, 0x1)"), "raised exception 14, error 0x2, *"),
            (&format!("d1 agent.exec({at:#x})"), "raised exception 14, *"),
            WELL,
        ]);
        for call in [
            format!("d1 xen_version.extraversion(bad({at:#x}))"),
            format!("d1 event_channel_op.close(bad({at:#x}))"),
            format!("d1 console_io.write(8, bad({at:#x}))"),
            format!("d1 memory_op.current_reservation(bad({at:#x}))"),
        ] {
            vm.check(&[(&call, "= -14 (EFAULT)"), WELL]);
        }
    }
    // What only the image writes is read-only for everybody.
    vm.check(&[("d1 agent.write(0x100000, 0x1)", "raised exception 14, error 0x3, *"), WELL]);
    vm.check_well();
}

#[test]
fn flags_of_a_caller_do_not_reach_the_hypervisor() {
    let mut vm = Vm::boot();
    // pushfq; or dword [rsp], flags; popfq; the call; cld; ret
    let with = |flags: u32| {
        [&[0x9c, 0x81, 0x0c, 0x24][..], &flags.to_le_bytes(), &[0x9d], &version_call(), &[0xfc, 0xc3]]
            .concat()
    };
    // DF, AC, NT, ID, IOPL, all arithmetic flags.
    for flags in [0x400, 0x4_0000, 0x4000, 0x20_0000, 0x3000, 0x8d5, 0x26_7cd5] {
        assert_eq!(answer(&mut vm, &with(flags)), "= 0x40011", "flags {flags:#x}");
    }
    // TF: a debug exception after the next instruction.
    assert!(answer(&mut vm, &with(0x100)).starts_with("raised exception 1, "));
    // mov eax, 17; xor edi, edi; pushfq; or dword [rsp], TF; popfq; the call. It comes behind the call.
    let code = [
        &[0xb8, 17, 0, 0, 0, 0x31, 0xff, 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d][..],
        hypercall(),
        &[0x90, 0xc3],
    ]
    .concat();
    let said = answer(&mut vm, &code);
    assert!(said.starts_with("raised exception 1, "), "{said}");
    vm.check_well();
}

#[test]
fn a_stack_pointer_is_never_used_by_the_hypervisor() {
    let mut vm = Vm::boot();
    for rsp in [0, 8, 0x8000_0000_0000, u64::MAX, 0xffff_8000_0010_0000, 0xffff_ffff_8020_0000] {
        // mov rbx, rsp; mov rsp, imm64; the call; mov rsp, rbx; ret
        let code = [
            &[0x48, 0x89, 0xe3, 0x48, 0xbc][..],
            &rsp.to_le_bytes(),
            &version_call(),
            &[0x48, 0x89, 0xdc, 0xc3],
        ]
        .concat();
        assert_eq!(answer(&mut vm, &code), "= 0x40011", "stack at {rsp:#x}");
        // mov rsp, imm64; ud2
        let code = [&[0x48, 0xbc][..], &rsp.to_le_bytes(), &[0x0f, 0x0b]].concat();
        let said = answer(&mut vm, &code);
        if TARGET == Target::ReferencePv {
            // Xen ends a guest whose exceptions have no place to go; an hvm guest has a stack for them.
            assert_eq!(said, NEVER, "stack at {rsp:#x}");
        } else {
            assert!(said.starts_with("raised exception 6, "), "stack at {rsp:#x}: {said}");
        }
        vm.check_well();
    }
}

#[test]
fn privileged_instructions_stay_with_the_hypervisor() {
    let mut vm = Vm::boot();
    let pv = TARGET == Target::ReferencePv;
    // Instructions that fault in a pv guest; a `true` says that an hvm guest, which has a processor of its own, may have them.
    let instructions: &[(&str, &[u8], bool)] = &[
        ("mov dr7, rax", &[0x0f, 0x23, 0xf8], true),
        ("mov rax, dr7", &[0x0f, 0x21, 0xf8], true),
        ("mov rax, cr3", &[0x0f, 0x20, 0xd8], true),
        ("cli", &[0xfa], true),
        ("clts", &[0x0f, 0x06], true),
        ("swapgs; swapgs", &[0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8], true),
        ("lmsw ax", &[0x0f, 0x01, 0xf0], true),
        ("invlpg [rdi]", &[0x0f, 0x01, 0x3f], true),
        ("rdpmc", &[0x0f, 0x33], false),
        ("vmrun", &[0x0f, 0x01, 0xd8], false),
        ("vmload", &[0x0f, 0x01, 0xda], false),
        ("vmsave", &[0x0f, 0x01, 0xdb], false),
        ("stgi", &[0x0f, 0x01, 0xdc], false),
        ("clgi", &[0x0f, 0x01, 0xdd], false),
        ("skinit", &[0x0f, 0x01, 0xde], false),
        ("mov ds, 0x18", &[0xb8, 0x18, 0, 0, 0, 0x8e, 0xd8], false),
        ("mov ss, 0x8", &[0xb8, 0x08, 0, 0, 0, 0x8e, 0xd0], false),
        ("int 0x80", &[0xcd, 0x80], false),
    ];
    for (name, code, of_hvm) in instructions {
        let said = answer(&mut vm, &[code, &[0xc3][..]].concat());
        assert_eq!(said.starts_with("raised exception "), pv || !of_hvm, "{name}: {said}");
        vm.check(&[WELL]);
    }
    if pv {
        for (name, code) in [
            ("hlt", &[0xf4][..]),
            ("lgdt [rdi]", &[0x0f, 0x01, 0x17]),
            ("lidt [rdi]", &[0x0f, 0x01, 0x1f]),
            ("lldt ax", &[0x0f, 0x00, 0xd0]),
            ("ltr ax", &[0x0f, 0x00, 0xd8]),
            ("mov cr0, rax", &[0x0f, 0x22, 0xc0]),
            ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
            ("mov cr4, rax", &[0x0f, 0x22, 0xe0]),
            ("sysretq", &[0x48, 0x0f, 0x07]),
            ("sysenter", &[0x0f, 0x34]),
            ("vmmcall", &[0x0f, 0x01, 0xd9]),
            // Exceptions by INT: their gates are the processor's.
            ("int 2", &[0xcd, 0x02]),
            ("int 8", &[0xcd, 0x08]),
            ("int 14", &[0xcd, 0x0e]),
            ("int 18", &[0xcd, 0x12]),
            // push 0x10; push 0; push 2; push 8; push 0; iretq: to the hypervisor's selectors
            ("iretq", &[0x6a, 0x10, 0x6a, 0, 0x6a, 2, 0x6a, 8, 0x6a, 0, 0x48, 0xcf]),
            // push 8; push 0; retfq
            ("retfq", &[0x6a, 8, 0x6a, 0, 0x48, 0xcb]),
        ] {
            let said = answer(&mut vm, code);
            assert!(said.starts_with("raised exception "), "{name}: {said}");
            vm.check(&[WELL]);
        }
        assert!(
            answer(&mut vm, &[0xcd, 0x0e]).starts_with("raised exception 13, "),
            "INT 14 is no page fault"
        );
    }
    let said = answer(&mut vm, &[0xcc, 0xc3]);
    assert!(said.starts_with("raised exception 3, "), "int3: {said}");
    let said = answer(&mut vm, &[0xf1, 0xc3]);
    assert!(said.starts_with("raised exception "), "int1: {said}");
    vm.check_well();
}

#[test]
fn segments_belong_to_one_domain() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 agent.wrmsr(fs_base, 0x1111)", "= 0"),
        ("d1 agent.wrmsr(gs_base, 0x2222)", "= 0"),
        ("d2 agent.rdmsr(fs_base)", "= 0"),
        ("d2 agent.rdmsr(gs_base)", "= 0"),
        ("d2 agent.wrmsr(fs_base, 0x3333)", "= 0"),
        ("d1 agent.rdmsr(fs_base)", "= 0x1111"),
        ("d1 agent.rdmsr(gs_base)", "= 0x2222"),
        ("d2 agent.rdmsr(fs_base)", "= 0x3333"),
        ("d1 agent.wrmsr(gs_base, 0xffff800000000000)", "= 0"),
        ("d1 agent.rdmsr(gs_base)", "= 0xffff800000000000"),
    ]);
    if TARGET == Target::ReferencePv {
        // An hvm guest writes its own register, and QEMU takes everything.
        vm.check(&[("d1 agent.wrmsr(fs_base, 0x800000000000)", "raised exception 13, *"), WELL]);
    }
    vm.check_well();
}

#[test]
fn the_last_address_below_the_gap_is_no_way_out() {
    if TARGET != Target::ReferencePv {
        return;
    }
    let mut vm = Vm::boot();
    let page = "d1 memory_op.populate_physmap(0, &{extent_start: &[0x7ffffffff], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})";
    // nop; …; syscall at the very end: SYSRETQ would have to return to where no address is.
    vm.check(&[
        (page, "= 1"),
        ("d1 agent.write(0x7ffffffffff8, 0x050f909090909090)", "= 0"),
        ("d1 agent.exec(0x7ffffffffff8)", "raised exception 13, error 0x0, at 0x800000000000, *"),
        WELL,
    ]);
    // nop; …: the processor runs over the end by itself.
    vm.check(&[
        (page, "= 1"),
        ("d1 agent.write(0x7ffffffffff8, 0x9090909090909090)", "= 0"),
        ("d1 agent.exec(0x7ffffffffff8)", "raised exception 13, *"),
        WELL,
    ]);
    vm.check_well();
}

/// `mov rax, imm64; push rax` for each word, the last one first, then `mov eax, 23; syscall`.
fn iret(words: [u64; 9]) -> Vec<u8> {
    let mut code = Vec::new();
    for word in words.iter().rev() {
        code.extend([0x48, 0xb8]);
        code.extend(word.to_le_bytes());
        code.push(0x50);
    }
    code.extend([0xb8, 23, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b]);
    code
}

#[test]
fn iret_takes_what_ring_3_may_have() {
    if TARGET != Target::ReferencePv {
        return;
    }
    let mut vm = Vm::boot();
    // The code goes on in a second place: pushfq; pop rax; mov rsp, rbx; cld; ret.
    let target = CODE + 0x800;
    let mut run = |words: [u64; 9]| {
        let mut calls = vec![format!(
            "d1 agent.write({target:#x}, {:#x})",
            u64::from_le_bytes([0x9c, 0x58, 0x48, 0x89, 0xdc, 0xfc, 0xc3, 0xcc])
        )];
        // mov rbx, rsp first
        calls.extend(program(CODE, &[&[0x48, 0x89, 0xe3][..], &iret(words)].concat()));
        calls.push("d2 xen_version.version()".to_owned());
        let run = vm.run(&calls.join("\n"));
        assert_unharmed(&run.execution, &format!("{words:x?}"));
        let said = run.answers[run.answers.len() - 2].clone();
        vm.check_well();
        said
    };
    let stack = CODE + 0x1000;
    // Interrupts, I/O privilege, VM and RF stay as they are, whatever the guest asks for.
    assert_eq!(run([0, 0, 0, 0, target, 0xe030, !0x4100, stack, 0xe02b]), "= 0x240cd7");
    assert!(run([0, 0, 0, 0, target, 0xe030, 0x102, stack, 0]).starts_with("raised exception 1, "));
    let nowhere = run([0, 0, 0, 0, 0x8000_0000_0000, 0xe030, 2, stack, 0xe02b]);
    assert!(nowhere.starts_with("raised exception 13, "), "{nowhere}");
    let hypervisor = run([0, 0, 0, 0, 0xffff_ffff_8010_0000, 0xe030, 2, stack, 0xe02b]);
    assert!(hypervisor.starts_with("raised exception 14, "), "{hypervisor}");
    for (cs, ss) in
        [(8, 0x10), (0xe033, 0xe02b), (0, 0), (0xe030, 0x10), (u64::MAX, u64::MAX), (0xe02b, 0xe02b)]
    {
        assert_eq!(run([0, 0, 0, 0, target, cs, 2, stack, ss]), NEVER, "cs {cs:#x}, ss {ss:#x}");
    }
    for rsp in [0, 0xffff_8000_0010_0000_u64, 0x8000_0000_0000, u64::MAX] {
        // mov rsp, imm64; mov eax, 23; syscall
        let code = [&[0x48, 0xbc][..], &rsp.to_le_bytes(), &[0xb8, 23, 0, 0, 0, 0x0f, 0x05]].concat();
        assert_eq!(answer(&mut vm, &code), NEVER, "stack at {rsp:#x}");
        vm.check_well();
    }
}

#[test]
fn another_vcpu_begins_with_what_ring_3_may_have() {
    if TARGET != Target::ReferencePv {
        return;
    }
    let mut vm = Vm::boot();
    // `struct vcpu_guest_context` lies at the start of the code page: all zero but for what each case sets.
    let initialise = &format!("d1 raw.call(24, 0, 2, {CODE:#x}, 0, 0, 0)");
    let set = |offset: u64, value: u64| format!("d1 agent.write({:#x}, {value:#x})", CODE + offset);
    for (offset, value) in
        [(4824, 1), (4960, 1), (5144, 0x8000_0000_0000), (5152, 1 << 63), (5160, 0x8000_0000_0000)]
    {
        vm.check(&[(&set(offset, value), "= 0"), (initialise, "= -22 (EINVAL)"), WELL]);
    }
    vm.check(&[("d1 raw.call(24, 0, 2, 0x3ff000, 0, 0, 0)", "= -14 (EFAULT)"), WELL]);
    vm.check(&[("d1 raw.call(24, 0, 2, 0xffff800000000000, 0, 0, 0)", "= -14 (EFAULT)"), WELL]);
    vm.check(&[("d1 raw.call(24, 0, 1, 0x280000, 0, 0, 0)", "= -17 (EEXIST)"), WELL]);
    // RIP, RFLAGS, RSP: wherever it begins, its domain ends at most.
    for rip in [0, 0x8000_0000_0000, 0xffff_ffff_8010_0000, u64::MAX] {
        vm.check(&[
            (&set(648, rip), "= 0"),
            (&set(664, u64::MAX), "= 0"),
            (&set(672, 0xffff_8000_0010_0000), "= 0"),
            (initialise, "= 0"),
            (initialise, "= -17 (EEXIST)"),
            ("d1 vcpu_op.up(2)", "= 0"),
            ("d1 sched_op.yield()", NEVER),
            ("d2 xen_version.version()", "= 0x40011"),
        ]);
        vm.check_well();
    }
}

#[test]
fn handlers_may_lie_anywhere() {
    if TARGET != Target::ReferencePv {
        return;
    }
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 raw.call(0, 0xffff800000000000, 0, 0, 0, 0, 0)", "= -14 (EFAULT)"),
        ("d1 raw.call(0, 0x800000000000, 0, 0, 0, 0, 0)", "= -14 (EFAULT)"),
        ("d1 raw.call(0, 8, 0, 0, 0, 0, 0)", "= -14 (EFAULT)"),
        ("d1 raw.call(25, 0, 0x800000000000, 0, 0, 0, 0)", "= -22 (EINVAL)"),
        ("d1 raw.call(25, 9, 0, 0, 0, 0, 0)", "= -22 (EINVAL)"),
        ("d1 raw.call(25, 0, 0x4567, 0, 0, 0, 0)", "= 0"),
        ("d1 agent.rdmsr(fs_base)", "= 0x4567"),
        // A table of whatever lies there that does not end.
        ("d1 agent.write(playground, 0x6)", "= 0"),
        ("d1 agent.ud2()", "raised exception 6, *"),
    ]);
    for handler in
        [0xffff_8000_0010_0000_u64, 0xffff_ffff_8010_0000, 0x8000_0000_0000, 0x7fff_ffff_f000, 1, CODE]
    {
        // The handler of #UD; the list ends behind it.
        let run = vm.run(&format!(
            "d1 agent.write({CODE:#x}, 0x6)\nd1 agent.write({:#x}, {handler:#x})\nd1 raw.call(0, {CODE:#x}, 0, 0, 0, 0, 0)\n\
             d1 agent.ud2()\nd2 xen_version.version()",
            CODE + 8
        ));
        assert_unharmed(&run.execution, &format!("handler at {handler:#x}"));
        assert_eq!(run.answers[2], "= 0");
        if handler >> 47 != 0 {
            assert_eq!((run.answers[3].as_str(), run.answers[4].as_str()), (NEVER, "= 0x40011"));
        }
        vm.check_well();
    }
    // No handlers at all: the first exception ends the domain, and only it.
    let run = vm.run("d1 raw.call(0, 0, 0, 0, 0, 0, 0)\nd1 agent.ud2()\nd2 xen_version.version()");
    assert_eq!(run.answers, ["= 0", NEVER, "= 0x40011"]);
    vm.check_well();
}
