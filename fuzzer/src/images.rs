//! The binaries that the build script made: they travel inside the executable, so that an installed `hyperfuzz` needs
//! nothing beside it but QEMU.

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
    let id = object::Object::build_id(&file).ok().flatten()?;
    Some(build_name(id))
}
