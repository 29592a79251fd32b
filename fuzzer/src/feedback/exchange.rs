//! Messages between the processes of a campaign, and between campaigns on several machines: LibAFL's LLMP.
//!
//! One process is the [`Hub`]: it hears every message, and what it sends reaches everybody. The others are [`Spoke`]s. Hubs
//! can be joined over TCP. A spoke or a hub that comes later hears everything that was sent before, in order: the hub
//! keeps its messages.
//!
//! Messages are bytes here. LLMP would pass them on by itself; the hub's owner decides instead, since only it knows which
//! are news.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    rc::Rc,
};

use libafl::Error;
use libafl_bolts::{
    ClientId,
    llmp::{
        Flags, LLMP_FLAG_FROM_B2B, Listener, LlmpBroker, LlmpBrokerInner, LlmpClient, LlmpHook,
        LlmpMsgHookResult, Tag,
    },
    shmem::{ShMemProvider, UnixShMem, UnixShMemProvider},
    tuples::tuple_list,
};

/// Marks our messages among LLMP's own: `HFZ1`.
const TAG: Tag = Tag(u32::from_be_bytes(*b"HFZ1"));

/// Why messages cannot be exchanged.
#[derive(Debug, thiserror::Error)]
#[error("workers cannot exchange messages ({what}): {reason}")]
pub struct ExchangeError {
    what: &'static str,
    reason: String,
}

fn failed(what: &'static str) -> impl FnOnce(Error) -> ExchangeError {
    move |error| ExchangeError { what, reason: error.to_string() }
}

fn io_failed(what: &'static str) -> impl FnOnce(std::io::Error) -> ExchangeError {
    move |error| ExchangeError { what, reason: error.to_string() }
}

/// A message that the hub has heard.
#[derive(Debug)]
pub struct Heard {
    /// What it says.
    pub bytes: Vec<u8>,
    /// It came from another hub.
    pub remote: bool,
}

/// Takes all messages out of LLMP's hands.
#[derive(Debug)]
struct Ear {
    heard: Rc<RefCell<VecDeque<Heard>>>,
}

impl<SHM, SP> LlmpHook<SHM, SP> for Ear {
    fn on_new_message(
        &mut self,
        _inner: &mut LlmpBrokerInner<SHM, SP>,
        _client: ClientId,
        tag: &mut Tag,
        flags: &mut Flags,
        message: &mut [u8],
        _new: &mut Vec<(Tag, Flags, Vec<u8>)>,
    ) -> Result<LlmpMsgHookResult, Error> {
        if *tag == TAG {
            let remote = (*flags & LLMP_FLAG_FROM_B2B) == LLMP_FLAG_FROM_B2B;
            self.heard.borrow_mut().push_back(Heard { bytes: message.to_vec(), remote });
        }
        Ok(LlmpMsgHookResult::Handled)
    }
}

/// The process that hears everything.
pub struct Hub {
    broker: LlmpBroker<(Ear, ()), UnixShMem, UnixShMemProvider>,
    heard: Rc<RefCell<VecDeque<Heard>>>,
}

impl Hub {
    /// A hub, and the port on the loopback interface on which its spokes find it.
    ///
    /// # Errors
    /// When there is no shared memory, or no port.
    pub fn new() -> Result<(Self, u16), ExchangeError> {
        let heard = Rc::new(RefCell::default());
        let provider = UnixShMemProvider::new().map_err(failed("shared memory"))?;
        let ear = Ear { heard: Rc::clone(&heard) };
        let broker = LlmpBroker::new(provider, tuple_list!(ear)).map_err(failed("shared memory"))?;
        let mut hub = Self { broker, heard };
        let address = hub.listen(("127.0.0.1", 0))?;
        Ok((hub, address.port()))
    }

