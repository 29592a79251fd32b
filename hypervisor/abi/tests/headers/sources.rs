//! Which public items the crate has, as read from its sources.
//!
//! The sources are formatted by rustfmt, so that each item begins on a line of its own. Fields whose names begin with
//! `reserved` or `pad` fill gaps; sizes and the offsets of their neighbours tell whether they are right.

use std::{collections::BTreeSet, fs, path::Path};

/// Names as `module::NAME`, `module::Struct`, `module::Struct.field` and `module::Enum::Variant`.
pub(crate) fn public_items() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = BTreeSet::new();
    read_folder(&folder, "", &mut names);
    names
}

fn read_folder(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources can be listed").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a readable name").to_owned();
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}{stem}::"), names);
            continue;
        }
        let module = if matches!(stem.as_str(), "lib" | "mod") {
            prefix.to_owned()
        } else {
            format!("{prefix}{stem}::")
        };
        read(&fs::read_to_string(&path).expect("the sources can be read"), &module, names);
    }
}

/// The name at the start of `text`.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

fn read(source: &str, module: &str, names: &mut BTreeSet<String>) {
    // Structure or enumeration whose body this is.
    let mut within: Option<(String, bool)> = None;
    for line in source.lines() {
        if line == "#[cfg(test)]" {
            break;
        }
        let trimmed = line.trim_start();
        if line == "}" {
            within = None;
        } else if let Some((owner, is_enum)) = &within {
            if *is_enum && trimmed.starts_with(|c: char| c.is_ascii_uppercase()) {
                names.insert(format!("{owner}::{}", word(trimmed)));
            } else if let Some(field) = trimmed.strip_prefix("pub ") {
                let field = word(field.strip_prefix("r#").unwrap_or(field));
                if !field.starts_with("reserved") && !field.starts_with("pad") {
                    names.insert(format!("{owner}.{field}"));
                }
            }
        } else if let Some(rest) = line.strip_prefix("pub const ")
            && !rest.starts_with("fn ")
        {
            names.insert(format!("{module}{}", word(rest)));
        } else if let Some(rest) =
            line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub union "))
        {
            let name = format!("{module}{}", word(rest));
            names.insert(name.clone());
            if line.ends_with('{') {
                within = Some((name, false));
            }
        } else if let Some(rest) = line.strip_prefix("pub enum ") {
            within = Some((format!("{module}{}", word(rest)), true));
        }
    }
}
