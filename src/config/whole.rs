//! The whole configuration of a host, read against the declarations. No store is asked.

use std::collections::{BTreeMap, BTreeSet};

use cfg_client::{KeyPath, Pair};
use cfg_engine::{Configuration, Limits, REF, Snapshot};
use cfg_schema::{Change, Documents, MASK, Problem};
use serde_json::Value as Json;
use volumedriver::parameters::{self, Parameters};

use super::place::Place;
use super::secret::Content;
use crate::identity::Identity;

/// References that are followed to see whether they lead to a secret.
const DEPTH: usize = 8;

/// All documents of one host, or of a directory.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    snapshot: Snapshot,
    /// Documents that are no JSON.
    broken: BTreeMap<String, Problem>,
}

/// What reading a whole configuration has found.
#[derive(Debug)]
pub(super) struct Examined {
    /// The values, if there is no problem.
    pub(super) parameters: Option<Parameters>,
    /// Everything that is wrong, secrets masked.
    pub(super) problems: Vec<Problem>,
    /// Keys that nobody declared.
    pub(super) unknown: Vec<String>,
    /// Keys that nothing acts on.
    pub(super) no_effect: Vec<String>,
    /// Parameters whose values come from places that hold secrets.
    secret: BTreeSet<(String, String)>,
}

