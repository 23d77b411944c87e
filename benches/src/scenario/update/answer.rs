//! From the write of an update key to the feedback: of one process beside plain puts, of all processes of a vPool
//! beside as many puts as they make.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cfg_client::{KeyPath, Store, Transaction, Write};
use cfg_engine::Status;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::UpdateCourse;
use super::client::{Listener, Vpool, open, problem, put};
use super::fleet::{Fleet, VPOOL, name};
use crate::error::{BenchError, Result};
use crate::interrupt;
use crate::scenario::cfg::client::percentiles;
use crate::scenario::runtime;
use crate::stats::{Summary, summarise};
use crate::workspace::Workspace;

/// Updates that come first and do not count.
const WARMUP: u32 = 10;
/// Bytes of a plain put: about those of a feedback.
const VALUE: usize = 400;
/// Puts that a process makes of one update: the feedback, the status and the last status.
const PUTS: usize = 3;
/// Documents that one transaction writes.
const DOCUMENTS: usize = 50;
/// Between a status and what is measured next: whatever else a process still does is over then.
const PAUSE: Duration = Duration::from_millis(5);

/// Two percentiles, microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Times {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Times {
    fn of(values: Vec<f64>) -> Times {
        let (p50_us, p99_us) = percentiles(values);
        Times { p50_us, p99_us }
    }
}

/// One process.
#[derive(Debug, Serialize)]
pub(super) struct Alone {
    pub(super) updates: u32,
    /// A plain put, until its answer.
    pub(super) put: Times,
    /// From the sending of the update key to the arrival of the feedback; the document was stored, and seen, before.
    pub(super) stored_before: Times,
    /// The same with the update key written as soon as the document was.
    pub(super) at_once: Times,
    /// What the process says of `stored_before`: from the sight of the update key to its answer, without the store's
    /// part before and behind it.
    pub(super) in_process: Times,
}

/// All processes of a vPool.
#[derive(Debug, Serialize)]
pub(super) struct Together {
    pub(super) processes: usize,
    pub(super) rounds: u32,
    /// From the sending of the vPool's update key to the last feedback, milliseconds.
    pub(super) last_ms: Summary,
    /// As many clients as processes, each with a connection of its own and [`PUTS`] puts one after the other,
    /// milliseconds until the last one.
    pub(super) puts_together_ms: Summary,
    /// As many puts by one client, one after the other, milliseconds.
    pub(super) puts_in_turn_ms: Summary,
    /// What the processes say they took of it, milliseconds: the median of all.
    pub(super) in_process_p50_ms: f64,
}

/// The answers of one process.
pub(super) fn alone(workspace: &Workspace, course: &UpdateCourse, fleet: &mut Fleet) -> Result<Alone> {
    workspace.calm(false)?;
    fleet.check_alive()?;
    let alone = runtime()?.block_on(async {
        let vpool = Vpool::open(&fleet.url(), VPOOL)?;
        let mut one = One::new(&vpool).await?;
        let plain = plain_key(0)?;
        let [mut puts, mut before, mut at_once, mut inside] = [const { Vec::new() }; 4];
        for turn in 0..WARMUP + course.updates {
            interrupt::check()?;
            one.rest().await?;
            one.change(turn * 2, true).await?;
            let first = timed_put(&vpool.store, &plain).await?;
            tokio::time::sleep(PAUSE).await;
            let (taken, in_process) = one.update(&format!("before-{turn}")).await?;
            one.rest().await?;
            let second = timed_put(&vpool.store, &plain).await?;
            one.change(turn * 2 + 1, false).await?;
            let (taken_at_once, _) = one.update(&format!("at-once-{turn}")).await?;
            if turn >= WARMUP {
                puts.extend([first, second]);
                before.push(taken);
                at_once.push(taken_at_once);
                inside.push(in_process);
            }
        }
        Ok::<_, BenchError>(Alone {
            updates: course.updates,
            put: Times::of(puts),
            stored_before: Times::of(before),
            at_once: Times::of(at_once),
            in_process: Times::of(inside),
        })
    })?;
    fleet.check_alive()?;
    Ok(alone)
}

/// One process that is asked.
struct One<'a> {
    vpool: &'a Vpool,
    host: [String; 1],
    listener: Listener,
    update: KeyPath,
    document: KeyPath,
    /// The last update.
    last: Option<String>,
}

