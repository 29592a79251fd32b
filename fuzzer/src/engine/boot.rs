//! A machine that runs one guest for its own sake: no plugin, no snapshot, no program.
//!
//! The hypervisor gets the word `standalone`, passes the guest's console on to one port, writes its own to another, and ends
//! QEMU by a third (`coverage_hypercall::harness::standalone`).
#![expect(unsafe_code, reason = "a child must ask to be killed with its parent before it becomes QEMU")]

use std::{
    fs::{self, File},
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use coverage_hypercall::harness::standalone::{
    CONSOLE_PORT, EXIT_BLOCKED, EXIT_CRASH, EXIT_PORT, EXIT_SHUTDOWN,
};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{
    bundle,
    directory::WorkDirectory,
    error::EngineError,
    process::{at, describe, tail},
};

/// How often the host looks whether it should stop.
const SLICE: Duration = Duration::from_millis(50);
/// RAM that the hypervisor needs beside the guest's: image, heap, boot module and page tables.
const OVERHEAD: u64 = 24 << 20;
/// The guest's memory divided by this is what the hypervisor's tables for it take, and some.
const TABLES: u64 = 32;
/// Where a PC has its I/O APIC and its HPET: a guest may look whether they are there.
const HOLES: &str = "0xfec00000 0xfed00000";

/// What to run.
#[derive(Clone, Debug)]
pub struct Guest {
    /// An ELF file with a PVH entry note, of 32 or 64 bits.
    pub image: Vec<u8>,
    /// Bytes of memory, a multiple of 4 KiB.
    pub memory: u64,
    /// Its command line, without line breaks.
    pub command_line: String,
    /// Its start info says that it is the initial domain.
    pub initial: bool,
}

/// On what to run it.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// QEMU: a path, or a name that is looked up in `PATH`.
    pub binary: PathBuf,
    /// The hypervisor's ELF image.
    pub hypervisor: &'a [u8],
    /// Words of the hypervisor's command line.
    pub words: Vec<String>,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its domain ended, for this reason (`SHUTDOWN_*` of Xen's `public/sched.h`).
    Shutdown(u8),
    /// It waits for something that will never happen.
    Blocked,
    /// The hypervisor crashed.
    Crash,
    /// It ran until the limit.
    Late,
    /// The caller wanted it to end.
    Stopped,
}

/// What is left of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the guest ended.
    pub ending: Ending,
    /// The end of the hypervisor's own console.
    pub log: String,
    /// How long it took, the boot of the hypervisor included.
    pub time: Duration,
}

impl Guest {
    /// The configuration of its domain.
    fn configuration(&self) -> String {
        let initial = if self.initial { "yes" } else { "no" };
        let (memory, line) = (self.memory, self.command_line.trim());
        format!(
            "[domain guest]\nmemory = {memory}\nvcpus = 1\ninitial = {initial}\nholes = {HOLES}\ncmdline = {line}\n"
        )
    }
}

