//! `ovs cfg run`: serves until it is told to stop.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::Duration;

use cfg_store::{
    ApiOptions, AutoCompaction, Beginning, Ended, Options, RaftOptions, Server, StartError, TlsFiles,
};
use indicatif::MultiProgress;
use tokio::runtime::Builder;

use super::command::{CfgRunArgs, CompactionMode};
use crate::args::Global;
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
    if let Err(error) = volumedriver::limits::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
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
    let scheme = |tls: &Option<TlsFiles>| if tls.is_some() { "https" } else { "http" };
    let (clients, members) = (scheme(&options.client_tls), scheme(&options.peer_tls));
    let disk = Arc::new(uring::LocalDisk);
    let server = tokio::select! {
        started = Server::start(disk, options) => started.map_err(|error| failure(&error))?,
        () = signals.first() => return Ok(()),
    };
    for address in server.client_addresses() {
        output::line(&format!("clients  {clients}://{address}"))?;
    }
    for address in server.peer_addresses() {
        output::line(&format!("members  {members}://{address}"))?;
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
    let (client_tls, peer_tls) = (client_tls(arguments), peer_tls(arguments));
    let listen = |urls: &[String], tls: Option<&TlsFiles>| listen(urls, tls, arguments.insecure);
    let directory = DataDir::locate(global.data_dir.as_deref())?;
    directory.create()?;
    let election_timeout = Duration::from_millis(arguments.election_timeout);
    let raft = RaftOptions {
        election_timeout,
        heartbeat: Duration::from_millis(arguments.heartbeat),
        auto_compaction: auto_compaction(arguments)?,
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
        client_listen: listen(&arguments.client_urls, client_tls.as_ref())?,
        peer_listen: listen(&arguments.peer_urls, peer_tls.as_ref())?,
        client_urls: arguments.advertise_client_urls.clone(),
        peer_urls: arguments.advertise_peer_urls.clone(),
        client_tls,
        peer_tls,
        beginning,
        join_timeout: Duration::from_secs(arguments.join_timeout),
        raft,
        api: ApiOptions { quota_bytes: arguments.quota.bytes(), ..ApiOptions::default() },
    })
}

fn client_tls(arguments: &CfgRunArgs) -> Option<TlsFiles> {
    let (cert, key) = (arguments.cert_file.clone()?, arguments.key_file.clone()?);
    Some(TlsFiles { cert, key, ca: arguments.trusted_ca_file.clone() })
}

fn peer_tls(arguments: &CfgRunArgs) -> Option<TlsFiles> {
    let (cert, key) = (arguments.peer_cert_file.clone()?, arguments.peer_key_file.clone()?);
    Some(TlsFiles { cert, key, ca: arguments.peer_trusted_ca_file.clone() })
}

/// The addresses of URLs to listen on. Off loopback whoever connects must show who he is.
fn listen(urls: &[String], tls: Option<&TlsFiles>, insecure: bool) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for url in urls {
        addresses.extend(resolve(url, if tls.is_some() { "https" } else { "http" })?);
    }
    let is_open = tls.is_none_or(|tls| tls.ca.is_none());
    match addresses.iter().find(|address| !address.ip().is_loopback()) {
        Some(address) if is_open && !insecure => Err(Failure::usage(format!(
            "{address} is off loopback, where anybody who reaches it can read and change everything; give \
             certificates and the authority of those who may (--cert-file, --key-file, --trusted-ca-file, and the same \
             with --peer-), or add --insecure if the network is trusted"
        ))),
        _ => Ok(addresses),
    }
}

/// What is kept of the past, in etcd's notation.
fn auto_compaction(arguments: &CfgRunArgs) -> Result<AutoCompaction, Failure> {
    let wrong = |text: &str, what: &str| {
        Failure::usage(format!("--auto-compaction-retention {text:?} is no {what}; 0 keeps all"))
    };
    match (arguments.auto_compaction_mode, arguments.auto_compaction_retention.as_deref()) {
        (_, Some("0")) => Ok(AutoCompaction::Off),
        (CompactionMode::Revision, None) => Ok(RaftOptions::default().auto_compaction),
        (CompactionMode::Revision, Some(text)) => {
            let kept = text.parse().map_err(|_| wrong(text, "number of revisions, as in 10000"))?;
            Ok(AutoCompaction::Revisions(kept))
        }
        (CompactionMode::Periodic, None) => Err(Failure::usage(
            "--auto-compaction-mode periodic needs --auto-compaction-retention, as in 24 (hours) or 30m",
        )),
        (CompactionMode::Periodic, Some(text)) => {
            let period = period(text).ok_or_else(|| wrong(text, "time, as in 24 (hours), 1h, 30m or 90s"))?;
            Ok(if period.is_zero() { AutoCompaction::Off } else { AutoCompaction::Period(period) })
        }
    }
}

/// Hours, or numbers with the units h, m, s and ms behind each other, as in `1h30m`.
fn period(text: &str) -> Option<Duration> {
    if let Ok(hours) = text.parse::<u64>() {
        return hours.checked_mul(3600).map(Duration::from_secs);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|byte: char| !byte.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|byte: char| byte.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let millis: u64 = match &rest[digits..digits + unit] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[digits + unit..];
    }
    Some(sum)
}

/// `http://HOST:PORT` as addresses of this machine.
fn resolve(url: &str, scheme: &str) -> Result<Vec<SocketAddr>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{url:?}: {what}; give {scheme}://HOST:PORT"));
    let host = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let host = host.ok_or_else(|| wrong(format!("is no {scheme}:// URL")))?;
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
        resolve(url, if url.starts_with("https") { "https" } else { "http" })?;
        Ok((name.to_owned(), url.to_owned()))
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_written_as_for_etcd() {
        for (text, seconds) in [("24", 86_400), ("1h", 3600), ("30m", 1800), ("90s", 90), ("1h30m", 5400)] {
            assert_eq!(period(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(period("250ms"), Some(Duration::from_millis(250)));
        for text in ["h", "1d", "-1h", "1.5h", "1h 30m", "9999999999999999999", "99999999999999999h"] {
            assert_eq!(period(text), None, "{text}");
        }
    }
}
