//! Watches against real etcd processes: no gap and no repeat over killed members, compactions and dead streams.

mod etcd;
mod mute;

use std::time::Duration;

use cfg_client::{Error, Event, Item, KeyPath, Options, Store, StoreUrl, Transaction, Watch, Write};
use etcd::Cluster;
use mute::MutingProxy;
use tokio::time::timeout;

/// Longest wait for one item.
const PATIENCE: Duration = Duration::from_secs(30);

fn key(text: &str) -> KeyPath {
    KeyPath::parse(text).expect("a key")
}

fn store(url: &str) -> Store {
    store_with(url, 20)
}

fn store_with(url: &str, rounds: usize) -> Store {
    Store::open(&StoreUrl::parse(url).expect("a URL"), options(rounds)).expect("opened")
}

fn options(rounds: usize) -> Options {
    Options {
        request_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        backoff: Duration::from_millis(20),
        progress_interval: Duration::from_millis(500),
        progress_timeout: Duration::from_secs(1),
        rounds,
        ..Options::default()
    }
}

async fn put(store: &Store, name: &str, value: &str) -> i64 {
    let writes = vec![Write::put(&key(name), value.to_owned())];
    store.transact(&Transaction { compares: Vec::new(), writes }).await.expect("put")
}

async fn next(watch: &mut Watch) -> Item {
    timeout(PATIENCE, watch.next()).await.expect("in time").expect("an item")
}

fn value(item: &Item) -> String {
    match item {
        Item::Changed { events, .. } => match &events[..] {
            [Event::Put(pair)] => String::from_utf8_lossy(&pair.value).into_owned(),
            events => panic!("{events:?}"),
        },
        listed @ Item::Listed(_) => panic!("{listed:?}"),
    }
}

#[tokio::test]
async fn what_is_there_comes_first_then_what_changes() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    put(&store, "/a/b", "1").await;
    put(&store, "/ab", "1").await;
    let mut watch = store.watch(&key("/a"), None);
    let Item::Listed(listing) = next(&mut watch).await else { panic!("a listing") };
    assert_eq!(listing.pairs.iter().map(|pair| &pair.key[..]).collect::<Vec<_>>(), [b"/a/b"]);
    put(&store, "/ab", "2").await;
    put(&store, "/a-b", "2").await;
    let writes =
        vec![Write::put(&key("/a"), "3"), Write::put(&key("/ab"), "3"), Write::put(&key("/a/c"), "3")];
    let together = store.transact(&Transaction { compares: Vec::new(), writes }).await.expect("put");
    store.delete(&key("/a").below()).await.expect("deleted");
    let Item::Changed { revision, events } = next(&mut watch).await else { panic!("a change") };
    assert_eq!(revision, together, "changes of other paths are not told");
    let keys: Vec<&[u8]> = events
        .iter()
        .map(|event| match event {
            Event::Put(pair) => &pair.key[..],
            Event::Deleted(key) => &key[..],
        })
        .collect();
    assert_eq!(keys, [&b"/a"[..], b"/a/c"], "of one revision, together");
    let Item::Changed { events, .. } = next(&mut watch).await else { panic!("a change") };
    assert_eq!(events, [Event::Deleted("/a/b".into()), Event::Deleted("/a/c".into())]);
    // Dropped in the middle of its wait, again and again.
    for number in 0..20 {
        assert!(timeout(Duration::from_millis(1), watch.next()).await.is_err());
        put(&store, "/a/b", &number.to_string()).await;
        assert_eq!(value(&next(&mut watch).await), number.to_string());
    }
}

/// Several paths of which one is compacted away: it is listed, and the others go on where they were.
#[tokio::test]
async fn paths_of_one_watch_are_told_apart() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    let old = put(&store, "/a/x", "0").await;
    put(&store, "/b", "0").await;
    put(&store, "/c", "0").await;
    let mut watch = store.watch_all(&["/a", "/b", "/c"].map(key), None);
    for place in 0..3 {
        let (told, item) = timeout(PATIENCE, watch.next_of()).await.expect("in time").expect("watched");
        assert!(
            told == place && matches!(&item, Item::Listed(listing) if listing.pairs.len() == 1),
            "{item:?}"
        );
    }
    for number in 1..30 {
        let (place, name) = [(0, "/a/x"), (1, "/b"), (2, "/c")][number % 3];
        put(&store, name, &number.to_string()).await;
        let (told, item) = timeout(PATIENCE, watch.next_of()).await.expect("in time").expect("watched");
        assert_eq!((told, value(&item)), (place, number.to_string()), "of its path alone");
    }
    // One transaction changes two of them.
    let writes = ["/a/x", "/c"].map(|name| Write::put(&key(name), "both")).into();
    let both = store.transact(&Transaction { compares: Vec::new(), writes }).await.expect("put");
    let mut told = Vec::new();
    for _ in 0..2 {
        match timeout(PATIENCE, watch.next_of()).await.expect("in time").expect("watched") {
            (place, Item::Changed { revision, .. }) => told.push((place, revision)),
            (_, listed @ Item::Listed(_)) => panic!("{listed:?}"),
        }
    }
    told.sort_unstable();
    assert_eq!(told, [(0, both), (2, both)]);
    drop(watch);
    let newest = put(&store, "/b", "last").await;
    cluster.compact(newest);
    let mut late = store.watch_all(&["/a", "/b"].map(key), Some(old));
    let mut listed = Vec::new();
    for _ in 0..2 {
        let (place, item) = timeout(PATIENCE, late.next_of()).await.expect("in time").expect("watched");
        assert!(matches!(item, Item::Listed(_)), "{item:?}");
        listed.push(place);
    }
    listed.sort_unstable();
    assert_eq!(listed, [0, 1], "both begin anew");
}

