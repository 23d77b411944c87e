//! Declarations as data: for generated pages, for comparing a running with a stored configuration, for tests.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value as Json;

use crate::Parameter;

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// At once, while requests are served.
    Dynamic,
    /// At the next start of the process; until then it is reported as pending.
    Restart,
    /// Never: it was fixed when the data directory was made, and another value is refused.
    Immutable,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Category::Dynamic => "dynamic",
            Category::Restart => "restart",
            Category::Immutable => "immutable",
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
    /// What is used when the key is absent; `None`: the key is required.
    pub default: Option<Json>,
    /// What is allowed, as the end of a sentence that begins with "must be".
    pub allowed: String,
    /// The type and range in JSON schema.
    pub schema: Json,
    /// `None` for a field: it has the category of its list.
    pub category: Option<Category>,
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
}

/// Joins the lines of a doc comment into one paragraph.
#[doc(hidden)]
pub fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What is wrong with declarations themselves; a test of every component that declares parameters expects nothing.
/// Checks that names are in lower snake case, that a duration says its unit in its name, that every meaning is a
/// sentence, and that no key is declared twice in a section.
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
        let suffix = match field.type_name {
            "milliseconds" => "_ms",
            "seconds" => "_secs",
            _ => "",
        };
        if !field.key.ends_with(suffix) {
            complaints.push(format!("{name}: the name of a duration ends in its unit, {suffix}"));
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
    default: Option<&T>,
    unit: Option<&'static str>,
    range: Option<RangeInclusive<T::Bound>>,
    category: Option<Category>,
) -> Declaration {
    debug_assert!(
        default.is_none_or(|value| range.as_ref().is_none_or(|range| value.within(range))),
        "the default of {key} is out of its range"
    );
    Declaration {
        key,
        type_name: T::type_name(),
        unit,
        default: default.map(T::write),
        allowed: T::allowed(range.as_ref()),
        schema: T::schema(range.as_ref()),
        category,
        meaning,
        fields: T::fields(),
    }
}
