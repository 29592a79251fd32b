//! One QEMU process: its command line, its files, its end.
//!
//! Everything that it needs lies in a private directory, which goes as soon as QEMU has opened all of it: a fuzzer that is
//! killed leaves nothing behind.
#![expect(unsafe_code, reason = "a child must ask to be killed with its parent before it becomes QEMU")]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use hyperfuzz_control::{BY_HOST, BY_PLUGIN};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};

use super::config::QemuConfig;
use super::directory::WorkDirectory;
use super::error::EngineError;
use super::memory::{ControlFile, GuestMemory};
use super::monitor::Monitor;
use super::qcow2;
use super::version::{Version, Way};

/// Bytes of QEMU's messages and of the console that an error shows.
const TAIL: u64 = 4096;
/// Bytes of the console of one execution that are read at most.
const MAX_CONSOLE: u64 = 1 << 16;

/// A running QEMU with its shared memory. Dropping it ends QEMU.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) memory: GuestMemory,
    pub(super) control: ControlFile,
    /// If the machine is reset from outside.
    pub(super) monitor: Option<Monitor>,
    /// If a debugger has the machine.
    pub(super) stub: Option<UnixStream>,
    child: Child,
    stderr: File,
    console: File,
    /// Bytes of the console that have been read.
    console_read: u64,
    directory: Option<WorkDirectory>,
    /// Files that are shared with QEMU, as they were made.
    shared: Vec<Shared>,
}

/// A file that is shared with QEMU.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    what: &'static str,
    /// Its number and its length in bytes.
    made: (u64, u64),
}

impl Shared {
    fn note(path: PathBuf, what: &'static str) -> Result<Self, EngineError> {
        let metadata = fs::metadata(&path).map_err(at(&path, what))?;
        Ok(Self { made: (metadata.ino(), metadata.len()), path, what })
    }

    /// Fails if it is not what it was.
    fn check(&self) -> Result<(), EngineError> {
        let problem = match fs::metadata(&self.path) {
            Err(error) => format!("was removed ({error})"),
            Ok(now) if now.ino() != self.made.0 => "was replaced by another file".to_owned(),
            Ok(now) if now.len() != self.made.1 => {
                format!("has {} bytes instead of {}", now.len(), self.made.1)
            }
            Ok(_) => return Ok(()),
        };
        Err(EngineError::Tampered { path: self.path.clone(), what: self.what, problem })
    }
}

/// Gives an I/O error its place.
pub(super) fn at<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> EngineError + 'a {
    move |source| EngineError::WorkDirectory { path: path.to_owned(), what, source }
}

/// The end of a file, as text.
pub(super) fn tail(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let start = SeekFrom::Start(len.saturating_sub(TAIL));
    if file.seek(start).and_then(|_| file.take(TAIL).read_to_end(&mut bytes)).is_err() {
        return "(cannot be read)".into();
    }
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// What to do about a message of QEMU's.
fn hint(stderr: &str) -> &'static str {
    if stderr.contains("API version") {
        "; this QEMU has another plugin API: use QEMU 7.2 to 10.1"
    } else if stderr.contains("-plugin")
        || stderr.contains("plugin load")
        || stderr.contains("Could not load plugin")
    {
        "; this QEMU cannot load the plugin: use a build with plugins, as distributions have it"
    } else if stderr.contains("Cannot allocate memory") || stderr.contains("No space left") {
        "; there is not enough memory for the machine"
    } else {
        "; `hyperfuzz doctor` says what this machine has"
    }
}

/// Says how a process ended.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown end".into(),
    }
}

/// Who drives a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// The plugin, and where that cannot reset it, the host.
    Plugin(Way),
    /// A debugger, through QEMU's stub of gdb; the machine stands at its first instruction. There is no plugin.
    Debugger,
}

