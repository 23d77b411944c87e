//! A volume in memory, served over blocking sockets by one thread a connection: just enough to let real
//! clients judge negotiation, decoder and replies.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::sync::watch;
use volumedriver::nbd::bind::{bind_tcp, bind_unix};
use volumedriver::nbd::handshake::{ExportInfo, Exports, Limits};
use volumedriver::nbd::listener::{
    Admission, AdmissionLimits, Attach, Attached, Listener, ListenerOptions, serve,
};
use volumedriver::nbd::protocol::{Cookie, Errno, extent_flag};
use volumedriver::nbd::reply::{End, Extent, Replies, block_status, hole_chunk};
use volumedriver::nbd::transmission::{Decoder, Item, Operation, Request};

/// Unit of allocation, bytes.
const BLOCK: usize = 64 << 10;
/// Receive buffer, bytes.
const BUFFER: usize = 256 << 10;

/// A volume in memory.
pub(crate) struct Toy {
    name: String,
    state: Mutex<State>,
    /// Requests that were answered with an error.
    pub(crate) refused: AtomicU64,
    /// Pieces of writes.
    pub(crate) pieces: AtomicU64,
}

struct State {
    data: Vec<u8>,
    allocated: Vec<bool>,
}

impl Toy {
    pub(crate) fn new(name: &str, size: usize) -> Arc<Self> {
        let state = State { data: vec![0; size], allocated: vec![false; size.div_ceil(BLOCK)] };
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::new(state),
            refused: AtomicU64::new(0),
            pieces: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no connection panicked")
    }

    pub(crate) fn contents(&self) -> Vec<u8> {
        self.state().data.clone()
    }

    pub(crate) fn write(&self, offset: usize, data: &[u8]) {
        let mut state = self.state();
        state.data[offset..offset + data.len()].copy_from_slice(data);
        state.allocated[offset / BLOCK..(offset + data.len()).div_ceil(BLOCK)].fill(true);
    }

    fn zero(&self, offset: usize, length: usize) {
        let mut state = self.state();
        state.data[offset..offset + length].fill(0);
        let whole = offset.div_ceil(BLOCK)..(offset + length) / BLOCK;
        if whole.start < whole.end {
            state.allocated[whole].fill(false);
        }
    }

    fn extents(&self, offset: usize, length: usize) -> Vec<Extent> {
        let state = self.state();
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < offset + length {
            let end = ((at / BLOCK + 1) * BLOCK).min(offset + length);
            let flags = if state.allocated[at / BLOCK] { 0 } else { extent_flag::HOLE | extent_flag::ZERO };
            match extents.last_mut() {
                Some(last) if last.flags == flags => last.length += (end - at) as u32,
                _ => extents.push(Extent { length: (end - at) as u32, flags }),
            }
            at = end;
        }
        extents
    }

