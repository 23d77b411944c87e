//! The thread that writes zeros: one segment at a time, and the reserve. It may take long and nobody waits for it but
//! the keeper's queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use uring::{AlignedBuf, Disk, File, OpenMode};

use super::PoolOptions;
use super::keeper::Keep;
use super::reserve::Reserve;
use crate::volume::address::SegmentId;

/// Bytes of one write of zeros.
const STEP: usize = 1 << 20;

/// What the keeper wants made. At most one of each is open.
#[derive(Debug)]
pub(super) enum Make {
    Segment(SegmentId),
    Reserve,
}

/// Runs until the keeper goes.
pub(super) fn run(
    options: PoolOptions,
    disk: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
    orders: Receiver<Make>,
    keeper: SyncSender<Keep>,
    stopping: Arc<AtomicBool>,
) {
    for order in orders {
        let answer = match order {
            Make::Segment(segment) => {
                let result = make_segment(&options, &*disk, &reserve, segment, &stopping);
                Keep::Made { segment, result }
            }
            Make::Reserve => {
                if let Err(error) = reserve.restore(options.segment_size) {
                    tracing::warn!(%error, "the reserve could not be written");
                }
                Keep::ReserveTried
            }
        };
        if keeper.send(answer).is_err() {
            return;
        }
    }
}

/// Creates, zero-writes and locks a segment; it gets its name only when it is whole and durable.
fn make_segment(
    options: &PoolOptions,
    disk: &dyn Disk,
    reserve: &Reserve,
    segment: SegmentId,
    stopping: &AtomicBool,
) -> io::Result<Arc<dyn File>> {
    // What manifests and runs need must not be taken by a segment, also where the pool's size was set by hand.
    if disk.free_space(&options.directory)? < options.segment_size + reserve.missing() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let unfinished = options.unfinished_path(segment);
    let result = write_zeros(options, disk, segment, stopping);
    if result.is_err()
        && let Err(error) = disk.remove_file(&unfinished)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %unfinished.display(), "half-made segment stays until the next start");
    }
    result
}

fn write_zeros(
    options: &PoolOptions,
    disk: &dyn Disk,
    segment: SegmentId,
    stopping: &AtomicBool,
) -> io::Result<Arc<dyn File>> {
    let unfinished = options.unfinished_path(segment);
    drop(disk.open(&unfinished, OpenMode::CreateOrTruncate)?);
    let file = disk.open(&unfinished, OpenMode::Direct)?;
    if !file.try_lock()? {
        return Err(io::Error::other("a new segment is locked by somebody else"));
    }
    let zeros = AlignedBuf::zeroed(STEP);
    let mut offset = 0;
    while offset < options.segment_size {
        if stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the driver is shutting down"));
        }
        let length = (options.segment_size - offset).min(STEP as u64) as usize;
        file.write_at(&zeros[..length], offset)?;
        offset += length as u64;
    }
    file.sync()?;
    disk.rename(&unfinished, &options.segment_path(segment))?;
    disk.sync_dir(&options.directory)?;
    Ok(file)
}
