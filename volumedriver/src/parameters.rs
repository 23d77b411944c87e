//! What can be configured. Each parameter is declared in one of the files here and nowhere else: its field in
//! [`Parameters`], its checks, its row in `docs/configuration.md` and its part of the JSON schema come from the
//! declaration. To add one, add it there and run `ovs config docs > docs/configuration.md`.
//!
//! Names of parameters that the original volume driver had are the original's. All of those are declared: those of
//! parts that this program does not have with the category `NoEffect`, which a part changes when it takes them over.

mod backend;
mod cache;
mod events;
mod filesystem;
mod interfaces;
mod logging;
mod metadata;
mod nodes;
mod routing;
mod volumes;

use cfg_schema::{ByteSize, Documents, Parameter, Problem, Reading, SizeLimit, parameters};

pub use backend::{
    BackendConnectionManager, BackendGarbageCollector, DistributedLockStore, DistributedTransactionLog,
    ThreadpoolComponent,
};
pub use cache::{ContentAddressedCache, MountPoint, ScoCache};
pub use events::{EventPublisher, StatsCollector};
pub use filesystem::{FileDriver, Filesystem, Fuse};
pub use interfaces::{Http, Metrics, Nbd, NetworkInterface, ShmInterface, Xmlrpc};
pub use logging::{LogLevel, Logging};
pub use metadata::MetadataServer;
pub use routing::{VolumeRegistry, VolumeRouter, VolumeRouterCluster};
pub use volumes::{IoBackend, ScrubManager, VolumeManager};

parameters! {
    /// Everything that the volume driver and its listeners take from the configuration.
    pub struct Parameters {
        scocache: ScoCache,
        volume_manager: VolumeManager,
        nbd: Nbd,
        http: Http,
        xmlrpc: Xmlrpc,
        metrics: Metrics,
        logging: Logging,
        backend_connection_manager: BackendConnectionManager,
        backend_garbage_collector: BackendGarbageCollector,
        content_addressed_cache: ContentAddressedCache,
        distributed_lock_store: DistributedLockStore,
        distributed_transaction_log: DistributedTransactionLog,
        event_publisher: EventPublisher,
        file_driver: FileDriver,
        filesystem: Filesystem,
        fuse: Fuse,
        metadata_server: MetadataServer,
        network_interface: NetworkInterface,
        scrub_manager: ScrubManager,
        shm_interface: ShmInterface,
        stats_collector: StatsCollector,
        threadpool_component: ThreadpoolComponent,
        volume_registry: VolumeRegistry,
        volume_router: VolumeRouter,
        volume_router_cluster: VolumeRouterCluster,
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
    Parameters::read(documents).checked(check)
}

cfg_engine::configuration!(Parameters, check);

/// What values that are valid on their own cannot be together.
pub(crate) fn check(parameters: &Parameters) -> Vec<Problem> {
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
    problems.extend(logging::problem(&parameters.logging));
    let Xmlrpc { xmlrpc_tls_cert_file: cert, xmlrpc_tls_key_file: key, .. } = &parameters.xmlrpc;
    if cert.is_empty() != key.is_empty() {
        let problem = "must be given together with xmlrpc_tls_key_file, or neither".to_owned();
        problems.push(Problem::new("xmlrpc", "xmlrpc_tls_cert_file", cert.clone().into(), problem));
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
            (json!({"xmlrpc": {"xmlrpc_tls_key_file": "key.pem"}}), "xmlrpc_tls_cert_file"),
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
