//! The stream of a program's watchers.

use std::collections::BTreeMap;

use bytes::Bytes;
use cfg_api::etcdserverpb::watch_client::WatchClient;
use cfg_api::etcdserverpb::watch_request::RequestUnion;
use cfg_api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use cfg_api::mvccpb::Event;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::answer::{Answer, Clean};
use super::known::is_overlooked;
use super::session::{ANSWER, ANSWER_SIZE};

/// Requests that may wait on the stream; there is never more than one.
const REQUESTS: usize = 4;
/// The number under which the server speaks of the stream as a whole.
const STREAM: i64 = -1;

/// A watcher and what it saw.
#[derive(Debug)]
pub struct Watcher {
    request: WatchCreateRequest,
    id: i64,
    /// Last compaction before it came.
    compacted: i64,
    /// Revision that it has yet to see; 0: none.
    due: i64,
    /// Revision of its last event.
    reached: i64,
    /// Its last answer has not told all of its revision.
    in_fragments: bool,
    /// Some answer came in pieces.
    pub fragmented: bool,
    /// All events in order, those aside that count on no side.
    pub events: Vec<Event>,
    /// A revision came in two answers that were not declared as fragments.
    pub torn: bool,
    /// How it ended, if it did.
    pub end: Option<WatchResponse>,
}

impl Watcher {
    /// What is to be the same on both sides.
    pub fn same_as(&self, other: &Self) -> bool {
        (self.id, &self.events, self.torn, &self.end) == (other.id, &other.events, other.torn, &other.end)
    }

    /// Whether it begins in what is forgotten, so that all it will see is its end.
    fn is_hopeless(&self) -> bool {
        self.request.start_revision != 0 && self.request.start_revision < self.compacted
    }

    /// The key by which one finds out how far it is.
    fn key(&self) -> Bytes {
        // A watch on no key is one on the first.
        if self.request.key.is_empty() { Bytes::from_static(&[0]) } else { self.request.key.clone() }
    }

    fn covers(&self, key: &Bytes) -> bool {
        match &self.request.range_end[..] {
            [] => self.key() == key,
            [0] => self.key() <= key,
            end => self.key() <= key && &key[..] < end,
        }
    }

    /// Whether it sees writes, and deletions.
    fn sees(&self) -> (bool, bool) {
        (!self.request.filters.contains(&0), !self.request.filters.contains(&1))
    }

    fn is_behind(&self) -> bool {
        self.end.is_none() && (self.reached < self.due || self.is_hopeless())
    }

    fn take(&mut self, response: WatchResponse) {
        let first = response.events.first().and_then(|event| event.kv.as_ref());
        let goes_on = first.is_some_and(|kv| kv.mod_revision == self.reached);
        self.torn |= goes_on && !self.in_fragments;
        self.in_fragments = response.fragment;
        self.fragmented |= response.fragment;
        for event in response.events {
            self.reached = event.kv.as_ref().map_or(self.reached, |kv| kv.mod_revision);
            if !is_overlooked(&event, self.compacted) {
                self.events.push(event);
            }
        }
    }
}

/// All watchers of a program.
#[derive(Default)]
pub struct Watching {
    stream: Option<(Sender<WatchRequest>, Streaming<WatchResponse>)>,
    /// In the order in which they came.
    pub watchers: Vec<Watcher>,
}

impl Watching {
    /// Begins a watcher; `compacted` is the revision of the last compaction.
    pub async fn create(
        &mut self,
        server: &Channel,
        request: WatchCreateRequest,
        compacted: i64,
    ) -> Result<Answer, Answer> {
        self.send(server, RequestUnion::CreateRequest(request.clone())).await?;
        let answer = loop {
            let response = self.next().await?;
            if response.created {
                break response;
            }
        };
        if !answer.canceled {
            self.watchers.push(Watcher {
                request,
                id: answer.watch_id,
                compacted,
                due: 0,
                reached: 0,
                in_fragments: false,
                fragmented: false,
                events: Vec::new(),
                torn: false,
                end: None,
            });
        }
        Ok(Answer::Watch(answer))
    }

