//! The listener with real sockets: time limits, bounds, hand-over, shutdown, and what is in the way of a
//! socket.

mod nbd_wire;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nbd_wire::wire;
use tokio::sync::watch;
use volumedriver::nbd::bind::{bind_tcp, bind_unix};
use volumedriver::nbd::handshake::{ExportInfo, Exports, Limits};
use volumedriver::nbd::listener::{
    Admission, AdmissionLimits, Attach, Attached, Listener, ListenerOptions, serve,
};

/// A test that waits this long for an event has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Flags of the client, and `NBD_OPT_GO` for `disk`.
const GO: &str = "00000003 'IHAVEOPT' 00000007 0000000a 00000004 'disk' 0000";
/// Greeting, two descriptions, acknowledgement.
const ANSWERED: usize = 18 + 32 + 34 + 20;

struct Disk;

impl Exports for Disk {
    fn list(&self) -> Vec<String> {
        vec!["disk".to_owned()]
    }

    fn lookup(&self, name: &str) -> Option<ExportInfo> {
        (name == "disk").then_some(ExportInfo { size: 4096 })
    }
}

/// Hands connections to the test.
struct ToTest(Mutex<mpsc::SyncSender<Attached>>);

impl Attach for ToTest {
    fn attach(&self, connection: Attached) {
        // The test may be over.
        let _ = self.0.lock().unwrap().send(connection);
    }
}

/// A listener on a runtime of its own.
struct Server {
    port: u16,
    attached: mpsc::Receiver<Attached>,
    admission: Admission,
    stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn new(handshake_timeout: Duration, connections: usize, handshakes: usize) -> Self {
        let admission = Admission::new(AdmissionLimits { connections, handshakes, handshake_timeout });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (sender, attached) = mpsc::sync_channel(16);
        let options = ListenerOptions { limits: Limits::default(), admission: admission.clone() };
        let port = runtime.block_on(async {
            let listener = bind_tcp("127.0.0.1:0".parse().unwrap(), 0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let attach = Arc::new(ToTest(Mutex::new(sender)));
            tokio::spawn(serve(Listener::Tcp(listener), options, Arc::new(Disk), attach, stopped));
            port
        });
        Self { port, attached, admission, stop, runtime }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A connection that has its place: the greeting says so.
    fn greeted(&self) -> TcpStream {
        let mut socket = self.connect();
        let mut greeting = [0; 18];
        socket.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting.to_vec(), wire("'NBDMAGIC' 'IHAVEOPT' 0003"));
        socket
    }
}

/// Whether the other side has closed: no byte, and the end of the stream or a reset.
fn is_closed(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_connection_is_handed_over_with_what_followed() {
    let server = Server::new(PATIENCE, 10, 10);
    let mut client = server.connect();
    let mut sent = wire(GO);
    sent.extend_from_slice(b"requests");
    client.write_all(&sent).unwrap();
    let connection = server.attached.recv_timeout(PATIENCE).unwrap();
    assert_eq!(connection.negotiated.export, "disk");
    assert_eq!(connection.negotiated.size, 4096);
    assert_eq!(connection.peer, client.local_addr().unwrap().to_string());
    client.read_exact(&mut [0; ANSWERED]).unwrap();

    let mut socket = TcpStream::from(connection.socket);
    assert!(socket.nodelay().unwrap());
    // SAFETY: F_GETFL takes no argument, and the descriptor is open.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    assert_eq!(flags & libc::O_NONBLOCK, 0, "a ring needs a blocking socket");
    // A receive may have ended anywhere; nothing is lost between the two.
    let mut rest = vec![0; b"requests".len() - connection.leftover.len()];
    socket.read_exact(&mut rest).unwrap();
    assert_eq!([&connection.leftover[..], &rest].concat(), b"requests");
    socket.write_all(b"reply").unwrap();
    let mut reply = [0; 5];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"reply");
}

#[test]
fn a_slow_client_is_closed_in_time() {
    let limit = Duration::from_millis(300);
    let server = Server::new(limit, 10, 10);
    let started = Instant::now();
    let mut silent = server.greeted();
    let mut halfway = server.greeted();
    halfway.write_all(&wire("00000003 'IHAVE'")).unwrap();
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut halfway));
    assert!(started.elapsed() >= limit);
    // The places are free again.
    while server.admission.open() > 0 {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(server.admission.refused(), 0);
}

