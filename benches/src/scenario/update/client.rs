//! The client: writes documents and update keys of one vPool, and hears what its processes say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cfg_client::{Event, Item, KeyPath, Options, Store, StoreUrl, Transaction, Write};
use cfg_engine::{Feedback, Outcome, Status, Update};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{BenchError, Result};

/// How long a process may take to say something.
const LIMIT: Duration = Duration::from_secs(30);
/// What was heard and not looked at yet; beyond it the watch waits.
const WAITING: usize = 4096;

/// An error of the store, or of what it has.
pub(super) fn problem(problem: impl std::fmt::Display) -> BenchError {
    BenchError::peer("ovs", problem.to_string())
}

/// A vPool in a store.
#[derive(Debug)]
pub(super) struct Vpool {
    /// The store.
    pub(super) store: Store,
    root: KeyPath,
}

impl Vpool {
    /// The vPool `guid` in the store at `url`: `http://HOST:PORT` or `etcd://HOST:PORT`.
    pub(super) fn open(url: &str, guid: &str) -> Result<Vpool> {
        let root = KeyPath::parse(&format!("/ovs/vpools/{guid}")).map_err(problem)?;
        Ok(Vpool { store: open(url)?, root })
    }

    /// The update key of all its processes.
    pub(super) fn update_key(&self) -> Result<KeyPath> {
        self.root.join("update").map_err(problem)
    }

    /// A key of one of its processes, such as `config/nbd`.
    pub(super) fn key(&self, host: &str, name: &str) -> Result<KeyPath> {
        self.root.join(&format!("hosts/{host}/{name}")).map_err(problem)
    }

    /// Writes one key; gives the revision.
    pub(super) async fn put(&self, key: &KeyPath, value: String) -> Result<i64> {
        put(&self.store, key, value).await
    }

    /// Writes an update key.
    pub(super) async fn ask(&self, key: &KeyPath, id: &str) -> Result<i64> {
        let update = Update { id: id.to_string(), ..Update::default() };
        self.put(key, serde_json::to_string(&update).map_err(problem)?).await
    }

    /// Begins to hear what its processes say.
    pub(super) async fn listen(&self) -> Result<Listener> {
        let hosts = self.root.join("hosts").map_err(problem)?;
        let mut watch = self.store.watch(&hosts, None);
        let (said, heard) = mpsc::channel(WAITING);
        let mut listener = Listener { heard, statuses: BTreeMap::new(), task: JoinSet::new() };
        let Item::Listed(listing) = watch.next().await.map_err(problem)? else {
            return Err(problem("a watch without a revision begins with no listing"));
        };
        for pair in listing.pairs {
            if let Some((host, Said::Status(status))) = read(&hosts, &pair.key, &pair.value)? {
                listener.statuses.insert(host, *status);
            }
        }
        listener.task.spawn(async move {
            loop {
                let item = watch.next().await;
                let at = Instant::now();
                let Ok(Item::Changed { events, .. }) = item else {
                    let gap = problem("the watch of the benchmark missed something");
                    let _ = said.send(Err(item.err().map_or(gap, problem))).await;
                    return;
                };
                for event in events {
                    let Event::Put(pair) = event else { continue };
                    let one = match read(&hosts, &pair.key, &pair.value) {
                        Ok(Some((host, what))) => Ok((at, host, what)),
                        Ok(None) => continue,
                        Err(error) => Err(error),
                    };
                    // Nobody listens any more.
                    if said.send(one).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(listener)
    }
}

/// A client of the store at `url`.
pub(super) fn open(url: &str) -> Result<Store> {
    let url = StoreUrl::parse(&url.replacen("http://", "etcd://", 1)).map_err(problem)?;
    Store::open(&url, Options::default()).map_err(problem)
}

/// Writes one key; gives the revision.
pub(super) async fn put(store: &Store, key: &KeyPath, value: String) -> Result<i64> {
    let writes = vec![Write::put(key, value)];
    store.transact(&Transaction { compares: Vec::new(), writes }).await.map_err(problem)
}

/// What a process says.
#[derive(Debug)]
enum Said {
    Feedback(Box<Feedback>),
    Status(Box<Status>),
}

/// A key below `hosts` with who says it, if it is what a process says.
fn read(hosts: &KeyPath, key: &[u8], value: &[u8]) -> Result<Option<(String, Said)>> {
    let text = str::from_utf8(key).unwrap_or_default();
    let Some((host, name)) = text.strip_prefix(&hosts.folder()).and_then(|text| text.split_once('/')) else {
        return Ok(None);
    };
    let said = match name {
        "status" => Said::Status(Box::new(Status::read(value).map_err(problem)?)),
        _ if name.starts_with("feedback/") => {
            Said::Feedback(Box::new(Feedback::read(value).map_err(problem)?))
        }
        _ => return Ok(None),
    };
    Ok(Some((host.to_string(), said)))
}

/// Hears what processes say.
#[derive(Debug)]
pub(super) struct Listener {
    heard: mpsc::Receiver<Result<(Instant, String, Said)>>,
    /// The newest status of each process.
    statuses: BTreeMap<String, Status>,
    task: JoinSet<()>,
}

impl Listener {
    /// Waits for the next thing that is said; `None` if it was a status.
    pub(super) async fn next(&mut self) -> Result<Option<(Instant, String, Feedback)>> {
        match timeout(LIMIT, self.heard.recv()).await {
            Ok(Some(Ok((at, host, Said::Feedback(feedback))))) => Ok(Some((at, host, *feedback))),
            Ok(Some(Ok((_, host, Said::Status(status))))) => {
                self.statuses.insert(host, *status);
                Ok(None)
            }
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(problem("the watch of the benchmark ended")),
            Err(_) => Err(problem(format!("no process says anything for {} s", LIMIT.as_secs()))),
        }
    }

    /// Waits until all `hosts` have applied the update `id`; gives the time of the last answer and the microseconds
    /// that each process says it took.
    pub(super) async fn applied(&mut self, id: &str, hosts: &[String]) -> Result<(Instant, Vec<f64>)> {
        let mut waiting: BTreeSet<&String> = hosts.iter().collect();
        let mut took = Vec::new();
        loop {
            let said = self.next().await;
            let said = said.map_err(|e| problem(format!("{e}; {waiting:?} did not answer update {id}")))?;
            let Some((at, host, feedback)) = said.filter(|(.., feedback)| feedback.id == id) else {
                continue;
            };
            check(&feedback)?;
            if waiting.remove(&host) {
                took.push(feedback.took_us as f64);
            }
            if waiting.is_empty() {
                return Ok((at, took));
            }
        }
    }

    /// Waits until the newest status of all `hosts` is as `wanted`, which is so when they `did` something.
    pub(super) async fn quiet(
        &mut self,
        hosts: &[String],
        did: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        loop {
            let missing = |host: &&String| !self.statuses.get(*host).is_some_and(&wanted);
            let missing: Vec<String> = hosts.iter().filter(missing).cloned().collect();
            if missing.is_empty() {
                return Ok(());
            }
            let said = self.next().await;
            said.map_err(|e| problem(format!("{e}; {missing:?} did not say that they {did}")))?;
        }
    }
}

/// Fails if an update did not change exactly what runs.
pub(super) fn check(feedback: &Feedback) -> Result<()> {
    let good = feedback.outcome == Outcome::Applied
        && !feedback.applied.is_empty()
        && feedback.pending_restart.is_empty();
    if good { Ok(()) } else { Err(problem(format!("an update changed nothing: {}", feedback.text()))) }
}
