//! `xen_version` and `console_io`.

use crate::common::Vm;

#[test]
fn both_domains_answer() {
    let mut vm = Vm::boot();
    vm.check(&[("d1 xen_version.version()", "= 0x40011"), ("d2 xen_version.version()", "= 0x40011")]);
    vm.check_well();
}

#[test]
fn version_tells_what_the_hypervisor_is() {
    let run = Vm::boot().check(&[
        ("d1 xen_version.extraversion(&{text: out})", r#"= 0; arg.text = ".0-hyperfuzz\x00\x00\x00\x00""#),
        (
            "d1 xen_version.compile_info(&{compiler: out, compile_by: out, compile_domain: out, compile_date: out})",
            r#"= 0; arg.compiler = "rustc\x00*"#,
        ),
        ("d1 xen_version.capabilities(&fill(0x0, 1024))", "= 0*"),
        ("d1 xen_version.changeset(&{text: out})", "= 0; arg.text = *"),
        ("d1 xen_version.platform_parameters(&{virt_start: 0x1234})", "= 0; arg.virt_start = 0x0"),
        ("d1 xen_version.get_features(&{submap_idx: 0, submap: out})", "= 0; arg.submap = 0x*"),
        ("d1 xen_version.get_features(&{submap_idx: 99, submap: out})", "= -22 (EINVAL)"),
        ("d2 xen_version.guest_handle(&{uuid: out})", r#"= 0; arg.uuid = "\x02\x00*"#),
        ("d1 xen_version.commandline(&fill(0x0, 1024))", "= 0*"),
        ("d1 xen_version.build_id(&{len: 32, buf: out})", "= 32; arg.buf = *"),
        ("d1 xen_version.build_id(&{len: 31, buf: out})", "= -105 (ENOBUFS)"),
        ("d1 xen_version.build_id(&{len: 0, buf: out})", "= -22 (EINVAL)"),
        ("d1 xen_version.build_id(null)", "= 32"),
        ("d1 raw.call(17, 7, 0, 0, 0, 0, 0)", "= 0x1000"),
        ("d1 raw.call(17, 99, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
    // The features have their bits (`XENFEAT_*`): auto-translated physmap is bit 2.
    let bits = run.answers[5].rsplit_once("0x").and_then(|(_, hex)| u32::from_str_radix(hex, 16).ok());
    assert_eq!(bits.map(|bits| bits >> 2 & 1), Some(1), "{}", run.answers[5]);
}

#[test]
fn version_refuses_addresses_that_are_not_there() {
    let ops = ["extraversion", "compile_info", "capabilities", "changeset", "platform_parameters"];
    let ops = ops.into_iter().chain(["get_features", "guest_handle", "commandline"]);
    let mut vm = Vm::boot();
    for op in ops {
        for pointer in
            ["null", "bad(0xffffffffffffffff)", "bad(0x800000000000)", "bad(0x3fffff)", "bad(0xfffffff000)"]
        {
            vm.check(&[
                (&format!("d1 xen_version.{op}({pointer})"), "= -14 (EFAULT)"),
                ("d1 xen_version.version()", "= 0x40011"),
            ]);
        }
    }
    vm.check_well();
}

#[test]
fn console_writes_lines_of_text() {
    let mut vm = Vm::boot();
    let run = vm.check(&[
        (r#"d1 console_io.write(4, &"abc\n")"#, "= 0"),
        (r#"d2 console_io.write(7, &"x\x01\x1bz!\n")"#, "= 0"),
        ("d1 console_io.write(0, bad(0x1))", "= 0"),
        ("d1 console_io.write(4, null)", "= -14 (EFAULT)"),
        ("d1 console_io.write(16, bad(0xfffffffffffffff8))", "= -14 (EFAULT)"),
        ("d1 console_io.read(16, &fill(0x0, 16))", "= 0"),
        ("d1 console_io.read(0x80000000, &fill(0x0, 16))", "= -22 (EINVAL)"),
        ("d1 raw.call(18, 7, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
    let said = String::from_utf8_lossy(&run.execution.console);
    assert!(said.contains("(d1) abc\n") && said.contains("(d2) xz!\n"), "{said}");
    // The count is unsigned: a huge one is cut off, or runs into memory that is not there.
    vm.check(&[("d1 console_io.write(0x80000000, &\"abc\\n\")", "= 0")]);
    vm.check_well();
}
