//! Opening and locking what is in the pool's directory, before anybody reads anything.
//!
//! A killed process goes on writing: requests in its ring were seen to land tens of milliseconds after it was reaped,
//! and its `flock`s on the descriptors of that ring live exactly as long. Who holds all locks is alone.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uring::{AlignedBuf, Disk, File, OpenMode};

use super::reserve::Reserve;
use super::{Entry, PoolError, PoolOptions, classify};
use crate::volume::address::{CLUSTER_SIZE, SegmentId, VolumeId};
use crate::volume::record::{HeaderProblem, parse_header};

/// First pause between two tries for a lock (there is no event for its release); doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// All segments of a disk, open and locked, and the reserve.
pub struct OpenPool {
    pub(super) options: PoolOptions,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) files: SegmentFiles,
    pub(super) misshapen: Misshapen,
}

/// Segments of another length than a segment has, with their lengths in bytes. Whoever owns one may read what is left
/// of it; it is never granted.
pub type Misshapen = BTreeMap<SegmentId, u64>;

/// Open segments by number.
#[derive(Clone, Default)]
pub struct SegmentFiles(Vec<Option<Arc<dyn File>>>);

impl SegmentFiles {
    /// The file of `segment`, if it exists.
    #[inline]
    pub fn get(&self, segment: SegmentId) -> Option<&Arc<dyn File>> {
        self.0.get(segment.0 as usize)?.as_ref()
    }

    /// Keeps the file of a segment.
    pub fn insert(&mut self, segment: SegmentId, file: Arc<dyn File>) {
        let index = segment.0 as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(file);
    }

    /// Forgets the file of a segment; it is given back.
    pub(super) fn remove(&mut self, segment: SegmentId) -> Option<Arc<dyn File>> {
        self.0.get_mut(segment.0 as usize)?.take()
    }

    /// Numbers of all that exist.
    pub fn ids(&self) -> impl Iterator<Item = SegmentId> {
        self.0.iter().enumerate().filter(|(_, file)| file.is_some()).map(|(index, _)| SegmentId(index as u32))
    }
}

impl OpenPool {
    /// Opens and locks everything; removes half-made segments. Waits at most `options.lock_wait` for locks.
    pub fn open(disk: Arc<dyn Disk>, options: PoolOptions) -> Result<Self, PoolError> {
        let directory = options.directory.clone();
        disk.create_dir(&directory).map_err(PoolError::io(&directory))?;
        let names = disk.read_dir(&directory).map_err(PoolError::io(&directory))?;
        let deadline = Instant::now() + options.lock_wait;
        let (mut files, mut misshapen) = (SegmentFiles::default(), Misshapen::new());
        let mut unfinished = Vec::new();
        for name in &names {
            let path = directory.join(name);
            match classify(name) {
                Entry::Segment(segment) => {
                    let file = disk.open(&path, OpenMode::Direct).map_err(PoolError::io(&path))?;
                    if !lock(&*file, deadline).map_err(PoolError::io(&path))? {
                        return Err(PoolError::Locked { path, waited: options.lock_wait });
                    }
                    let found = file.len().map_err(PoolError::io(&path))?;
                    if found != options.segment_size {
                        let expected = options.segment_size;
                        tracing::warn!(path = %path.display(), found, expected, "segment of a wrong length");
                        misshapen.insert(segment, found);
                    }
                    files.insert(segment, file);
                }
                Entry::Unfinished => unfinished.push(path),
                Entry::Other => {}
            }
        }
        // Only now: as long as a predecessor lives, its half-made files are its own.
        for path in unfinished {
            disk.remove_file(&path).map_err(PoolError::io(&path))?;
        }
        let path = options.reserve_path();
        let reserve =
            Reserve::open(disk.clone(), path.clone(), options.reserve_size).map_err(PoolError::io(&path))?;
        Ok(Self { options, disk, reserve: Arc::new(reserve), files, misshapen })
    }

    /// The open segments.
    pub fn files(&self) -> &SegmentFiles {
        &self.files
    }

    /// The length of `segment` in bytes, if it lacks its end.
    pub fn cut_short(&self, segment: SegmentId) -> Option<u64> {
        self.misshapen.get(&segment).copied().filter(|&length| length < self.options.segment_size)
    }

    /// For background jobs that meet "no space".
    pub fn reserve(&self) -> Arc<Reserve> {
        self.reserve.clone()
    }

    /// Segments among `candidates` that may hold the log of one of `volumes`, with the volume if the first record
    /// tells: their manifests cannot be read, and until somebody repaired or deleted them nothing of theirs may be
    /// reused.
    pub fn segments_of_unreadable(
        &self,
        volumes: &[VolumeId],
        candidates: impl Iterator<Item = SegmentId>,
    ) -> Result<Vec<(SegmentId, Option<VolumeId>)>, PoolError> {
        let mut kept = Vec::new();
        let mut block = AlignedBuf::zeroed(CLUSTER_SIZE);
        for segment in candidates {
            let Some(file) = self.files.get(segment) else { continue };
            if self.misshapen.get(&segment).is_some_and(|&length| length < CLUSTER_SIZE as u64) {
                // It was anybody's.
                kept.push((segment, None));
                continue;
            }
            file.read_at(&mut block, 0).map_err(PoolError::io(&self.options.segment_path(segment)))?;
            match parse_header(&block) {
                Ok(parsed) if volumes.contains(&parsed.header.volume) => {
                    kept.push((segment, Some(parsed.header.volume)));
                }
                Ok(_) | Err(HeaderProblem::Zeros | HeaderProblem::NoMagic) => {}
                // A damaged header may be anybody's.
                Err(HeaderProblem::BadCrc | HeaderProblem::Nonsense) => kept.push((segment, None)),
            }
        }
        Ok(kept)
    }
}

/// Tries until `deadline`; `false`: somebody else still holds it.
fn lock(file: &dyn File, deadline: Instant) -> io::Result<bool> {
    let mut pause = PAUSE_MIN;
    loop {
        if file.try_lock()? {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
