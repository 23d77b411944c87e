//! Who a data directory belongs to: written before a member takes part, and compared at every start.

use std::io;
use std::path::Path;

use serde_json::Value;
use uring::{Disk, OpenMode};

use crate::machine::{FOUNDER, MemberId};

/// Its file.
const FILE: &str = "member.json";
/// While it is written.
const UNFINISHED: &str = "member.json.tmp";
/// Longest file that is believed, bytes.
const LIMIT: usize = 4096;
/// Of the format.
const FORMAT: u64 = 1;
/// What is left to do about a file that is damaged.
const REMEDY: &str = "restore all of the directory, or remove this member from the cluster, empty its directory and \
                      let it join again";

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Number of the cluster.
    pub(crate) cluster_id: u64,
    /// Number of the member.
    pub(crate) member: MemberId,
}

impl Identity {
    /// A new cluster's first member.
    pub(crate) fn found() -> Self {
        Self { cluster_id: rand::random::<u64>().max(1), member: FOUNDER }
    }

    /// What `directory` says, durably; `None` if it is empty.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match disk.read(&path, LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let identity = Self::parse(&text).map_err(|what| {
            let text = format!("{}: {what}; {REMEDY}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        // Who wrote it may have died before its name was durable.
        disk.sync_dir(directory)?;
        Ok(Some(identity))
    }

    /// Exactly what [`Identity::text`] gives: whoever changes a byte is found out.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(text).map_err(|error| format!("damaged: {error}"))?;
        match json["format"].as_u64() {
            Some(FORMAT) => {}
            Some(other) => return Err(format!("format {other}, this version reads {FORMAT}")),
            None => return Err("damaged: it has no format".into()),
        }
        let number = |name: &str| {
            let number = json[name].as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
            let number = number.filter(|&number| number != 0);
            number.ok_or_else(|| format!("damaged: {name} is no number in hexadecimal"))
        };
        let identity = Self { cluster_id: number("cluster_id")?, member: number("member")? };
        if identity.text().as_bytes() != text {
            return Err("damaged: its checksum does not match, or it was changed".into());
        }
        Ok(identity)
    }

    fn text(&self) -> String {
        let Self { cluster_id, member } = self;
        let front = format!(r#"{{"format":{FORMAT},"cluster_id":"{cluster_id:x}","member":"{member:x}""#);
        let crc = crc32fast::hash(front.as_bytes());
        format!("{front},\"crc32\":\"{crc:08x}\"}}\n")
    }

    /// Makes it durable.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let unfinished = directory.join(UNFINISHED);
        let file = disk.open(&unfinished, OpenMode::CreateOrTruncate)?;
        file.write_at(self.text().as_bytes(), 0)?;
        file.sync()?;
        disk.rename(&unfinished, &directory.join(FILE))?;
        disk.sync_dir(directory)
    }
}

#[cfg(test)]
mod tests {
    use uring::sim::{DirLoss, Fault, FaultOp, SimOptions, SimWorld};

    use super::*;

    const SAMPLE: Identity = Identity { cluster_id: 0x1d0b_57a3_00c0_ffee, member: 0x2a };
    /// The golden bytes of `docs/formats/store-directory.md`.
    const TEXT: &str =
        "{\"format\":1,\"cluster_id\":\"1d0b57a300c0ffee\",\"member\":\"2a\",\"crc32\":\"c387a25e\"}\n";

    #[test]
    fn golden_bytes() {
        assert_eq!(SAMPLE.text(), TEXT);
        assert_eq!(Identity::parse(TEXT.as_bytes()), Ok(SAMPLE));
    }

    #[test]
    fn every_changed_bit_and_every_missing_end_is_refused() {
        for at in 0..TEXT.len() {
            assert!(Identity::parse(&TEXT.as_bytes()[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = TEXT.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(Identity::parse(&bytes).is_err(), "bit {bit} of byte {at}: {bytes:?}");
            }
        }
        let later = TEXT.replace("\"format\":1", "\"format\":2");
        let error = Identity::parse(later.as_bytes()).expect_err("a later format");
        assert!(error.contains("format 2, this version reads 1"), "{error}");
    }

    /// A process that read who it is may rely on it, whatever became of the one that wrote it.
    #[test]
    fn nobody_who_knows_who_it_is_forgets_it() {
        let directory = Path::new("/member");
        let (mut lost, mut kept, mut failed) = (0, 0, 0);
        for seed in 0..500 {
            let dirs = if seed % 2 == 0 { DirLoss::Prefix } else { DirLoss::Subset };
            let world = SimWorld::new(seed, SimOptions { dirs, ..SimOptions::default() });
            world.disk().create_dir(directory).expect("a new disk");
            world.disk().sync_dir(Path::new("/")).expect("a new disk");
            let mut known = None;
            for _ in 0..4 {
                match world.random() % 3 {
                    0 => world.crash_after(world.random() % 8),
                    1 => {
                        let op =
                            [FaultOp::Write, FaultOp::Sync, FaultOp::SyncDir][(world.random() % 3) as usize];
                        world.inject(Fault { op, path_contains: String::new(), count: 1 });
                    }
                    _ => {}
                }
                match Identity::read(&*world.disk(), directory) {
                    Ok(None) => {
                        assert_eq!(known, None, "seed {seed}");
                        let written = SAMPLE.write(&*world.disk(), directory).is_ok();
                        (known, failed) = (written.then_some(SAMPLE), failed + u32::from(!written));
                        lost += 1;
                    }
                    Ok(found) => {
                        assert_eq!(found, Some(SAMPLE), "seed {seed}");
                        known = found;
                        kept += 1;
                    }
                    Err(error) => {
                        assert_ne!(error.kind(), io::ErrorKind::InvalidData, "seed {seed}: {error}");
                        failed += 1;
                    }
                }
                world.clear_faults();
                if world.random().is_multiple_of(3) { world.process_kill() } else { world.power_loss() }
            }
        }
        assert!(lost > 500 && kept > 500 && failed > 200, "{lost} {kept} {failed}");
    }
}
