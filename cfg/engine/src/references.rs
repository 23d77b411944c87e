//! References in documents: `{"$ref":"/path"}` stands for the document of that path, `{"$ref":"/path|x.y"}` for a value
//! in it. They are resolved when documents are read, with targets of the same revision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cfg_schema::{Documents, Problem};
use serde_json::{Map, Value as Json, json};

/// The key of a reference.
pub const REF: &str = "$ref";

/// Longest path, in bytes: that of a key of the store.
const PATH_LIMIT: usize = 1024;

/// Most problems that one resolution reports.
const PROBLEMS: usize = 64;

/// Bounds of references.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// References that lead to one another. Default: 8.
    pub depth: usize,
    /// Different paths that are referred to. Default: 256.
    pub targets: usize,
    /// Bytes of all documents with their references resolved, roughly. Default: 16 MiB.
    pub bytes: usize,
    /// Lists and objects inside each other, with references resolved. Default: 100, as a last good copy must be read
    /// again, and JSON is read up to 128.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth: 8, targets: 256, bytes: 16 << 20, nesting: 100 }
    }
}

/// Paths that are referred to with their documents; `None`: no document is there.
pub type Targets = BTreeMap<String, Option<Json>>;

/// Everything that was read for a process at one revision. Documents may hold secrets, so `Debug` shows their names.
#[derive(Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The path that the sections lie below, such as `/ovs/vpools/GUID/hosts/ID/config`. A reference into it needs no
    /// further reading.
    pub folder: String,
    /// The documents by section, as they are stored.
    pub documents: Documents,
    /// What else was read, at the same revision.
    pub targets: Targets,
    /// What is stored and cannot be used, such as a document that is no JSON: then nothing is resolved.
    pub problems: Vec<Problem>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (documents, targets) = (self.documents.keys(), self.targets.keys());
        let (documents, targets): (Vec<_>, Vec<_>) = (documents.collect(), targets.collect());
        let mut shown = f.debug_struct("Snapshot");
        shown.field("folder", &self.folder).field("documents", &documents).field("targets", &targets).finish()
    }
}

impl Snapshot {
    /// The documents below `folder`, and no target yet.
    pub fn new(folder: &str, documents: Documents) -> Snapshot {
        Snapshot { folder: folder.to_owned(), documents, ..Snapshot::default() }
    }

    /// Puts `changes` (path → new document, `None`: it goes) in place of what was read, as if they were stored.
    pub fn lay_over(&mut self, changes: &BTreeMap<String, Option<Json>>) {
        for (path, document) in changes {
            match (self.section(path).map(str::to_owned), document) {
                (Some(section), Some(document)) => drop(self.documents.insert(section, document.clone())),
                (Some(section), None) => drop(self.documents.remove(&section)),
                (None, document) => drop(self.targets.insert(path.clone(), document.clone())),
            }
        }
    }

    /// Paths that must be read (at the same revision) and put into `targets` before references can be resolved. To be
    /// asked again after that, until there are none: targets may have references of their own. Ends within
    /// [`Limits::targets`].
    pub fn missing(&self, limits: &Limits) -> Vec<String> {
        if !self.problems.is_empty() {
            return Vec::new();
        }
        let mut resolver = Resolver::new(self, limits);
        resolver.documents();
        let room = limits.targets.saturating_sub(self.targets.len());
        resolver.missing.into_iter().take(room).collect()
    }

    /// The documents with a value in place of each reference.
    ///
    /// # Errors
    /// What cannot be used, or else what cannot be resolved, each with the paths that lead there. Values are not part
    /// of a problem: they may be secret.
    pub fn resolve(&self, limits: &Limits) -> Result<Documents, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems.clone());
        }
        let mut resolver = Resolver::new(self, limits);
        let documents = resolver.documents();
        if resolver.problems.is_empty() { Ok(documents) } else { Err(resolver.problems) }
    }

    /// The section whose document has this path.
    fn section<'p>(&self, path: &'p str) -> Option<&'p str> {
        let section = path.strip_prefix(&self.folder)?.strip_prefix('/')?;
        (!self.folder.is_empty() && !section.contains('/')).then_some(section)
    }

    /// The document of `path`; the outer `None`: nobody looked.
    fn find(&self, path: &str) -> Option<Option<&Json>> {
        match self.section(path) {
            Some(section) => Some(self.documents.get(section)),
            None => self.targets.get(path).map(Option::as_ref),
        }
    }
}

