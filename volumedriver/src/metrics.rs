//! Prometheus metrics of the driver. Histograms are kept by the data threads and handed in when somebody asks;
//! everything else is read off the volumes and the pool at that moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, TextEncoder,
};

use crate::data_thread::letters::{ThreadReport, VolumeReport};
use crate::driver::{VolumeInfo, VolumeState};
use crate::nbd::listener::Admission;
use crate::performance::Totals;
use crate::pool::keeper::Levels;
use crate::volume::Counters;

/// Upper bounds of the latency buckets, seconds: from a hit in memory to a disk in trouble.
const BUCKETS: [f64; 16] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_35, 0.000_5, 0.000_75, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1,
    0.5, 2.0, 10.0,
];

/// A total of a volume: name without prefix, help, and where it comes from.
type Total = (&'static str, &'static str, fn(&Counters) -> u64);

const TOTALS: [Total; 16] = [
    ("reads_total", "Reads of clients.", |c| c.reads),
    ("writes_total", "Writes of clients.", |c| c.writes),
    ("flushes_total", "Flushes of clients.", |c| c.flushes),
    ("ignored_flushes_total", "Flushes that were answered without a sync.", |c| c.ignored_flushes),
    ("trims_total", "Trims and write-zeroes of clients.", |c| c.empties),
    ("read_bytes_total", "Bytes given to clients.", |c| c.read_bytes),
    ("written_bytes_total", "Bytes taken from clients.", |c| c.written_bytes),
    ("log_bytes_total", "Bytes written to the log, headers included.", |c| c.log_bytes),
    ("log_records_total", "Records written to the log.", |c| c.records),
    ("log_syncs_total", "Syncs of the log.", |c| c.syncs),
    ("relocated_bytes_total", "Bytes written by compaction, headers included.", |c| c.relocated_bytes),
    ("compaction_read_bytes_total", "Bytes read by compaction.", |c| c.compaction_read_bytes),
    ("map_bytes_total", "Bytes of runs written.", |c| c.run_bytes),
    ("manifests_total", "Manifests written.", |c| c.manifests),
    ("damaged_clusters_total", "Clusters that did not match their checksum.", |c| c.damaged_clusters),
    ("no_space_total", "Requests refused for lack of space.", |c| c.no_space),
];

/// See the module.
pub struct Metrics {
    request_seconds: HistogramVec,
    /// Whether there is a label `volume`.
    per_volume: AtomicBool,
    backend: Mutex<String>,
}

impl Metrics {
    /// No samples yet. With `per_volume` metrics of volumes carry their name, else they are sums.
    pub fn new(per_volume: bool) -> Self {
        let opts = HistogramOpts::new(
            "ovs_volume_request_seconds",
            "Time of clients' requests: until the volume got it (receive), in the volume (log), until the kernel \
             took the reply (reply).",
        );
        let request_seconds = HistogramVec::new(opts.buckets(BUCKETS.to_vec()), &["op", "stage"])
            .expect("the name, labels and buckets are valid");
        Self { request_seconds, per_volume: AtomicBool::new(per_volume), backend: Mutex::default() }
    }

    /// Whether metrics of volumes carry their name from now on.
    pub(crate) fn set_per_volume(&self, per_volume: bool) {
        self.per_volume.store(per_volume, Ordering::Relaxed);
    }

    /// One op's and stage's histogram.
    pub(crate) fn request_seconds(&self, op: &str, stage: &str) -> Histogram {
        self.request_seconds.with_label_values(&[op, stage])
    }

    /// How data threads do their I/O.
    pub(crate) fn set_backend(&self, backend: &str) {
        // A name as label, without the probe's explanations.
        let name = backend.split([' ', ',']).next().unwrap_or_default();
        *self.backend.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text<'a>(
        &self,
        volumes: impl Iterator<Item = (VolumeInfo, Option<&'a VolumeReport>)>,
        threads: &[ThreadReport],
        levels: Option<&Levels>,
        admission: Option<&Admission>,
    ) -> String {
        let mut families = self.request_seconds.collect();
        self.collect_volumes(volumes, &mut families);
        collect_caches(threads, &mut families);
        if let Some(levels) = levels {
            collect_pool(levels, &mut families);
        }
        if let Some(admission) = admission {
            gauge(
                &mut families,
                "ovs_nbd_places_taken",
                "Connections, negotiating ones included.",
                admission.open() as u64,
            );
            counter(
                &mut families,
                "ovs_nbd_refused_total",
                "Connections closed because there was no place.",
                admission.refused(),
            );
        }
        let backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner).clone();
        labelled_gauge(
            &mut families,
            "ovs_io_backend",
            "How data threads do their I/O.",
            "backend",
            &[(&backend, 1)],
        );
        families.retain(|family| !family.get_metric().is_empty());
        // Only a family without metrics is refused, and those are gone.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn collect_volumes<'a>(
        &self,
        volumes: impl Iterator<Item = (VolumeInfo, Option<&'a VolumeReport>)>,
        families: &mut Vec<MetricFamily>,
    ) {
        let per_volume = self.per_volume.load(Ordering::Relaxed);
        let labels: &[&str] = if per_volume { &["volume"] } else { &[] };
        let totals: Vec<IntCounterVec> = TOTALS
            .iter()
            .map(|(name, help, _)| counters(&format!("ovs_volume_{name}"), help, labels))
            .collect();
        let size = gauges("ovs_volume_size_bytes", "Bytes offered to clients.", labels);
        let stored = gauges("ovs_volume_stored_bytes", "Bytes of log on the local disk.", labels);
        let memtable = gauges("ovs_volume_memtable_bytes", "Map entries in memory.", labels);
        let connections = gauges("ovs_volume_connections", "Clients.", labels);
        let pages = gauges("ovs_volume_map_pages", "Pages of its map in memory.", labels);
        let answered = AnswerTotals::new(labels);
        let (mut running, mut halted) = (0, 0);
        for (info, report) in volumes {
            let values: &[&str] = if per_volume { &[&info.name] } else { &[] };
            match info.state {
                VolumeState::Running => running += 1,
                VolumeState::Halted { .. } => halted += 1,
            }
            size.with_label_values(values).add(info.size as i64);
            stored.with_label_values(values).add(info.stored_bytes as i64);
            connections.with_label_values(values).add(i64::from(info.connections));
            let Some(report) = report else { continue };
            memtable.with_label_values(values).add(report.memtable_bytes as i64);
            pages.with_label_values(values).add(report.map_pages as i64);
            answered.add(values, &report.totals);
            for (counter, (_, _, value)) in totals.iter().zip(TOTALS) {
                counter.with_label_values(values).inc_by(value(&report.counters));
            }
        }
        families.extend(totals.iter().flat_map(Collector::collect));
        families.extend([size, stored, memtable, connections, pages].iter().flat_map(Collector::collect));
        families.extend(answered.requests.collect());
        families.extend(answered.seconds.collect());
        let states = [("running", running), ("halted", halted)];
        labelled_gauge(families, "ovs_volumes", "Volumes by state.", "state", &states);
    }
}

/// Requests of volumes that were answered, and the time that took.
struct AnswerTotals {
    requests: IntCounterVec,
    seconds: CounterVec,
}

impl AnswerTotals {
    fn new(labels: &[&str]) -> Self {
        let labels = [labels, &["op"]].concat();
        let help = "Time from the moment a volume got clients' requests until it answered, altogether.";
        let opts = Opts::new("ovs_volume_answer_seconds_total", help);
        Self {
            requests: counters(
                "ovs_volume_answered_total",
                "Requests of clients answered without an error.",
                &labels,
            ),
            seconds: CounterVec::new(opts, &labels).expect("names and labels are constants and valid"),
        }
    }

