//! A TCP proxy that cuts a connection at the wrong moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The request is passed on, its answer is not.
    Answer,
    /// The request is not passed on either.
    Request,
}

const OPEN: u8 = 0;
const BEFORE_REQUEST: u8 = 1;
const BEFORE_ANSWER: u8 = 2;
const REQUEST_PASSED: u8 = 3;
const HAS_CUT: u8 = 4;

/// A proxy in front of one endpoint. It cuts once each time it is armed.
pub struct CuttingProxy {
    /// Where it listens.
    pub address: String,
    state: Arc<AtomicU8>,
}

impl CuttingProxy {
    /// In front of `target`.
    pub fn start(target: &str) -> CuttingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(AtomicU8::new(OPEN));
        let (shared, target) = (Arc::clone(&state), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let ends =
                    |a: &TcpStream, b: &TcpStream| (a.try_clone().expect("a"), b.try_clone().expect("b"));
                let (there, back) = (ends(&client, &server), ends(&server, &client));
                let state = Arc::clone(&shared);
                thread::spawn(move || copy(there.0, there.1, |bytes| request(&state, bytes)));
                let state = Arc::clone(&shared);
                thread::spawn(move || copy(back.0, back.1, |bytes| answer(&state, bytes)));
            }
        });
        CuttingProxy { address, state }
    }

    /// Cuts with the next request of a transaction.
    pub fn arm(&self, cut: Cut) {
        let state = if cut == Cut::Answer { BEFORE_ANSWER } else { BEFORE_REQUEST };
        self.state.store(state, Ordering::SeqCst);
    }

    /// Whether it has cut since it was armed.
    pub fn has_cut(&self) -> bool {
        self.state.load(Ordering::SeqCst) == HAS_CUT
    }
}

/// Whether bytes for the server pass. The keys of a transaction are in clear in its data, so it is known by them.
fn request(state: &AtomicU8, bytes: &[u8]) -> bool {
    let transaction = bytes.windows(2).any(|window| window == b"/a" || window == b"/b");
    match state.load(Ordering::SeqCst) {
        BEFORE_ANSWER if transaction => {
            state.store(REQUEST_PASSED, Ordering::SeqCst);
            true
        }
        BEFORE_REQUEST if transaction => {
            state.store(HAS_CUT, Ordering::SeqCst);
            false
        }
        _ => true,
    }
}

/// Whether bytes for the client pass. The answer to a transaction comes in frames of headers and data (types 1 and 0 of
/// HTTP/2); acknowledgements and windows may pass before it.
fn answer(state: &AtomicU8, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [a, b, c, kind, ..] = *rest {
        if kind <= 1 {
            return state
                .compare_exchange(REQUEST_PASSED, HAS_CUT, Ordering::SeqCst, Ordering::SeqCst)
                .is_err();
        }
        let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        rest = rest.get(length..).unwrap_or_default();
    }
    true
}

fn copy(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 65536];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(length) if length > 0 && pass(&buffer[..length]) => length,
            _ => break,
        };
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
