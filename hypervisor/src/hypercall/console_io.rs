//! `console_io`: the hypervisor's console.
//!
//! Text of a guest is copied in pieces, filtered to what can be printed, and written line by line.

use crate::{address::Gva, hypervisor::Hypervisor, mem::guest::Call, oracle::canary::Guarded};
use alloc::format;
use xen_abi::{console, errno::Errno};

/// Bytes of a piece.
const PIECE: usize = 256;
/// Longest line; longer ones are broken.
const LINE: usize = 128;
/// Most bytes of one call: beyond it the rest is dropped, so that a call ends in time.
const MAX_BYTES: u64 = 4096;

impl Hypervisor {
    pub(crate) fn console_io(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let (count, buffer) = (args[1] as u32, args[2]);
        match args[0] as u32 {
            console::WRITE => self.console_write(&call, count, buffer),
            // Nobody types.
            console::READ if count > i32::MAX as u32 => Err(Errno::Inval),
            console::READ => Ok(0),
            _ => Err(Errno::Nosys),
        }
    }

    fn console_write(&mut self, call: &Call, count: u32, buffer: u64) -> Result<i64, Errno> {
        if count == 0 {
            return Ok(0);
        }
        let mut done = 0;
        while done < u64::from(count).min(MAX_BYTES) && self.credit > 0 {
            self.credit -= 1;
            let left = count - done as u32;
            let right = (left as usize).min(PIECE);
            let len = self.plants.piece_len(right, left, PIECE, Guarded::<PIECE>::ROOM);
            let at = buffer.checked_add(done).ok_or(Errno::Fault)?;
            self.console_piece(call, Gva(at), len)?;
            done += len as u64;
        }
        Ok(0)
    }

    fn console_piece(&mut self, call: &Call, at: Gva, len: usize) -> Result<(), Errno> {
        let mut piece = Guarded::<PIECE>::new();
        let copied = self.read_guest(call, at, piece.unchecked(len));
        self.check_canary(&piece);
        copied?;
        self.console_text(call, piece.text(len));
        Ok(())
    }

    fn console_text(&mut self, call: &Call, text: &[u8]) {
        let id = call.caller.domain;
        if self.options.standalone {
            let shown = |byte: &&u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
            let text: alloc::vec::Vec<u8> = text.iter().filter(shown).copied().collect();
            self.memory.machine.guest_console(&text);
            return;
        }
        for &byte in text {
            let Some(domain) = self.domain_mut(id) else { return };
            match byte {
                b'\n' => {}
                b' '..=b'~' | b'\t' => domain.console.push(byte),
                _ => continue,
            }
            if byte == b'\n' || domain.console.len() == LINE {
                let line = core::mem::take(&mut domain.console);
                let name = domain.name.clone();
                self.log(&format!("({name}) "));
                self.memory.machine.console(&line);
                self.log("\n");
            }
        }
    }

    /// Writes to the hypervisor's console.
    pub(crate) fn log(&mut self, text: &str) {
        self.memory.machine.console(text.as_bytes());
    }
}
