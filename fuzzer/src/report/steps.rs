//! How far a piece of work is whose length is known.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often the line is refreshed in a terminal.
const IN_TERMINAL: Duration = Duration::from_millis(200);
/// How often a line is written to a file or a pipe.
const IN_LOG: Duration = Duration::from_secs(10);

/// A line on standard error: so many of so many.
#[derive(Debug)]
pub struct Steps {
    what: &'static str,
    total: usize,
    quiet: bool,
    terminal: bool,
    last: Instant,
    /// Whether the cursor stands behind the line.
    open: bool,
}

impl Steps {
    /// Nothing is shown where `quiet`, and nothing of work that is done before it is due.
    #[must_use]
    pub fn new(what: &'static str, total: usize, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { what, total, quiet, terminal, last: Instant::now(), open: false }
    }

    /// So many are done.
    pub fn show(&mut self, done: usize) {
        let every = if self.terminal { IN_TERMINAL } else { IN_LOG };
        if self.quiet || self.last.elapsed() < every {
            return;
        }
        self.last = Instant::now();
        let (total, what) = (self.total, self.what);
        let mut err = std::io::stderr().lock();
        // Whoever closed standard error does not want to know.
        let _ = if self.terminal {
            write!(err, "\r{done} of {total} {what}\x1b[K")
        } else {
            writeln!(err, "{done} of {total} {what}")
        };
        let _ = err.flush();
        self.open = self.terminal;
    }

    /// Ends the line, so that something else can be written.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(std::io::stderr());
        }
    }
}
