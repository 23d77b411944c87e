//! A member whose disk fails: it says so, and keeps what it acknowledged.

use std::time::Duration;

use cfg_api::etcdserverpb::kv_client::KvClient;
use cfg_api::etcdserverpb::{PutRequest, RangeRequest};
use cfg_store::{ApiOptions, Beginning, Ended, Options, RaftOptions, Server};
use tokio::time::timeout;
use uring::sim::{Fault, FaultOp, SimOptions, SimWorld};

const PATIENCE: Duration = Duration::from_secs(30);

fn options() -> Options {
    let loopback = vec!["127.0.0.1:0".parse().expect("an address")];
    Options {
        name: "one".into(),
        data_dir: "/member".into(),
        client_listen: loopback.clone(),
        peer_listen: loopback,
        client_urls: Vec::new(),
        peer_urls: Vec::new(),
        client_tls: None,
        peer_tls: None,
        beginning: Beginning::Found,
        join_timeout: PATIENCE,
        raft: RaftOptions {
            election_timeout: Duration::from_millis(200),
            heartbeat: Duration::from_millis(40),
            ..RaftOptions::default()
        },
        api: ApiOptions::default(),
    }
}

async fn start(world: &SimWorld) -> (Server, KvClient<tonic::transport::Channel>) {
    let server = Server::start(world.disk(), options()).await.expect("a sound disk");
    server.ready().await.expect("a leader");
    let url = format!("http://{}", server.client_addresses()[0]);
    let channel = tonic::transport::Endpoint::from_shared(url).expect("a URL").connect_lazy();
    (server, KvClient::new(channel))
}

fn put(value: &'static str) -> PutRequest {
    PutRequest { key: "key".into(), value: value.into(), ..Default::default() }
}

#[test]
fn a_member_whose_disk_fails_says_so_and_comes_back_with_all_it_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    for (seed, op) in (1..).zip([FaultOp::Write, FaultOp::Sync]) {
        let world = SimWorld::new(seed, SimOptions::default());
        runtime.block_on(async {
            let (server, mut kv) = start(&world).await;
            kv.put(put("acknowledged")).await.expect("a sound disk");
            world.inject(Fault { op, path_contains: "/member/log".into(), count: 1 });
            let status = kv.put(put("lost")).await.expect_err("a disk that fails");
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            let why = timeout(PATIENCE, server.ended()).await.expect("it notices");
            assert!(matches!(why, Ended::Failed(_)), "{why:?}");
            server.shutdown(Duration::from_millis(1)).await;
            world.power_loss();
            let (server, mut kv) = start(&world).await;
            let read = kv.range(RangeRequest { key: "key".into(), ..Default::default() }).await;
            let value = &read.expect("a read").into_inner().kvs[0].value;
            // Nobody was told what became of the second one.
            assert!([&b"acknowledged"[..], b"lost"].contains(&&value[..]), "{value:?}");
            assert!(timeout(Duration::ZERO, server.ended()).await.is_err());
            server.shutdown(Duration::from_millis(1)).await;
        });
    }
}