#[test]
fn a_client_that_does_not_read_is_closed_in_time() {
    let limit = Duration::from_millis(300);
    let server = Server::new(limit, 10, 10);
    let mut client = server.greeted();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    // Lists without end, whose answers nobody takes: the options' bound or the time ends it, not the memory.
    let lists = wire("'IHAVEOPT' 00000003 00000000").repeat(1000);
    client.write_all(&wire("00000003")).unwrap();
    let end = loop {
        if let Err(error) = client.write_all(&lists) {
            break error;
        }
    };
    assert!(matches!(end.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{end}");
    assert!(server.attached.try_recv().is_err());
}

#[test]
fn connections_are_bounded_over_their_whole_life() {
    let server = Server::new(PATIENCE, 2, 2);
    let mut one = server.greeted();
    one.write_all(&wire(GO)).unwrap();
    let attached = server.attached.recv_timeout(PATIENCE).unwrap();
    let two = server.greeted();
    assert_eq!(server.admission.open(), 2);

    let mut three = server.connect();
    assert!(is_closed(&mut three));
    assert_eq!(server.admission.refused(), 1);

    // A negotiation that ends gives its place back, and so does an attached connection.
    drop(two);
    drop(attached);
    let started = Instant::now();
    while server.admission.open() > 0 {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    server.greeted();
}

#[test]
fn negotiations_are_bounded_apart_from_connections() {
    let server = Server::new(PATIENCE, 10, 1);
    let mut one = server.greeted();
    assert!(is_closed(&mut server.connect()));
    one.write_all(&wire(GO)).unwrap();
    let _attached = server.attached.recv_timeout(PATIENCE).unwrap();
    // It is no negotiation any more.
    server.greeted();
}

#[test]
fn shutdown_stops_accepting_and_leaves_connections() {
    let server = Server::new(PATIENCE, 10, 10);
    let mut one = server.connect();
    one.write_all(&wire(GO)).unwrap();
    let attached = server.attached.recv_timeout(PATIENCE).unwrap();
    one.read_exact(&mut [0; ANSWERED]).unwrap();
    let mut negotiating = server.greeted();

    server.stop.send_replace(true);
    server.runtime.block_on(async { tokio::time::timeout(PATIENCE, server.stop.closed()).await }).unwrap();
    assert!(is_closed(&mut negotiating));
    let refused = TcpStream::connect(("127.0.0.1", server.port)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    TcpStream::from(attached.socket).write_all(b"still here").unwrap();
    let mut said = [0; 10];
    one.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"still here");
}

#[tokio::test]
async fn a_taken_port_is_tried_again_within_bounds() {
    let taken = bind_tcp("127.0.0.1:0".parse().unwrap(), 0).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind_tcp(address, 1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

    let retry = tokio::spawn(bind_tcp(address, 50));
    tokio::task::yield_now().await;
    drop(taken);
    retry.await.unwrap().unwrap();
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nbd-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind only if it cannot be removed, which is no reason to fail a test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_unix_socket_is_private() {
    let folder = Folder::new("mode");
    let path = folder.0.join("nbd.sock");
    let _listener = bind_unix(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new("stale");
    let path = folder.0.join("nbd.sock");
    let first = bind_unix(&path).await.unwrap();
    assert_eq!(bind_unix(&path).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    UnixStream::connect(&path).unwrap();
    drop(first);
    assert!(path.exists());
    let _second = bind_unix(&path).await.unwrap();
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("file");
    let path = folder.0.join("nbd.sock");
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(bind_unix(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}
