//! fio at a fixed rate, in turns without and with parameters that change all the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cfg_engine::Outcome;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Listener, Vpool, check, problem};
use super::{UpdateCourse, runtime};
use crate::accounting::growth;
use crate::error::{BenchError, Result};
use crate::fio::{End, Job};
use crate::fio_output::Latency;
use crate::measure::observe;
use crate::scenario::{prepare, subject};
use crate::server::Instance;
use crate::units::MIB;
use crate::workload::Pattern;
use crate::workspace::Workspace;

/// I/Os in flight at most.
const DEPTH: u32 = 32;

/// Section and parameter, the value of a new node and another one.
type Turn = (&'static str, &'static str, fn() -> [Json; 2]);

/// What changes, in turns. No value is so tight that it slows the I/Os by itself.
const ROTATION: [Turn; 10] = [
    ("volume_manager", "write_bytes_in_flight", || [json!("64MiB"), json!("48MiB")]),
    ("nbd", "nbd_requests_in_flight", || [json!(1024), json!(512)]),
    ("scocache", "segments_ready_max", || [json!(16), json!(12)]),
    ("logging", "log_level", || [json!("info"), json!("warn")]),
    ("volume_manager", "metadata_cache_capacity", || [json!(32768), json!(24576)]),
    ("metrics", "metrics_per_volume", || [json!(true), json!(false)]),
    ("volume_manager", "record_gather_size", || [json!("64KiB"), json!("48KiB")]),
    ("nbd", "nbd_reply_bytes_in_flight", || [json!("16MiB"), json!("12MiB")]),
    ("scocache", "trigger_gap", || [json!("1GB"), json!("900MB")]),
    ("volume_manager", "log_records_in_flight", || [json!(4), json!(6)]),
];

/// One run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Run {
    /// I/Os a second.
    pub(super) iops: f64,
    /// Latency of reads.
    pub(super) read: Latency,
    /// Latency of writes.
    pub(super) write: Latency,
    /// Share of the machine that processes outside the harness took, 0 to 1.
    pub(super) foreign: f64,
    /// Feedbacks that said applied.
    pub(super) applied: u64,
    /// Feedbacks that said superseded: a newer change came before it was done.
    pub(super) superseded: u64,
    /// Changes that were applied, a second.
    pub(super) applied_per_second: f64,
}

/// All runs; entry `i` of both lists is of repeat `i`.
#[derive(Debug, Serialize)]
pub(super) struct Changes {
    pub(super) volume_size: u64,
    pub(super) rate: u32,
    pub(super) per_second: u32,
    pub(super) runtime_s: f64,
    /// Sections that change.
    pub(super) sections: usize,
    pub(super) without: Vec<Run>,
    pub(super) with: Vec<Run>,
}

/// What a client counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    asked: u64,
    applied: u64,
    superseded: u64,
    took: Duration,
}

/// Runs it.
pub(super) fn run(workspace: &Workspace, course: &UpdateCourse) -> Result<Changes> {
    let volume_size = workspace.options.size_or(512 * MIB);
    workspace.need_space(3 * volume_size)?;
    let (_, plan) = subject(workspace, volume_size)?;
    let mut instance = prepare(workspace, plan)?;
    instance.start()?;
    let target = instance.target()?.clone();
    Job::fill(&target, volume_size).run(&workspace.directory)?;
    let node = Node::of(&instance)?;
    let repeats = workspace.options.repeats();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        // Who is first changes from repeat to repeat.
        for changing in if repeat.is_multiple_of(2) { [false, true] } else { [true, false] } {
            let run = measure(workspace, course, &mut instance, changing.then_some(&node), repeat as u64)?;
            if changing { &mut with } else { &mut without }.push(run);
        }
        eprintln!("changes: repeat {} of {repeats} done", repeat + 1);
    }
    Ok(Changes {
        volume_size,
        rate: course.rate,
        per_second: course.per_second,
        runtime_s: workspace.options.runtime().as_secs_f64(),
        sections: ROTATION
            .map(|(section, ..)| section)
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        without,
        with,
    })
}

/// One run of fio; with a node its parameters change meanwhile.
fn measure(
    workspace: &Workspace,
    course: &UpdateCourse,
    instance: &mut Instance,
    node: Option<&Node>,
    repeat: u64,
) -> Result<Run> {
    workspace.calm(false)?;
    let target = instance.target()?.clone();
    let time = workspace.options.runtime();
    let job = Job {
        pattern: Pattern::RandMix(50),
        rate: Some(course.rate / 2),
        ramp: (time / 4).max(Duration::from_millis(100)),
        ..Job::random_writes(&target, instance.size(), DEPTH, End::Time(time), 100 + repeat)
    };
    let over = AtomicBool::new(false);
    let (observed, counted) = std::thread::scope(|scope| {
        let changing = node.map(|node| scope.spawn(|| node.change(course.per_second, repeat, &over)));
        let observed = observe(instance, &job, &workspace.disk, &workspace.directory);
        over.store(true, Ordering::Relaxed);
        let counted = changing.map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        (observed, counted)
    });
    let (report, samples) = observed?;
    let counted = counted.transpose()?.unwrap_or_default();
    let ended = samples.last().map_or(0.0, |sample| sample.at_ms);
    let began = samples.first().map_or(0.0, |sample| sample.at_ms);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let foreign_us = growth(&samples, began + 1.0, ended, |sample| sample.foreign_cpu_us).unwrap_or(0.0);
    Ok(Run {
        iops: report.read.iops + report.write.iops,
        read: report.read.latency,
        write: report.write.latency,
        foreign: foreign_us / ((ended - began) * 1e3).max(1.0) / cpus,
        applied: counted.applied,
        superseded: counted.superseded,
        applied_per_second: counted.applied as f64 / counted.took.as_secs_f64().max(1e-9),
    })
}

