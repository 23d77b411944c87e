//! Opening a volume: its manifest, then the log from the replay start on, judged record by record by the table in
//! `volume::replay`. Blocking; runs before the volume serves anything.
//!
//! The order matters: locks first (the caller's pool waits for the ring of a process that was killed), then reading,
//! then a sync of every SCO that was accepted, then the manifest with the cut and the next incarnation, then service.

use std::sync::Arc;

use uring::{AlignedBuf, Disk, File};

use crate::job::{Paths, failure, write_manifest};
use crate::volume::address::{BootId, CLUSTER_SIZE, ScoNumber, SegmentId, Sequence, VolumeId};
use crate::volume::event::{Failure, Stream};
use crate::volume::manifest::Manifest;
use crate::volume::record::{Entry, ParsedHeader, RECORD_BLOCKS_MAX, parse_header};
use crate::volume::replay::{
    Expected, Found, Mark, Recovered, Verdict, classify, incarnation_of, judge, mark_of,
};
use crate::volume::{Settings, Volume};

/// Bytes behind the end of the log that are searched for later records. Records in flight at a crash reach no further.
const SEARCH_BYTES: usize = 2 << 20;

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records taken from the log.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where and why the log was cut, if it was.
    pub cut: Option<String>,
    /// Rows of the decision table that were used, in order, without repetition.
    pub rows: Vec<(Found, Mark, Verdict)>,
}

/// Why a volume cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Something that was promised is not there. Nothing was changed.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// The disk refused.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Writes the first manifest of a new volume into its directory, which must exist.
pub fn create(disk: &dyn Disk, paths: &Paths, name: &str, id: VolumeId, size: u64) -> Result<(), Failure> {
    write_manifest(disk, paths, &Manifest::create(id, name.to_owned(), size).encode())
}

/// Gives the segment files that the pool opened.
pub type Segments<'a> = &'a dyn Fn(SegmentId) -> Option<Arc<dyn File>>;

/// Replays the log behind `manifest`. When it returns, all that the volume will serve is durable.
pub fn replay(
    disk: &dyn Disk,
    paths: &Paths,
    manifest: &Manifest,
    segments: Segments<'_>,
    boot: BootId,
    settings: Arc<Settings>,
) -> Result<(Volume, RecoveryReport), OpenError> {
    let mut volume = Volume::from_manifest(manifest, boot, settings);
    let mut walk = Walk {
        manifest,
        segments,
        boot,
        report: RecoveryReport::default(),
        touched: Vec::new(),
        rewrite: Vec::new(),
    };
    let recovered = walk.run(&mut volume)?;
    walk.make_durable()?;
    let report = walk.report;
    volume.replayed(recovered);
    if report.records > 0 || report.cut.is_some() {
        let next = volume.manifest();
        write_manifest(disk, paths, &next.encode())?;
        volume.recovery_durable(&next);
    }
    Ok((volume, report))
}

/// The way along the log.
struct Walk<'a> {
    manifest: &'a Manifest,
    segments: Segments<'a>,
    boot: BootId,
    report: RecoveryReport,
    /// SCOs that records were taken from.
    touched: Vec<ScoNumber>,
    /// Records of this boot: SCO, first block, blocks.
    rewrite: Vec<(ScoNumber, u16, u16)>,
}

/// A candidate for the next record.
struct Candidate {
    expected: Expected,
    found: Found,
    record: Option<ParsedHeader>,
}

