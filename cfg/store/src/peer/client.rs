//! The other members, as this one reaches them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_stream::Stream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::machine::{MemberId, Refused};
use crate::replica::Replica;
use crate::words::peer_client::PeerClient;
use crate::words::{
    Address, AppendRequest, AppendResponse, Batch, ChangeRequest, ChangeResponse, ElectRequest,
    ElectResponse, InstallRequest, InstallResponse, IntroduceRequest, IntroduceResponse, JoinRequest,
    JoinResponse, LeasesRequest, Outcome, ProposeRequest, ReadIndexRequest, TakeOverRequest,
};

/// Longest message between members, bytes: a batch of the largest requests.
pub(crate) const MESSAGE_MAX: usize = 32 << 20;

/// How other members are reached.
#[derive(Clone, Debug)]
pub(crate) struct PeerOptions {
    /// Until a connection stands.
    pub(crate) connect_timeout: Duration,
    /// Until a question is answered.
    pub(crate) request_timeout: Duration,
}

/// A connection, and which of the member's addresses it uses.
struct Link {
    url: String,
    /// Counts the addresses that failed.
    turn: usize,
    client: PeerClient<Channel>,
}

/// See the module.
pub(crate) struct Peers {
    me: MemberId,
    cluster_id: u64,
    replica: Arc<Replica>,
    options: PeerOptions,
    links: Mutex<HashMap<MemberId, Link>>,
}

impl Peers {
    pub(crate) fn new(me: MemberId, cluster_id: u64, replica: Arc<Replica>, options: PeerOptions) -> Self {
        Self { me, cluster_id, replica, options, links: Mutex::default() }
    }

    pub(crate) fn address(&self, to: MemberId) -> Option<Address> {
        Some(Address { cluster_id: self.cluster_id, from: self.me, to })
    }

    /// A connection to `to`; it stands when it is used first.
    fn client(&self, to: MemberId) -> Result<PeerClient<Channel>, Refused> {
        let urls = {
            let machine = self.replica.read();
            machine.members.get(&to).map(|member| member.description.peer_urls.clone()).unwrap_or_default()
        };
        if urls.is_empty() {
            return Err(Refused::unavailable(format!("nobody knows where member {to:x} is reached")));
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = links.get(&to).map_or(0, |link| link.turn);
        let url = &urls[turn % urls.len()];
        if let Some(link) = links.get(&to).filter(|link| link.url == *url) {
            return Ok(link.client.clone());
        }
        let client = connect(url, &self.options)?;
        links.insert(to, Link { url: url.clone(), turn, client: client.clone() });
        Ok(client)
    }

    /// The next try goes to another address, if there is one.
    fn failed(&self, to: MemberId) {
        if let Some(link) = self.links.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&to) {
            link.turn = link.turn.wrapping_add(1);
        }
    }

    /// Gives the answer, and turns to another address when there is none.
    fn noted<T>(
        &self,
        to: MemberId,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Refused> {
        answer.map(tonic::Response::into_inner).map_err(|status| {
            if status.code() == tonic::Code::Unavailable {
                self.failed(to);
            }
            status.into()
        })
    }

    pub(crate) async fn append(
        &self,
        to: MemberId,
        request: AppendRequest,
    ) -> Result<AppendResponse, Refused> {
        let answer = self.client(to)?.append(request).await;
        self.noted(to, answer)
    }

    pub(crate) async fn elect(&self, to: MemberId, request: ElectRequest) -> Result<ElectResponse, Refused> {
        let answer = self.client(to)?.elect(self.bounded(request)).await;
        self.noted(to, answer)
    }

    pub(crate) async fn install(
        &self,
        to: MemberId,
        pieces: impl Stream<Item = InstallRequest> + Send + 'static,
    ) -> Result<InstallResponse, Refused> {
        let answer = self.client(to)?.install(pieces).await;
        self.noted(to, answer)
    }

    pub(crate) async fn propose(&self, to: MemberId, batch: Batch) -> Result<Vec<Outcome>, Refused> {
        let request = ProposeRequest { address: self.address(to), batch: Some(batch) };
        let answer = self.client(to)?.propose(self.bounded(request)).await;
        Ok(self.noted(to, answer)?.outcomes)
    }

    pub(crate) async fn read_index(&self, to: MemberId) -> Result<u64, Refused> {
        let request = ReadIndexRequest { address: self.address(to) };
        let answer = self.client(to)?.read_index(self.bounded(request)).await;
        Ok(self.noted(to, answer)?.index)
    }

    pub(crate) async fn leases(&self, to: MemberId, ids: Vec<i64>, renew: bool) -> Result<Vec<i64>, Refused> {
        let request = LeasesRequest { address: self.address(to), ids, renew };
        let answer = self.client(to)?.leases(self.bounded(request)).await;
        Ok(self.noted(to, answer)?.seconds)
    }

    pub(crate) async fn change(
        &self,
        to: MemberId,
        request: ChangeRequest,
    ) -> Result<ChangeResponse, Refused> {
        let answer = self.client(to)?.change(self.bounded(request)).await;
        self.noted(to, answer)
    }

    pub(crate) async fn take_over(&self, to: MemberId) -> Result<(), Refused> {
        let request = TakeOverRequest { address: self.address(to) };
        let answer = self.client(to)?.take_over(self.bounded(request)).await;
        self.noted(to, answer).map(|_| ())
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
        .tcp_nodelay(true);
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
