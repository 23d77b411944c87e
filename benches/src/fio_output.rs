//! What fio reports: its JSON document and its histogram log.
//!
//! Source: fio's HOWTO ("Normal output", "JSON output", "Log file formats") and `stat.h` for the bins.

use serde::{Deserialize, Serialize};

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Arithmetic mean.
    pub(crate) mean_us: f64,
    /// Half were at most this.
    pub(crate) p50_us: f64,
    /// 99 % were at most this.
    pub(crate) p99_us: f64,
    /// 99.9 % were at most this.
    pub(crate) p999_us: f64,
}

/// One direction of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Direction {
    /// I/Os that counted.
    pub(crate) ios: u64,
    /// Bytes that counted.
    pub(crate) bytes: u64,
    /// I/Os a second.
    pub(crate) iops: f64,
    /// Bytes a second.
    pub(crate) bytes_per_second: f64,
    /// Milliseconds that counted.
    pub(crate) runtime_ms: f64,
    /// Completion latency.
    pub(crate) latency: Latency,
}

/// One run, all jobs together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct FioReport {
    /// Milliseconds since 1970 when fio made the report, at most about 0.15 s after the last I/O.
    pub(crate) end_ms: f64,
    /// Reads.
    pub(crate) read: Direction,
    /// Writes.
    pub(crate) write: Direction,
    /// Trims.
    pub(crate) trim: Direction,
    /// Latency of flushes, if there were any.
    pub(crate) flush: Option<Latency>,
    /// Windows, if they were asked for.
    pub(crate) windows: Vec<Window>,
}

/// A stretch of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Window {
    /// Seconds from the start of the run to the start of the window.
    pub(crate) from_s: f64,
    /// Its length in seconds.
    pub(crate) length_s: f64,
    /// I/Os a second in it.
    pub(crate) iops: f64,
    /// Half of its latencies were at most this, microseconds.
    pub(crate) p50_us: f64,
    /// 99 % of its latencies were at most this, microseconds.
    pub(crate) p99_us: f64,
}

#[derive(Deserialize)]
struct Document {
    timestamp_ms: f64,
    jobs: Vec<JobPart>,
}

#[derive(Deserialize)]
struct JobPart {
    error: i32,
    read: DirectionPart,
    write: DirectionPart,
    trim: DirectionPart,
    sync: SyncPart,
}

#[derive(Deserialize)]
struct DirectionPart {
    total_ios: u64,
    io_bytes: u64,
    bw_bytes: f64,
    iops: f64,
    runtime: f64,
    clat_ns: LatencyPart,
}

#[derive(Deserialize)]
struct SyncPart {
    total_ios: u64,
    lat_ns: LatencyPart,
}

#[derive(Deserialize)]
struct LatencyPart {
    #[serde(default)]
    mean: f64,
    #[serde(default)]
    percentile: std::collections::BTreeMap<String, f64>,
}

impl LatencyPart {
    fn latency(&self) -> Latency {
        let percentile = |wanted: f64| {
            let found = self
                .percentile
                .iter()
                .find(|(k, _)| k.parse::<f64>().is_ok_and(|p| (p - wanted).abs() < 1e-6));
            found.map_or(0.0, |(_, ns)| ns / 1e3)
        };
        let (p50_us, p99_us, p999_us) = (percentile(50.0), percentile(99.0), percentile(99.9));
        Latency { mean_us: self.mean / 1e3, p50_us, p99_us, p999_us }
    }
}

impl DirectionPart {
    fn direction(&self) -> Direction {
        Direction {
            ios: self.total_ios,
            bytes: self.io_bytes,
            iops: self.iops,
            bytes_per_second: self.bw_bytes,
            runtime_ms: self.runtime,
            latency: self.clat_ns.latency(),
        }
    }
}

/// Reads fio's JSON output of one group; lines before the document are skipped.
pub(crate) fn parse(text: &str) -> Result<FioReport, String> {
    let start = text.find('{').ok_or_else(|| format!("no report: {}", text.trim()))?;
    let document: Document =
        serde_json::from_str(&text[start..]).map_err(|e| format!("unexpected report: {e}"))?;
    let [job] = document.jobs.as_slice() else {
        return Err(format!("{} groups in the report instead of one", document.jobs.len()));
    };
    if job.error != 0 {
        let reason = std::io::Error::from_raw_os_error(job.error);
        return Err(format!("the run ended with an error: {reason}"));
    }
    let report = FioReport {
        end_ms: document.timestamp_ms,
        read: job.read.direction(),
        write: job.write.direction(),
        trim: job.trim.direction(),
        flush: (job.sync.total_ios > 0).then(|| job.sync.lat_ns.latency()),
        windows: Vec::new(),
    };
    if report.read.ios + report.write.ios + report.trim.ios == 0 {
        return Err("no I/O was counted".to_string());
    }
    Ok(report)
}

