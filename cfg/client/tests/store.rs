//! The client against real etcd processes: every call, fail-over, deadlines, lost answers, TLS.

mod cut;
mod etcd;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cfg_client::{
    Compare, Content, Error, EtcdSource, KeyPath, KeyRange, MARKERS, Options, Proof, Store, StoreUrl,
    Transaction, Write,
};
use cut::{Cut, CuttingProxy};
use etcd::{Cluster, Directory, Tls};
use serde_json::json;

fn key(text: &str) -> KeyPath {
    KeyPath::parse(text).expect("a key")
}

/// Bounds that make failures quick.
fn quick() -> Options {
    Options {
        request_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        call_timeout: Duration::from_secs(10),
        backoff: Duration::from_millis(20),
        ..Options::default()
    }
}

fn store(url: &str) -> Store {
    Store::open(&StoreUrl::parse(url).expect("a URL"), quick()).expect("opened")
}

fn puts(pairs: &[(&str, &str)]) -> Transaction {
    let writes = pairs.iter().map(|(name, value)| Write::put(&key(name), value.to_string())).collect();
    Transaction { compares: Vec::new(), writes }
}

#[tokio::test]
async fn calls_answer_as_etcd_does() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    assert!(matches!(store.get(&key("/a"), None).await, Err(Error::Absent { place }) if place == "/a"));
    let first = store
        .transact(&puts(&[("/a", "1"), ("/a/b", "2"), ("/ab", "3"), ("/a/c/d", "4")]))
        .await
        .expect("put");
    let pair = store.get(&key("/a"), None).await.expect("there");
    assert_eq!(
        (&pair.value[..], pair.create_revision, pair.mod_revision, pair.version),
        (&b"1"[..], first, first, 1)
    );
    let listing = store.list_path(&key("/a"), Content::Values, None).await.expect("listed");
    let keys: Vec<&[u8]> = listing.pairs.iter().map(|pair| &pair.key[..]).collect();
    assert_eq!(keys, [&b"/a"[..], b"/a/b", b"/a/c/d"], "/ab is another path");
    assert_eq!((listing.revision, listing.cluster_id), (first, store.cluster_id().await.expect("known")));

    let mut changed = puts(&[("/a", "5")]);
    changed.compares = vec![
        Compare::Unchanged { key: key("/a"), mod_revision: first },
        Compare::Absent(key("/x").below()),
        Compare::NotAfter { range: key("/a").below(), revision: first },
        Compare::NotAfter { range: key("/x").below(), revision: first },
        Compare::Value { key: key("/ab"), value: "3".into() },
    ];
    let second = store.transact(&changed).await.expect("holds");
    assert_eq!(second, first + 1);
    assert!(matches!(store.transact(&changed).await, Err(Error::Conflict)), "it was changed");
    for wrong in [
        Compare::Absent(key("/a").below()),
        Compare::Unchanged { key: key("/no"), mod_revision: 7 },
        Compare::NotAfter { range: key("/a").below(), revision: first - 1 },
    ] {
        let transaction = Transaction { compares: vec![wrong], ..puts(&[("/no", "")]) };
        assert!(matches!(store.transact(&transaction).await, Err(Error::Conflict)));
    }
    assert_eq!(&store.get(&key("/a"), Some(first)).await.expect("old").value[..], b"1");
    assert_eq!(store.delete(&key("/a").below()).await.expect("deleted"), 2);
    assert_eq!(store.delete(&KeyRange::from(&key("/nothing"))).await.expect("deleted"), 0);

    cluster.compact(second);
    assert!(matches!(store.get(&key("/a"), Some(first)).await, Err(Error::Compacted)));
    assert!(matches!(store.get(&key("/a"), Some(second + 100)).await, Err(Error::Refused { .. })));
    let many: Vec<(String, String)> = (0..129).map(|n| (format!("/many/{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert!(matches!(store.transact(&puts(&many)).await, Err(Error::TooLarge { .. })));
    let large = "x".repeat(1_600_000);
    assert!(matches!(store.transact(&puts(&[("/large", &large)])).await, Err(Error::TooLarge { .. })));
    assert!(matches!(
        store.transact(&puts(&[("/twice", ""), ("/twice", "")])).await,
        Err(Error::Refused { .. })
    ));
}

#[tokio::test]
async fn leases_carry_keys_and_end() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    let lease = store.grant_lease(Duration::from_secs(60)).await.expect("granted");
    assert!(lease.ttl >= Duration::from_secs(60));
    let write = Write::Put { key: key("/on/lease"), value: "1".into(), lease: lease.id };
    store.transact(&Transaction { compares: Vec::new(), writes: vec![write.clone()] }).await.expect("put");
    assert_eq!(store.get(&key("/on/lease"), None).await.expect("there").lease, lease.id);
    assert_eq!(store.keep_lease(lease.id).await.expect("kept").id, lease.id);
    store.revoke_lease(lease.id).await.expect("revoked");
    store.revoke_lease(lease.id).await.expect("revoked again");
    assert!(matches!(store.get(&key("/on/lease"), None).await, Err(Error::Absent { .. })));
    assert!(matches!(store.keep_lease(lease.id).await, Err(Error::Absent { .. })));
    let late = store.transact(&Transaction { compares: Vec::new(), writes: vec![write] }).await;
    assert!(matches!(late, Err(Error::Absent { .. })), "{late:?}");
}

#[tokio::test]
async fn a_listing_is_of_one_revision_however_many_pages_it_takes() {
    let cluster = Cluster::start(1);
    let url = StoreUrl::parse(&cluster.url("/")).expect("a URL");
    // Each value fills an answer by more than a third: pages of 7 do not fit, pages of 1 do.
    let options = Options { page_keys: 7, answer_limit: 100_000, ..quick() };
    let store = Store::open(&url, options).expect("opened");
    let value = "v".repeat(40_000);
    for number in 0..20 {
        store.transact(&puts(&[(&format!("/list/{number:02}"), &value)])).await.expect("put");
    }
    let before = store.list_path(&key("/list"), Content::Values, None).await.expect("listed");
    assert_eq!(before.pairs.len(), 20);
    store.delete(&key("/list").below()).await.expect("deleted");
    let again = store.list_path(&key("/list"), Content::Values, Some(before.revision)).await.expect("listed");
    assert_eq!(again, before);
    let keys = store.list_path(&key("/list"), Content::Keys, Some(before.revision)).await.expect("listed");
    assert!(keys.pairs.len() == 20 && keys.pairs.iter().all(|pair| pair.value.is_empty()));
    // While two keys at its ends change together, no listing sees one of them changed.
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for number in 0..200 {
            let number = number.to_string();
            writer.transact(&puts(&[("/p/a", &number), ("/p/z", &number)])).await.expect("put");
        }
    });
    let paged = Store::open(&url, Options { page_keys: 1, ..quick() }).expect("opened");
    let mut seen = std::collections::BTreeSet::new();
    while !writing.is_finished() {
        let listing = paged.list_path(&key("/p"), Content::Values, None).await.expect("listed");
        let values: Vec<_> = listing.pairs.iter().map(|pair| pair.value.clone()).collect();
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
        seen.extend(values);
    }
    writing.await.expect("written");
    assert!(seen.len() > 5, "listings while it was written: {}", seen.len());
    let bounded = Store::open(&url, Options { listing_limit: 300_000, ..quick() }).expect("opened");
    let listing = bounded.list_path(&key("/list"), Content::Values, Some(before.revision)).await;
    assert!(matches!(listing, Err(Error::TooLarge { .. })), "{listing:?}");
}

