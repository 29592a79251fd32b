//! Standard output that may be closed or full.
//!
//! `println!` panics where its text cannot be written. A campaign whose reader went away shall go on, and a command whose
//! output was lost shall say so: [`put`] never fails, [`failure`] tells afterwards what went wrong.

use std::{
    fmt,
    io::{self, Write},
    sync::OnceLock,
};

/// The first thing that went wrong.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output.
pub fn put(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        let _ = FAILED.set(error);
    }
}

/// Why some of the output was lost. A reader that went away, as `head` does, had what it wanted: that is no failure.
pub fn failure() -> Option<&'static io::Error> {
    FAILED.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// `println!` over [`put`].
macro_rules! say {
    () => { $crate::report::output::put(format_args!("\n")) };
    ($($text:tt)+) => { $crate::report::output::put(format_args!("{}\n", format_args!($($text)+))) };
}
pub(crate) use say;
