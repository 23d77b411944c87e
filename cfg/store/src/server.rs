//! One member as a whole: its directory, its place in a cluster, its addresses.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uring::{Disk, OpenMode};

use crate::api::{Api, ApiOptions, Metrics};
use crate::identity::Identity;
use crate::machine::{FOUNDER, Refused};
use crate::peer::{self, PeerOptions, PeerService, Place};
use crate::raft::{self, Ended, Node, NodeError, RaftOptions};
use crate::serve::{Listener, listen, serve_clients, serve_peers};
use crate::tls::TlsFiles;
use crate::words::command::Command as Kind;
use crate::words::{Describe, Description, Found, JoinRequest};

/// Whoever holds it uses the directory.
const LOCK: &str = "lock";

/// How a member without data comes to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It founds one.
    Found,
    /// It becomes a member of the one that is reached at one of these peer addresses.
    Join {
        /// The addresses.
        urls: Vec<String>,
        /// It stays without a vote until somebody promotes it.
        learner: bool,
    },
    /// The members of a new cluster by name and peer address; the first one founds it when most of them say that they
    /// are empty, the others join.
    Initial(Vec<(String, String)>),
}

/// What a member needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// What people call it.
    pub name: String,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// Where clients are listened to.
    pub client_listen: Vec<SocketAddr>,
    /// Where members are listened to.
    pub peer_listen: Vec<SocketAddr>,
    /// Where clients are told to go; empty: where they are listened to.
    pub client_urls: Vec<String>,
    /// Where members are told to go; empty: where they are listened to.
    pub peer_urls: Vec<String>,
    /// What clients are met with; `None`: no TLS.
    pub client_tls: Option<TlsFiles>,
    /// What other members are met with, and what this one shows them.
    pub peer_tls: Option<TlsFiles>,
    /// What it does without data.
    pub beginning: Beginning,
    /// How long it tries to come to a cluster.
    pub join_timeout: Duration,
    /// Of the agreement.
    pub raft: RaftOptions,
    /// Of what clients see.
    pub api: ApiOptions,
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened to.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A certificate cannot be used.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// Another process uses the directory.
    #[error("{} is in use by another process; stop it, or choose another --data-dir", .0.display())]
    Locked(PathBuf),
    /// The directory cannot be used.
    #[error("{}: {error}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// What is in the directory cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A cluster knows a member at this one's address, which has other data.
    #[error("this member has no data, but the cluster knows one at its address: {0}")]
    Known(String),
    /// No cluster took it.
    #[error("no cluster took this member within {seconds} s: {reason}")]
    NoCluster {
        /// How long it tried.
        seconds: u64,
        /// The last answer.
        reason: String,
    },
    /// The metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// A member that runs.
pub struct Server {
    node: Arc<Node>,
    client_addresses: Vec<SocketAddr>,
    peer_addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    /// Held as long as this lives.
    _lock: Arc<dyn uring::File>,
}

impl Server {
    /// Listens, finds its place in a cluster, recovers, and serves.
    ///
    /// # Errors
    /// What of it cannot be done.
    pub async fn start(disk: Arc<dyn Disk>, options: Options) -> Result<Self, StartError> {
        let lock = lock(&*disk, &options)?;
        let clients = listen(&options.client_listen, options.client_tls.as_ref()).await?;
        let peers = listen(&options.peer_listen, options.peer_tls.as_ref()).await?;
        let description = describe(&options, &clients, &peers);
        let stop = watch::Sender::new(false);
        let place = Arc::new(watch::Sender::new(Place::Unknown));
        let mut serving = Vec::new();
        let (peer_addresses, client_addresses) = (addresses(&peers), addresses(&clients));
        for listener in peers {
            serving.push(serve_peers(listener, PeerService { place: place.clone() }, stop.subscribe()));
        }
        let peer_options = PeerOptions {
            connect_timeout: options.raft.election_timeout,
            request_timeout: options.raft.request_timeout,
            tls: options.peer_tls.clone(),
        };
        let identity = identify(&disk, &options, &description, &peer_options, &place).await?;
        let start = Node::start(
            identity.member,
            identity.cluster_id,
            disk,
            &options.data_dir,
            options.raft.clone(),
            peer_options,
        );
        let node = start.await?;
        place.send_replace(Place::Member(node.clone()));
        if identity.member == FOUNDER {
            node.found().await.map_err(|refused| NodeError::Raft(refused.text))?;
        }
        let metrics = Metrics::new(&node).map_err(|error| StartError::Metrics(error.to_string()))?;
        let api = Api::new(node.clone(), options.api.clone(), metrics);
        for listener in clients {
            serving.push(serve_clients(listener, api.clone(), &options.api, stop.subscribe()));
        }
        tokio::spawn(introduce_itself(node.clone(), description, options.raft.retry));
        Ok(Self { node, client_addresses, peer_addresses, stop, serving, _lock: lock })
    }

