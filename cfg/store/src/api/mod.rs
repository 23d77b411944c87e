//! What clients see: etcd's v3 API, over gRPC and as JSON.

mod authority;
mod cluster;
mod gateway;
mod http;
mod kv;
mod lease;
mod maintenance;
mod metrics;
mod untaken;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use cfg_api::etcdserverpb as pb;
use pb::cluster_server::ClusterServer;
use pb::kv_server::KvServer;
use pb::lease_server::LeaseServer;
use pb::maintenance_server::MaintenanceServer;
use pb::watch_server::WatchServer;
use tonic::service::Routes;

use crate::machine::Refused;
use crate::raft::Node;

pub(crate) use authority::Lenient;
pub(crate) use metrics::Metrics;
pub(crate) use untaken::Untaken;

/// Version of etcd whose API this is; clients read it.
pub(crate) const VERSION: &str = "3.5.0";

/// Parameters of the API.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Largest request, bytes.
    pub request_bytes: usize,
    /// What the store may hold, bytes; beyond it only what makes room is taken.
    pub quota_bytes: u64,
    /// Silence after which a watcher that asked for it is told how far it is.
    pub progress_interval: Duration,
    /// Answers of a watch stream that wait for its client.
    pub watch_queue: usize,
    /// Bytes of events that go into one answer, unless one revision alone has more.
    pub watch_bytes: usize,
    /// Watchers of one stream.
    pub watchers: usize,
    /// Streams over one connection.
    pub streams: u32,
    /// Bytes of answers that wait for the client of one connection; and the same of its watch streams.
    pub untaken_bytes: usize,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            request_bytes: 3 << 19,
            quota_bytes: 2 << 30,
            progress_interval: Duration::from_secs(600),
            watch_queue: 16,
            watch_bytes: 1 << 20,
            watchers: 100_000,
            streams: 10_000,
            untaken_bytes: 16 << 20,
        }
    }
}

/// What a message may have beside the request.
const MESSAGE_OVERHEAD: usize = 512 << 10;

/// The services; all of them are this.
#[derive(Clone)]
pub(crate) struct Api {
    node: Arc<Node>,
    options: Arc<ApiOptions>,
    metrics: Arc<Metrics>,
}

impl Api {
    pub(crate) fn new(node: Arc<Node>, options: ApiOptions, metrics: Metrics) -> Self {
        Self { node, options: Arc::new(options), metrics: Arc::new(metrics) }
    }

    /// Everything under the addresses for clients.
    pub(crate) fn routes(self) -> Routes {
        let max = self.options.request_bytes + MESSAGE_OVERHEAD;
        let sent = usize::MAX;
        let grpc = Routes::new(
            KvServer::new(self.clone()).max_decoding_message_size(max).max_encoding_message_size(sent),
        )
        .add_service(
            WatchServer::new(self.clone()).max_decoding_message_size(max).max_encoding_message_size(sent),
        )
        .add_service(
            LeaseServer::new(self.clone()).max_decoding_message_size(max).max_encoding_message_size(sent),
        )
        .add_service(ClusterServer::new(self.clone()).max_decoding_message_size(max))
        .add_service(MaintenanceServer::new(self.clone()).max_decoding_message_size(max));
        let router = grpc.into_axum_router().layer(axum::middleware::map_response(untaken::carry));
        Routes::from(http::add(gateway::add(router, &self), self))
    }

    /// Who answers, into the header of an answer.
    fn sign(&self, header: &mut Option<pb::ResponseHeader>) {
        let header = header.get_or_insert_with(Default::default);
        header.cluster_id = self.node.cluster_id;
        header.member_id = self.node.id;
        header.raft_term = self.node.term();
    }

    /// A header of now.
    fn header(&self) -> Option<pb::ResponseHeader> {
        let mut header = crate::machine::convert::header(self.node.read(|machine| machine.store.revision()));
        self.sign(&mut header);
        header
    }

    /// A client may ask that somebody leads, or else be told.
    fn check_leader<T>(&self, request: &tonic::Request<T>) -> Result<bool, Refused> {
        let wanted = request.metadata().get("hasleader").is_some_and(|value| value == "true");
        if wanted && self.node.leader().is_none() {
            return Err(no_leader());
        }
        Ok(wanted)
    }

    /// A request fits the limit.
    fn check_size(&self, message: &impl prost::Message) -> Result<(), Refused> {
        if message.encoded_len() > self.options.request_bytes {
            return Err(Refused::argument("etcdserver: request is too large"));
        }
        Ok(())
    }

    /// There is room for `bytes` more; else the alarm goes off.
    async fn check_quota(&self, bytes: usize) -> Result<(), Refused> {
        let (held, is_full) = self.node.read(|machine| (machine.bytes(), machine.is_full()));
        if is_full {
            // It said so already: no entry for each one who tries.
            return Err(Refused::no_space());
        }
        if held + bytes as u64 <= self.options.quota_bytes {
            return Ok(());
        }
        tracing::warn!(held, quota = self.options.quota_bytes, "the store is full");
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: self.node.id,
            alarm: pb::AlarmType::Nospace.into(),
        };
        self.node.propose(crate::words::command::Command::Alarm(alarm)).await?;
        Err(Refused::no_space())
    }
}

/// Nobody leads.
fn no_leader() -> Refused {
    Refused::unavailable("etcdserver: no leader")
}

/// What a later version said.
fn later_version() -> Refused {
    Refused::unavailable("the outcome is of a later version")
}
