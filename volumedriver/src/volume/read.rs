//! Reads and block status: look-ups that may wait for pages, then reads of the log, every byte checked.

use std::collections::HashMap;

use bytes::Bytes;

use super::address::{CLUSTER_SIZE, ClusterAddress, Location, RunId};
use super::event::{Answer, ExtentKind, Failure, Output, ReadId, Report, RequestError, RequestId};
use super::map::{Extent, Missing};
use super::run::check_page;
use super::{Context, Volume, fail};

/// Zeros to answer with.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Which end of a read-modify-write a cluster is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Head,
    Tail,
}

/// Who gets what a look-up brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupOwner {
    Client(RequestId),
    Rmw(u64, Side),
}

/// Who goes on when a page arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageWaiter {
    Lookup(u64),
    Compaction,
}

/// A request on its way through the map.
#[derive(Debug)]
struct Lookup {
    owner: LookupOwner,
    next: ClusterAddress,
    end: ClusterAddress,
    kind: Kind,
    failed: Option<RequestError>,
}

#[derive(Debug)]
enum Kind {
    Read(Read),
    Status(Status),
}

/// Bytes of a read; `parts` are in order.
#[derive(Debug)]
struct Read {
    /// Bytes of the first part in front of the range, bytes of the last behind it.
    cut: (usize, usize),
    parts: Vec<Part>,
    outstanding: u32,
}

#[derive(Debug)]
enum Part {
    Ready(Bytes),
    Pieces(Vec<Bytes>),
    Zeros(u64),
    Waiting,
}

#[derive(Debug)]
struct Status {
    offset: u64,
    end: u64,
    extents: Vec<(u64, ExtentKind)>,
    extents_max: usize,
    lookups: usize,
}

/// A read of the log in flight.
#[derive(Debug)]
struct DataRead {
    lookup: u64,
    part: usize,
    address: ClusterAddress,
    places: Vec<(Location, u32)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reads {
    lookups: HashMap<u64, Lookup>,
    data: HashMap<u64, DataRead>,
    pages: HashMap<Missing, Vec<PageWaiter>>,
    next: u64,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.lookups.is_empty() && self.data.is_empty() && self.pages.is_empty()
    }

    pub(super) fn take_read_id(&mut self) -> ReadId {
        self.next += 1;
        ReadId(self.next)
    }

    pub(super) fn waits_for_run(&self, run: RunId) -> bool {
        self.pages.keys().any(|page| page.run == run)
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        std::mem::take(&mut self.lookups).into_values().filter_map(|lookup| match lookup.owner {
            LookupOwner::Client(request) => Some(request),
            LookupOwner::Rmw(..) => None,
        })
    }
}

impl Volume {
    /// A client's read.
    pub(super) fn read(&mut self, request: RequestId, offset: u64, length: u32, cx: &mut Context<'_>) {
        self.counters.reads += 1;
        self.counters.read_bytes += u64::from(length);
        if length == 0 {
            cx.out.push(Output::Reply { request, result: Ok(Answer::Data(Vec::new())) });
            return;
        }
        self.start_read(LookupOwner::Client(request), offset, u64::from(length), cx);
    }

    /// Reads one whole cluster for a read-modify-write.
    pub(super) fn read_cluster(&mut self, owner: LookupOwner, address: ClusterAddress, cx: &mut Context<'_>) {
        self.start_read(owner, address.offset(), CLUSTER_SIZE as u64, cx);
    }

    fn start_read(&mut self, owner: LookupOwner, offset: u64, length: u64, cx: &mut Context<'_>) {
        let next = ClusterAddress::containing(offset);
        let end = ClusterAddress::at_or_after(offset + length);
        let cut = ((offset - next.offset()) as usize, (end.offset() - offset - length) as usize);
        let kind = Kind::Read(Read { cut, parts: Vec::new(), outstanding: 0 });
        self.start_lookup(Lookup { owner, next, end, kind, failed: None }, cx);
    }