#[tokio::test]
async fn another_member_answers_when_one_is_killed() {
    let mut cluster = Cluster::start(3);
    let store = store(&cluster.url("/"));
    store.transact(&puts(&[("/a", "1")])).await.expect("put");
    // The client is connected to the first.
    cluster.kill(0);
    assert_eq!(&store.get(&key("/a"), None).await.expect("read elsewhere").value[..], b"1");
    let revision = store.change(puts(&[("/a", "2")]), Proof::Marker).await.expect("changed elsewhere");
    assert_eq!(store.get(&key("/a"), None).await.expect("there").mod_revision, revision);
    cluster.kill(1);
    let begin = Instant::now();
    let error = store.get(&key("/a"), None).await.expect_err("no quorum");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_silent_endpoint_costs_its_deadline_and_no_more() {
    // The kernel accepts; nobody ever answers.
    let hole = TcpListener::bind("127.0.0.1:0").expect("bound");
    let hole = hole.local_addr().map(|address| (hole, address)).expect("an address");
    let alone = Options { call_timeout: Duration::from_secs(3), ..quick() };
    let url = StoreUrl::parse(&format!("etcd://{}/", hole.1)).expect("a URL");
    let store = Store::open(&url, alone.clone()).expect("opened");
    let begin = Instant::now();
    let error = store.get(&key("/a"), None).await.expect_err("silent");
    assert!(matches!(&error, Error::Unreachable { problem, .. } if problem.contains("no answer")), "{error}");
    let error = store.transact(&puts(&[("/a", "1")])).await.expect_err("silent");
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    let error = store.watch(&key("/a"), Some(1)).next().await.expect_err("silent");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());

    let cluster = Cluster::start(1);
    let url = StoreUrl::parse(&format!("etcd://{},{}/", hole.1, cluster.endpoints[0])).expect("a URL");
    let store = Store::open(&url, quick()).expect("opened");
    store.change(puts(&[("/a", "1")]), Proof::Marker).await.expect("changed at the other endpoint");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for() {
    let cluster = Cluster::start(1);
    let proxy = CuttingProxy::start(&cluster.endpoints[0]);
    let direct = store(&cluster.url("/"));
    let marked = |value: &str| puts(&[("/a", value), (&format!("/proof/{value}"), "")]);

    // The request arrives and is carried out; its answer is not let through.
    for (cut, lands) in [(Cut::Answer, true), (Cut::Request, false)] {
        let through = store(&format!("etcd://{}/", proxy.address));
        through.cluster_id().await.expect("connected");
        proxy.arm(cut);
        let error = through.transact(&marked("plain")).await.expect_err("lost");
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
        assert!(proxy.has_cut(), "the proxy has cut");
        let there = direct.get(&key("/proof/plain"), None).await.is_ok();
        assert_eq!(there, lands, "the same error whether it was carried out or not");
        direct.delete(&KeyRange::from(&key("/proof/plain"))).await.expect("deleted");

        for (value, proof) in [("marker", Proof::Marker), ("key", Proof::Key(key("/proof/key")))] {
            through.change(puts(&[("/warm", "1")]), Proof::Marker).await.expect("connected, with a lease");
            proxy.arm(cut);
            let revision = through.change(marked(value), proof).await.expect("found out");
            assert!(proxy.has_cut(), "the proxy has cut");
            let pair = direct.get(&key(&format!("/proof/{value}")), None).await.expect("there");
            assert_eq!((pair.create_revision, pair.version), (revision, 1), "once: {cut:?} {value}");
            direct.delete(&KeyRange::from(&key(&format!("/proof/{value}")))).await.expect("deleted");
        }
        // What did not happen is not reported as done.
        let mut refused = puts(&[("/b", "1")]);
        refused.compares.push(Compare::Unchanged { key: key("/a"), mod_revision: 1 });
        proxy.arm(cut);
        assert!(matches!(through.change(refused, Proof::Marker).await, Err(Error::Conflict)));
        assert!(proxy.has_cut() && direct.get(&key("/b"), None).await.is_err());
    }
    let markers = direct.list(&key(MARKERS).below(), Content::Keys, None).await.expect("listed").pairs;
    assert!(
        !markers.is_empty() && markers.iter().all(|marker| marker.lease != 0),
        "markers go with their lease"
    );
}

#[tokio::test]
async fn a_change_that_was_answered_with_a_conflict_does_not_happen_later() {
    let cluster = Cluster::start(1);
    let proxy = CuttingProxy::start(&cluster.endpoints[0]);
    let direct = store(&cluster.url("/"));
    let both = store(&format!("etcd://{},{}/", proxy.address, cluster.endpoints[0]));
    both.change(puts(&[("/x", "1")]), Proof::Marker).await.expect("connected, with a lease");
    // The first attempt is kept on its way; the second one, elsewhere, finds that /x is there.
    proxy.arm(Cut::Hold);
    let mut change = puts(&[("/a", "1")]);
    change.compares.push(Compare::Absent(KeyRange::from(&key("/x"))));
    assert!(matches!(both.change(change, Proof::Marker).await, Err(Error::Conflict)));
    assert!(proxy.has_cut(), "the proxy holds the first attempt");
    // Now what was compared holds, and the first attempt arrives.
    direct.delete(&KeyRange::from(&key("/x"))).await.expect("deleted");
    proxy.release();
    assert!(matches!(direct.get(&key("/a"), None).await, Err(Error::Absent { .. })));
}

#[tokio::test]
async fn a_marker_gets_a_new_lease_when_its_own_is_gone() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    store.change(puts(&[("/a", "1")]), Proof::Marker).await.expect("changed");
    let leases = cluster.ctl(&["lease", "list"]);
    cluster.ctl(&["lease", "revoke", leases.lines().last().expect("a lease")]);
    store.change(puts(&[("/a", "2")]), Proof::Marker).await.expect("changed");
    assert_eq!(store.get(&key("/a"), None).await.expect("there").version, 2);
}

