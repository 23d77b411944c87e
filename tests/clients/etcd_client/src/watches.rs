//! Watches with their options, and what they say of a past that was compacted away.

use etcd_client::{
    Client, CompactionOptions, DeleteOptions, EventType, GetOptions, WatchFilterType, WatchOptions,
    WatchResponse, WatchStream,
};

use crate::{Checked, equal, refused, there};

/// Kind, key, value and previous value of an event.
type Event = (EventType, String, String, Option<String>);

/// Events of an answer.
fn events(answer: &WatchResponse) -> Checked<Vec<Event>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut events = Vec::new();
    for event in answer.events() {
        let pair = there(event.kv())?;
        let before = event.prev_kv().map(|pair| text(pair.value()));
        events.push((event.event_type(), text(pair.key()), text(pair.value()), before));
    }
    Ok(events)
}

/// The next `wanted` events, in however many answers they come.
async fn next(watch: &mut WatchStream, wanted: usize) -> Checked<Vec<Event>> {
    let mut all = Vec::new();
    while all.len() < wanted {
        all.extend(events(&there(watch.message().await?)?)?);
    }
    Ok(all)
}

/// A write as a watch shows it.
fn put(key: &str, value: &str, before: Option<&str>) -> Event {
    (EventType::Put, key.to_owned(), value.to_owned(), before.map(str::to_owned))
}

/// A deletion as a watch shows it.
fn delete(key: &str, before: Option<&str>) -> Event {
    (EventType::Delete, key.to_owned(), String::new(), before.map(str::to_owned))
}

pub(crate) async fn check(client: &mut Client) -> Checked {
    let begin = there(client.put("w/a", "1", None).await?.header())?.revision();
    client.put("w/a", "2", None).await?;
    client.delete("w/a", None).await?;
    client.put("w/b", "3", None).await?;
    let past = WatchOptions::new().with_start_revision(begin).with_prefix();
    let mut watch = client.watch("w/", Some(past.clone().with_prev_key())).await?;
    let created = there(watch.message().await?)?;
    equal((created.created(), created.canceled(), created.watch_id()), (true, false, 0))?;
    let wanted = vec![
        put("w/a", "1", None),
        put("w/a", "2", Some("1")),
        delete("w/a", Some("2")),
        put("w/b", "3", None),
    ];
    equal(next(&mut watch, 4).await?, wanted)?;
    client.put("w/c", "4", None).await?;
    equal(next(&mut watch, 1).await?, vec![put("w/c", "4", None)])?;
    client.delete("w/", Some(DeleteOptions::new().with_prefix())).await?;
    equal(next(&mut watch, 2).await?, vec![delete("w/b", Some("3")), delete("w/c", Some("4"))])?;
    several(client, &mut watch, begin).await?;
    filters(client, past).await
}

/// More watches on the same stream; each is cancelled alone.
async fn several(client: &mut Client, watch: &mut WatchStream, begin: i64) -> Checked {
    let only = WatchOptions::new().with_watch_id(7).with_start_revision(begin).with_fragment();
    watch.watch("w/b", Some(only)).await?;
    let created = there(watch.message().await?)?;
    equal((created.created(), created.watch_id()), (true, 7))?;
    let seen = there(watch.message().await?)?;
    equal((seen.watch_id(), events(&seen)?), (7, vec![put("w/b", "3", None), delete("w/b", None)]))?;

    watch.request_progress().await?;
    let progress = there(watch.message().await?)?;
    let now = there(client.get("w/", None).await?.header())?.revision();
    equal((progress.events().len(), there(progress.header())?.revision()), (0, now))?;

    watch.cancel(7).await?;
    let cancelled = there(watch.message().await?)?;
    equal((cancelled.canceled(), cancelled.watch_id()), (true, 7))?;
    client.put("w/b", "5", None).await?;
    let seen = there(watch.message().await?)?;
    equal((seen.watch_id(), events(&seen)?), (0, vec![put("w/b", "5", None)]))?;
    watch.cancel(0).await?;
    equal(there(watch.message().await?)?.canceled(), true)
}

/// What is filtered out, and ends of ranges.
async fn filters(client: &mut Client, past: WatchOptions) -> Checked {
    let options = past.clone().with_filters([WatchFilterType::NoPut]);
    let mut watch = client.watch("w/", Some(options)).await?;
    equal(there(watch.message().await?)?.created(), true)?;
    equal(next(&mut watch, 3).await?, vec![delete("w/a", None), delete("w/b", None), delete("w/c", None)])?;
    let options = past.clone().with_filters([WatchFilterType::NoDelete]).with_range("w/b");
    let mut watch = client.watch("w/a", Some(options)).await?;
    equal(there(watch.message().await?)?.created(), true)?;
    equal(next(&mut watch, 2).await?, vec![put("w/a", "1", None), put("w/a", "2", None)])?;
    let (mut sender, mut answers) = watch.split();
    sender.cancel(0).await?;
    equal(there(answers.message().await?)?.canceled(), true)?;

    // Of a revision that is to come.
    let now = there(client.get("w/", None).await?.header())?.revision();
    let later = WatchOptions::new().with_start_revision(now + 2).with_all_keys();
    let mut watch = client.watch("", Some(later)).await?;
    equal(there(watch.message().await?)?.created(), true)?;
    client.put("w/d", "6", None).await?;
    client.put("w/d", "7", None).await?;
    equal(next(&mut watch, 1).await?, vec![put("w/d", "7", None)])?;
    client.delete("w/", Some(DeleteOptions::new().with_prefix())).await?;
    Ok(())
}

/// What is gone is refused, and a watch says from where it can go on.
pub(crate) async fn compaction(client: &mut Client) -> Checked {
    let begin = there(client.put("c", "1", None).await?.header())?.revision();
    let end = there(client.put("c", "2", None).await?.header())?.revision();
    let compacted = client.compact(end, Some(CompactionOptions::new().with_physical())).await?;
    equal(there(compacted.header())?.revision(), end)?;
    refused(client.compact(begin, None).await, "required revision has been compacted")?;
    refused(client.compact(end + 1000, None).await, "required revision is a future revision")?;
    let old = Some(GetOptions::new().with_revision(begin));
    refused(client.get("c", old).await, "required revision has been compacted")?;
    let kept = client.get("c", Some(GetOptions::new().with_revision(end))).await?;
    equal(there(kept.kvs().first())?.value(), b"2")?;

    let options = WatchOptions::new().with_start_revision(begin);
    let mut watch = client.watch("c", Some(options)).await?;
    equal(there(watch.message().await?)?.created(), true)?;
    let refusal = there(watch.message().await?)?;
    equal((refusal.canceled(), refusal.compact_revision()), (true, end))?;
    client.delete("c", None).await?;
    Ok(())
}
