//! The binaries that the build script made: they travel inside the executable, so that an installed `hyperfuzz` needs
//! nothing beside it but QEMU.

use std::ops::Range;

use object::{Object, ObjectSymbol};

use crate::engine::build_name;

/// The hypervisor's image: an ELF file with a PVH entry and line tables.
pub const HYPERVISOR: &[u8] = include_bytes!(env!("HYPERFUZZ_HYPERVISOR"));
/// The agent: an ELF file with a PVH entry.
pub const AGENT: &[u8] = include_bytes!(env!("HYPERFUZZ_AGENT"));
/// QEMU's plugin: a shared object for the host.
pub const PLUGIN: &[u8] = include_bytes!(env!("HYPERFUZZ_PLUGIN"));

/// Build of the hypervisor's image as campaigns name it: the linker's build id.
pub fn build() -> Option<String> {
    let file = object::File::parse(HYPERVISOR).ok()?;
    let id = file.build_id().ok().flatten()?;
    Some(build_name(id))
}

/// Where the hypervisor's code lies in its address space.
pub fn code() -> Option<Range<u64>> {
    let file = object::File::parse(HYPERVISOR).ok()?;
    let bound = |name| file.symbols().find(|symbol| symbol.name() == Ok(name)).map(|symbol| symbol.address());
    Some(bound("__text_start")?..bound("__text_end")?)
}
