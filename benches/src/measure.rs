//! One measured run: fio in front, samples of the server beside it.

use std::path::Path;

use serde::Serialize;

use crate::accounting::{Sample, Sampler, growth};
use crate::disk::Disk;
use crate::error::Result;
use crate::fio::Job;
use crate::fio_output::{Direction, FioReport, Latency};
use crate::server::Instance;
use crate::workload::{Pattern, Speed, Workload};

/// fio writes its report at most this long after the last I/O.
const REPORT_DELAY_MS: f64 = 150.0;
/// Above this share of the machine, other processes make a run doubtful.
pub(crate) const FOREIGN_LIMIT: f64 = 0.08;

/// The figures of one run. A figure that does not exist for the side or the workload is `None`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// In the workload's unit of speed.
    pub(crate) speed: f64,
    /// I/Os that counted.
    pub(crate) ios: u64,
    /// Bytes that counted.
    pub(crate) bytes: u64,
    /// Completion latency of the main direction (of a mix: the reads).
    pub(crate) latency: Latency,
    /// Completion latency of the writes of a mix.
    pub(crate) write_latency: Option<Latency>,
    /// Latency of flushes.
    pub(crate) flush_latency: Option<Latency>,
    /// CPU time of the server, microseconds an I/O.
    pub(crate) cpu_us_per_io: Option<f64>,
    /// Highest resident memory of the server during the run, bytes.
    pub(crate) resident: Option<u64>,
    /// Highest resident memory of the server since its start, bytes.
    pub(crate) resident_peak: Option<u64>,
    /// Bytes the server caused to be written, a byte that fio wrote.
    pub(crate) written_per_byte: Option<f64>,
    /// Bytes anybody wrote to the disk, a byte that fio wrote.
    pub(crate) disk_written_per_byte: Option<f64>,
    /// Share of the machine's CPU time that other processes took, 0 to 1.
    pub(crate) foreign_share: Option<f64>,
}

/// Runs `job` on `instance` and samples its server meanwhile.
pub(crate) fn observe(
    instance: &mut Instance,
    job: &Job<'_>,
    disk: &Disk,
    directory: &Path,
) -> Result<(FioReport, Vec<Sample>)> {
    let sampler = Sampler::start(instance.pid(), disk);
    let outcome = job.run(directory);
    let samples = sampler.stop();
    // A server that died explains more than what fio says about it.
    instance.check_alive()?;
    Ok((outcome?, samples))
}

/// Puts the figures of a run together.
pub(crate) fn evaluate(workload: &Workload, report: &FioReport, samples: &[Sample], has_server: bool) -> Run {
    let main = main_direction(workload.pattern, report);
    let all = [&report.read, &report.write, &report.trim];
    let ios: u64 = all.iter().map(|d| d.ios).sum();
    let bytes: u64 = all.iter().map(|d| d.bytes).sum();
    let iops: f64 = all.iter().map(|d| d.iops).sum();
    let bytes_per_second: f64 = all.iter().map(|d| d.bytes_per_second).sum();
    let runtime_ms = all.iter().map(|d| d.runtime_ms).fold(0.0, f64::max);
    // All of this stretch lies inside the time that fio counted.
    let (from, to) = (report.end_ms - runtime_ms, report.end_ms - REPORT_DELAY_MS);
    let per_second = |counter: &dyn Fn(&Sample) -> f64| -> Option<f64> {
        let length = to - from;
        (length > 0.0).then(|| growth(samples, from, to, counter).map(|g| g / length * 1e3)).flatten()
    };
    let payload = report.write.bytes_per_second;
    let per_written_byte = |rate: Option<f64>| rate.filter(|_| payload > 0.0).map(|r| r / payload);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let server = |value: Option<f64>| value.filter(|_| has_server);
    Run {
        speed: match workload.speed() {
            Speed::Iops => iops,
            Speed::Megabytes => bytes_per_second / 1e6,
        },
        ios,
        bytes,
        latency: main.latency,
        write_latency: matches!(workload.pattern, Pattern::RandMix(_)).then_some(report.write.latency),
        flush_latency: report.flush,
        cpu_us_per_io: server(per_second(&|s| s.cpu_us)).map(|rate| rate / iops.max(1e-9)),
        resident: samples.iter().map(|s| s.resident).max().filter(|_| has_server),
        resident_peak: samples.last().map(|s| s.resident_peak).filter(|_| has_server),
        written_per_byte: per_written_byte(server(per_second(&|s| s.written as f64))),
        disk_written_per_byte: per_written_byte(per_second(&|s| s.disk_written as f64)),
        foreign_share: per_second(&|s| s.foreign_cpu_us).map(|rate| rate / 1e6 / cpus),
    }
}

fn main_direction(pattern: Pattern, report: &FioReport) -> &Direction {
    match pattern {
        Pattern::Write | Pattern::RandWrite => &report.write,
        Pattern::Read | Pattern::RandRead | Pattern::RandMix(_) => &report.read,
        Pattern::RandTrim => &report.trim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    fn samples() -> Vec<Sample> {
        let point = |second: u32| Sample {
            at_ms: f64::from(second) * 1e3,
            cpu_us: f64::from(second) * 500_000.0,
            written: u64::from(second) * 8_192_000,
            resident: u64::from(10 - second),
            ..Sample::default()
        };
        (0..10).map(point).collect()
    }

    fn writes() -> FioReport {
        let write = Direction {
            ios: 4000,
            bytes: 16_384_000,
            iops: 1000.0,
            bytes_per_second: 4_096_000.0,
            runtime_ms: 4000.0,
            ..Direction::default()
        };
        FioReport { end_ms: 8000.0, write, ..FioReport::default() }
    }

    #[test]
    fn rates_are_taken_while_the_clock_ran() {
        let run = evaluate(&workload::ALL[0], &writes(), &samples(), true);
        assert_eq!(run.speed, 1000.0);
        assert!((run.cpu_us_per_io.unwrap() - 500.0).abs() < 1e-6);
        assert!((run.written_per_byte.unwrap() - 2.0).abs() < 1e-6);
        assert_eq!(run.resident, Some(10));
    }

    #[test]
    fn what_does_not_exist_is_none() {
        let run = evaluate(&workload::ALL[0], &writes(), &samples(), false);
        assert!(run.cpu_us_per_io.is_none() && run.resident.is_none() && run.written_per_byte.is_none());
        let mut late = writes();
        late.end_ms = 20_000.0;
        assert!(evaluate(&workload::ALL[0], &late, &samples(), true).cpu_us_per_io.is_none());
    }
}
