//! The manifest: the one small file that says what a volume is. Byte layout: `docs/formats/manifest.md`.
//!
//! Replaced as a whole by one atomic step. Invariants, checked before it is written and after it is read:
//! 1. SCO numbers, run ids and incarnations are below the next ones to be given; none stands twice.
//! 2. Incarnations come in order, the sequences of their first records too; the first starts at or before the replay
//!    start.
//! 3. Runs of level 1 and deeper are in order and do not overlap.

use super::address::{
    ClusterAddress, Incarnation, ManifestVersion, RunId, ScoNumber, SegmentId, Sequence, VolumeId,
};
use super::event::{Failure, Stream};
use super::own::{OwnSettings, SyncIgnore};
use super::run::RunInfo;

const MAGIC: &[u8; 8] = b"OVSMANIF";
/// What is written. The one before it ended with the levels.
const VERSION: u32 = 2;
const HEADER: usize = 24;
/// Bytes of a manifest at most.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

/// Where an incarnation of the log begins. It ends where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncarnationStart {
    /// Its number.
    pub number: Incarnation,
    /// Sequence of its first record.
    pub first_sequence: Sequence,
    /// SCO of its first record, at block 0.
    pub first_sco: ScoNumber,
}

/// The first record that no run covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayStart {
    /// Its sequence.
    pub sequence: Sequence,
    /// CRC-32 of the header before it.
    pub previous_crc: u32,
    /// SCO that was open then, and the block behind its last covered record. `None`: the record starts an incarnation.
    pub place: Option<(ScoNumber, u16)>,
}

/// An SCO that the volume owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoEntry {
    /// Number.
    pub number: ScoNumber,
    /// Segment that holds it.
    pub segment: SegmentId,
    /// Stream that it was granted to.
    pub stream: Stream,
    /// Blocks that runs may refer to; 0 while it was never written, as far as the manifest knows.
    pub blocks: u32,
    /// References from runs.
    pub references: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Identity.
    pub id: VolumeId,
    /// Name: the NBD export.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Counts manifests.
    pub version: ManifestVersion,
    /// Next SCO number to give.
    pub next_sco: ScoNumber,
    /// Next run id to give.
    pub next_run: RunId,
    /// Where replay starts.
    pub replay: ReplayStart,
    /// Incarnations since the replay start, and the one that it lies in.
    pub incarnations: Vec<IncarnationStart>,
    /// SCOs by number.
    pub scos: Vec<ScoEntry>,
    /// Runs by level, level 0 newest first.
    pub levels: Vec<Vec<RunInfo>>,
    /// Settings of this volume alone.
    pub own: OwnSettings,
}

impl Manifest {
    /// The manifest of a volume that was just created.
    pub fn create(id: VolumeId, name: String, size: u64) -> Self {
        Self {
            id,
            name,
            size,
            version: ManifestVersion(1),
            next_sco: ScoNumber(1),
            next_run: RunId(1),
            replay: ReplayStart { sequence: Sequence(1), previous_crc: 0, place: None },
            incarnations: Vec::new(),
            scos: Vec::new(),
            levels: Vec::new(),
            own: OwnSettings::default(),
        }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        debug_assert_eq!(self.check(), Ok(()));
        let mut out = Writer(vec![0; HEADER]);
        out.0.extend_from_slice(&self.id.0);
        out.u32(self.name.len() as u32);
        out.0.extend_from_slice(self.name.as_bytes());
        out.u64(self.size);
        out.u64(self.version.0);
        out.u32(self.next_sco.0);
        out.u64(self.next_run.0);
        out.u64(self.replay.sequence.0);
        out.u32(self.replay.previous_crc);
        let (sco, block) = self.replay.place.map_or((0, 0), |(sco, block)| (sco.0, block));
        out.u32(sco);
        out.u32(u32::from(block));
        out.u32(self.incarnations.len() as u32);
        for start in &self.incarnations {
            out.u64(start.number.0);
            out.u64(start.first_sequence.0);
            out.u32(start.first_sco.0);
        }
        out.u32(self.scos.len() as u32);
        for sco in &self.scos {
            out.u32(sco.number.0);
            out.u32(sco.segment.0);
            out.u32(matches!(sco.stream, Stream::Relocation).into());
            out.u32(sco.blocks);
            out.u32(sco.references);
        }
        out.u32(self.levels.len() as u32);
        for runs in &self.levels {
            out.u32(runs.len() as u32);
            runs.iter().for_each(|run| encode_run(&mut out, run));
        }
        out.u32(self.own.sync_ignore.flushes);
        out.u32(self.own.sync_ignore.seconds);
        out.u32(self.own.map_pages.unwrap_or(0));
        let mut bytes = out.0;
        seal(&mut bytes, VERSION);
        bytes
    }

