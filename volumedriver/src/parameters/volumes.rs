//! Volumes, and the scrubbing of what they have on the backend.

use cfg_schema::{ByteSize, Microseconds, Milliseconds, Seconds, sections, words};

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

words! {
    /// When data enters the read cache.
    pub enum ReadCacheBehaviour {
        /// When it is written.
        CacheOnWrite = "CacheOnWrite",
        /// When it is read.
        CacheOnRead = "CacheOnRead",
        /// Never.
        NoCache = "NoCache",
    }
}

words! {
    /// By what data is found in the read cache.
    pub enum ReadCacheMode {
        /// By its content.
        ContentBased = "ContentBased",
        /// By its place.
        LocationBased = "LocationBased",
    }
}

words! {
    /// What becomes of an SCO in the cache that is on the backend.
    pub enum ScoWrittenAction {
        /// It may be removed.
        SetDisposable = "SetDisposable",
        /// The same, and the kernel forgets its pages.
        SetDisposableAndPurge = "SetDisposableAndPurgeFromPageCache",
        /// It is removed.
        Purge = "PurgeFromSCOCache",
    }
}

sections! {
    /// Volumes: their log, their map and the threads that serve them.
    section volume_manager: VolumeManager {
        /// Largest size accepted when a volume is created or resized.
        max_volume_size: ByteSize = ByteSize::tib(64), Dynamic, range 512..=140_737_421_205_504;
        /// Size of a cluster, the unit of the map. No other value is supported.
        default_cluster_size: u32 = 4096, Immutable, unit "bytes", range 4096..=4096;
        /// Pages of the maps, 4 KiB each, kept in memory by the whole process. Each data thread keeps 64 in any case.
        metadata_cache_capacity: u32 = 32_768, Dynamic, unit "pages", range 64..=16 << 20;
        /// Memory of all volumes for map entries that are not yet in a run; at the limit the largest is written out.
        memtable_limit: ByteSize = ByteSize::mib(256), Dynamic, range 1 << 20..=64 << 30;
        /// Log of one volume that a start may have to replay; at the limit its map entries are written to a run.
        log_replay_limit: ByteSize = ByteSize::mib(64), Dynamic, range 1 << 20..=64 << 30;
        /// Log records of one volume that may be on their way to the disk.
        log_records_in_flight: u32 = 4, Dynamic, unit "records", range 1..=64;
        /// Largest log record, its header of 4096 bytes included; a multiple of 4096. The default holds two writes of
        /// 128 KiB.
        record_size: ByteSize = ByteSize::kib(260), Dynamic, range 8 << 10..=512 << 10;
        /// Data that a log record gathers while another one is on its way to the disk; a multiple of 4096.
        record_gather_size: ByteSize = ByteSize::kib(64), Dynamic, range 4 << 10..=512 << 10;
        /// Largest run; a multiple of 4096.
        run_size: ByteSize = ByteSize::mib(4), Dynamic, range 64 << 10..=256 << 20;
        /// Relocated records of one volume that compaction may have on their way to the disk.
        compaction_records_in_flight: u32 = 4, Dynamic, unit "records", range 1..=64;
        /// Bytes that compaction reads at a time, up to four times as many while segments are short; a multiple of
        /// 4096. The log's records wait behind each read.
        compaction_read_size: ByteSize = ByteSize::kib(128), Dynamic, range 4 << 10..=4 << 20;
        /// Memory of one data thread for reads that are being answered; more reads wait.
        read_bytes_in_flight: ByteSize = ByteSize::mib(64), Dynamic, range 1 << 20..=16 << 30;
        /// Memory of one data thread for writes that are not yet acknowledged; more writes wait.
        write_bytes_in_flight: ByteSize = ByteSize::mib(64), Dynamic, range 1 << 20..=16 << 30;
        /// Threads that serve volumes; 0 means one for each core, at most 4. A volume stays on the thread that it was
        /// given to at the start.
        data_threads: u32 = 0, Restart, unit "threads", range 0..=64;
        /// How data threads reach disks and sockets. Requests in flight belong to what was chosen at the start.
        io_backend: IoBackend = IoBackend::Auto, Restart;
        /// Entries of a data thread's submission queue, rounded up to a power of two. The kernel fixes it when the
        /// queue is made.
        ring_entries: u32 = 256, Restart, unit "entries", range 8..=4096;
        /// Threads for file operations of a data thread where io_uring is not used; started with the data thread.
        io_threads: u32 = 8, Restart, unit "threads", range 1..=64;
        /// How long an admin call waits for the thread that serves a volume.
        volume_call_timeout_ms: Milliseconds = Milliseconds(30_000), Dynamic, range 100..=600_000;
        /// How long a shutdown waits for clients' requests, and again for the flushes of all volumes.
        shutdown_timeout_ms: Milliseconds = Milliseconds(10_000), Dynamic, range 100..=600_000;
        /// How long a start waits for locks of a predecessor whose last writes are still landing. Nothing but a start
        /// uses it.
        lock_wait_ms: Milliseconds = Milliseconds(10_000), Restart, range 0..=600_000;
        /// Directory of maps that are kept locally.
        metadata_path: String, NoEffect;
        /// Directory of TLogs.
        tlog_path: String, NoEffect;
        /// Files of SCOs that a volume keeps open.
        open_scos_per_volume: u32 = 32, NoEffect, unit "SCOs", range 1..=1023;
        /// Pause before an entry is offered again to a DTL that takes no more.
        dtl_throttle_usecs: Microseconds = Microseconds(1000), NoEffect;
        /// Asynchronous DTL: entries of a volume that may wait to be sent.
        dtl_queue_depth: u32 = 1024, NoEffect, unit "entries";
        /// Asynchronous DTL: waiting entries that make it send.
        dtl_write_trigger: u32 = 8, NoEffect, unit "entries";
        /// How long the client spins on the DTL's socket before it sleeps; 0 means not at all.
        dtl_busy_loop_usecs: Microseconds = Microseconds(0), NoEffect;
        /// How long the DTL may take to answer.
        dtl_request_timeout_ms: Milliseconds = Milliseconds(60_000), NoEffect;
        /// How long a connection to the DTL may take; 0 leaves it to the system.
        dtl_connect_timeout_ms: Milliseconds = Milliseconds(1000), NoEffect;
        /// How often the SCO cache is cleaned.
        clean_interval: Seconds, NoEffect, unit "seconds", range 1..=u64::MAX;
        /// How often it is stored which SCOs are used.
        sap_persist_interval: Seconds = Seconds(86_400), NoEffect, unit "seconds", range 1..=u64::MAX;
        /// How often the DTLs of all volumes are looked after.
        dtl_check_interval_in_seconds: Seconds = Seconds(300), NoEffect, range 1..=u64::MAX;
        /// When data enters the read cache, for volumes that do not say it themselves.
        read_cache_default_behaviour: ReadCacheBehaviour = ReadCacheBehaviour::CacheOnRead, NoEffect;
        /// By what data is found in the read cache, for volumes that do not say it themselves.
        read_cache_default_mode: ReadCacheMode = ReadCacheMode::ContentBased, NoEffect;
        /// What becomes of an SCO in the cache that is on the backend.
        sco_written_to_backend_action: ScoWrittenAction = ScoWrittenAction::SetDisposable, NoEffect;
        /// Volumes take no writes while the file system of the TLogs has less free space; at twice as much it warns.
        required_tlog_freespace: ByteSize = ByteSize::mib(200), NoEffect;
        /// Volumes take no writes while the file system of the maps has less free space, nor are they made or started.
        required_meta_freespace: ByteSize = ByteSize::mib(200), NoEffect;
        /// A partial read may be answered by an older version of an object.
        allow_inconsistent_partial_reads: bool = true, NoEffect;
        /// How often free space is looked at.
        freespace_check_interval: Seconds = Seconds(10), NoEffect, unit "seconds", range 1..=u64::MAX;
        /// SCOs of a TLog.
        number_of_scos_in_tlog: u32 = 20, NoEffect, unit "SCOs", range 1..=u32::MAX;
        /// Bounds what a volume may have in the cache and not on the backend: this times the size of a TLog's SCOs.
        non_disposable_scos_factor: f64 = 1.5, NoEffect, range 1.0..=f64::MAX;
        /// TLogs by which a metadata server may be behind and still become a volume's master; 4294967295 means no
        /// limit.
        metadata_mds_slave_max_tlogs_behind: u32 = 50, NoEffect, unit "TLogs";
        /// Directory for what is known when a volume halts.
        debug_metadata_path: String = "/opt/OpenvStorage/var/lib/volumedriver/evidence".to_owned(), NoEffect;
        /// Pages that one change of a map in Arakoon holds.
        arakoon_metadata_sequence_size: u32 = 10, NoEffect, unit "pages";
        /// For tests: data is neither written nor read.
        volume_nullio: bool = false, NoEffect;
    }

    /// Scrubbing: compaction of what is on the backend.
    section scrub_manager: ScrubManager {
        /// How often finished scrubs are looked for.
        scrub_manager_interval: Seconds = Seconds(300), NoEffect, unit "seconds", range 1..=u64::MAX;
        /// How long the result of a scrub may take to reach the backend.
        scrub_manager_sync_wait_secs: Seconds = Seconds(600), NoEffect;
        /// Results for volumes that have clones, which may wait for the clones before no more scrubs are given out.
        scrub_manager_max_parent_scrubs: u32 = 1024, NoEffect, unit "results";
        /// Results of scrubs are taken in.
        scrub_manager_enabled: bool = true, NoEffect;
    }
}
