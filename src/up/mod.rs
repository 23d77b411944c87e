//! `ovs up`: everything on one machine, in one process.
//!
//! Start: take the directory, read the configuration, bind, recover, serve, say so. Ports are bound before recovery, so
//! that a taken one is found at once and clients that connect early wait instead of being refused.

mod chosen;
mod claims;
mod component;
mod config;
mod health;
pub(crate) mod http;
mod listen;
pub(crate) mod node;
mod other_store;
mod store;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use cfg_engine::Process as Described;
use indicatif::MultiProgress;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use volumedriver::parameters::Parameters;

use self::claims::Claims;
use self::component::Volumes;
use self::listen::Sockets;
use self::node::Node;
use self::store::Embedded;
use crate::agent::component::Component;
use crate::agent::{Agent, Surroundings};
use crate::args::{DriverArgs, Global, NewVolume, NodeArgs, UpArgs};
use crate::cluster_id::ClusterId;
use crate::data_dir::DataDir;
use crate::driver::{Driver, DriverOptions, StartReport, VolumeError};
use crate::endpoints::Endpoints;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::logging::Log;
use crate::progress::Bars;
use crate::signals::Signals;
use crate::{admin, logging, output, rpc};

/// For connections that are being answered when the node stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Threads for what blocks: admin operations, start and stop.
const BLOCKING_THREADS: usize = 64;

/// Where a process has its configuration.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// In a member of the store that it carries itself.
    Own(&'a UpArgs),
    /// In a store that others run.
    Given(&'a DriverArgs),
}

/// What a process was asked to be.
struct Process<'a> {
    global: &'a Global,
    arguments: &'a NodeArgs,
    directory: &'a DataDir,
}

/// `ovs up`, until it is told to stop.
pub(crate) fn run(global: &Global, arguments: &UpArgs) -> Result<(), Failure> {
    begin(global, &arguments.node, Origin::Own(arguments))
}

/// `ovs volumedriver run`, until it is told to stop.
pub(crate) fn run_driver(global: &Global, arguments: &DriverArgs) -> Result<(), Failure> {
    begin(global, &arguments.node, Origin::Given(arguments))
}

fn begin(global: &Global, arguments: &NodeArgs, origin: Origin<'_>) -> Result<(), Failure> {
    let bars = MultiProgress::new();
    logging::start(global, "info", &bars)?;
    check_arguments(arguments)?;
    match volumedriver::limits::raise_open_files() {
        Ok(limit) => tracing::debug!(limit, "open descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of open descriptors cannot be raised"),
    }
    let directory = DataDir::locate(global.data_dir.as_deref())?;
    directory.create()?;
    let _lock = directory.lock()?;
    directory.withdraw();
    let cores = available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no threads for the control plane: {error}")))?;
    let process = Process { global, arguments, directory: &directory };
    let result = runtime.block_on(process.run(origin, Bars::new(&bars)));
    directory.withdraw();
    // A start that was interrupted may still be blocked in its thread; the log survives that as it survives a crash.
    runtime.shutdown_background();
    result
}

fn check_arguments(arguments: &NodeArgs) -> Result<(), Failure> {
    if !arguments.listen.is_loopback() && !arguments.insecure {
        return Err(Failure::usage(format!(
            "--listen {}: off loopback anybody who reaches the port can read and write every volume, because there is \
             no TLS yet; add --insecure if the network is trusted",
            arguments.listen
        )));
    }
    let mut volumes = arguments.volumes.iter();
    while let Some(volume) = volumes.next() {
        if volumes.as_slice().iter().any(|other| other.name == volume.name) {
            return Err(Failure::usage(format!("--volume {} is given twice; give it once", volume.name)));
        }
    }
    Ok(())
}

