//! What a volume may hold: for each 512-byte sector the versions that were written, and which of them were promised.

/// Bytes of a sector, the smallest unit that clients write here.
pub const SECTOR: usize = 512;

/// How safe a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Safety {
    /// Issued, not acknowledged.
    Issued,
    /// Acknowledged: survives the process.
    Acknowledged,
    /// Acknowledged durable: survives power loss.
    Durable,
}

#[derive(Clone, Copy, Debug)]
struct Version {
    operation: u64,
    content: u64,
    safety: Safety,
}

/// The model of one volume.
#[derive(Debug)]
pub struct Model {
    sectors: Vec<Vec<Version>>,
}

impl Model {
    /// A volume of `bytes`, all zeros.
    pub fn new(bytes: usize) -> Self {
        let zero = Version { operation: 0, content: 0, safety: Safety::Durable };
        Self { sectors: vec![vec![zero]; bytes / SECTOR] }
    }

    /// Operation `operation` puts `content` into `count` sectors from `first` on (0: zeros).
    pub fn issue(&mut self, operation: u64, first: usize, count: usize, content: u64) {
        for versions in &mut self.sectors[first..first + count] {
            versions.push(Version { operation, content, safety: Safety::Issued });
        }
    }

    /// The volume answered an operation on these sectors.
    pub fn acknowledge(&mut self, operation: u64, first: usize, count: usize, safety: Safety) {
        for versions in &mut self.sectors[first..first + count] {
            for version in versions.iter_mut().filter(|version| version.operation == operation) {
                version.safety = version.safety.max(safety);
            }
        }
    }

    /// Acknowledged operations that a flush covered are durable.
    pub fn flushed(&mut self, covered: &dyn Fn(u64) -> bool) {
        for versions in &mut self.sectors {
            for version in versions.iter_mut() {
                if version.safety == Safety::Acknowledged && covered(version.operation) {
                    version.safety = Safety::Durable;
                }
            }
        }
    }

    /// The oldest version that sector `sector` may still show when only `safety` counts: an index into its history.
    pub fn oldest(&self, sector: usize, safety: Safety) -> u64 {
        let versions = &self.sectors[sector];
        let oldest = versions.iter().rev().find(|version| version.safety >= safety);
        oldest.map_or(0, |version| version.operation)
    }

    /// Checks the bytes of a sector: one version, not older than operation `oldest`.
    pub fn check(&self, sector: usize, bytes: &[u8], oldest: u64) -> Result<(), String> {
        let content = content_of(bytes).ok_or_else(|| format!("sector {sector} is garbage"))?;
        let allowed = self.sectors[sector].iter().filter(|version| version.operation >= oldest);
        if allowed.clone().any(|version| version.content == content) {
            return Ok(());
        }
        let allowed: Vec<_> = allowed.collect();
        Err(format!("sector {sector} holds {content}, allowed from operation {oldest} on: {allowed:?}"))
    }

    /// After a crash: what was read is what is there, durably.
    pub fn settle(&mut self, sector: usize, bytes: &[u8]) {
        let content = content_of(bytes).unwrap_or_default();
        let newest = self.sectors[sector].last().map_or(0, |version| version.operation);
        self.sectors[sector] = vec![Version { operation: newest, content, safety: Safety::Durable }];
    }
}

/// The bytes of a sector with `content`.
pub fn sector_of(content: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&content.to_le_bytes()));
    sector
}

fn content_of(sector: &[u8]) -> Option<u64> {
    let first = sector[..8].try_into().map(u64::from_le_bytes).ok()?;
    (sector == sector_of(first)).then_some(first)
}
