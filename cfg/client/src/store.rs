//! The client of a store that speaks etcd's v3 API.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cfg_api::etcdserverpb as rpc;
use cfg_api::mvccpb;
use rpc::kv_client::KvClient;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::connection::{Connection, Connections, Failed, failed};
use crate::{Error, KeyPath, Options, StoreUrl};

/// A store. Clones share one connection.
///
/// Every call has a deadline and ends with an answer or an error. Reads are linearizable, and go to the next endpoint
/// when one does not answer; of writes see [`Store::transact`] and [`Store::change`].
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Connections,
    pub(crate) options: Options,
    /// The endpoints, for messages.
    pub(crate) place: String,
    /// 0: not known yet.
    cluster_id: AtomicU64,
    /// The lease that markers hang on, and when it was granted.
    pub(crate) marker_lease: tokio::sync::Mutex<Option<(i64, Instant)>>,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which the key was created.
    pub create_revision: i64,
    /// Revision at which this value was written.
    pub mod_revision: i64,
    /// Writes since the key was created, counted from 1.
    pub version: i64,
    /// The lease that the key hangs on; 0: none.
    pub lease: i64,
}

impl From<mvccpb::KeyValue> for Pair {
    fn from(kv: mvccpb::KeyValue) -> Pair {
        Pair {
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It may.
    Freely,
    /// Only if the first one was surely not carried out.
    IfNotSent,
}

/// An answer of the store; all of them begin with a header.
pub(crate) trait Answer {
    fn header(&self) -> Option<&rpc::ResponseHeader>;
}

macro_rules! answers {
    ($($answer:ident)+) => {
        $(impl Answer for rpc::$answer {
            fn header(&self) -> Option<&rpc::ResponseHeader> {
                self.header.as_ref()
            }
        })+
    };
}

answers! { RangeResponse TxnResponse DeleteRangeResponse WatchResponse }
answers! { MemberListResponse MemberAddResponse MemberRemoveResponse MemberPromoteResponse }
answers! { MoveLeaderResponse StatusResponse DefragmentResponse }
answers! { LeaseGrantResponse LeaseRevokeResponse LeaseKeepAliveResponse }

impl Store {
    /// A client of the store that `url` names; its path plays no part. Reads the files of TLS, connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn open(url: &StoreUrl, options: Options) -> Result<Store, Error> {
        let connections = Connections::new(url, &options)?;
        let shared = Shared {
            connections,
            options,
            place: url.to_string(),
            cluster_id: AtomicU64::new(0),
            marker_lease: tokio::sync::Mutex::new(None),
        };
        Ok(Store { shared: Arc::new(shared) })
    }

    /// From now on an answer of another cluster is [`Error::OtherCluster`]. Without this the first answer decides.
    pub fn expect_cluster(&self, id: u64) {
        self.shared.cluster_id.store(id, Ordering::Relaxed);
    }

    /// The id of the cluster that answers.
    ///
    /// # Errors
    /// Those of every call: [`Error::Unreachable`], [`Error::Denied`], [`Error::OtherCluster`].
    pub async fn cluster_id(&self) -> Result<u64, Error> {
        if self.shared.cluster_id.load(Ordering::Relaxed) == 0 {
            self.range(rpc::RangeRequest { key: Bytes::from_static(b"/"), ..Default::default() }).await?;
        }
        Ok(self.shared.cluster_id.load(Ordering::Relaxed))
    }

    /// One key with its value; without `revision` the newest.
    ///
    /// # Errors
    /// [`Error::Absent`]; [`Error::Compacted`] with a revision that is forgotten.
    pub async fn get(&self, key: &KeyPath, revision: Option<i64>) -> Result<Pair, Error> {
        let request = rpc::RangeRequest {
            key: key.as_str().to_owned().into(),
            revision: revision.unwrap_or(0),
            ..Default::default()
        };
        let answer = self.range(request).await?;
        match answer.kvs.into_iter().next() {
            Some(pair) => Ok(pair.into()),
            None => Err(Error::Absent { place: key.to_string() }),
        }
    }

    pub(crate) async fn range(&self, request: rpc::RangeRequest) -> Result<rpc::RangeResponse, Error> {
        let limit = self.shared.options.answer_limit;
        self.call(Repeat::Freely, |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(limit).range(request).await }
        })
        .await
    }

    /// Sends a request, at one endpoint after the other, until it is answered or the bounds are reached.
    pub(crate) async fn call<T, F>(&self, repeat: Repeat, send: impl Fn(Channel) -> F) -> Result<T, Error>
    where
        T: Answer,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let options = &self.shared.options;
        let deadline = Instant::now() + options.call_timeout;
        let endpoints = self.shared.connections.len();
        let mut last = Failed::NotSent("no attempt was made".to_owned());
        for attempt in 0..options.rounds.max(1) * endpoints {
            if attempt > 0 && attempt % endpoints == 0 {
                let wait = options.backoff_before(attempt / endpoints);
                if Instant::now() + wait >= deadline {
                    break;
                }
                sleep(wait).await;
            }
            if Instant::now() >= deadline {
                break;
            }
            last = match self.attempt(deadline, &send).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Answered(error)) => return Err(error),
                Err(Failed::Lost(problem)) if repeat == Repeat::IfNotSent => {
                    return Err(Error::Unknown { problem });
                }
                Err(failed) => failed,
            };
            if let Failed::Lost(problem) | Failed::NotSent(problem) | Failed::NotTrusted(problem) = &last {
                tracing::debug!(problem, "an endpoint of the configuration store does not answer");
            }
        }
        let place = self.shared.place.clone();
        Err(match last {
            Failed::NotTrusted(problem) => Error::Denied { place, problem },
            Failed::NotSent(problem) | Failed::Lost(problem) => Error::Unreachable { place, problem },
            Failed::Answered(error) => error,
        })
    }

    async fn attempt<T, F>(&self, deadline: Instant, send: &impl Fn(Channel) -> F) -> Result<T, Failed>
    where
        T: Answer,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let options = &self.shared.options;
        let connection = match timeout_at(deadline, self.shared.connections.get(options)).await {
            Ok(connection) => connection?,
            Err(_) => return Err(Failed::NotSent("no connection before the deadline".to_owned())),
        };
        let until = deadline.min(Instant::now() + options.request_timeout);
        let failure = match timeout_at(until, send(connection.channel.clone())).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                return self.check_cluster(&answer).map(|()| answer).map_err(Failed::Answered);
            }
            Ok(Err(status)) => failed(&connection.name, &status),
            Err(_) => {
                Failed::Lost(format!("{}: no answer within {:?}", connection.name, options.request_timeout))
            }
        };
        if !matches!(failure, Failed::Answered(_)) {
            self.shared.connections.give_up(&connection).await;
        }
        Err(failure)
    }

    /// A connection to one of the endpoints, for what is more than a question and an answer.
    pub(crate) async fn connection(&self) -> Result<Connection, Error> {
        let mut last = Failed::NotSent("no attempt was made".to_owned());
        for _ in 0..self.shared.connections.len() {
            match self.shared.connections.get(&self.shared.options).await {
                Ok(connection) => return Ok(connection),
                Err(failed) => last = failed,
            }
        }
        let place = self.shared.place.clone();
        Err(match last {
            Failed::NotTrusted(problem) => Error::Denied { place, problem },
            Failed::NotSent(problem) | Failed::Lost(problem) => Error::Unreachable { place, problem },
            Failed::Answered(error) => error,
        })
    }

    /// The bounds of this client.
    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Compares the cluster of an answer with the one that is known, or learns it.
    pub(crate) fn check_cluster(&self, answer: &impl Answer) -> Result<(), Error> {
        let found = answer.header().map_or(0, |header| header.cluster_id);
        if found == 0 {
            return Ok(());
        }
        let known = &self.shared.cluster_id;
        match known.compare_exchange(0, found, Ordering::Relaxed, Ordering::Relaxed) {
            Err(expected) if expected != found => Err(Error::OtherCluster { expected, found }),
            _ => Ok(()),
        }
    }
}
