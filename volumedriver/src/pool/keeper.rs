//! The thread that owns the ledger. Data threads ask with [`Keep`] letters and never wait; answers come through
//! [`Audience`].

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use uring::{Disk, File};

use super::PoolOptions;
use super::change::PoolControl;
use super::ledger::{Census, Grant, Home, Ledger, Limits, ReserveState, Want};
use super::maker::{self, Make};
use super::open::{Misshapen, OpenPool, SegmentFiles};
use super::reserve::Reserve;
use crate::volume::address::SegmentId;
use crate::volume::event::{SpaceView, Stream};

/// Letters that may wait for the keeper; a data thread that finds it full tries again later.
const LETTERS: usize = 4096;
/// Orders that may wait for the maker: a segment and the reserve.
const ORDERS: usize = 2;
/// Pause before the file system is asked again whether there is room.
const RETRY: Duration = Duration::from_secs(1);

/// Letters to the keeper.
pub enum Keep {
    /// A volume wants segments.
    Want(Want),
    /// A volume gives segments back.
    Release(Vec<SegmentId>),
    /// A background job had to take from the reserve.
    ReserveUsed,
    /// The maker ended a segment.
    Made {
        /// Which.
        segment: SegmentId,
        /// Its file, locked.
        result: io::Result<Arc<dyn File>>,
    },
    /// The maker tried to make the reserve whole.
    ReserveTried,
    /// There is something in [`PoolControl`].
    Reconfigure,
    /// End.
    Stop,
}

/// Who hears what the keeper decides.
pub trait Audience: Send {
    /// The answer to a [`Want`]; empty when there is nothing to be had now.
    fn granted(&self, home: Home, stream: Stream, segments: Vec<(SegmentId, Arc<dyn File>)>);
    /// The pool's level crossed one of the marks of [`SpaceView`], or nothing is left, or something is again.
    fn level_changed(&self);
}

/// The pool's level and counters, for all threads. Each number is right by itself; two of them may be of two moments.
#[derive(Debug, Default)]
pub struct Levels {
    free: AtomicU32,
    total: AtomicU32,
    trigger: AtomicU32,
    backoff: AtomicU32,
    segments_free: AtomicU32,
    segments_used: AtomicU32,
    segments_making: AtomicU32,
    segments_absent: AtomicU32,
    reserve_missing: AtomicU64,
    grants: AtomicU64,
    empty_grants: AtomicU64,
    made: AtomicU64,
    no_space: AtomicU64,
    segment_size: AtomicU64,
}

/// What [`Levels`] counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Segments granted.
    pub grants: u64,
    /// Questions answered with nothing.
    pub empty_grants: u64,
    /// Segments zero-written.
    pub made: u64,
    /// Segments that could not be made.
    pub no_space: u64,
    /// Bytes that the reserve lacks now.
    pub reserve_missing: u64,
}

impl Levels {
    /// As volumes see it.
    pub fn view(&self) -> SpaceView {
        SpaceView {
            free: self.free.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            trigger: self.trigger.load(Ordering::Relaxed),
            backoff: self.backoff.load(Ordering::Relaxed),
        }
    }

    /// Bytes of a segment.
    pub fn segment_size(&self) -> u64 {
        self.segment_size.load(Ordering::Relaxed)
    }

    /// Segments by state.
    pub fn census(&self) -> Census {
        Census {
            free: self.segments_free.load(Ordering::Relaxed),
            used: self.segments_used.load(Ordering::Relaxed),
            making: self.segments_making.load(Ordering::Relaxed),
            absent: self.segments_absent.load(Ordering::Relaxed),
        }
    }

    /// The counters.
    pub fn counters(&self) -> PoolCounters {
        PoolCounters {
            grants: self.grants.load(Ordering::Relaxed),
            empty_grants: self.empty_grants.load(Ordering::Relaxed),
            made: self.made.load(Ordering::Relaxed),
            no_space: self.no_space.load(Ordering::Relaxed),
            reserve_missing: self.reserve_missing.load(Ordering::Relaxed),
        }
    }