    /// Waits until somebody leads and this member knows what was agreed.
    ///
    /// # Errors
    /// Nobody leads for a while.
    pub async fn ready(&self) -> Result<(), Refused> {
        self.node.ready().await?;
        self.node.founded().await
    }

    /// Waits until this member takes no part any more though nobody shut it down; gives why.
    pub async fn ended(&self) -> Ended {
        self.node.ended().await
    }

    /// Number of the cluster.
    pub fn cluster_id(&self) -> u64 {
        self.node.cluster_id
    }

    /// Number of this member.
    pub fn member(&self) -> u64 {
        self.node.id
    }

    /// Where clients are listened to.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Where members are listened to.
    pub fn peer_addresses(&self) -> &[SocketAddr] {
        &self.peer_addresses
    }

    /// Ends after what is in flight; what was acknowledged is durable.
    pub async fn shutdown(self, patience: Duration) {
        self.stop.send_replace(true);
        self.node.shutdown().await;
        let deadline = Instant::now() + patience;
        for mut serving in self.serving {
            // Streams stay open as long as their clients want.
            if timeout(deadline.saturating_duration_since(Instant::now()), &mut serving).await.is_err() {
                serving.abort();
            }
        }
    }
}

fn lock(disk: &dyn Disk, options: &Options) -> Result<Arc<dyn uring::File>, StartError> {
    let path = &options.data_dir;
    let failed = |error| StartError::Directory { path: path.clone(), error };
    disk.create_dir(path).map_err(failed)?;
    make_durable(disk, path).map_err(failed)?;
    let file = disk.open(&path.join(LOCK), OpenMode::CreateOrTruncate).map_err(failed)?;
    if !file.try_lock().map_err(failed)? {
        return Err(StartError::Locked(path.clone()));
    }
    Ok(file)
}

/// The directory must not go in a power loss, with all in it. Whoever made those above it may not have synced them.
fn make_durable(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    for (level, above) in path.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            // Who may not look into it did not make anything in it.
            Err(error) if level > 0 && error.kind() == io::ErrorKind::PermissionDenied => break,
            other => other?,
        }
    }
    Ok(())
}

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(Listener::address).collect()
}

fn describe(options: &Options, clients: &[Listener], peers: &[Listener]) -> Description {
    let urls = |given: &[String], listeners: &[Listener]| {
        if given.is_empty() { listeners.iter().filter_map(Listener::url).collect() } else { given.to_vec() }
    };
    Description {
        name: options.name.clone(),
        peer_urls: urls(&options.peer_urls, peers),
        client_urls: urls(&options.client_urls, clients),
        token: 0,
    }
}

