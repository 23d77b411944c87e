//! What volumes did, in the shape of the original. It counted more: what is not measured here has a neutral value.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dxr::Value;

use super::Server;
use super::failed::Failed;
use super::table::Routing::Redirected;
use super::table::{Method, here};
use super::values::{Arguments, number, record};
use crate::driver::{VolumeInfo, VolumeStats};

/// See the module.
pub(super) const METHODS: &[Method] = &[
    here(
        "volumePerformanceCountersV3",
        Redirected,
        |s, a| Box::pin(volume(s, a, Shape::New)),
        "What a volume did. \
        `volume_id`, [`reset`].",
    ),
    here(
        "volumePerformanceCounters",
        Redirected,
        |s, a| Box::pin(volume(s, a, Shape::Old)),
        "The same without \
        distributions. `volume_id`, [`reset`].",
    ),
    here(
        "volumeDriverPerformanceCountersV3",
        Redirected,
        |s, a| Box::pin(node(s, a, Shape::New)),
        "What the volumes \
        of a driver did, summed. [`vrouter_id`], [`reset`].",
    ),
    here(
        "volumeDriverPerformanceCounters",
        Redirected,
        |s, a| Box::pin(node(s, a, Shape::Old)),
        "The same without \
        distributions. [`vrouter_id`], [`reset`].",
    ),
];

/// Buckets of sizes and of times.
const SIZE_BUCKETS: usize = 8;
const TIME_BUCKETS: usize = 10;

/// Which of both forms of the statistics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// With buckets.
    New,
    /// Of the methods without `V3`.
    Old,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    flushes: u64,
}

impl Counts {
    fn of(stats: &VolumeStats) -> Counts {
        let VolumeStats { reads, read_bytes, writes, written_bytes, flushes, .. } = *stats;
        Counts { reads, read_bytes, writes, written_bytes, flushes }
    }

    fn with(self, other: Counts, join: fn(u64, u64) -> u64) -> Counts {
        Counts {
            reads: join(self.reads, other.reads),
            read_bytes: join(self.read_bytes, other.read_bytes),
            writes: join(self.writes, other.writes),
            written_bytes: join(self.written_bytes, other.written_bytes),
            flushes: join(self.flushes, other.flushes),
        }
    }
}

/// What each volume had counted at its last `reset`, by its UUID. The driver's own counters go on.
#[derive(Default)]
pub(super) struct Baselines(Mutex<BTreeMap<String, Counts>>);

impl Baselines {
    /// The counts of a volume since its last reset; `reset` begins anew.
    fn since(&self, uuid: &str, counts: Counts, reset: bool) -> Counts {
        let mut baselines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = baselines.get(uuid).copied().unwrap_or_default();
        if reset {
            baselines.insert(uuid.to_owned(), counts);
        }
        counts.with(before, u64::saturating_sub)
    }

    /// Forgets volumes that are not among `here`.
    fn keep(&self, here: &[VolumeInfo]) {
        let mut baselines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        baselines.retain(|uuid, _| here.iter().any(|info| info.uuid == *uuid));
    }
}

async fn volume(server: Arc<Server>, arguments: Arguments, shape: Shape) -> Result<Value, Failed> {
    let (volume, reset) = (arguments.text("volume_id")?, arguments.lenient_flag("reset", false)?);
    let info = server.volume(volume).await?;
    let sought = volume.to_owned();
    let stats = server.ask(move |driver| driver.stats(&sought)).await?;
    let stats = stats.map_err(|error| Failed::of_volume(volume, error))?;
    let counts = server.baselines.since(&info.uuid, Counts::of(&stats), reset);
    Ok(shown(counts, info.stored_bytes, shape))
}

async fn node(server: Arc<Server>, arguments: Arguments, shape: Shape) -> Result<Value, Failed> {
    let reset = arguments.lenient_flag("reset", false)?;
    let all = server.ask(|driver| {
        let here = driver.list();
        // Halted volumes count nothing.
        let stats: Vec<_> = here.iter().map(|info| driver.stats(&info.name).ok()).collect();
        (here, stats)
    });
    let (here, stats) = all.await?;
    server.baselines.keep(&here);
    let mut sum = Counts::default();
    for (info, stats) in here.iter().zip(&stats) {
        if let Some(stats) = stats {
            let counts = server.baselines.since(&info.uuid, Counts::of(stats), reset);
            sum = sum.with(counts, u64::saturating_add);
        }
    }
    let stored = here.iter().map(|info| info.stored_bytes).fold(0, u64::saturating_add);
    Ok(shown(sum, stored, shape))
}

/// A counter; of its samples nothing is known but their number and sum.
fn counter(events: u64, sum: u64, buckets: usize, shape: Shape) -> Value {
    let mut counter = BTreeMap::from([
        ("events".to_owned(), number(events)),
        ("sum".to_owned(), number(sum)),
        ("sqsum".to_owned(), number(0)),
        ("min".to_owned(), number(u64::MAX)),
        ("max".to_owned(), number(0)),
    ]);
    if shape == Shape::New {
        counter.insert("buckets".to_owned(), Value::Array(vec![number(0); buckets]));
    }
    Value::Struct(counter)
}

fn shown(counts: Counts, stored: u64, shape: Shape) -> Value {
    let sizes = |events, sum| counter(events, sum, SIZE_BUCKETS, shape);
    let times = |events| counter(events, 0, TIME_BUCKETS, shape);
    let counters = record([
        ("write_request_size", sizes(counts.writes, counts.written_bytes)),
        ("write_request_usecs", times(counts.writes)),
        ("unaligned_write_request_size", sizes(0, 0)),
        ("backend_write_request_usecs", times(0)),
        ("backend_write_request_size", sizes(0, 0)),
        ("read_request_size", sizes(counts.reads, counts.read_bytes)),
        ("read_request_usecs", times(counts.reads)),
        ("unaligned_read_request_size", sizes(0, 0)),
        ("backend_read_request_size", sizes(0, 0)),
        ("backend_read_request_usecs", times(0)),
        ("sync_request_usecs", times(counts.flushes)),
    ]);
    let common = [
        ("sco_cache_hits", number(counts.reads)),
        ("sco_cache_misses", number(0)),
        ("cluster_cache_hits", number(0)),
        ("cluster_cache_misses", number(0)),
        ("metadata_store_hits", number(0)),
        ("metadata_store_misses", number(0)),
        ("stored", number(stored)),
        ("performance_counters", counters),
    ];
    let Value::Struct(mut members) = record(common) else { return record([]) };
    if shape == Shape::New {
        members.insert("partial_read_fast".to_owned(), number(0));
        members.insert("partial_read_slow".to_owned(), number(0));
    }
    Value::Struct(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_gives_what_was_counted_and_begins_anew() {
        let baselines = Baselines::default();
        let counts = |reads| Counts { reads, ..Counts::default() };
        assert_eq!(baselines.since("a", counts(5), false).reads, 5);
        assert_eq!(baselines.since("a", counts(7), true).reads, 7);
        assert_eq!(baselines.since("a", counts(9), false).reads, 2);
        assert_eq!(baselines.since("b", counts(9), false).reads, 9, "another volume");
        baselines.keep(&[]);
        assert_eq!(baselines.since("a", counts(9), false).reads, 9);
    }
}
