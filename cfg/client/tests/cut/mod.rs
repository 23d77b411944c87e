//! A TCP proxy that cuts a connection at the wrong moment, or keeps a request for later.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to the next transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The request is passed on, its answer is not.
    Answer,
    /// The request is not passed on either.
    Request,
    /// The request is kept, and passed on when [`CuttingProxy::release`] says so.
    Hold,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    Armed(Cut),
    /// The request was passed on, its answer will be cut.
    Passed,
    HasCut,
    Released,
}

struct Shared {
    state: Mutex<State>,
    held: Mutex<Option<(TcpStream, Vec<u8>)>>,
    answered: SyncSender<()>,
}

/// A proxy in front of one endpoint. It cuts once each time it is armed.
pub struct CuttingProxy {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
    answers: Receiver<()>,
}

/// What becomes of some bytes.
#[derive(PartialEq, Eq)]
enum Fate {
    Pass,
    Cut,
    /// Neither these nor later ones of the connection pass, and it stays open.
    Keep,
}

impl CuttingProxy {
    /// In front of `target`.
    pub fn start(target: &str) -> CuttingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let (answered, answers) = sync_channel(16);
        let shared = Arc::new(Shared { state: Mutex::new(State::Open), held: Mutex::default(), answered });
        let (for_threads, target) = (Arc::clone(&shared), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let twin = |stream: &TcpStream| stream.try_clone().expect("another handle");
                let (from, to, shared) = (twin(&client), twin(&server), Arc::clone(&for_threads));
                thread::spawn(move || copy(from, to, |to, bytes| shared.request(to, bytes)));
                let shared = Arc::clone(&for_threads);
                thread::spawn(move || copy(server, client, |_, bytes| shared.answer(bytes)));
            }
        });
        CuttingProxy { address, shared, answers }
    }

    /// Cuts with the next request of a transaction.
    pub fn arm(&self, cut: Cut) {
        *self.shared.state.lock().expect("a state") = State::Armed(cut);
    }

    /// Whether it has cut since it was armed.
    pub fn has_cut(&self) -> bool {
        *self.shared.state.lock().expect("a state") == State::HasCut
    }

    /// Passes on what was held, and waits until the server has answered it.
    pub fn release(&self) {
        *self.shared.state.lock().expect("a state") = State::Released;
        let (mut server, bytes) =
            self.shared.held.lock().expect("a request").take().expect("something is held");
        server.write_all(&bytes).expect("passed on");
        self.answers.recv_timeout(Duration::from_secs(20)).expect("an answer");
    }
}

impl Shared {
    /// Bytes for the server. The keys of a transaction are in clear in its data, so it is known by them.
    fn request(&self, server: &TcpStream, bytes: &[u8]) -> Fate {
        let mut state = self.state.lock().expect("a state");
        let State::Armed(cut) = *state else { return Fate::Pass };
        if !bytes.windows(2).any(|window| window == b"/a" || window == b"/b") {
            return Fate::Pass;
        }
        *state = if cut == Cut::Answer { State::Passed } else { State::HasCut };
        match cut {
            Cut::Answer => Fate::Pass,
            Cut::Request => Fate::Cut,
            Cut::Hold => {
                let server = server.try_clone().expect("another handle");
                *self.held.lock().expect("a place") = Some((server, bytes.to_vec()));
                Fate::Keep
            }
        }
    }

    /// Bytes for the client. The answer to a transaction comes in frames of headers and data (types 1 and 0 of HTTP/2);
    /// acknowledgements and windows may pass before it.
    fn answer(&self, bytes: &[u8]) -> Fate {
        let mut rest = bytes;
        while let [a, b, c, kind, ..] = *rest {
            if kind <= 1 {
                let mut state = self.state.lock().expect("a state");
                match *state {
                    State::Passed => {
                        *state = State::HasCut;
                        return Fate::Cut;
                    }
                    State::Released => {
                        let _ = self.answered.try_send(());
                    }
                    _ => {}
                }
                return Fate::Pass;
            }
            let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
            rest = rest.get(length..).unwrap_or_default();
        }
        Fate::Pass
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, fate: impl Fn(&TcpStream, &[u8]) -> Fate) {
    let mut buffer = [0; 65536];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(length) if length > 0 => length,
            _ => break,
        };
        match fate(&to, &buffer[..length]) {
            Fate::Pass if to.write_all(&buffer[..length]).is_ok() => {}
            Fate::Keep => return,
            _ => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