    fn publish(&self, view: SpaceView, census: Census, reserve_missing: u64) {
        self.free.store(view.free, Ordering::Relaxed);
        self.total.store(view.total, Ordering::Relaxed);
        self.trigger.store(view.trigger, Ordering::Relaxed);
        self.backoff.store(view.backoff, Ordering::Relaxed);
        self.segments_free.store(census.free, Ordering::Relaxed);
        self.segments_used.store(census.used, Ordering::Relaxed);
        self.segments_making.store(census.making, Ordering::Relaxed);
        self.segments_absent.store(census.absent, Ordering::Relaxed);
        self.reserve_missing.store(reserve_missing, Ordering::Relaxed);
    }
}

/// The running pool. Stops when dropped; segment files stay open as long as somebody holds them.
pub struct Pool {
    letters: SyncSender<Keep>,
    levels: Arc<Levels>,
    control: PoolControl,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Pool {
    /// Starts the keeper and the maker. `used` are the segments that belong to volumes.
    pub fn start(
        open: OpenPool,
        used: &HashSet<SegmentId>,
        levels: Arc<Levels>,
        audience: Box<dyn Audience>,
    ) -> io::Result<Self> {
        let (letters, inbox) = sync_channel(LETTERS);
        let (orders, order_inbox) = sync_channel(ORDERS);
        let stopping = Arc::new(AtomicBool::new(false));
        let OpenPool { options, disk, reserve, mut files, mut misshapen } = open;
        misshapen.retain(|&segment, _| {
            let owned = used.contains(&segment);
            if !owned {
                files.remove(segment);
                remove_segment(&options, &*disk, segment);
            }
            owned
        });
        let maker = std::thread::Builder::new().name("ovs-maker".into()).spawn({
            let (options, disk, reserve) = (options.clone(), disk.clone(), reserve.clone());
            let (keeper, stopping) = (letters.clone(), stopping.clone());
            move || maker::run(options, disk, reserve, order_inbox, keeper, stopping)
        })?;
        let limits = limits(&options);
        levels.segment_size.store(options.segment_size, Ordering::Relaxed);
        let ledger = Ledger::new(limits, files.ids(), used.iter().copied());
        let control = PoolControl::new(letters.clone(), reserve.clone());
        let mut keeper = Keeper {
            options,
            control: control.clone(),
            disk,
            reserve,
            files,
            misshapen,
            ledger,
            levels: levels.clone(),
            audience,
            orders,
            reserve_ordered: false,
            mark: Mark::Ample,
            retiring: false,
        };
        keeper.judge_total();
        keeper.check_reserve();
        // Before anybody looks: the level is published when this returns.
        keeper.turn_end();
        let thread =
            std::thread::Builder::new().name("ovs-keeper".into()).spawn(move || keeper.run(inbox))?;
        Ok(Self { letters, levels, control, threads: vec![thread, maker], stopping })
    }

    /// Where letters to the keeper go.
    pub fn letters(&self) -> SyncSender<Keep> {
        self.letters.clone()
    }

    /// Where other limits go.
    pub fn control(&self) -> PoolControl {
        self.control.clone()
    }

    /// The level and the counters.
    pub fn levels(&self) -> Arc<Levels> {
        self.levels.clone()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // A keeper that is gone has nothing to stop.
        let _ = self.letters.send(Keep::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the segment pool panicked");
            }
        }
    }
}

pub(super) fn limits(options: &PoolOptions) -> Limits {
    let segments = |bytes: u64| u32::try_from(bytes / options.segment_size).unwrap_or(u32::MAX);
    let gap = |bytes: u64| segments(bytes.saturating_add(options.segment_size - 1));
    Limits {
        total: options.size.map_or(0, segments),
        compaction_reserve: options.compaction_reserve,
        ready_min: options.ready_min,
        ready_max: options.ready_max,
        trigger: gap(options.trigger_gap),
        backoff: gap(options.backoff_gap),
    }
}