    /// Reads and checks the bytes of a file.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::Corrupt(format!("manifest: {what}"));
        if bytes.len() < HEADER || &bytes[..8] != MAGIC {
            return Err(wrong("not a manifest"));
        }
        if super::bytes::u32_at(bytes, 12) != super::bytes::crc_without(bytes, 12) {
            return Err(wrong("checksum mismatch"));
        }
        let version = super::bytes::u32_at(bytes, 8);
        if !(1..=VERSION).contains(&version) {
            return Err(wrong(&format!("version {version} is not known, this program reads 1 to {VERSION}")));
        }
        if super::bytes::u64_at(bytes, 16) != bytes.len() as u64 {
            return Err(wrong("length mismatch"));
        }
        let manifest =
            decode_body(&bytes[HEADER..], version).ok_or_else(|| wrong("content breaks the format"))?;
        manifest.check().map_err(|what| wrong(&what))?;
        Ok(manifest)
    }

    /// The module's invariants.
    pub fn check(&self) -> Result<(), String> {
        if self.scos.iter().any(|sco| sco.number >= self.next_sco)
            || self.scos.windows(2).any(|pair| pair[0].number >= pair[1].number)
        {
            return Err("SCO numbers out of order".into());
        }
        let mut runs: Vec<_> = self.levels.iter().flatten().map(|run| run.id).collect();
        runs.sort_unstable();
        if runs.last().is_some_and(|&last| last >= self.next_run)
            || runs.windows(2).any(|pair| pair[0] == pair[1])
        {
            return Err("run ids out of order".into());
        }
        let ordered = |pair: &[IncarnationStart]| {
            pair[0].number < pair[1].number && pair[0].first_sequence <= pair[1].first_sequence
        };
        if !self.incarnations.windows(2).all(ordered)
            || self.incarnations.first().is_some_and(|first| first.first_sequence > self.replay.sequence)
        {
            return Err("incarnations out of order".into());
        }
        let disjoint = |runs: &Vec<RunInfo>| runs.windows(2).all(|pair| pair[0].end <= pair[1].first);
        if !self.levels.iter().skip(1).all(disjoint) {
            return Err("runs of a level overlap".into());
        }
        Ok(())
    }
}

