//! What comes to the port for members.

use tonic::Code;

use crate::client::{Member, channel};
use crate::raw::{self, field, number, varint};

const PATHS: [&str; 7] = [
    "/ovs.store.v1.Peer/Append",
    "/ovs.store.v1.Peer/Elect",
    "/ovs.store.v1.Peer/Propose",
    "/ovs.store.v1.Peer/ReadIndex",
    "/ovs.store.v1.Peer/Leases",
    "/ovs.store.v1.Peer/Change",
    "/ovs.store.v1.Peer/TakeOver",
];

fn address(cluster: u64, from: u64, to: u64) -> Vec<u8> {
    field(1, &[number(1, cluster), number(2, from), number(3, to)].concat())
}

fn vote(term: u64, member: u64, committed: bool) -> Vec<u8> {
    field(2, &[number(1, term), number(2, member), number(3, committed.into())].concat())
}

fn id(term: u64, index: u64) -> Vec<u8> {
    [number(1, term), number(2, index)].concat()
}

struct Asked {
    member: Member,
    cluster: u64,
}

impl Asked {
    fn start(name: &str) -> Self {
        let member = Member::start(name, &[]);
        let mut kv = cfg_api::etcdserverpb::kv_client::KvClient::new(member.channel());
        let answer = member.runtime.block_on(kv.range(crate::client::get("a"))).expect("a read");
        let cluster = answer.into_inner().header.expect("a header").cluster_id;
        Self { member, cluster }
    }

    fn refusal(&self, path: &'static str, message: Vec<u8>) -> tonic::Status {
        let channel = channel(&self.member.running.peer_url, &self.member.runtime);
        let answer = self.member.runtime.block_on(raw::call(channel, path, message.clone()));
        answer.map(|answer| panic!("{path} {message:?} was taken: {answer:?}")).expect_err("refused")
    }
}

#[test]
fn messages_for_others_or_without_content_are_refused() {
    let mut asked = Asked::start("input-peers");
    let (cluster, me) = (asked.cluster, 1);
    for path in PATHS {
        for message in [address(cluster ^ 1, 2, me), address(cluster, 2, me + 6), address(0, 0, 0)] {
            let status = asked.refusal(path, message);
            assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status}");
            assert!(status.message().contains("the message is for"), "{path}: {status}");
        }
        for message in [vec![], field(1, b"")] {
            let status = asked.refusal(path, message);
            let expected = [Code::InvalidArgument, Code::Unauthenticated];
            assert!(expected.contains(&status.code()), "{path}: {status}");
        }
    }
    // For this member, from one that is none yet, with the rest missing or impossible.
    let from = address(cluster, 99, me);
    let append = |rest: &[Vec<u8>]| [std::slice::from_ref(&from), rest].concat().concat();
    let entry = |index| field(4, &field(1, &id(1, index)));
    for rest in [
        vec![],
        vec![field(2, b"")],
        vec![vote(5, 0, true)],
        vec![vote(5, 98, true)],
        vec![vote(5, 99, false)],
        vec![vote(u64::MAX, 99, true)],
        vec![vote(5, 99, true), field(4, b"")],
        vec![vote(5, 99, true), field(3, &id(1, 3)), entry(3)],
        vec![vote(5, 99, true), field(3, &id(1, 3)), entry(4), entry(6)],
        vec![vote(5, 99, true), entry(7)],
        vec![vote(5, 99, true), field(3, &id(1, u64::MAX)), entry(0)],
    ] {
        let status = asked.refusal(PATHS[0], append(&rest));
        assert_eq!(status.code(), Code::InvalidArgument, "{rest:?}: {status}");
    }
    for rest in [vec![], vec![vote(u64::MAX, 99, false)], vec![vote(5, 0, false)], vec![vote(5, 99, true)]] {
        let handed_over = [rest, vec![number(4, 1)]].concat();
        let status = asked.refusal(PATHS[1], append(&handed_over));
        assert_eq!(status.code(), Code::InvalidArgument, "{handed_over:?}: {status}");
    }
    for path in [PATHS[2], PATHS[5]] {
        assert_eq!(asked.refusal(path, from.clone()).code(), Code::InvalidArgument, "{path}");
    }
    asked.member.assert_serves("messages of members");
}

#[test]
fn a_member_cannot_bring_in_what_the_log_could_not_give_back() {
    let mut asked = Asked::start("input-peer-batch");
    // A transaction: 4 in a command; inside it an operation: 2; inside that a transaction: 4.
    let deep = (0..45).fold(Vec::new(), |inside, _| field(2, &field(4, &inside)));
    let batch = |command: &[u8]| field(2, &field(1, command));
    let from = address(asked.cluster, 99, 1);
    let status = asked.refusal(PATHS[2], [from.clone(), batch(&field(4, &deep))].concat());
    assert_eq!(status.message(), "etcdserver: too many operations in txn request", "{status}");
    let put = [field(1, b"a"), field(2, &vec![0; 17 << 20])].concat();
    let status = asked.refusal(PATHS[2], [from, batch(&field(2, &put))].concat());
    assert_eq!(status.message(), "etcdserver: request is too large", "{status}");
    asked.member.assert_serves("batches of members");
    asked.member = asked.member.restart(&[]);
    asked.member.assert_serves("a restart");
}

#[test]
fn nobody_joins_without_an_address() {
    let mut asked = Asked::start("input-join");
    let join = "/ovs.store.v1.Peer/Join";
    for message in [vec![], field(1, b""), field(1, &field(1, b"name"))] {
        assert_eq!(asked.refusal(join, message).code(), Code::InvalidArgument);
    }
    let status = asked.refusal(join, field(1, &field(2, b"http://\xff")));
    assert_eq!(status.code(), Code::Internal, "{status}");
    // A snapshot that ends before it began, and one of rubbish.
    let install = "/ovs.store.v1.Peer/Install";
    assert_eq!(asked.refusal(install, varint(0)).code(), Code::Internal);
    let rubbish = [address(asked.cluster, 99, 1), vote(5, 99, true), field(4, &[7; 5000])].concat();
    let status = asked.refusal(install, rubbish);
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    let snapshots = asked.member.running.data_dir.join("cfg/snapshot");
    let left: Vec<_> = std::fs::read_dir(snapshots).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
    asked.member.assert_serves("those who want to join");
}