    /// A client's question what is allocated.
    pub(super) fn status(
        &mut self,
        request: RequestId,
        offset: u64,
        length: u64,
        extents_max: usize,
        cx: &mut Context<'_>,
    ) {
        let (next, end) = (ClusterAddress::containing(offset), ClusterAddress::at_or_after(offset + length));
        let status = Status {
            offset,
            end: offset + length,
            extents: Vec::new(),
            extents_max: extents_max.max(1),
            lookups: 0,
        };
        let owner = LookupOwner::Client(request);
        self.start_lookup(Lookup { owner, next, end, kind: Kind::Status(status), failed: None }, cx);
    }

    fn start_lookup(&mut self, lookup: Lookup, cx: &mut Context<'_>) {
        self.reads.next += 1;
        let id = self.reads.next;
        self.go_on(id, lookup, cx);
    }

    /// Goes on with a look-up until it ends or waits.
    fn go_on(&mut self, id: u64, mut lookup: Lookup, cx: &mut Context<'_>) {
        let mut places = Vec::new();
        while lookup.next < lookup.end && lookup.failed.is_none() {
            places.clear();
            match self.map.find(lookup.next, lookup.end, cx.pages, &mut places) {
                Err(missing) => {
                    self.want_page(missing, PageWaiter::Lookup(id), cx);
                    self.reads.lookups.insert(id, lookup);
                    return;
                }
                Ok(extent) => match &mut lookup.kind {
                    Kind::Status(status) => {
                        let room = note_status(status, &mut lookup.next, extent, places.len());
                        if !room || status.lookups >= self.settings.status_lookups {
                            lookup.end = lookup.next;
                        }
                    }
                    Kind::Read(read) => match extent {
                        Extent::Empty { end, .. } => {
                            read.parts.push(Part::Zeros((end.0 - lookup.next.0) * CLUSTER_SIZE as u64));
                            lookup.next = end;
                        }
                        Extent::Data => {
                            lookup.failed = self.take_places(id, lookup.next, &places, read, cx).err();
                            lookup.next = lookup.next.plus(places.len() as u64);
                        }
                    },
                },
            }
        }
        self.finish_lookup(id, lookup, cx);
    }

    /// Turns places into parts: from memory what is not written yet, the rest by as few reads as possible.
    fn take_places(
        &mut self,
        lookup: u64,
        address: ClusterAddress,
        places: &[(Location, u32)],
        read: &mut Read,
        cx: &mut Context<'_>,
    ) -> Result<(), RequestError> {
        let blocks_max = (self.settings.read_bytes as usize / CLUSTER_SIZE).max(1);
        let mut at = 0;
        while at < places.len() {
            let (location, _) = places[at];
            if let Some(data) = self.log.unwritten(location) {
                read.parts.push(Part::Ready(data));
                at += 1;
                continue;
            }
            let mut end = at + 1;
            while end < places.len() && joins(places[end - 1].0, places[end].0) && {
                let blocks = usize::from(places[end].0.block() - location.block()) + 1;
                blocks <= blocks_max && self.log.unwritten(places[end].0).is_none()
            } {
                end += 1;
            }
            let Some(sco) = self.scos.get_mut(location.sco()) else {
                // Invariant 7: the map never refers to an SCO that is gone.
                let reason = format!("the map refers to SCO {}, which is gone", location.sco());
                self.halt(reason, cx);
                return Err(RequestError::Halted);
            };
            sco.pins += 1;
            let segment = sco.segment;
            let id = self.reads.take_read_id();
            let blocks = u32::from(places[end - 1].0.block() - location.block()) + 1;
            let part = read.parts.len();
            read.parts.push(Part::Waiting);
            read.outstanding += 1;
            let address = address.plus(at as u64);
            self.reads
                .data
                .insert(id.0, DataRead { lookup, part, address, places: places[at..end].to_vec() });
            let offset = u64::from(location.block()) * CLUSTER_SIZE as u64;
            let length = blocks * CLUSTER_SIZE as u32;
            cx.out.push(Output::ReadData { read: id, segment, offset, length });
            at = end;
        }
        Ok(())
    }

