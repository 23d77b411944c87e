//! Reading what is stored for a process: everything at one revision.

use std::collections::BTreeMap;

use cfg_client::{Content, Error, KeyPath, Store};
use cfg_engine::{
    Feedback, Limits, ReadFailure, Reading, Scope, Snapshot, Standing, Update, UpdateKey, is_id,
};
use cfg_schema::{Documents, Problem};
use serde_json::Value as Json;

use super::place::Place;

/// What is stored, with the cluster that says so.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The store's cluster.
    pub(crate) cluster_id: u64,
    /// Documents and what they refer to, and whether the process is frozen.
    pub(crate) reading: Reading,
}

/// What the engine is told of a read that failed.
pub(crate) fn failure(error: &Error) -> ReadFailure {
    match error {
        Error::Compacted => ReadFailure::Compacted,
        _ => ReadFailure::Away,
    }
}

/// Reads all documents and what they refer to; without `revision` as they are now. With `rollout` its change set is
/// laid over them. No document at all is an empty set; what is there and cannot be used is a problem of the snapshot.
pub(crate) async fn read(
    store: &Store,
    place: &Place,
    revision: Option<i64>,
    rollout: Option<&str>,
    limits: &Limits,
) -> Result<Stored, Error> {
    let ranges = [&(&place.config).into(), &place.config.below(), &(&place.frozen).into()];
    let [own, below, frozen] = store.list_together(ranges, Content::Values, revision).await?;
    let listing = own.followed_by(below);
    let (revision, cluster_id) = (listing.revision, listing.cluster_id);
    let mut problems = Vec::new();
    let documents = match cfg_client::documents(&place.config, &listing) {
        Ok(snapshot) => snapshot.documents,
        Err(Error::Absent { .. }) => Documents::new(),
        Err(error) => {
            problems.push(unusable(place, &error));
            Documents::new()
        }
    };
    let mut snapshot = Snapshot::new(place.config.as_str(), documents);
    if let Some(rollout) = rollout {
        match changes_of(store, place, rollout, revision).await? {
            Ok(changes) => snapshot.lay_over(&changes),
            Err(problem) => problems.push(problem),
        }
    }
    snapshot.problems = problems;
    loop {
        let missing = snapshot.missing(limits);
        if missing.is_empty() {
            break;
        }
        for path in missing {
            match target(store, &path, revision).await? {
                Ok(target) => drop(snapshot.targets.insert(path, target)),
                Err(problem) => snapshot.problems.push(problem),
            }
        }
    }
    let frozen = !frozen.pairs.is_empty();
    Ok(Stored { cluster_id, reading: Reading { revision, snapshot, frozen } })
}

/// Documents that cannot be used: of one of them, if the error is about one.
fn unusable(place: &Place, error: &Error) -> Problem {
    let section = match error {
        Error::Syntax { place: key, .. } | Error::TooLarge { place: key, .. } => {
            key.strip_prefix(&place.config.folder()).unwrap_or_default()
        }
        _ => "",
    };
    Problem::new(section, "", Json::Null, error.to_string())
}

/// A document that is referred to; `None`: there is none. The inner error: it cannot be used.
async fn target(store: &Store, path: &str, revision: i64) -> Result<Result<Option<Json>, Problem>, Error> {
    let Ok(key) = KeyPath::parse(path) else { return Ok(Ok(None)) };
    match store.get(&key, Some(revision)).await {
        Ok(pair) => Ok(serde_json::from_slice(&pair.value).map(Some).map_err(|error| {
            let problem = format!("{path} is referred to, and is no JSON: {error}");
            Problem::new("", "", Json::Null, problem)
        })),
        Err(Error::Absent { .. }) => Ok(Ok(None)),
        Err(error) => Err(error),
    }
}

/// New documents by path; `None`: it goes.
type Changes = BTreeMap<String, Option<Json>>;

/// The change set of a roll-out: `{"changes": {"/path": document or null}}`. The inner error: there is none.
async fn changes_of(
    store: &Store,
    place: &Place,
    rollout: &str,
    revision: i64,
) -> Result<Result<Changes, Problem>, Error> {
    let refused = |problem: String| {
        Ok(Err(Problem::new("update", "rollout", Json::String(rollout.to_owned()), problem)))
    };
    let key = match place.rollouts.join(rollout) {
        Ok(key) => key,
        Err(error) => return refused(error.to_string()),
    };
    let document = match target(store, key.as_str(), revision).await? {
        Ok(Some(document)) => document,
        Ok(None) => return refused(format!("there is no roll-out at {key}")),
        Err(problem) => return Ok(Err(problem)),
    };
    let Some(changes) = document.get("changes").and_then(Json::as_object) else {
        return refused(format!("{key} has no change set"));
    };
    let change = |(path, new): (&String, &Json)| (path.clone(), (!new.is_null()).then(|| new.clone()));
    Ok(Ok(changes.iter().map(change).collect()))
}

/// The ids that the answer to an update key may have.
pub(crate) fn answer_ids(key: &UpdateKey, update_bytes: usize) -> Vec<String> {
    let own = match Update::read(&key.value, update_bytes) {
        Ok(update) => Some(update.id),
        Err(malformed) => malformed.id,
    };
    own.into_iter().chain([format!("r{}", key.revision)]).filter(|id| is_id(id)).collect()
}

/// The update keys that stand now, and whether this process has answered them.
pub(crate) async fn standing(
    store: &Store,
    place: &Place,
    revision: Option<i64>,
    update_bytes: usize,
) -> Result<Vec<Standing>, Error> {
    let mut all = Vec::new();
    for (scope, key) in [(Scope::Host, &place.update), (Scope::VPool, &place.vpool_update)] {
        let pair = match store.get(key, revision).await {
            Ok(pair) => pair,
            Err(Error::Absent { .. }) => continue,
            Err(error) => return Err(error),
        };
        let key = UpdateKey { scope, revision: pair.mod_revision, value: pair.value.to_vec() };
        let mut answered = false;
        for id in &answer_ids(&key, update_bytes) {
            match store.get(&place.feedback.join(id)?, revision).await {
                Ok(feedback) => {
                    let written = Feedback::read(&feedback.value);
                    answered |= written.is_ok_and(|feedback| feedback.revision == pair.mod_revision);
                }
                Err(Error::Absent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        all.push(Standing { key, answered });
    }
    Ok(all)
}
