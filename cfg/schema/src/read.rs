//! Reading JSON documents against declarations.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json};

use crate::{Parameter, Problem, Reading};

/// Documents by section: each should be a JSON object.
pub type Documents = BTreeMap<String, Json>;

/// Collects what is found while documents are read.
#[derive(Debug)]
pub struct Reader<'a> {
    no_effect_keys: &'a [(&'a str, &'a [&'a str])],
    problems: Vec<Problem>,
    unknown: Vec<String>,
    no_effect: Vec<String>,
}

/// Where in the documents a value is: names the section and the path in it when something is reported.
#[derive(Debug)]
pub struct Place<'r, 'a> {
    reader: &'r mut Reader<'a>,
    section: &'r str,
    path: String,
}

impl<'a> Reader<'a> {
    /// `no_effect_keys`: sections with the keys that are known and not acted on.
    pub fn new(no_effect_keys: &'a [(&'a str, &'a [&'a str])]) -> Reader<'a> {
        Reader { no_effect_keys, problems: Vec::new(), unknown: Vec::new(), no_effect: Vec::new() }
    }

    /// The object stored as `section`; an absent section is an empty one, anything but an object a problem.
    pub fn section<'d>(&mut self, documents: &'d Documents, section: &str) -> Option<&'d Map<String, Json>> {
        match documents.get(section) {
            None => None,
            Some(Json::Object(object)) => Some(object),
            Some(other) => {
                self.problems.push(Problem::new(section, "", other.clone(), "must be a JSON object"));
                None
            }
        }
    }

    /// The beginning of `section`.
    pub fn place<'r>(&'r mut self, section: &'r str) -> Place<'r, 'a> {
        Place { reader: self, section, path: String::new() }
    }

    /// Reports every document that no declared section claims.
    pub fn other_sections(&mut self, documents: &Documents, declared: &[&str]) {
        for (section, document) in documents {
            if declared.contains(&section.as_str()) {
                continue;
            }
            match document {
                Json::Object(object) if self.no_effect_keys.iter().any(|(known, _)| known == section) => {
                    for key in object.keys() {
                        self.undeclared(section, key);
                    }
                }
                _ => self.unknown.push(section.clone()),
            }
        }
    }

    fn undeclared(&mut self, section: &str, path: &str) {
        let known = self.no_effect_keys.iter().any(|(known, keys)| *known == section && keys.contains(&path));
        let list = if known { &mut self.no_effect } else { &mut self.unknown };
        list.push(format!("{section}.{path}"));
    }

    /// The outcome; `parameters` count only when no problem was found.
    pub fn finish<T>(self, parameters: T) -> Reading<T> {
        let parameters = if self.problems.is_empty() { Ok(parameters) } else { Err(self.problems) };
        Reading { parameters, unknown: self.unknown, no_effect: self.no_effect }
    }
}

impl<'a> Place<'_, 'a> {
    /// Reads `key` of `object`. `None` when it is absent, or refused and reported.
    pub fn field<T: Parameter>(
        &mut self,
        object: Option<&Map<String, Json>>,
        key: &str,
        range: Option<RangeInclusive<T::Bound>>,
    ) -> Option<T> {
        let json = object?.get(key)?;
        let mut place = self.inner(key);
        let value = T::read(json, &mut place)?;
        if range.as_ref().is_some_and(|range| !value.within(range)) {
            place.refuse(json, format!("must be {}", T::allowed(range.as_ref())));
            return None;
        }
        Some(value)
    }

    /// As [`Place::field`], and its absence is reported too.
    pub fn required<T: Parameter>(
        &mut self,
        object: Option<&Map<String, Json>>,
        key: &str,
        range: Option<RangeInclusive<T::Bound>>,
    ) -> Option<T> {
        if object.is_none_or(|object| !object.contains_key(key)) {
            let problem = format!("is missing; must be {}", T::allowed(range.as_ref()));
            self.inner(key).refuse(&Json::Null, problem);
            return None;
        }
        self.field(object, key, range)
    }

    /// Reports the keys of `object` that are not among `declared`.
    pub fn undeclared(&mut self, object: Option<&Map<String, Json>>, declared: &[&str]) {
        for key in object.into_iter().flat_map(|object| object.keys()) {
            if !declared.contains(&key.as_str()) {
                let path = self.inner(key).path;
                self.reader.undeclared(self.section, &path);
            }
        }
    }

    /// Reports `value` as refused.
    pub fn refuse(&mut self, value: &Json, problem: impl Into<String>) {
        self.reader.problems.push(Problem::new(self.section, &self.path, value.clone(), problem));
    }

    /// The place of element `index` of a list that is here.
    pub fn element(&mut self, index: usize) -> Place<'_, 'a> {
        Place { path: format!("{}[{index}]", self.path), section: self.section, reader: self.reader }
    }

    fn inner(&mut self, key: &str) -> Place<'_, 'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Place { path, section: self.section, reader: self.reader }
    }
}
