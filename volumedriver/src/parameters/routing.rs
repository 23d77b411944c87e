//! Requests between hosts: who owns what, and who answers.

use cfg_schema::{Microseconds, Milliseconds, Seconds, sections};

use super::nodes::ArakoonNode;

sections! {
    /// Passing requests to the host that owns a volume, and taking volumes over.
    section volume_router: VolumeRouter {
        /// Who this process is among the hosts of its vPool. Here the place of its documents in the store says so.
        vrouter_id: String, NoEffect, identity;
        /// Pause before a local request that failed for the moment is repeated.
        vrouter_local_io_sleep_before_retry_usecs: Microseconds = Microseconds(100_000), NoEffect;
        /// How often such a request is repeated.
        vrouter_local_io_retries: u32 = 600, NoEffect, unit "retries";
        /// Beyond the threshold: after so many more redirected requests it is asked again whether there is room for
        /// the volume here. A number of requests, not a time.
        vrouter_check_local_volume_potential_period: u64 = 1, NoEffect, unit "requests", range 1..=u64::MAX;
        /// Redirected reads after which a volume moves here; 0 means never.
        vrouter_volume_read_threshold: u64 = 0, NoEffect, unit "requests";
        /// Redirected writes after which a volume moves here; 0 means never.
        vrouter_volume_write_threshold: u64 = 0, NoEffect, unit "requests";
        /// Redirected reads after which a file moves here; 0 means never.
        vrouter_file_read_threshold: u64 = 0, NoEffect, unit "requests";
        /// Redirected writes after which a file moves here; 0 means never.
        vrouter_file_write_threshold: u64 = 0, NoEffect, unit "requests";
        /// How long another host may take to answer a redirected request; 0 means no limit.
        vrouter_redirect_timeout_ms: Milliseconds = Milliseconds(0), NoEffect;
        /// How long the former owner of a volume that moves may take to bring all to the backend; 0 means no limit.
        vrouter_backend_sync_timeout_ms: Milliseconds = Milliseconds(0), NoEffect;
        /// How often it is looked whether all is on the backend while a volume moves or stops.
        vrouter_backend_sync_check_interval_ms: Milliseconds = Milliseconds(1000), NoEffect;
        /// Time for moving a volume beyond that for bringing all to the backend.
        vrouter_migrate_timeout_ms: Milliseconds = Milliseconds(500), NoEffect;
        /// Failed attempts at taking a volume over after redirected requests got no answer.
        vrouter_redirect_retries: u32 = 10, NoEffect, unit "retries";
        /// SCO multiplier of new volumes.
        vrouter_sco_multiplier: u32 = 1024, NoEffect, unit "clusters", range 1..=65_535;
        /// How often it is looked again for an owner that was not found.
        vrouter_routing_retries: u32 = 30, NoEffect, unit "retries";
        /// How often locks that nobody uses are forgotten.
        vrouter_lock_reaper_interval: Seconds = Seconds(28_800), NoEffect, unit "seconds", range 1..=u64::MAX;
        /// Threads for redirected requests, at least.
        vrouter_min_workers: u16 = 4, NoEffect, unit "threads", range 1..=u16::MAX;
        /// Threads for redirected requests, at most.
        vrouter_max_workers: u16 = 16, NoEffect, unit "threads", range 1..=u16::MAX;
        /// Owners that are remembered.
        vrouter_registry_cache_capacity: u32 = 1024, NoEffect, unit "entries";
        /// How long the admin interface of another host may take to answer.
        vrouter_xmlrpc_client_timeout_ms: Milliseconds = Milliseconds(60_000), NoEffect;
        /// A former owner is locked out of the backend when its volume is taken over, where the backend can.
        vrouter_use_fencing: bool = false, NoEffect;
        /// Redirected flushes get the long form of the answer, which releases of the original before 6.3.0 do not know.
        vrouter_send_sync_response: bool = true, NoEffect;
        /// Silence of another host after which it is asked whether it lives; 0 means that it is not asked.
        vrouter_keepalive_time_secs: Seconds = Seconds(60), NoEffect;
        /// Pause before it is asked again; at most `vrouter_keepalive_time_secs`.
        vrouter_keepalive_interval_secs: Seconds = Seconds(10), NoEffect;
        /// Questions without an answer after which a host counts as dead.
        vrouter_keepalive_retries: u32 = 5, NoEffect, unit "retries";
        /// A host that does not know the request to open a volume makes the opening fail.
        vrouter_remote_must_support_open_request: bool = false, NoEffect;
    }

    /// The cluster of hosts.
    section volume_router_cluster: VolumeRouterCluster {
        /// Id of the cluster that the hosts of the vPool form, the same on all. Admin requests must name it. Empty: the
        /// GUID of the vPool.
        vrouter_cluster_id: String = String::new(), Restart, identity;
    }

    /// Who owns what, in an Arakoon cluster. This program keeps it in its configuration store.
    section volume_registry: VolumeRegistry {
        /// How long Arakoon may take to answer.
        vregistry_arakoon_timeout_ms: Milliseconds = Milliseconds(60_000), NoEffect;
        /// Id of the Arakoon cluster.
        vregistry_arakoon_cluster_id: String, NoEffect;
        /// The servers of the cluster.
        vregistry_arakoon_cluster_nodes: Vec<ArakoonNode>, NoEffect, range 1..=usize::MAX;
    }
}
