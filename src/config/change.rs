//! Changes of documents: each with its entries of the history and its guards, in one transaction.

use std::collections::BTreeSet;

use cfg_client::{
    Compare, Content as ListContent, DOCUMENT_LIMIT, Error, KeyPath, Pair, Proof, Store, Transaction, Write,
};

use super::history::{self, HISTORY, Head};
use super::secret::{Content, Hasher, Hashes};
use super::{author, failure_of};
use crate::failure::{Failure, Kind};

/// Keys of one atomic change.
pub(crate) const KEYS: usize = 60;

/// Bytes of one atomic change, history included; the first lines of entries come on top.
pub(crate) const BYTES: usize = 1 << 20;

/// Compares of one transaction; etcd takes 128, of which the proof and a journal need one each.
const COMPARES: usize = 126;

/// Bytes of all first lines of one change.
const HEADS: usize = 192 << 10;

/// A new state of one key.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    /// The key.
    pub(crate) key: KeyPath,
    /// What it had when it was read; `None`: nothing.
    pub(crate) before: Option<Pair>,
    /// What it shall have; `None`: it goes.
    pub(crate) after: Option<Vec<u8>>,
    /// The other key of a rename.
    pub(crate) other: Option<KeyPath>,
}

/// Who changes, why, and how.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    /// Of the change; in the names of its entries.
    pub(crate) id: String,
    /// What is done: set, delete, …
    pub(crate) action: &'static str,
    /// `user@host`
    pub(crate) by: String,
    /// When.
    pub(crate) time: String,
    /// The author's words.
    pub(crate) note: Option<String>,
}

impl Intent {
    /// This user, now.
    pub(crate) fn new(action: &'static str, note: Option<String>) -> Result<Intent, Failure> {
        let id = cfg_client::random_id().map_err(failure_of)?;
        Ok(Intent { id, action, by: author::author(), time: author::now(), note })
    }
}

/// Edits that fit one transaction, ready to be carried out.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    transaction: Transaction,
}

