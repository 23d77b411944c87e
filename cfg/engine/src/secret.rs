//! Keeps secrets out of what is written and logged.

use std::collections::BTreeSet;

use cfg_schema::{Declaration, Documents, MASK, Problem, SectionDeclaration};
use serde_json::Value as Json;

use crate::feedback::Rejected;

/// Shortest secret that is looked for inside other texts: a shorter one would mask half of the words.
const SHORTEST: usize = 4;

/// The texts of secret parameters in `documents`.
pub(crate) fn secrets(documents: &Documents, sections: &[SectionDeclaration]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for section in sections {
        if let Some(document) = documents.get(section.section) {
            collect(document, false, &section.parameters, &mut found);
        }
    }
    found
}

fn collect(value: &Json, secret: bool, fields: &[Declaration], found: &mut BTreeSet<String>) {
    match value {
        Json::Array(elements) => elements.iter().for_each(|element| collect(element, secret, fields, found)),
        Json::Object(members) => {
            for (key, value) in members {
                let field = fields.iter().find(|field| field.key == key);
                let inner = field.map_or(&[][..], |field| &field.fields);
                collect(value, secret || field.is_some_and(|field| field.secret), inner, found);
            }
        }
        Json::String(text) if secret && text.len() >= SHORTEST => drop(found.insert(text.clone())),
        Json::Number(number) if secret && number.to_string().len() >= SHORTEST => {
            found.insert(number.to_string());
        }
        _ => {}
    }
}

/// A problem as it is shown. The value is masked if the parameter is a secret or holds one, and known `secrets` are
/// masked wherever else they stand.
pub(crate) fn shown(
    problem: &Problem,
    sections: &[SectionDeclaration],
    secrets: &BTreeSet<String>,
) -> Rejected {
    let value = match &problem.value {
        Json::Null => None,
        // A document as a whole, or one that is none: the problem says enough.
        _ if problem.key.is_empty() && !problem.value.get(crate::REF).is_some_and(Json::is_string) => None,
        value if is_reference(value) => Some(value.to_string()),
        _ if is_secret(&problem.section, &problem.key, sections) => Some(MASK.to_owned()),
        Json::String(text) => Some(without(text, secrets)),
        other => Some(without(&other.to_string(), secrets)),
    };
    Rejected {
        component: problem.section.clone(),
        param: problem.key.clone(),
        value,
        problem: without(&problem.problem, secrets),
    }
}

/// `text` with every one of `secrets` in it masked.
pub(crate) fn without(text: &str, secrets: &BTreeSet<String>) -> String {
    // The longest first: one may be a part of another.
    let mut longest: Vec<&String> = secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
    longest.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    longest.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
}

/// A reference says where a secret is, not what it is.
fn is_reference(value: &Json) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.len() == 1 && object.get(crate::REF).is_some_and(Json::is_string))
}

/// Whether `key`, as `key` or `list[0].field`, is a secret or has one in it.
fn is_secret(section: &str, key: &str, sections: &[SectionDeclaration]) -> bool {
    let section = sections.iter().find(|declared| declared.section == section);
    let mut fields = section.map_or(&[][..], |section| &section.parameters);
    let mut last = None;
    for step in key.split('.') {
        let name = step.split('[').next().unwrap_or_default();
        // The numbers of a numbered section are steps that lead to the same keys.
        if let Some(field) = fields.iter().find(|field| field.key == name) {
            if field.secret {
                return true;
            }
            fields = &field.fields;
            last = Some(field);
        }
    }
    last.is_some_and(holds_secret)
}

fn holds_secret(field: &Declaration) -> bool {
    field.secret || field.fields.iter().any(holds_secret)
}
