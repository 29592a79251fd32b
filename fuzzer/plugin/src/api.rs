// SPDX-License-Identifier: GPL-2.0-or-later
//! QEMU's plugin API in all its versions, found with `dlsym` when the plugin is loaded.
//!
//! | version | QEMU | what changed for us |
//! |---|---|---|
//! | 1 | 6.0 to 8.2 | |
//! | 2 | 9.0 | counters lie in scoreboards; adding to any other place is gone |
//! | 3 | 9.1 | the bytes of an instruction are copied out instead of pointed to |
//! | 4 | 9.2, 10.0 | |
//! | 5 | 10.1 | |
//!
//! QEMU reads the version that a plugin was written for, [`crate::qemu_plugin_version`], before it calls anything in it, and refuses versions
//! that it does not know. So the number is set when the plugin is mapped, by the functions that this QEMU has. Signatures are those
//! of `include/qemu/qemu-plugin.h` in each version.
#![expect(unsafe_code, reason = "turns addresses of symbols into functions, and calls them")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::sync::atomic::Ordering;
use std::sync::Once;

use crate::counter::{BLOCKS, Counter, PORT_ACCESSES};
use crate::qemu::{address, find};

/// Functions that each of these versions brought.
const HALLMARKS: [(c_int, &CStr); 4] = [
    (5, c"qemu_plugin_translate_vaddr"),
    (4, c"qemu_plugin_read_memory_vaddr"),
    (3, c"qemu_plugin_register_vcpu_tb_exec_cond_cb"),
    (2, c"qemu_plugin_scoreboard_new"),
];

/// Sets the version. The dynamic linker calls it before QEMU looks.
extern "C" fn choose_version() {
    let newest = HALLMARKS.iter().find(|(_, hallmark)| !address(hallmark).is_null());
    crate::qemu_plugin_version.store(newest.map_or(1, |(version, _)| *version), Ordering::Relaxed);
}

/// Makes the dynamic linker call [`choose_version`].
#[used]
#[unsafe(link_section = ".init_array")]
static CHOOSE_VERSION: extern "C" fn() = choose_version;

/// A plugin's handle (`qemu_plugin_id_t`).
pub(crate) type PluginId = u64;

/// A block under translation.
#[repr(C)]
pub(crate) struct Block {
    opaque: [u8; 0],
}

/// An instruction under translation.
#[repr(C)]
pub(crate) struct Insn {
    opaque: [u8; 0],
}

/// Runs before an instruction: number of the vCPU, argument.
pub(crate) type Callback = unsafe extern "C" fn(c_uint, *mut c_void);
/// Runs when a block is translated.
pub(crate) type Translated = unsafe extern "C" fn(PluginId, *mut Block);

/// Runs when all translated blocks were thrown away.
pub(crate) type Flushed = unsafe extern "C" fn(PluginId);

/// `qemu_info_t`, as far as it is read: the same in all versions.
#[repr(C)]
pub(crate) struct Info {
    target: *const c_char,
    min: c_int,
    current: c_int,
}

impl Info {
    /// The version of the API that this QEMU has.
    pub(crate) fn version(&self) -> c_int {
        self.current
    }
}

/// `struct qemu_plugin_scoreboard`.
#[repr(C)]
struct Scoreboard {
    opaque: [u8; 0],
}

/// `qemu_plugin_u64`: a number in each vCPU's element of a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    board: *mut Scoreboard,
    offset: usize,
}

/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGS: c_int = 0;
/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD_U64: c_int = 0;
/// Longest instruction: Intel SDM volume 2, 2.3.11.
pub(crate) const MAX_CODE: usize = 15;

type InlineAdd<T> = unsafe extern "C" fn(*mut T, c_int, *mut c_void, u64);
type BoardAdd<T> = unsafe extern "C" fn(*mut T, c_int, Entry, u64);

/// How code is made to count.
#[derive(Clone, Copy)]
enum Counting {
    /// Anywhere in memory.
    Inline { block: InlineAdd<Block>, insn: InlineAdd<Insn> },
    /// In a scoreboard of two numbers.
    Board {
        board: *mut Scoreboard,
        find: unsafe extern "C" fn(*mut Scoreboard, c_uint) -> *mut c_void,
        block: BoardAdd<Block>,
        insn: BoardAdd<Insn>,
    },
}

/// How the bytes of an instruction are had.
#[derive(Clone, Copy)]
enum Data {
    Pointer(unsafe extern "C" fn(*const Insn) -> *const u8),
    Copy(unsafe extern "C" fn(*const Insn, *mut u8, usize) -> usize),
}

