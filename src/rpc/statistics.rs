//! What volumes did, in the shape of the original. It counted more: what is not measured here has a neutral value.
//! A reset is one of the volume's counts, and concerns all who ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use dxr::Value;
use volumedriver::performance::{Distribution, Performance};

use super::Server;
use super::failed::Failed;
use super::table::Routing::Redirected;
use super::table::{Method, here};
use super::values::{Arguments, number, record};
use crate::driver::{Driver, VolumeError, VolumeStats};

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

/// Which of both forms of the statistics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// With buckets.
    New,
    /// Of the methods without `V3`.
    Old,
}

async fn volume(server: Arc<Server>, arguments: Arguments, shape: Shape) -> Result<Value, Failed> {
    let (volume, reset) = (arguments.text("volume_id")?, arguments.lenient_flag("reset", false)?);
    let info = server.volume(volume).await?;
    let sought = volume.to_owned();
    let stats = server.ask(move |driver| stats(driver, &sought, reset)).await?;
    let stats = stats.map_err(|error| Failed::of_volume(volume, error))?;
    Ok(shown(&stats.performance, info.stored_bytes, shape))
}

async fn node(server: Arc<Server>, arguments: Arguments, shape: Shape) -> Result<Value, Failed> {
    let reset = arguments.lenient_flag("reset", false)?;
    let all = server.ask(move |driver| {
        let mut sum = Performance::default();
        let here = driver.list();
        for info in &here {
            // Halted volumes count nothing.
            if let Ok(stats) = stats(driver, &info.name, reset) {
                sum.add(&stats.performance);
            }
        }
        (sum, here.iter().map(|info| info.stored_bytes).fold(0, u64::saturating_add))
    });
    let (sum, stored) = all.await?;
    Ok(shown(&sum, stored, shape))
}

/// Statistics of a volume; `reset` begins anew.
fn stats(driver: &Driver, volume: &str, reset: bool) -> Result<VolumeStats, VolumeError> {
    if reset { driver.take_stats(volume) } else { driver.stats(volume) }
}

fn counter(counted: &Distribution, shape: Shape) -> Value {
    let mut counter = BTreeMap::from([
        ("events".to_owned(), number(counted.events)),
        ("sum".to_owned(), number(counted.sum)),
        ("sqsum".to_owned(), number(counted.sum_of_squares)),
        ("min".to_owned(), number(counted.min)),
        ("max".to_owned(), number(counted.max)),
    ]);
    if shape == Shape::New {
        let buckets = counted.buckets.iter().map(|&count| number(count)).collect();
        counter.insert("buckets".to_owned(), Value::Array(buckets));
    }
    Value::Struct(counter)
}

fn shown(counted: &Performance, stored: u64, shape: Shape) -> Value {
    let shown = |counted: &Distribution| counter(counted, shape);
    // There is no backend.
    let nothing = Performance::default();
    let Performance { read, write, flush_usecs } = counted;
    let counters = record([
        ("write_request_size", shown(&write.size)),
        ("write_request_usecs", shown(&write.usecs)),
        ("unaligned_write_request_size", shown(&write.unaligned_size)),
        ("backend_write_request_usecs", shown(&nothing.write.usecs)),
        ("backend_write_request_size", shown(&nothing.write.size)),
        ("read_request_size", shown(&read.size)),
        ("read_request_usecs", shown(&read.usecs)),
        ("unaligned_read_request_size", shown(&read.unaligned_size)),
        ("backend_read_request_size", shown(&nothing.read.size)),
        ("backend_read_request_usecs", shown(&nothing.read.usecs)),
        ("sync_request_usecs", shown(flush_usecs)),
    ]);
    let common = [
        ("sco_cache_hits", number(read.size.events)),
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