impl One<'_> {
    async fn new(vpool: &Vpool) -> Result<One<'_>> {
        let (update, document) = (vpool.key(&name(0), "update")?, vpool.key(&name(0), "config/nbd")?);
        Ok(One { vpool, host: [name(0)], listener: vpool.listen().await?, update, document, last: None })
    }

    /// Waits until the process has said all that it has to say of the last update.
    async fn rest(&mut self) -> Result<()> {
        if let Some(last) = &self.last {
            let answered = |status: &Status| status.last_feedback.as_ref() == Some(last);
            self.listener.quiet(&self.host, "answered", answered).await?;
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Stores a document with a value that was not there before; waits until the process has seen it if `seen`.
    async fn change(&mut self, turn: u32, seen: bool) -> Result<()> {
        let revision = self.vpool.put(&self.document, document(turn)).await?;
        if seen {
            let seen = |status: &Status| status.observed_revision >= revision;
            self.listener.quiet(&self.host, "saw the document", seen).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Writes the update key and waits for the feedback; gives the time and what of it the process says it took,
    /// microseconds.
    async fn update(&mut self, id: &str) -> Result<(f64, f64)> {
        let began = Instant::now();
        self.vpool.ask(&self.update, id).await?;
        let (last, took) = self.listener.applied(id, &self.host).await?;
        self.last = Some(id.to_string());
        Ok((microseconds(last - began), took.first().copied().unwrap_or_default()))
    }
}

/// The answers of all processes.
pub(super) fn together(workspace: &Workspace, course: &UpdateCourse, fleet: &mut Fleet) -> Result<Together> {
    workspace.calm(false)?;
    let processes = fleet.len();
    let hosts: Vec<String> = (0..processes).map(name).collect();
    let together = runtime()?.block_on(async {
        let vpool = Vpool::open(&fleet.url(), VPOOL)?;
        let (update, mut listener) = (vpool.update_key()?, vpool.listen().await?);
        let clients = connected(&fleet.url(), processes).await?;
        let [mut last, mut parallel, mut serial, mut inside] = [const { Vec::new() }; 4];
        for round in 0..=course.rounds {
            interrupt::check()?;
            let stored = store_for_all(&vpool, &hosts, round).await?;
            let seen = |status: &Status| stored.get(&status.node) <= Some(&status.observed_revision);
            listener.quiet(&hosts, "saw their documents", seen).await?;
            tokio::time::sleep(PAUSE).await;
            let id = format!("all-{round}");
            let began = Instant::now();
            vpool.ask(&update, &id).await?;
            let (ended, took) = listener.applied(&id, &hosts).await?;
            let answered = |status: &Status| status.last_feedback.as_ref() == Some(&id);
            listener.quiet(&hosts, "answered", answered).await?;
            tokio::time::sleep(PAUSE).await;
            let together = puts_together(&clients).await?;
            let in_turn = puts_in_turn(&vpool.store, processes * PUTS).await?;
            // The first round warms up.
            if round > 0 {
                last.push(microseconds(ended - began) / 1e3);
                parallel.push(together / 1e3);
                serial.push(in_turn / 1e3);
                inside.extend(took);
            }
        }
        let summary = |values: &[f64]| summarise(values).ok_or_else(|| problem("there was no round"));
        Ok::<_, BenchError>(Together {
            processes,
            rounds: course.rounds,
            last_ms: summary(&last)?,
            puts_together_ms: summary(&parallel)?,
            puts_in_turn_ms: summary(&serial)?,
            in_process_p50_ms: percentiles(inside).0 / 1e3,
        })
    })?;
    fleet.check_alive()?;
    Ok(together)
}

/// A document whose value differs from that of every neighbouring turn.
fn document(turn: u32) -> String {
    json!({"nbd_max_connections": 1000 + turn % 1000}).to_string()
}

/// Stores a new document for each process; gives the revisions.
async fn store_for_all(vpool: &Vpool, hosts: &[String], round: u32) -> Result<BTreeMap<String, i64>> {
    let mut revisions = BTreeMap::new();
    for hosts in hosts.chunks(DOCUMENTS) {
        let put = |host: &String| Ok(Write::put(&vpool.key(host, "config/nbd")?, document(2000 + round)));
        let writes = hosts.iter().map(put).collect::<Result<_>>()?;
        let transaction = Transaction { compares: Vec::new(), writes };
        let revision = vpool.store.transact(&transaction).await.map_err(problem)?;
        revisions.extend(hosts.iter().map(|host| (host.clone(), revision)));
    }
    Ok(revisions)
}

/// Clients with a connection each.
async fn connected(url: &str, count: usize) -> Result<Vec<Store>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = open(url)?;
        client.cluster_id().await.map_err(problem)?;
        clients.push(client);
    }
    Ok(clients)
}

fn plain_key(number: usize) -> Result<KeyPath> {
    KeyPath::parse(&format!("/bench/{number:04}")).map_err(problem)
}

async fn timed_put(store: &Store, key: &KeyPath) -> Result<f64> {
    let began = Instant::now();
    put(store, key, "x".repeat(VALUE)).await?;
    Ok(microseconds(began.elapsed()))
}

/// All clients at the same time, each with its puts one after the other; microseconds.
async fn puts_together(clients: &[Store]) -> Result<f64> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (client, key) = (client.clone(), plain_key(number)?);
        tasks.spawn(async move {
            for _ in 0..PUTS {
                put(&client, &key, "x".repeat(VALUE)).await?;
            }
            Ok::<_, BenchError>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(problem)??;
    }
    Ok(microseconds(began.elapsed()))
}

/// One client, one put after the other; microseconds.
async fn puts_in_turn(store: &Store, count: usize) -> Result<f64> {
    let (began, key) = (Instant::now(), plain_key(0)?);
    for _ in 0..count {
        put(store, &key, "x".repeat(VALUE)).await?;
    }
    Ok(microseconds(began.elapsed()))
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