#[tokio::test]
async fn nothing_is_missed_or_repeated_over_a_killed_member() {
    const WRITES: i32 = 400;
    let mut cluster = Cluster::start(3);
    // The writer is connected to a member that stays.
    let writer = store(&format!("etcd://{},{}/", cluster.endpoints[1], cluster.endpoints[2]));
    let start = put(&writer, "/n", "begin").await + 1;
    let mut watch = store(&cluster.url("/")).watch(&key("/n"), Some(start));
    let writing = tokio::spawn(async move {
        for number in 0..WRITES {
            // A write whose answer is lost in the election is made certain.
            let writes = vec![Write::put(&key("/n"), number.to_string())];
            let transaction = Transaction { compares: Vec::new(), writes };
            writer.change(transaction, cfg_client::Proof::Marker).await.expect("written");
        }
    });
    for expected in 0..WRITES {
        if expected == WRITES / 4 {
            cluster.kill(0);
        }
        assert_eq!(value(&next(&mut watch).await), expected.to_string());
    }
    writing.await.expect("written");
}

#[tokio::test]
async fn revisions_that_were_compacted_away_come_as_a_listing() {
    let cluster = Cluster::start(1);
    let proxy = MutingProxy::start(&cluster.endpoints[0]);
    let direct = store(&cluster.url("/"));
    let mut watch = store(&format!("etcd://{}/", proxy.address)).watch(&key("/n"), None);
    assert!(matches!(next(&mut watch).await, Item::Listed(listing) if listing.pairs.is_empty()));
    put(&direct, "/n", "1").await;
    assert_eq!(value(&next(&mut watch).await), "1");
    proxy.cut_and_refuse();
    for number in 2..5 {
        put(&direct, "/n", &number.to_string()).await;
    }
    let last = put(&direct, "/n/m", "5").await;
    cluster.compact(last);
    proxy.open();
    let Item::Listed(listing) = next(&mut watch).await else { panic!("a listing") };
    let found: Vec<(&[u8], &[u8])> =
        listing.pairs.iter().map(|pair| (&pair.key[..], &pair.value[..])).collect();
    assert_eq!(found, [(&b"/n"[..], &b"4"[..]), (b"/n/m", b"5")]);
    assert_eq!(listing.revision, last);
    put(&direct, "/n", "6").await;
    assert_eq!(value(&next(&mut watch).await), "6", "what follows the listing");
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_noticed() {
    let cluster = Cluster::start(1);
    let proxy = MutingProxy::start(&cluster.endpoints[0]);
    let direct = store(&cluster.url("/"));
    let start = put(&direct, "/n", "0").await;
    let url = format!("etcd://{},{}/", proxy.address, cluster.endpoints[0]);
    // More than a machine with other work takes to answer.
    let patient = Options { progress_timeout: Duration::from_secs(5), ..options(20) };
    let silence = patient.progress_interval + patient.progress_timeout;
    let store = Store::open(&StoreUrl::parse(&url).expect("a URL"), patient).expect("opened");
    let mut watch = store.watch(&key("/n"), Some(start));
    assert_eq!(value(&next(&mut watch).await), "0");
    // Quiet, but alive: questions for progress are answered and the stream stays.
    assert!(timeout(2 * silence, watch.next()).await.is_err());
    assert_eq!(proxy.connections(), 1);
    proxy.mute();
    put(&direct, "/n", "1").await;
    assert_eq!(value(&next(&mut watch).await), "1", "from the other endpoint");
    let mut alone = store_with(&format!("etcd://{}/", proxy.address), 3).watch(&key("/n"), Some(start));
    let error = timeout(PATIENCE, alone.next()).await.expect("an end").expect_err("mute");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn large_revisions_come_whole() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    let start = put(&store, "/begin", "").await + 1;
    let large = "x".repeat(300_000);
    // Together far beyond what one message of the watch may hold.
    for round in 0..12 {
        let writes =
            (0..4).map(|part| Write::put(&key(&format!("/l/{round}-{part}")), large.clone())).collect();
        store.transact(&Transaction { compares: Vec::new(), writes }).await.expect("put");
    }
    let mut watch = store.watch(&key("/l"), Some(start));
    for round in 0..12 {
        let Item::Changed { revision, events } = next(&mut watch).await else { panic!("a change") };
        assert_eq!((revision, events.len()), (start + round, 4));
    }
}