impl Process<'_> {
    /// The configuration first; a store of its own ends last.
    async fn run(&self, origin: Origin<'_>, bars: Bars) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let embedded = match origin {
            Origin::Own(arguments) => tokio::select! {
                started = store::start(arguments, self.directory) => Some(started?),
                () = signals.first() => return Ok(()),
            },
            Origin::Given(_) => None,
        };
        let start = match (&embedded, origin) {
            (Some(embedded), _) => config::load(self.directory, embedded).await,
            (None, Origin::Given(arguments)) => config::load_given(self.directory, arguments).await,
            (None, Origin::Own(_)) => Err(Failure::failed("the configuration store did not start")),
        };
        let result = match start {
            Ok(start) => self.serve(start, embedded.as_ref(), &mut signals, bars).await,
            Err(failure) => Err(failure),
        };
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
        result
    }

    async fn serve(
        &self,
        start: config::Start,
        embedded: Option<&Embedded>,
        signals: &mut Signals,
        bars: Bars,
    ) -> Result<(), Failure> {
        let Process { global, arguments, directory } = *self;
        let mut parameters = start.chosen.parameters.clone();
        if global.log_level.is_none() {
            logging::configure(&parameters.logging)
                .map_err(|problems| config::rejected(&start.url, &problems))?;
        }
        if arguments.ephemeral {
            parameters.nbd.nbd_port = 0;
            parameters.http.http_port = 0;
            parameters.xmlrpc.xmlrpc_port = 0;
        }
        let tls = rpc::tls(&parameters.xmlrpc)?;
        let sockets = Sockets::bind(arguments.listen, &parameters, directory).await?;
        let endpoints = Endpoints {
            etcd: Some(start.etcd.clone()),
            vpool_guid: Some(start.identity.vpool_guid().to_owned()),
            vrouter_id: Some(start.identity.vrouter_id().to_owned()),
            config: Some(start.url.clone()),
            vrouter_cluster_id: Some(rpc::cluster_id(&start.chosen.documents, &start.identity)),
            ..sockets.endpoints(&parameters, directory)?
        };
        let node = Node::new(parameters.http.admin_operations_in_flight);
        let (stop, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        let http = http::Options::new(&parameters);
        servers.spawn(http::serve(
            sockets.http,
            health::router(Arc::clone(&node)),
            http.clone(),
            stopped.clone(),
        ));

        let options = DriverOptions {
            data_dir: directory.path().to_path_buf(),
            parameters: parameters.clone(),
            boot_id: config::boot_id()?,
        };
        let bars = Arc::new(bars);
        let starting = spawn_blocking({
            let bars = Arc::clone(&bars);
            move || Driver::start(options, &*bars)
        });
        let started = tokio::select! {
            started = starting => started,
            () = signals.first() => {
                tracing::info!("interrupted while starting");
                return Ok(());
            }
        };
        bars.finish();
        let (driver, report) = started
            .map_err(|error| Failure::failed(format!("the start failed: {error}")))?
            .map_err(|error| Failure::failed(format!("{}: {error}", directory.path().display())))?;
        log_recovery(&report);
        servers.spawn(listen::serve_nbd(sockets.nbd, &parameters, &driver, &stopped));
        let here = driver.list().into_iter().map(|volume| volume.name.to_string()).collect();
        node.claims_by(settle_claims(&start.store, &start.identity, &here).await?);
        node.started(driver).await;
        let calls = admin_rpc(&node, &start, &parameters, &endpoints)?;
        let options = http::Options::for_calls(&parameters.xmlrpc, tls);
        servers.spawn(http::serve(sockets.xmlrpc, rpc::router(calls), options, stopped.clone()));
        let agent = take_updates(directory, &node, start, &endpoints)?;
        let admin = admin::server::router(Arc::clone(&node));
        servers.spawn(http::serve(sockets.admin, admin, http.for_operations(), stopped));

        let opened = tokio::select! {
            opened = open(global, arguments, directory, &node, &endpoints) => opened.map(|()| true),
            () = signals.first() => Ok(false),
        };
        if matches!(opened, Ok(true)) {
            tokio::select! {
                () = signals.first() => {}
                () = fails(embedded) => signals.first().await,
            }
        }
        tokio::select! {
            () = finish(agent, node, servers, stop) => opened.map(drop),
            () = signals.second() => Err(Failure::failed(
                "stopped at once; what was flushed is safe, and the next start recovers the rest that was written",
            )),
        }
    }
}

