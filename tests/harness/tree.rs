//! The tree of a configuration store, as a client has it that checks nothing; and everything that ever happened in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cfg_client::{
    Content, Error, Event, Item, KeyPath, KeyRange, Options, Store, StoreUrl, Transaction, Write,
};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// How long something may take that has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub struct Tree {
    runtime: Runtime,
    store: Store,
}

fn open(client_url: &str) -> Store {
    let url = StoreUrl::parse(&client_url.replace("http://", "etcd://")).expect("a URL");
    Store::open(&url, Options::default()).expect("a store")
}

fn path(key: &str) -> KeyPath {
    KeyPath::parse(key).unwrap_or_else(|error| panic!("{key}: {error}"))
}

impl Tree {
    /// Of the store at `http://HOST:PORT`.
    pub fn open(client_url: &str) -> Self {
        // With a thread of its own, which tends the connection between two calls.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: runtime.expect("a runtime"), store: open(client_url) }
    }

    /// Writes and deletes (`None`) keys at one revision, which it returns.
    #[track_caller]
    pub fn write(&self, changes: &[(String, Option<Vec<u8>>)]) -> i64 {
        let writes = changes.iter().map(|(key, value)| match value {
            Some(value) => Write::put(&path(key), value.clone()),
            None => Write::Delete(KeyRange::key(key.as_str())),
        });
        let transaction = Transaction { compares: Vec::new(), writes: writes.collect() };
        self.runtime.block_on(async {
            loop {
                match self.store.transact(&transaction).await {
                    Ok(revision) => return revision,
                    // Once more does no harm.
                    Err(Error::Unknown { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    }

    /// Writes one key.
    #[track_caller]
    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        self.write(&[(key.to_owned(), Some(value.into()))])
    }

    /// Deletes one key.
    #[track_caller]
    pub fn delete(&self, key: &str) -> i64 {
        self.write(&[(key.to_owned(), None)])
    }

    /// A value with the revision at which it was written.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<(i64, Vec<u8>)> {
        match self.runtime.block_on(self.store.get(&path(key), None)) {
            Ok(pair) => Some((pair.mod_revision, pair.value.to_vec())),
            Err(Error::Absent { .. }) => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// A value that is JSON.
    #[track_caller]
    pub fn json(&self, key: &str) -> Option<Value> {
        self.get(key).map(|(_, value)| serde_json::from_slice(&value).expect("JSON"))
    }

    /// The newest revision.
    #[track_caller]
    pub fn revision(&self) -> i64 {
        let nothing = path("/none").below();
        let listing = self.runtime.block_on(self.store.list(&nothing, Content::Keys, None));
        listing.expect("the store answers").revision
    }

    /// Waits until `chosen` finds what it looks for in the value of a key (`Null`: it is not there, or no JSON).
    #[track_caller]
    pub fn awaited<T>(&self, key: &str, mut chosen: impl FnMut(&Value) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut watch = self.store.watch(&path(key), None);
        let mut last = Value::Null;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let item = self.runtime.block_on(async { tokio::time::timeout(left, watch.next()).await });
            let values: Vec<Option<Vec<u8>>> = match item {
                Err(_) => break,
                Ok(Err(_)) => continue,
                Ok(Ok(Item::Listed(listing))) => {
                    let found = listing.pairs.iter().find(|pair| pair.key == key.as_bytes());
                    vec![found.map(|pair| pair.value.to_vec())]
                }
                Ok(Ok(Item::Changed { events, .. })) => events.into_iter().filter_map(of_key(key)).collect(),
            };
            for value in values {
                let value = value.and_then(|value| serde_json::from_slice(&value).ok());
                last = value.unwrap_or(Value::Null);
                if let Some(found) = chosen(&last) {
                    return found;
                }
            }
        }
        panic!("{key} never was what is waited for; last it was {last}")
    }

    /// Writes an update key, and waits for the answer of the process at `host` to it.
    #[track_caller]
    pub fn update(&self, key: &str, update: &Value, host: &str) -> Value {
        let revision = self.put(key, update.to_string());
        let id = update["id"].as_str().map_or_else(|| format!("r{revision}"), str::to_owned);
        self.awaited(&format!("{host}/feedback/{id}"), |feedback| {
            (feedback["revision"] == revision).then(|| feedback.clone())
        })
    }
}

/// What an event does to a key: a new value, or none.
fn of_key(key: &str) -> impl Fn(Event) -> Option<Option<Vec<u8>>> + '_ {
    move |event| match event {
        Event::Put(pair) => (pair.key == key.as_bytes()).then(|| Some(pair.value.to_vec())),
        Event::Deleted(gone) => (gone == key.as_bytes()).then_some(None),
    }
}

/// Every version of every key.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest revision.
    pub revision: i64,
    /// Key → revisions with values; `None`: it was deleted.
    pub keys: BTreeMap<String, Vec<(i64, Option<String>)>>,
}

impl History {
    /// The value at a revision, and the revision at which it was written.
    pub fn get(&self, key: &str, revision: i64) -> Option<(i64, &str)> {
        let versions = self.keys.get(key)?;
        let (written, value) = versions.iter().rev().find(|(written, _)| *written <= revision)?;
        Some((*written, value.as_deref()?))
    }

    /// The keys directly below a folder with their values at a revision, by their names.
    pub fn below(&self, folder: &str, revision: i64) -> BTreeMap<&str, &str> {
        let below = format!("{folder}/");
        let keys = self.keys.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
        keys.filter_map(|(key, _)| {
            let name = &key[below.len()..];
            Some((name, self.get(key, revision).filter(|_| !name.contains('/'))?.1))
        })
        .collect()
    }

    /// All versions of all keys below a folder, by revision.
    pub fn events(&self, folder: &str) -> Vec<(i64, &str, Option<&str>)> {
        let below = format!("{folder}/");
        let keys = self.keys.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
        let mut events: Vec<_> = keys
            .flat_map(|(key, versions)| {
                versions.iter().map(|(revision, value)| (*revision, &key[below.len()..], value.as_deref()))
            })
            .collect();
        events.sort_by_key(|(revision, ..)| *revision);
        events
    }
}

/// Takes down everything that happens in a store, from its beginning on.
pub struct Recorder {
    shared: Arc<(Mutex<History>, Condvar)>,
}

impl Recorder {
    /// Begins. It goes on over restarts of the store until the test ends.
    pub fn start(client_url: &str) -> Self {
        let shared: Arc<(Mutex<History>, Condvar)> = Arc::default();
        let (store, sink) = (open(client_url), Arc::downgrade(&shared));
        std::thread::spawn(move || {
            let mut watch = store.watch(&KeyPath::root(), Some(1));
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            loop {
                let item = runtime.block_on(watch.next());
                let Some(shared) = sink.upgrade() else { return };
                let (revision, events) = match item {
                    Ok(Item::Changed { revision, events }) => (revision, events),
                    Ok(Item::Listed(_)) => panic!("something was missed"),
                    Err(_) => continue,
                };
                let mut history = shared.0.lock().expect("no panic");
                for event in events {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let (key, value) = match event {
                        Event::Put(pair) => (text(&pair.key), Some(text(&pair.value))),
                        Event::Deleted(key) => (text(&key), None),
                    };
                    history.keys.entry(key).or_default().push((revision, value));
                }
                history.revision = revision;
                shared.1.notify_all();
            }
        });
        Self { shared }
    }

    /// Waits until `chosen` finds what it looks for.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut chosen: impl FnMut(&History) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut history = self.shared.0.lock().expect("no panic");
        loop {
            if let Some(found) = chosen(&history) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} does not come");
            history = self.shared.1.wait_timeout(history, left).expect("no panic").0;
        }
    }
}
