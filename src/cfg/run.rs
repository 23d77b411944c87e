//! `ovs cfg run`: serves until it is told to stop.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::Duration;

use cfg_store::{ApiOptions, Beginning, Ended, Options, RaftOptions, Server, StartError};
use indicatif::MultiProgress;
use tokio::runtime::Builder;

use crate::args::{CfgRunArgs, Global};
use crate::data_dir::DataDir;
use crate::failure::{Failure, Kind};
use crate::signals::Signals;
use crate::{logging, output};

/// How long streams of clients may last when it stops.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of one that failed may take.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Runs one member.
pub(super) fn run(global: &Global, arguments: CfgRunArgs) -> Result<(), Failure> {
    begin_with_small_pages();
    logging::start(global, "info", &MultiProgress::new())?;
    let options = options(global, &arguments)?;
    let runtime = Builder::new_multi_thread().enable_all().thread_name("cfg").build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no threads for the store: {error}")))?;
    runtime.block_on(serve(options))
}

/// Without huge pages an idle member takes 8 MiB less. Those that the allocator took before `main` would stay, so the
/// program begins once more, as the same process; what the kernel was told outlives that. Where it cannot be told,
/// everything goes on as it is.
fn begin_with_small_pages() {
    let has_huge_pages = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().any(|line| line.split_whitespace().eq(["THP_enabled:", "1"]))
    };
    if !has_huge_pages() || uring::memory::without_huge_pages().is_err() || has_huge_pages() {
        return;
    }
    let (mut arguments, Ok(program)) = (std::env::args_os(), std::env::current_exe()) else { return };
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It comes back only if the program is not there any more.
    let _ = again.args(arguments).exec();
}

async fn serve(options: Options) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let disk = Arc::new(uring::LocalDisk);
    let server = tokio::select! {
        started = Server::start(disk, options) => started.map_err(|error| failure(&error))?,
        () = signals.first() => return Ok(()),
    };
    for address in server.client_addresses() {
        output::line(&format!("clients  http://{address}"))?;
    }
    for address in server.peer_addresses() {
        output::line(&format!("members  http://{address}"))?;
    }
    output::line(&format!("cluster  {:x}\nmember   {:x}", server.cluster_id(), server.member()))?;
    let ready = async {
        while let Err(refused) = server.ready().await {
            tracing::warn!(reason = %refused, "nobody leads yet");
        }
    };
    tokio::select! {
        () = ready => output::line("ready")?,
        () = signals.first() => return stop(server).await,
        why = server.ended() => return end(server, why).await,
    }
    tokio::select! {
        () = signals.first() => stop(server).await,
        why = server.ended() => end(server, why).await,
    }
}

/// Ends because this member has no part any more.
async fn end(server: Server, why: Ended) -> Result<(), Failure> {
    let member = server.member();
    // What failed may not stop either.
    if tokio::time::timeout(END_PATIENCE, server.shutdown(STOP_PATIENCE)).await.is_err() {
        tracing::warn!("not everything of this member could be stopped");
    }
    Err(match why {
        Ended::Removed => Failure::new(
            Kind::Conflict,
            format!(
                "member {member:x} was removed from the cluster; to let it come back, empty its data directory and \
                 start it with --join"
            ),
        ),
        Ended::Failed(why) => Failure::failed(format!(
            "member {member:x} ended: {why}; when that is mended start it again, it then gets what it missed"
        )),
    })
}

async fn stop(server: Server) -> Result<(), Failure> {
    tracing::info!("stopping");
    server.shutdown(STOP_PATIENCE).await;
    tracing::info!("stopped");
    Ok(())
}

fn failure(error: &StartError) -> Failure {
    let kind = match error {
        StartError::Locked(_) | StartError::Known(_) => Kind::Conflict,
        StartError::NoCluster { .. } => Kind::Unreachable,
        _ => Kind::Failed,
    };
    Failure::new(kind, error.to_string())
}

fn options(global: &Global, arguments: &CfgRunArgs) -> Result<Options, Failure> {
    let name = arguments.name.clone();
    let initial = arguments.initial_cluster.as_deref().map(initial_cluster).transpose()?;
    let beginning = match (initial, arguments.join.is_empty()) {
        (Some(_), false) => return Err(Failure::usage("give --initial-cluster or --join, not both")),
        (Some(members), true) => {
            if !members.iter().any(|(member, _)| *member == name) {
                return Err(Failure::usage(format!(
                    "--initial-cluster names no member {name:?}; give it there, or another --name"
                )));
            }
            Beginning::Initial(members)
        }
        (None, false) => Beginning::Join { urls: arguments.join.clone(), learner: arguments.learner },
        (None, true) => Beginning::Found,
    };
    let listen = |urls: &[String]| -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = Vec::new();
        for url in urls {
            addresses.extend(resolve(url)?);
        }
        if let Some(address) = addresses.iter().find(|address| !address.ip().is_loopback())
            && !arguments.insecure
        {
            return Err(Failure::usage(format!(
                "{address} is off loopback, where anybody who reaches it can read and change everything; \
                 add --insecure if that is what you want"
            )));
        }
        Ok(addresses)
    };
    let directory = DataDir::locate(global.data_dir.as_deref())?;
    directory.create()?;
    let election_timeout = Duration::from_millis(arguments.election_timeout);
    let raft = RaftOptions {
        election_timeout,
        heartbeat: Duration::from_millis(arguments.heartbeat),
        snapshot_entries: arguments.snapshot_count,
        kept_entries: arguments.snapshot_count / 10,
        ..RaftOptions::default()
    };
    if raft.heartbeat * 3 > raft.election_timeout {
        return Err(Failure::usage("--heartbeat must be at most a third of --election-timeout"));
    }
    Ok(Options {
        name,
        data_dir: directory.cfg(),
        client_listen: listen(&arguments.client_urls)?,
        peer_listen: listen(&arguments.peer_urls)?,
        client_urls: arguments.advertise_client_urls.clone(),
        peer_urls: arguments.advertise_peer_urls.clone(),
        beginning,
        join_timeout: Duration::from_secs(arguments.join_timeout),
        raft,
        api: ApiOptions { quota_bytes: arguments.quota.bytes(), ..ApiOptions::default() },
    })
}

/// `http://HOST:PORT` as addresses of this machine.
fn resolve(url: &str) -> Result<Vec<SocketAddr>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{url:?}: {what}; give http://HOST:PORT"));
    let host = url.strip_prefix("http://").ok_or_else(|| wrong("is no http:// URL".into()))?;
    let found = host.trim_end_matches('/').to_socket_addrs();
    Ok(found.map_err(|error| wrong(error.to_string()))?.collect())
}

/// `NAME=URL,NAME=URL,…`
fn initial_cluster(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let one = |part: &str| {
        let (name, url) = part.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Failure::usage(format!(
                "--initial-cluster: {part:?} is no NAME=URL, as in a=http://127.0.0.1:2380"
            ))
        })?;
        resolve(url)?;
        Ok((name.to_owned(), url.to_owned()))
    };
    text.split(',').map(one).collect()
}
