//! `ovs up`: everything on one machine, in one process.
//!
//! Start: take the directory, read the configuration, bind, recover, serve, say so. Ports are bound before recovery, so
//! that a taken one is found at once and clients that connect early wait instead of being refused.

mod config;
mod health;
pub(crate) mod http;
mod listen;
pub(crate) mod node;
mod store;

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use indicatif::MultiProgress;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use self::listen::Sockets;
use self::node::Node;
use crate::args::{Global, NewVolume, UpArgs};
use crate::data_dir::DataDir;
use crate::driver::{Driver, DriverOptions, StartReport, VolumeError};
use crate::endpoints::Endpoints;
use crate::failure::Failure;
use crate::progress::Bars;
use crate::signals::Signals;
use crate::{admin, logging, output};

/// For connections that are being answered when the node stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Threads for what blocks: admin operations, start and stop.
const BLOCKING_THREADS: usize = 64;

/// Runs until it is told to stop.
pub(crate) fn run(global: &Global, arguments: UpArgs) -> Result<(), Failure> {
    let bars = MultiProgress::new();
    logging::start(global, "info", &bars)?;
    check_arguments(&arguments)?;
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
    let result = runtime.block_on(run_node(global, &arguments, &directory, Bars::new(&bars)));
    directory.withdraw();
    // A start that was interrupted may still be blocked in its thread; the log survives that as it survives a crash.
    runtime.shutdown_background();
    result
}

fn check_arguments(arguments: &UpArgs) -> Result<(), Failure> {
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

/// The store first, and last: the rest of the node reads its configuration there.
async fn run_node(
    global: &Global,
    arguments: &UpArgs,
    directory: &DataDir,
    bars: Bars,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let embedded = tokio::select! {
        started = store::start(arguments, directory) => started?,
        () = signals.first() => return Ok(()),
    };
    let result = match config::load(directory, &embedded).await {
        Ok(start) => serve(global, arguments, directory, start, &embedded, &mut signals, bars).await,
        Err(failure) => Err(failure),
    };
    embedded.stop().await;
    result
}

async fn serve(
    global: &Global,
    arguments: &UpArgs,
    directory: &DataDir,
    start: config::Start,
    embedded: &store::Embedded,
    signals: &mut Signals,
    bars: Bars,
) -> Result<(), Failure> {
    let mut parameters = start.parameters;
    if arguments.ephemeral {
        parameters.nbd.nbd_port = 0;
        parameters.http.http_port = 0;
    }
    let sockets = Sockets::bind(arguments.listen, &parameters, directory).await?;
    let endpoints = Endpoints {
        etcd: Some(format!("http://{}", embedded.address)),
        vpool_guid: Some(start.identity.vpool_guid().to_owned()),
        vrouter_id: Some(start.identity.vrouter_id().to_owned()),
        config: Some(start.url),
        ..sockets.endpoints(directory)?
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
    node.started(driver).await;
    let admin = admin::server::router(Arc::clone(&node));
    servers.spawn(http::serve(sockets.admin, admin, http.for_operations(), stopped));

    let opened = tokio::select! {
        opened = open(global, arguments, directory, &node, &endpoints) => opened.map(|()| true),
        () = signals.first() => Ok(false),
    };
    if matches!(opened, Ok(true)) {
        tokio::select! {
            () = signals.first() => {}
            () = embedded.fails() => signals.first().await,
        }
    }
    tokio::select! {
        () = finish(node, servers, stop) => opened.map(drop),
        () = signals.second() => Err(Failure::failed(
            "stopped at once; what was flushed is safe, and the next start recovers the rest that was written",
        )),
    }
}

/// Makes the volumes that were asked for, and tells the world.
async fn open(
    global: &Global,
    arguments: &UpArgs,
    directory: &DataDir,
    node: &Arc<Node>,
    endpoints: &Endpoints,
) -> Result<(), Failure> {
    create_volumes(node, &arguments.volumes).await?;
    directory.publish(endpoints)?;
    announce(global, directory, endpoints)?;
    tracing::info!(pid = endpoints.pid, nbd = endpoints.nbd, http = endpoints.http, "ready");
    Ok(())
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
    let addresses = [
        ("nbd", nbd),
        ("nbd_unix", nbd_unix),
        ("http", http),
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
async fn finish(node: Arc<Node>, mut servers: JoinSet<()>, stop: watch::Sender<bool>) {
    tracing::info!("stopping");
    stop.send_replace(true);
    if timeout(LAST_ANSWERS, async { while servers.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("connections that did not end are closed");
        servers.shutdown().await;
    }
    node.stop().await;
    tracing::info!("stopped");
}
