//! Asks the C compiler what expressions mean.

use std::{fmt::Write, fs, path::Path, process::Command};

use libtest_mimic::Failed;

/// Why there is no compiler, if so.
pub(crate) fn missing() -> Option<String> {
    let found = Command::new("cc").arg("--version").output();
    (!found.is_ok_and(|output| output.status.success()))
        .then(|| "the C compiler `cc` does not run: install gcc or clang".to_owned())
}

/// Values of integer expressions, given the headers of a folder. A value of 64 bits is taken as signed.
pub(crate) fn evaluate(include: &Path, headers: &[&str], expressions: &[&str]) -> Result<Vec<i64>, Failed> {
    let mut source = String::from("#include <stdint.h>\n#include <stddef.h>\n#include <stdio.h>\n");
    // The newest interface, and the part of it that is for tools.
    source.push_str("#define __XEN_TOOLS__ 1\n#include \"xen-compat.h\"\n#undef __XEN_INTERFACE_VERSION__\n");
    source.push_str("#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__\n");
    source.push_str("#define FIELD_SIZE(type, field) sizeof(((type *)0)->field)\n");
    for header in headers {
        let _ = writeln!(source, "#include \"{header}\"");
    }
    source.push_str("int main(void) {\n");
    for expression in expressions {
        let _ = writeln!(source, "    printf(\"%lld\\n\", (long long)({expression}));");
    }
    source.push_str("    return 0;\n}\n");
    let folder = tempfile::tempdir()?;
    let (file, program) = (folder.path().join("abi.c"), folder.path().join("abi"));
    fs::write(&file, source)?;
    let output = Command::new("cc")
        .arg("-m64")
        .arg("-iquote")
        .arg(include)
        .arg("-o")
        .args([&program, &file])
        .output()?;
    if !output.status.success() {
        return Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let output = Command::new(&program).output()?;
    let values: Result<Vec<i64>, _> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::parse).collect();
    let values = values?;
    if values.len() != expressions.len() {
        return Err("the program did not print all values".into());
    }
    Ok(values)
}
