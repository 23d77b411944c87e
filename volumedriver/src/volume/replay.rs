//! Recovery's decisions, as a table, and what they do to the volume. The reading is done by `crate::recovery`.

use super::Volume;
use super::address::{BootId, Incarnation, Location, ScoNumber, Sequence, VolumeId};
use super::event::Stream;
use super::manifest::{IncarnationStart, Manifest};
use super::record::{Entry, HeaderProblem, ParsedHeader};

/// What stands where the next record of the log is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Found {
    /// Header and all data match, and the chain holds.
    Good,
    /// Zeros, or bytes of the segment's earlier life: another volume's, another SCO's.
    Blank,
    /// A header that does not match its checksum or breaks a rule of the format.
    Torn,
    /// A good header whose data does not match.
    BadData,
    /// A good header of this SCO that does not continue the chain: sequence, incarnation, place or the CRC of the
    /// header before it.
    BrokenChain,
}

/// Whether the record was finished, as far as the headers behind it tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// No later header says that it was: it may have been in flight.
    Beyond,
    /// A later header says that it was written (same boot) or durable (another boot).
    Covered,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Replay it.
    Take,
    /// The log ends here; nothing to report.
    End,
    /// The log is cut here, and that is reported.
    Cut,
    /// Something is lost that was promised: the volume halts.
    Damage,
}

/// The decision table of recovery. Every row is produced by a test.
pub fn judge(found: Found, mark: Mark) -> Verdict {
    match (found, mark) {
        (Found::Good, Mark::Beyond | Mark::Covered) => Verdict::Take,
        (Found::Blank, Mark::Beyond) => Verdict::End,
        (Found::Torn | Found::BadData | Found::BrokenChain, Mark::Beyond) => Verdict::Cut,
        (Found::Blank | Found::Torn | Found::BadData | Found::BrokenChain, Mark::Covered) => Verdict::Damage,
    }
}

/// What the next record must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Owner.
    pub volume: VolumeId,
    /// Its sequence.
    pub sequence: Sequence,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// CRC-32 of the header before it.
    pub previous_crc: u32,
    /// SCO.
    pub sco: ScoNumber,
    /// Block in it.
    pub block: u16,
}

/// Classifies a header by its text alone; data is checked by the caller.
pub fn classify(header: &Result<ParsedHeader, HeaderProblem>, expected: &Expected) -> Found {
    let parsed = match header {
        Ok(parsed) => parsed,
        Err(HeaderProblem::Zeros | HeaderProblem::NoMagic) => return Found::Blank,
        Err(HeaderProblem::BadCrc | HeaderProblem::Nonsense) => return Found::Torn,
    };
    let header = &parsed.header;
    if header.volume != expected.volume || header.sco != expected.sco || header.stream != Stream::Log {
        return Found::Blank;
    }
    let continues = header.sequence == expected.sequence
        && header.incarnation == expected.incarnation
        && header.previous_crc == expected.previous_crc
        && header.block == expected.block;
    if continues { Found::Good } else { Found::BrokenChain }
}

/// What a header found behind the end says about the record at `sequence`.
pub fn mark_of(later: &ParsedHeader, expected: &Expected, boot: BootId) -> Mark {
    let header = &later.header;
    let ours = header.volume == expected.volume
        && header.stream == Stream::Log
        && header.incarnation >= expected.incarnation
        && header.sequence > expected.sequence;
    let through = if header.boot == boot { header.completed_through } else { header.durable_through };
    if ours && through >= expected.sequence { Mark::Covered } else { Mark::Beyond }
}

/// The incarnation that the record `sequence` belongs to: `None` before the first write.
pub fn incarnation_of(manifest: &Manifest, sequence: Sequence) -> Option<IncarnationStart> {
    manifest.incarnations.iter().rev().find(|start| start.first_sequence <= sequence).copied()
}

/// How replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Last record that counts.
    pub last: Sequence,
    /// CRC-32 of its header.
    pub last_crc: u32,
    /// Something stood behind it that does not count.
    pub cut: bool,
}

impl Volume {
    /// Takes one record of the log in, in order. It lies in a file that the caller syncs before the volume serves.
    pub fn replay(&mut self, record: &ParsedHeader) {
        let (sco, mut block) = (record.header.sco, record.header.block);
        for entry in &record.entries {
            match *entry {
                Entry::Data { address, crc } => {
                    block += 1;
                    self.map.active.insert_data(address, Location::new(sco, block), crc);
                }
                Entry::Empty { address, count, kind } => {
                    self.map.active.insert_empty(address, u64::from(count), kind);
                }
            }
        }
        let generation = self.checkpoint.generation();
        if let Some(sco) = self.scos.get_mut(sco) {
            sco.blocks = u32::from(record.header.block) + u32::from(record.blocks());
            sco.generation = generation;
        }
        self.log.bytes += u64::from(record.blocks()) * super::address::CLUSTER_SIZE as u64;
    }

    /// Ends replay. If it took any record or cut, the manifest of [`Volume::manifest`] must be durable before the
    /// volume serves: it holds the cut, and the incarnation that comes after it.
    pub fn replayed(&mut self, recovered: Recovered) {
        let changed = recovered.last >= self.log.next_sequence || recovered.cut;
        self.log.next_sequence = recovered.last.next();
        self.log.previous_crc = recovered.last_crc;
        self.log.completed_through = recovered.last;
        self.log.completed_crc = recovered.last_crc;
        self.log.durable_through = recovered.last;
        self.checkpoint.recovered(recovered.last.next());
        if changed {
            self.checkpoint.want_manifest();
        }
    }

    /// The manifest that recovery wrote is durable.
    pub fn recovery_durable(&mut self, manifest: &Manifest) {
        self.checkpoint.written_outside(manifest.version);
        // What replay did not take and no run refers to is free; the next manifest lets it go.
        self.free_scos();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_never_takes_what_is_not_good_and_never_drops_what_is_covered() {
        use Found::*;
        for found in [Good, Blank, Torn, BadData, BrokenChain] {
            let verdict = judge(found, Mark::Covered);
            assert_eq!(verdict, if found == Good { Verdict::Take } else { Verdict::Damage });
            assert_eq!(judge(found, Mark::Beyond) == Verdict::Take, found == Good);
        }
    }
}
