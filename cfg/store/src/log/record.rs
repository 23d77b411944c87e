//! Records as bytes: what a batch consists of. Layout: `docs/formats/store-log.md`. Checksums are the batch's.

use bytes::Bytes;

use super::{Entry, LogId, Vote};

/// One change of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A vote was given, or taken as committed.
    Vote(Vote),
    /// An entry behind the last one.
    Entry(Entry),
    /// The entries from this index on are dropped, after which `last` is the last one.
    Truncate {
        /// First index that is dropped.
        from: u64,
        /// Position before it; `None`: nothing is before it.
        last: Option<LogId>,
    },
    /// The entries up to this position, included, are dropped; it may be beyond the last.
    Purge(LogId),
    /// Entries up to this position are known to be committed.
    Committed(LogId),
}

/// Kind and length in front of a record's body, bytes.
const PREFIX: usize = 5;
/// A position, bytes.
pub(super) const ID: usize = 24;

const VOTE: u8 = 1;
const ENTRY: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const COMMITTED: u8 = 5;

/// Appends a position.
pub(super) fn put_id(out: &mut Vec<u8>, id: LogId) {
    for part in [id.term, id.node, id.index] {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

impl Record {
    /// Bytes that [`Record::encode`] appends.
    pub(super) fn encoded_len(&self) -> usize {
        PREFIX
            + match self {
                Record::Vote(_) => 17,
                Record::Entry(entry) => ID + entry.payload.len(),
                Record::Truncate { .. } => 9 + ID,
                Record::Purge(_) | Record::Committed(_) => ID,
            }
    }

    /// Appends the record. Its length fits 32 bits: an entry's is checked when it is appended to the log.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Record::Vote(_) => VOTE,
            Record::Entry(_) => ENTRY,
            Record::Truncate { .. } => TRUNCATE,
            Record::Purge(_) => PURGE,
            Record::Committed(_) => COMMITTED,
        };
        out.push(kind);
        out.extend_from_slice(&((self.encoded_len() - PREFIX) as u32).to_le_bytes());
        match self {
            Record::Vote(vote) => {
                out.extend_from_slice(&vote.term.to_le_bytes());
                out.extend_from_slice(&vote.node.to_le_bytes());
                out.push(u8::from(vote.committed));
            }
            Record::Entry(entry) => {
                put_id(out, entry.id);
                out.extend_from_slice(&entry.payload);
            }
            Record::Truncate { from, last } => {
                out.extend_from_slice(&from.to_le_bytes());
                out.push(u8::from(last.is_some()));
                put_id(out, last.unwrap_or_default());
            }
            Record::Purge(id) | Record::Committed(id) => put_id(out, *id),
        }
    }

    /// Takes the first record off `input`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Record, String> {
        let kind = input.u8()?;
        let len = input.u32()? as usize;
        let mut body = Reader(input.take(len)?);
        let record = match kind {
            VOTE => Record::Vote(Vote { term: body.u64()?, node: body.u64()?, committed: body.flag()? }),
            ENTRY => {
                let id = body.id()?;
                let payload = Bytes::copy_from_slice(body.take(body.0.len())?);
                Record::Entry(Entry { id, payload })
            }
            TRUNCATE => {
                let (from, some, last) = (body.u64()?, body.flag()?, body.id()?);
                Record::Truncate { from, last: some.then_some(last) }
            }
            PURGE => Record::Purge(body.id()?),
            COMMITTED => Record::Committed(body.id()?),
            kind => return Err(format!("a record of the unknown kind {kind}")),
        };
        if !body.0.is_empty() {
            return Err(format!("a record of kind {kind} is {} bytes too long", body.0.len()));
        }
        Ok(record)
    }
}

/// Bytes that are read from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (front, rest) = self.0.split_at_checked(len).ok_or("a record ends too early")?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (front, rest) = self.0.split_first_chunk().ok_or("a record ends too early")?;
        self.0 = rest;
        Ok(*front)
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, String> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A byte that is 0 or 1.
    fn flag(&mut self) -> Result<bool, String> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("a flag of {other}")),
        }
    }

    /// Four bytes.
    pub(super) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub(super) fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A position.
    pub(super) fn id(&mut self) -> Result<LogId, String> {
        Ok(LogId { term: self.u64()?, node: self.u64()?, index: self.u64()? })
    }
}
