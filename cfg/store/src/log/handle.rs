//! What others hold of a log: questions are answered from memory, requests go through a bounded queue to the
//! one thread that writes.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use uring::Disk;

use super::memory::Memory;
use super::record::Record;
use super::recover::Recovered;
use super::segment;
use super::writer::Writer;
use super::{Done, Entry, LogError, LogId, Options, Vote};

/// A log that is open. Clones are the same log; when the last one is dropped it is closed as by
/// [`Log::close`].
///
/// **Order.** Requests take effect in memory when they are made and reach the disk in the same order; their
/// [`Done`]s are called in that order too. Several that wait at the same time are made durable by one write
/// and one sync.
///
/// **Waiting.** A request that finds [`Options::queue`] others waiting blocks its caller until the thread has
/// taken some. A caller that must not block (an async task) holds one permit of a semaphore of `queue`
/// permits from before each request until its [`Done`]: then there always is room.
///
/// **Refusal.** A request that cannot be (a hole, a payload too long) changes nothing and is answered at once
/// with `InvalidInput`; the log goes on.
///
/// **Failure.** After a write or sync that failed nothing is written any more, and every request ends with an
/// error that says so. What is in memory may be ahead of the disk then: open the log again.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

/// Ends the thread when the last handle is gone.
struct Inner {
    shared: Arc<Shared>,
    options: Options,
    recovered: Recovered,
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

/// What the handles and the thread have in common.
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to do for the thread.
    work: Condvar,
    /// There is room for requests.
    room: Condvar,
}

struct Queue {
    /// With all requests followed, the waiting ones too.
    memory: Memory,
    waiting: VecDeque<Request>,
    /// A committed position that goes with the next write.
    committed: Option<LogId>,
    /// Why requests are refused.
    ended: Option<String>,
}

struct Request {
    records: Vec<Record>,
    done: Done,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that panics leaves the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses all requests from now on; returns those that wait.
    fn end(&self, reason: String) -> VecDeque<Request> {
        let mut queue = self.lock();
        queue.ended.get_or_insert(reason);
        self.room.notify_all();
        std::mem::take(&mut queue.waiting)
    }
}

fn refused(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

impl Log {
    /// Opens or creates the log in `dir`, recovers it and starts its thread. The directory above `dir` has to
    /// be there durably. Blocks for as long as it takes to read all segments and to write the last one again.
    ///
    /// # Errors
    /// Damage, with file and offset, and everything else in [`LogError`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Log, LogError> {
        let (writer, memory, recovered) = Writer::open(disk, dir, options)?;
        let queue = Queue { memory, waiting: VecDeque::new(), committed: None, ended: None };
        let (work, room) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { queue: Mutex::new(queue), work, room });
        let own = shared.clone();
        let thread = thread::Builder::new()
            .name("store-log".to_string())
            .spawn(move || run(writer, &own, options))
            .map_err(|source| LogError::Io { path: dir.to_path_buf(), source })?;
        Ok(Log { inner: Arc::new(Inner { shared, options, recovered, thread: Mutex::new(Some(thread)) }) })
    }

    /// What the open found; a [`Recovered::cut`] is worth a log line.
    pub fn recovered(&self) -> &Recovered {
        &self.inner.recovered
    }

    /// The last vote saved.
    pub fn vote(&self) -> Option<Vote> {
        self.inner.shared.lock().memory.state.vote
    }

    /// The last position saved as committed.
    pub fn committed(&self) -> Option<LogId> {
        self.inner.shared.lock().memory.state.committed
    }

    /// The last entry's position; without one the last purged position.
    pub fn last(&self) -> Option<LogId> {
        self.inner.shared.lock().memory.state.last
    }

    /// The position up to which entries are purged.
    pub fn purged(&self) -> Option<LogId> {
        self.inner.shared.lock().memory.state.purged
    }

    /// Index of the first entry that is not purged.
    pub fn first(&self) -> Option<u64> {
        self.inner.shared.lock().memory.first()
    }

    /// The entries from index `start` to before `end`, as many as fit `max_bytes` of payload, but one at
    /// least if there is one at `start`. Empty, if there is none at `start`.
    pub fn entries(&self, start: u64, end: u64, max_bytes: usize) -> Vec<Entry> {
        self.inner.shared.lock().memory.entries(start, end, max_bytes)
    }

    /// Payload of all entries in memory, bytes.
    pub fn bytes(&self) -> u64 {
        self.inner.shared.lock().memory.bytes()
    }

    /// Requests that the thread has not taken yet.
    pub fn waiting(&self) -> usize {
        self.inner.shared.lock().waiting.len()
    }

    /// Saves a vote.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.request(done, |_| Ok(vec![Record::Vote(vote)]));
    }

    /// Notes that the entries up to `id` are committed. Nobody waits for it: it goes with the next write, or
    /// with the close; a crash may lose it.
    pub fn save_committed(&self, id: LogId) {
        let mut queue = self.inner.shared.lock();
        if queue.ended.is_some() || queue.memory.apply(&Record::Committed(id)).is_err() {
            return;
        }
        queue.committed = Some(id);
        // It follows the requests made before it, and takes no room of its own.
        if let Some(Request { records, .. }) = queue.waiting.back_mut() {
            records.pop_if(|record| matches!(record, Record::Committed(_)));
            records.push(Record::Committed(id));
            queue.committed = None;
        }
    }

    /// Appends entries, each one index behind the one before; behind an empty log that was never purged any
    /// index will do. They can be read at once, and are durable when `done` is called. After a crash before
    /// that a front part of them may be there.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        let max = self.inner.options.entry_bytes_max;
        self.request(done, |memory| {
            let mut last = memory.state.last;
            for Entry { id, payload } in &entries {
                Memory::check_entry(last, *id)?;
                if payload.len() > max {
                    let bytes = payload.len();
                    return Err(format!("entry {} has {bytes} bytes, {max} are allowed", id.index));
                }
                last = Some(*id);
            }
            Ok(entries.into_iter().map(Record::Entry).collect())
        });
    }

    /// Drops the entries with index `from` and higher. Purged ones cannot be dropped.
    pub fn truncate(&self, from: u64, done: Done) {
        self.request(done, |memory| Ok(memory.truncation(from)?.into_iter().collect()));
    }

    /// Drops the entries up to the index of `upto`, which may be beyond the last one. Files follow when all
    /// in them is dropped.
    pub fn purge(&self, upto: LogId, done: Done) {
        self.request(done, |memory| Ok(memory.purging(upto)?.into_iter().collect()));
    }

    /// Writes what waits, ends the thread and leaves the mark of a clean stop. Requests of other clones are
    /// refused from then on.
    ///
    /// # Errors
    /// A write that failed, now or before.
    pub fn close(self) -> io::Result<()> {
        self.inner.close()
    }

    /// Waits for room, follows in memory what `make` says, and queues it.
    fn request(&self, done: Done, make: impl FnOnce(&Memory) -> Result<Vec<Record>, String>) {
        let Err((error, done)) = self.queue(done, make) else { return };
        done(Err(error));
    }

    /// As [`Log::request`]; a refused request comes back.
    fn queue(
        &self,
        done: Done,
        make: impl FnOnce(&Memory) -> Result<Vec<Record>, String>,
    ) -> Result<(), (io::Error, Done)> {
        let shared = &self.inner.shared;
        let full =
            |queue: &mut Queue| queue.ended.is_none() && queue.waiting.len() >= self.inner.options.queue;
        let mut queue = shared.room.wait_while(shared.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &queue.ended {
            return Err((io::Error::other(reason.clone()), done));
        }
        let mut records = match make(&queue.memory) {
            Ok(records) => records,
            Err(what) => return Err((refused(what), done)),
        };
        for record in &records {
            // Checked by `make`, which looks at the same memory.
            if let Err(what) = queue.memory.apply(record) {
                return Err((refused(what), done));
            }
        }
        if let Some(id) = queue.committed.take() {
            records.insert(0, Record::Committed(id));
        }
        queue.waiting.push_back(Request { records, done });
        shared.work.notify_one();
        Ok(())
    }
}

