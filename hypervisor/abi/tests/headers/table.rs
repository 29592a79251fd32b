//! The vocabulary of the tables.

use std::collections::BTreeSet;

/// A value that the crate and the headers should agree about.
pub(crate) struct Check {
    /// What it is in the crate.
    pub(crate) rust: String,
    /// What it is in C: an expression.
    pub(crate) c: String,
    /// Its value in the crate, of 64 bits.
    pub(crate) value: i64,
}

/// What is compared.
#[derive(Default)]
pub(crate) struct Table {
    /// Headers, relative to the folder of `xen.h`.
    pub(crate) headers: Vec<&'static str>,
    /// All values.
    pub(crate) checks: Vec<Check>,
    /// Items of the crate that were listed.
    pub(crate) names: BTreeSet<String>,
}

impl Table {
    /// The headers that the next items need.
    pub(crate) fn include(&mut self, headers: &[&'static str]) {
        self.headers.extend(headers);
    }

    /// Lists an item. Paths come as tokens, so blanks are taken out.
    pub(crate) fn name(&mut self, path: &str) -> String {
        let path: String = path.split_whitespace().collect();
        let path = path.strip_prefix("xen_abi::").unwrap_or(&path).to_owned();
        assert!(self.names.insert(path.clone()), "{path} is listed twice");
        path
    }

    /// Lists an item that has no counterpart, and says why.
    pub(crate) fn own(&mut self, path: &str, why: &str) {
        assert!(!why.is_empty(), "{path} needs a reason");
        self.name(path);
    }

    /// Adds a value.
    pub(crate) fn check(&mut self, rust: String, c: String, value: i64) {
        self.checks.push(Check { rust, c, value });
    }
}

/// Bytes of the field that `_access` selects.
pub(crate) const fn field_size<T, F>(_access: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Constants of a module: `numbers!(table, event, { CLOSE: "EVTCHNOP_close", ... });`
macro_rules! numbers {
    ($table:expr, $module:ident, { $($name:ident: $c:expr,)+ }) => {
        $(
            let name = $table.name(stringify!($module::$name));
            #[allow(clippy::unnecessary_cast, reason = "constants have many types")]
            $table.check(name, String::from($c), xen_abi::$module::$name as i64);
        )+
    };
}

/// Variants of an enumeration: `variants!(table, errno::Errno, { Perm: "XEN_EPERM", ... });`
macro_rules! variants {
    ($table:expr, $module:ident :: $owner:ident, { $($name:ident: $c:expr,)+ }) => {
        $(
            let name = $table.name(stringify!($module::$owner::$name));
            $table.check(name, String::from($c), xen_abi::$module::$owner::$name as i64);
        )+
    };
}

/// A structure and its fields; a field has the same name in C unless another is given:
/// `structure!(table, event::Status, "struct evtchn_status", { dom, port, detail: "u.virq" });`
macro_rules! structure {
    ($table:expr, $module:ident :: $name:ident, $c:literal, { $($field:ident $(: $path:literal)?),* $(,)? }) => {
        let name = $table.name(stringify!($module :: $name));
        $table.check(format!("size of {name}"), format!("sizeof({})", $c), size_of::<xen_abi::$module::$name>() as i64);
        $(
            let field = stringify!($field);
            if !field.starts_with("reserved") && !field.starts_with("pad") {
                $table.name(&format!("{name}.{field}"));
            }
            #[allow(unused_mut, unused_assignments, reason = "not every field has another name in C")]
            let mut path = field;
            $(path = $path;)?
            $table.check(
                format!("offset of {name}.{field}"),
                format!("offsetof({}, {path})", $c),
                core::mem::offset_of!(xen_abi::$module::$name, $field) as i64,
            );
            $table.check(
                format!("size of {name}.{field}"),
                format!("FIELD_SIZE({}, {path})", $c),
                $crate::table::field_size(|it: &xen_abi::$module::$name| &it.$field) as i64,
            );
        )*
    };
}