    fn serve(&self, connection: Attached) -> io::Result<()> {
        let mut socket = File::from(connection.socket);
        let replies = Replies::negotiated(&connection.negotiated);
        let mut decoder = Decoder::new(&connection.negotiated);
        let mut buffer = vec![0; BUFFER.max(connection.leftover.len())];
        buffer[..connection.leftover.len()].copy_from_slice(&connection.leftover);
        let mut filled = connection.leftover.len();
        let mut out = BytesMut::new();
        loop {
            let mut taken = 0;
            loop {
                let (consumed, item) = decoder.next(&buffer[taken..filled]);
                taken += consumed;
                match item {
                    Item::Incomplete => break,
                    Item::Request(request) => self.request(replies, &request, &mut out),
                    Item::WritePiece { cookie, offset, data, last, .. } => {
                        self.pieces.fetch_add(1, Ordering::Relaxed);
                        self.write(offset as usize, data);
                        if last {
                            replies.success(&mut out, cookie);
                        }
                    }
                    Item::Empty { cookie, .. } => replies.read(&mut out, cookie, 0, 0),
                    Item::Refused { cookie, error, reason, .. } => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        replies.error(&mut out, cookie, error, reason);
                    }
                    Item::Disconnect => return socket.write_all(&out),
                    Item::Violation(violation) => return Err(io::Error::other(violation)),
                }
            }
            socket.write_all(&out)?;
            out.clear();
            buffer.copy_within(taken..filled, 0);
            filled -= taken;
            match socket.read(&mut buffer[filled..])? {
                0 => return Ok(()),
                length => filled += length,
            }
        }
    }

    fn request(&self, replies: Replies, request: &Request, out: &mut BytesMut) {
        let Request { cookie, offset, length, operation } = *request;
        let (at, long) = (offset as usize, length as usize);
        match operation {
            Operation::Read { df } => self.read(replies, df, cookie, at, long, out),
            Operation::Flush | Operation::Cache => replies.success(out, cookie),
            Operation::Trim { .. } => {
                self.zero(at, long);
                replies.success(out, cookie);
            }
            Operation::WriteZeroes { no_hole: true, fast_zero: true, .. } => {
                replies.error(out, cookie, Errno::NotSupported, "allocated zeroes are not fast");
            }
            Operation::WriteZeroes { no_hole, .. } => {
                if no_hole {
                    self.write(at, &vec![0; long]);
                } else {
                    self.zero(at, long);
                }
                replies.success(out, cookie);
            }
            Operation::BlockStatus { req_one } => {
                let mut extents = self.extents(at, long);
                extents.truncate(if req_one { 1 } else { usize::MAX });
                block_status(out, cookie, &extents);
            }
        }
    }

    fn read(&self, replies: Replies, df: bool, cookie: Cookie, at: usize, long: usize, out: &mut BytesMut) {
        let hole = self.extents(at, long).iter().all(|extent| extent.flags != 0);
        if hole && !df && replies == Replies::Structured {
            out.put_slice(&hole_chunk(cookie, at as u64, long as u32, End::Done));
        } else {
            replies.read(out, cookie, at as u64, long as u32);
            out.put_slice(&self.state().data[at..at + long]);
        }
    }
}

/// All toys of a test.
pub(crate) struct Shelf(pub(crate) Vec<Arc<Toy>>);

impl Exports for Shelf {
    fn list(&self) -> Vec<String> {
        self.0.iter().map(|toy| toy.name.clone()).collect()
    }

    fn lookup(&self, name: &str) -> Option<ExportInfo> {
        let toy = self.0.iter().find(|toy| toy.name == name)?;
        Some(ExportInfo { size: toy.state().data.len() as u64 })
    }
}

impl Attach for Shelf {
    fn attach(&self, connection: Attached) {
        let found = self.0.iter().find(|toy| toy.name == connection.negotiated.export);
        let Some(toy) = found.cloned() else { return };
        std::thread::spawn(move || {
            // The connection's place goes with it, after the socket was closed.
            if let Err(error) = toy.serve(connection) {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// A served shelf: TCP on a port of the system's choice, and a unix socket in a folder of its own.
pub(crate) struct Served {
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    pub(crate) folder: PathBuf,
    stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    pub(crate) fn new(test: &str, shelf: Shelf) -> Self {
        let folder = std::env::temp_dir().join(format!("nbd-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("nbd.sock");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let options = ListenerOptions {
            limits: Limits::default(),
            admission: Admission::new(AdmissionLimits {
                connections: 64,
                handshakes: 16,
                handshake_timeout: Duration::from_secs(10),
            }),
        };
        let shelf = Arc::new(shelf);
        let port = runtime.block_on(async {
            let tcp = bind_tcp("127.0.0.1:0".parse().unwrap(), 0).await.unwrap();
            let unix = bind_unix(&socket).await.unwrap();
            let port = tcp.local_addr().unwrap().port();
            for listener in [Listener::Tcp(tcp), Listener::Unix(unix)] {
                let (exports, attach) = (Arc::clone(&shelf), Arc::clone(&shelf));
                tokio::spawn(serve(listener, options.clone(), exports, attach, stopped.clone()));
            }
            port
        });
        Self { port, socket, folder, stop, runtime }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.runtime.block_on(self.stop.closed());
        // Left behind only if it cannot be removed, which is no reason to fail a test.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
