//! Writing, reading and deleting keys, with every option of a request.

use etcd_client::{
    Client, DeleteOptions, GetOptions, GetResponse, KvClientPrefix, PutOptions, SortOrder, SortTarget,
};

use crate::{Checked, equal, refused, there};

/// Keys of an answer.
pub(crate) fn names(answer: &GetResponse) -> Vec<String> {
    answer.kvs().iter().map(|pair| String::from_utf8_lossy(pair.key()).into_owned()).collect()
}

/// Values of an answer.
fn values(answer: &GetResponse) -> Vec<&[u8]> {
    answer.kvs().iter().map(|pair| pair.value()).collect()
}

pub(crate) async fn check(client: &mut Client) -> Checked {
    let first = writes(client).await?;
    ranges(client).await?;
    revisions(client, first).await?;
    deletes(client).await
}

/// Puts with their options. The revision of the first one.
async fn writes(client: &mut Client) -> Checked<i64> {
    equal(client.get("k/a", None).await?.count(), 0)?;
    let put = client.put("k/a", "1", None).await?;
    equal(put.prev_key().is_none(), true)?;
    let first = there(put.header())?.revision();

    let put = client.put("k/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    let before = there(put.prev_key())?;
    equal((before.key(), before.value(), before.mod_revision()), (&b"k/a"[..], &b"1"[..], first))?;
    equal(there(put.header())?.revision(), first + 1)?;

    let lease = client.lease_grant(600, None).await?.id();
    client.put("k/b", "1", Some(PutOptions::new().with_lease(lease))).await?;
    client.put("k/b", "3", Some(PutOptions::new().with_ignore_lease())).await?;
    let answer = client.get("k/b", None).await?;
    equal((there(answer.kvs().first())?.lease(), answer.kvs()[0].value()), (lease, &b"3"[..]))?;
    client.put("k/b", "", Some(PutOptions::new().with_ignore_value())).await?;
    let answer = client.get("k/b", None).await?;
    equal((there(answer.kvs().first())?.lease(), answer.kvs()[0].value()), (0, &b"3"[..]))?;
    client.lease_revoke(lease).await?;
    equal(client.get("k/b", None).await?.count(), 1)?;

    let options = || Some(PutOptions::new().with_ignore_value());
    refused(client.put("missing", "", options()).await, "etcdserver: key not found")?;
    refused(client.put("k/b", "5", options()).await, "etcdserver: value is provided")?;
    refused(client.put("", "5", None).await, "etcdserver: key is not provided")?;
    let unknown = Some(PutOptions::new().with_lease(77));
    refused(client.put("k/b", "5", unknown).await, "etcdserver: requested lease not found")?;

    client.put(vec![0, 255], vec![255, 0], None).await?;
    equal(values(&client.get(vec![0, 255], None).await?), vec![&[255, 0][..]])?;
    client.delete(vec![0, 255], None).await?;
    Ok(first)
}

/// What a read of many keys gives.
async fn ranges(client: &mut Client) -> Checked {
    client.put("k/c", "2", None).await?;
    client.put("other", "0", None).await?;
    let all = GetOptions::new().with_prefix();
    let answer = client.get("k/", Some(all.clone())).await?;
    equal(names(&answer), ["k/a", "k/b", "k/c"].map(str::to_owned).to_vec())?;
    equal((answer.count(), answer.more()), (3, false))?;
    let answer = client.get("k/", Some(all.clone().with_limit(2))).await?;
    equal((names(&answer).len(), answer.count(), answer.more()), (2, 3, true))?;
    let answer = client.get("k/a", Some(GetOptions::new().with_range("k/c"))).await?;
    equal(names(&answer).len(), 2)?;
    let answer = client.get("k/c", Some(GetOptions::new().with_from_key())).await?;
    equal(names(&answer), ["k/c", "other"].map(str::to_owned).to_vec())?;
    equal(client.get("", Some(GetOptions::new().with_all_keys())).await?.count(), 4)?;
    let answer = client.get("k/", Some(all.clone().with_keys_only())).await?;
    equal(values(&answer), vec![&b""[..]; 3])?;
    let answer = client.get("k/", Some(all.clone().with_count_only())).await?;
    equal((names(&answer).len(), answer.count()), (0, 3))?;
    equal(client.get("k/", Some(all.clone().with_serializable())).await?.count(), 3)?;

    for (target, order, wanted) in [
        (SortTarget::Key, SortOrder::Descend, ["k/c", "k/b", "k/a"]),
        (SortTarget::Value, SortOrder::Descend, ["k/b", "k/a", "k/c"]),
        (SortTarget::Create, SortOrder::Descend, ["k/c", "k/b", "k/a"]),
        (SortTarget::Mod, SortOrder::Ascend, ["k/a", "k/b", "k/c"]),
        (SortTarget::Version, SortOrder::Ascend, ["k/c", "k/a", "k/b"]),
    ] {
        let answer = client.get("k/", Some(all.clone().with_sort(target, order))).await?;
        equal(names(&answer), wanted.map(str::to_owned).to_vec())?;
    }
    Ok(())
}

/// Reads of the past, and what is left out by revision. The key `k/a` was made at `first`.
async fn revisions(client: &mut Client, first: i64) -> Checked {
    let answer = client.get("k/a", Some(GetOptions::new().with_revision(first))).await?;
    equal(values(&answer), vec![&b"1"[..]])?;
    let answer = client.get("k/a", None).await?;
    let pair = there(answer.kvs().first())?;
    equal((pair.create_revision(), pair.mod_revision(), pair.version()), (first, first + 1, 2))?;
    let now = there(answer.header())?.revision();
    let future = Some(GetOptions::new().with_revision(now + 1000));
    refused(client.get("k/a", future).await, "required revision is a future revision")?;
    let all = GetOptions::new().with_prefix();
    for (options, wanted) in [
        (all.clone().with_min_mod_revision(first + 2), 2),
        (all.clone().with_max_mod_revision(first + 1), 1),
        (all.clone().with_min_create_revision(first + 1), 2),
        (all.clone().with_max_create_revision(first), 1),
    ] {
        equal(client.get("k/", Some(options)).await?.kvs().len(), wanted)?;
    }
    Ok(())
}

/// Deletes with their options; nothing is left.
async fn deletes(client: &mut Client) -> Checked {
    equal(client.delete("missing", None).await?.deleted(), 0)?;
    let answer = client.delete("k/a", Some(DeleteOptions::new().with_prev_key())).await?;
    equal((answer.deleted(), there(answer.prev_kvs().first())?.value()), (1, &b"2"[..]))?;
    let range = DeleteOptions::new().with_range("k/c");
    equal(client.delete("k/", Some(range)).await?.deleted(), 1)?;
    let prefix = DeleteOptions::new().with_prefix().with_prev_key();
    equal(client.delete("k/", Some(prefix)).await?.prev_kvs().len(), 1)?;
    equal(client.delete("", Some(DeleteOptions::new().with_all_keys())).await?.deleted(), 1)?;
    equal(client.get("", Some(GetOptions::new().with_all_keys())).await?.count(), 0)
}

/// The library's view of the keys below a prefix.
pub(crate) async fn namespace(client: &Client) -> Checked {
    let mut whole = client.kv_client();
    let mut inner = KvClientPrefix::new(client.kv_client(), "inner/".into());
    inner.put("a", "1", None).await?;
    whole.put("outer", "2", None).await?;
    equal(names(&inner.get("", Some(GetOptions::new().with_prefix())).await?), vec!["a".to_owned()])?;
    equal(names(&whole.get("inner/a", None).await?), vec!["inner/a".to_owned()])?;
    equal(inner.delete("", Some(DeleteOptions::new().with_prefix())).await?.deleted(), 1)?;
    equal(whole.delete("outer", None).await?.deleted(), 1)
}
