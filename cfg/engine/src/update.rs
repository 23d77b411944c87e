//! The value of an update key.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::feedback::Rejected;

/// Most characters of an id.
pub const ID_LIMIT: usize = 64;

/// Most characters of `by` and `note`.
const TEXT_LIMIT: usize = 4096;

/// Most characters of a wrong value that is shown.
const SHOWN: usize = 80;

/// What somebody wants a process to do with its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    /// Names the answer: `[A-Za-z0-9._-]`, 1 to 64 characters, neither `.` nor `..`, which no key can end in.
    pub id: String,
    /// Who: `user@host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Everything is done but prepare and commit.
    pub dry_run: bool,
    /// Sections may be gone; their parameters have defaults again.
    pub allow_reset: bool,
    /// The staged change that it belongs to; a dry run lays its change set over what is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
}

/// An update that cannot be carried out because of how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// Its id, if that can be read.
    pub id: Option<String>,
    /// Whether it says that it is a dry run.
    pub dry_run: bool,
    /// Everything that is wrong; the component is `update`.
    pub problems: Vec<Rejected>,
}

/// Whether `text` can name a feedback.
pub fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=ID_LIMIT).contains(&text.len()) && text.bytes().all(allowed) && !matches!(text, "." | "..")
}

impl Update {
    /// Reads the value of an update key of at most `limit` bytes. Unknown fields are ignored, and `null` is as good as
    /// absent.
    ///
    /// # Errors
    /// What is wrong, with what can be read of it.
    pub fn read(value: &[u8], limit: usize) -> Result<Update, Malformed> {
        let nothing = |problem: String| Malformed {
            id: None,
            dry_run: false,
            problems: vec![wrong("", None, problem)],
        };
        if value.len() > limit {
            return Err(nothing(format!("must have at most {limit} bytes, not {}", value.len())));
        }
        let object = match serde_json::from_slice(value) {
            Ok(Json::Object(object)) => object,
            Ok(_) => return Err(nothing("must be a JSON object such as {\"id\":\"1\"}".to_owned())),
            // Only where it is wrong: the text may be anything.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return Err(nothing(format!("must be JSON; it is not at line {line}, column {column}")));
            }
        };
        let mut fields = Fields { object: &object, problems: Vec::new() };
        let id = fields.id("id");
        if id.is_none() && fields.problems.is_empty() {
            fields.problems.push(wrong("id", None, format!("is missing; {ID_RULE}")));
        }
        let update = Update {
            id: id.clone().unwrap_or_default(),
            by: fields.text("by"),
            note: fields.text("note"),
            dry_run: fields.flag("dry_run"),
            allow_reset: fields.flag("allow_reset"),
            rollout: fields.id("rollout"),
        };
        let problems = fields.problems;
        if problems.is_empty() {
            Ok(update)
        } else {
            Err(Malformed { id, dry_run: update.dry_run, problems })
        }
    }
}

const ID_RULE: &str = "must be 1 to 64 characters of A-Z a-z 0-9 . _ -, and neither . nor ..";

struct Fields<'o> {
    object: &'o Map<String, Json>,
    problems: Vec<Rejected>,
}

impl Fields<'_> {
    fn get(&self, field: &str) -> Option<&Json> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn id(&mut self, field: &str) -> Option<String> {
        let value = self.get(field)?;
        match value.as_str() {
            Some(text) if is_id(text) => Some(text.to_owned()),
            _ => {
                self.problems.push(wrong(field, Some(value), ID_RULE.to_owned()));
                None
            }
        }
    }

    fn text(&mut self, field: &str) -> String {
        match self.get(field) {
            None => String::new(),
            Some(Json::String(text)) if text.chars().count() <= TEXT_LIMIT => text.clone(),
            Some(value) => {
                let problem = format!("must be a string of at most {TEXT_LIMIT} characters");
                self.problems.push(wrong(field, Some(value), problem));
                String::new()
            }
        }
    }

    fn flag(&mut self, field: &str) -> bool {
        match self.get(field) {
            None => false,
            Some(Json::Bool(value)) => *value,
            Some(value) => {
                self.problems.push(wrong(field, Some(value), "must be true or false".to_owned()));
                false
            }
        }
    }
}

fn wrong(field: &str, value: Option<&Json>, problem: String) -> Rejected {
    let value = value.map(|value| {
        let text = value.to_string();
        if text.chars().count() > SHOWN {
            format!("{}…", text.chars().take(SHOWN).collect::<String>())
        } else {
            text
        }
    });
    Rejected { component: "update".to_owned(), param: field.to_owned(), value, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Update, Malformed> {
        Update::read(text.as_bytes(), 10_000)
    }

    #[test]
    fn what_is_written_is_read() {
        let all =
            r#"{"id":"a.B_c-9","by":"u@h","note":"why","dry_run":true,"allow_reset":true,"rollout":"r1"}"#;
        let update = read(all).expect("valid");
        assert_eq!(serde_json::to_string(&update).expect("JSON"), all);
        assert!(update.dry_run && update.allow_reset && update.rollout.as_deref() == Some("r1"));
        let least = read(r#"{"id":"1","rollout":null,"unknown":{"x":[]}}"#).expect("valid");
        assert_eq!(least, Update { id: "1".to_owned(), ..Update::default() });
    }

    #[test]
    fn what_is_wrong_is_said_with_what_can_be_read() {
        for (text, id, param, problem) in [
            ("", None, "", "must be JSON; it is not at line 1, column 0"),
            (r#"{"id":"password"#, None, "", "must be JSON; it is not at line 1, column 15"),
            ("[]", None, "", "must be a JSON object"),
            ("{}", None, "id", "is missing"),
            (r#"{"id":7}"#, None, "id", "must be 1 to 64 characters"),
            (r#"{"id":"a/b"}"#, None, "id", "must be 1 to 64 characters"),
            (r#"{"id":".."}"#, None, "id", "neither . nor .."),
            (r#"{"id":"é"}"#, None, "id", "must be 1 to 64 characters"),
            (r#"{"id":"a","dry_run":"yes"}"#, Some("a"), "dry_run", "must be true or false"),
            (r#"{"id":"a","by":{}}"#, Some("a"), "by", "must be a string"),
            (r#"{"id":"a","rollout":""}"#, Some("a"), "rollout", "must be 1 to 64 characters"),
        ] {
            let malformed = read(text).expect_err(text);
            assert_eq!(malformed.id.as_deref(), id, "{text}");
            assert_eq!(malformed.problems.len(), 1, "{text}");
            assert_eq!(
                (malformed.problems[0].component.as_str(), malformed.problems[0].param.as_str()),
                ("update", param)
            );
            assert!(malformed.problems[0].problem.contains(problem), "{text}: {:?}", malformed.problems);
        }
        assert!(is_id(&"x".repeat(64)) && !is_id(&"x".repeat(65)) && !is_id(""));
        let both = read(r#"{"id":"a","dry_run":true,"allow_reset":1,"note":2}"#).expect_err("two");
        assert!(both.dry_run && both.problems.len() == 2);
        assert!(
            Update::read(b"{\"id\":\"a\"}", 5)
                .is_err_and(|m| m.problems[0].problem.contains("at most 5 bytes"))
        );
    }
}