    /// Ends the watcher with this id. An id that there is not is sent too, and not answered; not so that of a watcher
    /// that a compaction ended, which can be either.
    pub async fn cancel(&mut self, id: i64) -> Result<Answer, Answer> {
        let is_compacted = |end: &WatchResponse| end.compact_revision != 0;
        let mut same = self.watchers.iter().rev().filter(|watcher| watcher.id == id);
        if same.next().and_then(|last| last.end.as_ref()).is_some_and(is_compacted) {
            return Ok(Answer::Nothing);
        }
        let request = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id });
        let is_there = self.live(id).is_some();
        self.send_if_open(request).await?;
        if !is_there {
            return Ok(Answer::Nothing);
        }
        loop {
            let response = self.next().await?;
            if response.canceled && response.watch_id == id {
                return Ok(Answer::Watch(response));
            }
        }
    }

    /// Asks how far the stream is, if it has watchers.
    pub async fn progress(&mut self) -> Result<Answer, Answer> {
        if self.watchers.iter().all(|watcher| watcher.end.is_some()) {
            return Ok(Answer::Nothing);
        }
        self.send_if_open(RequestUnion::ProgressRequest(WatchProgressRequest {})).await?;
        loop {
            let response = self.next().await?;
            if response.watch_id == STREAM && !response.created {
                return Ok(Answer::Watch(response));
            }
        }
    }

    /// Keys whose events tell how far the watchers are, and whether somebody sees only their deletion.
    pub fn keys(&self) -> BTreeMap<Bytes, bool> {
        let mut keys = BTreeMap::new();
        // Whether the end of one that begins in what is forgotten was read already is chance.
        let lasting = |watcher: &&Watcher| watcher.end.is_none() && !watcher.is_hopeless();
        for watcher in self.watchers.iter().filter(lasting) {
            *keys.entry(watcher.key()).or_default() |= watcher.sees() == (false, true);
        }
        keys
    }

    /// `key` was written at this revision, and perhaps deleted at that: who watches it is to see it.
    pub fn expect(&mut self, key: &Bytes, put: i64, deleted: Option<i64>) {
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.covers(key)) {
            let due = match (watcher.sees(), deleted) {
                ((_, true), Some(deleted)) => deleted,
                ((true, _), _) => put,
                ((false, _), _) => continue,
            };
            // One that begins later sees only the last of what is done here, or nothing.
            if watcher.request.start_revision <= due {
                watcher.due = due;
            }
        }
    }

    /// Returns when every watcher has seen what it is to see.
    pub async fn caught_up(&mut self) -> Result<(), Answer> {
        while self.watchers.iter().any(Watcher::is_behind) {
            if let Err(problem) = self.next().await {
                let behind = self.watchers.iter().filter(|watcher| watcher.is_behind());
                let behind: Vec<i64> = behind.map(|watcher| watcher.id).collect();
                return Err(Answer::Late(format!(
                    "watchers {behind:?} have not seen everything: {problem:?}"
                )));
            }
        }
        Ok(())
    }

    /// Ends the stream, and all watchers with it.
    pub fn close(&mut self) {
        self.stream = None;
    }

    fn live(&mut self, id: i64) -> Option<&mut Watcher> {
        self.watchers.iter_mut().find(|watcher| watcher.id == id && watcher.end.is_none())
    }

    async fn send_if_open(&mut self, request: RequestUnion) -> Result<(), Answer> {
        let Some((sender, _)) = &self.stream else { return Ok(()) };
        let sent = sender.send(WatchRequest { request_union: Some(request) }).await;
        sent.map_err(|_| Answer::Late("the stream is closed".into()))
    }

    /// The first request opens the stream, because etcd says nothing on one before.
    async fn send(&mut self, server: &Channel, request: RequestUnion) -> Result<(), Answer> {
        if self.stream.is_some() {
            return self.send_if_open(request).await;
        }
        let (sender, requests) = channel(REQUESTS);
        let first = WatchRequest { request_union: Some(request) };
        sender.send(first).await.map_err(|_| Answer::Late("the stream is closed".into()))?;
        let mut client = WatchClient::new(server.clone()).max_decoding_message_size(ANSWER_SIZE);
        match timeout(ANSWER, client.watch(ReceiverStream::new(requests))).await {
            Ok(Ok(responses)) => self.stream = Some((sender, responses.into_inner())),
            Ok(Err(status)) => return Err(Answer::Refused(status.code(), status.message().to_owned())),
            Err(_) => return Err(Answer::Late("no stream".into())),
        }
        Ok(())
    }

    /// Takes the next answer, notes what it says of a watcher, and returns it without its events.
    async fn next(&mut self) -> Result<WatchResponse, Answer> {
        let Some((_, responses)) = &mut self.stream else { return Err(Answer::Late("no stream".into())) };
        let mut response = match timeout(ANSWER, responses.message()).await {
            Ok(Ok(Some(response))) => response.clean(),
            Ok(Ok(None)) => return Err(Answer::Late("the stream ended".into())),
            Ok(Err(status)) => return Err(Answer::Refused(status.code(), status.message().to_owned())),
            Err(_) => return Err(Answer::Late("no answer".into())),
        };
        let bare = WatchResponse { events: Vec::new(), ..response.clone() };
        if response.created || response.watch_id == STREAM {
            return Ok(bare);
        }
        let Some(watcher) = self.live(response.watch_id) else {
            return Err(Answer::Late(format!("something for a watcher that is not there: {response:?}")));
        };
        if response.canceled {
            // At which revision it noticed is chance.
            let header = if response.compact_revision == 0 { bare.header } else { None };
            watcher.end = Some(WatchResponse { header, ..bare.clone() });
        }
        response.events.retain(|event| event.kv.is_some());
        watcher.take(response);
        Ok(bare)
    }
}
