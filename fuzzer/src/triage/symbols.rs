//! Addresses to functions and source lines, from an image's own debug information.

use std::{io::Write, path::Path};

use super::{
    disassembly::{self, Listing},
    functions::{self, Function},
    layout::Layout,
};

/// One function that an address lies in. An address has several where functions were inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Demangled name, without the compiler's hash; `?` where there is no symbol.
    pub function: String,
    /// Source file, shortened to the part below the repository, and line.
    pub location: Option<(String, u32)>,
    /// True where the function was inlined into the next frame.
    pub inlined: bool,
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.function)?;
        if let Some((file, line)) = &self.location {
            write!(f, " at {file}:{line}")?;
        }
        if self.inlined {
            f.write_str(" (inlined)")?;
        }
        Ok(())
    }
}

/// The symbol table and line table of one image.
pub struct Symbols {
    /// Debug information, if there is any.
    loader: Option<addr2line::Loader>,
    layout: Layout,
    /// In ascending order of their addresses.
    functions: Vec<Function>,
}

impl Symbols {
    /// Reads the debug information of an ELF image.
    ///
    /// # Errors
    /// What is wrong with the image, or that no temporary file could be made for it.
    pub fn from_elf(elf: &[u8]) -> anyhow::Result<Self> {
        // The loader maps a file; once it has done so the name is not needed any more.
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(elf)?;
        let loader = addr2line::Loader::new(file.path())
            .map_err(|e| anyhow::anyhow!("cannot read the symbols of the hypervisor image: {e}"))?;
        Ok(Self { loader: Some(loader), layout: Layout::from_elf(elf), functions: functions::read(elf)? })
    }

    /// Knows nothing but these functions, in ascending order of their addresses.
    pub fn from_functions(functions: Vec<Function>) -> Self {
        Self { loader: None, layout: Layout::default(), functions }
    }

    /// The functions, in ascending order of their addresses.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// True where source lines are known.
    pub fn has_lines(&self) -> bool {
        self.loader.is_some()
    }

    /// The instructions around an address, if a function is there.
    pub fn listing(&self, address: u64) -> Option<Listing> {
        disassembly::around(&self.functions, address)
    }

    /// Where an edge counter is in the code: the innermost function with its line, and what it was inlined into.
    pub fn counter(&self, edge: usize) -> String {
        let Some(address) = self.layout.counter(edge) else { return "?".to_owned() };
        match self.frames(address).as_slice() {
            [] => "?".to_owned(),
            [only] => only.to_string(),
            [first, .., last] => format!("{first} into {}", last.function),
        }
    }

    /// What the image has at a physical address, if that is its own.
    pub fn data_at(&self, physical: u64) -> Option<String> {
        self.layout.data_at(physical)
    }

    /// Source lines of the instructions between two addresses, each once: those of inlined code where it was inlined.
    pub fn lines(&self, from: u64, to: u64) -> Vec<(String, u32)> {
        let ranges = self.loader.as_ref().and_then(|loader| loader.find_location_range(from, to).ok());
        let Some(ranges) = ranges else { return Vec::new() };
        let mut lines: Vec<_> =
            ranges.filter_map(|(_, _, place)| Some((shorten(place.file?).to_owned(), place.line?))).collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// The functions at an address, innermost first; never empty.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        let Some(loader) = &self.loader else {
            let function = functions::find(&self.functions, address);
            let function = function.map_or_else(|| "?".into(), |function| function.name.clone());
            return vec![Frame { function, location: None, inlined: false }];
        };
        let mut found = Vec::new();
        if let Ok(mut frames) = loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame.function.and_then(|f| f.demangle().ok().map(|n| strip_hash(&n)));
                let location =
                    frame.location.and_then(|l| Some((shorten(l.file?).to_owned(), l.line.unwrap_or(0))));
                if function.is_some() || location.is_some() {
                    found.push(Frame {
                        function: function.unwrap_or_else(|| "?".into()),
                        location,
                        inlined: true,
                    });
                }
            }
        }
        if let Some(physical) = found.last_mut() {
            physical.inlined = false;
            // Line tables give names without their modules: the symbol table knows the whole of the outermost one.
            if let Some(symbol) = loader.find_symbol(address) {
                physical.function = demangle(symbol);
            }
        } else {
            let function = loader.find_symbol(address).map_or_else(|| "?".into(), demangle);
            found.push(Frame { function, location: None, inlined: false });
        }
        found
    }
}

pub(super) fn demangle(symbol: &str) -> String {
    strip_hash(&format!("{:#}", rustc_demangle::demangle(symbol)))
}

/// Removes the legacy mangling's `::h0123456789abcdef`.
fn strip_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((front, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            front.to_owned()
        }
        _ => name.to_owned(),
    }
}

/// Removes everything in angle brackets, so that two instances of one function share a bucket; a method of
/// `<T as Trait>` keeps its type's name.
pub fn without_generics(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut depth = 0usize;
    let inner = name.strip_prefix('<').and_then(|rest| rest.split_once(">::"));
    if let Some((subject, method)) = inner {
        let subject = subject.split(" as ").next().unwrap_or(subject);
        return format!("{}::{}", without_generics(subject), without_generics(method));
    }
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out.trim_end_matches("::").replace("::::", "::")
}

/// The part of a source path that means something on another machine.
fn shorten(path: &str) -> &str {
    for root in ["/hypervisor/", "/coverage-hypercall/", "/xtf-agent/"] {
        if let Some(at) = path.rfind(root) {
            return &path[at + 1..];
        }
    }
    if let Some(at) = path.find("/library/") {
        return &path[at + 1..];
    }
    let name = Path::new(path).file_name().and_then(|n| n.to_str()).unwrap_or(path);
    match path.find("/registry/src/") {
        Some(at) => path[at + 14..].split_once('/').map_or(name, |(_, rest)| rest),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        assert_eq!(strip_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(strip_hash("a::hb"), "a::hb");
        assert_eq!(without_generics("a::Vec<u8>::push"), "a::Vec::push");
        assert_eq!(without_generics("a::f::<u8>"), "a::f");
        assert_eq!(without_generics("<a::T as b::U>::f"), "a::T::f");
        assert_eq!(without_generics("<a::T<u8> as b::U>::f"), "a::T::f");
    }

    #[test]
    fn paths_are_shortened() {
        assert_eq!(shorten("/x/y/hypervisor/src/lib.rs"), "hypervisor/src/lib.rs");
        assert_eq!(shorten("/rustc/abc/library/core/src/ptr.rs"), "library/core/src/ptr.rs");
        assert_eq!(shorten("/c/registry/src/index/talc-5/src/lib.rs"), "talc-5/src/lib.rs");
        assert_eq!(shorten("/elsewhere/a.rs"), "a.rs");
    }
}