/// A QEMU that goes with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(machine: &Machine<'_>, guest: &Guest, directory: &Path, modules: u64) -> Command {
    let file = |name: &str| directory.join(name).display().to_string();
    let bytes = guest.memory + guest.memory / TABLES + 2 * modules + OVERHEAD;
    let mut words = vec!["standalone".to_owned()];
    words.extend_from_slice(&machine.words);
    let mut command = Command::new(&machine.binary);
    command
        .args([
            "-accel",
            "tcg,thread=single",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "q35",
        ])
        .args(["-m", &format!("{}M", bytes.div_ceil(1 << 20)), "-cpu", "qemu64,+svm,+npt"])
        .args(["-kernel", &file("kernel"), "-initrd", &file("bundle"), "-append", &words.join(" ")])
        .args(["-debugcon", &format!("file:{}", file("console"))])
        .args(["-chardev", "stdio,id=guest,signal=off"])
        .args(["-device", &format!("isa-debugcon,iobase={CONSOLE_PORT:#x},chardev=guest")])
        .args(["-device", &format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1")]);
    command
}

/// What QEMU's exit code means, if the hypervisor caused it.
fn decode(status: ExitStatus) -> Option<Ending> {
    let code = u8::try_from(status.code()?).ok()?;
    let byte = code >> 1;
    match byte {
        _ if code & 1 == 0 => None,
        EXIT_CRASH => Some(Ending::Crash),
        EXIT_BLOCKED => Some(Ending::Blocked),
        _ if byte & 0xf0 == EXIT_SHUTDOWN => Some(Ending::Shutdown(byte & 0xf)),
        _ => None,
    }
}

/// Runs a guest until it ends, `limit` has passed or `stop` is set. What it writes to its console goes to `console`.
///
/// # Errors
/// Where QEMU cannot be started, or ends by itself.
pub fn run(
    machine: &Machine<'_>,
    guest: &Guest,
    limit: Duration,
    stop: &AtomicBool,
    mut console: impl FnMut(&[u8]),
) -> Result<Report, EngineError> {
    let directory = WorkDirectory::make(None)?;
    let path = |name: &str| directory.path().join(name);
    let modules = bundle::build(&guest.configuration(), &guest.image);
    for (name, what, bytes) in
        [("kernel", "the hypervisor's image", machine.hypervisor), ("bundle", "the bundle", &modules[..])]
    {
        fs::write(path(name), bytes).map_err(at(&path(name), what))?;
    }
    let log = path("console");
    File::create_new(&log).map_err(at(&log, "the console"))?;
    let mut log_file = File::open(&log).map_err(at(&log, "the console"))?;
    let messages = path("stderr");
    let mut stderr = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&messages)
        .map_err(at(&messages, "QEMU's messages"))?;
    let for_child = stderr.try_clone().map_err(at(&messages, "QEMU's messages"))?;
    let mut command = command(machine, guest, directory.path(), modules.len() as u64);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(for_child);
    // SAFETY: between fork and exec only one system call is made, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
    let started = Instant::now();
    let start_error = |source| EngineError::Start { binary: machine.binary.clone(), source };
    let mut running = Running(command.spawn().map_err(start_error)?);
    let mut output = running.0.stdout.take();
    let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(16);
    // It ends with QEMU's side of the pipe.
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Some(len) =
            output.as_mut().and_then(|out| out.read(&mut buffer).ok()).filter(|len| *len > 0)
        {
            if sender.send(buffer[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut cut = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            cut = Some(Ending::Stopped);
        } else if started.elapsed() >= limit {
            cut = Some(Ending::Late);
        }
        if cut.is_some() {
            break;
        }
        match receiver.recv_timeout(SLICE) {
            Ok(text) => console(&text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if cut.is_some() {
        // It fails only if QEMU has just ended.
        let _ = running.0.kill();
    }
    let status = running.0.wait().map_err(start_error)?;
    receiver.try_iter().for_each(|text| console(&text));
    let time = started.elapsed();
    match cut.or_else(|| decode(status)) {
        Some(ending) => Ok(Report { ending, log: tail(&mut log_file), time }),
        None => Err(EngineError::Died {
            status: describe(status),
            hint: "; `hyperfuzz doctor` says what this machine has",
            stderr: tail(&mut stderr),
            console: tail(&mut log_file),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_port() {
        let decoded = |byte: i32| decode(ExitStatus::from_raw((byte << 1 | 1) << 8));
        assert_eq!(decoded(0x20), Some(Ending::Shutdown(0)));
        assert_eq!(decoded(0x23), Some(Ending::Shutdown(3)));
        assert_eq!(decoded(0x10), Some(Ending::Crash));
        assert_eq!(decoded(0x11), Some(Ending::Blocked));
        for byte in [0, 1, 0x12, 0x30, 0x7f] {
            assert_eq!(decoded(byte), None, "{byte:#x}");
        }
        assert_eq!(decode(ExitStatus::from_raw(0)), None);
        assert_eq!(decode(ExitStatus::from_raw(9)), None, "a signal");
    }
}
