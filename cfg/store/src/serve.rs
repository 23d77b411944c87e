//! Listening to clients and members.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::api::{Api, ApiOptions, Lenient, Untaken};
use crate::gathered::Gathered;
use crate::listen::Incoming;
use crate::peer::{MESSAGE_MAX, PeerService};
use crate::server::StartError;
use crate::tls::{Acceptor, TlsFiles};
use crate::words::peer_server::PeerServer;

/// How long a client may take until TLS stands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; who comes then waits.
const HANDSHAKES: usize = 256;

/// A socket that is bound, and what its clients must show.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<Arc<Acceptor>>,
}

impl Listener {
    /// `http://` or `https://` and the address.
    pub(crate) fn url(&self) -> Option<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.address().map(|address| format!("{scheme}://{address}"))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

/// Binds `addresses`.
pub(crate) async fn listen(
    addresses: &[SocketAddr],
    tls: Option<&TlsFiles>,
) -> Result<Vec<Listener>, StartError> {
    let acceptor = tls
        .cloned()
        .map(|files| Acceptor::new(files, &["h2", "http/1.1"]))
        .transpose()
        .map_err(StartError::Tls)?
        .map(Arc::new);
    let mut listeners = Vec::new();
    for &address in addresses {
        let socket = TcpListener::bind(address).await;
        let socket = socket.map_err(|error| StartError::Listen { address, error })?;
        listeners.push(Listener { socket, tls: acceptor.clone() });
    }
    Ok(listeners)
}

/// Serves other members until `stop` is true.
pub(crate) fn serve_peers(
    listener: Listener,
    service: PeerService,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let service = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(async move {
        let served = match listener.tls {
            Some(tls) => {
                let incoming = secured(listener.socket, tls);
                server.serve_with_incoming_shutdown(incoming, stopped(stop)).await
            }
            None => server.serve_with_incoming_shutdown(plain(listener.socket), stopped(stop)).await,
        };
        if let Err(error) = served {
            tracing::error!(%error, "members are not served any more");
        }
    })
}

/// Serves clients until `stop` is true.
pub(crate) fn serve_clients(
    listener: Listener,
    api: Api,
    options: &ApiOptions,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let server = tonic::transport::Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(options.streams)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_routes(api.routes());
    let bytes = options.untaken_bytes;
    tokio::spawn(async move {
        let served = match listener.tls {
            Some(tls) => {
                let incoming =
                    secured(listener.socket, tls).map(|stream| stream.map(|stream| client(stream, bytes)));
                server.serve_with_incoming_shutdown(incoming, stopped(stop)).await
            }
            None => {
                let incoming =
                    plain(listener.socket).map(|stream| stream.map(|stream| client(stream, bytes)));
                server.serve_with_incoming_shutdown(incoming, stopped(stop)).await
            }
        };
        if let Err(error) = served {
            tracing::error!(%error, "clients are not served any more");
        }
    })
}

/// What is between a client's connection and the server; `bytes` of answers may wait for the client.
fn client<S>(stream: S, bytes: usize) -> Lenient<Gathered<S>> {
    Lenient::new(Gathered::new(stream), Untaken::new(bytes))
}

/// Becomes true once.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// An answer goes out at once. Left to itself the kernel holds one back that is sent in two pieces, until the other
/// side confirms the first or 40 ms have passed; tonic's own option does nothing for listeners that it did not make.
fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow");
    }
    stream
}

fn plain(socket: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    Incoming::new(socket).map(|stream| stream.map(without_delay))
}

/// Connections whose TLS stands. A slow handshake holds nobody up.
fn secured(socket: TcpListener, tls: Arc<Acceptor>) -> impl Stream<Item = io::Result<Secured>> {
    let (ready, receiver) = mpsc::channel(HANDSHAKES);
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    let mut accepted = Incoming::new(socket);
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                stream = accepted.next() => stream,
                () = ready.closed() => return,
            };
            let Some(Ok(stream)) = stream else { return };
            let stream = without_delay(stream);
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let (ready, acceptor) = (ready.clone(), TlsAcceptor::from(tls.config()));
            tokio::spawn(async move {
                let info = stream.connect_info();
                match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        // The server may have stopped.
                        let _ = ready.send(Ok(Secured { stream, info })).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "a client did not agree on TLS"),
                    Err(_) => tracing::debug!("a client took too long for TLS"),
                }
                drop(slot);
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// A connection under TLS.
#[derive(Debug)]
struct Secured {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    info: TcpConnectInfo,
}

impl Connected for Secured {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
