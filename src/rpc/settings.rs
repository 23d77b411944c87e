//! Settings of single volumes. What is set holds at once and is durable when the answer comes. Questions about settings
//! that wait for a feature are answered with what holds for all volumes.

use std::sync::Arc;

use dxr::Value;
use volumedriver::volume::own::{OwnChange, OwnSettings, SyncIgnore};

use super::Server;
use super::failed::Failed;
use super::table::Feature::{Backend, Dtl, Mds, ReadCache};
use super::table::Method;
use super::table::Routing::Redirected;
use super::table::{here, later};
use super::values::{Arguments, absent, decimal, nothing, record};
use super::volumes::CLUSTER_SIZE;
use crate::driver::{Driver, VolumeState};

/// Keys of arguments and results.
const FLUSHES: &str = "number_of_syncs_to_ignore";
const SECONDS: &str = "maximum_time_to_ignore_syncs_in_seconds";
const PAGES: &str = "metadata_cache_capacity";

/// See the module.
pub(super) const METHODS: &[Method] = &[
    later(
        "setSCOMultiplier",
        Redirected,
        Backend,
        "Clusters of an SCO, once SCOs are objects; on the local disk it is a segment, of which less would be left \
        empty. `volume_id`, `sco_multiplier`.",
    ),
    here(
        "getSCOMultiplier",
        Redirected,
        |s, a| Box::pin(sco_multiplier(s, a)),
        "Clusters of a full SCO: those of a \
        segment. `volume_id`; gives `sco_multiplier`.",
    ),
    later(
        "setTLogMultiplier",
        Redirected,
        Backend,
        "SCOs of a TLog, once there are TLogs. `volume_id`, [`tlog_multiplier`].",
    ),
    here(
        "getTLogMultiplier",
        Redirected,
        |s, a| Box::pin(unset(s, a)),
        "Empty: not set for the volume. `volume_id`.",
    ),
    later(
        "setSCOCacheMaxNonDisposableFactor",
        Redirected,
        Backend,
        "Share of the SCO cache for what is not on the backend. `volume_id`, [`max_non_disposable_factor`].",
    ),
    here(
        "getSCOCacheMaxNonDisposableFactor",
        Redirected,
        |s, a| Box::pin(unset(s, a)),
        "Empty: not set for the \
        volume. `volume_id`.",
    ),
    here(
        "setMetaDataCacheCapacity",
        Redirected,
        |s, a| Box::pin(set_map_pages(s, a)),
        "Pages of a volume's map in memory at most, [of those that volumes share](#pages-of-the-map). `volume_id`, \
        [`metadata_cache_capacity`].",
    ),
    here(
        "getMetaDataCacheCapacity",
        Redirected,
        |s, a| Box::pin(map_pages(s, a)),
        "What was set; empty if nothing is. `volume_id`; gives [`metadata_cache_capacity`].",
    ),
    here(
        "setSyncIgnore",
        Redirected,
        |s, a| Box::pin(set_sync_ignore(s, a)),
        "[Flushes that are not done](#flushes-that-are-not-done). `volume_id`, `number_of_syncs_to_ignore`, \
        `maximum_time_to_ignore_syncs_in_seconds`.",
    ),
    here(
        "getSyncIgnore",
        Redirected,
        |s, a| Box::pin(sync_ignore(s, a)),
        "What was set. `volume_id`; gives both of the above.",
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

/// What a volume's own settings are.
async fn own(server: &Server, volume: &str) -> Result<OwnSettings, Failed> {
    let info = server.volume(volume).await?;
    info.own.ok_or_else(|| {
        let reason = match info.state {
            VolumeState::Halted { reason } => reason,
            VolumeState::Running => "it is not served".to_owned(),
        };
        Failed::Halted { volume: volume.to_owned(), reason }
    })
}

/// Changes one of them.
async fn change(server: &Server, volume: &str, change: OwnChange) -> Result<Value, Failed> {
    let sought = volume.to_owned();
    let changed = server.ask(move |driver| driver.change_own(&sought, change)).await?;
    changed.map_err(|error| Failed::of_volume(volume, error))?;
    tracing::info!(volume, ?change, "setting of a volume changed");
    Ok(nothing())
}

async fn set_sync_ignore(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let volume = arguments.text("volume_id")?;
    let sync_ignore = SyncIgnore {
        flushes: arguments.small_number(FLUSHES)?.ok_or_else(|| absent(FLUSHES))?,
        seconds: arguments.small_number(SECONDS)?.ok_or_else(|| absent(SECONDS))?,
    };
    change(&server, volume, OwnChange::SyncIgnore(sync_ignore)).await
}

async fn sync_ignore(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let SyncIgnore { flushes, seconds } = own(&server, arguments.text("volume_id")?).await?.sync_ignore;
    Ok(record([(FLUSHES, decimal(flushes.into())), (SECONDS, decimal(seconds.into()))]))
}

async fn set_map_pages(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let (volume, pages) = (arguments.text("volume_id")?, arguments.small_number(PAGES)?);
    change(&server, volume, OwnChange::MapPages(pages)).await
}

async fn map_pages(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let own = own(&server, arguments.text("volume_id")?).await?;
    Ok(match own.map_pages {
        Some(pages) => record([(PAGES, decimal(pages.into()))]),
        None => record([]),
    })
}
