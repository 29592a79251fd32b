//! Finds the beacon and what it speaks of where the agent knows no machine addresses.
//!
//! Its pages are signed ([`coverage_hypercall::signature`]). The agent's code cannot be, but it lies in one piece with the beacon's page, and
//! is known byte by byte.

use std::collections::BTreeMap;

use coverage_hypercall::{
    harness::{BEACON_MAGIC, Beacon, Region},
    signature::{SIGNATURE_MAGIC, SIGNATURE_OFFSET, Signature},
};
use object::{
    Endianness,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};

use super::super::{beacon::bad, error::EngineError, memory::GuestMemory};

/// Bytes of a page.
const PAGE: usize = 4096;

/// Signed pages: where each frame of the guest lies in memory.
struct Signed(BTreeMap<u64, usize>);

impl Signed {
    /// Looks at all of memory.
    fn find(memory: &GuestMemory) -> Result<Self, EngineError> {
        let mut found = BTreeMap::new();
        for at in (0..memory.len()).step_by(PAGE) {
            let signature = memory.read_struct::<Signature>(at + SIGNATURE_OFFSET);
            let Some(signature) = signature.filter(|signature| signature.magic == SIGNATURE_MAGIC) else {
                continue;
            };
            if let Some(other) = found.insert(signature.frame, at) {
                let problem =
                    format!("{other:#x} and {at:#x} both say that they are frame {:#x}", signature.frame);
                return Err(bad("signature", problem));
            }
        }
        Ok(Self(found))
    }

    /// Where a range of the guest's lies, if all of its pages are signed and it is in one piece.
    fn region(&self, given: Region) -> Option<Region> {
        let last = given.base.checked_add(given.len)?.checked_sub(1)?;
        let frames = given.base / PAGE as u64..=last / PAGE as u64;
        let first = *self.0.get(frames.start())?;
        let whole =
            frames.enumerate().all(|(n, frame)| self.0.get(&frame).is_some_and(|at| *at == first + n * PAGE));
        whole.then_some(Region { base: first as u64 + given.base % PAGE as u64, len: given.len })
    }
}

/// True where memory holds what the image has at this address of the guest.
fn holds(memory: &GuestMemory, machine: Region, guest: u64, image: &[u8]) -> Option<bool> {
    let header = FileHeader64::<Endianness>::parse(image).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, image).ok()?;
    let text = segments
        .iter()
        .find(|segment| segment.p_type(endian) == PT_LOAD && segment.p_vaddr(endian) == guest)?;
    let expected = text.data(endian, image).ok()?;
    let mut found = vec![0; expected.len()];
    let fits = expected.len() as u64 <= machine.len && !expected.is_empty();
    Some(fits && memory.read(usize::try_from(machine.base).ok()?, &mut found) && found == expected)
}

/// The beacon of an agent that has signed its pages, with machine addresses. `image` is the agent's.
///
/// # Errors
/// What cannot be found.
pub(in super::super) fn locate(memory: &GuestMemory, image: &[u8]) -> Result<Beacon, EngineError> {
    let signed = Signed::find(memory)?;
    let mut beacons = signed.0.iter().filter_map(|(frame, at)| {
        let beacon = memory.read_struct::<Beacon>(*at).filter(|beacon| beacon.magic == BEACON_MAGIC)?;
        Some((*frame, *at as u64, beacon))
    });
    let (Some((frame, at, beacon)), None) = (beacons.next(), beacons.next()) else {
        return Err(bad("address", "not exactly one signed page holds a beacon"));
    };
    let channel = signed
        .region(beacon.channel)
        .ok_or_else(|| bad("channel", "is not signed, or not in one piece of machine memory"))?;
    let text = frame
        .checked_mul(PAGE as u64)
        .and_then(|address| address.checked_sub(beacon.text.base))
        .and_then(|distance| at.checked_sub(distance))
        .map(|base| Region { base, len: beacon.text.len })
        .filter(|text| holds(memory, *text, beacon.text.base, image) == Some(true))
        .ok_or_else(|| bad("text", "is not in one piece of machine memory with the beacon"))?;
    Ok(Beacon { channel, text, ..beacon })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    const TEXT: u64 = 0x10_0000;

    /// Memory in which the agent's text begins at page 8, and frames lie where `pages` says.
    struct Guest {
        memory: GuestMemory,
        _directory: tempfile::TempDir,
    }

    impl Guest {
        fn new(pages: &[(u64, usize)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let memory = GuestMemory::create(&directory.path().join("ram"), 64 * PAGE).unwrap();
            for (frame, page) in pages {
                let signature = Signature { magic: SIGNATURE_MAGIC, frame: *frame };
                assert!(memory.write(page * PAGE + SIGNATURE_OFFSET, signature.as_bytes()));
            }
            assert!(memory.write(8 * PAGE, b"code"));
            Self { memory, _directory: directory }
        }

        /// With a beacon at this page.
        fn with_beacon(self, page: usize) -> Self {
            let mut beacon = Beacon::new_zeroed();
            beacon.magic = BEACON_MAGIC;
            beacon.channel = Region { base: 0x30_0000, len: 2 * PAGE as u64 };
            beacon.text = Region { base: TEXT, len: PAGE as u64 };
            assert!(self.memory.write(page * PAGE, beacon.as_bytes()));
            self
        }

        fn complaint(&self) -> &'static str {
            match locate(&self.memory, &image()) {
                Err(EngineError::Beacon { field, .. }) => field,
                Err(_) => "another error",
                Ok(_) => "none",
            }
        }
    }

    /// An ELF file with one segment: four bytes at [`TEXT`].
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x78];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(32, &0x40u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(0x40, &PT_LOAD.0.to_le_bytes());
        put(0x48, &0x78u64.to_le_bytes());
        put(0x50, &TEXT.to_le_bytes());
        put(0x60, &4u64.to_le_bytes());
        put(0x68, &4u64.to_le_bytes());
        image.extend(b"code");
        image
    }

    #[test]
    fn finds_what_is_signed() {
        let guest = Guest::new(&[(0x105, 13), (0x300, 20), (0x301, 21)]).with_beacon(13);
        let beacon = locate(&guest.memory, &image()).expect("all is there");
        assert_eq!(beacon.channel, Region { base: 20 * 4096, len: 2 * 4096 });
        assert_eq!(beacon.text, Region { base: 8 * 4096, len: 4096 });
    }

    #[test]
    fn says_what_cannot_be_found() {
        let whole = [(0x105, 13), (0x300, 20), (0x301, 21)];
        assert_eq!(Guest::new(&whole).complaint(), "address");
        assert_eq!(Guest::new(&whole).with_beacon(13).with_beacon(20).complaint(), "address");
        assert_eq!(Guest::new(&[(0x105, 13), (0x300, 20)]).with_beacon(13).complaint(), "channel");
        let apart = [(0x105, 13), (0x300, 20), (0x301, 22)];
        assert_eq!(Guest::new(&apart).with_beacon(13).complaint(), "channel");
        let twice = [(0x105, 13), (0x300, 20), (0x301, 21), (0x300, 30)];
        assert_eq!(Guest::new(&twice).with_beacon(13).complaint(), "signature");
        let elsewhere = [(0x105, 14), (0x300, 20), (0x301, 21)];
        assert_eq!(Guest::new(&elsewhere).with_beacon(14).complaint(), "text");
        let before = [(0x1050, 13), (0x300, 20), (0x301, 21)];
        assert_eq!(Guest::new(&before).with_beacon(13).complaint(), "text");
    }
}
