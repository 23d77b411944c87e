//! Transactions: every compare and every operation.

use etcd_client::{Client, Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp, TxnOpResponse};

use crate::{Checked, Problem, equal, refused, there};

pub(crate) async fn check(client: &mut Client) -> Checked {
    compares(client).await?;
    operations(client).await?;
    let twice = Txn::new().and_then([TxnOp::put("t", "1", None), TxnOp::put("t", "2", None)]);
    refused(client.txn(twice).await, "etcdserver: duplicate key given in txn request")?;
    client.delete("t", None).await?;
    Ok(())
}

/// What is compared, and how.
async fn compares(client: &mut Client) -> Checked {
    let lease = client.lease_grant(600, None).await?.id();
    let put = client.put("t", "5", Some(PutOptions::new().with_lease(lease))).await?;
    let made = there(put.header())?.revision();
    let put = client.put("t", "6", Some(PutOptions::new().with_ignore_lease())).await?;
    let written = there(put.header())?.revision();
    for (compare, wanted) in [
        (Compare::version("t", CompareOp::Equal, 2), true),
        (Compare::version("missing", CompareOp::Equal, 0), true),
        (Compare::version("t", CompareOp::Less, 2), false),
        (Compare::create_revision("t", CompareOp::Equal, made), true),
        (Compare::create_revision("t", CompareOp::NotEqual, made), false),
        (Compare::mod_revision("t", CompareOp::Greater, made), true),
        (Compare::mod_revision("t", CompareOp::Greater, written), false),
        (Compare::value("t", CompareOp::Equal, "6"), true),
        (Compare::value("t", CompareOp::Less, "6"), false),
        (Compare::value("missing", CompareOp::Equal, ""), false),
        (Compare::lease("t", CompareOp::Equal, lease), true),
        (Compare::lease("t", CompareOp::NotEqual, lease), false),
        // Of every key in the range.
        (Compare::version("t", CompareOp::Greater, 1).with_prefix(), true),
        (Compare::version("s", CompareOp::Greater, 2).with_range("u"), false),
    ] {
        let shown = format!("{compare:?}");
        let found = client.txn(Txn::new().when([compare])).await?.succeeded();
        equal((shown.as_str(), found), (shown.as_str(), wanted))?;
    }
    client.lease_revoke(lease).await?;
    Ok(())
}

/// What is done: the first branch or the second, with the answers in order, at one revision.
async fn operations(client: &mut Client) -> Checked {
    let make = Txn::new()
        .when([Compare::version("t", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("t", "1", None)])
        .or_else([TxnOp::get("t", None)]);
    let done = client.txn(make.clone()).await?;
    equal((done.succeeded(), done.op_responses().len()), (true, 1))?;
    let revision = there(done.header())?.revision();
    let done = client.txn(make).await?;
    equal((done.succeeded(), there(done.header())?.revision()), (false, revision))?;
    match done.op_responses().as_slice() {
        [TxnOpResponse::Get(read)] => equal(there(read.kvs().first())?.value(), b"1")?,
        other => return Err(Problem(format!("{other:?} instead of what is read"))),
    }

    let inner = Txn::new()
        .when([Compare::value("t", CompareOp::Equal, "2")])
        .and_then([TxnOp::put("u", "3", None)])
        .or_else([TxnOp::delete("t", None)]);
    let outer = Txn::new().and_then([
        TxnOp::get("t", None),
        TxnOp::put("t", "2", Some(PutOptions::new().with_prev_key())),
        TxnOp::txn(inner),
        TxnOp::delete("u", Some(DeleteOptions::new().with_prev_key())),
    ]);
    let refusal = "etcdserver: duplicate key given in txn request";
    refused(client.txn(outer).await, refusal)?;

    let inner = Txn::new()
        .when([Compare::value("t", CompareOp::Equal, "1")])
        .and_then([TxnOp::put("u", "3", None)])
        .or_else([TxnOp::put("v", "4", None)]);
    let outer = Txn::new().and_then([
        TxnOp::get("t", None),
        TxnOp::put("w", "2", Some(PutOptions::new().with_prev_key())),
        TxnOp::txn(inner),
        TxnOp::delete("t", Some(DeleteOptions::new().with_prev_key())),
    ]);
    let done = client.txn(outer).await?;
    equal((done.succeeded(), there(done.header())?.revision()), (true, revision + 1))?;
    match done.op_responses().as_slice() {
        [
            TxnOpResponse::Get(read),
            TxnOpResponse::Put(put),
            TxnOpResponse::Txn(nested),
            TxnOpResponse::Delete(deleted),
        ] => {
            equal((read.count(), put.prev_key().is_none()), (1, true))?;
            equal((nested.succeeded(), nested.op_responses().len()), (true, 1))?;
            equal((deleted.deleted(), there(deleted.prev_kvs().first())?.value()), (1, &b"1"[..]))?;
        }
        other => return Err(Problem(format!("{other:?} instead of four answers"))),
    }
    let (u, v) = (client.get("u", None).await?, client.get("v", None).await?);
    equal((u.count(), v.count()), (1, 0))?;
    equal(there(u.kvs().first())?.mod_revision(), revision + 1)?;
    equal(client.delete("u", Some(DeleteOptions::new().with_range("x"))).await?.deleted(), 2)
}
