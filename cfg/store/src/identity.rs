//! Who a data directory belongs to: written before a member takes part, and compared at every start.

use std::io;
use std::path::Path;

use serde_json::{Value, json};
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

    /// What `directory` says; `None` if it is empty.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match disk.read(&path, LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let odd =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let json: Value = serde_json::from_slice(&text).map_err(|error| odd(&error.to_string()))?;
        if json["format"].as_u64() != Some(FORMAT) {
            return Err(odd("is of a format that this version does not read"));
        }
        let number = |name: &str| {
            let number = json[name].as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
            number
                .filter(|&number| number != 0)
                .ok_or_else(|| odd(&format!("{name} is no number in hexadecimal")))
        };
        Ok(Some(Self { cluster_id: number("cluster_id")?, member: number("member")? }))
    }

    /// Makes it durable.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let json = json!({
            "format": FORMAT,
            "cluster_id": format!("{:x}", self.cluster_id),
            "member": format!("{:x}", self.member),
        });
        let unfinished = directory.join(UNFINISHED);
        let file = disk.open(&unfinished, OpenMode::CreateOrTruncate)?;
        file.write_at(format!("{json}\n").as_bytes(), 0)?;
        file.sync()?;
        disk.rename(&unfinished, &directory.join(FILE))?;
        disk.sync_dir(directory)
    }
}
