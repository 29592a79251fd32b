//! Floating-point state of guests.
#![expect(unsafe_code, reason = "saves and loads registers")]

/// True where the hypervisor's own code uses SSE, because core and alloc are those of the host's target. The guest's
/// registers must then be put aside at each exit; else they stay in place until another vCPU runs.
pub(crate) const HOST_USES_SSE: bool = !cfg!(target_os = "none");

/// x87 and SSE state as FXSAVE lays it out (AMD APM volume 2, section 11.4.4).
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub(crate) struct FpuState([u8; 512]);

impl FpuState {
    /// State after FNINIT, all SSE exceptions masked.
    pub(crate) const fn new() -> Self {
        let mut state = [0; 512];
        (state[0], state[1]) = (0x7f, 0x03); // FCW
        (state[24], state[25]) = (0x80, 0x1f); // MXCSR
        Self(state)
    }

    /// Takes what is in the processor.
    pub(crate) fn save(&mut self) {
        // SAFETY: the destination has the size and alignment that FXSAVE wants.
        unsafe { core::arch::x86_64::_fxsave64(self.0.as_mut_ptr()) };
    }

    /// Puts it into the processor.
    pub(crate) fn restore(&self) {
        // SAFETY: the state came from `new` or FXSAVE, so no reserved bit of MXCSR is set. Called where the hypervisor
        // has nothing of its own in these registers.
        unsafe { core::arch::x86_64::_fxrstor64(self.0.as_ptr()) };
    }
}