/// Builds the command line. A machine has a `socket` to its monitor if it is reset from outside, to its stub if it is debugged.
fn command(config: &QemuConfig, directory: &Path, driver: Driver, socket: Option<&OwnedFd>) -> Command {
    let file = |name: &str| directory.join(name).display().to_string();
    let megabytes = format!("{}M", config.ram_size >> 20);
    let mut command = Command::new(&config.binary);
    command
        .args(["-accel", "tcg,thread=single,tb-size=32", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-action", "reboot=shutdown,shutdown=pause"])
        .arg("-object")
        .arg(format!("memory-backend-file,id=ram,size={megabytes},mem-path={},share=on", file("ram")))
        .args([
            "-machine",
            "q35,memory-backend=ram",
            "-m",
            &megabytes,
            "-cpu",
            config.foreign.as_ref().map_or("qemu64,+svm,+npt,+smep,+smap", |foreign| foreign.guest.cpu()),
        ])
        .args(config.foreign.iter().flat_map(|foreign| foreign.guest.devices()))
        .args(["-kernel", &file("kernel"), "-initrd", &file("bundle"), "-append", &config.cmdline])
        .args([
            if config.foreign.is_some() { "-serial" } else { "-debugcon" },
            &format!("file:{}", file("console")),
        ]);
    if driver != Driver::Debugger {
        let plugin = format!("file={},control={},ram={}", file("plugin.so"), file("control"), file("ram"));
        command.args(["-plugin", &plugin]);
    }
    if let Some(socket) = socket {
        command.args(["-chardev", &format!("socket,id=host,fd={}", socket.as_raw_fd())]);
    }
    match driver {
        Driver::Plugin(Way::InProcess) => &mut command,
        Driver::Debugger => command.args(["-gdb", "chardev:host", "-S"]),
        Driver::Plugin(Way::Loadvm) => command
            .args(["-mon", "chardev=host,mode=control"])
            .args(["-drive", &format!("if=none,id=state,format=qcow2,cache=unsafe,file={}", file("state"))])
            // A halted machine sleeps, which is how that is noticed.
            .args(["-icount", "shift=3,sleep=on,align=off"]),
    };
    command
}

impl Process {
    /// Writes all files and starts QEMU.
    ///
    /// # Errors
    /// If there is no room, or QEMU cannot be started.
    pub(super) fn start(config: &QemuConfig, version: Version, driver: Driver) -> Result<Self, EngineError> {
        let directory = WorkDirectory::make(config.work_directory.as_deref())?;
        let path = |name: &str| -> PathBuf { directory.path().join(name) };
        let write = |name: &str, what, bytes: &[u8]| {
            let path = path(name);
            fs::write(&path, bytes).map_err(at(&path, what))
        };
        write("kernel", "the hypervisor's image", &config.hypervisor)?;
        write("bundle", "the bundle", &config.bundle)?;
        write("plugin.so", "the plugin", &config.plugin)?;
        let memory =
            GuestMemory::create(&path("ram"), config.ram_size).map_err(at(&path("ram"), "guest memory"))?;
        let control = ControlFile::create(&path("control"), config.path_room())
            .map_err(at(&path("control"), "the control file"))?;
        config.prepare(control.control(), version);
        let no_socket = |what| move |source| EngineError::System { what, source };
        let (monitor, stub, socket) = match driver {
            Driver::Plugin(Way::InProcess) => (None, None, None),
            Driver::Plugin(Way::Loadvm) => {
                write("state", "the disk for snapshots", &qcow2::empty())?;
                let (monitor, socket) =
                    Monitor::new().map_err(no_socket("cannot make a socket for QEMU's monitor"))?;
                (Some(monitor), None, Some(socket))
            }
            Driver::Debugger => {
                let (stub, socket) =
                    UnixStream::pair().map_err(no_socket("cannot make a socket for QEMU's stub of gdb"))?;
                (None, Some(stub), Some(socket.into()))
            }
        };
        let reset_by = if monitor.is_some() { BY_HOST } else { BY_PLUGIN };
        control.control().reset_by.store(reset_by, Ordering::Release);
        let shared = vec![
            Shared::note(path("ram"), "guest memory")?,
            Shared::note(path("control"), "the control file")?,
        ];
        let console = File::create_new(path("console")).map_err(at(&path("console"), "the console"))?;
        drop(console);
        let console = File::open(path("console")).map_err(at(&path("console"), "the console"))?;
        let stderr = File::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(path("stderr"))
            .map_err(at(&path("stderr"), "QEMU's messages"))?;
        let for_child = stderr.try_clone().map_err(at(&path("stderr"), "QEMU's messages"))?;
        let mut command = command(config, directory.path(), driver, socket.as_ref());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(for_child);
        let before_exec = move || {
            if let Some(socket) = &socket {
                // Our copy is closed when QEMU runs; this process has no other child that inherits it.
                fcntl_setfd(socket, FdFlags::empty())?;
            }
            Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
        };
        // SAFETY: between fork and exec only two system calls are made, which allocate nothing and take no lock.
        unsafe { command.pre_exec(before_exec) };
        let child =
            command.spawn().map_err(|source| EngineError::Start { binary: config.binary.clone(), source })?;
        drop(command);
        Ok(Self {
            memory,
            control,
            monitor,
            stub,
            child,
            stderr,
            console,
            console_read: 0,
            directory: Some(directory),
            shared,
        })
    }

    /// Fails if somebody has laid hands on the files that are shared with QEMU. Until [`Self::forget_files`].
    ///
    /// # Errors
    /// What happened to which file.
    pub(super) fn check_files(&self) -> Result<(), EngineError> {
        self.shared.iter().try_for_each(Shared::check)
    }

    /// True where a thread of QEMU's runs, would if it could, or waits for a disk (proc(5), field 3 of `stat`).
    pub(super) fn wants_processor(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return false };
        let busy = |stat: String| {
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
            matches!(state, Some('R' | 'D'))
        };
        let mut stats =
            threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        stats.any(busy)
    }

    /// Writes what is staged into guest memory. False where that is out of bounds.
    pub(super) fn apply_pokes(&self) -> bool {
        let control = self.control.control();
        let count = control.poke_count.load(Ordering::Relaxed) as usize;
        control.pokes.iter().take(count).all(|poke| {
            let number = |word: &AtomicU32| word.load(Ordering::Relaxed) as usize;
            let staged = self.control.staged(number(&poke.data_offset), number(&poke.len));
            let at = usize::try_from(poke.ram_offset.load(Ordering::Relaxed));
            matches!((staged, at), (Some(bytes), Ok(at)) if self.memory.write(at, &bytes))
        })
    }

    /// The end of the target's console at boot.
    pub(super) fn console_tail(&mut self) -> String {
        tail(&mut self.console)
    }

    /// What was written to the console since this was called last, up to a limit; the rest is left out.
    pub(super) fn new_console(&mut self, to: &mut Vec<u8>) {
        to.clear();
        let end = self.console.metadata().map_or(0, |metadata| metadata.len());
        if end > self.console_read {
            let start = std::mem::replace(&mut self.console_read, end);
            let read = self
                .console
                .seek(SeekFrom::Start(start))
                .and_then(|_| (&self.console).take((end - start).min(MAX_CONSOLE)).read_to_end(to));
            if read.is_err() {
                to.clear();
            }
        }
    }

    /// How QEMU ended, if it did, or that somebody stopped it: both leave it without an answer for good.
    pub(super) fn ended(&mut self) -> Option<String> {
        let stopped = || {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let child = Pid::from_raw(self.child.id().try_into().ok()?)?;
            let status = waitid(WaitId::Pid(child), options).ok().flatten()?;
            status.stopped().then(|| "was stopped by a signal".to_owned())
        };
        let stopped = stopped();
        self.child.try_wait().ok().flatten().map(describe).or(stopped)
    }

    /// How QEMU ended, for one that is about to end: it has closed what we share, and says why a moment later.
    pub(super) fn last_status(&mut self) -> Option<String> {
        (0..100).find_map(|_| {
            let ended = self.child.try_wait().ok().flatten().map(describe);
            if ended.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            ended
        })
    }

    /// Processor time that QEMU has used, in ticks of the kernel's (proc(5), fields 14 and 15 of `stat`).
    pub(super) fn ticks(&self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields = stat.rsplit_once(')')?.1;
        fields.split_ascii_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().ok()).sum()
    }

    /// The error that says how QEMU ended.
    pub(super) fn death(&mut self, status: String) -> EngineError {
        let stderr = tail(&mut self.stderr);
        EngineError::Died { status, hint: hint(&stderr), stderr, console: self.console_tail() }
    }

    /// Removes the private directory: QEMU has everything open that it needs.
    pub(super) fn forget_files(&mut self) {
        self.directory = None;
    }

    /// Process number of QEMU.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
