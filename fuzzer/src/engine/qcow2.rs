//! An empty disk image for QEMU to keep the state of devices in: nothing else can hold a snapshot.
//!
//! The format is that of QEMU's `docs/interop/qcow2.txt`, version 2; numbers are big-endian.

/// Bytes of a cluster, as a power of two.
const CLUSTER_BITS: u32 = 16;
/// Bytes of a cluster.
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk, which stays empty.
const DISK: u64 = 1 << 20;

/// Clusters of the image: header, table of reference-count blocks, a block of reference counts, first-level table.
const CLUSTERS: u64 = 4;

/// The image.
pub(super) fn empty() -> Vec<u8> {
    let mut image = vec![0; (CLUSTERS * CLUSTER) as usize];
    let mut put = |at: u64, bytes: &[u8]| image[at as usize..][..bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2u32.to_be_bytes()); // version
    put(20, &CLUSTER_BITS.to_be_bytes());
    put(24, &DISK.to_be_bytes());
    put(36, &1u32.to_be_bytes()); // entries of the first-level table
    put(40, &(3 * CLUSTER).to_be_bytes()); // where that is
    put(48, &CLUSTER.to_be_bytes()); // where the table of reference-count blocks is
    put(56, &1u32.to_be_bytes()); // clusters of that table
    put(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    for cluster in 0..CLUSTERS {
        put(2 * CLUSTER + 2 * cluster, &1u16.to_be_bytes());
    }
    image
}