    /// Lets other hubs join at an address. There is no authentication.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(&mut self, at: impl ToSocketAddrs) -> Result<SocketAddr, ExchangeError> {
        let listener = TcpListener::bind(at).map_err(io_failed("listening"))?;
        let address = listener.local_addr().map_err(io_failed("listening"))?;
        self.broker.inner_mut().launch_listener(Listener::Tcp(listener)).map_err(failed("listening"))?;
        Ok(address)
    }

    /// Joins another hub.
    ///
    /// # Errors
    /// When nobody is there.
    pub fn join(&mut self, at: impl ToSocketAddrs) -> Result<(), ExchangeError> {
        self.broker.inner_mut().connect_b2b(at).map_err(failed("joining another machine"))
    }

    /// Sends a message to everybody, now and later.
    ///
    /// # Errors
    /// When there is no shared memory.
    pub fn send(&mut self, message: &[u8]) -> Result<(), ExchangeError> {
        self.broker.inner_mut().send_buf(TAG, message).map_err(failed("sending"))
    }

    /// The next message. Does not wait.
    ///
    /// # Errors
    /// When a spoke has sent more than could be heard.
    pub fn hear(&mut self) -> Result<Option<Heard>, ExchangeError> {
        if self.heard.borrow().is_empty() {
            self.broker.broker_once().map_err(failed("hearing"))?;
        }
        Ok(self.heard.borrow_mut().pop_front())
    }
}

/// A process of a hub.
pub struct Spoke {
    client: LlmpClient<UnixShMem, UnixShMemProvider>,
}

impl Spoke {
    /// Attaches to the hub that listens on this port.
    ///
    /// # Errors
    /// When it is not there.
    pub fn attach(port: u16) -> Result<Self, ExchangeError> {
        let provider = UnixShMemProvider::new().map_err(failed("shared memory"))?;
        let client = LlmpClient::create_attach_to_tcp(provider, port).map_err(failed("attaching"))?;
        Ok(Self { client })
    }

    /// Sends a message to the hub.
    ///
    /// # Errors
    /// When there is no shared memory.
    pub fn send(&mut self, message: &[u8]) -> Result<(), ExchangeError> {
        self.client.send_buf(TAG, message).map_err(failed("sending"))
    }

    /// The next message of the hub. Does not wait.
    ///
    /// # Errors
    /// When the hub has gone.
    pub fn hear(&mut self) -> Result<Option<Vec<u8>>, ExchangeError> {
        while let Some((_, tag, bytes)) = self.client.recv_buf().map_err(failed("hearing"))? {
            if tag == TAG {
                return Ok(Some(bytes.to_vec()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Turns the hubs until one of them has heard something.
    fn until_heard(hubs: &mut [&mut Hub], who: usize) -> Heard {
        let begin = Instant::now();
        loop {
            for (index, hub) in hubs.iter_mut().enumerate() {
                if let Some(heard) = hub.hear().unwrap().filter(|_| index == who) {
                    return heard;
                }
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "nothing was heard");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn spokes_are_heard_and_latecomers_hear_it_all() {
        let (mut hub, port) = Hub::new().unwrap();
        hub.send(b"first").unwrap();
        let spoke = std::thread::spawn(move || {
            let mut spoke = Spoke::attach(port).unwrap();
            assert_eq!(spoke.hear().unwrap().unwrap(), b"first");
            spoke.send(b"hello").unwrap();
            while spoke.hear().unwrap().is_none_or(|bytes| bytes != b"bye") {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let heard = until_heard(&mut [&mut hub], 0);
        assert_eq!((heard.bytes.as_slice(), heard.remote), (b"hello".as_slice(), false));
        hub.send(b"bye").unwrap();
        spoke.join().unwrap();
    }

    #[test]
    fn hubs_hear_each_other() {
        let (mut left, _) = Hub::new().unwrap();
        let (mut right, _) = Hub::new().unwrap();
        left.send(b"from left").unwrap();
        let address = left.listen("127.0.0.1:0").unwrap();
        right.join(address).unwrap();
        right.send(b"from right").unwrap();
        let heard = until_heard(&mut [&mut left, &mut right], 1);
        assert_eq!((heard.bytes.as_slice(), heard.remote), (b"from left".as_slice(), true));
        let heard = until_heard(&mut [&mut left, &mut right], 0);
        assert_eq!((heard.bytes.as_slice(), heard.remote), (b"from right".as_slice(), true));
        assert!(right.join("127.0.0.1:1").is_err());
    }
}
