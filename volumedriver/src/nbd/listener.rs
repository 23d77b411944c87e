//! Accepts connections, negotiates, and hands the socket to whoever serves the volume.
//!
//! Runs on the control plane's runtime. A connection passes through here once; its requests never do.
//!
//! Bounds: connections over their whole life, negotiations at one time, and the time of one negotiation. What
//! is over a bound is accepted and closed at once, so that it does not wait in the kernel's backlog for a
//! place that may not come.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
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
    /// Of one negotiation.
    pub limits: Limits,
    /// Places for connections; several listeners may share them.
    pub admission: Admission,
}

/// Bounds of all connections; a running listener may be given others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Connections, negotiating ones included.
    pub connections: usize,
    /// Connections that may be negotiating.
    pub handshakes: usize,
    /// From accept to transmission.
    pub handshake_timeout: Duration,
}

/// Bounded places for connections. Clones share the places.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Looked at once for each connection, on the control plane.
    limits: Mutex<AdmissionLimits>,
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    refused: AtomicU64,
}

/// A place, taken until the value is dropped.
#[derive(Debug)]
struct Permit {
    shared: Arc<Shared>,
    places: fn(&Shared) -> &AtomicUsize,
}

impl Permit {
    /// `None`: all `max` places are taken.
    fn take(shared: &Arc<Shared>, places: fn(&Shared) -> &AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |taken: usize| (taken < max).then_some(taken + 1);
        let taken = places(shared).fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken.ok().map(|_| Self { shared: shared.clone(), places })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        (self.places)(&self.shared).fetch_sub(1, Ordering::AcqRel);
    }
}

impl Admission {
    /// All places of `limits`, free.
    pub fn new(limits: AdmissionLimits) -> Self {
        Self(Arc::new(Shared {
            limits: Mutex::new(limits),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// The limits that hold now.
    pub fn limits(&self) -> AdmissionLimits {
        *self.0.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other limits from the next connection on. Connections that have a place keep it, and negotiations their time.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        *self.0.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Connections that hold a place now, negotiating ones included.
    pub fn open(&self) -> usize {
        self.0.connections.load(Ordering::Acquire)
    }

    /// Connections that were closed at once because there was no place, since the start.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// A place for a connection and for its negotiation, which may take the time that comes with them.
    fn admit(&self) -> Option<(ConnectionPermit, Permit, Duration)> {
        let limits = self.limits();
        let connection = Permit::take(&self.0, |shared| &shared.connections, limits.connections);
        let handshake = Permit::take(&self.0, |shared| &shared.handshakes, limits.handshakes);
        match (connection, handshake) {
            (Some(connection), Some(handshake)) => {
                Some((ConnectionPermit { _permit: connection }, handshake, limits.handshake_timeout))
            }
            _ => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// A connection's place. Dropped when the connection ends, on any thread.
#[derive(Debug)]
pub struct ConnectionPermit {
    _permit: Permit,
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
                Some((permit, handshake, time)) => {
                    let (limits, exports, attach) =
                        (options.limits, Arc::clone(&exports), Arc::clone(&attach));
                    handshakes.spawn(async move {
                        let connection = connect(socket, peer, permit, (limits, time), &*exports).await;
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
    (limits, time): (Limits, Duration),
    exports: &dyn Exports,
) -> Option<Attached> {
    let result = match tokio::time::timeout(time, socket.negotiate(limits, exports)).await {
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
