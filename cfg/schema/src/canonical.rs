//! The canonical form of values and declarations, and hashes over it: equal hashes mean equal values, whoever computed
//! them.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde_json::{Value as Json, json};

use crate::{Declaration, SectionDeclaration};

/// Bytes of a hash: enough that no two configurations ever share one.
const HASH_LENGTH: usize = 16;

/// `value` as JSON without blanks, the keys of every object sorted.
#[doc(hidden)]
pub fn canonical_text(value: &Json) -> String {
    match value {
        Json::Object(members) => {
            // Sorted here: whether a map of serde_json is sorted is up to whoever else builds it.
            let sorted: BTreeMap<&String, &Json> = members.iter().collect();
            let members =
                sorted.into_iter().map(|(key, value)| format!("{}:{}", json!(key), canonical_text(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Json::Array(elements) => {
            format!("[{}]", elements.iter().map(canonical_text).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// SHA-256 of `text`, cut to 128 bits, in hexadecimal digits.
#[doc(hidden)]
pub fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref()[..HASH_LENGTH].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash of everything in `sections` that decides which documents are accepted and what they mean: keys, types, units,
/// defaults, what is allowed, categories, marks. Neither their order nor how they are explained counts.
pub fn schema_hash(sections: &[SectionDeclaration]) -> String {
    let section = |section: &SectionDeclaration| {
        let content =
            json!({"numbered": section.numbered.is_some(), "parameters": declarations(&section.parameters)});
        (section.section.to_owned(), content)
    };
    hash(&canonical_text(&Json::Object(sections.iter().map(section).collect())))
}

fn declarations(fields: &[Declaration]) -> Json {
    let declaration = |field: &Declaration| {
        let mut allowed = field.schema.clone();
        // The fields below say it, and without what they mean.
        if let Json::Object(allowed) = &mut allowed
            && !field.fields.is_empty()
        {
            allowed.remove("items");
        }
        let content = json!({
            "type": field.type_name,
            "unit": field.unit,
            "default": field.default,
            "allowed": allowed,
            "category": field.category,
            "secret": field.secret,
            "identity": field.identity,
            "fields": declarations(&field.fields),
        });
        (field.key.to_owned(), content)
    };
    Json::Object(fields.iter().map(declaration).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_text_never_changes() {
        assert_eq!(
            canonical_text(&json!({"b": [1, {"d": 2, "c": "x\"y"}], "a": null})),
            r#"{"a":null,"b":[1,{"c":"x\"y","d":2}]}"#
        );
        // printf '{}' | sha256sum
        assert_eq!(hash("{}"), "44136fa355b3678a1146ad16f7e8649e");
    }
}
