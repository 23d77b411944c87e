//! From the store to bytes.

use std::io::{self, Write};

use bytes::Bytes;

use super::{FORMAT, MAGIC, PIECE_MAX};
use crate::mvcc::Store;
use crate::mvcc::history::{History, Version};

/// Gathers pieces.
struct Pieces<'a, W> {
    out: &'a mut W,
    piece: Vec<u8>,
}

impl<W: Write> Pieces<'_, W> {
    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = PIECE_MAX - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_MAX {
                self.send()?;
            }
        }
        Ok(())
    }

    /// A piece without payload says that nothing follows.
    fn send(&mut self) -> io::Result<()> {
        self.out.write_all(&(self.piece.len() as u32).to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(&self.piece).to_le_bytes())?;
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn u64(&mut self, value: u64) -> io::Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    fn i64(&mut self, value: i64) -> io::Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    /// Length and content.
    fn text(&mut self, bytes: &Bytes) -> io::Result<()> {
        self.bytes(&(bytes.len() as u32).to_le_bytes())?;
        self.bytes(bytes)
    }

    fn version(&mut self, version: &Version) -> io::Result<()> {
        self.i64(version.modified)?;
        self.i64(version.created)?;
        self.i64(version.version)?;
        self.i64(version.lease)?;
        self.bytes(&[u8::from(version.value.is_some())])?;
        version.value.iter().try_for_each(|value| self.text(value))
    }

    fn history(&mut self, key: &Bytes, history: &History) -> io::Result<()> {
        self.text(key)?;
        self.u64(history.versions().len() as u64)?;
        history.versions().iter().try_for_each(|version| self.version(version))
    }
}

impl Store {
    /// Writes all of it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_snapshot(&self, out: &mut impl Write) -> io::Result<()> {
        let mut pieces = Pieces { out, piece: Vec::with_capacity(PIECE_MAX) };
        pieces.bytes(&MAGIC)?;
        pieces.bytes(&FORMAT.to_le_bytes())?;
        pieces.i64(self.revision)?;
        pieces.i64(self.compacted)?;
        pieces.u64(self.leases.iter().count() as u64)?;
        for (id, lease) in self.leases.iter() {
            pieces.i64(id)?;
            pieces.i64(lease.ttl)?;
        }
        pieces.u64(self.keys.len() as u64)?;
        self.keys.iter().try_for_each(|(key, history)| pieces.history(key, history))?;
        pieces.u64(self.changes.len() as u64)?;
        for (&revision, keys) in &self.changes {
            pieces.i64(revision)?;
            pieces.u64(keys.len() as u64)?;
            keys.iter().try_for_each(|key| pieces.text(key))?;
        }
        if !pieces.piece.is_empty() {
            pieces.send()?;
        }
        pieces.send()
    }
}