/// The plugin API of this QEMU.
#[derive(Clone, Copy)]
pub(crate) struct Api {
    register_translation: unsafe extern "C" fn(PluginId, Translated),
    register_flush: unsafe extern "C" fn(PluginId, Flushed),
    register_block_exec: unsafe extern "C" fn(*mut Block, Callback, c_int, *mut c_void),
    register_insn_exec: unsafe extern "C" fn(*mut Insn, Callback, c_int, *mut c_void),
    block_insns: unsafe extern "C" fn(*const Block) -> usize,
    block_insn: unsafe extern "C" fn(*const Block, usize) -> *mut Insn,
    insn_size: unsafe extern "C" fn(*const Insn) -> usize,
    insn_vaddr: unsafe extern "C" fn(*const Insn) -> u64,
    insn_haddr: unsafe extern "C" fn(*const Insn) -> *mut u8,
    data: Data,
    counting: Counting,
}

// SAFETY: functions of the process, and a scoreboard that is used while a block is translated and read only then.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// A function of QEMU's.
///
/// # Safety
/// If there is one of that name, it must have this type.
unsafe fn function<T>(name: &'static CStr) -> Result<T, String> {
    const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
    let address = find(&[name]).map_err(|name| format!("this QEMU's plugin API has no `{name}`"))?;
    // SAFETY: both are pointers in size; the type is the caller's promise.
    Ok(unsafe { core::mem::transmute_copy::<*mut c_void, T>(&address) })
}

impl Api {
    /// Finds the functions of this version of the API.
    ///
    /// # Errors
    /// Names the function that is missing.
    pub(crate) fn find(version: c_int) -> Result<Self, String> {
        // SAFETY: the types are those of the header in the versions that have these functions.
        unsafe {
            let data = if version < 3 {
                Data::Pointer(function(c"qemu_plugin_insn_data")?)
            } else {
                Data::Copy(function(c"qemu_plugin_insn_data")?)
            };
            let counting = if version < 2 {
                Counting::Inline {
                    block: function(c"qemu_plugin_register_vcpu_tb_exec_inline")?,
                    insn: function(c"qemu_plugin_register_vcpu_insn_exec_inline")?,
                }
            } else {
                let new: unsafe extern "C" fn(usize) -> *mut Scoreboard =
                    function(c"qemu_plugin_scoreboard_new")?;
                Counting::Board {
                    find: function(c"qemu_plugin_scoreboard_find")?,
                    block: function(c"qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu")?,
                    insn: function(c"qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu")?,
                    board: new(2 * size_of::<u64>()),
                }
            };
            Ok(Self {
                register_translation: function(c"qemu_plugin_register_vcpu_tb_trans_cb")?,
                register_flush: function(c"qemu_plugin_register_flush_cb")?,
                register_block_exec: function(c"qemu_plugin_register_vcpu_tb_exec_cb")?,
                register_insn_exec: function(c"qemu_plugin_register_vcpu_insn_exec_cb")?,
                block_insns: function(c"qemu_plugin_tb_n_insns")?,
                block_insn: function(c"qemu_plugin_tb_get_insn")?,
                insn_size: function(c"qemu_plugin_insn_size")?,
                insn_vaddr: function(c"qemu_plugin_insn_vaddr")?,
                insn_haddr: function(c"qemu_plugin_insn_haddr")?,
                data,
                counting,
            })
        }
    }

    /// Has `callback` called for each block that is translated.
    ///
    /// # Safety
    /// `id` must be what QEMU gave this plugin.
    pub(crate) unsafe fn on_translation(&self, id: PluginId, callback: Translated) {
        // SAFETY: the caller's promise; the callback lives as long as the process.
        unsafe { (self.register_translation)(id, callback) };
    }

    /// Has `callback` called when all translated blocks were thrown away.
    ///
    /// # Safety
    /// `id` must be what QEMU gave this plugin.
    pub(crate) unsafe fn on_flush(&self, id: PluginId, callback: Flushed) {
        // SAFETY: the caller's promise; the callback lives as long as the process.
        unsafe { (self.register_flush)(id, callback) };
    }

