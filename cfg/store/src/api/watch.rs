//! What changes. A stream holds any number of watchers; each is a revision up to which it has been told. A bell only
//! says that there is something: a watcher then reads the history from there on, so one that is slow loses nothing, and
//! costs no more than the others.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cfg_api::etcdserverpb as pb;
use cfg_api::mvccpb;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use pb::watch_server::Watch;
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{Api, untaken};
use crate::interest::Interest;
use crate::machine::convert;
use crate::mvcc::{Event, EventKind, KeyRange, Revision};

/// Whose answers concern a whole stream.
const WHOLE_STREAM: i64 = -1;
/// Revisions that one answer covers at most.
const REVISIONS: usize = 1000;
/// How often a stream that needs a leader looks for one.
const LEADER_CHECK: Duration = Duration::from_millis(500);

pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

/// One watcher.
struct Watcher {
    /// In its keys.
    interest: Interest,
    /// The first revision that it was not told of.
    next: Revision,
    /// It has to read from there. Else it was told everything, but for what its interest knows.
    behind: bool,
    prev_kv: bool,
    puts: bool,
    deletes: bool,
    progress: bool,
    fragment: bool,
    /// It was told something since the last progress.
    told: bool,
}

/// All watchers of one stream.
struct Session {
    api: Api,
    watchers: BTreeMap<i64, Watcher>,
    /// Ids of watchers that a compaction ended: their client may not know yet, so nobody else gets them.
    retired: BTreeSet<i64>,
    next_id: i64,
    /// Rung when one of the watchers has to be told something.
    bell: Arc<Notify>,
    answers: mpsc::Sender<Result<pb::WatchResponse, Status>>,
}

/// The client has gone.
struct Gone;

