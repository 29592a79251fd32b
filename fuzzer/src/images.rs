//! Images: those that the build script made and that travel inside the executable, so that an installed `hyperfuzz` needs
//! nothing beside it but QEMU; and other builds of the hypervisor, from files.

use std::{
    fmt,
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use object::{
    Architecture, Endianness, Object, ObjectSymbol,
    elf::NoteType,
    read::elf::{ElfFile64, ProgramHeader},
};
use serde::{Deserialize, Serialize};
use xen_abi::elfnote;

use crate::{engine::build_name, triage::points};

/// The hypervisor's image: an ELF file with a PVH entry and line tables.
pub const HYPERVISOR: &[u8] = include_bytes!(env!("HYPERFUZZ_HYPERVISOR"));
/// The agent: an ELF file with a PVH entry.
pub const AGENT: &[u8] = include_bytes!(env!("HYPERFUZZ_AGENT"));
/// QEMU's plugin: a shared object for the host.
pub const PLUGIN: &[u8] = include_bytes!(env!("HYPERFUZZ_PLUGIN"));

/// Most bytes of an image that is read from a file.
pub const MAX_IMAGE: u64 = 256 << 20;

/// Build of the hypervisor's image as campaigns name it: the linker's build id.
pub fn build() -> Option<String> {
    build_of(HYPERVISOR)
}

fn build_of(elf: &[u8]) -> Option<String> {
    let file = object::File::parse(elf).ok()?;
    let id = file.build_id().ok().flatten()?;
    Some(build_name(id))
}

/// Where the code of a hypervisor lies in its address space, if its image says so.
pub fn code_of(elf: &[u8]) -> Option<Range<u64>> {
    let file = object::File::parse(elf).ok()?;
    let bound = |name| file.symbols().find(|symbol| symbol.name() == Ok(name)).map(|symbol| symbol.address());
    Some(bound("__text_start")?..bound("__text_end")?)
}

/// Reads an ELF file whole.
///
/// # Errors
/// When it cannot be read, is too large, or something else.
pub fn read_elf(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_IMAGE + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > MAX_IMAGE {
        bail!("{} has more than {} MiB: that is no image to boot", path.display(), MAX_IMAGE >> 20);
    }
    if !bytes.starts_with(b"\x7fELF") {
        bail!("{} is no ELF file; an image to boot is one, with a PVH entry note", path.display());
    }
    Ok(bytes)
}

/// Another build of the hypervisor. Whoever gets one from another process reads the file again, and it has to be the same build.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Reference", into = "Reference")]
pub struct Image {
    reference: Reference,
    bytes: Arc<[u8]>,
}

/// Where an image is, and which build it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reference {
    path: PathBuf,
    build: String,
}

impl Image {
    /// Reads an image and looks whether it can be fuzzed: whether it can be booted, tells its build, and has edge counters with
    /// symbols for them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = read_elf(path)?;
        let build = check(&bytes).with_context(|| {
            format!("{} is no hypervisor that this hyperfuzz can work with", path.display())
        })?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { reference: Reference { path, build }, bytes: bytes.into() })
    }

    /// Its build, in hexadecimal.
    pub fn build(&self) -> &str {
        &self.reference.build
    }

    /// The ELF file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Nobody reads megabytes of images.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

impl From<Image> for Reference {
    fn from(image: Image) -> Self {
        image.reference
    }
}

impl TryFrom<Reference> for Image {
    type Error = anyhow::Error;

    fn try_from(reference: Reference) -> anyhow::Result<Self> {
        let image = Self::read(&reference.path)?;
        ensure!(
            image.build() == reference.build,
            "{} was build {} and is build {} now: leave it alone while it is fuzzed",
            reference.path.display(),
            reference.build,
            image.build()
        );
        Ok(image)
    }
}

/// Looks at an image; gives its build.
fn check(elf: &[u8]) -> anyhow::Result<String> {
    let file = ElfFile64::<Endianness>::parse(elf).context("not an ELF file of 64 bits")?;
    ensure!(file.architecture() == Architecture::X86_64, "not for x86-64");
    ensure!(
        has_entry(&file, elf),
        "no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY): nothing says where it begins"
    );
    let build = build_of(elf).context("no build id: link it with --build-id")?;
    let points = points::read(elf).context(
        "its edges cannot be told; build it with SanitizerCoverage's PC table, and do not strip it",
    )?;
    ensure!(!points.is_empty(), "no edge counters: it was built without coverage");
    let counters = points::between(&file, "sancov_cntrs")?;
    ensure!(
        counters.end - counters.start == points.len() as u64,
        "{} edge counters, but {} places for them",
        counters.end - counters.start,
        points.len()
    );
    Ok(build)
}

fn has_entry(file: &ElfFile64<'_>, elf: &[u8]) -> bool {
    let endian = file.endian();
    let notes =
        file.elf_program_headers().iter().filter_map(|header| header.notes(endian, elf).ok().flatten());
    notes.flatten().filter_map(Result::ok).any(|note| {
        note.name_bytes() == elfnote::NAME && note.n_type(endian) == NoteType(elfnote::PHYS32_ENTRY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hypervisor's image with some bytes exchanged for others, wherever they are.
    fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut image = HYPERVISOR.to_vec();
        let places: Vec<_> =
            (0..image.len() - from.len()).filter(|at| image[*at..].starts_with(from)).collect();
        assert!(!places.is_empty(), "{from:?}");
        for at in places {
            image[at..at + to.len()].copy_from_slice(to);
        }
        image
    }

    #[test]
    fn the_hypervisor_is_one() {
        assert_eq!(check(HYPERVISOR).ok(), build());
    }

    #[test]
    fn what_cannot_be_fuzzed_is_refused_with_a_reason() {
        let cases = [
            (b"\x7fELF".to_vec(), "64 bits"),
            (AGENT.to_vec(), "build id"),
            (changed(b"Xen\0", b"Zen\0"), "PVH entry note"),
            (changed(b"__start___sancov_pcs\0", b"__stort___sancov_pcs\0"), "edges cannot be told"),
            (changed(b"__stop___sancov_cntrs\0", b"__stip___sancov_cntrs\0"), "__stop___sancov_cntrs"),
        ];
        for (image, word) in cases {
            let error = format!("{:#}", check(&image).expect_err(word));
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn another_process_gets_the_same_build_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.elf");
        std::fs::write(&path, HYPERVISOR).unwrap();
        let image = Image::read(&path).unwrap();
        let text = serde_json::to_string(&image).unwrap();
        assert!(text.len() < 4096, "it fits into the orders of a worker: {}", text.len());
        let again: Image = serde_json::from_str(&text).unwrap();
        assert_eq!((again.build(), again.bytes()), (image.build(), HYPERVISOR));
        let other = text.replace(image.build(), "00");
        assert!(serde_json::from_str::<Image>(&other).unwrap_err().to_string().contains("was build 00"));
    }
}
