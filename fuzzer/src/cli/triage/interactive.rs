//! `hyperfuzz triage` in a terminal.

use std::io::{self, IsTerminal};

use anyhow::Context;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};

use super::{
    again::{self, VerifyArgs},
    finding_text,
    screen::{Screen, Wish},
};
use crate::{
    campaign::findings::{Entry, mark::Status},
    report::output::say,
};

/// Whether there is somebody who could press keys.
pub(super) fn is_possible() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Shows the findings until the user has had enough.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) fn run(title: &str, entries: &mut [Entry]) -> anyhow::Result<()> {
    let mut terminal = start()?;
    let result = go_through(&mut terminal, title, entries);
    ratatui::restore();
    result
}

fn start() -> anyhow::Result<DefaultTerminal> {
    ratatui::try_init().context("cannot draw on this terminal; `hyperfuzz triage DIR list` prints the table")
}

fn go_through(terminal: &mut DefaultTerminal, title: &str, entries: &mut [Entry]) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    loop {
        terminal.draw(|frame| screen.draw(frame, title, entries)).context("cannot draw on the terminal")?;
        let Event::Key(key) = event::read().context("cannot read the keyboard")? else { continue };
        match screen.press(key, entries.len()) {
            None => {}
            Some(Wish::Quit) => return Ok(()),
            Some(Wish::Report(at)) => match finding_text(&entries[at]) {
                Ok(report) => screen.read(&report),
                Err(error) => screen.say(format!("{error:#}")),
            },
            Some(Wish::Mark(at, status)) => {
                let said = mark(&mut entries[at], status);
                screen.say(said.map_or_else(|error| format!("{error:#}"), |()| format!("marked {status}")));
            }
            Some(Wish::Verify(at)) => {
                ratatui::restore();
                verify(entries, at)?;
                *terminal = start()?;
            }
        }
    }
}

fn mark(entry: &mut Entry, status: Status) -> anyhow::Result<()> {
    let mark = entry.mark.by_hand(status, None);
    mark.store(&entry.directory)?;
    entry.mark = mark;
    Ok(())
}

/// Repeats one program, and waits until the answer was read.
fn verify(entries: &[Entry], at: usize) -> anyhow::Result<()> {
    let bucket = entries[at].stored.bucket.name();
    say!("repeating {bucket} …");
    if let Err(error) = again::verify(entries, &VerifyArgs::of(bucket), false) {
        say!("error: {error:#}");
    }
    say!("Enter goes back.");
    io::stdin().read_line(&mut String::new()).context("cannot read the keyboard")?;
    Ok(())
}