/// Removes a segment of a wrong length that nobody owns. Where that fails, the next one of its number replaces it.
fn remove_segment(options: &PoolOptions, disk: &dyn Disk, segment: SegmentId) {
    let path = options.segment_path(segment);
    match disk.remove_file(&path) {
        Ok(()) => tracing::warn!(path = %path.display(), "segment of a wrong length removed: it was free"),
        Err(error) => tracing::warn!(%error, path = %path.display(), "segment of a wrong length not removed"),
    }
}

/// Between which marks the level is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Ample,
    BelowBackoff,
    BelowTrigger,
    Empty,
}

impl Mark {
    fn of(view: SpaceView) -> Self {
        match view.free {
            0 => Self::Empty,
            free if free < view.trigger => Self::BelowTrigger,
            free if free < view.backoff => Self::BelowBackoff,
            _ => Self::Ample,
        }
    }
}

pub(super) struct Keeper {
    pub(super) options: PoolOptions,
    control: PoolControl,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) reserve: Arc<Reserve>,
    pub(super) files: SegmentFiles,
    /// With volumes; not to be used again.
    misshapen: Misshapen,
    pub(super) ledger: Ledger,
    levels: Arc<Levels>,
    pub(super) audience: Box<dyn Audience>,
    orders: SyncSender<Make>,
    /// The maker is at the reserve.
    reserve_ordered: bool,
    /// Where the level stood when last told.
    mark: Mark,
    /// Segments go because the pool became smaller, and there are more of them.
    retiring: bool,
}