    /// Data of the log arrived.
    pub(super) fn data_read(&mut self, read: ReadId, result: Result<Bytes, Failure>, cx: &mut Context<'_>) {
        if self.compaction.is_reading(read) {
            return self.chunk_read(result, cx);
        }
        let Some(data) = self.reads.data.remove(&read.0) else { return };
        if let Some(sco) = data.places.first().and_then(|(location, _)| self.scos.get_mut(location.sco())) {
            sco.pins -= 1;
            if sco.pins == 0 && sco.references == 0 {
                self.free_scos();
            }
        }
        let checked = match result {
            Ok(bytes) => self.check_clusters(&data, &bytes, cx),
            Err(_) => Err(RequestError::Io),
        };
        let Some(mut lookup) = self.reads.lookups.remove(&data.lookup) else { return };
        if let Kind::Read(read) = &mut lookup.kind {
            read.outstanding -= 1;
            match checked {
                Ok(pieces) => read.parts[data.part] = Part::Pieces(pieces),
                Err(error) => lookup.failed = Some(error),
            }
        }
        let waits_for_page = lookup.next < lookup.end && lookup.failed.is_none();
        if waits_for_page {
            self.reads.lookups.insert(data.lookup, lookup);
        } else {
            self.finish_lookup(data.lookup, lookup, cx);
        }
    }

    /// Checks every cluster of a read; gives their bytes, neighbours joined.
    fn check_clusters(
        &mut self,
        read: &DataRead,
        bytes: &Bytes,
        cx: &mut Context<'_>,
    ) -> Result<Vec<Bytes>, RequestError> {
        let base = read.places[0].0.block();
        let mut pieces = Vec::with_capacity(1);
        let (mut start, mut end) = (0, 0);
        for (index, &(location, crc)) in read.places.iter().enumerate() {
            let at = usize::from(location.block() - base) * CLUSTER_SIZE;
            if crc32fast::hash(&bytes[at..at + CLUSTER_SIZE]) != crc {
                self.counters.damaged_clusters += 1;
                let offset = read.address.plus(index as u64).offset();
                cx.out.push(Output::Report(Report::DamagedCluster { location, offset }));
                return Err(RequestError::Corrupt);
            }
            if at != end {
                pieces.push(bytes.slice(start..end));
                start = at;
            }
            end = at + CLUSTER_SIZE;
        }
        pieces.push(bytes.slice(start..end));
        Ok(pieces)
    }

    /// Ends a look-up that waits for nothing more.
    fn finish_lookup(&mut self, id: u64, lookup: Lookup, cx: &mut Context<'_>) {
        if let Kind::Read(read) = &lookup.kind
            && read.outstanding > 0
        {
            self.reads.lookups.insert(id, lookup);
            return;
        }
        match lookup.owner {
            LookupOwner::Rmw(rmw, side) => {
                let result = match (lookup.failed, lookup.kind) {
                    (None, Kind::Read(read)) => Ok(one_cluster(gather(read))),
                    (error, _) => Err(error.unwrap_or(RequestError::Io)),
                };
                self.rmw_read(rmw, side, result, cx);
            }
            LookupOwner::Client(request) => match (lookup.failed, lookup.kind) {
                (Some(error), _) => fail(request, error, cx),
                (None, Kind::Read(read)) => {
                    cx.out.push(Output::Reply { request, result: Ok(Answer::Data(gather(read))) });
                }
                (None, Kind::Status(status)) => {
                    cx.out.push(Output::Reply { request, result: Ok(Answer::Extents(status.extents)) });
                }
            },
        }
    }

    /// Asks for a page once, whoever wants it.
    pub(super) fn want_page(&mut self, missing: Missing, waiter: PageWaiter, cx: &mut Context<'_>) {
        let waiters = self.reads.pages.entry(missing).or_default();
        if waiters.is_empty() {
            cx.out.push(Output::ReadPage { run: missing.run, page: missing.page });
        }
        if !waiters.contains(&waiter) {
            waiters.push(waiter);
        }
    }