impl Inner {
    fn close(&self) -> io::Result<()> {
        {
            let mut queue = self.shared.lock();
            queue.ended.get_or_insert_with(|| "the log is closed".to_string());
            self.shared.work.notify_one();
            self.shared.room.notify_all();
        }
        // Held until the thread has ended: who closes second waits for it too.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match thread.take() {
            // The last handle went in a `Done`: the thread ends by itself.
            Some(thread) if thread.thread().id() == thread::current().id() => Ok(()),
            Some(thread) => {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the log's thread panicked")))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to hear of it: without the mark the next start takes the log for one that was not closed.
        let _ = self.close();
    }
}

/// Ends the queue when the thread panics, so that nobody waits for it.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        for Request { done, .. } in self.0.end("the log's thread ended".to_string()) {
            done(Err(io::Error::other("the log's thread ended")));
        }
    }
}

/// Why nothing is written any more.
fn failure(error: &io::Error) -> String {
    format!("the log could not be written, and takes nothing until it is opened again: {error}")
}

/// The thread: takes what waits, up to the length of a write, writes it, answers; until the log is closed.
fn run(mut writer: Writer, shared: &Shared, options: Options) -> io::Result<()> {
    let guard = Guard(shared);
    while let Some((records, dones)) = take(shared, options.batch_bytes) {
        let written = writer.write(&records);
        let reason = written.as_ref().err().map(failure);
        // Ended before anybody hears of the failure: who hears of it finds the log refusing.
        let refused = reason.clone().map(|reason| shared.end(reason)).unwrap_or_default();
        for done in dones.into_iter().chain(refused.into_iter().map(|request| request.done)) {
            done(reason.as_ref().map_or(Ok(()), |reason| Err(io::Error::other(reason.clone()))));
        }
        written?;
        if let Err(error) = writer.delete_purged() {
            for Request { done, .. } in shared.end(failure(&error)) {
                done(Err(io::Error::other(failure(&error))));
            }
            return Err(error);
        }
    }
    drop(guard);
    writer.close()
}

/// What goes into the next write; `None`: the log is closed, and everything is written.
fn take(shared: &Shared, batch_bytes: usize) -> Option<(Vec<Record>, Vec<Done>)> {
    let idle = |queue: &mut Queue| queue.waiting.is_empty() && queue.ended.is_none();
    let mut queue = shared.work.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
    let (mut records, mut dones, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(request) = queue.waiting.front() {
        bytes += request.records.iter().map(Record::encoded_len).sum::<usize>();
        if segment::batch_len(bytes) > batch_bytes && !dones.is_empty() {
            break;
        }
        let Some(request) = queue.waiting.pop_front() else { break };
        records.extend(request.records);
        dones.push(request.done);
    }
    if dones.is_empty() {
        records.extend(queue.committed.take().map(Record::Committed));
    }
    shared.room.notify_all();
    (!dones.is_empty() || !records.is_empty()).then_some((records, dones))
}