/// A value that is referred to.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    path: String,
    /// Names of members and indexes of lists, from the outside; empty: the whole document.
    steps: Vec<String>,
}

impl Place {
    /// Reads `/a/b/c` or `/a/b/c|x.y`.
    fn parse(text: &str) -> Result<Place, String> {
        let (path, steps) = match text.split_once('|') {
            None => (text, Vec::new()),
            Some((path, steps)) => (path, steps.split('.').map(str::to_owned).collect()),
        };
        let parts = path.strip_prefix('/').filter(|_| path.len() <= PATH_LIMIT);
        let is_name = |part: &str| !matches!(part, "" | "." | "..");
        if !parts.is_some_and(|parts| parts.split('/').all(is_name)) || path.contains(char::is_control) {
            return Err("must refer to a path such as /ovs/framework/defaults".to_owned());
        }
        if steps.iter().any(String::is_empty) {
            return Err("must have names joined by single dots behind |, such as |x.y".to_owned());
        }
        Ok(Place { path: path.to_owned(), steps })
    }

    fn text(&self) -> String {
        if self.steps.is_empty() {
            self.path.clone()
        } else {
            format!("{}|{}", self.path, self.steps.join("."))
        }
    }
}

/// The place that `object` refers to; `None`: it is no reference.
fn reference(object: &Map<String, Json>) -> Option<Result<Place, String>> {
    let target = object.get(REF)?;
    let others: Vec<&str> = object.keys().map(String::as_str).filter(|key| *key != REF).collect();
    if !others.is_empty() {
        return Some(Err(format!("must have no other keys beside $ref: {}", others.join(", "))));
    }
    Some(match target {
        Json::String(text) => Place::parse(text),
        _ => Err("must refer to a path: a text such as \"/ovs/framework/defaults\"".to_owned()),
    })
}

/// One walk through documents and what they refer to.
struct Resolver<'s> {
    snapshot: &'s Snapshot,
    limits: &'s Limits,
    /// Bytes of the result so far.
    bytes: usize,
    /// Lists and objects around the value that is looked at.
    nesting: usize,
    missing: BTreeSet<String>,
    problems: Vec<Problem>,
    /// The reference in a document of the process that is being resolved: section and key.
    origin: (String, String),
    /// The places that led here.
    chain: Vec<String>,
}