/// Where a node has its configuration.
#[derive(Debug)]
struct Node {
    store: String,
    vpool: String,
    host: String,
}

impl Node {
    fn of(instance: &Instance) -> Result<Node> {
        let path = instance.directory().join("data/endpoints.json");
        let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path))?;
        let endpoints: Json = serde_json::from_str(&text).map_err(problem)?;
        let text = |name: &str| {
            let text = endpoints[name].as_str().map(str::to_string);
            text.ok_or_else(|| problem(format!("its endpoints have no '{name}'")))
        };
        Ok(Node { store: text("etcd")?, vpool: text("vpool_guid")?, host: text("vrouter_id")? })
    }

    /// Changes one parameter after the other until `over`; then all have the values of a new node again.
    fn change(&self, per_second: u32, repeat: u64, over: &AtomicBool) -> Result<Counted> {
        runtime()?.block_on(async {
            let vpool = Vpool::open(&self.store, &self.vpool)?;
            let update = vpool.key(&self.host, "update")?;
            let mut documents = self.documents(&vpool).await?;
            let mut listener = vpool.listen().await?;
            let mut ticks = interval(Duration::from_secs(1) / per_second.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (began, mut counted) = (Instant::now(), Counted::default());
            while !over.load(Ordering::Relaxed) {
                tokio::select! {
                    _ = ticks.tick() => {
                        let step = counted.asked as usize;
                        let (section, key, values) = ROTATION[step % ROTATION.len()];
                        let document = documents.entry(section).or_default();
                        // One pass brings the other values, the next one those of a new node.
                        let value = &values()[(step / ROTATION.len() + 1) % 2];
                        document.insert(key.to_string(), value.clone());
                        let text = Json::Object(document.clone()).to_string();
                        vpool.put(&vpool.key(&self.host, &format!("config/{section}"))?, text).await?;
                        vpool.ask(&update, &format!("bench-{repeat}-{step}")).await?;
                        counted.asked += 1;
                    }
                    heard = listener.next() => counted.count(heard?)?,
                }
            }
            counted.took = began.elapsed();
            counted.rest(&mut listener).await?;
            self.settle(&vpool, &mut listener, documents, &format!("bench-{repeat}-end")).await?;
            Ok(counted)
        })
    }

    /// The stored documents of what changes.
    async fn documents(&self, vpool: &Vpool) -> Result<BTreeMap<&'static str, Map<String, Json>>> {
        let mut documents = BTreeMap::new();
        for (section, ..) in ROTATION {
            let key = vpool.key(&self.host, &format!("config/{section}"))?;
            let document = match vpool.store.get(&key, None).await {
                Ok(pair) => serde_json::from_slice(&pair.value).map_err(problem)?,
                Err(cfg_client::Error::Absent { .. }) => Map::new(),
                Err(error) => return Err(problem(error)),
            };
            documents.insert(section, document);
        }
        Ok(documents)
    }

    /// Brings back the values of a new node.
    async fn settle(
        &self,
        vpool: &Vpool,
        listener: &mut Listener,
        mut documents: BTreeMap<&'static str, Map<String, Json>>,
        id: &str,
    ) -> Result<()> {
        for (section, key, values) in ROTATION {
            let [first, _] = values();
            documents.entry(section).or_default().insert(key.to_string(), first);
        }
        for (section, document) in documents {
            let key = vpool.key(&self.host, &format!("config/{section}"))?;
            vpool.put(&key, Json::Object(document).to_string()).await?;
        }
        vpool.ask(&vpool.key(&self.host, "update")?, id).await?;
        loop {
            if let Some((.., feedback)) = listener.next().await?
                && feedback.id == id
            {
                // Nothing is different if the last pass came to its end.
                return Ok(());
            }
        }
    }
}

impl Counted {
    fn count(&mut self, heard: Option<(Instant, String, cfg_engine::Feedback)>) -> Result<()> {
        let Some((.., feedback)) = heard else { return Ok(()) };
        if feedback.outcome == Outcome::Superseded {
            self.superseded += 1;
            return Ok(());
        }
        check(&feedback)?;
        self.applied += 1;
        Ok(())
    }

    /// Waits for the answers that are missing.
    async fn rest(&mut self, listener: &mut Listener) -> Result<()> {
        while self.applied + self.superseded < self.asked {
            let heard = listener.next().await?;
            self.count(heard)?;
        }
        Ok(())
    }
}
