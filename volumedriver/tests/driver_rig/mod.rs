//! A driver on a directory of its own, and a client that speaks plain NBD to it over the real listener.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod change;
pub(crate) mod gate;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gate::Gate;
use tokio::sync::watch;
use volumedriver::driver::{Driver, DriverOptions, Progress, StartReport, admission_limits};
use volumedriver::nbd::bind::bind_unix;
use volumedriver::nbd::handshake::Limits;
use volumedriver::nbd::listener::{Admission, Listener, ListenerOptions, serve};
use volumedriver::parameters::{self, Parameters};
use volumedriver::volume::address::BootId;

/// Nothing that is waited for takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// A directory that goes with its value.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Not in /tmp, which may lie in memory: direct I/O is refused there.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = base.join(format!("driver-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("removed");
    }
}

struct Quiet;

impl Progress for Quiet {
    fn step(&self, _: &str, _: u64, _: u64) {}
}

/// Small segments, so that tests cross their borders.
pub(crate) fn small() -> Parameters {
    let documents = [
        (
            "scocache",
            r#"{"segment_size": "1MiB", "reserve_size": "32MiB", "trigger_gap": "4MiB", "backoff_gap": "6MiB"}"#,
        ),
        ("volume_manager", r#"{"data_threads": 2, "lock_wait_ms": 20000}"#),
    ];
    let documents = documents.map(|(name, text)| (name.to_owned(), serde_json::from_str(text).unwrap()));
    let reading = parameters::read(&documents.into_iter().collect());
    let mut parameters = reading.parameters.expect("valid parameters");
    // Few segments, all of which fit.
    parameters.scocache.scocache_mount_points[0].size =
        cfg_schema::SizeLimit::Bytes(cfg_schema::ByteSize(96 * MIB));
    parameters
}

fn options(directory: &Path, parameters: Parameters) -> DriverOptions {
    DriverOptions { data_dir: directory.to_owned(), parameters, boot_id: BootId([7; 16]) }
}

/// A running driver with a unix socket.
pub(crate) struct Rig {
    pub(crate) driver: Option<Driver>,
    pub(crate) report: StartReport,
    pub(crate) admission: Admission,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    gate: Option<Arc<Gate>>,
}

impl Rig {
    pub(crate) fn start(directory: &Path, parameters: Parameters) -> Self {
        let driver = Driver::start(options(directory, parameters), &Quiet).expect("a driver");
        Self::with(directory, driver)
    }

    /// With disk operations that the gate holds.
    pub(crate) fn start_gated(directory: &Path, parameters: Parameters, gate: &Arc<Gate>) -> Self {
        let (disk, io) = (Arc::new(uring::LocalDisk), gate.factory());
        let driver = Driver::start_on(options(directory, parameters), disk, io, &Quiet).expect("a driver");
        let mut rig = Self::with(directory, driver);
        rig.gate = Some(gate.clone());
        rig
    }

    fn with(directory: &Path, (driver, report): (Driver, StartReport)) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = directory.join("nbd.sock");
        let (stop, stopped) = watch::channel(false);
        let admission = Admission::new(admission_limits(&driver.parameters()));
        driver.watch_admission(admission.clone());
        let options = ListenerOptions { limits: Limits::default(), admission: admission.clone() };
        let listener = runtime.block_on(bind_unix(&socket)).expect("a socket");
        runtime.spawn(serve(Listener::Unix(listener), options, driver.exports(), driver.attach(), stopped));
        Self { driver: Some(driver), report, admission, socket, stop, runtime: Some(runtime), gate: None }
    }

    pub(crate) fn driver(&self) -> &Driver {
        self.driver.as_ref().expect("running")
    }

    pub(crate) fn connect(&self, export: &str) -> Client {
        Client::connect(&self.socket, export).expect("an export")
    }

    /// A connection that has not said anything yet.
    pub(crate) fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn try_connect(&self, export: &str) -> Option<Client> {
        Client::connect(&self.socket, export)
    }

    /// Waits until a condition holds that other threads bring about.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Driver) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !condition(self.driver()) {
            assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Gone already if the runtime is.
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
        if let Some(driver) = self.driver.take() {
            driver.shutdown();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            // Nobody waits for a thread that the test holds.
            gate.open();
        }
        self.end();
    }
}

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISCONNECT: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const CACHE: u16 = 5;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const FUA: u16 = 1;

/// One connection, simple replies.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) size: u64,
    next: u64,
}

impl Client {
    /// `None` if the server refuses the export or the connection.
    fn connect(socket: &Path, export: &str) -> Option<Self> {
        let mut stream = UnixStream::connect(socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut greeting = [0; 18];
        // A listener without a place for it closes at once.
        stream.read_exact(&mut greeting).ok()?;
        let mut hello = 3u32.to_be_bytes().to_vec();
        // NBD_OPT_EXPORT_NAME: the server answers with the size, or closes.
        hello.extend(b"IHAVEOPT");
        hello.extend(1u32.to_be_bytes());
        hello.extend((export.len() as u32).to_be_bytes());
        hello.extend(export.as_bytes());
        stream.write_all(&hello).ok()?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).ok()?;
        let size = u64::from_be_bytes(answer[..8].try_into().unwrap());
        Some(Self { stream, size, next: 1 })
    }

    /// Header of a request, whose cookie is returned.
    pub(crate) fn header(&mut self, flags: u16, command: u16, offset: u64, length: u32) -> (u64, Vec<u8>) {
        let cookie = self.next;
        self.next += 1;
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        (cookie, bytes)
    }

    pub(crate) fn send(&mut self, flags: u16, command: u16, offset: u64, length: u32, data: &[u8]) -> u64 {
        let (cookie, mut bytes) = self.header(flags, command, offset, length);
        bytes.extend_from_slice(data);
        self.stream.write_all(&bytes).expect("sent");
        cookie
    }

    /// The next reply: error and cookie; `length` bytes of data follow if there is no error.
    pub(crate) fn reply(&mut self) -> (u32, u64) {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[..4], 0x6744_6698u32.to_be_bytes());
        let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        (error, u64::from_be_bytes(reply[8..].try_into().unwrap()))
    }

    fn call(&mut self, flags: u16, command: u16, offset: u64, length: u32, data: &[u8]) -> u32 {
        let cookie = self.send(flags, command, offset, length, data);
        let (error, answered) = self.reply();
        assert_eq!(answered, cookie);
        error
    }

    pub(crate) fn write(&mut self, flags: u16, offset: u64, data: &[u8]) {
        assert_eq!(self.call(flags, WRITE, offset, data.len() as u32, data), 0);
    }

    pub(crate) fn command(&mut self, flags: u16, command: u16, offset: u64, length: u32) -> u32 {
        self.call(flags, command, offset, length, &[])
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        assert_eq!(self.call(0, READ, offset, length, &[]), 0);
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data).expect("data");
        data
    }
}
