//! Every number, size and offset of this crate, compared with Xen's public headers.
//!
//! The tables beside this file say what each item is called in C. A program made of those names is compiled against
//! the headers (Debian's package `libxen-dev`) and prints what they mean. A second test reads the sources of the crate
//! and demands that each public constant, structure and field stands in a table.
//!
//! Without a C compiler or the headers the comparison is *ignored*, and counted as such, unless the variable
//! `XEN_HEADERS` is set to `required`. `XEN_INCLUDE` names the folder of the headers if it is not `/usr/include/xen`.

mod compiler;
mod sources;
#[macro_use]
mod table;
mod tables;

use std::{collections::BTreeSet, env, fmt::Write, path::PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use table::Table;

/// Where the headers are.
fn include() -> PathBuf {
    env::var_os("XEN_INCLUDE").map_or_else(|| "/usr/include/xen".into(), PathBuf::from)
}

/// Why there is nothing to compare with, if so.
fn missing() -> Option<String> {
    let headers = include();
    if !headers.join("xen.h").is_file() {
        return Some(format!(
            "{} has no xen.h: install libxen-dev, or set XEN_INCLUDE to the folder of Xen's public headers",
            headers.display()
        ));
    }
    compiler::missing()
}

/// What the headers say is what the crate says.
fn compare(table: &Table) -> Result<(), Failed> {
    let expressions: Vec<&str> = table.checks.iter().map(|check| check.c.as_str()).collect();
    let found = compiler::evaluate(&include(), &table.headers, &expressions)?;
    let mut wrong = String::new();
    for (check, found) in table.checks.iter().zip(&found) {
        if check.value != *found {
            let _ = writeln!(wrong, "{} is {}, but {} is {found}", check.rust, check.value, check.c);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}

/// Each public item is in a table, and each item of a table exists.
fn complete(table: &Table) -> Result<(), Failed> {
    let written: BTreeSet<String> = sources::public_items();
    if written.len() < 300 {
        return Err(format!("only {} items were found in the sources", written.len()).into());
    }
    let mut wrong = String::new();
    for name in written.difference(&table.names) {
        let _ = writeln!(wrong, "{name} stands in no table of tests/headers/tables");
    }
    for name in table.names.difference(&written) {
        let _ = writeln!(wrong, "{name} stands in a table, but not in the sources");
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}

fn main() {
    let arguments = Arguments::from_args();
    let missing = missing();
    let required = env::var("XEN_HEADERS").is_ok_and(|value| value == "required");
    if let Some(why) = &missing {
        eprintln!("the comparison with Xen's headers cannot be made: {why}");
    }
    let comparison = match missing.clone() {
        Some(why) if required => Trial::test("abi_is_that_of_the_headers", move || Err(why.into())),
        _ => Trial::test("abi_is_that_of_the_headers", || compare(&tables::all())),
    };
    let tests = vec![
        comparison.with_ignored_flag(missing.is_some() && !required),
        Trial::test("every_item_stands_in_a_table", || complete(&tables::all())),
        Trial::test("a_wrong_value_is_found", || {
            let mut table = tables::all();
            table.checks.truncate(1);
            table.checks[0].value += 1;
            let said = compare(&table).err().and_then(|error| error.message().map(str::to_owned));
            let named =
                said.is_some_and(|said| said.starts_with(&table.checks[0].rust) && said.contains(", but "));
            if named { Ok(()) } else { Err("a wrong value went unnoticed".into()) }
        })
        .with_ignored_flag(missing.is_some()),
    ];
    libtest_mimic::run(&arguments, tests).exit();
}
