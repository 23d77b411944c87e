//! Snapshots, what is on the backend, and scrubbing: methods that wait for those features.

use super::table::Feature::{Backend, Scrubbing, Snapshots};
use super::table::Routing::{Local, Redirected};
use super::table::{Method, later};

/// Snapshots and the backend.
pub(super) const METHODS: &[Method] = &[
    later(
        "snapshotCreate",
        Redirected,
        Snapshots,
        "Makes a snapshot. `volume_id`, `snapshot_id`, [`metadata`].",
    ),
    later(
        "snapshotsList",
        Redirected,
        Snapshots,
        "Names of the snapshots of a volume, oldest first. `volume_id`.",
    ),
    later("snapshotInfo", Redirected, Snapshots, "What a snapshot is. `volume_id`, `snapshot_id`."),
    later("snapshotRestore", Redirected, Snapshots, "Rolls a volume back. `volume_id`, `snapshot_id`."),
    later("snapshotDestroy", Redirected, Snapshots, "Deletes a snapshot. `volume_id`, `snapshot_id`."),
    later(
        "isVolumeSyncedUpToSnapshot",
        Redirected,
        Snapshots,
        "Whether a snapshot is on the backend. `volume_id`, `snapshot_id`.",
    ),
    later(
        "isVolumeSyncedUpToTLog",
        Redirected,
        Backend,
        "Whether a TLog is on the backend. `volume_id`, `tlog_name`.",
    ),
    later("scheduleBackendSync", Redirected, Backend, "Begins to bring all to the backend. `volume_id`."),
    later("snapshotSCOCount", Local, Snapshots, "SCOs of a snapshot. `volume_id`, `snapshot_id`."),
    later("currentSCOCount", Local, Backend, "SCOs since the last snapshot. `volume_id`."),
    later(
        "getSnapshotBackendSize",
        Local,
        Snapshots,
        "Bytes of a snapshot on the backend. `volume_id`, `snapshot_id`.",
    ),
    later("getCurrentBackendSize", Local, Backend, "Bytes since the last snapshot. `volume_id`."),
];

/// Scrubbing.
pub(super) const SCRUBBING: &[Method] = &[
    later(
        "getScrubbingWork",
        Redirected,
        Scrubbing,
        "What there is to scrub. `volume_id`, [`start_snapshot`], [`end_snapshot`].",
    ),
    later(
        "applyScrubbingResult",
        Local,
        Scrubbing,
        "Takes what a scrubber did. `volume_id`, `scrubbing_work_result`.",
    ),
    later("getScrubManagerCounters", Redirected, Scrubbing, "What was scrubbed. [`vrouter_id`]."),
];
