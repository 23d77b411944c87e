//! Watches: what changes below one path or several, revision by revision. All paths of a watch share one stream.
//!
//! Invariant, for each path: everything before `next` was given to the consumer, nothing of `next` or later was. A new
//! stream, at whatever endpoint, begins at `next`; so nothing is missed and nothing is told twice.

use std::collections::VecDeque;

use bytes::Bytes;
use cfg_api::etcdserverpb as rpc;
use cfg_api::mvccpb;
use rpc::watch_client::WatchClient;
use rpc::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};

use crate::connection::{Connection, Failed, about_rights, failed};
use crate::listing::Content;
use crate::{Error, KeyPath, Listing, Pair, Store};

/// Requests of one stream that may wait beside those that create its watchers: one question for progress.
const QUESTIONS: usize = 1;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Everything as it is now: at the begin if no revision was given, and when revisions were missed because they are
    /// compacted away. What is not in it does not exist (any more).
    Listed(Listing),
    /// All changes of one revision.
    Changed {
        /// The revision.
        revision: i64,
        /// The changes below the path, in the order of the keys; at least one.
        events: Vec<Event>,
    },
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key has a new value.
    Put(Pair),
    /// The key is gone.
    Deleted(Bytes),
}

/// A watch of one path or several. It lives until it is dropped.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    watched: Vec<Watched>,
    stream: Option<Stream>,
    /// Items that are complete, with the places of their paths.
    ready: VecDeque<(usize, Item)>,
    /// Streams in a row that failed before they told anything.
    failures: usize,
}

/// One path of a watch.
#[derive(Debug)]
struct Watched {
    path: KeyPath,
    /// The first revision that was not told yet; `None`: a listing comes first.
    next: Option<i64>,
}

/// One stream at one endpoint.
#[derive(Debug)]
struct Stream {
    connection: Connection,
    requests: mpsc::Sender<rpc::WatchRequest>,
    answers: Streaming<rpc::WatchResponse>,
    /// When something was received last.
    heard: Instant,
    /// When progress was asked for, if that is not answered yet.
    asked: Option<Instant>,
    /// Ids of the watchers, in the order of the paths, as far as the store has created them. It chooses them: not every
    /// proxy keeps those that a client chose.
    ids: Vec<i64>,
    /// Of each path the events of a revision that may go on in the next fragment.
    partial: Vec<Vec<mvccpb::Event>>,
}

impl Store {
    /// Watches a path: all revisions from `from` on, or a listing and all that comes behind it.
    pub fn watch(&self, path: &KeyPath, from: Option<i64>) -> Watch {
        self.watch_all(std::slice::from_ref(path), from)
    }

    /// Watches several paths over one stream. Revisions of one path come in their order; one path may be ahead of
    /// another.
    pub fn watch_all(&self, paths: &[KeyPath], from: Option<i64>) -> Watch {
        Watch {
            store: self.clone(),
            watched: paths.iter().map(|path| Watched { path: path.clone(), next: from }).collect(),
            stream: None,
            ready: VecDeque::new(),
            failures: 0,
        }
    }
}

impl Watch {
    /// Waits for the next item. It can be dropped while it waits, and nothing is lost.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no endpoint gives a stream within the bounds of a call; [`Error::Denied`];
    /// [`Error::Refused`]. The next call tries again from where the watch is.
    pub async fn next(&mut self) -> Result<Item, Error> {
        self.next_of().await.map(|(_, item)| item)
    }

