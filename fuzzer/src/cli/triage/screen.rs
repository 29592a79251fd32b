//! The screen of `hyperfuzz triage`: the findings to go through, and the report of one.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout},
    style::{Modifier, Style},
    widgets::{Paragraph, Row, Table, TableState},
};

use crate::{
    campaign::findings::{Entry, mark::Status},
    report::{
        finding::printable,
        findings::{COLUMNS, row, widths},
    },
};

/// Lines that a page of a report goes on by.
const PAGE: usize = 20;
/// What the keys do.
const HELP: &str = "↑↓ choose  Enter report  n new  k known  f fixed  p false positive  v verify  q quit";
/// What the keys do in a report.
const HELP_REPORT: &str = "↑↓ PgUp PgDn scroll  q back";

/// Between two columns.
const SPACING: u16 = 2;
/// Columns that a narrow screen goes without, in this order: target, first seen, calls, function and kind, which are in the bucket's name as
/// well, and rate.
const DISPENSABLE: [usize; 6] = [8, 4, 6, 2, 1, 7];

/// The columns that there is room for.
fn columns(widths: &[usize], room: usize) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..widths.len()).collect();
    for dispensable in DISPENSABLE {
        let needed = columns.iter().map(|column| widths[*column] + usize::from(SPACING)).sum::<usize>();
        if needed <= room + usize::from(SPACING) {
            break;
        }
        columns.retain(|column| *column != dispensable);
    }
    columns
}

/// What a key asks for that the screen cannot do by itself, of the finding at a place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// End.
    Quit,
    /// Show its report.
    Report(usize),
    /// Mark it.
    Mark(usize, Status),
    /// Repeat its program.
    Verify(usize),
}

/// A report that is shown.
#[derive(Debug)]
struct Reading {
    lines: Vec<String>,
    /// The first line that can be seen.
    top: usize,
}

/// What is on the screen besides the findings.
#[derive(Debug)]
pub(super) struct Screen {
    table: TableState,
    reading: Option<Reading>,
    /// What came of the last wish.
    message: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        let table = TableState::default().with_selected(Some(0));
        Self { table, reading: None, message: String::new() }
    }

    /// Shows a report.
    pub(super) fn read(&mut self, report: &str) {
        let lines = printable(report).lines().map(|line| line.replace('\t', "    ")).collect();
        self.reading = Some(Reading { lines, top: 0 });
    }

    /// Says what came of a wish.
    pub(super) fn say(&mut self, message: impl Into<String>) {
        self.message = message.into();
    }

    /// A key was pressed, and there are so many findings.
    pub(super) fn press(&mut self, key: KeyEvent, findings: usize) -> Option<Wish> {
        self.message.clear();
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Wish::Quit);
        }
        if let Some(reading) = &mut self.reading {
            match key.code {
                KeyCode::Up => reading.go(-1),
                KeyCode::Down => reading.go(1),
                KeyCode::PageUp => reading.go(-(PAGE as isize)),
                KeyCode::PageDown | KeyCode::Char(' ') => reading.go(PAGE as isize),
                KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => self.reading = None,
                _ => {}
            }
            return None;
        }
        let at = self.table.selected().unwrap_or(0).min(findings.saturating_sub(1));
        let to = match key.code {
            KeyCode::Up => at.saturating_sub(1),
            KeyCode::Down => at + 1,
            KeyCode::PageUp => at.saturating_sub(PAGE),
            KeyCode::PageDown => at + PAGE,
            KeyCode::Home => 0,
            KeyCode::End => findings,
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Quit),
            _ if findings == 0 => return None,
            KeyCode::Enter => return Some(Wish::Report(at)),
            KeyCode::Char('n') => return Some(Wish::Mark(at, Status::New)),
            KeyCode::Char('k') => return Some(Wish::Mark(at, Status::Known)),
            KeyCode::Char('f') => return Some(Wish::Mark(at, Status::Fixed)),
            KeyCode::Char('p') => return Some(Wish::Mark(at, Status::FalsePositive)),
            KeyCode::Char('v') => return Some(Wish::Verify(at)),
            _ => return None,
        };
        self.table.select(Some(to.min(findings.saturating_sub(1))));
        None
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, title: &str, entries: &[Entry]) {
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
                .areas(frame.area());
        let bold = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(printable(title)).style(bold), top);
        let help = match &self.reading {
            Some(reading) => {
                let visible = reading.lines.iter().skip(reading.top).take(middle.height.into());
                let text = visible.map(String::as_str).collect::<Vec<_>>().join("\n");
                frame.render_widget(Paragraph::new(text), middle);
                HELP_REPORT
            }
            None => {
                let rows: Vec<_> = entries.iter().map(row).collect();
                let widths = widths(&rows);
                let columns = columns(&widths, middle.width.into());
                let rows =
                    rows.iter().map(|row| Row::new(columns.iter().map(|column| row[*column].as_str())));
                let widths = columns.iter().map(|column| {
                    let width = widths[*column].try_into().unwrap_or(u16::MAX);
                    // The bucket takes what is left.
                    if *column + 1 == COLUMNS.len() { Constraint::Fill(1) } else { Constraint::Length(width) }
                });
                let table = Table::new(rows, widths)
                    .header(Row::new(columns.iter().map(|column| COLUMNS[*column])).style(bold))
                    .column_spacing(SPACING)
                    .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
                frame.render_stateful_widget(table, middle, &mut self.table);
                HELP
            }
        };
        let line = if self.message.is_empty() { help.to_owned() } else { printable(&self.message) };
        frame.render_widget(Paragraph::new(line), bottom);
    }
}

