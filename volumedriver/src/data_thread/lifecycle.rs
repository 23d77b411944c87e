//! Letters, timers, and the ways in and out: volumes that come and go, connections that are attached, the shutdown.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::answer::Request;
use super::connection::{Connection, Phase};
use super::hosted::{Awaited, Hosted, Leaving, NewVolume};
use super::letters::{Built, Client, Letter, Recount, Removed, ThreadReport, VolumeReport};
use super::{ConnectionCount, DataThread};
use crate::driver::VolumeError;
use crate::nbd::listener::Attached;
use crate::pool::keeper::Keep;
use crate::volume::Context;
use crate::volume::event::{Event, FlushedBy, RequestError, RequestId};
use crate::volume::own::OwnChange;

/// A shutdown in progress: first the connections end, then every volume is flushed.
pub(super) struct Ending {
    deadline: Instant,
    /// Flushes that were not answered; `None` before they are asked for.
    flushes: Option<usize>,
}

impl DataThread {
    /// Obeys a letter.
    pub(super) fn open(&mut self, letter: Letter) {
        match letter {
            Letter::Host { volume, new } => self.host(volume, *new),
            Letter::Attach { volume, attached, count } => self.attach(volume, *attached, count),
            Letter::Resize { volume, size, done } => self.resize(volume, size, done),
            Letter::Remove { volume, done } => self.remove(volume, done),
            Letter::ChangeOwn { volume, change, done } => self.change_own(volume, change, done),
            Letter::Describe { volume, recount, done } => {
                // Who asked may have given up waiting.
                let _ = done.try_send(self.describe(volume));
                if recount == Recount::FromNothing {
                    self.begin_anew(volume);
                }
            }
            Letter::Clients { done } => {
                // Whoever asked may have given up.
                let _ = done.try_send(self.clients());
            }
            Letter::Granted { volume, stream, segments } => {
                let ids: Vec<_> = segments.iter().map(|(id, _)| *id).collect();
                for (id, file) in segments {
                    self.segments.insert(id, file);
                }
                match self.hosted(volume) {
                    Some(hosted) => hosted.segments.extend(&ids),
                    None if !ids.is_empty() => self.tell_pool(Keep::Release(ids.clone())),
                    None => {}
                }
                if ids.is_empty() {
                    self.next_tick.get_or_insert(self.now + self.options.tick);
                }
                self.deliver(volume, Event::SegmentsGranted { stream, segments: ids });
                self.came_back(volume);
            }
            Letter::LevelChanged => self.tick_soon(),
            Letter::ManifestWritten { volume, version, result } => {
                self.deliver(volume, Event::ManifestWritten { version, result });
                self.came_back(volume);
            }
            Letter::RunsBuilt { volume, job, result } => {
                let result = result.map(|Built { built, files }| {
                    if let Some(hosted) = self.hosted(volume) {
                        hosted.runs.extend(files);
                    }
                    built
                });
                self.deliver(volume, Event::RunsBuilt { job, result });
                self.came_back(volume);
            }
            Letter::Reconfigure { options, taken } => {
                self.reconfigure(*options);
                // Who asked may have given up waiting.
                let _ = taken.try_send(());
            }
            Letter::Shutdown => self.shut_down(),
        }
    }

    fn host(&mut self, volume: u32, mut new: NewVolume) {
        let index = volume as usize;
        if self.volumes.len() <= index {
            self.volumes.resize_with(index + 1, || None);
        }
        let segments = std::mem::take(&mut new.segments);
        let mut hosted = Box::new(Hosted::new(new));
        for (segment, file) in segments {
            hosted.segments.insert(segment);
            self.segments.insert(segment, file);
        }
        hosted.volume.limit_pages(&mut self.pages);
        self.memtable_bytes += hosted.memtable_bytes;
        self.pending_bytes += hosted.pending_bytes;
        self.volumes[index] = Some(hosted);
        // It may have been made before the last change of the bounds arrived here.
        self.hand_settings(volume);
        self.deliver(volume, Event::Tick { space: self.surroundings.levels.view() });
    }