    /// The block that `pointer` is, for as long as QEMU has it translated.
    ///
    /// # Safety
    /// It must be what QEMU passed to a callback that has not returned.
    pub(crate) unsafe fn block(&'static self, pointer: *mut Block) -> Translation {
        static MOVE: Once = Once::new();
        if let Counting::Board { board, find, .. } = self.counting {
            // SAFETY: the vCPU exists, as it translates. Scoreboards move only where vCPUs are added beyond those for which QEMU has
            // made room, which are 16 at least; the machine has one.
            MOVE.call_once(|| unsafe {
                let element = find(board, 0).cast::<u64>();
                BLOCKS.move_to(element);
                PORT_ACCESSES.move_to(element.add(1));
            });
        }
        Translation { api: self, block: pointer }
    }
}

/// A block under translation.
pub(crate) struct Translation {
    api: &'static Api,
    block: *mut Block,
}

impl Translation {
    /// Has its executions counted in [`BLOCKS`].
    pub(crate) fn count(&self) {
        // SAFETY: the block is valid, the counters are static or QEMU's.
        unsafe {
            match self.api.counting {
                Counting::Inline { block, .. } => block(self.block, ADD_U64, BLOCKS.as_ptr().cast(), 1),
                Counting::Board { block, board, .. } => {
                    block(self.block, ADD_U64, Entry { board, offset: 0 }, 1);
                }
            }
        }
    }

    /// Has `callback` called before each of its executions.
    pub(crate) fn before(&self, callback: Callback, argument: *mut c_void) {
        // SAFETY: the block is valid; callbacks live as long as the process.
        unsafe { (self.api.register_block_exec)(self.block, callback, NO_REGS, argument) };
    }

    /// Its instructions.
    pub(crate) fn instructions(&self) -> impl ExactSizeIterator<Item = Instruction> + '_ {
        // SAFETY: the block is valid.
        let count = unsafe { (self.api.block_insns)(self.block) };
        (0..count).map(|index| Instruction {
            api: self.api,
            // SAFETY: the block is valid, and has an instruction of this number.
            insn: unsafe { (self.api.block_insn)(self.block, index) },
        })
    }
}

/// An instruction under translation.
pub(crate) struct Instruction {
    api: &'static Api,
    insn: *mut Insn,
}

impl Instruction {
    /// Its bytes, and how many of them there are.
    pub(crate) fn code(&self) -> ([u8; MAX_CODE], usize) {
        let mut code = [0; MAX_CODE];
        // SAFETY: the instruction is valid. What is pointed to has as many bytes as the instruction, what is copied no more than fit.
        let len = unsafe {
            match self.api.data {
                Data::Pointer(data) => {
                    let len = (self.api.insn_size)(self.insn).min(MAX_CODE);
                    data(self.insn).copy_to_nonoverlapping(code.as_mut_ptr(), len);
                    len
                }
                Data::Copy(copy) => copy(self.insn, code.as_mut_ptr(), MAX_CODE).min(MAX_CODE),
            }
        };
        (code, len)
    }

    /// True where these are its bytes.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        let (code, len) = self.code();
        code[..len] == *bytes
    }

    /// Its virtual address.
    pub(crate) fn virtual_address(&self) -> u64 {
        // SAFETY: the instruction is valid.
        unsafe { (self.api.insn_vaddr)(self.insn) }
    }

    /// Where its first byte is in QEMU's memory.
    pub(crate) fn host_address(&self) -> *mut u8 {
        // SAFETY: the instruction is valid.
        unsafe { (self.api.insn_haddr)(self.insn) }
    }

    /// Has `callback` called before each execution.
    pub(crate) fn before(&self, callback: Callback, argument: *mut c_void) {
        // SAFETY: the instruction is valid, the callback lives as long as the process.
        unsafe { (self.api.register_insn_exec)(self.insn, callback, NO_REGS, argument) };
    }

    /// Has its executions counted in [`PORT_ACCESSES`].
    pub(crate) fn count(&self) {
        self.add(&PORT_ACCESSES, size_of::<u64>(), 1);
    }

    /// Has each of its executions count as so many blocks, besides the one that it is in.
    pub(crate) fn count_as(&self, blocks: u64) {
        self.add(&BLOCKS, 0, blocks);
    }

    /// Adds to a counter, which in a scoreboard has this offset, at each execution.
    fn add(&self, counter: &Counter, offset: usize, number: u64) {
        // SAFETY: the instruction is valid, the counters are static or QEMU's.
        unsafe {
            match self.api.counting {
                Counting::Inline { insn, .. } => insn(self.insn, ADD_U64, counter.as_ptr().cast(), number),
                Counting::Board { insn, board, .. } => {
                    insn(self.insn, ADD_U64, Entry { board, offset }, number);
                }
            }
        }
    }
}
