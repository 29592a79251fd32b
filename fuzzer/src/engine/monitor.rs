//! QEMU's monitor: commands and events as lines of JSON (QMP), over a socket that QEMU inherits.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take to answer. It answers within milliseconds; what makes it slow is a busy host.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest answer.
const MAX_ANSWER: usize = 1 << 20;

/// Our end of the socket.
#[derive(Debug)]
pub(super) struct Monitor {
    stream: UnixStream,
    /// What was read and not yet understood: the beginning of a line.
    rest: Vec<u8>,
    /// The machine has shut down, and nobody was told.
    shut_down: bool,
}

impl Monitor {
    /// A monitor, and the end of the socket that QEMU gets.
    ///
    /// # Errors
    /// If there is no socket.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self { stream: ours, rest: Vec::new(), shut_down: false }, theirs.into()))
    }

    /// The next line that is there before `end`; none if there is none by then.
    fn line(&mut self, end: Option<Instant>) -> Result<Option<Value>, String> {
        loop {
            if let Some(len) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=len).collect();
                let value = serde_json::from_slice(&line);
                return value.map(Some).map_err(|error| format!("QEMU's monitor talks nonsense: {error}"));
            }
            if self.rest.len() > MAX_ANSWER {
                return Err("QEMU's monitor talks without end".into());
            }
            let wait = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            let mut buffer = [0; 4096];
            let read = if wait.is_zero() {
                self.stream.set_nonblocking(true).and_then(|()| {
                    let read = self.stream.read(&mut buffer);
                    self.stream.set_nonblocking(false).and(read)
                })
            } else {
                self.stream.set_read_timeout(Some(wait)).and_then(|()| self.stream.read(&mut buffer))
            };
            match read {
                Ok(0) => return Err("QEMU closed its monitor".into()),
                Ok(len) => self.rest.extend_from_slice(&buffer[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if wait.is_zero() {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("QEMU's monitor cannot be read: {error}")),
            }
        }
    }

    /// Notes an event; anything else is given back.
    fn note(&mut self, line: Value) -> Option<Value> {
        let Some(event) = line.get("event") else { return Some(line) };
        self.shut_down |= event == "SHUTDOWN";
        None
    }

    /// Sends a command.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub(super) fn send(&mut self, command: &str, arguments: &Value) -> Result<(), String> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let sent = self.stream.write_all(line.as_bytes());
        sent.map_err(|error| format!("QEMU's monitor cannot be written to: {error}"))
    }

    /// The answer to the last command.
    ///
    /// # Errors
    /// What QEMU says, or that it says nothing.
    pub(super) fn answer(&mut self) -> Result<Value, String> {
        let end = Instant::now() + LIMIT;
        loop {
            let Some(line) = self.line(Some(end))? else {
                return Err(format!("QEMU's monitor has not answered for {} s", LIMIT.as_secs()));
            };
            let Some(mut line) = self.note(line) else { continue };
            if let Some(error) = line.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("it does not say why");
                return Err(format!("QEMU refused: {text}"));
            }
            return Ok(line.get_mut("return").map(Value::take).unwrap_or_default());
        }
    }

    /// Sends a command and waits for the answer.
    ///
    /// # Errors
    /// As [`Self::answer`], with the command.
    pub(super) fn call(&mut self, command: &str, arguments: &Value) -> Result<Value, String> {
        self.send(command, arguments)
            .and_then(|()| self.answer())
            .map_err(|error| format!("{command}: {error}"))
    }

    /// Has a command of the human monitor carried out, which says something only if it fails.
    ///
    /// # Errors
    /// As [`Self::call`], or what it said.
    pub(super) fn human(&mut self, line: &str) -> Result<(), String> {
        let said = self.call("human-monitor-command", &json!({ "command-line": line }))?;
        match said.as_str().map(str::trim) {
            None | Some("") => Ok(()),
            Some(text) => Err(format!("{line}: {text}")),
        }
    }

    /// Reads the greeting and begins.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) fn begin(&mut self) -> Result<(), String> {
        // The greeting is neither an event nor an error.
        self.answer()?;
        self.call("qmp_capabilities", &json!({})).map(|_| ())
    }

    /// In which state the machine is: `RunState` of QEMU's `qapi/run-state.json`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) fn status(&mut self) -> Result<String, String> {
        let status = self.call("query-status", &json!({}))?;
        Ok(status.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// True where the machine has shut down since this was last asked for.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub(super) fn has_shut_down(&mut self) -> Result<bool, String> {
        while let Some(line) = self.line(None)? {
            // An answer for which nobody waits.
            let _ = self.note(line);
        }
        Ok(std::mem::take(&mut self.shut_down))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Monitor, UnixStream) {
        let (monitor, theirs) = Monitor::new().unwrap();
        (monitor, theirs.into())
    }

    #[test]
    fn tells_answers_from_events() {
        let (mut monitor, mut qemu) = pair();
        assert_eq!(monitor.has_shut_down(), Ok(false));
        qemu.write_all(b"{\"QMP\": {}}\r\n{\"event\": \"STOP\"}\r\n{\"return\": {}}\r\n").unwrap();
        monitor.begin().unwrap();
        qemu.write_all(b"{\"event\": \"SHUTDOWN\"}\n{\"return\": {\"status\": \"shutdown\"}}\n").unwrap();
        assert_eq!(monitor.status().as_deref(), Ok("shutdown"));
        assert_eq!((monitor.has_shut_down(), monitor.has_shut_down()), (Ok(true), Ok(false)));
        qemu.write_all(b"{\"return\": \"\"}\n{\"return\": \"Error: no disk\\r\\n\"}\n").unwrap();
        monitor.human("savevm x").unwrap();
        assert_eq!(monitor.human("savevm x"), Err("savevm x: Error: no disk".into()));
        qemu.write_all(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n").unwrap();
        assert_eq!(monitor.call("stop", &json!({})), Err("stop: QEMU refused: no".into()));
    }

    #[test]
    fn says_when_qemu_is_gone_or_talks_nonsense() {
        let (mut monitor, mut qemu) = pair();
        qemu.write_all(b"hello\n").unwrap();
        assert!(monitor.answer().unwrap_err().contains("nonsense"));
        drop(qemu);
        assert!(monitor.has_shut_down().is_err());
    }
}
