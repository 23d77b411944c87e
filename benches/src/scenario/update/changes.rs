//! fio at a fixed rate, in turns without and with parameters that change all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cfg_engine::Outcome;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use tokio::time::{MissedTickBehavior, interval};

use super::UpdateCourse;
use super::client::{Listener, Vpool, check, problem};
use crate::error::Result;
use crate::scenario::paced::{Paced, Turns};
use crate::scenario::runtime;
use crate::server::Instance;
use crate::workspace::Workspace;

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

/// What was changed in one run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Changed {
    /// Feedbacks that said applied.
    pub(super) applied: u64,
    /// Feedbacks that said superseded: a newer change came before it was done.
    pub(super) superseded: u64,
    /// Changes that were applied, a second.
    pub(super) applied_per_second: f64,
}

/// All runs.
#[derive(Debug, Serialize)]
pub(super) struct Changes {
    pub(super) per_second: u32,
    /// Sections that change.
    pub(super) sections: usize,
    #[serde(flatten)]
    pub(super) turns: Turns<Changed>,
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
    let paced = Paced::start(workspace, course.rate)?;
    let node = Node::of(paced.instance())?;
    let turns = paced.turns("changes", |repeat, over| {
        let counted = node.change(course.per_second, repeat, over)?;
        Ok(Changed {
            applied: counted.applied,
            superseded: counted.superseded,
            applied_per_second: counted.applied as f64 / counted.took.as_secs_f64().max(1e-9),
        })
    })?;
    let sections = ROTATION.map(|(section, ..)| section).iter().collect::<BTreeSet<_>>().len();
    Ok(Changes { per_second: course.per_second, sections, turns })
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
        let endpoints = instance.endpoints()?;
        let text = |name: &str| endpoints.text(name).map(str::to_string);
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
