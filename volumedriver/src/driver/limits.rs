//! From the parameters to the limits of the parts.

use std::sync::Arc;
use std::time::Duration;

use cfg_schema::SizeLimit;

use super::recover::Layout;
use crate::data_thread::ThreadOptions;
use crate::nbd::listener::AdmissionLimits;
use crate::parameters::Parameters;
use crate::pool::PoolOptions;
use crate::volume::Settings;
use crate::volume::address::CLUSTER_SIZE;

/// Segments that only compaction gets: its open one, the next, and one to spare.
pub(super) const COMPACTION_RESERVE: u32 = 3;
/// Part of a data thread's unwritten data that one volume may have.
const VOLUME_WRITE_SHARE: usize = 4;
/// Time between two ticks of volumes that need them.
const TICK: Duration = Duration::from_millis(100);

/// Data threads of this machine.
pub(super) fn data_thread_count(parameters: &Parameters) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    parameters.volume_manager.data_thread_count(cores)
}

/// Of each volume, on one of `threads` data threads.
pub(super) fn settings_of(parameters: &Parameters, threads: usize) -> Settings {
    let manager = &parameters.volume_manager;
    let blocks = |bytes: u64| bytes / CLUSTER_SIZE as u64;
    Settings {
        segment_blocks: blocks(parameters.scocache.segment_size.bytes()) as u32,
        record_blocks: blocks(manager.record_size.bytes()) as u16,
        records_in_flight: manager.log_records_in_flight as usize,
        replay_bytes: manager.log_replay_limit.bytes(),
        run_bytes: manager.run_size.bytes(),
        // Twice its share: one part is on its way into a run while the other grows.
        memtable_bytes_max: 2 * manager.memtable_limit.bytes() as usize / threads,
        record_blocks_in_company: blocks(manager.record_gather_size.bytes()) as u16,
        compaction_read_blocks: blocks(manager.compaction_read_size.bytes()) as u32,
        compaction_records_in_flight: manager.compaction_records_in_flight as usize,
        ..Settings::default()
    }
}

/// Of the segment pool.
pub(super) fn pool_options(parameters: &Parameters, layout: &Layout) -> PoolOptions {
    let scocache = &parameters.scocache;
    // The reserve lies in the same directory and counts as its share.
    let reserve = scocache.reserve_size.bytes();
    let size = scocache.scocache_mount_points.first().and_then(|mount| match mount.size {
        SizeLimit::Bytes(size) => Some(size.bytes().saturating_sub(reserve)),
        SizeLimit::Unlimited => None,
    });
    PoolOptions {
        directory: layout.segments.clone(),
        segment_size: scocache.segment_size.bytes(),
        size,
        reserve_size: reserve,
        compaction_reserve: COMPACTION_RESERVE,
        ready_min: scocache.segments_ready_min,
        ready_max: scocache.segments_ready_max,
        trigger_gap: scocache.trigger_gap.bytes(),
        backoff_gap: scocache.backoff_gap.bytes(),
        lock_wait: parameters.volume_manager.lock_wait_ms.duration(),
    }
}

/// Of data thread `thread` of `threads`.
pub(super) fn thread_options(
    parameters: &Parameters,
    settings: &Arc<Settings>,
    thread: u32,
    threads: usize,
) -> ThreadOptions {
    let manager = &parameters.volume_manager;
    let write_bytes = manager.write_bytes_in_flight.bytes() as usize;
    ThreadOptions {
        thread,
        settings: settings.clone(),
        requests_in_flight: parameters.nbd.nbd_requests_in_flight as usize,
        reply_bytes: parameters.nbd.nbd_reply_bytes_in_flight.bytes() as usize,
        read_bytes: manager.read_bytes_in_flight.bytes() as usize,
        volume_write_bytes: (write_bytes / VOLUME_WRITE_SHARE).max(1 << 20),
        write_bytes,
        memtable_bytes: manager.memtable_limit.bytes() as usize / threads,
        page_cache_bytes: (manager.metadata_cache_capacity as usize / threads)
            .max(settings.map_pages_min as usize)
            * CLUSTER_SIZE,
        send_timeout: parameters.nbd.nbd_send_timeout_ms.duration(),
        tick: TICK,
        shutdown_timeout: manager.shutdown_timeout_ms.duration(),
    }
}

/// Of NBD connections.
pub fn admission_limits(parameters: &Parameters) -> AdmissionLimits {
    AdmissionLimits {
        connections: parameters.nbd.nbd_max_connections as usize,
        handshakes: parameters.nbd.nbd_max_handshakes as usize,
        handshake_timeout: parameters.nbd.nbd_handshake_timeout_ms.duration(),
    }
}