/// Whether `ovs` itself keeps this key.
pub(crate) fn is_internal(key: &[u8]) -> bool {
    [HISTORY, cfg_client::MARKERS]
        .iter()
        .any(|path| key.strip_prefix(path.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
}

/// Refuses what cannot be stored, whoever asks for it.
pub(crate) fn check(edits: &[Edit]) -> Result<(), Failure> {
    let rejected = |message: String| Err(Failure::new(Kind::Rejected, message));
    let created: BTreeSet<&KeyPath> =
        edits.iter().filter(|edit| edit.after.is_some()).map(|edit| &edit.key).collect();
    for edit in edits {
        if edit.key.is_root() || is_internal(edit.key.as_str().as_bytes()) {
            return rejected(format!("{} is kept by ovs itself and cannot be changed", edit.key));
        }
        let Some(after) = &edit.after else { continue };
        if after.len() > DOCUMENT_LIMIT {
            let (limit, length) = (DOCUMENT_LIMIT >> 10, after.len());
            return rejected(format!(
                "{} would have {length} bytes; a document has at most {limit} KiB",
                edit.key
            ));
        }
        if let Some(parent) = edit.key.parents().iter().find(|parent| created.contains(parent)) {
            return rejected(format!("{parent} would be a document and, because of {}, a folder", edit.key));
        }
    }
    Ok(())
}

/// Finds documents above and keys below what is to be created. The transaction compares the same again.
pub(crate) async fn check_places(store: &Store, edits: &[Edit]) -> Result<(), Failure> {
    let going: BTreeSet<&KeyPath> =
        edits.iter().filter(|edit| edit.after.is_none()).map(|edit| &edit.key).collect();
    let mut known = BTreeSet::new();
    for edit in edits.iter().filter(|edit| edit.before.is_none() && edit.after.is_some()) {
        for parent in edit.key.parents() {
            if going.contains(&parent) || !known.insert(parent.clone()) {
                continue;
            }
            match store.get(&parent, None).await {
                Err(Error::Absent { .. }) => {}
                Ok(_) => {
                    let key = &edit.key;
                    let message = format!(
                        "{parent} is a document, so there can be no {key} below it; delete or rename it"
                    );
                    return Err(Failure::new(Kind::Conflict, message));
                }
                Err(error) => return Err(failure_of(error)),
            }
        }
        if !store.list(&edit.key.below(), ListContent::Keys, None).await.map_err(failure_of)?.pairs.is_empty()
        {
            let message =
                format!("{} is a folder, so it cannot be a document too; choose another key", edit.key);
            return Err(Failure::new(Kind::Conflict, message));
        }
    }
    Ok(())
}

/// The key of the hashes, if any value of these edits has a secret.
pub(crate) async fn hasher_for(store: &Store, edits: &[Edit]) -> Result<Option<Hasher>, Failure> {
    let has_secret = |key: &KeyPath, value: &[u8]| !Content::of(value).mask(key).is_empty();
    let any = edits.iter().any(|edit| {
        edit.after.as_ref().is_some_and(|after| has_secret(&edit.key, after))
            || edit.before.as_ref().is_some_and(|before| has_secret(&edit.key, &before.value))
    });
    if any { history::hasher(store).await.map(Some) } else { Ok(None) }
}

/// Splits edits into transactions, with the number of edits in each. One batch: the change is atomic.
pub(crate) fn batches(
    edits: &[Edit],
    intent: &Intent,
    hasher: Option<&Hasher>,
) -> Result<(Vec<Batch>, Vec<usize>), Failure> {
    let (mut batches, mut sizes) = (Vec::new(), Vec::new());
    let mut rest = edits;
    while !rest.is_empty() {
        let mut draft = Draft::default();
        let mut taken = 0;
        while taken < rest.len() && draft.push(&rest[taken], rest, intent, hasher)? {
            taken += 1;
        }
        if taken == 0 {
            let message = format!("the change of {} is too large for one transaction", rest[0].key);
            return Err(Failure::new(Kind::Rejected, message));
        }
        batches.push(draft.finish());
        sizes.push(taken);
        rest = &rest[taken..];
    }
    Ok((batches, sizes))
}

/// A batch that is being filled.
#[derive(Default)]
struct Draft {
    compares: Vec<Compare>,
    parents: BTreeSet<KeyPath>,
    writes: Vec<Write>,
    keys: usize,
    bytes: usize,
    heads: usize,
}

impl Draft {
    /// Takes an edit in, if it still fits.
    fn push(
        &mut self,
        edit: &Edit,
        all: &[Edit],
        intent: &Intent,
        hasher: Option<&Hasher>,
    ) -> Result<bool, Failure> {
        let head = Head {
            time: intent.time.clone(),
            by: intent.by.clone(),
            action: intent.action.to_owned(),
            note: intent.note.clone(),
            previous: edit.before.as_ref().map_or(0, |pair| pair.mod_revision),
            version: match (&edit.before, &edit.after) {
                (_, None) => 0,
                (before, Some(_)) => before.as_ref().map_or(0, |pair| pair.version) + 1,
            },
            written: None,
            deleted: false,
            other: edit.other.as_ref().map(KeyPath::to_string),
            secrets: Hashes::new(),
        };
        let entry = history::encode(head, &edit.key, edit.after.as_deref(), hasher);
        let name = history::folder(&edit.key)?.join(&intent.id).map_err(failure_of)?;
        let value = edit.after.as_ref().map_or(0, Vec::len);
        let head = entry.len().saturating_sub(value);
        let mut parents = BTreeSet::new();
        let mut compares = 1;
        if edit.before.is_none() {
            let going = |parent: &KeyPath| all.iter().any(|edit| edit.key == *parent && edit.after.is_none());
            parents.extend(
                edit.key.parents().into_iter().filter(|key| !self.parents.contains(key) && !going(key)),
            );
            compares += 1 + parents.len();
        }
        let fits = self.keys < KEYS
            && self.bytes + 2 * value <= BYTES
            && self.heads + head <= HEADS
            && self.compares.len() + compares <= COMPARES;
        if !fits {
            return Ok(false);
        }
        self.keys += 1;
        self.bytes += 2 * value;
        self.heads += head;
        let unchanged = |key: &KeyPath, mod_revision| Compare::Unchanged { key: key.clone(), mod_revision };
        self.compares.push(unchanged(&edit.key, edit.before.as_ref().map_or(0, |pair| pair.mod_revision)));
        if edit.before.is_none() {
            self.compares.push(Compare::Absent(edit.key.below()));
            self.compares.extend(parents.iter().map(|parent| unchanged(parent, 0)));
            self.parents.extend(parents);
        }
        self.writes.push(match &edit.after {
            Some(after) => Write::put(&edit.key, after.clone()),
            None => Write::Delete((&edit.key).into()),
        });
        self.writes.push(Write::put(&name, entry));
        Ok(true)
    }

    fn finish(self) -> Batch {
        Batch { transaction: Transaction { compares: self.compares, writes: self.writes } }
    }
}

impl Batch {
    /// How many more compares it can take.
    pub(crate) fn room(&self) -> usize {
        COMPARES.saturating_sub(self.transaction.compares.len())
    }

    /// Carries it out, with more compares and writes of the caller's; returns the revision.
    pub(crate) async fn apply(mut self, store: &Store, more: Transaction) -> Result<i64, Error> {
        self.transaction.compares.extend(more.compares);
        self.transaction.writes.extend(more.writes);
        // The entry of the history would do as proof, but a conflict is final only with a marker.
        store.change(self.transaction, Proof::Marker).await
    }
}

/// Records what others wrote to the keys of `edits` since `ovs` last did, and makes room for one more entry each.
pub(crate) async fn record_found(
    store: &Store,
    edits: &[Edit],
    hasher: Option<&Hasher>,
) -> Result<(), Failure> {
    for edit in edits {
        if let Some(before) = &edit.before {
            let known = history::record_found(store, before, &edit.key, hasher).await?;
            history::trim(store, known).await?;
        }
    }
    Ok(())
}