/// The parameter that `path` (`key[0].inner`) lies in.
fn parameter(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

impl Whole {
    /// The documents `(section, text)`, which have the keys `folder`/section, if they are in the store.
    pub(super) fn new(folder: &str, documents: impl IntoIterator<Item = (String, Vec<u8>)>) -> Whole {
        let mut whole = Whole { snapshot: Snapshot::new(folder, Documents::new()), broken: BTreeMap::new() };
        for (section, text) in documents {
            whole.put(section, Some(&text));
        }
        whole
    }

    /// The documents directly below `folder`. A key that is a document and a folder too counts as the folder.
    pub(super) fn of_pairs<'p>(folder: &KeyPath, pairs: impl Iterator<Item = &'p Pair> + Clone) -> Whole {
        let path = folder.folder();
        let name = |pair: &'p Pair| str::from_utf8(&pair.key).ok()?.strip_prefix(&path);
        let folders: BTreeSet<&str> =
            pairs.clone().filter_map(name).filter_map(|name| Some(name.split_once('/')?.0)).collect();
        let documents = pairs.filter_map(|pair| {
            let section = name(pair).filter(|name| !name.contains('/') && !folders.contains(name))?;
            Some((section.to_owned(), pair.value.to_vec()))
        });
        Whole::new(folder.as_str(), documents)
    }

    /// Stores a document, or takes it away.
    pub(super) fn put(&mut self, section: String, text: Option<&[u8]>) {
        self.snapshot.documents.remove(&section);
        self.broken.remove(&section);
        match text.map(serde_json::from_slice) {
            None => {}
            Some(Ok(document)) => drop(self.snapshot.documents.insert(section, document)),
            Some(Err(error)) => {
                let problem = format!("must be a JSON object; it is no JSON: {error}");
                let problem = Problem::new(&section, "", Json::Null, problem);
                self.broken.insert(section, problem);
            }
        }
    }

    /// Whether there is no document at all.
    pub(super) fn is_empty(&self) -> bool {
        self.snapshot.documents.is_empty() && self.broken.is_empty()
    }

    /// Paths that references lead to, and that are to be read; to be asked again when that is done.
    pub(super) fn missing(&self) -> Vec<String> {
        self.snapshot.missing(&Limits::default())
    }

    /// What was read at such a path.
    pub(super) fn found(&mut self, path: String, value: Option<&[u8]>) {
        let document = value.and_then(|value| serde_json::from_slice(value).ok());
        self.snapshot.targets.insert(path, document);
    }

    /// Whether the value in which `name` (`section`, `section.key` or what lies deeper) is, is another one in `other`.
    pub(super) fn differs(&self, other: &Whole, name: &str) -> bool {
        let value = |whole: &Whole| {
            let (section, path) = name.split_once('.').unwrap_or((name, ""));
            let document = whole.snapshot.documents.get(section)?;
            if path.is_empty() { Some(document.clone()) } else { document.get(parameter(path)).cloned() }
        };
        // A name that is not found in both has a dot or a bracket in it.
        let (this, other) = (value(self), value(other));
        this.is_none() || this != other
    }

    /// Reads the documents against the declarations, the rules between parameters, and the identity of the data
    /// directory, where that is known.
    pub(super) fn examine(&self, identity: Option<&Identity>) -> Examined {
        let mut problems: Vec<Problem> = self.broken.values().cloned().collect();
        let mut documents = self.snapshot.resolve(&Limits::default()).unwrap_or_else(|unresolved| {
            // What leads nowhere is left out, so that the rest is judged too.
            let mut rest = self.snapshot.clone();
            for Problem { section, key, .. } in &unresolved {
                match rest.documents.get_mut(section).and_then(Json::as_object_mut) {
                    Some(document) if !key.is_empty() => drop(document.remove(parameter(key))),
                    _ => drop(rest.documents.remove(section)),
                }
            }
            problems.extend(unresolved);
            rest.resolve(&Limits::default()).unwrap_or_default()
        });
        if let Some(identity) = identity.filter(|_| !self.is_empty()) {
            identity.complete(&mut documents);
        }
        // With holes in it, the rules between parameters would complain about defaults.
        let reading = match problems.is_empty() {
            true => parameters::read(&documents),
            false => Parameters::read(&documents),
        };
        let parameters = match reading.parameters {
            Ok(parameters) => {
                let differences = identity.map(|identity| identity.differences(&parameters.documents()));
                problems.extend(differences.unwrap_or_default());
                Some(parameters)
            }
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| self.with_origin(problem)));
                None
            }
        };
        let secret = self.secret();
        for problem in &mut problems {
            let place = (problem.section.clone(), parameter(&problem.key).to_owned());
            if secret.contains(&place) && problem.value.get(REF).is_none() {
                problem.value = MASK.into();
            }
        }
        Examined {
            parameters: parameters.filter(|_| problems.is_empty()),
            problems,
            unknown: reading.unknown,
            no_effect: reading.no_effect,
            secret,
        }
    }

    /// Says of a refused value from where it was taken.
    fn with_origin(&self, mut problem: Problem) -> Problem {
        let document = self.snapshot.documents.get(&problem.section);
        let origin = document.and_then(|document| {
            document.get(REF).or_else(|| document.get(parameter(&problem.key))?.get(REF))
        });
        if let Some(origin) = origin {
            problem.problem = format!("{}; the value is that of {{\"$ref\":{origin}}}", problem.problem);
        }
        problem
    }

    /// Sections and parameters whose references lead to secrets.
    fn secret(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for (section, document) in &self.snapshot.documents {
            let Json::Object(members) = document else { continue };
            if members.contains_key(REF) {
                let keys = Parameters::declarations().into_iter().filter(|other| other.section == section);
                if self.leads_to_secret(document, 0) {
                    found.extend(
                        keys.flat_map(|section| section.parameters)
                            .map(|parameter| (section.clone(), parameter.key.to_owned())),
                    );
                }
                continue;
            }
            let members = members.iter().filter(|(_, value)| self.leads_to_secret(value, 0));
            found.extend(members.map(|(key, _)| (section.clone(), key.clone())));
        }
        found
    }

    fn leads_to_secret(&self, value: &Json, depth: usize) -> bool {
        match value {
            Json::Array(elements) => elements.iter().any(|element| self.leads_to_secret(element, depth)),
            Json::Object(members) => match members.get(REF).and_then(Json::as_str).map(Place::parse) {
                None => members.values().any(|member| self.leads_to_secret(member, depth)),
                Some(_) if depth == DEPTH => true,
                // Reported elsewhere; there is no value to be shown.
                Some(Err(_)) => false,
                Some(Ok(place)) => {
                    let own = place.key.as_str().strip_prefix(&self.snapshot.folder);
                    let own = own.and_then(|rest| rest.strip_prefix('/'));
                    let document = match own.and_then(|section| self.snapshot.documents.get(section)) {
                        Some(document) => document,
                        None => match self.snapshot.targets.get(place.key.as_str()) {
                            Some(Some(document)) => document,
                            _ => return false,
                        },
                    };
                    let mut masked = Content::Json(document.clone());
                    masked.mask(&place.key);
                    let Content::Json(masked) = masked else { return true };
                    match place.find(document) {
                        // Behind another reference on the way: not looked for.
                        None => true,
                        Some(value) => {
                            place.find(&masked) != Some(value) || self.leads_to_secret(value, depth + 1)
                        }
                    }
                }
            },
            _ => false,
        }
    }
}

