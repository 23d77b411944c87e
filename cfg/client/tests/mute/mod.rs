//! A TCP proxy that falls silent, or refuses everybody.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct State {
    /// Nothing passes to clients; connections stay.
    mute: AtomicBool,
    /// New connections are closed at once.
    refuse: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// A proxy in front of one endpoint.
pub struct MutingProxy {
    /// Where it listens.
    pub address: String,
    state: Arc<State>,
}

impl MutingProxy {
    /// In front of `target`.
    pub fn start(target: &str) -> MutingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State::default());
        let (shared, target) = (Arc::clone(&state), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.refuse.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let twin = |stream: &TcpStream| stream.try_clone().expect("another handle");
                shared.open.lock().expect("a list").extend([twin(&client), twin(&server)]);
                let (from, to) = (twin(&client), twin(&server));
                thread::spawn(move || copy(from, to, || true));
                let state = Arc::clone(&shared);
                thread::spawn(move || copy(server, client, || !state.mute.load(Ordering::SeqCst)));
            }
        });
        MutingProxy { address, state }
    }

    /// From now on nothing passes to clients.
    pub fn mute(&self) {
        self.state.mute.store(true, Ordering::SeqCst);
    }

    /// Closes all connections, and new ones at once.
    pub fn cut_and_refuse(&self) {
        self.state.refuse.store(true, Ordering::SeqCst);
        for stream in self.state.open.lock().expect("a list").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.state.refuse.store(false, Ordering::SeqCst);
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, pass: impl Fn() -> bool) {
    let mut buffer = [0; 65536];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(length) if length > 0 => length,
            _ => break,
        };
        if pass() && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
