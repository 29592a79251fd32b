//! `xen_version`: what hypervisor this is. Text buffers are written whole, zeros included.

use crate::{address::Gva, arch, hypervisor::Hypervisor, mem::guest::Call, oracle::output::Output};
use coverage_hypercall::coverage::Instrumentation;
use xen_abi::{PAGE_SIZE, errno::Errno, version};

/// `len` bytes that begin with `text`, zeros behind it.
fn padded<const LEN: usize>(text: &str) -> [u8; LEN] {
    let mut out = [0; LEN];
    let len = text.len().min(LEN - 1);
    out[..len].copy_from_slice(&text.as_bytes()[..len]);
    out
}

/// Features of submap 0 that an auto-translated guest has.
const FEATURES: u32 = 1 << version::FEAT_AUTO_TRANSLATED_PHYSMAP
    | 1 << version::FEAT_HVM_SAFE_PVCLOCK
    | 1 << version::FEAT_MEMORY_OP_VNODE
    | 1 << version::FEAT_NOT_DIRECT_MAPPED;

impl Hypervisor {
    pub(crate) fn xen_version(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let buffer = args[1];
        match args[0] as u32 {
            version::VERSION => Ok(i64::from(arch::VERSION)),
            version::EXTRAVERSION => {
                self.text::<{ version::EXTRAVERSION_LEN }>(&call, buffer, ".0-hyperfuzz")
            }
            version::COMPILE_INFO => {
                let info = version::CompileInfo {
                    compiler: padded("rustc"),
                    compile_by: padded("hyperfuzz"),
                    compile_domain: padded("localhost"),
                    compile_date: padded("reproducible"),
                };
                self.write_struct(&call, buffer, &info).map(|()| 0)
            }
            version::CAPABILITIES => {
                self.text::<{ version::CAPABILITIES_LEN }>(&call, buffer, "hvm-3.0-x86_64 ")
            }
            version::CHANGESET => {
                self.text::<{ version::CHANGESET_LEN }>(&call, buffer, env!("CARGO_PKG_VERSION"))
            }
            version::PLATFORM_PARAMETERS => self.write_struct(&call, buffer, &0u64).map(|()| 0),
            version::GET_FEATURES => self.get_features(&call, buffer),
            version::PAGESIZE if buffer != 0 => Err(Errno::Inval),
            version::PAGESIZE => Ok(PAGE_SIZE as i64),
            version::GUEST_HANDLE => {
                let mut handle = [0; version::HANDLE_LEN];
                handle[..2].copy_from_slice(&call.caller.domain.to_le_bytes());
                self.write_guest(&call, Gva(buffer), &handle).map(|()| 0)
            }
            // Which bugs are planted stands on the boot line: guests do not see it.
            version::COMMANDLINE => self.text::<{ version::COMMANDLINE_LEN }>(&call, buffer, "<denied>"),
            version::BUILD_ID => self.read_build_id(&call, buffer),
            _ => Err(Errno::Nosys),
        }
    }

    /// Writes text to a buffer of `N` bytes, with zeros behind it.
    fn text<const N: usize>(&mut self, call: &Call, buffer: u64, text: &str) -> Result<i64, Errno> {
        let mut output = Output::<N>::new(&self.memory);
        let used = text.len().min(N - 1);
        let end = self.plants.initialised(N, used, buffer);
        let bytes = output.bytes_mut();
        bytes[..used].copy_from_slice(&text.as_bytes()[..used]);
        bytes[used..end].fill(0);
        self.write_guest(call, Gva(buffer), output.bytes())?;
        Ok(0)
    }

    fn get_features(&mut self, call: &Call, buffer: u64) -> Result<i64, Errno> {
        let mut info: version::FeatureInfo = self.read_struct(call, buffer)?;
        info.submap = match info.submap_idx {
            0 => FEATURES,
            index if index < version::FEAT_NR_SUBMAPS => 0,
            _ => return Err(Errno::Inval),
        };
        self.write_struct(call, buffer, &info)?;
        Ok(0)
    }

    fn read_build_id(&mut self, call: &Call, buffer: u64) -> Result<i64, Errno> {
        let id = Instrumentation::build_id(&*self.instrumentation);
        let len = id.len() as i64;
        if buffer == 0 {
            return Ok(len);
        }
        let request: version::BuildId = self.read_struct(call, buffer)?;
        if request.len == 0 {
            return Err(Errno::Inval);
        }
        if (request.len as usize) < id.len() {
            return Err(Errno::Nobufs);
        }
        let at = buffer.checked_add(size_of::<version::BuildId>() as u64).ok_or(Errno::Fault)?;
        self.write_guest(call, Gva(at), &id)?;
        Ok(len)
    }
}