impl Walk<'_> {
    fn run(&mut self, volume: &mut Volume) -> Result<Recovered, OpenError> {
        let replay = self.manifest.replay;
        let mut end =
            Recovered { last: Sequence(replay.sequence.0 - 1), last_crc: replay.previous_crc, cut: false };
        let mut place = replay.place;
        loop {
            let sequence = end.last.next();
            let candidates = self.candidates(sequence, end.last_crc, place)?;
            let good = candidates.iter().position(|candidate| candidate.found == Found::Good);
            if let Some(Candidate { expected, record: Some(record), .. }) =
                good.map(|index| &candidates[index])
            {
                self.note(Found::Good, Mark::Beyond, Verdict::Take);
                volume.replay(record);
                self.report.records += 1;
                self.report.bytes += u64::from(record.blocks()) * CLUSTER_SIZE as u64;
                if self.touched.last() != Some(&expected.sco) {
                    self.touched.push(expected.sco);
                }
                if record.header.boot == self.boot {
                    self.rewrite.push((expected.sco, expected.block, record.blocks()));
                }
                end = Recovered { last: sequence, last_crc: record.crc, cut: false };
                place = Some((expected.sco, record.header.block + record.blocks()));
                continue;
            }
            self.end(sequence, &candidates)?;
            return Ok(Recovered { cut: self.report.cut.is_some(), ..end });
        }
    }

    /// The places where record `sequence` may stand: behind its predecessor, or at the start of the next SCO.
    fn candidates(
        &self,
        sequence: Sequence,
        previous_crc: u32,
        place: Option<(ScoNumber, u16)>,
    ) -> Result<Vec<Candidate>, OpenError> {
        let Some(incarnation) = incarnation_of(self.manifest, sequence) else { return Ok(Vec::new()) };
        let mut places = Vec::new();
        if incarnation.first_sequence == sequence {
            // The end of the incarnation before is known: whatever stands behind it does not count.
            places.extend((incarnation.first_sco != ScoNumber(0)).then_some((incarnation.first_sco, 0)));
        } else if let Some((sco, block)) = place {
            places.push((sco, block));
            places.extend(self.next_sco(sco).map(|next| (next, 0)));
        }
        let expected = |(sco, block)| Expected {
            volume: self.manifest.id,
            sequence,
            incarnation: incarnation.number,
            previous_crc,
            sco,
            block,
        };
        let mut candidates = Vec::new();
        for place in places {
            let candidate = self.look(expected(place))?;
            let good = candidate.found == Found::Good;
            candidates.push(candidate);
            // The chain has one next record: having found it, a look elsewhere would only cost a read.
            if good {
                break;
            }
        }
        Ok(candidates)
    }

    fn next_sco(&self, after: ScoNumber) -> Option<ScoNumber> {
        let log = self.manifest.scos.iter().filter(|sco| sco.stream == Stream::Log);
        log.map(|sco| sco.number).find(|&number| number > after)
    }

    fn file(&self, number: ScoNumber) -> Result<Arc<dyn File>, OpenError> {
        let entry = self.manifest.scos.iter().find(|sco| sco.number == number);
        let segment = entry.map(|sco| sco.segment);
        // A segment was whole and durable before the manifest named it: that it is gone is damage, never a crash.
        segment.and_then(self.segments).ok_or_else(|| match segment {
            Some(segment) => {
                OpenError::Damaged(format!("segment {:08x} of SCO {number} is missing", segment.0))
            }
            None => OpenError::Damaged(format!("SCO {number} is not in the manifest")),
        })
    }

    /// Reads and classifies what stands at one place.
    fn look(&self, expected: Expected) -> Result<Candidate, OpenError> {
        let file = self.file(expected.sco)?;
        let length = file.len().map_err(|error| failure(&error))?;
        let at = u64::from(expected.block) * CLUSTER_SIZE as u64;
        if at + CLUSTER_SIZE as u64 > length {
            return Ok(Candidate { expected, found: Found::Blank, record: None });
        }
        let block = read(&*file, at, CLUSTER_SIZE)?;
        let header = parse_header(&block);
        let mut found = classify(&header, &expected);
        let record = header.ok();
        if let (Found::Good, Some(record)) = (found, &record) {
            let bytes = usize::from(record.data_blocks) * CLUSTER_SIZE;
            let data_at = at + CLUSTER_SIZE as u64;
            if data_at + bytes as u64 > length || !data_matches(record, &read(&*file, data_at, bytes)?) {
                found = Found::BadData;
            }
        }
        Ok(Candidate { expected, found, record })
    }

    /// No place holds record `sequence`: the end, a cut, or damage.
    fn end(&mut self, sequence: Sequence, candidates: &[Candidate]) -> Result<(), OpenError> {
        // What stands behind the predecessor says more than what stands in the next SCO.
        let Some(first) = candidates.first() else { return Ok(()) };
        let worst = candidates.iter().find(|candidate| candidate.found != Found::Blank).unwrap_or(first);
        let mark = self.search(candidates)?;
        let verdict = judge(worst.found, mark);
        self.note(worst.found, mark, verdict);
        let Expected { sco, block, .. } = worst.expected;
        let what = match worst.found {
            Found::Good => "is good",
            Found::Blank => "is not there",
            Found::Torn => "has a header that does not match its checksum",
            Found::BadData => "has data that does not match its checksums",
            Found::BrokenChain => "does not continue the log",
        };
        let place = format!("record {sequence} (SCO {sco}, block {block}) {what}");
        match verdict {
            Verdict::Take | Verdict::End => {}
            Verdict::Cut => {
                self.report.cut = Some(format!("{place}; nothing behind it was acknowledged as kept"))
            }
            Verdict::Damage => {
                return Err(OpenError::Damaged(format!(
                    "{place}, but later records say that it was finished"
                )));
            }
        }
        Ok(())
    }

    /// Looks for later records that say that the missing one was finished.
    fn search(&self, candidates: &[Candidate]) -> Result<Mark, OpenError> {
        let Some(first) = candidates.first() else { return Ok(Mark::Beyond) };
        for (index, candidate) in candidates.iter().enumerate() {
            // Behind the predecessor a torn record may lie in front of later ones; an SCO begins with its first.
            let window = if index == 0 { SEARCH_BYTES } else { RECORD_BLOCKS_MAX * CLUSTER_SIZE };
            if self.search_sco(&first.expected, candidate.expected.sco, candidate.expected.block, window)? {
                return Ok(Mark::Covered);
            }
        }
        let mut sco = candidates.last().map(|candidate| candidate.expected.sco);
        while let Some(next) = sco.and_then(|sco| self.next_sco(sco)) {
            if self.search_sco(&first.expected, next, 0, CLUSTER_SIZE)? {
                return Ok(Mark::Covered);
            }
            sco = Some(next);
        }
        Ok(Mark::Beyond)
    }

    /// Follows the records of one SCO from `block` on; without one for `window` bytes it gives up.
    fn search_sco(
        &self,
        missing: &Expected,
        sco: ScoNumber,
        block: u16,
        window: usize,
    ) -> Result<bool, OpenError> {
        let file = self.file(sco)?;
        let length = file.len().map_err(|error| failure(&error))?;
        let mut at = u64::from(block) * CLUSTER_SIZE as u64;
        let mut patience = window;
        let here = Expected { sco, ..*missing };
        while at + CLUSTER_SIZE as u64 <= length && patience > 0 {
            let bytes = (length - at).min(256 << 10) as usize / CLUSTER_SIZE * CLUSTER_SIZE;
            let chunk = read(&*file, at, bytes)?;
            let mut offset = 0;
            while offset < chunk.len() && patience > 0 {
                let header = parse_header(&chunk[offset..offset + CLUSTER_SIZE]);
                let ours =
                    |later: &ParsedHeader| later.header.sco == sco && later.header.volume == here.volume;
                match header {
                    Ok(later) if ours(&later) => {
                        if mark_of(&later, &here, self.boot) == Mark::Covered {
                            return Ok(true);
                        }
                        patience = SEARCH_BYTES;
                        offset += usize::from(later.blocks()) * CLUSTER_SIZE;
                    }
                    Ok(_) | Err(_) => {
                        patience = patience.saturating_sub(CLUSTER_SIZE);
                        offset += CLUSTER_SIZE;
                    }
                }
            }
            at += offset as u64;
        }
        Ok(false)
    }

    /// Makes all that was taken durable: nobody knows what was still dirty when the process died. Records of this boot
    /// are written once more, as they are: if a sync of theirs failed, the kernel counts them as clean, and a sync
    /// alone would succeed without them.
    fn make_durable(&self) -> Result<(), OpenError> {
        for &(number, block, blocks) in &self.rewrite {
            let (file, at) = (self.file(number)?, u64::from(block) * CLUSTER_SIZE as u64);
            let bytes = read(&*file, at, usize::from(blocks) * CLUSTER_SIZE)?;
            file.write_at(&bytes, at).map_err(|error| failure(&error))?;
        }
        for &number in &self.touched {
            self.file(number)?.sync().map_err(|error| failure(&error))?;
        }
        Ok(())
    }

    fn note(&mut self, found: Found, mark: Mark, verdict: Verdict) {
        let row = (found, mark, verdict);
        if self.report.rows.last() != Some(&row) {
            self.report.rows.push(row);
        }
    }
}

/// Whether `data`, the clusters behind the header ([`CLUSTER_SIZE`] bytes each, as many as the header counts), has the
/// CRC-32 of each data entry, in order.
pub fn data_matches(record: &ParsedHeader, data: &[u8]) -> bool {
    let sums = record.entries.iter().filter_map(|entry| match entry {
        Entry::Data { crc, .. } => Some(*crc),
        Entry::Empty { .. } => None,
    });
    sums.eq(data.chunks(CLUSTER_SIZE).map(crc32fast::hash))
}

fn read(file: &dyn File, at: u64, bytes: usize) -> Result<AlignedBuf, OpenError> {
    let mut buf = AlignedBuf::zeroed(bytes);
    if bytes > 0 {
        file.read_at(&mut buf, at).map_err(|error| failure(&error))?;
    }
    Ok(buf)
}