impl Reading {
    /// Scrolls, as far as there are lines.
    fn go(&mut self, lines: isize) {
        self.top = self.top.saturating_add_signed(lines).min(self.lines.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::campaign::findings::only_named;

    /// What can be read on the screen, line by line.
    fn seen(screen: &mut Screen, entries: &[Entry]) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(160, 8)).unwrap();
        terminal.draw(|frame| screen.draw(frame, "findings of c", entries)).unwrap();
        let cells = terminal.backend().buffer().content().chunks(160);
        cells
            .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    fn press(screen: &mut Screen, code: KeyCode, findings: usize) -> Option<Wish> {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE), findings)
    }

    #[test]
    fn findings_are_chosen_by_arrows_and_marked_by_letters() {
        let entries = ["fault-sched-op--poll-1", "hang-b-2"].map(only_named);
        let mut screen = Screen::new();
        let text = seen(&mut screen, &entries);
        assert_eq!(text[0], "findings of c");
        assert!(text[1].starts_with("status") && text[2].contains("sched_op::poll"), "{text:?}");
        assert!(text[3].ends_with("hang-b-2") && text[7].contains("q quit"), "{text:?}");
        assert_eq!(press(&mut screen, KeyCode::Char('k'), 2), Some(Wish::Mark(0, Status::Known)));
        for _ in 0..3 {
            assert_eq!(press(&mut screen, KeyCode::Down, 2), None);
        }
        assert_eq!(press(&mut screen, KeyCode::Char('p'), 2), Some(Wish::Mark(1, Status::FalsePositive)));
        assert_eq!(press(&mut screen, KeyCode::Char('v'), 2), Some(Wish::Verify(1)));
        assert_eq!(press(&mut screen, KeyCode::Home, 2), None);
        assert_eq!(press(&mut screen, KeyCode::Enter, 2), Some(Wish::Report(0)));
        assert_eq!(press(&mut screen, KeyCode::Char('q'), 2), Some(Wish::Quit));
        screen.say("done");
        assert_eq!(seen(&mut screen, &entries)[7], "done");
    }

    #[test]
    fn a_narrow_screen_goes_without_what_the_bucket_tells() {
        let widths = widths(&[row(&only_named("fault-sched-op--poll-1"))]);
        assert_eq!(columns(&widths, 160), (0..COLUMNS.len()).collect::<Vec<_>>());
        let names = |room| columns(&widths, room).into_iter().map(|at| COLUMNS[at]).collect::<Vec<_>>();
        assert_eq!(names(80), ["status", "kind", "times", "last seen (UTC)", "rate", "bucket"]);
        assert_eq!(names(1), ["status", "times", "last seen (UTC)", "bucket"]);
    }

    #[test]
    fn a_report_is_scrolled_and_left() {
        let mut screen = Screen::new();
        let report: Vec<String> = (0..50).map(|n| format!("line {n}\x1b[2J")).collect();
        screen.read(&report.join("\n"));
        assert!(seen(&mut screen, &[])[1].starts_with("line 0\u{fffd}"));
        press(&mut screen, KeyCode::PageDown, 0);
        press(&mut screen, KeyCode::Up, 0);
        assert!(seen(&mut screen, &[])[1].starts_with("line 19"));
        for _ in 0..9 {
            press(&mut screen, KeyCode::PageDown, 0);
        }
        assert!(seen(&mut screen, &[])[1].starts_with("line 49"));
        assert_eq!(press(&mut screen, KeyCode::Char('q'), 0), None, "back to the list");
        assert!(seen(&mut screen, &[])[1].starts_with("status"));
    }

    #[test]
    fn nothing_can_be_done_with_no_findings_but_quit() {
        let mut screen = Screen::new();
        seen(&mut screen, &[]);
        for code in [KeyCode::Enter, KeyCode::Down, KeyCode::End, KeyCode::Char('k'), KeyCode::Char('v')] {
            assert_eq!(press(&mut screen, code, 0), None);
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(interrupt, 0), Some(Wish::Quit));
    }
}
