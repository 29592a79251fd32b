//! `xen_version` (`public/version.h`): `cmd`, pointer to a buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Returns major << 16 | minor.
pub const VERSION: u32 = 0;
/// 16 bytes of text.
pub const EXTRAVERSION: u32 = 1;
/// [`CompileInfo`].
pub const COMPILE_INFO: u32 = 2;
/// 1024 bytes of text.
pub const CAPABILITIES: u32 = 3;
/// 64 bytes of text.
pub const CHANGESET: u32 = 4;
/// One `u64`: start of the hypervisor's part of the address space.
pub const PLATFORM_PARAMETERS: u32 = 5;
/// [`FeatureInfo`].
pub const GET_FEATURES: u32 = 6;
/// Returns the bytes of a page.
pub const PAGESIZE: u32 = 7;
/// 16 bytes: the UUID of the domain.
pub const GUEST_HANDLE: u32 = 8;
/// 1024 bytes of text.
pub const COMMANDLINE: u32 = 9;
/// [`BuildId`] and as many bytes as it says.
pub const BUILD_ID: u32 = 10;
/// Bit in feature submap 0 (`public/features.h`).
pub const FEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// Bit in feature submap 0.
pub const FEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// Bit in feature submap 0.
pub const FEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// Bit in feature submap 0.
pub const FEAT_MEMORY_OP_VNODE: u32 = 13;
/// Bit in feature submap 0.
pub const FEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// Feature submaps are numbered below this.
pub const FEAT_NR_SUBMAPS: u32 = 1;
/// Bytes of the extraversion.
pub const EXTRAVERSION_LEN: usize = 16;
/// Bytes of the capabilities.
pub const CAPABILITIES_LEN: usize = 1024;
/// Bytes of the changeset.
pub const CHANGESET_LEN: usize = 64;
/// Bytes of the command line.
pub const COMMANDLINE_LEN: usize = 1024;
/// Bytes of a domain's handle.
pub const HANDLE_LEN: usize = 16;

/// Who compiled the hypervisor, and when; texts end with a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompileInfo {
    /// Which compiler.
    pub compiler: [u8; 64],
    /// Who.
    pub compile_by: [u8; 16],
    /// Where.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}

const _: () = assert!(size_of::<CompileInfo>() == 144);

/// Asks for a map of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: which map.
    pub submap_idx: u32,
    /// Out: the map.
    pub submap: u32,
}

const _: () = assert!(size_of::<FeatureInfo>() == 8);

/// Asks for the build id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BuildId {
    /// In: bytes that follow.
    pub len: u32,
}

const _: () = assert!(size_of::<BuildId>() == 4);
