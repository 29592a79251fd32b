//! Places of planted bugs: console, versions and multicalls.

use crate::{Bug, Plants};

impl Plants {
    /// Bytes of the next piece of console text. With the bug, the `left` bytes are compared with the size of a piece as
    /// signed numbers; what comes of that is cut off at `room`, so that nothing but the canary is hurt.
    #[inline(never)]
    pub fn piece_len(&mut self, right: usize, left: u32, piece: usize, room: usize) -> usize {
        let wrong = ((left as i32).min(piece as i32) as u32 as usize).min(room);
        self.choose(Bug::CountSign, wrong > piece, right as u64, wrong as u64) as usize
    }

    /// Bytes of an output of `size` bytes that are initialised, of which `used` hold text. With the bug, what goes to an
    /// address that is not aligned to words is initialised only up to the end of the word behind the text.
    #[inline(never)]
    pub fn initialised(&mut self, size: usize, used: usize, address: u64) -> usize {
        let short = (used + 8) / 8 * 8;
        let wrong = if address.is_multiple_of(8) { size } else { short.min(size) };
        self.choose(Bug::StackLeak, wrong < size, size as u64, wrong as u64) as usize
    }

    /// Whether a call goes by the right that was looked up when its multicall began: never, but for the bug. `now` and
    /// `then` say whether the right is, and was, held; `batched` whether there is a multicall.
    #[inline(never)]
    pub fn use_stale_right(&mut self, batched: bool, then: bool, now: bool) -> bool {
        let stale = batched & then & !now;
        self.choose_bool(Bug::BatchPrivilege, stale, false, stale)
    }
}
