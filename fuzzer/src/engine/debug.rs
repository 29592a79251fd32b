//! A machine for a debugger: it stands where programs begin, with one of them in its ring.
//!
//! It is made of the same parts as any other, but for the plugin: without that nobody counts blocks, watches the clock or resets
//! anything, and the machine stands still for as long as a person looks at it. Markers are the no-operations that they are, so the
//! end of the program, its crash included, is a place in the code. Time goes on while the machine runs; hypervisor and agent do not
//! look at it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    EngineError, Request,
    config::QemuConfig,
    machine::Machine,
    process::{Driver, Process},
    stub::Stub,
    version,
};

/// How often somebody looks whether it is over.
const SLICE: Duration = Duration::from_millis(50);
/// How much longer than the limit the boot may take by the clock: hosts are busy.
const PATIENCE: u32 = 10;

/// Why a debugging session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The debugger has closed the connection.
    Detached,
    /// QEMU has ended, because the debugger wanted it to or by itself.
    Ended,
    /// The caller wanted it to end.
    Stopped,
}

/// A machine that stands where programs begin.
#[derive(Debug)]
pub struct Debugged {
    machine: Machine,
    stub: UnixStream,
}

impl Debugged {
    /// Boots a machine up to `ready`, the address of the function that executes the ready marker, and puts a lowered program into its
    /// ring.
    ///
    /// # Errors
    /// If no machine can be had; the error says why and what to do.
    pub fn boot(config: &QemuConfig, ready: u64, program: &[u8]) -> Result<Self, EngineError> {
        let version = version::ask(&config.binary)?;
        let mut process = Process::start(config, version, Driver::Debugger)?;
        let stub =
            process.stub.take().ok_or_else(|| EngineError::Debugger("it has no stub of gdb".into()))?;
        let mut waited = Duration::ZERO;
        let beacon = {
            let mut hopeless = || {
                waited += SLICE;
                let late = waited >= config.boot_limit.saturating_mul(PATIENCE);
                process.ended().or_else(|| late.then(|| "it was not ready in time".to_owned()))
            };
            Stub::new(&stub, &mut hopeless).run_to(ready)
        };
        let beacon = match beacon {
            Ok(beacon) => beacon,
            Err(why) => {
                return Err(match process.last_status() {
                    Some(status) => process.death(status),
                    None => EngineError::Debugger(why),
                });
            }
        };
        process.control.control().beacon.store(beacon, Ordering::Relaxed);
        let mut machine = Machine::at_snapshot(config, process, None)?;
        machine.stage(&Request { program, comparisons: false }, false)?;
        if !machine.process.apply_pokes() {
            return Err(EngineError::Debugger("the program does not fit into its ring".into()));
        }
        Ok(Self { machine, stub })
    }

    /// Process number of QEMU.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.machine.process.id()
    }

    /// Waits for a debugger and passes on what it and QEMU say to each other, until one of them has enough or `stop` is set.
    ///
    /// # Errors
    /// If the connection cannot be made.
    pub fn serve(self, listener: &TcpListener, stop: &AtomicBool) -> io::Result<Ending> {
        listener.set_nonblocking(true)?;
        let client = loop {
            match listener.accept() {
                Ok((client, _)) => break client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(SLICE),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Ending::Stopped);
            }
        };
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        relay(&client, &self.stub, stop)
    }
}

/// Passes on what both sides say.
fn relay(client: &TcpStream, stub: &UnixStream, stop: &AtomicBool) -> io::Result<Ending> {
    let detached = Arc::new(AtomicBool::new(false));
    let (mut from, mut to, told) = (client.try_clone()?, stub.try_clone()?, detached.clone());
    let requests = thread::spawn(move || {
        // It ends with either side; which it was is of no interest here.
        let _ = io::copy(&mut from, &mut to);
        told.store(true, Ordering::Relaxed);
    });
    stub.set_read_timeout(Some(SLICE))?;
    let mut buffer = [0; 16 << 10];
    let ending = loop {
        if stop.load(Ordering::Relaxed) {
            break Ending::Stopped;
        }
        let len = match (&mut &*stub).read(&mut buffer) {
            Ok(0) => break Ending::Ended,
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if detached.load(Ordering::Relaxed) {
                    break Ending::Detached;
                }
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break Ending::Ended,
        };
        if (&mut &*client).write_all(&buffer[..len]).is_err() {
            break Ending::Detached;
        }
    };
    // Whoever is gone already need not be told.
    let _ = client.shutdown(Shutdown::Both);
    let _ = stub.shutdown(Shutdown::Both);
    let _ = requests.join();
    Ok(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_hear_each_other_until_one_leaves() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut debugger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (client, _) = listener.accept().unwrap();
        let (stub, mut qemu) = UnixStream::pair().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let session = thread::spawn({
            let stop = stop.clone();
            move || relay(&client, &stub, &stop)
        });
        debugger.write_all(b"$?#3f").unwrap();
        let mut heard = [0; 5];
        qemu.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"$?#3f");
        qemu.write_all(b"+$S05#b8").unwrap();
        let mut heard = [0; 8];
        debugger.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"+$S05#b8");
        drop(debugger);
        assert_eq!(session.join().unwrap().unwrap(), Ending::Detached);
        assert_eq!(qemu.read(&mut [0]).unwrap(), 0, "QEMU hears of it");
    }
}
