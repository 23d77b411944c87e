//! The other members, as this one reaches them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::unanswered::Unanswered;
use crate::machine::{MemberId, Refused};
use crate::replica::Replica;
use crate::tls::{Stamp, TlsFiles};
use crate::words::peer_client::PeerClient;
use crate::words::{
    Address, AppendRequest, AppendResponse, Batch, ChangeRequest, ChangeResponse, ElectRequest,
    ElectResponse, InstallRequest, InstallResponse, IntroduceRequest, IntroduceResponse, JoinRequest,
    JoinResponse, LeasesRequest, Outcome, ProposeRequest, ReadIndexRequest, TakeOverRequest,
};

/// Longest message between members, bytes: a batch of the largest requests.
pub(crate) const MESSAGE_MAX: usize = 32 << 20;

/// Times a connection's timeout after which a silent one is asked for a sign of life, and given up without one.
const KEEP_ALIVE: u32 = 5;

/// How other members are reached.
#[derive(Clone, Debug)]
pub(crate) struct PeerOptions {
    /// Until a connection stands.
    pub(crate) connect_timeout: Duration,
    /// Until a question is answered.
    pub(crate) request_timeout: Duration,
    /// What this member shows, and what it wants to see, where an address says `https`.
    pub(crate) tls: Option<TlsFiles>,
}

/// A connection, and which of the member's addresses it uses.
struct Link {
    url: String,
    /// Counts the addresses that failed.
    turn: usize,
    /// When it answered last.
    answered: Instant,
    /// It was said that it does not answer.
    missed: bool,
    /// The certificates that it was made with.
    stamp: Option<Stamp>,
    client: PeerClient<Channel>,
}

/// See the module.
pub(crate) struct Peers {
    me: MemberId,
    cluster_id: u64,
    replica: Arc<Replica>,
    options: PeerOptions,
    links: Mutex<HashMap<MemberId, Link>>,
    /// Another member says that this one was removed.
    removed: watch::Sender<bool>,
}

/// A question on its way. One that is given up counts as not answered.
struct Asked<'a> {
    peers: &'a Peers,
    to: MemberId,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.peers.missed(self.to, "no answer in time");
        }
    }
}

impl Peers {
    pub(crate) fn new(me: MemberId, cluster_id: u64, replica: Arc<Replica>, options: PeerOptions) -> Self {
        Self { me, cluster_id, replica, options, links: Mutex::default(), removed: watch::Sender::new(false) }
    }

    /// Becomes true when another member says that this one was removed.
    pub(crate) fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    pub(crate) fn address(&self, to: MemberId) -> Option<Address> {
        Some(Address { cluster_id: self.cluster_id, from: self.me, to })
    }

    /// A connection to `to`; it stands when it is used first.
    fn client(&self, to: MemberId) -> Result<PeerClient<Channel>, Refused> {
        let urls = self.replica.read().peer_urls(to).to_vec();
        if urls.is_empty() {
            return Err(Refused::unavailable(format!("nobody knows where member {to:x} is reached")));
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let before = links.get(&to);
        let turn = before.map_or(0, |link| link.turn);
        let (answered, missed) = before.map_or((Instant::now(), false), |link| (link.answered, link.missed));
        let url = &urls[turn % urls.len()];
        let stamp = self.options.tls.as_ref().map(TlsFiles::stamp);
        if let Some(link) = links.get(&to).filter(|link| link.url == *url && link.stamp == stamp) {
            return Ok(link.client.clone());
        }
        let client = connect(url, &self.options)?;
        links.insert(to, Link { url: url.clone(), turn, answered, missed, stamp, client: client.clone() });
        Ok(client)
    }

    fn link(&self, to: MemberId, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&to) {
            change(link);
        }
    }

    /// `to` gave no answer; that is said once, when there was none for a while.
    fn missed(&self, to: MemberId, reason: &str) {
        self.link(to, |link| {
            if !link.missed && link.answered.elapsed() >= self.options.connect_timeout {
                link.missed = true;
                let member = format_args!("{to:x}");
                tracing::warn!(%member, url = link.url, reason, "a member does not answer");
            }
        });
    }

    /// `to` gave an answer.
    fn heard(&self, to: MemberId) {
        self.link(to, |link| {
            link.answered = Instant::now();
            if std::mem::take(&mut link.missed) {
                tracing::info!(member = %format_args!("{to:x}"), url = link.url, "a member answers again");
            }
        });
    }

