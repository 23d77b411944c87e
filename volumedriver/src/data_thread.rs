//! A data thread: one ring, some volumes, all their connections. No lock is taken and no thread is changed between a
//! request's arrival and its reply.
//!
//! # The way of a request
//!
//! One turn of `DataThread::turn`:
//!
//! 1. [`uring::Io::wait`] submits what the last turn queued, and sleeps until something completes.
//! 2. A receive completed: `receive.rs` decodes every request in it and gives each to its volume
//!    (`Volume::handle`). A write's bytes go from the receive buffer into the volume's open record, the only copy.
//! 3. A disk operation completed, or a letter ([`letters`]) from the pool or a background job came: their volume is
//!    told in the same way.
//! 4. Every volume that was told something closes its record (`Volume::finish_turn`), and `outputs.rs` does what
//!    the volumes want: it queues ring operations, asks the pool, orders background jobs, and hands answers to
//!    `answer.rs`, which puts them into the reply queue of their connection.
//! 5. Each connection with replies gets one send for all of them.
//!
//! So 32 writes that arrive together cost one receive, one record, one send.
//!
//! # Bounds
//!
//! A connection is not decoded any further while too many of its requests are unanswered, its replies take too much
//! memory, its volume has too much unwritten data, or the thread has too many reads in flight; the rest of its bytes
//! waits in its receive buffer and then in the socket. A client that does not take its replies stalls only itself.
//!
//! All bounds are fields of [`ThreadOptions`], which a letter replaces as a whole between two turns (`reconfigure.rs`).

mod answer;
pub mod background;
mod connection;
mod hosted;
pub mod letters;
mod lifecycle;
pub mod mailbox;
mod outputs;
mod receive;
mod reconfigure;
mod reports;
mod slots;
pub mod stages;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use uring::{Completion, Io, Op};

use self::answer::Request;
use self::background::Background;
use self::connection::Connection;
use self::hosted::Hosted;
use self::letters::Letter;
use self::lifecycle::Ending;
use self::mailbox::Mailbox;
use self::outputs::{Deferred, Unsent};
use self::slots::{Key, Slots};
use self::stages::Stages;
use crate::metrics::Metrics;
use crate::pool::keeper::{Keep, Levels};
use crate::pool::open::SegmentFiles;
use crate::volume::address::{RunId, Sequence};
use crate::volume::event::{Event, ReadId, Stream, SyncId};
use crate::volume::{Context, PageCache, Settings};

pub use connection::ConnectionCount;
pub use hosted::NewVolume;

/// Letters a data thread may have waiting. Background threads wait for room, clients are refused.
pub const MAILBOX_CAPACITY: usize = 65_536;

/// Bounds of one data thread; sizes in bytes. The thread has its own copy, which [`Letter::Reconfigure`] replaces.
#[derive(Clone, Debug)]
pub struct ThreadOptions {
    /// Its number.
    pub thread: u32,
    /// Limits of its volumes.
    pub settings: Arc<Settings>,
    /// Unanswered requests of one connection.
    pub requests_in_flight: usize,
    /// Replies of one connection that are being made or sent.
    pub reply_bytes: usize,
    /// Reads that the volumes work on, all connections together.
    pub read_bytes: usize,
    /// Unwritten data of one volume.
    pub volume_write_bytes: usize,
    /// Unwritten data of all volumes together.
    pub write_bytes: usize,
    /// Map entries in memory, all volumes together.
    pub memtable_bytes: usize,
    /// Pages of maps in memory.
    pub page_cache_bytes: usize,
    /// How long a client may leave its replies in the socket.
    pub send_timeout: Duration,
    /// Time between two ticks of volumes that need them.
    pub tick: Duration,
    /// How long a shutdown waits for what is in flight.
    pub shutdown_timeout: Duration,
}

/// What a data thread uses of the rest of the driver.
#[derive(Clone)]
pub struct Surroundings {
    /// The segment pool's queue.
    pub pool: SyncSender<Keep>,
    /// The segment pool's level.
    pub levels: Arc<Levels>,
    /// Background jobs.
    pub background: Background,
    /// Where histograms are.
    pub metrics: Arc<Metrics>,
}

/// What an operation in flight belongs to.
enum Pending {
    Record { volume: u32, stream: Stream, sequence: Sequence },
    Sync { volume: u32, sync: SyncId },
    Data { volume: u32, read: ReadId, length: usize },
    Page { volume: u32, run: RunId, page: u32 },
    Receive { connection: Key },
    Send { connection: Key },
}