impl Api {
    pub(super) fn watch_stream(
        &self,
        requests: impl Stream<Item = Result<pb::WatchRequest, Status>> + Send + Unpin + 'static,
        needs_leader: bool,
    ) -> Answers {
        let (answers, receiver) = mpsc::channel(self.options.watch_queue);
        let session = Session {
            api: self.clone(),
            watchers: BTreeMap::new(),
            retired: BTreeSet::new(),
            next_id: 0,
            bell: Arc::default(),
            answers,
        };
        tokio::spawn(async move {
            self::run(session, requests, needs_leader).await;
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

/// Serves one stream until its client goes.
async fn run(
    mut session: Session,
    mut requests: impl Stream<Item = Result<pb::WatchRequest, Status>> + Send + Unpin,
    needs_leader: bool,
) {
    let _counted = session.api.metrics.stream();
    let bell = session.bell.clone();
    let period = session.api.options.progress_interval;
    let mut progress = interval_at(Instant::now() + period, period);
    let mut check = interval_at(Instant::now() + LEADER_CHECK, LEADER_CHECK);
    loop {
        let served = tokio::select! {
            request = requests.next() => match request {
                Some(Ok(request)) => session.request(request).await,
                Some(Err(_)) | None => return,
            },
            () = bell.notified() => session.tell_waiting().await,
            _ = progress.tick() => session.progress().await,
            _ = check.tick(), if needs_leader => match session.api.node.leader() {
                Some(_) => Ok(()),
                None => {
                    let _ = session.answers.send(Err(super::no_leader().into())).await;
                    return;
                }
            },
            () = session.answers.closed() => return,
        };
        if served.is_err() {
            return;
        }
    }
}

impl Session {
    async fn send(&self, answer: pb::WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(answer)).await.map_err(|_| Gone)
    }

    /// An answer without events.
    fn answer(&self, id: i64) -> pb::WatchResponse {
        pb::WatchResponse { header: self.api.header(), watch_id: id, ..Default::default() }
    }

    async fn request(&mut self, request: pb::WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.watchers.remove(&cancel.watch_id).is_none() {
                    return Ok(());
                }
                let answer = self.answer(cancel.watch_id);
                self.send(pb::WatchResponse { canceled: true, ..answer }).await
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                // True only when all watchers were told everything up to the revision that it names.
                let revision = self.tell_all_now().await?;
                let mut answer = self.answer(WHOLE_STREAM);
                if let Some(header) = &mut answer.header {
                    header.revision = revision;
                }
                self.send(answer).await
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Result<(), Gone> {
        let now = self.api.node.read(|machine| machine.store.revision());
        let keys = watched(create.key, create.range_end);
        let refused = if keys.is_empty() {
            Some("mvcc: watcher range is empty".to_string())
        } else if create.watch_id != 0 && self.is_taken(create.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream".to_string())
        } else if self.watchers.len() + self.retired.len() >= self.api.options.watchers {
            Some(format!("a stream has at most {} watchers; open another one", self.api.options.watchers))
        } else {
            None
        };
        if let Some(cancel_reason) = refused {
            let answer = self.answer(WHOLE_STREAM);
            let answer = pb::WatchResponse { created: true, canceled: true, cancel_reason, ..answer };
            return self.send(answer).await;
        }
        let id = if create.watch_id == 0 { self.free_id() } else { create.watch_id };
        let mut answer = self.answer(id);
        if let Some(header) = &mut answer.header {
            header.revision = now;
        }
        self.send(pb::WatchResponse { created: true, ..answer }).await?;
        let watcher = Watcher {
            interest: self.api.node.replica.interests.register(keys, self.bell.clone()),
            // As with etcd a negative one is before all that there was.
            next: if create.start_revision == 0 { now + 1 } else { create.start_revision },
            behind: true,
            prev_kv: create.prev_kv,
            puts: !create.filters.contains(&FilterType::Noput.into()),
            deletes: !create.filters.contains(&FilterType::Nodelete.into()),
            progress: create.progress_notify,
            fragment: create.fragment,
            told: false,
        };
        self.watchers.insert(id, watcher);
        self.tell(id).await.map(|_| ())
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.retired.contains(&id)
    }

    fn free_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    async fn tell_all(&mut self) -> Result<(), Gone> {
        let ids: Vec<i64> = self.watchers.keys().copied().collect();
        for id in ids {
            self.tell(id).await?;
        }
        Ok(())
    }

    /// Tells those who have something to be told.
    async fn tell_waiting(&mut self) -> Result<(), Gone> {
        let waiting = |(&id, watcher): (&i64, &Watcher)| watcher.interest.is_waiting().then_some(id);
        let ids: Vec<i64> = self.watchers.iter().filter_map(waiting).collect();
        for id in ids {
            self.tell(id).await?;
        }
        Ok(())
    }

    /// Tells all watchers everything there is at one moment; gives the revision of that moment.
    async fn tell_all_now(&mut self) -> Result<Revision, Gone> {
        let revision = self.api.node.read(|machine| machine.store.revision());
        self.tell_all().await?;
        Ok(revision)
    }

    /// Tells one watcher what it was not told.
    async fn tell(&mut self, id: i64) -> Result<(), Gone> {
        loop {
            let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(()) };
            let part =
                self.api.node.read(|machine| watcher.read(&machine.store, self.api.options.watch_bytes));
            let part = match part {
                Ok(part) => part,
                Err(compacted) => {
                    self.watchers.remove(&id);
                    self.retired.insert(id);
                    let mut answer = self.answer(id);
                    if let Some(header) = &mut answer.header {
                        header.revision = 0;
                    }
                    let answer = pb::WatchResponse { canceled: true, compact_revision: compacted, ..answer };
                    return self.send(answer).await;
                }
            };
            if part.events.is_empty() && part.whole {
                return Ok(());
            }
            let fragment = watcher.fragment;
            watcher.told |= !part.events.is_empty();
            let (whole, until) = (part.whole, part.seen);
            for answer in self.answers_of(id, part.events, until, fragment) {
                self.send(answer).await?;
            }
            if whole {
                return Ok(());
            }
        }
    }

    /// One answer, or several when the client can put pieces together and they would be too large for it.
    fn answers_of(
        &self,
        id: i64,
        events: Vec<mvccpb::Event>,
        revision: Revision,
        fragment: bool,
    ) -> Vec<pb::WatchResponse> {
        if events.is_empty() {
            return Vec::new();
        }
        let mut answer = self.answer(id);
        if let Some(header) = &mut answer.header {
            header.revision = revision;
        }
        let limit = self.api.options.request_bytes;
        let size = |event: &mvccpb::Event| event.encoded_len();
        if !fragment || events.iter().map(size).sum::<usize>() < limit {
            return vec![pb::WatchResponse { events, ..answer }];
        }
        let mut pieces = vec![Vec::new()];
        let mut bytes = 0;
        for event in events {
            let length = size(&event);
            if bytes + length >= limit && bytes > 0 {
                pieces.push(Vec::new());
                bytes = 0;
            }
            bytes += length;
            if let Some(piece) = pieces.last_mut() {
                piece.push(event);
            }
        }
        let last = pieces.len() - 1;
        let piece = |(place, events)| pb::WatchResponse { events, fragment: place < last, ..answer.clone() };
        pieces.into_iter().enumerate().map(piece).collect()
    }

    /// Tells those who want it how far they are while nothing happens.
    async fn progress(&mut self) -> Result<(), Gone> {
        let revision = self.tell_all_now().await?;
        let quiet: Vec<i64> = self
            .watchers
            .iter_mut()
            .filter_map(|(&id, watcher)| {
                let told = std::mem::take(&mut watcher.told);
                (watcher.progress && !told && watcher.next > revision).then_some(id)
            })
            .collect();
        for id in quiet {
            let mut answer = self.answer(id);
            if let Some(header) = &mut answer.header {
                header.revision = revision;
            }
            self.send(answer).await?;
        }
        Ok(())
    }
}

/// What of the history goes into one answer.
struct Part {
    events: Vec<mvccpb::Event>,
    /// The revision of the store when it was read.
    seen: Revision,
    /// There is no more.
    whole: bool,
}

impl Watcher {
    /// Takes the next events: whole revisions, up to about `bytes`. The error is the revision of the last compaction,
    /// if it took what is wanted.
    fn read(&mut self, store: &crate::mvcc::Store, bytes: usize) -> Result<Part, Revision> {
        let now = store.revision();
        match self.interest.take() {
            _ if self.behind => {}
            Some(first) => self.next = self.next.max(first),
            None => self.next = self.next.max(now + 1),
        }
        if self.next > now {
            self.behind = false;
            return Ok(Part { events: Vec::new(), seen: now, whole: true });
        }
        let keys = self.interest.keys();
        let history = store.events(self.next, keys, self.prev_kv).map_err(|_| store.compacted())?;
        let (mut events, mut size, mut until, mut revisions) = (Vec::new(), 0, now, 0);
        let mut whole = true;
        for (revision, changes) in history {
            if size >= bytes || revisions == REVISIONS {
                whole = false;
                break;
            }
            for change in changes.into_iter().filter(|change| self.wants(change)) {
                let event = convert::event(change);
                size += event.encoded_len();
                events.push(event);
            }
            revisions += 1;
            until = revision;
        }
        (self.next, self.behind) = (if whole { now } else { until } + 1, !whole);
        Ok(Part { events, seen: now, whole })
    }

    fn wants(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => self.puts,
            EventKind::Delete => self.deletes,
        }
    }
}

/// The keys that a watcher means: without a key all of them.
fn watched(key: Bytes, end: Bytes) -> KeyRange {
    let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key };
    KeyRange { key, end }
}

#[tonic::async_trait]
impl Watch for Api {
    type WatchStream = Answers;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let needs_leader = self.check_leader(&request)?;
        let room = untaken::room_of(&request);
        Ok(untaken::events(room, self.watch_stream(request.into_inner(), needs_leader)))
    }
}
