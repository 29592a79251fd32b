//! What gdb needs to look at a program: the images with their symbols, the hypervisor's sources, and a script that attaches, sets breakpoints and goes on to the
//! first call.

use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use coverage_hypercall::harness::HARNESS_OP;
use object::{Object, ObjectSymbol, SymbolKind};

use super::symbols::demangle;
use crate::{campaign::store::write_atomically, coverage::sources, images};

/// Name of the script.
const SCRIPT: &str = "session.gdb";
/// Names of the images beside it.
const HYPERVISOR: &str = "hypervisor.elf";
const AGENT: &str = "agent.elf";

/// Functions of the hypervisor's image at which a look is worth it, by the end of their names, and what it means to be there.
const ENDS: [(&str, &str); 5] = [
    ("::crash::exception", "the hypervisor raised an exception"),
    ("::crash::report", "the hypervisor panics, or an oracle of it reports"),
    ("::beacon::crashed", "the crash record is complete"),
    ("::beacon::idle", "no vCPU can run any more"),
    ("::beacon::done", "the program has come to its end"),
];
/// The function that carries hypercalls out.
const DISPATCHER: &str = "::Hypervisor>::hypercall";
/// The variable that holds the number of the hypercall that is being carried out: which register has it is the compiler's affair.
const NUMBER: &str = "::crash::HYPERCALL";
/// The function that executes the ready marker.
const READY: &str = "::beacon::ready";

/// Places in the hypervisor's image.
#[derive(Clone, Debug)]
pub struct Places {
    /// The function that executes the ready marker: programs begin there.
    pub ready: u64,
    /// The function that carries hypercalls out.
    dispatcher: u64,
    /// Where their number is.
    number: u64,
    /// Those of [`ENDS`] that the compiler has not inlined away.
    ends: Vec<(u64, &'static str)>,
}

/// The name of a variable of which the compiler kept a part only, and put the part's number behind a dot.
fn whole(symbol: &str) -> &str {
    match symbol.rsplit_once('.') {
        Some((name, part)) if part.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => symbol,
    }
}

impl Places {
    /// Finds them in an ELF image.
    ///
    /// # Errors
    /// Which one is missing.
    pub fn find(elf: &[u8]) -> anyhow::Result<Self> {
        let file = object::File::parse(elf).context("cannot read the hypervisor's image")?;
        let symbols: Vec<(String, u64)> = file
            .symbols()
            .filter(|symbol| {
                matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data) && symbol.size() > 0
            })
            .filter_map(|symbol| Some((demangle(whole(symbol.name().ok()?)), symbol.address())))
            .collect();
        let find = |end: &str| symbols.iter().find(|(name, _)| name.ends_with(end)).map(|(_, at)| *at);
        let required = |end| find(end).with_context(|| format!("the hypervisor's image has no symbol {end}"));
        Ok(Self {
            ready: required(READY)?,
            dispatcher: required(DISPATCHER)?,
            number: required(NUMBER)?,
            ends: ENDS.iter().filter_map(|(end, what)| Some((find(end)?, *what))).collect(),
        })
    }

    /// The script, for files in a directory and a stub at an address.
    fn script(&self, directory: &Path, stub: SocketAddr) -> String {
        let mut script = String::from("# Written by `hyperfuzz replay --gdb`.\n");
        let file = |name| directory.join(name).display().to_string();
        // Writing to a string cannot fail.
        let _ = write!(
            script,
            "set pagination off\nset confirm off\nset breakpoint pending off\nset architecture i386:x86-64\nset language c\n\
             set print asm-demangle on\ndirectory {}\nfile {}\nadd-symbol-file {}\ntarget remote {stub}\n",
            directory.display(),
            file(HYPERVISOR),
            file(AGENT)
        );
        for (address, what) in &self.ends {
            let _ = write!(script, "\n# Here {what}.\nbreak *{address:#x}\n");
        }
        let Self { dispatcher, number, .. } = self;
        let _ = write!(
            script,
            "\nset $hypercall = (unsigned long *) {number:#x}\n# Every hypercall but the agent's own; its number is *$hypercall.\n\
             break *{dispatcher:#x} if *$hypercall != {HARNESS_OP}\n\n# To the first call of the program.\ncontinue\n"
        );
        script
    }

    /// Writes script, images and sources into a directory. Returns where the script is.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path, hypervisor: &[u8], stub: SocketAddr) -> anyhow::Result<PathBuf> {
        write_atomically(&directory.join(HYPERVISOR), hypervisor)?;
        write_atomically(&directory.join(AGENT), images::AGENT)?;
        sources::write(directory)
            .with_context(|| format!("cannot write the hypervisor's sources to {}", directory.display()))?;
        let script = directory.join(SCRIPT);
        write_atomically(&script, self.script(directory, stub).as_bytes())?;
        Ok(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_the_places_and_the_script_stops_at_them() {
        let places = Places::find(images::HYPERVISOR).expect("none of them is inlined");
        assert!(places.ends.iter().any(|(_, what)| what.contains("crash record")), "{places:?}");
        let script = places.script(Path::new("/tmp/x"), "127.0.0.1:1234".parse().unwrap());
        assert!(
            script.contains("\nfile /tmp/x/hypervisor.elf\nadd-symbol-file /tmp/x/agent.elf\n"),
            "{script}"
        );
        assert!(
            script.contains("\ntarget remote 127.0.0.1:1234\n") && script.ends_with("\ncontinue\n"),
            "{script}"
        );
        assert_eq!(script.matches("\nbreak *0xffffffff8").count(), places.ends.len() + 1, "{script}");
        assert!(Places::find(b"nothing").is_err());
    }
}