/// What answers requests of the admin RPC.
fn admin_rpc(
    node: &Arc<Node>,
    start: &config::Start,
    parameters: &Parameters,
    endpoints: &Endpoints,
) -> Result<Arc<rpc::Server>, Failure> {
    rpc::Server::new(rpc::Parts {
        node: Arc::clone(node),
        store: start.store.clone(),
        identity: &start.identity,
        cluster_id: rpc::cluster_id(&start.chosen.documents, &start.identity),
        url: start.url.clone(),
        own_url: endpoints.xmlrpc.as_deref().unwrap_or_default(),
        parameters: &parameters.xmlrpc,
    })
}

/// From now on the process takes updates of its configuration.
fn take_updates(
    directory: &DataDir,
    node: &Arc<Node>,
    start: config::Start,
    endpoints: &Endpoints,
) -> Result<Agent, Failure> {
    let config::Start { chosen, mut identity, url, store, place, cluster, .. } = start;
    let incarnation = identity.count_start();
    // A full disk is no reason not to serve what is on it.
    if let Err(failure) = identity.write(&directory.identity()) {
        tracing::warn!(%failure, "this start is not counted");
    }
    let process = Described {
        node: identity.vrouter_id().to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: cluster.map(ClusterId::number),
        incarnation,
        started: crate::config::now(),
        xmlrpc: endpoints.xmlrpc.clone(),
        vrouter_cluster_id: endpoints.vrouter_cluster_id.clone(),
    };
    let components: Vec<Box<dyn Component>> = vec![Box::new(Volumes(Arc::clone(node))), Box::new(Log)];
    let surroundings =
        Surroundings { store, place, url, last_good: directory.last_good(), process, components };
    let chosen::Chosen { parameters, documents, revision, source, previous, frozen, standing } = chosen;
    let start =
        cfg_engine::Start { values: parameters, documents, revision, source, previous, frozen, standing };
    Ok(Agent::start(surroundings, start))
}

/// Waits until a store of its own takes no part any more; else for ever.
async fn fails(embedded: Option<&Embedded>) {
    match embedded {
        Some(embedded) => embedded.fails().await,
        None => std::future::pending().await,
    }
}

/// Makes the volumes that were asked for, and tells the world.
async fn open(
    global: &Global,
    arguments: &NodeArgs,
    directory: &DataDir,
    node: &Arc<Node>,
    endpoints: &Endpoints,
) -> Result<(), Failure> {
    create_volumes(node, &arguments.volumes).await?;
    directory.publish(endpoints)?;
    announce(global, directory, endpoints)?;
    let xmlrpc = endpoints.xmlrpc.as_deref().unwrap_or_default();
    tracing::info!(pid = endpoints.pid, nbd = endpoints.nbd, http = endpoints.http, xmlrpc, "ready");
    Ok(())
}

/// Compares the claims in the store with the volumes that are here.
async fn settle_claims(
    store: &cfg_client::Store,
    identity: &Identity,
    here: &BTreeSet<String>,
) -> Result<Claims, Failure> {
    let claims = Claims::new(store.clone(), identity.vpool_guid(), identity.vrouter_id());
    let claims = claims.map_err(|error| Failure::failed(format!("identity.json: {error}")))?;
    match claims.settle(here).await {
        Ok(settled) => {
            for (volume, owner) in &settled.foreign {
                tracing::error!(
                    volume,
                    owner,
                    "is here and belongs to another driver; delete it on one of them"
                );
            }
            let (claimed, released) = (settled.claimed, settled.released);
            if claimed + released > 0 {
                tracing::info!(claimed, released, "claims of volumes");
            }
        }
        // Volumes that are here are served; new ones wait for the store.
        Err(error) => tracing::warn!(%error, "whose volumes these are cannot be settled now"),
    }
    Ok(claims)
}

