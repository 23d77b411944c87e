//! What differs between two readings.

use serde::Serialize;
use serde_json::Value as Json;

use crate::{Category, Declaration, Parameter, Problem, SectionDeclaration};

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// A parameter with another value than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The section.
    pub section: &'static str,
    /// The parameter; a list changes as a whole.
    pub key: &'static str,
    /// When it takes effect.
    pub category: Category,
    /// The value before, for people: sizes with unit, lists as JSON, secrets masked.
    pub old: String,
    /// The value now, in the same way.
    pub new: String,
}

/// A change from what the macro knows.
#[doc(hidden)]
pub fn changed<T: Parameter>(
    (section, key): (&'static str, &'static str),
    category: Category,
    secret: bool,
    old: &T,
    new: &T,
) -> Change {
    let fields = T::fields();
    let shown = |value: &T| shown(value.write(), secret, &fields);
    Change { section, key, category, old: shown(old), new: shown(new) }
}

/// A value as people write it, without its secrets.
fn shown(mut value: Json, secret: bool, fields: &[Declaration]) -> String {
    mask(&mut value, secret, fields);
    match value {
        Json::String(text) => text,
        Json::Null => "unset".to_owned(),
        other => other.to_string(),
    }
}

/// Masks secrets. An empty text says that there is none, and stays.
fn mask(value: &mut Json, secret: bool, fields: &[Declaration]) {
    match value {
        Json::Array(elements) => elements.iter_mut().for_each(|element| mask(element, secret, fields)),
        Json::Object(members) => {
            for (key, value) in members {
                let field = fields.iter().find(|field| field.key == key);
                let inner = field.map_or(&[][..], |field| &field.fields);
                mask(value, secret || field.is_some_and(|field| field.secret), inner);
            }
        }
        Json::String(text) if secret && !text.is_empty() => MASK.clone_into(text),
        Json::Number(_) if secret => *value = MASK.into(),
        _ => {}
    }
}

/// Masks the refused values of secrets, which problems would carry into logs.
pub(crate) fn mask_problems(problems: &mut [Problem], sections: &[SectionDeclaration]) {
    for problem in problems {
        let section = sections.iter().find(|section| section.section == problem.section);
        let mut fields = section.map_or(&[][..], |section| &section.parameters);
        let mut secret = false;
        // `list[0].field`; the numbers of a numbered section are steps that lead to the same keys.
        for step in problem.key.split('.') {
            let name = step.split('[').next().unwrap_or_default();
            if let Some(field) = fields.iter().find(|field| field.key == name) {
                secret |= field.secret;
                fields = &field.fields;
            }
        }
        // A text in place of objects with secrets may be one.
        secret |= problem.value.is_string() && fields.iter().any(|field| field.secret);
        mask(&mut problem.value, secret, fields);
    }
}
