//! The last good copy: the configuration that a process runs with, in a file of its own, for a start without the store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cfg_schema::Documents;
use serde::{Deserialize, Serialize};

use crate::{Error, Snapshot};

/// What the file begins with: format and version.
const MAGIC: &str = "ovs-last-good 1";

/// Largest body, in bytes: as many of the largest documents as there may be, and as much again for escapes.
const BODY_LIMIT: u64 = 256 << 20;

/// Longest first line, in bytes.
const HEAD_LIMIT: u64 = 64;

/// A configuration with where and when it was read. `docs/formats/last-good.md` describes the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastGood {
    /// The URL it was read from.
    pub url: String,
    /// The store's cluster; `None`: it was read from files.
    pub cluster_id: Option<u64>,
    /// The revision of [`Snapshot`].
    pub revision: u64,
    /// Wall time of the reading, in milliseconds since 1970.
    pub read_at_ms: u64,
    /// The documents. They may contain secrets.
    pub documents: Documents,
}

/// How old a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// This old.
    Of(Duration),
    /// The clock stands before the time of the copy, by this much: it was set back.
    ClockWentBack(Duration),
}

impl LastGood {
    /// A copy of what was just read from `url`.
    pub fn new(url: &str, snapshot: &Snapshot, now: SystemTime) -> LastGood {
        LastGood {
            url: url.to_owned(),
            cluster_id: snapshot.cluster_id,
            revision: snapshot.revision,
            read_at_ms: milliseconds(now),
            documents: snapshot.documents.clone(),
        }
    }

    /// How old the copy is at `now`.
    pub fn age(&self, now: SystemTime) -> Age {
        let now = milliseconds(now);
        match now.checked_sub(self.read_at_ms) {
            Some(age) => Age::Of(Duration::from_millis(age)),
            None => Age::ClockWentBack(Duration::from_millis(self.read_at_ms - now)),
        }
    }

    /// Replaces the file in one step that survives a power loss, or leaves it as it was. Mode 0600.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Denied`] with what the system said; [`Error::TooLarge`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |error: io::Error| Error::io(&path.display(), &error);
        let body = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        if body.len() as u64 > BODY_LIMIT {
            let problem = format!("is larger than {} MiB", BODY_LIMIT >> 20);
            return Err(Error::TooLarge { place: path.display().to_string(), problem });
        }
        let head = format!("{MAGIC} {:08x} {}\n", crc32fast::hash(&body), body.len());
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = directory.join(format!(".{name}.new"));
        let write = || {
            // A draft left by a crash may have other rights, and a new file begins with the right ones.
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(head.as_bytes())?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(failed)
    }

    /// Reads a copy back, and checks it.
    ///
    /// # Errors
    /// [`Error::Absent`] when there is no file, [`Error::Damaged`] with what check failed.
    pub fn read(path: &Path) -> Result<LastGood, Error> {
        let failed = |error: io::Error| Error::io(&path.display(), &error);
        let mut content = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(HEAD_LIMIT + BODY_LIMIT + 1).read_to_end(&mut content).map_err(failed)?;
        check(&content).map_err(|problem| Error::Damaged { path: path.to_owned(), problem })
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn check(content: &[u8]) -> Result<LastGood, String> {
    let end = content.iter().take(HEAD_LIMIT as usize).position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| format!("does not begin with a line {MAGIC:?}"))?;
    let head = str::from_utf8(&content[..end]).map_err(|_| "its first line is no text".to_owned())?;
    let fields = head.strip_prefix(MAGIC).and_then(|fields| fields.strip_prefix(' '));
    let fields = fields.ok_or_else(|| format!("begins with {head:?}, not with {MAGIC:?}"))?;
    let (crc, length) = fields.split_once(' ').ok_or("its first line lacks the length")?;
    let length: usize = length.parse().map_err(|_| format!("its length {length:?} is no number"))?;
    let body = &content[end + 1..];
    if body.len() != length {
        return Err(format!("has {} bytes behind its first line, which says {length}", body.len()));
    }
    let found = format!("{:08x}", crc32fast::hash(body));
    if found != crc {
        return Err(format!("its CRC is {found}, its first line says {crc}"));
    }
    serde_json::from_slice(body).map_err(|error| format!("its CRC is right, its content is not: {error}"))
}
