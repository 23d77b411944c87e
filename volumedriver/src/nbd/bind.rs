//! Listening sockets.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// Between two attempts to bind an address that is taken.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a server on a unix socket may take to show that it lives.
const PROBE: Duration = Duration::from_secs(1);

/// Listens on `address`. An address that is in use is tried again `retries` times, 200 ms apart: the process
/// before may be on its way out. Accepted connections get keep-alives, so that a peer that vanished gives its
/// place back after about two minutes.
pub async fn bind_tcp(address: SocketAddr, retries: u32) -> io::Result<TcpListener> {
    let mut left = retries;
    loop {
        match listen_tcp(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {
                left -= 1;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // What is set here is inherited by every accepted connection.
    socket.set_keepalive(true)?;
    for (option, value) in [(libc::TCP_KEEPIDLE, 60), (libc::TCP_KEEPINTVL, 10), (libc::TCP_KEEPCNT, 6)] {
        set_tcp_option(&socket, option, value)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn set_tcp_option(socket: &TcpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call, and `value` lives through it and has the length given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Listens on a unix socket at `path`, mode 0600. A socket file that nobody answers on is removed first;
/// anything else in the way is left alone, and the error is `AddrInUse` or `AlreadyExists`. The file stays
/// when the listener is dropped.
pub async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Nobody can connect before `listen`, so there is no moment in which the wider mode counts.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket"));
    }
    let probe = UnixSocket::new_stream()?.connect(path);
    match tokio::time::timeout(PROBE, probe).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // An answer, a full backlog, or anything unclear: somebody may be there.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on the socket")),
    }
}
