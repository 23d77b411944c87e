//! Accepts connections, negotiates, and hands the socket to whoever serves the volume.
//!
//! Runs on the control plane's runtime. A connection passes through here once; its requests never do.
//!
//! Bounds: connections over their whole life, negotiations at one time, and the time of one negotiation. What
//! is over a bound is accepted and closed at once, so that it does not wait in the kernel's backlog for a
//! place that may not come.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::handshake::{CloseReason, Exports, Handshake, Limits, Negotiated, Step};

/// Room made for one receive of a negotiation, bytes.
const RECEIVE: usize = 4096;
/// After a failed accept (out of descriptors, say), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two log lines about the same kind of refusal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A listening socket; made by [`bind_tcp`](super::bind::bind_tcp) or [`bind_unix`](super::bind::bind_unix).
#[derive(Debug)]
pub enum Listener {
    /// TCP, any address.
    Tcp(TcpListener),
    /// A unix stream socket.
    Unix(UnixListener),
}

/// How a listener treats its clients.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// From accept to transmission.
    pub handshake_timeout: Duration,
    /// Of one negotiation.
    pub limits: Limits,
    /// Places for connections; several listeners may share them.
    pub admission: Admission,
}

/// Bounded places for connections. Clones share the places.
#[derive(Clone, Debug)]
pub struct Admission {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
    max_connections: usize,
}

impl Admission {
    /// Room for `max_connections`, of which `max_handshakes` may be negotiating.
    pub fn new(max_connections: usize, max_handshakes: usize) -> Self {
        let max_connections = max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            connections: Arc::new(Semaphore::new(max_connections)),
            handshakes: Arc::new(Semaphore::new(max_handshakes.min(Semaphore::MAX_PERMITS))),
            refused: Arc::new(AtomicU64::new(0)),
            max_connections,
        }
    }

    /// Connections that hold a place now, negotiating ones included.
    pub fn open(&self) -> usize {
        self.max_connections - self.connections.available_permits()
    }

    /// Connections that were closed at once because there was no place, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn admit(&self) -> Option<(ConnectionPermit, OwnedSemaphorePermit)> {
        let connection = Arc::clone(&self.connections).try_acquire_owned();
        let handshake = Arc::clone(&self.handshakes).try_acquire_owned();
        match (connection, handshake) {
            (Ok(connection), Ok(handshake)) => Some((ConnectionPermit { _permit: connection }, handshake)),
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// A connection's place. Dropped when the connection ends, on any thread.
#[derive(Debug)]
pub struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
}

/// A connection whose transmission begins.
#[derive(Debug)]
pub struct Attached {
    /// In blocking mode: a ring would get `EAGAIN` from a non-blocking socket instead of waiting. Has
    /// `TCP_NODELAY`.
    pub socket: OwnedFd,
    /// What was received behind the negotiation; requests begin here.
    pub leftover: Bytes,
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// The other side, for people: address and port, or process and user.
    pub peer: String,
    /// To be kept as long as the connection.
    pub permit: ConnectionPermit,
}

/// Takes connections over. Must not block.
pub trait Attach: Send + Sync {
    /// The connection's volume may be gone by now; then it is dropped.
    fn attach(&self, connection: Attached);
}

/// Why a connection did not come to transmission.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Closed(CloseReason),
    #[error("the client closed the connection")]
    EndOfStream,
    #[error("no transmission within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Socket, String)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                Ok((Socket::Tcp(socket), address.to_string()))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                let peer = match socket.peer_cred() {
                    Ok(peer) => format!("unix:pid={},uid={}", peer.pid().unwrap_or(0), peer.uid()),
                    Err(_) => "unix".to_owned(),
                };
                Ok((Socket::Unix(socket), peer))
            }
        }
    }
}