    /// Gives the answer, and turns to another address when there is none.
    async fn ask<T>(
        &self,
        to: MemberId,
        asking: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Unanswered> {
        let mut asked = Asked { peers: self, to, answered: false };
        let answer = asking.await;
        asked.answered = true;
        let unanswered: Unanswered = match answer {
            Ok(answer) => {
                self.heard(to);
                return Ok(answer.into_inner());
            }
            Err(status) => status.into(),
        };
        let (Unanswered::NeverLeft(refused) | Unanswered::Refused(refused)) = &unanswered;
        match refused.code {
            tonic::Code::Unavailable => {
                self.missed(to, &refused.text);
                self.link(to, |link| link.turn = link.turn.wrapping_add(1));
            }
            tonic::Code::PermissionDenied if *refused == Refused::removed(self.me) => {
                self.removed.send_replace(true);
            }
            // Somebody else listens there.
            tonic::Code::Unauthenticated => self.missed(to, &refused.text),
            _ => {}
        }
        Err(unanswered)
    }

    pub(crate) async fn append(
        &self,
        to: MemberId,
        request: AppendRequest,
    ) -> Result<AppendResponse, Refused> {
        let mut client = self.client(to)?;
        Ok(self.ask(to, client.append(request)).await?)
    }

    pub(crate) async fn elect(&self, to: MemberId, request: ElectRequest) -> Result<ElectResponse, Refused> {
        let mut client = self.client(to)?;
        Ok(self.ask(to, client.elect(self.bounded(request))).await?)
    }

    pub(crate) async fn install(
        &self,
        to: MemberId,
        pieces: impl Stream<Item = InstallRequest> + Send + 'static,
    ) -> Result<InstallResponse, Refused> {
        let mut client = self.client(to)?;
        Ok(self.ask(to, client.install(pieces)).await?)
    }

    pub(crate) async fn propose(&self, to: MemberId, batch: Batch) -> Result<Vec<Outcome>, Unanswered> {
        let request = ProposeRequest { address: self.address(to), batch: Some(batch) };
        let mut client = self.client(to).map_err(Unanswered::NeverLeft)?;
        Ok(self.ask(to, client.propose(self.bounded(request))).await?.outcomes)
    }

    pub(crate) async fn read_index(&self, to: MemberId) -> Result<u64, Refused> {
        let request = ReadIndexRequest { address: self.address(to) };
        let mut client = self.client(to)?;
        Ok(self.ask(to, client.read_index(self.bounded(request))).await?.index)
    }

    pub(crate) async fn leases(&self, to: MemberId, ids: Vec<i64>, renew: bool) -> Result<Vec<i64>, Refused> {
        let request = LeasesRequest { address: self.address(to), ids, renew };
        let mut client = self.client(to)?;
        Ok(self.ask(to, client.leases(self.bounded(request))).await?.seconds)
    }

    pub(crate) async fn change(
        &self,
        to: MemberId,
        request: ChangeRequest,
    ) -> Result<ChangeResponse, Refused> {
        let mut client = self.client(to)?;
        Ok(self.ask(to, client.change(self.bounded(request))).await?)
    }

    pub(crate) async fn take_over(&self, to: MemberId) -> Result<(), Refused> {
        let request = TakeOverRequest { address: self.address(to) };
        let mut client = self.client(to)?;
        self.ask(to, client.take_over(self.bounded(request))).await?;
        Ok(())
    }

    fn bounded<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.options.request_timeout);
        request
    }
}

fn connect(url: &str, options: &PeerOptions) -> Result<PeerClient<Channel>, Refused> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Refused::unavailable(format!("{url} is no address of a member: {error}")))?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        // A connection whose other end has vanished is noticed and made anew.
        .http2_keep_alive_interval(KEEP_ALIVE * options.connect_timeout)
        .keep_alive_timeout(KEEP_ALIVE * options.connect_timeout)
        .keep_alive_while_idle(true);
    let endpoint = match &options.tls {
        Some(files) if url.starts_with("https://") => {
            let odd = |error: &dyn std::fmt::Display| Refused::unavailable(format!("TLS: {error}"));
            let config = files.client_config().map_err(|error| odd(&error))?;
            endpoint.tls_config(config).map_err(|error| odd(&error))?
        }
        _ => endpoint,
    };
    let client = PeerClient::new(endpoint.connect_lazy());
    Ok(client.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
}

/// Asks whoever is at `url` who it is.
pub(crate) async fn introduce(url: &str, options: &PeerOptions) -> Result<IntroduceResponse, Refused> {
    let mut request = Request::new(IntroduceRequest {});
    request.set_timeout(options.request_timeout);
    Ok(connect(url, options)?.introduce(request).await?.into_inner())
}

/// Asks the member at `url` to make this process a member too.
pub(crate) async fn join(
    url: &str,
    request: JoinRequest,
    options: &PeerOptions,
) -> Result<JoinResponse, Refused> {
    let mut request = Request::new(request);
    request.set_timeout(options.request_timeout);
    Ok(connect(url, options)?.join(request).await?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    /// Stands in the request, so that the other side sees when it has it.
    const MARK: &[u8] = b"the mark of this request";

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Why a request to `address` is not answered.
    async fn unanswered(address: SocketAddr, scheme: &str) -> Unanswered {
        let options = PeerOptions { connect_timeout: LIMIT, request_timeout: LIMIT, tls: None };
        let mut client = connect(&format!("{scheme}://{address}"), &options).unwrap();
        let put = cfg_api::etcdserverpb::PutRequest { key: MARK.into(), ..Default::default() };
        let command = crate::words::Command { command: Some(crate::words::command::Command::Put(put)) };
        let request = ProposeRequest { address: None, batch: Some(Batch { commands: vec![command] }) };
        tokio::time::timeout(LIMIT, client.propose(request)).await.unwrap().unwrap_err().into()
    }

    #[tokio::test]
    async fn a_request_without_a_connection_never_left() {
        let (listener, address) = listen().await;
        drop(listener);
        let refused = unanswered(address, "http").await;
        assert!(matches!(refused, Unanswered::NeverLeft(_)), "{refused:?}");
        // Somebody is there, and there is no TLS to speak with him.
        let (_listener, address) = listen().await;
        let refused = unanswered(address, "https").await;
        assert!(matches!(refused, Unanswered::NeverLeft(_)), "{refused:?}");
    }

    #[tokio::test]
    async fn what_came_of_a_request_that_was_sent_is_not_known() {
        let (listener, address) = listen().await;
        let receive = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            while !received.windows(MARK.len()).any(|part| part == MARK) {
                assert_ne!(socket.read_buf(&mut received).await.unwrap(), 0, "it ended early");
            }
        };
        let (cut, ()) = tokio::join!(unanswered(address, "http"), receive);
        assert!(matches!(cut, Unanswered::Refused(_)), "{cut:?}");
    }
}
