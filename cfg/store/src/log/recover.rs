//! Reading a log back: judges every byte, changes nothing.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use uring::{Disk, OpenMode};

use super::clean::{self, Mark};
use super::error::LogError;
use super::memory::Memory;
use super::record::Record;
use super::segment::{self, Header, Next, SECTOR, SEGMENT_MAX, Unfit};

/// Ending of a segment's name.
const SEGMENT: &str = ".log";
/// Ending of a file that is not complete yet.
pub(super) const UNFINISHED: &str = ".new";
/// Digits of a segment's number in its name.
const DIGITS: usize = 16;

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// It was closed, and is as it was then.
    pub clean: bool,
    /// Segments read.
    pub segments: usize,
    /// Batches read.
    pub batches: u64,
    /// A write at the end that never finished, and was cut off. Nobody was told that it succeeded.
    pub cut: Option<Cut>,
}

/// An unfinished write at the end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Where it began, bytes.
    pub offset: u64,
    /// Bytes of it that were there.
    pub bytes: u64,
    /// How it is known.
    pub reason: String,
}

/// A segment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number.
    pub(super) number: u64,
    /// No entry in it that was not truncated has a higher index; `None`: there is none.
    pub(super) highest: Option<u64>,
}

/// Notes that a record was added to the last segment.
pub(super) fn note(segments: &mut VecDeque<Segment>, record: &Record) {
    match record {
        Record::Entry(entry) => {
            if let Some(last) = segments.back_mut() {
                last.highest = last.highest.max(Some(entry.id.index));
            }
        }
        Record::Truncate { from, .. } => {
            for segment in segments.iter_mut().filter(|segment| segment.highest >= Some(*from)) {
                segment.highest = from.checked_sub(1);
            }
        }
        Record::Vote(_) | Record::Purge(_) | Record::Committed(_) => {}
    }
}

/// The last segment.
pub(super) struct Tail {
    /// Everything in it that counts: the header, and the batches up to the cut.
    pub(super) bytes: Vec<u8>,
    /// Its number.
    pub(super) number: u64,
}

/// What a directory holds.
#[derive(Default)]
pub(super) struct Found {
    /// What the records come to.
    pub(super) memory: Memory,
    /// In order.
    pub(super) segments: VecDeque<Segment>,
    /// Sequence of the next batch.
    pub(super) sequence: u64,
    /// `None`: there is no segment yet.
    pub(super) tail: Option<Tail>,
    /// Names of files that a crash left incomplete.
    pub(super) unfinished: Vec<String>,
    /// For the owner of the log.
    pub(super) report: Recovered,
}

/// Name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:0DIGITS$}{SEGMENT}")
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT)?;
    let sound = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&number| sound && self::name(number) == name)
}

fn damaged(path: PathBuf, offset: usize, what: impl Into<String>) -> LogError {
    LogError::Damaged { path, offset: offset as u64, what: what.into() }
}

/// Adds the path to an error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_path_buf();
    move |source| LogError::Io { path, source }
}

/// The whole of a segment.
fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, LogError> {
    let file = disk.open(path, OpenMode::Read).map_err(at(path))?;
    let len = file.len().map_err(at(path))?;
    if len > SEGMENT_MAX {
        return Err(damaged(path.to_path_buf(), 0, format!("{len} bytes, longer than any segment")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_at(&mut bytes, 0).map_err(at(path))?;
    Ok(bytes)
}

/// Reads the log in `dir`.
///
/// # Errors
/// Damage, another format, or a file that cannot be read.
pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> Result<Found, LogError> {
    let names = disk.read_dir(dir).map_err(at(dir))?;
    let numbers: BTreeSet<u64> = names.iter().filter_map(|name| number(name)).collect();
    let mark = match names.iter().any(|name| name == clean::NAME) {
        true => Some(read_mark(disk, &dir.join(clean::NAME))?),
        false => None,
    };
    let unfinished = names.into_iter().filter(|name| name.ends_with(UNFINISHED)).collect();
    let mut found = Found { unfinished, sequence: 1, ..Found::default() };
    for &number in &numbers {
        let last = numbers.last() == Some(&number);
        found.take_segment(disk, dir, number, last)?;
    }
    if let Some(index) = found.memory.gone() {
        let before = numbers.first().map_or(0, |first| first.saturating_sub(1));
        let what = format!("it is missing, and with it entries up to {index}");
        return Err(damaged(dir.join(name(before)), 0, what));
    }
    if let Some(mark) = mark {
        found.compare(mark, dir)?;
    }
    Ok(found)
}

fn read_mark(disk: &dyn Disk, path: &Path) -> Result<Mark, LogError> {
    let bytes = match disk.read(path, clean::LEN) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged(path.to_path_buf(), clean::LEN, "it is too long"));
        }
        read => read.map_err(at(path))?,
    };
    Mark::decode(&bytes).ok_or_else(|| damaged(path.to_path_buf(), 0, "it does not match its checksum"))
}