    fn add(&self, values: &[&str], totals: &Totals) {
        for (op, total) in [("read", totals.read), ("write", totals.write), ("flush", totals.flush)] {
            let values = [values, &[op]].concat();
            self.requests.with_label_values(&values).inc_by(total.events);
            self.seconds.with_label_values(&values).inc_by(total.usecs as f64 / 1e6);
        }
    }
}

fn collect_caches(threads: &[ThreadReport], families: &mut Vec<MetricFamily>) {
    let sum = |value: fn(&ThreadReport) -> u64| threads.iter().map(value).sum();
    counter(families, "ovs_page_cache_hits_total", "Pages of maps found in memory.", sum(|t| t.page_hits));
    counter(families, "ovs_page_cache_misses_total", "Pages of maps read from disk.", sum(|t| t.page_misses));
    gauge(families, "ovs_page_cache_bytes", "Pages of maps in memory.", sum(|t| t.page_bytes as u64));
}

fn collect_pool(levels: &Levels, families: &mut Vec<MetricFamily>) {
    let (view, census, counts) = (levels.view(), levels.census(), levels.counters());
    let size = levels.segment_size();
    let states = [
        ("free", u64::from(census.free)),
        ("used", u64::from(census.used)),
        ("making", u64::from(census.making)),
        ("absent", u64::from(census.absent)),
    ];
    labelled_gauge(families, "ovs_scocache_segments", "Segments by state.", "state", &states);
    for (name, help, value) in [
        ("ovs_scocache_bytes", "Bytes of all segments there may be.", u64::from(view.total) * size),
        (
            "ovs_scocache_free_bytes",
            "Bytes of segments that the log can still get.",
            u64::from(view.free) * size,
        ),
        ("ovs_scocache_used_bytes", "Bytes of segments that volumes own.", u64::from(census.used) * size),
        (
            "ovs_scocache_trigger_bytes",
            "Compaction begins below this much free.",
            u64::from(view.trigger) * size,
        ),
        (
            "ovs_scocache_backoff_bytes",
            "Compaction ends above this much free.",
            u64::from(view.backoff) * size,
        ),
        ("ovs_scocache_reserve_missing_bytes", "Bytes that the reserve lacks.", counts.reserve_missing),
    ] {
        gauge(families, name, help, value);
    }
    for (name, help, value) in [
        ("ovs_scocache_grants_total", "Segments given to volumes.", counts.grants),
        ("ovs_scocache_empty_grants_total", "Questions for segments that got none.", counts.empty_grants),
        ("ovs_scocache_segments_made_total", "Segments written with zeros.", counts.made),
        ("ovs_scocache_no_space_total", "Segments that could not be made.", counts.no_space),
    ] {
        counter(families, name, help, value);
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("names and labels are constants and valid")
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("names and labels are constants and valid")
}

fn counter(families: &mut Vec<MetricFamily>, name: &str, help: &str, value: u64) {
    let counters = counters(name, help, &[]);
    counters.with_label_values::<&str>(&[]).inc_by(value);
    families.extend(counters.collect());
}

fn gauge(families: &mut Vec<MetricFamily>, name: &str, help: &str, value: u64) {
    let gauges = gauges(name, help, &[]);
    gauges.with_label_values::<&str>(&[]).set(value as i64);
    families.extend(gauges.collect());
}

fn labelled_gauge(
    families: &mut Vec<MetricFamily>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) {
    let gauges = gauges(name, help, &[label]);
    for (value, count) in values {
        gauges.with_label_values(&[value]).set(*count as i64);
    }
    families.extend(gauges.collect());
}