impl Socket {
    async fn negotiate(
        &mut self,
        limits: Limits,
        exports: &dyn Exports,
    ) -> Result<(Negotiated, Bytes), Ended> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nodelay(true)?;
                negotiate(socket, limits, exports).await
            }
            Self::Unix(socket) => negotiate(socket, limits, exports).await,
        }
    }

    fn into_blocking(self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(socket) => {
                let socket = socket.into_std()?;
                socket.set_nonblocking(false)?;
                socket.into()
            }
            Self::Unix(socket) => {
                let socket = socket.into_std()?;
                socket.set_nonblocking(false)?;
                socket.into()
            }
        })
    }
}

/// Serves `listener` until `shutdown` turns true or its sender is gone. Negotiations in progress end with it,
/// attached connections do not.
pub async fn serve(
    listener: Listener,
    options: ListenerOptions,
    exports: Arc<dyn Exports>,
    attach: Arc<dyn Attach>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut handshakes = JoinSet::new();
    let mut refusals = Occasionally::default();
    let mut failures = Occasionally::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            Some(ended) = handshakes.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "NBD negotiation failed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => match options.admission.admit() {
                Some((permit, handshake)) => {
                    let (options, exports, attach) =
                        (options.clone(), Arc::clone(&exports), Arc::clone(&attach));
                    handshakes.spawn(async move {
                        let connection = connect(socket, peer, permit, &options, &*exports).await;
                        drop(handshake);
                        if let Some(connection) = connection {
                            attach.attach(connection);
                        }
                    });
                }
                None => {
                    if let Some(count) = refusals.count() {
                        tracing::warn!(peer, count, "NBD connections closed: no place for them");
                    }
                }
            },
            // The client's doing, or of this one connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(count) = failures.count() {
                    tracing::warn!(%error, count, "cannot accept NBD connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // First of all nobody gets in; then whoever watches `shutdown` sees its receiver go.
    drop(listener);
    handshakes.shutdown().await;
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever could stop this.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Negotiates; `None` if that came to nothing, which has been logged then.
async fn connect(
    mut socket: Socket,
    peer: String,
    permit: ConnectionPermit,
    options: &ListenerOptions,
    exports: &dyn Exports,
) -> Option<Attached> {
    let time = options.handshake_timeout;
    let result = match tokio::time::timeout(time, socket.negotiate(options.limits, exports)).await {
        Ok(Ok((negotiated, leftover))) => {
            socket.into_blocking().map(|socket| (socket, negotiated, leftover)).map_err(Ended::Io)
        }
        Ok(Err(ended)) => Err(ended),
        Err(_) => Err(Ended::TimedOut(time)),
    };
    match result {
        Ok((socket, negotiated, leftover)) => {
            tracing::debug!(peer, export = negotiated.export, "NBD connection");
            Some(Attached { socket, leftover, negotiated, peer, permit })
        }
        Err(reason) => {
            tracing::debug!(peer, %reason, "NBD connection without transmission");
            None
        }
    }
}

async fn negotiate<S>(
    socket: &mut S,
    limits: Limits,
    exports: &dyn Exports,
) -> Result<(Negotiated, Bytes), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = Handshake::new(limits);
    let mut input = BytesMut::new();
    let mut out = Vec::new();
    loop {
        let step = handshake.advance(&mut input, exports, &mut out);
        socket.write_all(&out).await?;
        out.clear();
        match step {
            Step::Send => {}
            Step::NeedMore => {
                input.reserve(RECEIVE);
                if socket.read_buf(&mut input).await? == 0 {
                    return Err(Ended::EndOfStream);
                }
            }
            Step::Transmission(negotiated) => return Ok((negotiated, input.freeze())),
            Step::Close(reason) => return Err(Ended::Closed(reason)),
        }
    }
}

/// Lets one log line through in [`LOG_INTERVAL`], with the number of events since the last.
#[derive(Debug, Default)]
struct Occasionally {
    last: Option<Instant>,
    since: u64,
}

impl Occasionally {
    fn count(&mut self) -> Option<u64> {
        self.since += 1;
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}