#[tokio::test]
async fn a_store_that_wants_a_user_denies() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    cluster.ctl(&["user", "add", "root:x"]);
    cluster.ctl(&["user", "grant-role", "root", "root"]);
    cluster.ctl(&["auth", "enable"]);
    let error = store.get(&key("/a"), None).await.expect_err("denied");
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    let error = store.transact(&puts(&[("/a", "1")])).await.expect_err("denied");
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    let error = store.watch(&key("/a"), Some(1)).next().await.expect_err("denied");
    assert!(matches!(error, Error::Denied { .. }), "{error}");
}

#[tokio::test]
async fn clusters_are_not_mixed() {
    let (one, other) = (Cluster::start(1), Cluster::start(1));
    let mut one = one;
    let mixed = store(&format!("etcd://{},{}/", one.endpoints[0], other.endpoints[0]));
    let id = mixed.cluster_id().await.expect("answers");
    one.kill(0);
    let error = mixed.get(&key("/a"), None).await.expect_err("another cluster");
    assert!(matches!(error, Error::OtherCluster { expected, .. } if expected == id), "{error}");
}

#[tokio::test]
async fn tls_is_mutual() {
    let directory = Directory::new();
    let server = certificates(&directory, "good");
    let stranger = certificates(&directory, "stranger");
    let cluster = Cluster::start_with(1, Some(server.clone()), &[]);
    let url = |authority: &Tls, own: Option<&Tls>| {
        let own = own.map_or(String::new(), |own| {
            format!("&cert={}&key={}", own.certificate.display(), own.key.display())
        });
        format!("{}?cacert={}{own}", cluster.url("/"), authority.authority.display())
    };
    let good = store(&url(&server, Some(&server)));
    good.transact(&puts(&[("/a", "1")])).await.expect("trusted");
    for (authority, own) in [(&stranger, Some(&server)), (&server, Some(&stranger)), (&server, None)] {
        let error = store(&url(authority, own)).get(&key("/a"), None).await.expect_err("not trusted");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
    }
    let error = store(&cluster.url("/")).get(&key("/a"), None).await.expect_err("no TLS");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let missing = StoreUrl::parse("etcd://a/?cacert=/no/such/file").expect("a URL");
    assert!(matches!(Store::open(&missing, quick()), Err(Error::Url { .. })));
}

