//! The limits a volume works within. Plain numbers, taken from the parameters by the driver.

use super::address::CLUSTER_SIZE;

/// See the module. Every bound of the core is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Blocks of a segment, 16 to 65,536.
    pub segment_blocks: u32,
    /// Blocks of a record at most, header included, 2 to [`super::record::RECORD_BLOCKS_MAX`].
    pub record_blocks: u16,
    /// Clusters of data that a record has at least when it goes out while another one is in flight.
    pub record_blocks_in_company: u16,
    /// Records of the log in flight.
    pub records_in_flight: usize,
    /// Bytes of log since the last run at which the memtable is frozen.
    pub replay_bytes: u64,
    /// Memory of the active memtable at which writes wait for the frozen one to become a run.
    pub memtable_bytes_max: usize,
    /// Bytes of a run at most, 16 KiB or more: a full page of entries, one that was begun, and their fences.
    pub run_bytes: u64,
    /// Runs of level 0 at which they are merged if they are worth it …
    pub level0_runs: usize,
    /// … which they are from this part of level 1's bytes on (8: an eighth): a merge writes all of level 1 again …
    pub level0_part: u64,
    /// … at which writes go out one record at a time …
    pub level0_runs_soft: usize,
    /// … and at which they wait.
    pub level0_runs_hard: usize,
    /// Bytes of level 1 at which one of its runs moves down.
    pub level_bytes: u64,
    /// How much more each further level holds.
    pub level_factor: u64,
    /// Bytes of one read of the log at most.
    pub read_bytes: u32,
    /// Segments asked for ahead of need while a stream writes.
    pub segments_ahead: usize,
    /// Read-modify-writes in flight at most; further ones wait.
    pub rmw_in_flight: usize,
    /// Failed record writes in a row before the volume halts.
    pub cuts_in_a_row: u32,
    /// Failed background jobs in a row before the volume halts.
    pub job_failures_in_a_row: u32,
    /// Blocks that compaction reads at a time while it keeps up; up to four times as many when it does not.
    pub compaction_read_blocks: u32,
    /// Relocation records in flight.
    pub compaction_records_in_flight: usize,
    /// Bytes that compaction may move a tick without clients' writes to pace it.
    pub compaction_idle_bytes: u64,
    /// Look-ups of one block status request at most.
    pub status_lookups: usize,
    /// Pages of its map that a volume may always have in memory. One look-up needs two for each run of level 0 and for
    /// each deeper level, all at the same time: with fewer it would never end.
    pub map_pages_min: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_blocks: (32 << 20) / CLUSTER_SIZE as u32,
            record_blocks: 65,
            record_blocks_in_company: 16,
            records_in_flight: 4,
            replay_bytes: 64 << 20,
            memtable_bytes_max: 512 << 20,
            run_bytes: 4 << 20,
            level0_runs: 4,
            level0_part: 8,
            level0_runs_soft: 8,
            level0_runs_hard: 12,
            level_bytes: 64 << 20,
            level_factor: 8,
            read_bytes: 1 << 20,
            segments_ahead: 2,
            rmw_in_flight: 64,
            cuts_in_a_row: 3,
            job_failures_in_a_row: 10,
            compaction_read_blocks: 32,
            compaction_records_in_flight: 4,
            compaction_idle_bytes: 4 << 20,
            status_lookups: 16_384,
            map_pages_min: 64,
        }
    }
}