impl Found {
    /// Reads one segment behind those taken already.
    fn take_segment(&mut self, disk: &dyn Disk, dir: &Path, number: u64, last: bool) -> Result<(), LogError> {
        let path = dir.join(name(number));
        let mut bytes = read(disk, &path)?;
        let header = Header::decode(&bytes, number).map_err(|unfit| match unfit {
            Unfit::Foreign(what) => LogError::Foreign { path: path.clone(), what },
            Unfit::Damaged(what) => damaged(path.clone(), 0, what),
        })?;
        self.join(&header, dir)?;
        self.segments.push_back(Segment { number, highest: None });
        self.report.segments += 1;
        let mut offset = SECTOR;
        loop {
            match segment::next(&bytes, offset, number, self.sequence) {
                Next::End => break,
                Next::Batch { records, len } => {
                    for record in &records {
                        self.memory.apply(record).map_err(|what| damaged(path.clone(), offset, what))?;
                        note(&mut self.segments, record);
                    }
                    offset += len;
                    self.sequence += 1;
                    self.report.batches += 1;
                }
                Next::Torn(reason) if last => {
                    let cut = (bytes.len() - offset) as u64;
                    self.report.cut = Some(Cut { file: path, offset: offset as u64, bytes: cut, reason });
                    break;
                }
                Next::Torn(what) | Next::Damaged(what) => return Err(damaged(path, offset, what)),
            }
        }
        bytes.truncate(offset);
        self.tail = Some(Tail { bytes, number });
        Ok(())
    }

    /// Whether a segment goes on where the one before it ended.
    fn join(&mut self, header: &Header, dir: &Path) -> Result<(), LogError> {
        let Some(before) = self.segments.back() else {
            self.memory = Memory::new(header.state);
            self.sequence = header.sequence;
            return Ok(());
        };
        if before.number + 1 != header.number {
            let what = format!("it is missing between segments {} and {}", before.number, header.number);
            return Err(damaged(dir.join(name(before.number + 1)), 0, what));
        }
        if (self.sequence, self.memory.state) != (header.sequence, header.state) {
            let end = self.tail.as_ref().map_or(0, |tail| tail.bytes.len());
            let what = format!(
                "it ends before batch {}, and the next segment begins with batch {} or another state",
                self.sequence, header.sequence
            );
            return Err(damaged(dir.join(name(before.number)), end, what));
        }
        Ok(())
    }

    /// Whether the log still is what it was when it was closed.
    fn compare(&mut self, mark: Mark, dir: &Path) -> Result<(), LogError> {
        if let Some(Cut { file, offset, reason, .. }) = self.report.cut.take() {
            return Err(LogError::Damaged {
                path: file,
                offset,
                what: format!("{reason} of a log that was closed"),
            });
        }
        let end = self.tail.as_ref().map(|tail| (tail.number, tail.bytes.len() as u64));
        if end != Some((mark.segment, mark.len)) || self.sequence != mark.sequence {
            let (number, len) = end.unwrap_or_default();
            let what = format!(
                "the log was closed at byte {} of segment {} before batch {}, and ends at byte {len} of segment \
                 {number} before batch {}",
                mark.len, mark.segment, mark.sequence, self.sequence
            );
            // Of another segment than the one that is there, all is missing.
            let common = if number == mark.segment { len.min(mark.len) } else { 0 };
            return Err(damaged(dir.join(name(mark.segment)), common as usize, what));
        }
        self.report.clean = true;
        Ok(())
    }
}
