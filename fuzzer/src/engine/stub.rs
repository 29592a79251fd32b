//! A client of QEMU's stub of gdb: as much of the remote protocol as it takes to run a machine up to an address (GDB manual, appendix
//! "GDB Remote Serial Protocol").

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

/// How often somebody looks whether the wait makes sense.
const SLICE: Duration = Duration::from_millis(50);
/// Longest answer.
const MAX_ANSWER: usize = 1 << 16;
/// Position of RDI in the registers of a 64-bit x86 processor, each of which has 16 hexadecimal digits.
const RDI: usize = 5;

/// Frames a packet: its content and its checksum.
fn packet(content: &str) -> String {
    let sum = content.bytes().fold(0u8, u8::wrapping_add);
    format!("${content}#{sum:02x}")
}

/// The first packet in what was read, and the bytes up to its end; what stands before it are acknowledgements.
fn unpack(bytes: &[u8]) -> Option<(String, usize)> {
    let start = bytes.iter().position(|byte| *byte == b'$')? + 1;
    let len = bytes[start..].iter().position(|byte| *byte == b'#')?;
    let end = start + len + 3;
    (bytes.len() >= end).then(|| (String::from_utf8_lossy(&bytes[start..start + len]).into_owned(), end))
}

/// A connection to the stub.
pub(super) struct Stub<'a> {
    stream: &'a UnixStream,
    /// Bytes that were read and not yet understood.
    rest: Vec<u8>,
    /// Called in each slice of a wait: why there is no point in waiting any longer.
    hopeless: &'a mut dyn FnMut() -> Option<String>,
}

impl<'a> Stub<'a> {
    /// Talks over a stream; `hopeless` is asked every 50 ms of a wait whether there is a reason to give up.
    pub(super) fn new(stream: &'a UnixStream, hopeless: &'a mut dyn FnMut() -> Option<String>) -> Self {
        Self { stream, rest: Vec::new(), hopeless }
    }

    fn send(&mut self, content: &str) -> Result<(), String> {
        let sent = self.stream.write_all(packet(content).as_bytes());
        sent.map_err(|error| format!("its stub of gdb cannot be written to: {error}"))
    }

    /// Waits for a packet and acknowledges it.
    fn receive(&mut self) -> Result<String, String> {
        loop {
            if let Some((content, len)) = unpack(&self.rest) {
                self.rest.drain(..len);
                self.stream.write_all(b"+").map_err(|error| error.to_string())?;
                return Ok(content);
            }
            if self.rest.len() > MAX_ANSWER {
                return Err("its stub of gdb talks without end".into());
            }
            let mut buffer = [0; 4096];
            let read = self.stream.set_read_timeout(Some(SLICE)).and_then(|()| self.stream.read(&mut buffer));
            match read {
                Ok(0) => {
                    return Err((self.hopeless)().unwrap_or_else(|| "QEMU closed its stub of gdb".into()));
                }
                Ok(len) => self.rest.extend_from_slice(&buffer[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if let Some(why) = (self.hopeless)() {
                        return Err(why);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("its stub of gdb cannot be read: {error}")),
            }
        }
    }

    fn call(&mut self, content: &str) -> Result<String, String> {
        self.send(content)?;
        self.receive()
    }

    fn breakpoint(&mut self, letter: char, address: u64) -> Result<(), String> {
        match self.call(&format!("{letter}1,{address:x},1"))?.as_str() {
            "OK" => Ok(()),
            other => Err(format!("its stub of gdb refuses a breakpoint at {address:#x}: {other}")),
        }
    }

    /// Lets the machine run until it is about to execute the instruction at an address. Returns RDI there.
    pub(super) fn run_to(&mut self, address: u64) -> Result<u64, String> {
        self.breakpoint('Z', address)?;
        let stopped = self.call("c")?;
        if !stopped.starts_with("T05") && !stopped.starts_with("S05") {
            return Err(format!("it did not come to the ready marker; its stub of gdb says `{stopped}`"));
        }
        self.breakpoint('z', address)?;
        let registers = self.call("g")?;
        register(&registers, RDI).ok_or_else(|| "its registers are not those of a 64-bit processor".into())
    }
}

/// A register in the answer to `g`: hexadecimal, the lowest byte first.
fn register(registers: &str, position: usize) -> Option<u64> {
    let digits = registers.get(position * 16..position * 16 + 16)?;
    u64::from_str_radix(digits, 16).ok().map(u64::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_framed_with_their_checksum() {
        assert_eq!(packet("g"), "$g#67");
        assert_eq!(packet("OK"), "$OK#9a");
        assert_eq!(unpack(b"++$OK#9a$T05"), Some(("OK".into(), 8)));
        assert_eq!(unpack(b"+$OK#9"), None);
        assert_eq!(unpack(b"+"), None);
    }

    #[test]
    fn registers_are_little_endian() {
        let registers = format!("{}{}", "00".repeat(40), "1032547698badcfe");
        assert_eq!(register(&registers, RDI), Some(0xfedc_ba98_7654_3210));
        assert_eq!(register("00", RDI), None);
    }

    #[test]
    fn a_machine_is_run_to_an_address_or_given_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let answers = ["OK", "T05thread:01;", "OK"].map(packet).concat() + &packet(&"01".repeat(100));
        (&theirs).write_all(answers.as_bytes()).unwrap();
        let mut never = || None;
        assert_eq!(Stub::new(&ours, &mut never).run_to(0x1000), Ok(0x0101_0101_0101_0101));
        let mut gone = || Some("QEMU is gone".to_owned());
        assert_eq!(Stub::new(&ours, &mut gone).run_to(0x1000), Err("QEMU is gone".into()));
    }
}