    /// As [`Watch::next`], with the place of the path among those that are watched.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_of(&mut self) -> Result<(usize, Item), Error> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            if let Some(place) = self.watched.iter().position(|watched| watched.next.is_none()) {
                let watched = &mut self.watched[place];
                let listing = self.store.list_path(&watched.path, Content::Values, None).await?;
                watched.next = Some(listing.revision + 1);
                return Ok((place, Item::Listed(listing)));
            }
            let failure = match &mut self.stream {
                None => match open(&self.store, &self.watched).await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        continue;
                    }
                    Err(failure) => failure,
                },
                Some(stream) => match stream.receive(&self.store).await {
                    Ok(answer) => match self.take(answer) {
                        Ok(()) => {
                            self.failures = 0;
                            continue;
                        }
                        Err(failure) => failure,
                    },
                    Err(failure) => failure,
                },
            };
            self.recover(failure).await?;
        }
    }

    /// Turns to the next endpoint, or ends the call.
    async fn recover(&mut self, failure: Failed) -> Result<(), Error> {
        if let Some(stream) = self.stream.take() {
            self.store.shared.connections.give_up(&stream.connection).await;
        }
        let place = self.store.shared.place.clone();
        let problem = match failure {
            Failed::Answered(error) => return Err(error),
            Failed::NotTrusted(problem) => return Err(Error::Denied { place, problem }),
            Failed::NotSent(problem) | Failed::Lost(problem) => problem,
        };
        tracing::debug!(problem, "a watch of the configuration store was interrupted");
        let (options, endpoints) = (&self.store.shared.options, self.store.shared.connections.len());
        self.failures += 1;
        if self.failures >= options.rounds.max(1) * endpoints {
            self.failures = 0;
            return Err(Error::Unreachable { place, problem });
        }
        if self.failures.is_multiple_of(endpoints) {
            sleep(options.backoff_before(self.failures / endpoints)).await;
        }
        Ok(())
    }

    /// Puts the complete revisions of an answer on the list.
    fn take(&mut self, answer: rpc::WatchResponse) -> Result<(), Failed> {
        self.store.check_cluster(&answer).map_err(Failed::Answered)?;
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if answer.created && !answer.canceled {
            // They are created in the order in which they were asked for.
            stream.ids.push(answer.watch_id);
        }
        let place = stream.ids.iter().position(|id| *id == answer.watch_id);
        let place = place.filter(|place| *place < self.watched.len());
        if answer.canceled {
            if let Some(place) = place
                && answer.compact_revision > 0
            {
                // The others go on where they are, with a new stream.
                (self.stream, self.watched[place].next) = (None, None);
                return Ok(());
            }
            let problem = answer.cancel_reason;
            let place = self.store.shared.place.clone();
            return Err(if about_rights(&problem) {
                Failed::Answered(Error::Denied { place, problem })
            } else {
                Failed::Lost(format!("the watch was cancelled: {problem}"))
            });
        }
        // What is about the stream as a whole has no events.
        let Some(place) = place else { return Ok(()) };
        let (watched, partial) = (&mut self.watched[place], &mut stream.partial[place]);
        partial.extend(answer.events);
        let revision = |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let last = partial.last().map_or(0, revision);
        let complete = match answer.fragment {
            true => partial.iter().position(|event| revision(event) == last).unwrap_or(0),
            false => partial.len(),
        };
        let events: Vec<mvccpb::Event> = partial.drain(..complete).collect();
        for events in events.chunk_by(|a, b| revision(a) == revision(b)) {
            let revision = revision(&events[0]);
            if watched.next.is_some_and(|next| revision < next) {
                continue;
            }
            watched.next = Some(revision + 1);
            let covered = events.iter().filter_map(|event| event.kv.as_ref().map(|kv| (event.r#type(), kv)));
            let covered: Vec<Event> = covered
                .filter(|(_, kv)| watched.path.covers(&kv.key))
                .map(|(kind, kv)| match kind {
                    mvccpb::event::EventType::Put => Event::Put(kv.clone().into()),
                    mvccpb::event::EventType::Delete => Event::Deleted(kv.key.clone()),
                })
                .collect();
            if !covered.is_empty() {
                self.ready.push_back((place, Item::Changed { revision, events: covered }));
            }
        }
        Ok(())
    }
}

/// Asks one endpoint for all changes of each path from its next revision on.
async fn open(store: &Store, watched: &[Watched]) -> Result<Stream, Failed> {
    let options = &store.shared.options;
    let connection = store.shared.connections.get(options).await?;
    let (requests, receiver) = mpsc::channel(watched.len() + QUESTIONS);
    for watched in watched {
        let range = watched.path.around();
        let create = rpc::WatchCreateRequest {
            key: range.from.into(),
            range_end: range.to.into(),
            start_revision: watched.next.unwrap_or(0),
            fragment: true,
            ..Default::default()
        };
        let create = rpc::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        if requests.try_send(create).is_err() {
            return Err(Failed::NotSent("the stream has no room".to_owned()));
        }
    }
    let mut request = Request::new(ReceiverStream::new(receiver));
    // A member without a leader knows of no changes; it shall say so instead of keeping silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut client =
        WatchClient::new(connection.channel.clone()).max_decoding_message_size(2 * options.answer_limit);
    let failure = match timeout(options.request_timeout, client.watch(request)).await {
        Ok(Ok(answers)) => {
            let heard = Instant::now();
            let answers = answers.into_inner();
            let partial = watched.iter().map(|_| Vec::new()).collect();
            return Ok(Stream {
                connection,
                requests,
                answers,
                heard,
                asked: None,
                ids: Vec::new(),
                partial,
            });
        }
        Ok(Err(status)) => failed(&connection.name, &status),
        Err(_) => {
            Failed::Lost(format!("{}: no stream within {:?}", connection.name, options.request_timeout))
        }
    };
    store.shared.connections.give_up(&connection).await;
    Err(failure)
}

impl Stream {
    /// Waits for an answer; a silent stream is asked for its progress, and is lost when it stays silent.
    async fn receive(&mut self, store: &Store) -> Result<rpc::WatchResponse, Failed> {
        let options = &store.shared.options;
        loop {
            let until = match self.asked {
                Some(asked) => asked + options.progress_timeout,
                None => self.heard + options.progress_interval,
            };
            match timeout_at(until, self.answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    (self.heard, self.asked) = (Instant::now(), None);
                    return Ok(answer);
                }
                Ok(Ok(None)) => {
                    return Err(Failed::Lost(format!("{}: the stream ended", self.connection.name)));
                }
                Ok(Err(status)) => return Err(failed(&self.connection.name, &status)),
                Err(_) if self.asked.is_some() => {
                    let silence = self.heard.elapsed();
                    return Err(Failed::Lost(format!("{}: silent for {silence:?}", self.connection.name)));
                }
                Err(_) => {
                    let progress = RequestUnion::ProgressRequest(rpc::WatchProgressRequest {});
                    // A full queue means that the last question is still there: it counts as asked.
                    let _ = self.requests.try_send(rpc::WatchRequest { request_union: Some(progress) });
                    self.asked = Some(Instant::now());
                }
            }
        }
    }
}
