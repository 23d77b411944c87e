//! What can be configured. Each parameter is declared here and nowhere else: its field in [`Parameters`], its checks,
//! its row in `docs/configuration.md` and its part of the JSON schema come from the declaration. To add one, add it
//! below and run `ovs config-reference > docs/configuration.md`.
//!
//! Names of parameters that the original volume driver had are the original's.

mod no_effect;

use std::path::PathBuf;

use cfg_schema::{
    ByteSize, Documents, Milliseconds, Parameter, Problem, Reading, SizeLimit, parameters, words,
};

pub use no_effect::NO_EFFECT;

words! {
    /// How data threads reach disks and sockets.
    pub enum IoBackend {
        /// io_uring where the machine allows it, plain threads elsewhere.
        Auto = "auto",
        /// io_uring, or the start fails.
        Uring = "uring",
        /// Plain threads.
        Threads = "threads",
    }
}

impl From<IoBackend> for uring::Backend {
    fn from(backend: IoBackend) -> uring::Backend {
        match backend {
            IoBackend::Auto => uring::Backend::Auto,
            IoBackend::Uring => uring::Backend::Uring,
            IoBackend::Threads => uring::Backend::Threads,
        }
    }
}

parameters! {
    /// Everything that the volume driver and its listeners take from the configuration.
    pub struct Parameters;

    objects {
        /// A directory for segments.
        MountPoint {
            /// The directory; a relative path starts in the data directory.
            path: PathBuf;
            /// Space that segments may take there; UNLIMITED leaves it to the file system.
            size: SizeLimit = SizeLimit::Unlimited, range 256 << 20..=1 << 50;
        }
    }

    /// The SCO cache: the local disk that holds the log in segments of equal size.
    section scocache: ScoCache {
        /// Where segments are kept. One disk for now.
        scocache_mount_points: Vec<MountPoint> =
            vec![MountPoint { path: PathBuf::from("scocache"), size: SizeLimit::Unlimited }], Restart, range 1..=1;
        /// Compaction begins when less than this is free for segments.
        trigger_gap: ByteSize = ByteSize(1_000_000_000), Restart, range 1..=1 << 50;
        /// Compaction goes on until this much is free for segments.
        backoff_gap: ByteSize = ByteSize(2_000_000_000), Restart, range 1..=1 << 50;
        /// Size of a segment, which is the largest size of an SCO; a multiple of 4096.
        segment_size: ByteSize = ByteSize::mib(32), Immutable, range 1 << 20..=128 << 20;
        /// Free segments that are kept ready for the log when clients write little.
        segments_ready_min: u32 = 4, Restart, unit "segments", range 1..=4096;
        /// Free segments that are kept ready for the log when clients write fast.
        segments_ready_max: u32 = 16, Restart, unit "segments", range 1..=4096;
        /// Space kept allocated for runs and manifests, so that compaction can finish on a full disk.
        reserve_size: ByteSize = ByteSize::mib(64), Restart, range 16 << 20..=1 << 40;
    }

    /// Volumes: their log, their map and the threads that serve them.
    section volume_manager: VolumeManager {
        /// Largest size accepted when a volume is created or resized.
        max_volume_size: ByteSize = ByteSize::tib(64), Restart, range 512..=140_737_421_205_504;
        /// Size of a cluster, the unit of the map. No other value is supported.
        default_cluster_size: u32 = 4096, Immutable, unit "bytes", range 4096..=4096;
        /// Pages of the maps, 4 KiB each, kept in memory by the whole process.
        metadata_cache_capacity: u32 = 32_768, Restart, unit "pages", range 64..=16 << 20;
        /// Memory of all volumes for map entries that are not yet in a run; at the limit the largest is written out.
        memtable_limit: ByteSize = ByteSize::mib(256), Restart, range 1 << 20..=64 << 30;
        /// Log of one volume that a start may have to replay; at the limit its map entries are written to a run.
        log_replay_limit: ByteSize = ByteSize::mib(64), Restart, range 1 << 20..=64 << 30;
        /// Log records of one volume that may be on their way to the disk.
        log_records_in_flight: u32 = 4, Restart, unit "records", range 1..=64;
        /// Largest log record, its header of 4096 bytes included; a multiple of 4096. The default holds two writes of
        /// 128 KiB.
        record_size: ByteSize = ByteSize::kib(260), Restart, range 8 << 10..=512 << 10;
        /// Data that a log record gathers while another one is on its way to the disk; a multiple of 4096.
        record_gather_size: ByteSize = ByteSize::kib(64), Restart, range 4 << 10..=512 << 10;
        /// Largest run; a multiple of 4096.
        run_size: ByteSize = ByteSize::mib(4), Restart, range 64 << 10..=256 << 20;
        /// Relocated records of one volume that compaction may have on their way to the disk.
        compaction_records_in_flight: u32 = 4, Restart, unit "records", range 1..=64;
        /// Bytes that compaction reads at a time, up to four times as many while segments are short; a multiple of
        /// 4096. The log's records wait behind each read.
        compaction_read_size: ByteSize = ByteSize::kib(128), Restart, range 4 << 10..=4 << 20;
        /// Memory of one data thread for reads that are being answered; more reads wait.
        read_bytes_in_flight: ByteSize = ByteSize::mib(64), Restart, range 1 << 20..=16 << 30;
        /// Memory of one data thread for writes that are not yet acknowledged; more writes wait.
        write_bytes_in_flight: ByteSize = ByteSize::mib(64), Restart, range 1 << 20..=16 << 30;
        /// Threads that serve volumes; 0 means one for each core, at most 4.
        data_threads: u32 = 0, Restart, unit "threads", range 0..=64;
        /// How data threads reach disks and sockets.
        io_backend: IoBackend = IoBackend::Auto, Restart;
        /// Entries of a data thread's submission queue, rounded up to a power of two.
        ring_entries: u32 = 256, Restart, unit "entries", range 8..=4096;
        /// Threads for file operations of a data thread where io_uring is not used.
        io_threads: u32 = 8, Restart, unit "threads", range 1..=64;
        /// How long an admin call waits for the thread that serves a volume.
        volume_call_timeout_ms: Milliseconds = Milliseconds(30_000), Restart, range 100..=600_000;
        /// How long a shutdown waits for clients' requests, and again for the flushes of all volumes.
        shutdown_timeout_ms: Milliseconds = Milliseconds(10_000), Restart, range 100..=600_000;
        /// How long a start waits for locks of a predecessor whose last writes are still landing.
        lock_wait_ms: Milliseconds = Milliseconds(10_000), Restart, range 0..=600_000;
    }

    /// Network block device: how volumes are exported.
    section nbd: Nbd {
        /// TCP port; 0 lets the system choose.
        nbd_port: u16 = 10_809, Restart;
        /// Connections at once over TCP and the unix socket together; more are closed at once.
        nbd_max_connections: u32 = 4096, Restart, unit "connections", range 1..=65_536;
        /// Clients at once that are choosing an export; more are closed at once.
        nbd_max_handshakes: u32 = 256, Restart, unit "connections", range 1..=65_536;
        /// How long a client may take to choose an export.
        nbd_handshake_timeout_ms: Milliseconds = Milliseconds(30_000), Restart, range 100..=600_000;
        /// Requests of one connection that may be unanswered; more are left in the socket.
        nbd_requests_in_flight: u32 = 1024, Restart, unit "requests", range 1..=65_536;
        /// Replies of one connection that are being made or sent; its further requests are left in the socket.
        nbd_reply_bytes_in_flight: ByteSize = ByteSize::mib(16), Restart, range 1 << 20..=1 << 30;
        /// How long a client may leave its replies in the socket before its connection is closed.
        nbd_send_timeout_ms: Milliseconds = Milliseconds(60_000), Restart, range 100..=600_000;
    }

    /// HTTP for metrics and health, and the admin socket.
    section http: Http {
        /// TCP port of metrics and health; 0 lets the system choose.
        http_port: u16 = 26_200, Restart;
        /// Connections at once to the TCP port, and as many to the admin socket.
        http_max_connections: u32 = 256, Restart, unit "connections", range 1..=65_536;
        /// How long a client may take to send a request.
        http_read_timeout_ms: Milliseconds = Milliseconds(10_000), Restart, range 100..=600_000;
        /// Longest body of an admin request.
        http_body_limit: ByteSize = ByteSize::kib(64), Restart, range 1024..=16 << 20;
        /// Admin operations that run at once; more wait.
        admin_operations_in_flight: u32 = 16, Restart, unit "operations", range 1..=1024;
    }

    /// Prometheus metrics.
    section metrics: Metrics {
        /// Whether metrics carry the label `volume`; without it they are sums over all volumes.
        metrics_per_volume: bool = true, Restart;
    }
}

