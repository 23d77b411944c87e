//! The history of keys: `/ovs/history/<key with its slashes as %2F>/<id>`, one entry for each change of a key.
//!
//! Invariants. An entry is written in the transaction of its change, so the revision that created the entry is the one
//! at which the key was changed: that is the `REV` that users name. An entry says at which revision the value before
//! was written; where that is not the entry before it, others changed the key in between, and a gap is shown.
//! A value that others wrote and that `ovs` meets gets an entry `found-<its revision>` of its own.

use cfg_client::{
    Compare, Content as ListContent, KeyPath, KeyRange, Pair, Proof, Store, Transaction, Write,
};
use serde::{Deserialize, Serialize};

use super::secret::{Content, Hasher, Hashes};
use super::{author, failure_of};
use crate::failure::Failure;

/// Where history is kept.
pub(crate) const HISTORY: &str = "/ovs/history";

/// The key of the hashes.
const HASH_KEY: &str = "/ovs/history/key";

/// Entries kept of one key.
pub(crate) const ENTRIES: usize = 100;

/// The author of what others wrote.
const UNKNOWN: &str = "unknown";

/// The first line of an entry; behind it stands the value as it was stored, secrets masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// When; of what others wrote, when it was found.
    pub(crate) time: String,
    /// `user@host`
    pub(crate) by: String,
    /// What was done: set, edit, delete, rename, revert, import, apply, freeze, thaw, rollout, undo, found.
    pub(crate) action: String,
    /// What the author says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// Revision at which the value before was written; 0: there was none, or it is not known.
    pub(crate) previous: i64,
    /// Writes of the key since it was created, this one included; 0: it is gone.
    pub(crate) version: i64,
    /// Revision at which this value was written, if others wrote it; else it is that of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) written: Option<i64>,
    /// The key is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleted: bool,
    /// The other key of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) other: Option<String>,
    /// Keyed hashes of the secrets.
    #[serde(default, skip_serializing_if = "Hashes::is_empty")]
    pub(crate) secrets: Hashes,
}

/// An entry as it is in the store.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `REV`.
    pub(crate) revision: i64,
    /// Its first line.
    pub(crate) head: Head,
    /// The value as it was stored, secrets masked.
    pub(crate) text: Vec<u8>,
    /// The same, understood.
    pub(crate) value: Content,
}

impl Entry {
    fn parse(pair: &Pair) -> Result<Entry, Failure> {
        let place = String::from_utf8_lossy(&pair.key).into_owned();
        let damaged =
            |problem: String| Failure::failed(format!("{place} is no entry of a history: {problem}"));
        let end = pair.value.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| damaged("it has no first line".to_owned()))?;
        let head = serde_json::from_slice(&pair.value[..end]).map_err(|error| damaged(error.to_string()))?;
        let text = pair.value[end + 1..].to_vec();
        Ok(Entry { revision: pair.create_revision, head, value: Content::of(&text), text })
    }

    /// Whether others changed the key between the entry `before` this one and this one, without a trace.
    pub(crate) fn has_gap(&self, before: Option<&Entry>) -> bool {
        if self.head.written.is_some() {
            return self.head.version != before.map_or(0, |before| before.head.version) + 1;
        }
        self.head.previous != before.map_or(0, Entry::written)
    }

    /// Revision at which the value of this entry was written; 0: the key went.
    fn written(&self) -> i64 {
        if self.head.deleted { 0 } else { self.head.written.unwrap_or(self.revision) }
    }
}

/// The folder with the entries of a key.
pub(crate) fn folder(key: &KeyPath) -> Result<KeyPath, Failure> {
    let escaped = key.as_str().replace('%', "%25").replace('/', "%2F");
    KeyPath::parse(&format!("{HISTORY}/{escaped}")).map_err(failure_of)
}

/// The entries of a key, the oldest first.
pub(crate) async fn entries(store: &Store, key: &KeyPath) -> Result<Vec<Entry>, Failure> {
    let listing = store.list(&folder(key)?.below(), ListContent::Values, None).await.map_err(failure_of)?;
    let mut entries: Vec<Entry> = listing.pairs.iter().map(Entry::parse).collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.revision);
    Ok(entries)
}

/// The entry that users call `REV`.
pub(crate) fn find(entries: &[Entry], key: &KeyPath, revision: i64) -> Result<Entry, Failure> {
    let found = entries.iter().find(|entry| entry.revision == revision).cloned();
    found.ok_or_else(|| {
        Failure::not_found(format!(
            "the history of {key} has no entry {revision}; `ovs config history {key}` shows which it has"
        ))
    })
}

/// An entry as bytes, and the masked value in it.
pub(crate) fn encode(
    mut head: Head,
    key: &KeyPath,
    value: Option<&[u8]>,
    hasher: Option<&Hasher>,
) -> Vec<u8> {
    let mut text = Vec::new();
    match value {
        None => head.deleted = true,
        Some(value) => {
            let mut content = Content::of(value);
            let secrets = content.mask(key);
            head.secrets = hasher.map(|hasher| hasher.hashes(key, &secrets)).unwrap_or_default();
            text = if secrets.is_empty() { value.to_vec() } else { content.bytes() };
        }
    }
    // A struct of strings and numbers always becomes JSON.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend(text);
    bytes
}

