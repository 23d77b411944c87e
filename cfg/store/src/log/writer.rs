//! Writing a log: one batch, one write, one sync. Synchronous and without a thread: the same calls make the
//! same bytes.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uring::{Disk, File, OpenMode};

use super::Options;
use super::clean::{self, Mark};
use super::error::LogError;
use super::memory::{Memory, State};
use super::record::Record;
use super::recover::{self, Found, Recovered, Segment, UNFINISHED, at};
use super::segment::{self, Header, SECTOR};

/// Name of the file that is locked while the log is open.
const LOCK: &str = "lock";

/// The one who writes a log's files.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    /// In order; the last is the one that is written.
    segments: VecDeque<Segment>,
    file: Arc<dyn File>,
    /// Length of the last segment, bytes.
    offset: u64,
    /// Of the next batch.
    sequence: u64,
    /// Of everything written.
    state: State,
    /// Why nothing is written any more.
    stopped: Option<String>,
    /// Held as long as the log is open.
    _lock: Arc<dyn File>,
}

/// Creates a file that appears under its name with all its content, durably.
fn create(disk: &dyn Disk, dir: &Path, name: &str, content: &[u8]) -> io::Result<Arc<dyn File>> {
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let file = disk.open(&unfinished, OpenMode::CreateOrTruncate)?;
    file.write_at(content, 0)?;
    file.sync()?;
    disk.rename(&unfinished, &dir.join(name))?;
    disk.sync_dir(dir)?;
    Ok(file)
}

impl Writer {
    /// Opens or creates the log in `dir`, a directory whose parent is durable.
    ///
    /// # Errors
    /// See [`LogError`].
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<(Writer, Memory, Recovered), LogError> {
        options.check()?;
        disk.create_dir(dir).map_err(at(dir))?;
        if let Some(parent) = dir.parent() {
            // The empty path is the directory that relative paths begin at.
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            disk.sync_dir(parent).map_err(at(parent))?;
        }
        let lock = disk.open(&dir.join(LOCK), OpenMode::CreateOrTruncate).map_err(at(dir))?;
        if !lock.try_lock().map_err(at(dir))? {
            return Err(LogError::InUse { path: dir.to_path_buf() });
        }
        let found = recover::recover(&*disk, dir)?;
        let (memory, report) = (found.memory.clone(), found.report.clone());
        let mut writer = Self::begin(disk, dir, options, found, lock).map_err(at(dir))?;
        writer.delete_purged().map_err(at(dir))?;
        Ok((writer, memory, report))
    }

    /// Makes what was found durable and takes off what does not count, so that it can be gone on from.
    ///
    /// The last segment may have been read from the kernel's page cache only, and after a failed sync no
    /// later one would make it durable: what was found is written once more, to a new file that takes the old
    /// one's name. The segments before it were synced before their successor was begun.
    fn begin(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        found: Found,
        lock: Arc<dyn File>,
    ) -> io::Result<Writer> {
        for name in &found.unfinished {
            disk.remove_file(&dir.join(name))?;
        }
        if found.report.clean {
            disk.remove_file(&dir.join(clean::NAME))?;
        }
        disk.sync_dir(dir)?;
        let Found { memory, mut segments, sequence, tail, .. } = found;
        let (number, content) = match tail {
            Some(tail) => (tail.number, tail.bytes),
            None => {
                segments.push_back(Segment { number: 1, highest: None });
                (1, Header { number: 1, sequence, state: memory.state }.encode())
            }
        };
        let file = create(&*disk, dir, &recover::name(number), &content)?;
        let (dir, offset, state) = (dir.to_path_buf(), content.len() as u64, memory.state);
        Ok(Writer { disk, dir, options, segments, file, offset, sequence, state, stopped: None, _lock: lock })
    }

    /// Writes records and makes them durable, as batches of at most [`Options::batch_bytes`] (a longer record
    /// has one of its own). Whatever an error leaves of them is a front part.
    ///
    /// # Errors
    /// The disk's, and from then on always.
    pub(super) fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.guard(|writer| {
            let mut rest = records;
            while !rest.is_empty() {
                let (mut count, mut bytes) = (0, 0);
                for record in rest {
                    bytes += record.encoded_len();
                    if count > 0 && segment::batch_len(bytes) > writer.options.batch_bytes {
                        break;
                    }
                    count += 1;
                }
                let (batch, later) = rest.split_at(count);
                writer.write_batch(batch)?;
                rest = later;
            }
            Ok(())
        })
    }

    /// Does something that may fail. After an error nothing is done any more: the kernel may have dropped
    /// what it could not write, and a second sync would succeed and lie.
    fn guard(&mut self, act: impl FnOnce(&mut Writer) -> io::Result<()>) -> io::Result<()> {
        if let Some(reason) = &self.stopped {
            return Err(io::Error::other(format!("the log takes nothing since a write failed: {reason}")));
        }
        act(self).inspect_err(|error| self.stopped = Some(error.to_string()))
    }

    fn write_batch(&mut self, records: &[Record]) -> io::Result<()> {
        let len = segment::batch_len(records.iter().map(Record::encoded_len).sum());
        if self.offset > SECTOR as u64 && self.offset + len as u64 > self.options.segment_bytes {
            self.rotate()?;
        }
        let number = self.segments.back().map_or(0, |segment| segment.number);
        let bytes = segment::encode_batch(number, self.sequence, records);
        self.file.write_at(&bytes, self.offset)?;
        self.file.sync()?;
        self.offset += bytes.len() as u64;
        self.sequence += 1;
        for record in records {
            self.state.apply(record);
            recover::note(&mut self.segments, record);
        }
        Ok(())
    }

    /// Begins a new segment. All of the one before it is durable.
    fn rotate(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(0, |segment| segment.number) + 1;
        let header = Header { number, sequence: self.sequence, state: self.state };
        self.file = create(&*self.disk, &self.dir, &recover::name(number), &header.encode())?;
        self.offset = SECTOR as u64;
        self.segments.push_back(Segment { number, highest: None });
        Ok(())
    }

    /// Deletes the first segments as long as all their entries are purged, one after the other durably, so
    /// that no crash leaves a hole. The purge is durable already.
    ///
    /// # Errors
    /// The disk's, and from then on always.
    pub(super) fn delete_purged(&mut self) -> io::Result<()> {
        let purged = self.state.purged.map(|purged| purged.index);
        while let [first, _, ..] = self.segments.make_contiguous()
            && first.highest <= purged
        {
            let path = self.dir.join(recover::name(first.number));
            self.guard(|writer| {
                writer.disk.remove_file(&path)?;
                writer.disk.sync_dir(&writer.dir)
            })?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Leaves the mark of a clean stop.
    ///
    /// # Errors
    /// The disk's, or that an earlier write failed: then there is no mark.
    pub(super) fn close(mut self) -> io::Result<()> {
        let segment = self.segments.back().map_or(0, |segment| segment.number);
        let mark = Mark { segment, len: self.offset, sequence: self.sequence };
        self.guard(|writer| create(&*writer.disk, &writer.dir, clean::NAME, &mark.encode()).map(drop))
    }
}