    /// A page arrived: who waited looks again, from where it stood.
    pub(super) fn page_read(
        &mut self,
        run: RunId,
        page: u32,
        result: Result<Bytes, Failure>,
        cx: &mut Context<'_>,
    ) {
        let missing = Missing { run, page };
        let waiters = self.reads.pages.remove(&missing).unwrap_or_default();
        let info = self.map.levels().iter().flatten().find(|info| info.id == run);
        let checked = match (result, info) {
            (Ok(bytes), Some(info)) => check_page(&bytes, self.id, info, page).map(|()| bytes),
            // The run was merged away meanwhile: a new look-up will not ask for it again.
            (Ok(_), None) => Ok(Bytes::new()),
            (Err(failure), _) => Err(failure),
        };
        let error = match checked {
            Ok(bytes) => {
                if !bytes.is_empty() {
                    cx.pages.insert(self.id, run, page, bytes);
                }
                None
            }
            Err(failure) => {
                let reason = format!("page {page} of run {:016x}: {failure}", run.0);
                cx.out.push(Output::Report(Report::JobFailed { what: "map", reason }));
                Some(if matches!(failure, Failure::Corrupt(_)) {
                    RequestError::Corrupt
                } else {
                    RequestError::Io
                })
            }
        };
        for waiter in waiters {
            match waiter {
                PageWaiter::Compaction if error.is_none() => self.compaction.page_arrived(missing),
                PageWaiter::Compaction => self.map_unreadable(missing, cx),
                PageWaiter::Lookup(id) => {
                    if let Some(mut lookup) = self.reads.lookups.remove(&id) {
                        lookup.failed = lookup.failed.or(error);
                        self.go_on(id, lookup, cx);
                    }
                }
            }
        }
        self.remove_runs(cx);
    }
}

/// True if `next` can be read together with `previous`: the block behind it, or the one behind a header between them.
fn joins(previous: Location, next: Location) -> bool {
    let gap = next.block().checked_sub(previous.block());
    next.sco() == previous.sco() && matches!(gap, Some(1 | 2))
}

/// Adds what a look-up found; `false` once no further extent may be added.
fn note_status(status: &mut Status, next: &mut ClusterAddress, extent: Extent, clusters: usize) -> bool {
    status.lookups += 1;
    let (end, kind) = match extent {
        Extent::Data => (next.plus(clusters as u64), ExtentKind::Data),
        Extent::Empty { kind, end } => (end, ExtentKind::Empty(kind)),
    };
    let from = next.offset().max(status.offset);
    let length = end.offset().min(status.end) - from;
    let full = status.extents.len() == status.extents_max;
    match status.extents.last_mut() {
        Some((last, same)) if *same == kind => *last += length,
        _ if full => return false,
        _ => status.extents.push((length, kind)),
    }
    *next = end;
    true
}

/// The bytes of a finished read, cut to what was asked for.
fn gather(read: Read) -> Vec<Bytes> {
    let mut bytes = Vec::with_capacity(read.parts.len());
    for part in read.parts {
        match part {
            Part::Ready(data) => bytes.push(data),
            Part::Pieces(pieces) => bytes.extend(pieces),
            Part::Zeros(mut length) => {
                while length > 0 {
                    let some = length.min(ZEROS.len() as u64);
                    bytes.push(Bytes::from_static(&ZEROS[..some as usize]));
                    length -= some;
                }
            }
            Part::Waiting => unreachable!("a finished read waits for nothing"),
        }
    }
    let (front, back) = read.cut;
    if let Some(first) = bytes.first_mut() {
        *first = first.slice(front..);
    }
    if let Some(last) = bytes.last_mut() {
        last.truncate(last.len() - back);
    }
    bytes
}

fn one_cluster(parts: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => parts.concat().into(),
    }
}