fn certificates(directory: &Directory, name: &str) -> Tls {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).expect("signed").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let own =
        CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("parameters");
    let own = own.signed_by(&key, &issuer).expect("signed").pem();
    let write = |kind: &str, pem: String| {
        let path = directory.path(&format!("{name}-{kind}.pem"));
        std::fs::write(&path, pem).expect("written");
        path
    };
    Tls {
        authority: write("ca", authority_pem),
        certificate: write("cert", own),
        key: write("key", key.serialize_pem()),
    }
}

#[tokio::test]
async fn documents_are_read_at_one_revision() {
    let cluster = Cluster::start(1);
    let store = store(&cluster.url("/"));
    let source = EtcdSource::open(&cluster.url("/host/config"), quick()).expect("opened");
    assert!(matches!(source.read("").await, Err(Error::Absent { place }) if place == "/host/config"));
    store.transact(&puts(&[("/host/configuration", "{}")])).await.expect("put");
    assert!(matches!(source.read("").await, Err(Error::Absent { .. })), "another path");
    let documents = [
        ("/host/config/nbd", r#"{"nbd_port":1}"#),
        ("/host/config/deep/er", "{}"),
        ("/host/config/http", "{}"),
    ];
    let revision = store.transact(&puts(&documents)).await.expect("put");
    let snapshot = source.read("").await.expect("read");
    assert_eq!(i64::try_from(snapshot.revision), Ok(revision));
    assert_eq!(snapshot.cluster_id, store.cluster_id().await.ok());
    let expected = [("nbd".to_owned(), json!({"nbd_port": 1})), ("http".to_owned(), json!({}))];
    assert_eq!(snapshot.documents, expected.into());
    assert_eq!(source.read("deep").await.expect("read").documents.len(), 1);
    store.transact(&puts(&[("/host/config/bad", "{]")])).await.expect("put");
    let error = source.read("").await.expect_err("bad JSON");
    assert!(matches!(&error, Error::Syntax { place, line: 1, .. } if place == "/host/config/bad"), "{error}");
    let large = format!("\"{}\"", "x".repeat(512 * 1024));
    store.transact(&puts(&[("/host/config/bad", &large)])).await.expect("put");
    assert!(matches!(source.read("").await, Err(Error::TooLarge { .. })));
}
