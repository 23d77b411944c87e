//! A good client, and the question whether it is still served.

use std::time::Duration;

use bytes::Bytes;
use cfg_api::etcdserverpb as pb;
use cfg_api::etcdserverpb::kv_client::KvClient;
use cfg_api::etcdserverpb::{PutRequest, RangeRequest};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};

use crate::harness::cfg::{Running, Server};
use crate::harness::place::Place;

/// How long an answer may take.
pub const ANSWER: Duration = Duration::from_secs(30);
/// What a member may have in memory at most, whatever it is asked, bytes.
pub const MEMORY: u64 = 400 << 20;

/// A member of the store that runs, and what to ask it with.
pub struct Member {
    pub runtime: Runtime,
    pub running: Running,
    pub place: Place,
}

impl Member {
    pub fn start(name: &str, more: &[&str]) -> Self {
        let place = Place::new(name);
        let runtime = Runtime::new().expect("threads");
        let running = Server::Store.start_with(place.root(), "member", more);
        Self { runtime, running, place }
    }

    /// The same member again, from its directory.
    pub fn restart(self, more: &[&str]) -> Self {
        let Self { runtime, running, place } = self;
        drop(running);
        let running = Server::Store.start_with(place.root(), "member", more);
        Self { runtime, running, place }
    }

    /// `127.0.0.1:PORT` of clients.
    pub fn address(&self) -> &str {
        host(&self.running.client_url)
    }

    /// `127.0.0.1:PORT` of members.
    pub fn peer_address(&self) -> &str {
        host(&self.running.peer_url)
    }

    /// A connection that is made when it is used.
    pub fn channel(&self) -> Channel {
        channel(&self.running.client_url, &self.runtime)
    }

    /// A connection whose streams hold each other up by no window of theirs: only who is not read waits.
    pub fn wide_channel(&self) -> Channel {
        let _inside = self.runtime.enter();
        let endpoint = Endpoint::from_shared(self.running.client_url.clone()).expect("a URL");
        endpoint.initial_stream_window_size(1 << 16).initial_connection_window_size(1 << 30).connect_lazy()
    }

    /// What it has in memory when that does not grow any more, bytes.
    pub fn settled_memory(&self) -> u64 {
        let mut memory = self.running.memory();
        let mut same = 0;
        while same < 5 {
            // sleep: nothing tells that the kernel's count of a process's memory has stopped growing
            std::thread::sleep(Duration::from_millis(100));
            let now = self.running.memory();
            same = if now > memory { 0 } else { same + 1 };
            memory = now;
        }
        memory
    }

    /// Writes and reads, on a new connection, in time; memory is bounded.
    pub fn assert_serves(&mut self, after: &str) {
        let mut kv = KvClient::new(self.channel());
        let served = self.runtime.block_on(async {
            let served = async {
                kv.put(put("good", after)).await?;
                kv.range(get("good")).await
            };
            timeout(ANSWER, served).await
        });
        assert!(self.running.is_alive(), "after {after} it has ended\n{}", self.running.log_tail());
        let answer = served.unwrap_or_else(|_| panic!("after {after} nobody is served"));
        let answer = answer.unwrap_or_else(|status| panic!("after {after}: {status}")).into_inner();
        assert_eq!(answer.kvs[0].value, after.as_bytes());
        let memory = self.running.memory();
        assert!(memory < MEMORY, "after {after} it has {memory} bytes in memory");
    }
}

fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// A connection that is made when it is used.
pub fn channel(url: &str, runtime: &Runtime) -> Channel {
    let _inside = runtime.enter();
    Endpoint::from_shared(url.to_owned()).expect("a URL").connect_lazy()
}

pub fn put(key: impl Into<Bytes>, value: impl AsRef<[u8]>) -> PutRequest {
    PutRequest { key: key.into(), value: Bytes::copy_from_slice(value.as_ref()), ..Default::default() }
}

pub fn get(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

/// Requests out of a channel.
pub struct Requests(pub mpsc::Receiver<pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