/// Fills in the header.
fn seal(bytes: &mut [u8], version: u32) {
    let length = bytes.len() as u64;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    let crc = super::bytes::crc_without(bytes, 12);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

fn encode_run(out: &mut Writer, run: &RunInfo) {
    out.u64(run.id.0);
    out.u64(run.first.0);
    out.u64(run.end.0);
    out.u64(run.entries);
    out.u32(run.data_pages);
    out.u32(run.top.len() as u32);
    run.top.iter().for_each(|fence| out.u64(fence.0));
}

fn decode_run(input: &mut Reader<'_>) -> Option<RunInfo> {
    let run = RunInfo {
        id: RunId(input.u64()?),
        first: ClusterAddress(input.u64()?),
        end: ClusterAddress(input.u64()?),
        entries: input.u64()?,
        data_pages: input.u32()?,
        top: input.list(|input| input.u64().map(ClusterAddress))?,
    };
    let sane = run.first < run.end
        && run.data_pages > 0
        && run.top.first() == Some(&run.first)
        && run.top.windows(2).all(|pair| pair[0] < pair[1]);
    sane.then_some(run)
}

fn decode_own(input: &mut Reader<'_>) -> Option<OwnSettings> {
    let sync_ignore = SyncIgnore { flushes: input.u32()?, seconds: input.u32()? };
    let map_pages = Some(input.u32()?).filter(|&pages| pages > 0);
    Some(OwnSettings { sync_ignore, map_pages })
}

fn decode_body(bytes: &[u8], format: u32) -> Option<Manifest> {
    let mut input = Reader(bytes);
    let id = VolumeId(input.take(16)?.try_into().ok()?);
    let name_length = input.u32()? as usize;
    let name = String::from_utf8(input.take(name_length)?.to_vec()).ok()?;
    let size = input.u64()?;
    let version = ManifestVersion(input.u64()?);
    let next_sco = ScoNumber(input.u32()?);
    let next_run = RunId(input.u64()?);
    let sequence = Sequence(input.u64()?);
    let previous_crc = input.u32()?;
    let (sco, block) = (ScoNumber(input.u32()?), u16::try_from(input.u32()?).ok()?);
    let place = (sco.0 != 0).then_some((sco, block));
    let incarnations = input.list(|input| {
        Some(IncarnationStart {
            number: Incarnation(input.u64()?),
            first_sequence: Sequence(input.u64()?),
            first_sco: ScoNumber(input.u32()?),
        })
    })?;
    let scos = input.list(|input| {
        Some(ScoEntry {
            number: ScoNumber(input.u32()?),
            segment: SegmentId(input.u32()?),
            stream: match input.u32()? {
                0 => Stream::Log,
                1 => Stream::Relocation,
                _ => return None,
            },
            blocks: input.u32()?,
            references: input.u32()?,
        })
    })?;
    let levels = input.list(|input| input.list(decode_run))?;
    let own = if format == 1 { OwnSettings::default() } else { decode_own(&mut input)? };
    let replay = ReplayStart { sequence, previous_crc, place };
    let done = input.0.is_empty();
    done.then_some(Manifest {
        id,
        name,
        size,
        version,
        next_sco,
        next_run,
        replay,
        incarnations,
        scos,
        levels,
        own,
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A count and that many items; each takes at least a byte, so that a lying count ends early.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let run = |id, first, end| RunInfo {
            id: RunId(id),
            first: ClusterAddress(first),
            end: ClusterAddress(end),
            entries: 3,
            data_pages: 1,
            top: vec![ClusterAddress(first)],
        };
        let sco = |number, segment, stream| ScoEntry {
            number: ScoNumber(number),
            segment: SegmentId(segment),
            stream,
            blocks: 77,
            references: 5,
        };
        Manifest {
            next_sco: ScoNumber(9),
            next_run: RunId(8),
            version: ManifestVersion(12),
            replay: ReplayStart { sequence: Sequence(50), previous_crc: 4, place: Some((ScoNumber(3), 77)) },
            incarnations: vec![IncarnationStart {
                number: Incarnation(2),
                first_sequence: Sequence(40),
                first_sco: ScoNumber(3),
            }],
            scos: vec![sco(3, 100, Stream::Log), sco(8, 2, Stream::Relocation)],
            levels: vec![vec![run(7, 0, 50), run(6, 3, 9)], vec![run(1, 0, 10), run(2, 10, 20)]],
            own: OwnSettings { sync_ignore: SyncIgnore { flushes: 10, seconds: 20 }, map_pages: Some(256) },
            ..Manifest::create(VolumeId([6; 16]), "näme".into(), 10 << 30)
        }
    }

    #[test]
    fn reads_back_what_was_written_and_finds_every_damage() {
        let bytes = sample().encode();
        assert_eq!(Manifest::decode(&bytes), Ok(sample()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Manifest::decode(&damaged).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn broken_invariants_are_named() {
        let with = |change: fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            manifest.check().expect_err("a broken invariant")
        };
        assert!(with(|m| m.next_sco = ScoNumber(8)).contains("SCO"));
        assert!(with(|m| m.scos.swap(0, 1)).contains("SCO"));
        assert!(with(|m| m.next_run = RunId(7)).contains("run"));
        assert!(with(|m| m.levels[1][0].end = ClusterAddress(11)).contains("overlap"));
        assert!(with(|m| m.incarnations[0].first_sequence = Sequence(51)).contains("incarnations"));
    }

    /// The golden bytes of `docs/formats/manifest.md`: a change of this number is a change of the format.
    #[test]
    fn golden_bytes() {
        assert_eq!(crc32fast::hash(&sample().encode()), GOLDEN);
    }

    const GOLDEN: u32 = 3_586_031_529;

    /// Bytes of the settings at the end.
    const OWN: usize = 12;

    /// What version 1 wrote of the sample.
    fn of_version_1() -> Vec<u8> {
        let mut bytes = sample().encode();
        bytes.truncate(bytes.len() - OWN);
        seal(&mut bytes, 1);
        bytes
    }

    #[test]
    fn a_manifest_of_version_1_has_no_settings_of_its_own() {
        let old = of_version_1();
        assert_eq!(crc32fast::hash(&old), 2_016_023_058, "the golden bytes of version 1");
        assert_eq!(Manifest::decode(&old), Ok(Manifest { own: OwnSettings::default(), ..sample() }));
    }

    #[test]
    fn other_versions_are_refused_by_their_numbers() {
        for version in [0, VERSION + 1] {
            let mut bytes = sample().encode();
            seal(&mut bytes, version);
            let said = Manifest::decode(&bytes).expect_err("unknown").to_string();
            assert!(said.contains(&format!("version {version} is not known")), "{said}");
            assert!(said.contains(&format!("1 to {VERSION}")), "{said}");
        }
        let mut short = of_version_1();
        seal(&mut short, VERSION);
        assert!(Manifest::decode(&short).is_err(), "without settings");
    }
}
