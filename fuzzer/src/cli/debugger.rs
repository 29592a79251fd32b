//! `hyperfuzz replay --gdb`: a machine that stands before the first call of a program, and waits for gdb.

use std::net::TcpListener;

use anyhow::Context;

use super::{Exit, signals::stop_flag};
use crate::{
    engine::debug::Ending,
    program::{Program, lower},
    report::output::say,
    target::Settings,
    triage::gdb::Places,
};

/// Boots the machine, says how to attach, and stays until gdb has left or Ctrl-C.
pub(super) fn run(settings: &Settings, program: &Program, port: u16) -> anyhow::Result<Exit> {
    let lowered = lower::lower(program, 1)?;
    let places = Places::find(settings.hypervisor())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| {
        format!("cannot wait for gdb on port {port} of 127.0.0.1; name another one, or --gdb 0 for any that is free")
    })?;
    let address = listener.local_addr().context("the port has no number")?;
    let directory = tempfile::Builder::new()
        .prefix("hyperfuzz-gdb-")
        .tempdir()
        .context("cannot make a temporary directory; set TMPDIR to one with some space")?;
    let script = places.write(directory.path(), settings.hypervisor(), address)?;
    let stop = stop_flag()?;
    let debugged = settings.debug(places.ready, &lowered.bytes)?;
    say!(
        "the machine stands before the first call; in another terminal:\n\n    gdb -x {}\n",
        script.display()
    );
    say!("waiting for gdb on {address}; the machine ends when gdb leaves, or with Ctrl-C");
    let ending = debugged.serve(&listener, &stop).context("the connection to gdb failed")?;
    say!(
        "verdict: {}",
        match ending {
            Ending::Detached => "gdb has left",
            Ending::Ended => "the machine has ended",
            Ending::Stopped => "interrupted",
        }
    );
    Ok(Exit::Clean)
}
