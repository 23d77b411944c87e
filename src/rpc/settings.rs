//! Settings of single volumes. None can be set yet: the questions are answered with what holds for all volumes, and
//! those that set something wait.

use std::sync::Arc;

use dxr::Value;

use super::Server;
use super::failed::Failed;
use super::table::Feature::{Backend, Dtl, Mds, ReadCache, Settings};
use super::table::Method;
use super::table::Routing::Redirected;
use super::table::{here, later};
use super::values::{Arguments, decimal, record};
use super::volumes::CLUSTER_SIZE;
use crate::driver::Driver;

/// See the module.
pub(super) const METHODS: &[Method] = &[
    later("setSCOMultiplier", Redirected, Settings, "Clusters of an SCO. `volume_id`, `sco_multiplier`."),
    here(
        "getSCOMultiplier",
        Redirected,
        |s, a| Box::pin(sco_multiplier(s, a)),
        "Clusters of a full SCO: those of a \
        segment. `volume_id`; gives `sco_multiplier`.",
    ),
    later("setTLogMultiplier", Redirected, Settings, "SCOs of a TLog. `volume_id`, [`tlog_multiplier`]."),
    here(
        "getTLogMultiplier",
        Redirected,
        |s, a| Box::pin(unset(s, a)),
        "Empty: not set for the volume. `volume_id`.",
    ),
    later(
        "setSCOCacheMaxNonDisposableFactor",
        Redirected,
        Settings,
        "Share of the SCO cache. `volume_id`, [`max_non_disposable_factor`].",
    ),
    here(
        "getSCOCacheMaxNonDisposableFactor",
        Redirected,
        |s, a| Box::pin(unset(s, a)),
        "Empty: not set for the \
        volume. `volume_id`.",
    ),
    later(
        "setMetaDataCacheCapacity",
        Redirected,
        Settings,
        "Pages of the map in memory. `volume_id`, [`metadata_cache_capacity`].",
    ),
    here(
        "getMetaDataCacheCapacity",
        Redirected,
        |s, a| Box::pin(unset(s, a)),
        "Empty: not set for the volume. \
        `volume_id`.",
    ),
    later(
        "setSyncIgnore",
        Redirected,
        Settings,
        "Flushes that are not done. `volume_id`, `number_of_syncs_to_ignore`, \
         `maximum_time_to_ignore_syncs_in_seconds`.",
    ),
    here(
        "getSyncIgnore",
        Redirected,
        |s, a| Box::pin(sync_ignore(s, a)),
        "Flushes that are not done: none. \
        `volume_id`; gives both of the above.",
    ),
    later(
        "setClusterCacheBehaviour",
        Redirected,
        ReadCache,
        "When clusters are cached. `volume_id`, [`cluster_cache_behaviour`].",
    ),
    later("getClusterCacheBehaviour", Redirected, ReadCache, "When clusters are cached. `volume_id`."),
    later(
        "setClusterCacheMode",
        Redirected,
        ReadCache,
        "By what clusters are found in the cache. `volume_id`, [`cluster_cache_mode`].",
    ),
    later(
        "getClusterCacheMode",
        Redirected,
        ReadCache,
        "By what clusters are found in the cache. `volume_id`.",
    ),
    later(
        "setClusterCacheLimit",
        Redirected,
        ReadCache,
        "Clusters in the cache. `volume_id`, [`cluster_cache_limit`].",
    ),
    later("getClusterCacheLimit", Redirected, ReadCache, "Clusters in the cache. `volume_id`."),
    later("getFailOverCacheConfigMode", Redirected, Dtl, "How a volume finds its DTL. `volume_id`."),
    later("getFailOverCacheConfig", Redirected, Dtl, "The DTL of a volume. `volume_id`."),
    later(
        "setManualFailOverCacheConfig",
        Redirected,
        Dtl,
        "Gives a volume its DTL. `volume_id`, [`foc_config`].",
    ),
    later("setAutomaticFailOverCacheConfig", Redirected, Dtl, "Lets a volume find its DTL. `volume_id`."),
    later(
        "updateMetaDataBackendConfig",
        Redirected,
        Mds,
        "Gives a volume its metadata servers. `volume_id`, `metadata_backend_config`.",
    ),
    later("getBackendConnectionPool", Redirected, Backend, "Connections to the backend. `volume_id`."),
];

async fn sco_multiplier(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    server.volume(arguments.text("volume_id")?).await?;
    let space = server.ask(Driver::space).await?;
    Ok(record([("sco_multiplier", decimal(space.segment_size / CLUSTER_SIZE))]))
}

/// What is not set for a volume has no key in the answer.
async fn unset(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    server.volume(arguments.text("volume_id")?).await?;
    Ok(record([]))
}

async fn sync_ignore(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    server.volume(arguments.text("volume_id")?).await?;
    Ok(record([
        ("number_of_syncs_to_ignore", decimal(0)),
        ("maximum_time_to_ignore_syncs_in_seconds", decimal(0)),
    ]))
}
