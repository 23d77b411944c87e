//! Local disks: the SCO cache and the read cache.

use std::path::PathBuf;

use cfg_schema::{ByteSize, Microseconds, SizeLimit, sections};

sections! {
    objects {
        /// A directory for segments.
        MountPoint {
            /// The directory; a relative path starts in the data directory.
            path: PathBuf;
            /// Space that segments may take there; UNLIMITED leaves it to the file system.
            size: SizeLimit = SizeLimit::Unlimited, range 256 << 20..=1 << 50;
        }

        /// A device or file of the read cache.
        CacheDevice {
            /// The device or file.
            path: String;
            /// Space that may be used of it.
            size: SizeLimit;
        }
    }

    /// The SCO cache: the local disk that holds the log in segments of equal size.
    section scocache: ScoCache {
        /// Where segments are kept. One disk for now. Its size may change at any time, but not to less than volumes
        /// have there; another disk takes effect at the next start.
        scocache_mount_points: Vec<MountPoint> =
            vec![MountPoint { path: PathBuf::from("scocache"), size: SizeLimit::Unlimited }], Dynamic, range 1..=1;
        /// Compaction begins when less than this is free for segments.
        trigger_gap: ByteSize = ByteSize(1_000_000_000), Dynamic, range 1..=1 << 50;
        /// Compaction goes on until this much is free for segments.
        backoff_gap: ByteSize = ByteSize(2_000_000_000), Dynamic, range 1..=1 << 50;
        /// Size of a segment, which is the largest size of an SCO; a multiple of 4096.
        segment_size: ByteSize = ByteSize::mib(32), Immutable, range 1 << 20..=128 << 20;
        /// Free segments that are kept ready for the log when clients write little.
        segments_ready_min: u32 = 4, Dynamic, unit "segments", range 1..=4096;
        /// Free segments that are kept ready for the log when clients write fast.
        segments_ready_max: u32 = 16, Dynamic, unit "segments", range 1..=4096;
        /// Space kept allocated for runs and manifests, so that compaction can finish on a full disk.
        reserve_size: ByteSize = ByteSize::mib(64), Dynamic, range 16 << 20..=1 << 40;
        /// Pause of a write while the disk is too full, before it is scaled by how full it is.
        datastore_throttle_usecs: Microseconds = Microseconds(4000), NoEffect;
        /// What an access adds to the weight that keeps an SCO in the cache.
        discount_factor: f64 = 1e-6, NoEffect;
    }

    /// The read cache, which finds data by its content.
    section content_addressed_cache: ContentAddressedCache {
        /// Directory of the index that is kept from one start to the next.
        read_cache_serialization_path: String, NoEffect;
        /// Entries that a bucket of the index should hold.
        average_entries_per_bin: u32 = 2, NoEffect, unit "entries";
        /// The index is kept from one start to the next.
        serialize_read_cache: bool = true, NoEffect;
        /// The devices of the cache.
        clustercache_mount_points: Vec<CacheDevice> = Vec::new(), NoEffect;
    }
}
