//! Requests that are too large, too deep, or no messages.

use cfg_api::etcdserverpb as pb;
use cfg_api::etcdserverpb::kv_client::KvClient;
use pb::request_op::Request;
use tonic::Code;

use crate::client::{Member, get, put};
use crate::raw::{self, field, number};

/// etcd's default, and the store's.
const REQUEST: usize = 3 << 19;

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

/// Transactions inside each other, with a put in the middle.
fn nested(depth: usize) -> pb::TxnRequest {
    let inside = txn(vec![op(Request::RequestPut(put("deep", depth.to_string())))]);
    (1..depth).fold(inside, |inside, _| txn(vec![op(Request::RequestTxn(inside))]))
}

#[test]
fn what_is_too_large_is_refused_and_what_just_fits_is_taken() {
    let mut member = Member::start("input-large", &[]);
    let mut kv = KvClient::new(member.channel());
    // Key, value and what names them.
    let fits = REQUEST - 3 - 4;
    member.runtime.block_on(async {
        kv.put(put("a", vec![7; fits])).await.expect("a request of the largest size");
        let read = kv.clone().max_decoding_message_size(4 << 20).range(get("a")).await;
        assert_eq!(read.expect("a read").into_inner().kvs[0].value.len(), fits);
        for (key, value) in [("a", fits + 1), (&"k".repeat(REQUEST), 0)] {
            let status = kv.put(put(key.to_owned(), vec![7; value])).await.expect_err("too large");
            assert_eq!(
                (status.code(), status.message()),
                (Code::InvalidArgument, "etcdserver: request is too large")
            );
        }
        let status = kv.put(put("a", vec![7; 8 << 20])).await.expect_err("a message beyond the limit");
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
    });
    member.assert_serves("large requests");
}

#[test]
fn a_transaction_that_is_too_deep_is_refused_before_it_is_written() {
    let mut member = Member::start("input-deep", &[]);
    let mut kv = KvClient::new(member.channel());
    let mut taken = 0;
    for depth in (1..70).chain([128, 200]) {
        match member.runtime.block_on(kv.txn(nested(depth))) {
            Ok(_) => taken = depth,
            Err(status) => assert!(
                status.message() == "etcdserver: too many operations in txn request"
                    || status.message().contains("recursion limit"),
                "depth {depth}: {status}"
            ),
        }
        member.assert_serves(&format!("depth {depth}"));
    }
    assert!(taken >= 32, "only {taken}");
    let wide = txn((0..129).map(|at| op(Request::RequestPut(put(format!("k{at}"), "")))).collect());
    let status = member.runtime.block_on(kv.txn(wide)).expect_err("129 operations");
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "etcdserver: too many operations in txn request")
    );
    // All that was written can be read again.
    member = member.restart(&[]);
    let mut kv = KvClient::new(member.channel());
    let read = member.runtime.block_on(kv.range(get("deep"))).expect("a read").into_inner();
    assert_eq!(read.kvs[0].value, taken.to_string().as_bytes());
    member.assert_serves("a restart");
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let mut member = Member::start("input-bytes", &[]);
    let cases: [(&'static str, Vec<u8>); 6] = [
        ("/etcdserverpb.Cluster/MemberAdd", field(1, b"http://\xff\xfe:1")),
        ("/etcdserverpb.KV/Put", vec![0xff; 40]),
        ("/etcdserverpb.KV/Put", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("/etcdserverpb.KV/Range", number(1, 7)),
        ("/etcdserverpb.KV/Txn", field(2, &field(2, b"\x0a"))),
        ("/etcdserverpb.Lease/LeaseGrant", field(1, b"seven")),
    ];
    for (path, message) in cases {
        let status = member.runtime.block_on(raw::call(member.channel(), path, message.clone()));
        let status = status.expect_err("no message");
        assert!(
            matches!(status.code(), Code::Internal | Code::InvalidArgument),
            "{path} {message:?}: {status}"
        );
        member.assert_serves(path);
    }
    let url = format!("http://127.0.0.1:2380/{}", "x".repeat(100));
    for urls in [vec![], vec!["127.0.0.1:1"], vec!["http://127.0.0.1"], vec!["http://:1"], vec![&url]] {
        let message: Vec<u8> = urls.iter().flat_map(|url| field(1, url.as_bytes())).collect();
        let call = raw::call(member.channel(), "/etcdserverpb.Cluster/MemberAdd", message);
        let status = member.runtime.block_on(call).expect_err("no address of a member");
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
            "{urls:?}"
        );
    }
    let many: Vec<u8> =
        (1..2000).flat_map(|port| field(1, format!("http://127.0.0.1:{port}").as_bytes())).collect();
    let call = raw::call(member.channel(), "/etcdserverpb.Cluster/MemberAdd", many);
    let status = member.runtime.block_on(call).expect_err("more addresses than a member has");
    assert!(status.message().contains("more than 16384 bytes"), "{status}");
    member.assert_serves("addresses");
}
