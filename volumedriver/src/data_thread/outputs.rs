//! Doing what volumes want, and telling them how it went.

use std::io;
use std::os::fd::RawFd;
use std::sync::mpsc::TrySendError;

use uring::{AlignedBuf, Durability, Op};

use super::background::Task;
use super::letters::Removal;
use super::{DataThread, Pending};
use crate::job::failure;
use crate::pool::keeper::Keep;
use crate::pool::ledger::{Home, Want};
use crate::volume::Context;
use crate::volume::address::{CLUSTER_SIZE, RunId, SegmentId};
use crate::volume::event::{Event, Failure, Output, Promise};

/// An event for a volume that came up while its outputs were done.
pub(super) struct Deferred {
    volume: u32,
    event: Event<'static>,
}

/// What found its queue full.
pub(super) enum Unsent {
    Letter(Keep),
    Task(Task),
}

impl DataThread {
    /// Closes the records of all touched volumes and does their outputs.
    pub(super) fn do_outputs(&mut self) {
        for Deferred { volume, event } in std::mem::take(&mut self.deferred) {
            self.deliver(volume, event);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for volume in touched.drain(..) {
            let Some(hosted) = self.volumes.get_mut(volume as usize).and_then(Option::as_deref_mut) else {
                continue;
            };
            let mut context = Context { pages: &mut self.pages, now: self.moment, out: &mut hosted.outputs };
            hosted.volume.finish_turn(&mut context);
            hosted.touched = false;
            hosted.answer_awaited();
            if self.next_tick.is_none() && hosted.volume.wants_ticks() {
                self.next_tick = Some(self.now + self.options.tick);
            }
            let (pending, memtable) = (hosted.volume.pending_bytes(), hosted.volume.memtable_bytes());
            self.pending_bytes = self.pending_bytes + pending - hosted.pending_bytes;
            self.memtable_bytes = self.memtable_bytes + memtable - hosted.memtable_bytes;
            (hosted.pending_bytes, hosted.memtable_bytes) = (pending, memtable);
            let mut outputs = std::mem::take(&mut hosted.outputs);
            for output in outputs.drain(..) {
                self.do_output(volume, output);
            }
            // The memory of the list is kept for the next turn of a busy volume, not for an idle one.
            if let Some(hosted) = self.hosted(volume)
                && hosted.outputs.is_empty()
                && hosted.in_flight > 0
            {
                hosted.outputs = outputs;
            }
            self.try_leave(volume);
        }
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    fn do_output(&mut self, volume: u32, output: Output) {
        match output {
            Output::WriteRecord { stream, sequence, segment, offset, data, promise } => {
                let Some(file) = self.segment_fd(segment) else {
                    let result = Err(no_segment(segment));
                    return self.defer(volume, Event::RecordWritten { stream, sequence, result });
                };
                let durability = match promise {
                    Promise::Written => Durability::Written,
                    Promise::Durable => Durability::Durable,
                };
                let op = Op::Write { file, offset, data: vec![data], durability };
                self.start(volume, Pending::Record { volume, stream, sequence }, op);
            }
            Output::Sync { sync, segment } => match self.segment_fd(segment) {
                Some(file) => self.start(volume, Pending::Sync { volume, sync }, Op::Sync { file }),
                None => self.defer(volume, Event::Synced { sync, result: Err(no_segment(segment)) }),
            },
            Output::ReadData { read, segment, offset, length } => match self.segment_fd(segment) {
                Some(file) => {
                    let length = length as usize;
                    let op = Op::Read { file, offset, buf: buffer(length) };
                    self.start(volume, Pending::Data { volume, read, length }, op);
                }
                None => self.defer(volume, Event::DataRead { read, result: Err(no_segment(segment)) }),
            },
            Output::ReadPage { run, page } => match self.run_fd(volume, run) {
                Some(file) => {
                    let offset = u64::from(page) * CLUSTER_SIZE as u64;
                    let op = Op::Read { file, offset, buf: buffer(CLUSTER_SIZE) };
                    self.start(volume, Pending::Page { volume, run, page }, op);
                }
                None => {
                    let result = Err(Failure::Io(format!("run {run} is not open")));
                    self.defer(volume, Event::PageRead { run, page, result });
                }
            },
            Output::Reply { request, result } => self.answer(request, result),
            Output::WantSegments { stream, count } => {
                let home = Home { thread: self.options.thread, volume };
                self.count_in_flight(volume);
                self.tell_pool(Keep::Want(Want { home, stream, count }));
            }
            Output::ReleaseSegments { segments } => {
                if let Some(hosted) = self.hosted(volume) {
                    segments.iter().for_each(|segment| {
                        hosted.segments.remove(segment);
                    });
                }
                self.tell_pool(Keep::Release(segments));
            }
            Output::Report(report) => self.report(volume, report),
            job => self.order_job(volume, job),
        }
    }

    /// Outputs that block and are done by background threads.
    fn order_job(&mut self, volume: u32, output: Output) {
        let home = Home { thread: self.options.thread, volume };
        let Some(hosted) = self.hosted(volume) else { return };
        let files = hosted.files.clone();
        let task = match output {
            Output::WriteManifest { version, bytes } => Task::WriteManifest { home, files, version, bytes },
            Output::BuildRun { job, run, entries } => Task::BuildRun { home, files, job, run, entries },
            Output::MergeRuns { job, inputs, first_run, bottom, run_bytes_max } => {
                Task::MergeRuns { home, files, job, inputs, first_run, bottom, run_bytes_max }
            }
            Output::RemoveRuns { runs } => {
                let paths = runs.iter().map(|&run| files.run(run)).collect();
                for run in runs {
                    hosted.runs.remove(&run);
                }
                self.order(Task::Remove(Removal::Files(paths)));
                return;
            }
            _ => return,
        };
        self.count_in_flight(volume);
        self.order(task);
    }

    fn start(&mut self, volume: u32, pending: Pending, op: Op) {
        self.count_in_flight(volume);
        self.submit(pending, op);
    }

    fn count_in_flight(&mut self, volume: u32) {
        if let Some(hosted) = self.hosted(volume) {
            hosted.in_flight += 1;
        }
    }

    /// Something that was asked for a volume came back.
    pub(super) fn came_back(&mut self, volume: u32) {
        if let Some(hosted) = self.hosted(volume) {
            hosted.in_flight -= 1;
            if hosted.leaving.is_some() {
                self.try_leave(volume);
            }
        }
    }

    /// Tells the pool, or keeps the letter until there is room for it.
    pub(super) fn tell_pool(&mut self, letter: Keep) {
        match self.surroundings.pool.try_send(letter) {
            Ok(()) => {}
            Err(TrySendError::Full(letter)) => self.keep_unsent(Unsent::Letter(letter)),
            // Only at the very end: the pool stops after the data threads.
            Err(TrySendError::Disconnected(_)) => tracing::error!("the segment pool is gone"),
        }
    }

    fn order(&mut self, task: Task) {
        if let Err(task) = self.surroundings.background.try_order(task) {
            self.keep_unsent(Unsent::Task(task));
        }
    }

    fn keep_unsent(&mut self, unsent: Unsent) {
        self.unsent.push(unsent);
        self.next_tick.get_or_insert(self.now + self.options.tick);
    }

    /// Tries again what found a full queue. There is never more of it than questions, jobs and segments of this
    /// thread's volumes.
    pub(super) fn send_unsent(&mut self) {
        for unsent in std::mem::take(&mut self.unsent) {
            match unsent {
                Unsent::Letter(letter) => self.tell_pool(letter),
                Unsent::Task(task) => self.order(task),
            }
        }
    }

    fn defer(&mut self, volume: u32, event: Event<'static>) {
        self.deferred.push(Deferred { volume, event });
    }

    fn segment_fd(&self, segment: SegmentId) -> Option<RawFd> {
        self.segments.get(segment).map(|file| file.fd())
    }

    fn run_fd(&mut self, volume: u32, run: RunId) -> Option<RawFd> {
        self.hosted(volume)?.runs.get(&run).map(|file| file.fd())
    }

    /// A read, write or sync of a volume ended.
    pub(super) fn disk_completed(
        &mut self,
        pending: Pending,
        result: io::Result<usize>,
        buf: Option<AlignedBuf>,
    ) {
        let (volume, event) = match pending {
            Pending::Record { volume, stream, sequence } => {
                (volume, Event::RecordWritten { stream, sequence, result: done(result) })
            }
            Pending::Sync { volume, sync } => (volume, Event::Synced { sync, result: done(result) }),
            Pending::Data { volume, read, length } => {
                (volume, Event::DataRead { read, result: filled(result, buf, length) })
            }
            Pending::Page { volume, run, page } => {
                (volume, Event::PageRead { run, page, result: filled(result, buf, CLUSTER_SIZE) })
            }
            Pending::Receive { .. } | Pending::Send { .. } => return,
        };
        self.deliver(volume, event);
        self.came_back(volume);
    }
}

fn buffer(length: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::with_capacity(length);
    buf.set_len(length);
    buf
}

fn no_segment(segment: SegmentId) -> Failure {
    Failure::Io(format!("segment {segment} is not open"))
}

fn done(result: io::Result<usize>) -> Result<(), Failure> {
    result.map(drop).map_err(|error| failure(&error))
}

fn filled(
    result: io::Result<usize>,
    buf: Option<AlignedBuf>,
    length: usize,
) -> Result<bytes::Bytes, Failure> {
    match (result, buf) {
        (Ok(read), Some(buf)) if read == length => Ok(buf.freeze()),
        (Ok(read), _) => Err(Failure::Io(format!("read {read} of {length} bytes: the file is shorter"))),
        (Err(error), _) => Err(failure(&error)),
    }
}