/// See the module.
pub struct DataThread {
    io: Box<dyn Io>,
    mailbox: Arc<Mailbox<Letter>>,
    surroundings: Surroundings,
    options: ThreadOptions,
    /// By index; `None` after a volume left.
    volumes: Vec<Option<Box<Hosted>>>,
    segments: SegmentFiles,
    pages: PageCache,
    connections: Slots<Connection>,
    requests: Slots<Request>,
    operations: Slots<Pending>,
    stages: Stages,
    /// Time of this turn …
    now: Instant,
    /// … which volumes are told as the time since this.
    began: Instant,
    moment: Duration,
    /// Volumes that got an event in this turn.
    touched: Vec<u32>,
    /// Connections with replies to send.
    dirty: Vec<Key>,
    /// Connections held up by a limit.
    stalled: Vec<Key>,
    /// Events that came up while outputs were done.
    deferred: Vec<Deferred>,
    /// Letters and jobs that found a full queue.
    unsent: Vec<Unsent>,
    /// Sums over the volumes.
    read_bytes: usize,
    pending_bytes: usize,
    memtable_bytes: usize,
    /// Sends in flight: their age is looked at from time to time.
    sends: usize,
    next_tick: Option<Instant>,
    next_send_check: Option<Instant>,
    ending: Option<Ending>,
    completions: Vec<Completion>,
    letters: VecDeque<Letter>,
}

impl DataThread {
    /// A thread without volumes. Must be made on the thread that runs it.
    pub fn new(
        io: Box<dyn Io>,
        mailbox: Arc<Mailbox<Letter>>,
        surroundings: Surroundings,
        options: ThreadOptions,
    ) -> Self {
        mailbox.set_wake(io.waker());
        Self {
            pages: PageCache::new(options.page_cache_bytes),
            stages: Stages::new(&surroundings.metrics),
            io,
            mailbox,
            surroundings,
            options,
            volumes: Vec::new(),
            segments: SegmentFiles::default(),
            connections: Slots::default(),
            requests: Slots::default(),
            operations: Slots::default(),
            now: Instant::now(),
            began: Instant::now(),
            moment: Duration::ZERO,
            touched: Vec::new(),
            dirty: Vec::new(),
            stalled: Vec::new(),
            deferred: Vec::new(),
            unsent: Vec::new(),
            read_bytes: 0,
            pending_bytes: 0,
            memtable_bytes: 0,
            sends: 0,
            next_tick: None,
            next_send_check: None,
            ending: None,
            completions: Vec::new(),
            letters: VecDeque::new(),
        }
    }

    /// Serves until [`Letter::Shutdown`] was obeyed.
    pub fn run(mut self) -> io::Result<()> {
        while !self.has_ended() {
            self.turn()?;
        }
        Ok(())
    }

    /// One turn; see the module.
    fn turn(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let mut completions = std::mem::take(&mut self.completions);
        self.io.wait(timeout, &mut completions)?;
        self.now = Instant::now();
        self.moment = self.now.saturating_duration_since(self.began);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        let mut letters = std::mem::take(&mut self.letters);
        self.mailbox.take_all(&mut letters);
        for letter in letters.drain(..) {
            self.open(letter);
        }
        self.letters = letters;
        self.timers();
        self.settle();
        self.send_replies();
        if self.ending.is_some() {
            self.advance_ending();
            self.settle();
        }
        Ok(())
    }

    /// Does what the volumes want until they want nothing more in this turn.
    fn settle(&mut self) {
        loop {
            while !self.touched.is_empty() || !self.deferred.is_empty() {
                self.do_outputs();
            }
            self.keep_memory_bounded();
            self.resume_stalled();
            if self.touched.is_empty() && self.deferred.is_empty() {
                return;
            }
        }
    }

    /// Tells a volume something. One that is gone or about to leave hears nothing.
    #[inline]
    fn deliver(&mut self, volume: u32, event: Event<'_>) {
        let Some(hosted) = self.volumes.get_mut(volume as usize).and_then(Option::as_mut) else { return };
        if hosted.leaving.is_some() {
            return;
        }
        let mut context = Context { pages: &mut self.pages, now: self.moment, out: &mut hosted.outputs };
        hosted.volume.handle(event, &mut context);
        let pending = hosted.volume.pending_bytes();
        self.pending_bytes = self.pending_bytes + pending - hosted.pending_bytes;
        hosted.pending_bytes = pending;
        if !hosted.touched {
            hosted.touched = true;
            self.touched.push(volume);
        }
    }

    fn hosted(&mut self, volume: u32) -> Option<&mut Hosted> {
        self.volumes.get_mut(volume as usize)?.as_deref_mut()
    }

    /// Queues a ring operation.
    #[inline]
    fn submit(&mut self, pending: Pending, op: Op) -> Key {
        let key = self.operations.insert(pending);
        self.io.submit(key.0, op);
        key
    }

    /// A ring operation ended.
    fn complete(&mut self, completion: Completion) {
        let Completion { token, result, buf } = completion;
        let Some(pending) = self.operations.remove(Key(token)) else { return };
        match pending {
            Pending::Receive { connection } => self.received(connection, result, buf),
            Pending::Send { connection } => self.sent(connection, result),
            disk => self.disk_completed(disk, result, buf),
        }
    }
}

impl Drop for DataThread {
    /// Nobody shall wait for an answer, however the thread ended.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