impl Examined {
    /// What is different in `new`; nothing, if one of the two is not valid.
    pub(super) fn changes(&self, new: &Examined) -> Vec<Change> {
        let (Some(old), Some(values)) = (&self.parameters, &new.parameters) else { return Vec::new() };
        let mut changes = Configuration::changes(old, values);
        for change in &mut changes {
            let place = (change.section.to_owned(), change.key.to_owned());
            if self.secret.contains(&place) || new.secret.contains(&place) {
                (change.old, change.new) = (MASK.to_owned(), MASK.to_owned());
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FOLDER: &str = "/ovs/vpools/g/hosts/h/config";

    fn whole(documents: Json) -> Whole {
        let documents: Documents = serde_json::from_value(documents).expect("an object");
        Whole::new(FOLDER, documents.into_iter().map(|(section, d)| (section, d.to_string().into_bytes())))
    }

    fn lines(examined: &Examined) -> Vec<String> {
        examined.problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let mut whole = whole(json!({
            "scocache": {"trigger_gap": {"$ref": "/gone"}, "segment_size": "x"},
            "nbd": {"nbd_port": 70_000, "colour": 1},
            "odd": {},
        }));
        whole.put("filesystem".to_owned(), Some(b"{"));
        assert_eq!(whole.missing(), ["/gone"]);
        whole.found("/gone".to_owned(), None);
        let examined = whole.examine(None);
        let found = lines(&examined);
        for part in ["filesystem = null", "scocache.trigger_gap = {\"$ref\"", "segment_size", "nbd.nbd_port"]
        {
            assert_eq!(found.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {found:#?}");
        }
        assert_eq!((found.len(), examined.unknown), (4, vec!["nbd.colour".to_owned(), "odd".to_owned()]));
    }

    #[test]
    fn values_behind_references_are_judged_and_their_secrets_masked() {
        let mut whole = whole(json!({
            "nbd": {"nbd_port": {"$ref": "/ports|nbd"}, "nbd_max_connections": {"$ref": "/ports|password"}},
        }));
        whole.found("/ports".to_owned(), Some(br#"{"nbd": 70000, "password": "hush"}"#));
        let found = lines(&whole.examine(None));
        assert!(found[0].contains("70000") && found[0].contains("/ports|nbd"), "{found:#?}");
        assert!(found[1].contains("***") && !found.concat().contains("hush"), "{found:#?}");
        let mut before = whole.clone();
        for (whole, text) in
            [(&mut before, r#"{"nbd": 1, "password": 8}"#), (&mut whole, r#"{"nbd": 2, "password": 9}"#)]
        {
            whole.found("/ports".to_owned(), Some(text.as_bytes()));
        }
        let changes = before.examine(None).changes(&whole.examine(None));
        let shown: Vec<_> = changes.iter().map(|c| (c.key, c.old.as_str(), c.new.as_str())).collect();
        assert!(shown.contains(&("nbd_port", "1", "2")), "{shown:?}");
        assert!(shown.contains(&("nbd_max_connections", "***", "***")), "{shown:?}");
    }

    #[test]
    fn what_a_change_brings_is_told_from_what_was_there() {
        let before = whole(json!({"nbd": {"colour": 1, "a.b": 1}, "odd": {}}));
        let after = whole(json!({"nbd": {"colour": 1, "shape": 2, "a.b": 1}, "odd": {}}));
        for (name, differs) in [("nbd.colour", false), ("nbd.shape", true), ("odd", false), ("nbd.a.b", true)]
        {
            assert_eq!(after.differs(&before, name), differs, "{name}");
        }
    }
}