/// Most data threads when their number is left to the program.
const DATA_THREADS_BY_DEFAULT: usize = 4;

impl VolumeManager {
    /// The number of data threads on a machine with `cores` cores.
    pub fn data_thread_count(&self, cores: usize) -> usize {
        match self.data_threads {
            0 => cores.clamp(1, DATA_THREADS_BY_DEFAULT),
            count => count as usize,
        }
    }
}

/// Reads and checks the documents of a volume driver.
pub fn read(documents: &Documents) -> Reading<Parameters> {
    Parameters::read(documents, NO_EFFECT).checked(check)
}

/// What values that are valid on their own cannot be together.
fn check(parameters: &Parameters) -> Vec<Problem> {
    let Parameters { scocache, volume_manager, .. } = parameters;
    let mut problems = Vec::new();
    let mut refuse = |section: &str, key: &str, value: ByteSize, problem: String| {
        problems.push(Problem::new(section, key, value.write(), problem));
    };
    if scocache.trigger_gap > scocache.backoff_gap {
        let problem = format!("must be at most scocache.backoff_gap, which is {}", scocache.backoff_gap);
        refuse("scocache", "trigger_gap", scocache.trigger_gap, problem);
    }
    for (section, key, value) in [
        ("scocache", "segment_size", scocache.segment_size),
        ("volume_manager", "record_size", volume_manager.record_size),
        ("volume_manager", "run_size", volume_manager.run_size),
        ("volume_manager", "record_gather_size", volume_manager.record_gather_size),
        ("volume_manager", "compaction_read_size", volume_manager.compaction_read_size),
    ] {
        if !value.bytes().is_multiple_of(4096) {
            refuse(section, key, value, "must be a multiple of 4096".to_owned());
        }
    }
    // The largest merge has a run of each side as input and at most as much output.
    if scocache.reserve_size.bytes() < 2 * volume_manager.run_size.bytes() {
        let problem =
            format!("must be at least twice volume_manager.run_size, which is {}", volume_manager.run_size);
        refuse("scocache", "reserve_size", scocache.reserve_size, problem);
    }
    for disk in &scocache.scocache_mount_points {
        if let SizeLimit::Bytes(size) = disk.size
            && size.bytes() < scocache.reserve_size.bytes() + 8 * scocache.segment_size.bytes()
        {
            let problem = "must hold scocache.reserve_size and eight segments".to_owned();
            refuse("scocache", "scocache_mount_points[0].size", size, problem);
        }
    }
    let (min, max) = (scocache.segments_ready_min, scocache.segments_ready_max);
    if min > max {
        let problem = format!("must be at most scocache.segments_ready_max, which is {max}");
        problems.push(Problem::new("scocache", "segments_ready_min", min.write(), problem));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_json(documents: serde_json::Value) -> Reading<Parameters> {
        read(&serde_json::from_value(documents).expect("an object"))
    }

    #[test]
    fn declarations_keep_the_rules_of_naming() {
        assert_eq!(cfg_schema::lint(&Parameters::declarations()), Vec::<String>::new());
    }

    #[test]
    fn the_defaults_are_valid_together() {
        assert_eq!(read_json(json!({})).parameters, Ok(Parameters::default()));
    }

    #[test]
    fn no_parameter_is_both_declared_and_without_effect() {
        for section in Parameters::declarations() {
            let without = NO_EFFECT
                .iter()
                .find(|(name, _)| *name == section.section)
                .map_or(&[][..], |(_, keys)| *keys);
            let both: Vec<&str> = section
                .parameters
                .iter()
                .map(|parameter| parameter.key)
                .filter(|key| without.contains(key))
                .collect();
            assert!(both.is_empty(), "{}: {both:?}", section.section);
        }
    }

    #[test]
    fn documents_of_the_original_are_accepted() {
        let reading = read_json(json!({
            "scocache": {
                "trigger_gap": "1GB",
                "backoff_gap": "2GB",
                "scocache_mount_points": [{"path": "/mnt/ssd2/write_sco_1", "size": "239910912KiB"}],
            },
            "volume_manager": {"clean_interval": 1, "tlog_path": "/mnt/ssd2/tlog", "foc_throttle_usecs": 4000},
            "event_publisher": {"events_amqp_uris": []},
            "failovercache": {"failovercache_path": "/mnt/ssd2/dtl"},
        }));
        assert!(reading.parameters.is_ok());
        assert_eq!(reading.unknown, ["volume_manager.foc_throttle_usecs", "failovercache"]);
        let mut no_effect = reading.no_effect;
        no_effect.sort();
        assert_eq!(
            no_effect,
            ["event_publisher.events_amqp_uris", "volume_manager.clean_interval", "volume_manager.tlog_path"]
        );
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        for (documents, key) in [
            (json!({"scocache": {"trigger_gap": "3GB"}}), "trigger_gap"),
            (json!({"scocache": {"segment_size": (1 << 20) + 512}}), "segment_size"),
            (
                json!({"scocache": {"reserve_size": "16MiB"}, "volume_manager": {"run_size": "16MiB"}}),
                "reserve_size",
            ),
            (json!({"volume_manager": {"record_size": 10_000}}), "record_size"),
            (json!({"volume_manager": {"run_size": 100_000}}), "run_size"),
            (json!({"scocache": {"segments_ready_min": 17}}), "segments_ready_min"),
            (
                json!({"scocache": {"scocache_mount_points": [{"path": "a", "size": "256MiB"}]}}),
                "scocache_mount_points[0].size",
            ),
        ] {
            let problems = read_json(documents.clone()).parameters.expect_err("refused");
            let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
            assert_eq!(keys, [key], "{documents}: {problems:?}");
        }
    }

    #[test]
    fn data_threads_follow_the_cores_unless_given() {
        let mut volume_manager = VolumeManager::default();
        assert_eq!([0, 1, 2, 64].map(|cores| volume_manager.data_thread_count(cores)), [1, 1, 2, 4]);
        volume_manager.data_threads = 7;
        assert_eq!(volume_manager.data_thread_count(2), 7);
    }
}
