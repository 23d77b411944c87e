//! From bytes to the store. Everything is checked: what a store never is must not come out of a file.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;

use super::{BYTES_MAX, FORMAT, FRAME, MAGIC, PIECE_MAX, SnapshotError};
use crate::mvcc::history::{History, Version};
use crate::mvcc::lease::{Leases, TTL_MAX};
use crate::mvcc::{Revision, Store, VERSION_BYTES};

/// Takes pieces apart.
struct Pieces<'a, R> {
    input: &'a mut R,
    piece: Vec<u8>,
    /// Bytes of the piece that were taken.
    taken: usize,
    /// Where the piece, and the next one, begin.
    at: u64,
    next: u64,
    ended: bool,
}

impl<R: Read> Pieces<'_, R> {
    fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { at: self.at, what: what.into() }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too soon"),
            _ => error.into(),
        })
    }

    fn load(&mut self) -> Result<(), SnapshotError> {
        self.at = self.next;
        let mut frame = [0; FRAME];
        self.read_exact(&mut frame)?;
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let (length, crc) = (word(0) as usize, word(4));
        if length > PIECE_MAX {
            return Err(self.damaged(format!("{length} bytes are more than a piece has")));
        }
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(length, 0);
        self.read_exact(&mut piece)?;
        if crc32fast::hash(&piece) != crc {
            return Err(self.damaged("its checksum does not match"));
        }
        (self.piece, self.taken, self.ended) = (piece, 0, length == 0);
        self.next += (FRAME + length) as u64;
        Ok(())
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            if self.taken == self.piece.len() {
                if !self.ended {
                    self.load()?;
                }
                if self.ended {
                    return Err(self.damaged("it ends in the middle of an entry"));
                }
            }
            let count = bytes.len().min(self.piece.len() - self.taken);
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&self.piece[self.taken..self.taken + count]);
            self.taken += count;
            bytes = later;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, SnapshotError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<Bytes, SnapshotError> {
        let length = u32::from_le_bytes(self.array()?);
        if length > BYTES_MAX {
            return Err(self.damaged(format!("a key or value of {length} bytes")));
        }
        // A piece at a time: a wrong length must not ask for memory that the file does not fill.
        let mut bytes = Vec::new();
        while bytes.len() < length as usize {
            let begin = bytes.len();
            bytes.resize((begin + PIECE_MAX).min(length as usize), 0);
            self.fill(&mut bytes[begin..])?;
        }
        Ok(bytes.into())
    }

    fn version(&mut self) -> Result<Version, SnapshotError> {
        let (modified, created, version, lease) = (self.i64()?, self.i64()?, self.i64()?, self.i64()?);
        let value = match self.array()? {
            [0] => None,
            [1] => Some(self.text()?),
            [other] => return Err(self.damaged(format!("{other} is no kind of version"))),
        };
        let sound = match value {
            Some(_) => 1 < created && created <= modified && 0 < version,
            None => (created, version, lease) == (0, 0, 0) && modified > 1,
        };
        if !sound {
            return Err(self.damaged("a version with numbers that cannot be"));
        }
        Ok(Version { modified, created, version, lease, value })
    }

    /// Only the empty piece follows.
    fn end(&mut self) -> Result<(), SnapshotError> {
        if self.taken < self.piece.len() {
            return Err(self.damaged("it goes on behind its last entry"));
        }
        self.load()?;
        if self.ended { Ok(()) } else { Err(self.damaged("it goes on behind its last entry")) }
    }
}

