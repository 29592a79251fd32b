//! Images: Xen's, and the agent's for it.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use coverage_hypercall::channel::{CHANNEL_LEN, OWN_CHANNEL};
use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};

use super::{VIRT_START, table};
use crate::triage::functions::Function;

/// Where distributions put their images.
const BOOT: &str = "/boot";

/// Where images are unpacked that are not installed; none where there is no place for files of this user.
#[must_use]
pub fn unpacked_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(cache.join("hyperfuzz").join("xen"))
}

/// Finds the image of the newest Xen that the distribution has installed, or else the newest that was unpacked.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    newest(Path::new(BOOT)).or_else(|| newest(&unpacked_directory()?))
}

/// The image in a directory whose name comes last.
fn newest(directory: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("xen-") && name.ends_with(".gz"))
        })
        .collect();
    found.sort();
    found.pop()
}

/// Reads an image, compressed by gzip or not.
///
/// # Errors
/// What the system says.
pub fn read_image(path: &Path) -> io::Result<Vec<u8>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let bytes = std::fs::read(path)?;
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let output = Command::new("gzip").arg("-dc").arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Makes the agent's image claim all memory up to the end of the channel: Xen gives the initial domain what its image claims in one
/// piece, and maps it. None if the image is not what it should be.
#[must_use]
pub fn agent(image: &[u8]) -> Option<Vec<u8>> {
    /// Offset of `p_memsz` in a program header of an ELF file of 64 bits.
    const MEMORY_SIZE: usize = 40;
    let header = FileHeader64::<Endianness>::parse(image).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, image).ok()?;
    let loaded = segments.iter().enumerate().filter(|(_, segment)| segment.p_type(endian) == PT_LOAD);
    let (last, segment) = loaded.max_by_key(|(_, segment)| segment.p_vaddr(endian))?;
    let end = OWN_CHANNEL + CHANNEL_LEN as u64;
    let size = end.checked_sub(segment.p_vaddr(endian)).filter(|size| *size >= segment.p_memsz(endian))?;
    let first = usize::try_from(header.e_phoff(endian)).ok()?;
    let at = first + last * usize::from(header.e_phentsize(endian)) + MEMORY_SIZE;
    let mut image = image.to_vec();
    image.get_mut(at..at + 8)?.copy_from_slice(&size.to_le_bytes());
    Some(image)
}

/// Xen's functions, in ascending order of their addresses, by the names that its own call traces have. Each reaches up to the next
/// symbol.
#[must_use]
pub fn functions(image: &[u8]) -> Vec<Function> {
    let symbols = table::read(image).unwrap_or_default();
    let Some(code) = Code::read(image) else { return Vec::new() };
    let mut functions: Vec<Function> = symbols
        .iter()
        .enumerate()
        .filter(|(_, symbol)| matches!(symbol.kind, b't' | b'T'))
        .filter_map(|(n, symbol)| {
            let end = symbols[n..].iter().map(|next| next.offset).find(|next| *next > symbol.offset)?;
            let code = code.between(symbol.offset, end)?.to_vec();
            Some(Function { start: VIRT_START + u64::from(symbol.offset), name: symbol.name.clone(), code })
        })
        .collect();
    // Of several names for one place the first one stands for all.
    functions.dedup_by_key(|function| function.start);
    functions
}

/// What is loaded. Physical addresses of the image are distances from `XEN_VIRT_START`.
struct Code<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Code<'a> {
    fn read(image: &'a [u8]) -> Option<Self> {
        let header = FileHeader32::<Endianness>::parse(image).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, image).ok()?;
        let loaded = segments.iter().find(|segment| segment.p_type(endian) == PT_LOAD)?;
        Some(Self { start: loaded.p_paddr(endian).into(), bytes: loaded.data(endian, image).ok()? })
    }

    fn between(&self, from: u32, to: u32) -> Option<&'a [u8]> {
        let at = |offset: u32| usize::try_from(u64::from(offset).checked_sub(self.start)?).ok();
        self.bytes.get(at(from)?..at(to)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_whose_name_comes_last_is_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(newest(directory.path()), None);
        for name in ["xen-4.17-amd64.gz", "xen-4.14-amd64.gz", "xen-4.17-amd64.efi", "vmlinuz-6.1"] {
            std::fs::write(directory.path().join(name), b"").unwrap();
        }
        assert_eq!(newest(directory.path()), Some(directory.path().join("xen-4.17-amd64.gz")));
        assert_eq!(newest(&directory.path().join("missing")), None);
    }

    #[test]
    fn the_agent_claims_the_channel() {
        let image = agent(crate::images::AGENT).expect("the agent is an ELF file");
        assert_eq!(image.len(), crate::images::AGENT.len());
        let header = FileHeader64::<Endianness>::parse(image.as_slice()).unwrap();
        let endian = header.endian().unwrap();
        let segments = header.program_headers(endian, image.as_slice()).unwrap();
        let ends = segments.iter().map(|segment| segment.p_vaddr(endian) + segment.p_memsz(endian));
        assert_eq!(ends.max(), Some(OWN_CHANNEL + CHANNEL_LEN as u64));
        assert_eq!(agent(b"no image"), None);
    }
}