/// Gives a value that others wrote an entry, if it has none. Returns the keys of the entries there were.
pub(crate) async fn record_found(
    store: &Store,
    pair: &Pair,
    key: &KeyPath,
    hasher: Option<&Hasher>,
) -> Result<Vec<Pair>, Failure> {
    let folder = folder(key)?;
    let known = store.list(&folder.below(), ListContent::Keys, None).await.map_err(failure_of)?.pairs;
    let name = folder.join(&format!("found-{}", pair.mod_revision)).map_err(failure_of)?;
    let recorded =
        |entry: &Pair| entry.create_revision == pair.mod_revision || entry.key == name.as_str().as_bytes();
    if known.iter().any(recorded) {
        return Ok(known);
    }
    let head = Head {
        time: author::now(),
        by: UNKNOWN.to_owned(),
        action: "found".to_owned(),
        note: None,
        previous: 0,
        version: pair.version,
        written: Some(pair.mod_revision),
        deleted: false,
        other: None,
        secrets: Hashes::new(),
    };
    let transaction = Transaction {
        compares: vec![Compare::Unchanged { key: key.clone(), mod_revision: pair.mod_revision }],
        writes: vec![Write::put(&name, encode(head, key, Some(&pair.value), hasher))],
    };
    match store.change(transaction, Proof::Key(name)).await {
        // Changed again, or recorded by someone else: what follows finds out.
        Ok(_) | Err(cfg_client::Error::Conflict) => Ok(known),
        Err(error) => Err(failure_of(error)),
    }
}

/// Drops the oldest entries, so that one more makes [`ENTRIES`] at most.
pub(crate) async fn trim(store: &Store, mut entries: Vec<Pair>) -> Result<(), Failure> {
    let surplus = (entries.len() + 1).saturating_sub(ENTRIES);
    entries.sort_by_key(|entry| entry.create_revision);
    for entry in &entries[..surplus] {
        // The next change tries again.
        if let Err(error) = store.delete(&KeyRange::key(entry.key.to_vec())).await {
            tracing::debug!(%error, "an old entry of a history was not removed");
        }
    }
    Ok(())
}

/// The key of the hashes; made when it is needed for the first time.
pub(crate) async fn hasher(store: &Store) -> Result<Hasher, Failure> {
    let place = KeyPath::parse(HASH_KEY).map_err(failure_of)?;
    loop {
        match store.get(&place, None).await {
            Ok(pair) => return Ok(Hasher::new(&pair.value)),
            Err(cfg_client::Error::Absent { .. }) => {}
            Err(error) => return Err(failure_of(error)),
        }
        let id = || cfg_client::random_id().map_err(failure_of);
        let fresh = format!("{}{}", id()?, id()?);
        let made = Transaction {
            compares: vec![Compare::Absent(KeyRange::from(&place))],
            writes: vec![Write::put(&place, fresh)],
        };
        match store.change(made, Proof::Marker).await {
            // Whoever made it: now it is there.
            Ok(_) | Err(cfg_client::Error::Conflict) => {}
            Err(error) => return Err(failure_of(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as the page docs/formats/config-history.md shows it.
    const GOLDEN: &str = concat!(
        r#"{"time":"2026-11-21T17:34:56Z","by":"user@host","action":"set","note":"why","previous":812,"version":3,"#,
        r#""secrets":{"/s3/password":"746abf52f46d879201369f324041471d"}}"#,
        "\n",
        r#"{"s3":{"password":"***","user":"u"}}"#
    );

    fn key() -> KeyPath {
        KeyPath::parse("/b/main").expect("a key")
    }

    fn head() -> Head {
        Head {
            time: "2026-11-21T17:34:56Z".to_owned(),
            by: "user@host".to_owned(),
            action: "set".to_owned(),
            note: Some("why".to_owned()),
            previous: 812,
            version: 3,
            written: None,
            deleted: false,
            other: None,
            secrets: Hashes::new(),
        }
    }

    fn parse(value: &[u8]) -> Result<Entry, Failure> {
        Entry::parse(&Pair {
            key: "/ovs/history/x/1".into(),
            value: value.to_vec().into(),
            create_revision: 813,
            mod_revision: 813,
            version: 1,
            lease: 0,
        })
    }

    #[test]
    fn an_entry_is_a_line_and_the_value() {
        let value = br#"{"s3": {"user": "u", "password": "p"}}"#;
        let encoded = encode(head(), &key(), Some(value), Some(&Hasher::new(b"key")));
        assert_eq!(String::from_utf8_lossy(&encoded), GOLDEN);
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats/config-history.md"));
        let page: String = page.expect("the page").lines().map(str::trim_start).collect();
        assert!(page.contains(&GOLDEN.replace('\n', "")), "the example of the page");
        let entry = parse(&encoded).expect("parsed");
        assert_eq!((entry.revision, entry.head.by.as_str(), entry.written()), (813, "user@host", 813));
        assert!(!entry.value.bytes().is_empty() && entry.head.secrets.len() == 1);
        let gone = parse(&encode(head(), &key(), None, None)).expect("parsed");
        assert!(gone.head.deleted && gone.text.is_empty() && gone.written() == 0);
        let plain = encode(head(), &key(), Some(b"no JSON\n\xff"), None);
        assert_eq!(parse(&plain).expect("parsed").text, b"no JSON\n\xff", "as it was stored");
        for damaged in [&b""[..], b"{}", b"{}\n", b"x\n{}"] {
            assert!(
                parse(damaged).is_err_and(|failure| failure.to_string().contains("no entry of a history"))
            );
        }
    }
}
