//! The member of the configuration store that a node carries.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use cfg_client::{Store, StoreUrl};
use cfg_store::{ApiOptions, Beginning, Ended, Options, RaftOptions, Server, StartError};

use crate::args::UpArgs;
use crate::cluster_id::ClusterId;
use crate::data_dir::DataDir;
use crate::endpoints::reachable;
use crate::failure::{Failure, Kind};

/// Where clients and other members find it, unless something else is there already.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// What the member is called until somebody names it otherwise.
const NAME: &str = "default";
/// How long streams of clients may last when the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long a member that joins looks for its cluster.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A member that runs, and the way to it.
pub(super) struct Embedded {
    server: Server,
    /// As a client sees it.
    pub(super) store: Store,
    /// `HOST:PORT` of its clients.
    pub(super) address: String,
}

/// Starts it and waits until it answers.
pub(super) async fn start(arguments: &UpArgs, directory: &DataDir) -> Result<Embedded, Failure> {
    let listen = |wanted: Option<u16>, usual: u16| {
        vec![SocketAddr::new(arguments.node.listen, port(arguments, wanted, usual))]
    };
    let options = Options {
        name: NAME.to_owned(),
        data_dir: directory.cfg(),
        client_listen: listen(arguments.etcd_port, CLIENT_PORT),
        peer_listen: listen(arguments.peer_port, PEER_PORT),
        client_urls: Vec::new(),
        peer_urls: Vec::new(),
        client_tls: None,
        peer_tls: None,
        beginning: Beginning::Found,
        join_timeout: JOIN_TIMEOUT,
        raft: RaftOptions::default(),
        api: ApiOptions::default(),
    };
    let server = Server::start(Arc::new(uring::LocalDisk), options).await.map_err(|error| refused(&error))?;
    let failed = |what: String| Failure::failed(format!("the configuration store: {what}"));
    let address = server.client_addresses().first().ok_or_else(|| failed("it has no address".to_owned()))?;
    let address = reachable(*address).to_string();
    let mut told = false;
    while let Err(reason) = server.ready().await {
        // With others in the cluster it takes most of them.
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%reason, "the configuration store waits for its other members");
        }
    }
    let url = StoreUrl::parse(&format!("etcd://{address}")).map_err(|error| failed(error.to_string()))?;
    let store =
        Store::open(&url, cfg_client::Options::default()).map_err(|error| failed(error.to_string()))?;
    store.expect_cluster(server.cluster_id());
    Ok(Embedded { server, store, address })
}

impl Embedded {
    /// Which cluster it belongs to.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        ClusterId::of(self.server.cluster_id())
    }

    /// Waits until it takes no part any more, and says why. Volumes are served without it.
    pub(super) async fn fails(&self) {
        let why = match self.server.ended().await {
            Ended::Removed => "this member was removed from the cluster".to_owned(),
            Ended::Failed(why) => why,
        };
        tracing::error!(
            why,
            "the configuration store of this node ended: volumes are served, changes are not heard of"
        );
    }

    /// Ends it; what was acknowledged is durable.
    pub(super) async fn stop(self) {
        self.server.shutdown(STOP_PATIENCE).await;
    }
}

/// The port that was asked for; else the usual one, or any when that is taken: endpoints.json tells which.
fn port(arguments: &UpArgs, wanted: Option<u16>, usual: u16) -> u16 {
    match wanted {
        Some(port) => port,
        None if arguments.node.ephemeral => 0,
        None if is_free(arguments.node.listen, usual) => usual,
        None => {
            tracing::warn!(port = usual, "is taken; the configuration store takes another port");
            0
        }
    }
}

fn is_free(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind(SocketAddr::new(ip, port)).is_ok()
}

fn refused(error: &StartError) -> Failure {
    let advice = match error {
        StartError::Listen { .. } => "; stop what uses it, or give another --etcd-port or --peer-port",
        _ => "",
    };
    let kind = if matches!(error, StartError::Locked(_)) { Kind::Conflict } else { Kind::Failed };
    Failure::new(kind, format!("the configuration store: {error}{advice}"))
}
