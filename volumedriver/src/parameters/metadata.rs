//! Metadata servers.

use cfg_schema::{ByteSize, Seconds, sections, words};

words! {
    /// Databases of a metadata server.
    pub enum MdsDatabase {
        /// RocksDB.
        RocksDb = "ROCKSDB",
    }
}

words! {
    /// Whether RocksDB writes a log ahead.
    pub enum EnableWal {
        /// It does.
        On = "EnableWal::T",
        /// It does not.
        Off = "EnableWal::F",
    }
}

words! {
    /// Whether RocksDB makes its files durable.
    pub enum DataSync {
        /// It does.
        On = "DataSync::T",
        /// It does not.
        Off = "DataSync::F",
    }
}

words! {
    /// How RocksDB compacts.
    pub enum CompactionStyle {
        /// By levels.
        Level = "Level",
        /// By sorted runs.
        Universal = "Universal",
        /// The oldest files go.
        Fifo = "Fifo",
        /// Not by itself.
        None = "None",
    }
}

sections! {
    objects {
        /// A metadata server in this process. All but the address and directories are options of RocksDB; unset leaves
        /// them to it.
        MdsNode {
            /// Address to listen on.
            host: String;
            /// Port to listen on.
            port: u16;
            /// Directory of the database; no other server may have it.
            db_directory: String;
            /// Directory for temporary files; no other server may have it.
            scratch_directory: String;
            /// Threads of the database; unset means one for each core.
            rocksdb_threads: Option<u64> = None, unit "threads";
            /// Size of a memtable.
            rocksdb_write_cache_size: Option<ByteSize> = None;
            /// Size of the block cache; unset means 4 MiB.
            rocksdb_read_cache_size: Option<ByteSize> = None;
            /// Whether a log is written ahead; unset means that it is not.
            rocksdb_enable_wal: Option<EnableWal> = None;
            /// Whether writes are made durable; unset means that they are not.
            rocksdb_data_sync: Option<DataSync> = None;
            /// Memtables at most.
            rocksdb_max_write_buffer_number: Option<i32> = None;
            /// Memtables that are merged before they are written out.
            rocksdb_min_write_buffer_number_to_merge: Option<i32> = None;
            /// Levels of the tree.
            rocksdb_num_levels: Option<i32> = None;
            /// Files of level 0 that start a compaction.
            rocksdb_level0_file_num_compaction_trigger: Option<i32> = None, unit "files";
            /// Files of level 0 that slow writes down.
            rocksdb_level0_slowdown_writes_trigger: Option<i32> = None, unit "files";
            /// Files of level 0 that stop writes.
            rocksdb_level0_stop_writes_trigger: Option<i32> = None, unit "files";
            /// Size of a file of level 1.
            rocksdb_target_file_size_base: Option<ByteSize> = None;
            /// Size of level 1.
            rocksdb_max_bytes_for_level_base: Option<ByteSize> = None;
            /// How files are compacted.
            rocksdb_compaction_style: Option<CompactionStyle> = None;
        }
    }

    /// Servers that keep the maps of volumes for other hosts.
    section metadata_server: MetadataServer {
        /// Database of the servers.
        mds_db_type: MdsDatabase = MdsDatabase::RocksDb, NoEffect;
        /// Pages that a table keeps in memory while it takes in TLogs.
        mds_cached_pages: u32 = 256, NoEffect, unit "pages";
        /// How often each table looks for new TLogs and results of scrubbing on the backend.
        mds_poll_secs: Seconds = Seconds(300), NoEffect, range 1..=u64::MAX;
        /// How long the network may take with one transfer; 0 means no limit.
        mds_timeout_secs: Seconds = Seconds(30), NoEffect;
        /// Threads of each server; 0 means one for each core.
        mds_threads: u32 = 1, NoEffect, unit "threads";
        /// Threads that do the periodic work of all tables; 0 means one for each core.
        mds_bg_threads: u32 = 4, NoEffect, unit "threads";
        /// The servers in this process.
        mds_nodes: Vec<MdsNode> = Vec::new(), NoEffect;
    }
}