impl<'s> Resolver<'s> {
    fn new(snapshot: &'s Snapshot, limits: &'s Limits) -> Resolver<'s> {
        let origin = (String::new(), String::new());
        Resolver {
            snapshot,
            limits,
            bytes: 0,
            nesting: 0,
            missing: BTreeSet::new(),
            problems: Vec::new(),
            origin,
            chain: Vec::new(),
        }
    }

    fn documents(&mut self) -> Documents {
        let snapshot = self.snapshot;
        let mut resolved = Documents::new();
        for (section, document) in &snapshot.documents {
            self.origin = (section.clone(), String::new());
            let document = self.value(document, "");
            resolved.insert(section.clone(), document);
        }
        resolved
    }

    /// `value` with its references resolved. `key` is its place in the process's own document.
    fn value(&mut self, value: &Json, key: &str) -> Json {
        if !self.count(value) {
            return Json::Null;
        }
        match value {
            Json::Object(members) => match reference(members) {
                Some(target) => {
                    if self.chain.is_empty() {
                        key.clone_into(&mut self.origin.1);
                    }
                    match target {
                        Ok(place) => self.follow(&place),
                        Err(problem) => self.refuse(members.get(REF), &problem),
                    }
                }
                None => self.inside(key, |resolver| {
                    let inner = |name: &str| {
                        if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
                    };
                    let members = members.iter();
                    members.map(|(name, value)| (name.clone(), resolver.value(value, &inner(name)))).collect()
                }),
            },
            Json::Array(elements) => self.inside(key, |resolver| {
                let elements = elements.iter().enumerate();
                elements.map(|(index, element)| resolver.value(element, &format!("{key}[{index}]"))).collect()
            }),
            scalar => scalar.clone(),
        }
    }

    /// Resolves the inside of a list or an object, if it is not too deep.
    fn inside(&mut self, key: &str, resolve: impl FnOnce(&mut Resolver<'s>) -> Json) -> Json {
        if self.nesting >= self.limits.nesting {
            if self.chain.is_empty() {
                key.clone_into(&mut self.origin.1);
            }
            let problem =
                format!("must have at most {} lists and objects inside each other", self.limits.nesting);
            return self.refuse(None, &problem);
        }
        self.nesting += 1;
        let resolved = resolve(self);
        self.nesting -= 1;
        resolved
    }

    /// The value at `place`, resolved.
    fn follow(&mut self, place: &Place) -> Json {
        let text = place.text();
        if self.chain.contains(&text) {
            return self.refuse(Some(&json!(text)), "must not lead back to itself");
        }
        if self.chain.len() >= self.limits.depth {
            let problem = format!("must lead to a value over at most {} references", self.limits.depth);
            return self.refuse(Some(&json!(text)), &problem);
        }
        let snapshot = self.snapshot;
        let document = match snapshot.find(&place.path) {
            Some(Some(document)) => document,
            Some(None) => return self.refuse(Some(&json!(text)), "must lead to a document; there is none"),
            None => {
                self.missing.insert(place.path.clone());
                let problem =
                    format!("must be one of at most {} different paths, all read", self.limits.targets);
                return self.refuse(Some(&json!(text)), &problem);
            }
        };
        self.chain.push(text.clone());
        let resolved = self.at(document, place, &text);
        self.chain.pop();
        resolved
    }

    /// The value at the steps of `place` in `document`, which may have references on the way.
    fn at(&mut self, document: &Json, place: &Place, text: &str) -> Json {
        let mut value = document;
        for (index, step) in place.steps.iter().enumerate() {
            if let Json::Object(members) = value
                && let Some(target) = reference(members)
            {
                return match target {
                    Ok(mut target) => {
                        target.steps.extend_from_slice(&place.steps[index..]);
                        self.follow(&target)
                    }
                    Err(problem) => self.refuse(members.get(REF), &problem),
                };
            }
            let inner = match value {
                Json::Object(members) => members.get(step),
                Json::Array(elements) => step.parse().ok().and_then(|index: usize| elements.get(index)),
                _ => None,
            };
            match inner {
                Some(inner) => value = inner,
                None => {
                    return self
                        .refuse(Some(&json!(text)), "must lead to a value; the document has none there");
                }
            }
        }
        // Its own place plays no part: a problem in it is one of the reference that led here.
        self.value(value, "")
    }

    /// Whether there is room for `value` without what is in it.
    fn count(&mut self, value: &Json) -> bool {
        let before = self.bytes;
        self.bytes += match value {
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => 8,
            Json::String(text) => 8 + text.len(),
            Json::Object(members) => 8 + members.keys().map(|key| 8 + key.len()).sum::<usize>(),
        };
        if before <= self.limits.bytes && self.bytes > self.limits.bytes {
            let problem =
                format!("must have at most {} bytes, with all references resolved", self.limits.bytes);
            self.refuse(None, &problem);
        }
        self.bytes <= self.limits.bytes
    }

    /// Reports a reference; says over which places it was reached. `target` is where it failed, unless that is the
    /// last of these.
    fn refuse(&mut self, target: Option<&Json>, problem: &str) -> Json {
        let mut chain = self.chain.clone();
        // Only a text is shown: anything else might be a secret at a wrong place.
        chain.extend(target.and_then(Json::as_str).map(str::to_owned));
        let way = if chain.len() > 1 { format!(" ({})", chain.join(" leads to ")) } else { String::new() };
        let value = chain.first().map_or(Json::Null, |first| json!({REF: first}));
        if self.problems.len() < PROBLEMS {
            let (section, key) = &self.origin;
            self.problems.push(Problem::new(section, key, value, format!("{problem}{way}")));
        }
        Json::Null
    }
}
