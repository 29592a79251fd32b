//! Permission maps: which ports and model-specific registers a guest reaches without an exit.
#![expect(unsafe_code, reason = "fills statics that the processor reads")]

use x86_64::PhysAddr;

use crate::image::{global::Global, layout};

/// Three pages, one bit per port (AMD APM volume 2, section 15.10).
#[repr(C, align(4096))]
struct IoMap([u8; 0x3000]);
/// Two pages, two bits per register: read, write (section 15.11).
#[repr(C, align(4096))]
struct MsrMap([u8; 0x2000]);

static IO: Global<IoMap> = Global::new(IoMap([0; 0x3000]));
static MSR: Global<MsrMap> = Global::new(MsrMap([0; 0x2000]));

/// Registers that VMLOAD and VMSAVE, or VMRUN itself, switch: a guest may have them.
const SWITCHED: [u32; 10] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS_BASE
    0xc000_0101, // GS_BASE
    0xc000_0102, // KERNEL_GS_BASE
];

/// Number of a register's first bit in the map.
const fn first_bit(msr: u32) -> usize {
    match msr {
        0xc000_0000..=0xc000_1fff => 0x800 * 8 + (msr - 0xc000_0000) as usize * 2,
        _ => msr as usize * 2,
    }
}

/// Fills both maps: every port, and every register that is not switched.
pub(super) fn install() {
    // SAFETY: nobody else refers to the maps yet; the processor reads them from VMRUN on.
    unsafe {
        (*IO.as_ptr()).0.fill(0xff);
        let map = &mut (*MSR.as_ptr()).0;
        map.fill(0xff);
        for msr in SWITCHED {
            let bit = first_bit(msr);
            map[bit / 8] &= !(0b11 << (bit % 8));
        }
    }
}

/// Where the map of ports lies.
pub(super) fn io() -> PhysAddr {
    layout::image_to_phys(IO.address())
}

/// Where the map of registers lies.
pub(super) fn msr() -> PhysAddr {
    layout::image_to_phys(MSR.address())
}