impl Keeper {
    fn run(mut self, inbox: Receiver<Keep>) {
        let mut next_look = None;
        loop {
            // A deadline and no pause: letters of a busy volume must not put it off.
            let letter = match self.is_short_of_room() {
                // There is more to be done.
                _ if self.retiring => inbox.recv_timeout(Duration::ZERO),
                true => {
                    let at = *next_look.get_or_insert_with(|| Instant::now() + RETRY);
                    inbox.recv_timeout(at.saturating_duration_since(Instant::now()))
                }
                false => {
                    next_look = None;
                    inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
            };
            match letter {
                Ok(Keep::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(letter) => self.take(letter),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if next_look.is_some_and(|at| at <= Instant::now()) {
                next_look = None;
                self.judge_total();
                self.check_reserve();
            }
            self.turn_end();
        }
    }

    /// Whether room that others leave on the file system would change something.
    fn is_short_of_room(&self) -> bool {
        let shared = self.options.size.is_none();
        let reserved = self.reserve.is_whole() && self.ledger.reserve() == ReserveState::Whole;
        self.ledger.is_full() || !reserved || (shared && self.mark != Mark::Ample)
    }

    /// Volumes gave these back.
    fn release(&mut self, segments: &[SegmentId], now: Instant) -> Vec<Grant> {
        let (mut usable, mut unknown) = (Vec::with_capacity(segments.len()), 0);
        for &segment in segments {
            let misshapen = self.misshapen.remove(&segment).is_some();
            if !misshapen && self.files.get(segment).is_some() {
                usable.push(segment);
                continue;
            }
            unknown += usize::from(!self.ledger.discard(segment));
            if misshapen {
                self.files.remove(segment);
                remove_segment(&self.options, &*self.disk, segment);
            }
        }
        let (grants, ignored) = self.ledger.release(&usable, now);
        if ignored + unknown > 0 {
            tracing::error!(ignored = ignored + unknown, "a volume gave back segments that it did not have");
        }
        grants
    }

    fn take(&mut self, letter: Keep) {
        let now = Instant::now();
        let grants = match letter {
            Keep::Want(want) => self.ledger.want(want, now),
            Keep::Release(segments) => self.release(&segments, now),
            Keep::ReserveUsed => {
                self.check_reserve();
                Vec::new()
            }
            Keep::ReserveTried => {
                self.reserve_ordered = false;
                let whole = self.reserve.is_whole();
                self.ledger.set_reserve(if whole { ReserveState::Whole } else { ReserveState::Short }, now)
            }
            Keep::Made { segment, result: Ok(file) } => {
                self.files.insert(segment, file);
                self.levels.made.fetch_add(1, Ordering::Relaxed);
                self.ledger.made(segment, now)
            }
            Keep::Made { segment, result: Err(error) } => {
                self.levels.no_space.fetch_add(1, Ordering::Relaxed);
                if error.kind() != io::ErrorKind::StorageFull {
                    tracing::warn!(%error, %segment, "a segment could not be made");
                }
                self.ledger.make_failed(segment, now)
            }
            // Looked at in each turn.
            Keep::Reconfigure | Keep::Stop => Vec::new(),
        };
        self.deliver(grants);
    }

    /// Who gets an answer finds a level that is no older.
    pub(super) fn deliver(&self, grants: Vec<Grant>) {
        self.publish();
        for grant in grants {
            let count = grant.segments.len() as u64;
            self.levels.grants.fetch_add(count, Ordering::Relaxed);
            self.levels.empty_grants.fetch_add(u64::from(count == 0), Ordering::Relaxed);
            // Free segments always have their files: `Made` and `open` insert them first.
            let segments =
                grant.segments.iter().filter_map(|&id| Some((id, self.files.get(id)?.clone()))).collect();
            self.audience.granted(grant.home, grant.stream, segments);
        }
    }

    /// Orders what is needed and tells the level.
    fn turn_end(&mut self) {
        if let Some(change) = self.control.take() {
            self.reconfigure(change);
        }
        self.retiring = self.retire_some();
        if self.options.size.is_none() && !self.ledger.is_full() {
            // Others use the file system, too.
            self.judge_total();
        }
        if let Some(segment) = self.ledger.next_to_make(Instant::now())
            && self.orders.send(Make::Segment(segment)).is_err()
        {
            let grants = self.ledger.make_failed(segment, Instant::now());
            self.deliver(grants);
        }
        self.publish();
        let mark = Mark::of(self.ledger.view());
        if mark != self.mark {
            self.mark = mark;
            self.audience.level_changed();
        }
    }

    pub(super) fn publish(&self) {
        self.levels.publish(self.ledger.view(), self.ledger.census(), self.reserve.missing());
    }

    /// How many segments fit: the configured number, or what the file system has room for.
    pub(super) fn judge_total(&mut self) {
        let size = self.options.segment_size;
        let total = match self.options.size {
            Some(bytes) => bytes / size,
            None => match self.disk.free_space(&self.options.directory) {
                Ok(free) => {
                    let existing = u64::from(self.ledger.on_disk());
                    let kept = self.reserve.missing() + self.options.trigger_gap;
                    existing + free.saturating_sub(kept) / size
                }
                Err(error) => {
                    tracing::warn!(%error, "free space of the disk is unknown; the pool does not grow");
                    return;
                }
            },
        };
        self.ledger.set_total(u32::try_from(total).unwrap_or(u32::MAX));
        // Who waits for a segment that may not be made any more must hear that.
        let grants = self.ledger.answer_waiting(Instant::now());
        self.deliver(grants);
    }

    /// Orders the reserve if it is not whole. One that could not be restored stays short until it was.
    pub(super) fn check_reserve(&mut self) {
        if self.reserve_ordered {
            return;
        }
        if self.reserve.is_whole() {
            // Somebody else wrote it, or less is enough now.
            if self.ledger.reserve() != ReserveState::Whole {
                let grants = self.ledger.set_reserve(ReserveState::Whole, Instant::now());
                self.deliver(grants);
            }
            return;
        }
        self.reserve_ordered = self.orders.send(Make::Reserve).is_ok();
        if self.ledger.reserve() == ReserveState::Whole {
            let grants = self.ledger.set_reserve(ReserveState::Restoring, Instant::now());
            self.deliver(grants);
        }
    }
}