impl Store {
    /// Reads a whole snapshot, and not further.
    ///
    /// # Errors
    /// That it is no snapshot, of a later format, or not what was written; with the place.
    pub fn read_snapshot(input: &mut impl Read) -> Result<Self, SnapshotError> {
        let mut pieces = Pieces { input, piece: Vec::new(), taken: 0, at: 0, next: 0, ended: false };
        let magic: [u8; 8] = pieces.array()?;
        if magic != MAGIC {
            return Err(SnapshotError::Foreign("it begins otherwise".into()));
        }
        let format = u32::from_le_bytes(pieces.array()?);
        if format != FORMAT {
            return Err(SnapshotError::Foreign(format!("format {format}, this is {FORMAT}")));
        }
        let (revision, compacted) = (pieces.i64()?, pieces.i64()?);
        if revision < 1 || compacted < -1 || compacted > revision {
            return Err(pieces.damaged("revisions that cannot be"));
        }
        let mut store = Self { revision, compacted, ..Self::new() };
        store.leases = read_leases(&mut pieces)?;
        read_keys(&mut pieces, &mut store)?;
        read_changes(&mut pieces, &mut store)?;
        pieces.end()?;
        Ok(store)
    }
}

fn read_leases(pieces: &mut Pieces<'_, impl Read>) -> Result<Leases, SnapshotError> {
    let mut leases = Leases::default();
    for _ in 0..pieces.u64()? {
        let (id, ttl) = (pieces.i64()?, pieces.i64()?);
        if ttl > TTL_MAX || leases.grant(id, ttl).is_err() {
            return Err(pieces.damaged(format!("lease {id} with a time to live of {ttl} s, or twice")));
        }
    }
    Ok(leases)
}

fn read_keys(pieces: &mut Pieces<'_, impl Read>, store: &mut Store) -> Result<(), SnapshotError> {
    for _ in 0..pieces.u64()? {
        let key = pieces.text()?;
        if key.is_empty() || store.keys.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(pieces.damaged("a key that is empty or out of order"));
        }
        let mut versions: Vec<Version> = Vec::new();
        for _ in 0..pieces.u64()? {
            let version = pieces.version()?;
            let late = versions.last().is_some_and(|last| last.modified >= version.modified);
            if late || version.modified > store.revision {
                return Err(pieces.damaged("a version out of order"));
            }
            let value = version.value.as_ref().map_or(0, Bytes::len) as u64;
            store.bytes += key.len() as u64 + value + VERSION_BYTES;
            versions.push(version);
        }
        let Some(last) = versions.last() else { return Err(pieces.damaged("a key without versions")) };
        if last.lease != 0 && store.leases.get(last.lease).is_none() {
            return Err(pieces.damaged(format!("a key on lease {}, which is not there", last.lease)));
        }
        store.leases.attach(&key, 0, last.lease);
        store.keys.insert(key, History::from_versions(versions));
    }
    Ok(())
}

/// The changes must be those that the versions tell; only of the compacted revision a tombstone is gone.
fn read_changes(pieces: &mut Pieces<'_, impl Read>, store: &mut Store) -> Result<(), SnapshotError> {
    let mut changes: BTreeMap<Revision, Vec<Bytes>> = BTreeMap::new();
    let mut told = 0;
    for _ in 0..pieces.u64()? {
        let revision = pieces.i64()?;
        let in_order = changes.last_key_value().is_none_or(|(&last, _)| last < revision);
        if !in_order || revision < store.compacted || revision > store.revision {
            return Err(pieces.damaged("a revision out of order"));
        }
        let mut keys = Vec::new();
        for _ in 0..pieces.u64()? {
            let key = pieces.text()?;
            let known = store.keys.get(&key).is_some_and(|history| history.written_at(revision).is_some());
            if !known && revision != store.compacted {
                return Err(pieces.damaged("a change that its key does not know"));
            }
            told += usize::from(revision > store.compacted);
            keys.push(key);
        }
        let mut names: Vec<&Bytes> = keys.iter().collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != keys.len() || keys.is_empty() {
            return Err(pieces.damaged("a revision that changed a key twice, or nothing"));
        }
        changes.insert(revision, keys);
    }
    let compacted = store.compacted;
    let of = |history: &History| history.versions().iter().filter(|v| v.modified > compacted).count();
    if told != store.keys.values().map(of).sum::<usize>() {
        return Err(pieces.damaged("a version that no change tells of"));
    }
    store.changes = changes;
    Ok(())
}