fn log_recovery(report: &StartReport) {
    for volume in &report.volumes {
        let (records, bytes) = (volume.replayed_records, volume.replayed_bytes);
        tracing::info!(volume = volume.name, records, bytes, "recovered");
        if let Some(cut) = &volume.cut {
            tracing::warn!(volume = volume.name, cut, "the end of the log was cut");
        }
        if let Some(reason) = &volume.halted {
            tracing::error!(volume = volume.name, reason, "volume is halted");
        }
    }
    let took_ms = report.took.as_millis() as u64;
    tracing::info!(volumes = report.volumes.len(), took_ms, backend = report.backend, "started");
}

async fn create_volumes(node: &Arc<Node>, volumes: &[NewVolume]) -> Result<(), Failure> {
    for NewVolume { name, size } in volumes.iter().cloned() {
        let wanted = name.clone();
        let sought = name.clone();
        let is_here = node.look(move |driver| driver.info(sought.as_str()).is_ok()).await == Some(true);
        // What is here was claimed when it was made; it is served while the store is away, too.
        if !is_here {
            let claimed = async { node.claims()?.claim(name.as_str()).await };
            claimed.await.map_err(|error| {
                Failure::new(error.kind.failure(), format!("--volume {name}={size}: {}", error.message))
            })?;
        }
        let created = node.operate(move |driver| match driver.create_volume(wanted.clone(), size.bytes()) {
            Err(VolumeError::Exists) => driver.info(wanted.as_str()).map(|info| (false, info)),
            result => result.map(|info| (true, info)),
        });
        match created.await {
            Some(Ok((true, info))) => tracing::info!(volume = %name, size = info.size, "volume created"),
            Some(Ok((false, info))) if info.size != size.bytes() => {
                tracing::warn!(volume = %name, size = info.size, "volume exists with another size, which it keeps");
            }
            Some(Ok((false, _))) => tracing::debug!(volume = %name, "volume exists"),
            Some(Err(error)) => {
                let error = admin::api::ApiError::of_volume(name.as_str(), &error);
                return Err(Failure::new(
                    error.kind.failure(),
                    format!("--volume {name}={size}: {}", error.message),
                ));
            }
            None => return Err(Failure::failed(format!("--volume {name}={size}: the node is stopping"))),
        }
    }
    Ok(())
}

/// What `ovs up --json` prints in place of lines.
#[derive(Serialize)]
struct Announcement<'a> {
    ready: bool,
    data_dir: String,
    #[serde(flatten)]
    endpoints: &'a Endpoints,
}

fn announce(global: &Global, directory: &DataDir, endpoints: &Endpoints) -> Result<(), Failure> {
    let data_dir = directory.path().display().to_string();
    if global.json {
        return output::json(&Announcement { ready: true, data_dir, endpoints });
    }
    let Endpoints { nbd, nbd_unix, http, admin, .. } = endpoints;
    let etcd = endpoints.etcd.clone().unwrap_or_default();
    let xmlrpc = endpoints.xmlrpc.clone().unwrap_or_default();
    let addresses = [
        ("nbd", nbd),
        ("nbd_unix", nbd_unix),
        ("http", http),
        ("xmlrpc", &xmlrpc),
        ("etcd", &etcd),
        ("admin", admin),
        ("data_dir", &data_dir),
    ];
    for (name, address) in addresses {
        output::line(&format!("{name:<9} {address}"))?;
    }
    output::line("ready")
}

/// Finishes what is in flight and makes it durable.
async fn finish(agent: Agent, node: Arc<Node>, mut servers: JoinSet<()>, stop: watch::Sender<bool>) {
    tracing::info!("stopping");
    agent.stop().await;
    stop.send_replace(true);
    if timeout(LAST_ANSWERS, async { while servers.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("connections that did not end are closed");
        servers.shutdown().await;
    }
    node.stop().await;
    tracing::info!("stopped");
}
