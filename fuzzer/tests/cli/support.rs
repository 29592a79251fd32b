//! Runs the binary, and looks at what it left.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longest that any single command may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

static MACHINE: Mutex<()> = Mutex::new(());

/// Waits for its turn with the machine.
pub(crate) fn machine() -> MutexGuard<'static, ()> {
    // A test that failed has left nothing behind that would matter to the next.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: std::process::Output) -> Self {
        let run = Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        };
        for text in [&run.out, &run.err] {
            assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{run:#?}");
        }
        run
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Fails with a message that holds all these words.
    #[track_caller]
    pub(crate) fn complains(self, words: &[&str]) -> Self {
        assert!(self.err.lines().any(|line| line.starts_with("error: ")), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {self:#?}");
        }
        self.exits(3)
    }

    #[track_caller]
    pub(crate) fn verdict(&self) -> &str {
        let last = self.out.lines().last().unwrap_or_default();
        assert!(last.starts_with("verdict: "), "{self:#?}");
        last
    }

    /// The lines of standard output as JSON, all of them.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// The command, not yet started.
pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hyperfuzz"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the command to its end.
#[track_caller]
pub(crate) fn hyperfuzz<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    Run::of(assert_cmd::Command::from_std(command(args)).timeout(PATIENCE).output().expect("starts"))
}

/// Runs a command line without blanks in its words; `{}` stands for the path.
#[track_caller]
pub(crate) fn line(text: &str, path: &Path) -> Run {
    let path = path.to_str().expect("UTF-8");
    hyperfuzz(text.split_whitespace().map(|word| word.replace("{}", path)))
}

/// All files below a directory with what they hold.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("readable"));
        }
    }
    found
}

/// Number of programs in a campaign's corpus.
pub(crate) fn corpus_len(campaign: &Path) -> usize {
    fs::read_dir(campaign.join("corpus")).map_or(0, |entries| {
        entries.filter(|e| e.as_ref().is_ok_and(|e| e.path().extension() == Some(OsStr::new("hf")))).count()
    })
}

/// Waits until something is the case.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes that keep the processors busy. Dropping it ends them.
pub(crate) struct Load {
    children: Vec<Child>,
}

impl Load {
    pub(crate) fn start(processes: usize) -> Self {
        let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("starts");
        Self { children: (0..processes).map(|_| busy()).collect() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A campaign that runs beside the test. Dropping it ends it.
pub(crate) struct Background {
    child: Option<Child>,
}

impl Background {
    pub(crate) fn start(text: &str, path: &Path) -> Self {
        let path = path.to_str().expect("UTF-8");
        let child = command(text.split_whitespace().map(|word| word.replace("{}", path)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        Self { child: Some(child) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("runs").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.id(), signal);
    }

    /// Its standard output, for who wants to read it while it runs; [`Self::wait`] does not see it then.
    pub(crate) fn output(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.as_mut().expect("runs").stdout.take().expect("nobody has taken it"))
    }

    /// Process number of its QEMU, once it has one that has replaced itself by QEMU.
    pub(crate) fn qemu(&self) -> Option<u32> {
        // One that is asked for its version only has no machine.
        let has_machine = |pid: &u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.contains(&0) && !String::from_utf8_lossy(&words).contains("--version")
        };
        children_named(self.id(), "(qemu-system").into_iter().find(has_machine)
    }

    pub(crate) fn wait(mut self) -> Run {
        Run::of(self.child.take().expect("runs").wait_with_output().expect("ends"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Processes that a process has started.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    children_named(parent, "(")
}

/// Those whose names begin so.
fn children_named(parent: u32, begin: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let child = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // `pid (name) state parent ...`; the name may hold anything, so the last parenthesis counts.
        let (name, rest) = stat.rsplit_once(") ")?;
        let is_child = rest.split(' ').nth(1)?.parse() == Ok(parent) && !rest.starts_with('Z');
        (is_child && name.contains(begin)).then_some(pid)
    };
    entries.filter_map(child).collect()
}

/// Sends a signal to a process that the test knows to be one of its own.
pub(crate) fn signal_to(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process(pid, signal).expect("the process is there");
}

/// Sends a signal to a process of the test's that may have ended.
pub(crate) fn signal_if_there(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process has ended.
pub(crate) fn gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')))
}