/// Bins in one power of two of fio's histograms.
const BINS_PER_OCTAVE: usize = 64;

/// Middle of the latencies, in nanoseconds, that fio counts in `bin`.
fn bin_ns(bin: usize) -> f64 {
    if bin < 2 * BINS_PER_OCTAVE {
        return bin as f64;
    }
    let shift = bin / BINS_PER_OCTAVE - 1;
    let width = (1u64 << shift.min(57)) as f64;
    let start = width * BINS_PER_OCTAVE as f64;
    start + ((bin % BINS_PER_OCTAVE) as f64 + 0.5) * width
}

fn percentile_us(bins: &[u64], share: f64) -> f64 {
    let total: u64 = bins.iter().sum();
    let wanted = (total as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (bin, count) in bins.iter().enumerate() {
        seen += count;
        if seen >= wanted && seen > 0 {
            return bin_ns(bin) / 1e3;
        }
    }
    0.0
}

/// Reads a histogram log of one job and one direction: a line a window, "time in ms, direction, block, counts".
pub(crate) fn parse_histogram_log(text: &str) -> Result<Vec<Window>, String> {
    let mut windows = Vec::new();
    let mut last_ms = 0.0;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let fields: Result<Vec<u64>, _> = line.split(',').map(|f| f.trim().parse::<u64>()).collect();
        let fields = fields.map_err(|e| format!("histogram log: {e}"))?;
        let [time_ms, _direction, _block, bins @ ..] = fields.as_slice() else {
            return Err("histogram log: a line is short".to_string());
        };
        let length_s = (*time_ms as f64 - last_ms) / 1e3;
        let total: u64 = bins.iter().sum();
        if length_s <= 0.0 {
            return Err(
                "histogram log: its times do not grow; is there more than one direction in it?".to_string()
            );
        }
        windows.push(Window {
            from_s: last_ms / 1e3,
            length_s,
            iops: total as f64 / length_s,
            p50_us: percentile_us(bins, 0.5),
            p99_us: percentile_us(bins, 0.99),
        });
        last_ms = *time_ms as f64;
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from fio 3.33 on its nbd engine: 70 % reads, depth 32.
    const MIX: &str = include_str!("../samples/fio-mix.json");
    /// The same with a flush after each write.
    const FLUSH: &str = include_str!("../samples/fio-flush.json");

    #[test]
    fn mixed_run() {
        let report = parse(MIX).unwrap();
        assert_eq!((report.read.ios, report.write.ios, report.trim.ios), (157_390, 67_846, 0));
        assert!((report.read.iops - 78_655.67).abs() < 0.01);
        assert_eq!(report.read.latency.p99_us, 419.84);
        assert_eq!(report.read.latency.p999_us, 1171.456);
        assert_eq!(report.end_ms, 1_795_249_160_867.0);
        assert_eq!(report.flush, None);
    }

    #[test]
    fn flushes_are_apart() {
        let report = parse(FLUSH).unwrap();
        assert_eq!(report.flush.unwrap().p50_us, 43.264);
        assert_eq!(report.write.ios, 11_475);
    }

    #[test]
    fn failures_are_not_taken_for_results() {
        assert!(parse("fio: nbd_connect_uri: refused").is_err());
        assert!(parse(&MIX.replace("\"error\" : 0", "\"error\" : 22")).is_err());
        assert!(parse(&MIX.replace("total_ios", "other_ios")).is_err());
    }

    #[test]
    fn text_before_the_document_is_skipped() {
        assert_eq!(parse(&format!("fio: a warning\n{MIX}")).unwrap(), parse(MIX).unwrap());
    }

    #[test]
    fn bins_are_those_of_fio() {
        assert_eq!(bin_ns(5), 5.0);
        assert_eq!(bin_ns(127), 127.0);
        // The first wide bin holds 128 and 129.
        assert_eq!(bin_ns(128), 129.0);
        assert_eq!(bin_ns(192), 258.0);
    }

    #[test]
    fn histogram_windows() {
        let mut bins = vec![0u64; 1856];
        bins[100] = 99;
        bins[128] = 1;
        let counts = bins.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let log = format!("1000, 1, 4096, {counts}\n3000, 1, 4096, {counts}\n");
        let windows = parse_histogram_log(&log).unwrap();
        assert_eq!(windows.len(), 2);
        assert_eq!((windows[1].from_s, windows[1].length_s, windows[1].iops), (1.0, 2.0, 50.0));
        assert_eq!((windows[0].p50_us, windows[0].p99_us), (0.1, 0.1));
        assert!(parse_histogram_log("1000, 0, 4096, 1\n1000, 1, 4096, 1\n").is_err());
        assert!(parse_histogram_log("1, 2").is_err());
    }
}