/// Who this member is: what its directory says, or what a cluster makes it.
async fn identify(
    disk: &Arc<dyn Disk>,
    options: &Options,
    description: &Description,
    peers: &PeerOptions,
    place: &watch::Sender<Place>,
) -> Result<Identity, StartError> {
    let path = &options.data_dir;
    let failed = |error| StartError::Directory { path: path.clone(), error };
    if let Some(identity) = Identity::read(&**disk, path).map_err(failed)? {
        return Ok(identity);
    }
    raft::prepare(disk, path, options.raft.log)?;
    place.send_replace(Place::Empty);
    let description = Description { token: rand::random::<u64>().max(1), ..description.clone() };
    let deadline = Instant::now() + options.join_timeout;
    let mut reason = String::new();
    let identity = loop {
        match begin(&options.beginning, options, &description, peers).await {
            Ok(identity) => break identity,
            Err(refused) if refused.code == tonic::Code::AlreadyExists => {
                return Err(StartError::Known(refused.text));
            }
            Err(refused) => {
                if refused.text != reason {
                    tracing::info!(reason = refused.text, "no cluster takes this member yet");
                }
                reason = refused.text;
            }
        }
        if Instant::now() >= deadline {
            return Err(StartError::NoCluster { seconds: options.join_timeout.as_secs(), reason });
        }
        sleep(options.raft.retry).await;
    };
    place.send_replace(Place::Unknown);
    identity.write(&**disk, path).map_err(failed)?;
    Ok(identity)
}

/// One try to come to a cluster.
async fn begin(
    beginning: &Beginning,
    options: &Options,
    description: &Description,
    peers: &PeerOptions,
) -> Result<Identity, Refused> {
    match beginning {
        Beginning::Found => Ok(Identity::found()),
        Beginning::Join { urls, learner } => join(urls, *learner, description, peers).await,
        Beginning::Initial(members) => {
            let others: Vec<&String> =
                members.iter().filter(|(name, _)| *name != options.name).map(|(_, url)| url).collect();
            let (mut empty, mut known) = (1, Vec::new());
            for url in &others {
                match peer::introduce(url, peers).await {
                    Ok(answer) if answer.cluster_id == 0 => empty += 1,
                    Ok(_) => known.push((*url).clone()),
                    Err(refused) => tracing::debug!(%url, %refused, "does not answer"),
                }
            }
            if !known.is_empty() {
                return join(&known, false, description, peers).await;
            }
            let first = members.first().is_some_and(|(name, _)| *name == options.name);
            if first && empty > members.len() / 2 {
                return Ok(Identity::found());
            }
            let count = members.len();
            Err(Refused::unavailable(if first {
                format!("{empty} of {count} members answer and are empty; more than half are needed")
            } else {
                format!("none of the other {} members knows a cluster; the first one founds it", count - 1)
            }))
        }
    }
}

async fn join(
    urls: &[String],
    learner: bool,
    description: &Description,
    peers: &PeerOptions,
) -> Result<Identity, Refused> {
    let mut last = Refused::unavailable("no address to join was given");
    for url in urls {
        let request = JoinRequest { member: Some(description.clone()), learner };
        match peer::join(url, request, peers).await {
            Ok(answer) => return Ok(Identity { cluster_id: answer.cluster_id, member: answer.member }),
            Err(refused) if refused.code == tonic::Code::AlreadyExists => return Err(refused),
            Err(refused) => last = Refused::unavailable(format!("{url}: {refused}")),
        }
    }
    Err(last)
}

/// Tells the cluster what this member is called and where it is reached, if that changed. A founder's first words begin
/// the cluster's state.
async fn introduce_itself(node: Arc<Node>, description: Description, pause: Duration) {
    loop {
        match introduce_once(&node, &description).await {
            Ok(()) => return,
            Err(reason) => tracing::debug!(%reason, "the cluster does not know this member's addresses yet"),
        }
        sleep(pause).await;
    }
}

async fn introduce_once(node: &Node, description: &Description) -> Result<(), Refused> {
    node.ready().await?;
    let (founded, known) = node.read(|machine| {
        let known = machine.members.get(&node.id).map(|member| member.description.clone());
        (machine.cluster_id != 0, known.map(|known| Description { token: 0, ..known }))
    });
    match known {
        Some(known) if known == *description => {}
        Some(_) => {
            let member = Some(description.clone());
            node.propose(Kind::Describe(Describe { id: node.id, member, promote: false })).await?;
        }
        None if !founded && node.id == FOUNDER => {
            let found = Found { cluster_id: node.cluster_id, member: Some(description.clone()) };
            node.propose(Kind::Found(found)).await?;
        }
        None => return Err(Refused::no_member()),
    }
    Ok(())
}
