//! Volumes as files: the file system, its FUSE side, and plain files.

use cfg_schema::{List, Seconds, sections, words};

use super::nodes::{ArakoonNode, MdsAddress};

words! {
    /// Which files are volumes.
    pub enum VirtualDiskFormat {
        /// Flat extents of VMware.
        Vmdk = "vmdk",
        /// Those with a certain ending.
        Raw = "raw",
    }
}

words! {
    /// Where maps of volumes are kept.
    pub enum MetadataBackendType {
        /// In an Arakoon cluster.
        Arakoon = "ARAKOON",
        /// On metadata servers.
        Mds = "MDS",
        /// In a local RocksDB.
        RocksDb = "ROCKSDB",
        /// In a local Tokyo Cabinet.
        TokyoCabinet = "TCBT",
    }
}

words! {
    /// How a volume finds its DTL.
    pub enum DtlConfigMode {
        /// It is the next host of the cluster.
        Automatic = "Automatic",
        /// It is what the configuration says.
        Manual = "Manual",
    }
}

words! {
    /// Whether writes wait for the DTL.
    pub enum DtlMode {
        /// They do not, but flushes do.
        Asynchronous = "Asynchronous",
        /// Each does.
        Synchronous = "Synchronous",
    }
}

words! {
    /// Calls of a file system. The names are those of FUSE.
    pub enum FileCall {
        Getattr = "Getattr",
        Access = "Access",
        Readlink = "Readlink",
        Readdir = "Readdir",
        Mknod = "Mknod",
        Mkdir = "Mkdir",
        Unlink = "Unlink",
        Rmdir = "Rmdir",
        Symlink = "Symlink",
        Rename = "Rename",
        Link = "Link",
        Chown = "Chown",
        Chmod = "Chmod",
        Truncate = "Truncate",
        Open = "Open",
        Read = "Read",
        Write = "Write",
        Statfs = "Statfs",
        Utimens = "Utimens",
        Release = "Release",
        Fsync = "Fsync",
        Opendir = "Opendir",
        Releasedir = "Releasedir",
    }
}

sections! {
    objects {
        /// Which calls on which files become events.
        FileEventRule {
            /// Regular expression that the whole path must match.
            fs_file_event_rule_path_regex: String;
            /// The calls, each once.
            fs_file_event_rule_calls: List<FileCall>;
        }
    }

    /// Volumes as files of a file system.
    section filesystem: Filesystem {
        /// Requests to make data durable are answered and not done; a crash then loses data.
        fs_ignore_sync: bool = false, NoEffect;
        /// Which files are volumes.
        fs_virtual_disk_format: VirtualDiskFormat, NoEffect;
        /// Format raw: ending of the names of files that are volumes.
        fs_raw_disk_suffix: String = String::new(), NoEffect;
        /// Limit of open files that is set at the start, if the process may.
        fs_max_open_files: u32 = 65_536, NoEffect, unit "files";
        /// Ending of the names of internal files; begins with a dot, and holds no slash.
        fs_internal_suffix: String = ".vfs_internal".to_owned(), NoEffect;
        /// Which calls on which files become events.
        fs_file_event_rules: Vec<FileEventRule> = Vec::new(), NoEffect;
        /// Where the maps of volumes that are created as files are kept.
        fs_metadata_backend_type: MetadataBackendType = MetadataBackendType::Mds, NoEffect;
        /// ARAKOON: id of the cluster.
        fs_metadata_backend_arakoon_cluster_id: String = String::new(), NoEffect;
        /// ARAKOON: the servers of the cluster.
        fs_metadata_backend_arakoon_cluster_nodes: Vec<ArakoonNode> = Vec::new(), NoEffect;
        /// MDS: the servers of a new volume, its master first.
        fs_metadata_backend_mds_nodes: Vec<MdsAddress> = Vec::new(), NoEffect;
        /// MDS: what scrubbing has moved is also told to the slaves of a new volume.
        fs_metadata_backend_mds_apply_relocations_to_slaves: bool = true, NoEffect;
        /// MDS: how long a server of a new volume may take to answer.
        fs_metadata_backend_mds_timeout_secs: Seconds = Seconds(20), NoEffect, range 1..=u64::MAX;
        /// MDS: TLogs by which a slave of a new volume may be behind and still become its master; 4294967295 leaves it
        /// to `volume_manager.metadata_mds_slave_max_tlogs_behind`.
        fs_metadata_backend_mds_slave_max_tlogs_behind: u32 = u32::MAX, NoEffect, unit "TLogs";
        /// Entries of directories are remembered.
        fs_cache_dentries: bool = false, NoEffect;
        /// For tests: data is neither written nor read.
        fs_nullio: bool = false, NoEffect;
        /// How a volume finds its DTL.
        fs_dtl_config_mode: DtlConfigMode = DtlConfigMode::Automatic, NoEffect;
        /// Manual: host of the DTL; empty for none.
        fs_dtl_host: String = String::new(), NoEffect;
        /// Manual: port of the DTL.
        fs_dtl_port: u16 = 0, NoEffect;
        /// Whether writes wait for the DTL.
        fs_dtl_mode: DtlMode = DtlMode::Asynchronous, NoEffect;
        /// Clients on the same host reach volumes through shared memory.
        fs_enable_shm_interface: bool = false, NoEffect;
        /// Clients reach volumes through the network (edge) interface.
        fs_enable_network_interface: bool = false, NoEffect;
        /// The owner of a volume is told when a file is opened.
        fs_use_open: bool = true, NoEffect;
    }

    /// The FUSE side of the file system.
    section fuse: Fuse {
        /// Idle threads beyond this number end.
        fuse_min_workers: u32 = 8, NoEffect, unit "threads", range 1..=u32::MAX;
        /// Threads at most.
        fuse_max_workers: u32 = 8, NoEffect, unit "threads", range 1..=u32::MAX;
    }

    /// Files that are no volumes.
    section file_driver: FileDriver {
        /// Directory of the extents that are kept locally.
        fd_cache_path: String, NoEffect;
        /// Namespace of the backend that holds the files; it is created if it is not there.
        fd_namespace: String, NoEffect;
        /// Extents that are kept locally.
        fd_extent_cache_capacity: u32 = 1024, NoEffect, unit "extents", range 1..=u32::MAX;
    }
}
