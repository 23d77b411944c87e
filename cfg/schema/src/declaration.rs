//! Declarations as data: for generated pages, for comparing a running with a stored configuration, for tests.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use crate::{Options, Parameter};

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// At once, while requests are served.
    Dynamic,
    /// At the next start of the process; until then it is reported as pending.
    Restart,
    /// Never: it was fixed when the data directory was made, and another value is refused.
    Immutable,
    /// Not at all: the parameter belongs to a part that this program does not have. It is known, its values are
    /// checked for their type, and nothing reads them.
    NoEffect,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Category::Dynamic => "dynamic",
            Category::Restart => "restart",
            Category::Immutable => "immutable",
            Category::NoEffect => "no effect",
        })
    }
}

/// One parameter, or one field of the objects in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Declaration {
    /// Its name in the document.
    pub key: &'static str,
    /// The type's name: `bool`, `uint32`, `size`, …
    pub type_name: &'static str,
    /// Unit of a plain number.
    pub unit: Option<&'static str>,
    /// What is used when the key is absent; `None`: the key is required, if it has an effect.
    pub default: Option<Json>,
    /// What is allowed, as the end of a sentence that begins with "must be".
    pub allowed: String,
    /// The type and range in JSON schema.
    pub schema: Json,
    /// `None` for a field: it has the category of its list.
    pub category: Option<Category>,
    /// The first version that knows it.
    pub since: &'static str,
    /// It is shown as `***`.
    pub secret: bool,
    /// It says who the process is, and is no part of the hash of its configuration.
    pub identity: bool,
    /// One or more sentences.
    pub meaning: String,
    /// The fields of the objects in a list.
    pub fields: Vec<Declaration>,
}

/// A section: one JSON object, one document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SectionDeclaration {
    /// The document's name.
    pub section: &'static str,
    /// What the section is about.
    pub meaning: String,
    /// In the order of declaration.
    pub parameters: Vec<Declaration>,
    /// What objects `0`, `1`, … with the same keys mean, if the section may hold such.
    pub numbered: Option<&'static str>,
}

impl Declaration {
    /// Whether nothing reads its values.
    pub fn is_without_effect(&self) -> bool {
        self.category == Some(Category::NoEffect)
    }
}

/// Joins the lines of a doc comment into one paragraph.
#[doc(hidden)]
pub fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What is wrong with declarations themselves; a test of every component that declares parameters expects nothing.
/// Checks that names are in lower snake case, that a duration says its unit in its name or apart from it, that every
/// meaning is a sentence, that an identity cannot change while the process runs, and that no key is declared twice in a
/// section.
pub fn lint(sections: &[SectionDeclaration]) -> Vec<String> {
    let mut complaints = Vec::new();
    for section in sections {
        lint_fields(section.section, &section.parameters, &mut complaints);
        if !section.meaning.ends_with('.') {
            complaints.push(format!("{}: its meaning is not a sentence", section.section));
        }
    }
    complaints
}

fn lint_fields(path: &str, fields: &[Declaration], complaints: &mut Vec<String>) {
    for (index, field) in fields.iter().enumerate() {
        let name = format!("{path}.{}", field.key);
        if !field.key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            complaints.push(format!("{name}: not in lower snake case"));
        }
        let suffixes: &[&str] = match field.type_name {
            "microseconds" => &["_usecs"],
            "milliseconds" => &["_ms", "_msecs"],
            "seconds" => &["_secs", "_seconds"],
            _ => &[""],
        };
        if field.unit.is_none() && !suffixes.iter().any(|suffix| field.key.ends_with(suffix)) {
            complaints.push(format!("{name}: the name of a duration ends in its unit, {}", suffixes[0]));
        }
        if field.identity && matches!(field.category, Some(Category::Dynamic | Category::Restart)) {
            complaints.push(format!("{name}: an identity is immutable"));
        }
        if !field.meaning.ends_with('.') {
            complaints.push(format!("{name}: its meaning is not a sentence"));
        }
        if fields[..index].iter().any(|earlier| earlier.key == field.key) {
            complaints.push(format!("{name}: declared twice"));
        }
        lint_fields(&name, &field.fields, complaints);
    }
}

/// A declaration from what the macro knows.
#[doc(hidden)]
pub fn declared<T: Parameter>(
    key: &'static str,
    meaning: String,
    default: Option<T>,
    options: Options<T::Bound>,
    category: Option<Category>,
) -> Declaration {
    let Options { unit, range, since, secret, identity } = options;
    debug_assert!(
        default.as_ref().is_none_or(|value| range.as_ref().is_none_or(|range| value.within(range))),
        "the default of {key} is out of its range"
    );
    // The range of what has no effect is not checked.
    let checked = range.as_ref().filter(|_| category != Some(Category::NoEffect));
    Declaration {
        key,
        type_name: T::type_name(),
        unit,
        default: default.as_ref().map(T::write),
        allowed: T::allowed(range.as_ref()),
        schema: T::schema(checked),
        category,
        since,
        secret,
        identity,
        meaning,
        fields: T::fields(),
    }
}
