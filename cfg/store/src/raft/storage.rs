//! The log as openraft wants it.
#![allow(clippy::result_large_err, reason = "the error is openraft's")]

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use prost::Message;
use tokio::sync::oneshot;

use super::types::{self, Entry, LogId, StorageError, Types, Vote};
use crate::log::{self, Log};
use crate::machine::MemberId;
use crate::words;

/// Bytes of entries that are read at once: what one message to a follower holds, or one turn of applying.
const READ_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Clone)]
pub(super) struct LogStore {
    log: Log,
}

impl LogStore {
    pub(super) fn new(log: Log) -> Self {
        Self { log }
    }

    pub(super) fn read(&self, start: u64, end: u64, bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let decode = |entry: log::Entry| {
            let words = words::Entry::decode(entry.payload)
                .map_err(|error| StorageIOError::read_logs(AnyError::new(&error)))?;
            Ok(types::entry(from_log(entry.id), words))
        };
        self.log.entries(start, end, bytes).into_iter().map(decode).collect()
    }
}

/// What an entry is in the log: all but its id, which the log knows itself.
pub(super) fn payload(entry: Entry) -> Vec<u8> {
    words::Entry { id: None, ..types::entry_words(entry) }.encode_to_vec()
}

fn to_log(id: &LogId) -> log::LogId {
    log::LogId { term: id.leader_id.term, node: 0, index: id.index }
}

fn from_log(id: log::LogId) -> LogId {
    types::log_id(words::LogId { term: id.term, index: id.index })
}

fn failed(error: &io::Error) -> StorageIOError<MemberId> {
    StorageIOError::write(AnyError::new(error))
}

/// Waits until what `start` begins is durable.
async fn durable(start: impl FnOnce(log::Done)) -> Result<(), StorageError> {
    let (sender, receiver) = oneshot::channel();
    start(Box::new(move |result| {
        // Nobody waits any more when the node is shut down.
        let _ = sender.send(result);
    }));
    let gone = |_| StorageIOError::write(AnyError::error("the log was closed"));
    receiver.await.map_err(gone)?.map_err(|error| failed(&error))?;
    Ok(())
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        // Of a range that begins before the log, what is there.
        self.read(start.max(self.log.first().unwrap_or(0)), end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, READ_BYTES)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(from_log),
            last_log_id: self.log.last().map(from_log),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let words::Vote { term, member, committed } = types::vote_words(vote);
        durable(|done| self.log.save_vote(log::Vote { term, node: member, committed }, done)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let words =
            |vote: log::Vote| words::Vote { term: vote.term, member: vote.node, committed: vote.committed };
        Ok(self.log.vote().map(words).map(types::vote))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if let Some(committed) = committed {
            self.log.save_committed(to_log(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.log.committed().map(from_log))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encode = |entry: Entry| {
            let id = to_log(&entry.log_id);
            log::Entry { id, payload: payload(entry).into() }
        };
        let entries = entries.into_iter().map(encode).collect();
        self.log.append(entries, Box::new(move |result| callback.log_io_completed(result)));
        Ok(())
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), StorageError> {
        durable(|done| self.log.truncate(id.index, done)).await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), StorageError> {
        durable(|done| self.log.purge(to_log(&id), done)).await
    }
}
