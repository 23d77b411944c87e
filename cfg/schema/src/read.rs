//! Reading JSON documents against declarations.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json};

use crate::change::mask_problems;
use crate::{Parameter, Problem, Reading, SectionDeclaration};

/// Documents by section: each should be a JSON object.
pub type Documents = BTreeMap<String, Json>;

/// Collects what is found while documents are read.
#[derive(Debug, Default)]
pub struct Reader {
    problems: Vec<Problem>,
    unknown: Vec<String>,
    no_effect: Vec<String>,
}

/// Where in the documents a value is: names the section and the path in it when something is reported.
#[derive(Debug)]
pub struct Place<'r> {
    reader: &'r mut Reader,
    section: &'r str,
    path: String,
    /// In a parameter without effect: ranges do not count, and texts may be spelled as in the original's documents.
    lenient: bool,
}

impl Reader {
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
    pub fn place<'r>(&'r mut self, section: &'r str) -> Place<'r> {
        Place { reader: self, section, path: String::new(), lenient: false }
    }

    /// Reports every document that no declared section claims.
    pub fn other_sections(&mut self, documents: &Documents, declared: &[&str]) {
        let other = documents.keys().filter(|section| !declared.contains(&section.as_str()));
        self.unknown.extend(other.cloned());
    }

    /// The outcome; `parameters` count only when no problem was found.
    pub fn finish<T>(
        self,
        parameters: T,
        declarations: impl FnOnce() -> Vec<SectionDeclaration>,
    ) -> Reading<T> {
        let Reader { mut problems, unknown, no_effect } = self;
        if problems.is_empty() {
            return Reading { parameters: Ok(parameters), unknown, no_effect };
        }
        mask_problems(&mut problems, &declarations());
        Reading { parameters: Err(problems), unknown, no_effect }
    }
}

impl Place<'_> {
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
        if !place.lenient && range.as_ref().is_some_and(|range| !value.within(range)) {
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

    /// Checks that `key` of `object`, which has no effect, can be read as its type, and reports that it is there.
    pub fn without_effect<T: Parameter>(&mut self, object: Option<&Map<String, Json>>, key: &str) {
        if object.is_some_and(|object| object.contains_key(key)) {
            self.reader.no_effect.push(format!("{}.{}", self.section, self.path_of(key)));
            let lenient = std::mem::replace(&mut self.lenient, true);
            self.field::<T>(object, key, None);
            self.lenient = lenient;
        }
    }

    /// Checks the objects `0`, `1`, … of `object`, which have no effect, with `read`, and reports that they are there.
    pub fn numbered(
        &mut self,
        object: Option<&Map<String, Json>>,
        read: impl Fn(&Map<String, Json>, &mut Place<'_>),
    ) {
        for (key, value) in object.into_iter().flatten().filter(|(key, _)| is_number(key)) {
            let mut place = self.inner(key);
            place.lenient = true;
            place.reader.no_effect.push(format!("{}.{}", place.section, place.path));
            match value {
                Json::Object(object) => read(object, &mut place),
                other => place.refuse(other, "must be an object with the keys of this section"),
            }
        }
    }

    /// Reports the keys of `object` that are not among `declared`, nor numbers where `numbered` allows them.
    pub fn undeclared(&mut self, object: Option<&Map<String, Json>>, declared: &[&str], numbered: bool) {
        for key in object.into_iter().flat_map(|object| object.keys()) {
            let known = declared.contains(&key.as_str()) || (numbered && is_number(key));
            if !known {
                self.reader.unknown.push(format!("{}.{}", self.section, self.path_of(key)));
            }
        }
    }

    /// Whether the value has no effect, so that what the original accepted is accepted.
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// Reports `value` as refused.
    pub fn refuse(&mut self, value: &Json, problem: impl Into<String>) {
        self.reader.problems.push(Problem::new(self.section, &self.path, value.clone(), problem));
    }

    /// The place of element `index` of a list that is here.
    pub fn element(&mut self, index: usize) -> Place<'_> {
        let path = format!("{}[{index}]", self.path);
        Place { path, section: self.section, reader: self.reader, lenient: self.lenient }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn inner(&mut self, key: &str) -> Place<'_> {
        Place { path: self.path_of(key), section: self.section, reader: self.reader, lenient: self.lenient }
    }
}

/// Whether `key` is a number of a numbered object.
fn is_number(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit())
}

/// The documents of sections that hold something.
#[doc(hidden)]
pub fn without_empty<const N: usize>(sections: [(&str, Json); N]) -> Documents {
    let held = sections
        .into_iter()
        .filter(|(_, section)| section.as_object().is_some_and(|object| !object.is_empty()));
    held.map(|(name, section)| (name.to_owned(), section)).collect()
}