    fn clients(&mut self) -> Vec<Client> {
        let mut clients = Vec::new();
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let (volume, peer) = (connection.volume, connection.peer.clone());
            let Some(hosted) = self.hosted(volume) else { continue };
            clients.push(Client { volume: hosted.volume.name().to_owned(), peer });
        }
        clients
    }

    fn attach(&mut self, volume: u32, attached: Attached, count: ConnectionCount) {
        if self.ending.is_some() {
            return;
        }
        let Some(hosted) = self.hosted(volume) else { return };
        // The volume may have grown since the client was told its size.
        let size = hosted.volume.size();
        tracing::debug!(peer = attached.peer, volume = hosted.volume.name(), "NBD connection attached");
        let mut connection = Connection::new(attached, volume, count, self.now);
        connection.decoder.set_size(size);
        let key = self.connections.insert(connection);
        self.decode(key);
    }

    fn resize(&mut self, volume: u32, size: u64, done: SyncSender<Result<(), VolumeError>>) {
        let Some(hosted) = self.volumes.get_mut(volume as usize).and_then(Option::as_deref_mut) else {
            let _ = done.try_send(Err(VolumeError::NotFound));
            return;
        };
        let old = hosted.volume.size();
        if size < old {
            let rule = format!("a volume cannot shrink: it has {old} bytes, asked for {size}");
            let _ = done.try_send(Err(VolumeError::Invalid(rule)));
            return;
        }
        let mut context = Context { pages: &mut self.pages, now: self.moment, out: &mut hosted.outputs };
        let version = hosted.volume.resize(size, &mut context);
        hosted.awaited.push(Awaited { version, done });
        self.touch(volume);
        // Clients that look again may use it; those that do not go on with what they know.
        for key in self.connections.keys() {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.volume == volume
            {
                connection.decoder.set_size(size);
            }
        }
    }

    fn change_own(&mut self, volume: u32, change: OwnChange, done: SyncSender<Result<(), VolumeError>>) {
        let Some(hosted) = self.volumes.get_mut(volume as usize).and_then(Option::as_deref_mut) else {
            let _ = done.try_send(Err(VolumeError::NotFound));
            return;
        };
        if let Some(reason) = hosted.volume.halted() {
            let _ = done.try_send(Err(VolumeError::Halted(reason.to_owned())));
            return;
        }
        let mut context = Context { pages: &mut self.pages, now: self.moment, out: &mut hosted.outputs };
        let version = hosted.volume.change_own(change, &mut context);
        hosted.awaited.push(Awaited { version, done });
        if self.trim_pages() {
            self.next_tick.get_or_insert(self.now + self.options.tick);
        }
        // The end of the turn has synced what may be owed no longer.
        self.touch(volume);
    }

    /// Counts requests of all volumes, or one, from nothing.
    fn begin_anew(&mut self, only: Option<u32>) {
        for (index, hosted) in self.volumes.iter_mut().enumerate() {
            if let Some(hosted) = hosted
                && only.is_none_or(|only| only as usize == index)
            {
                hosted.counting.begin_anew();
            }
        }
    }

    pub(super) fn touch(&mut self, volume: u32) {
        if let Some(hosted) = self.hosted(volume)
            && !hosted.touched
        {
            hosted.touched = true;
            self.touched.push(volume);
        }
    }

    fn remove(&mut self, volume: u32, done: SyncSender<Removed>) {
        let Some(hosted) = self.hosted(volume) else {
            let _ = done.try_send(Removed { segments: Vec::new() });
            return;
        };
        hosted.leaving = Some(Leaving { done });
        // What the core wanted already is done first; then it is taken out.
        self.touch(volume);
    }

    /// Takes a leaving volume out when nothing of it is in flight any more.
    pub(super) fn try_leave(&mut self, volume: u32) {
        let Some(hosted) = self.hosted(volume) else { return };
        if hosted.leaving.is_none() || hosted.in_flight > 0 || hosted.touched {
            return;
        }
        let Some(hosted) = self.volumes[volume as usize].take() else { return };
        self.pending_bytes -= hosted.pending_bytes;
        self.memtable_bytes -= hosted.memtable_bytes;
        self.pages.set_limit(hosted.volume.id(), None);
        if let Some(leaving) = hosted.leaving {
            let segments = hosted.segments.into_iter().collect();
            let _ = leaving.done.try_send(Removed { segments });
        }
    }

    fn describe(&self, only: Option<u32>) -> ThreadReport {
        self.stages.flush();
        let (page_hits, page_misses) = self.pages.hits_and_misses();
        let all = self.volumes.iter().enumerate().filter_map(|(index, hosted)| {
            let hosted = hosted.as_ref()?;
            (only.is_none_or(|only| only as usize == index)).then(|| VolumeReport {
                volume: index as u32,
                size: hosted.volume.size(),
                stored_bytes: hosted.volume.stored_bytes(),
                counters: hosted.volume.counters(),
                own: hosted.volume.own(),
                performance: hosted.counting.since(),
                totals: hosted.counting.totals(),
                memtable_bytes: hosted.memtable_bytes,
                map_pages: self.pages.pages_of(hosted.volume.id()),
                halted: hosted.volume.halted().map(str::to_owned),
            })
        });
        ThreadReport { volumes: all.collect(), page_hits, page_misses, page_bytes: self.pages.bytes() }
    }

    /// Freezes the largest memtable while all together take too much.
    pub(super) fn keep_memory_bounded(&mut self) {
        if self.memtable_bytes <= self.options.memtable_bytes {
            return;
        }
        let largest = self.volumes.iter().enumerate().filter_map(|(index, hosted)| {
            let hosted = hosted.as_ref().filter(|hosted| hosted.leaving.is_none())?;
            Some((hosted.memtable_bytes, index))
        });
        let Some((_, index)) = largest.max() else { return };
        let Some(hosted) = self.volumes[index].as_deref_mut() else { return };
        let mut context = Context { pages: &mut self.pages, now: self.moment, out: &mut hosted.outputs };
        // Its log is synced at the end of the turn.
        if hosted.volume.freeze(&mut context) {
            self.touch(index as u32);
        }
    }

    /// How long the next wait may last: forever when nothing needs the time.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let deadline = self.ending.as_ref().map(|ending| ending.deadline);
        let next = [self.next_tick, self.next_send_check, deadline].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn tick_soon(&mut self) {
        self.next_tick.get_or_insert(self.now);
    }

    /// Does what is due.
    pub(super) fn timers(&mut self) {
        if self.next_tick.is_some_and(|at| at <= self.now) {
            self.send_unsent();
            self.tick();
        }
        match self.next_send_check {
            None if self.sends > 0 => self.next_send_check = Some(self.now + self.options.send_timeout / 4),
            Some(at) if at <= self.now => self.check_sends(),
            _ => {}
        }
    }

    /// Tells the pool's level to all volumes, and again later while one of them waits for time or space.
    fn tick(&mut self) {
        let space = self.surroundings.levels.view();
        let mut again = !self.unsent.is_empty();
        again |= self.trim_pages();
        for volume in 0..self.volumes.len() as u32 {
            self.deliver(volume, Event::Tick { space });
            again |= self.hosted(volume).is_some_and(|hosted| hosted.volume.wants_ticks());
        }
        self.next_tick = again.then(|| self.now + self.options.tick);
    }

    /// Ends connections whose clients did not take their replies in time.
    fn check_sends(&mut self) {
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Some(sending) = &connection.sending else { continue };
            if self.now.saturating_duration_since(sending.since) >= self.options.send_timeout {
                tracing::warn!(peer = connection.peer, "NBD connection closed: its replies were not taken");
                self.end_connection(key, Phase::Broken);
            }
        }
        self.next_send_check = (self.sends > 0).then(|| self.now + self.options.send_timeout / 4);
    }

    fn shut_down(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { deadline: self.now + self.options.shutdown_timeout, flushes: None });
        for key in self.connections.keys() {
            self.end_connection(key, Phase::Draining);
        }
    }

    /// Takes the next step of a shutdown, if its time has come.
    pub(super) fn advance_ending(&mut self) {
        let Some(ending) = &self.ending else { return };
        let late = ending.deadline <= self.now;
        match ending.flushes {
            None if self.connections.is_empty() || late => self.final_flushes(),
            Some(left) if left > 0 && late => {
                tracing::error!(left, "volumes could not be flushed in time; start recovers them");
                self.set_flushes(0);
            }
            _ => {}
        }
    }

    fn final_flushes(&mut self) {
        let mut flushes = 0;
        for volume in 0..self.volumes.len() as u32 {
            if self.hosted(volume).is_some_and(|hosted| hosted.leaving.is_none()) {
                flushes += 1;
                let request = self.requests.insert(Request::Final { volume });
                let request = RequestId(request.0);
                self.deliver(volume, Event::Flush { request, by: FlushedBy::Shutdown });
            }
        }
        // Clients used up the first wait; the flushes get one of their own.
        self.ending =
            Some(Ending { deadline: self.now + self.options.shutdown_timeout, flushes: Some(flushes) });
    }

    fn set_flushes(&mut self, left: usize) {
        if let Some(ending) = &mut self.ending {
            ending.flushes = Some(left);
        }
    }

    pub(super) fn final_flush_done(&mut self, volume: u32, error: Option<RequestError>) {
        if let Some(error) = error
            && let Some(hosted) = self.hosted(volume)
        {
            tracing::error!(volume = hosted.volume.name(), %error, "the last flush failed");
        }
        if let Some(left) = self.ending.as_ref().and_then(|ending| ending.flushes) {
            self.set_flushes(left.saturating_sub(1));
        }
    }

    /// Whether the shutdown is complete.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.flushes == Some(0))
    }
}
