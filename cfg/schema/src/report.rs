//! What reading documents has found.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

/// A value that was refused. Nothing is ever clamped or replaced by a default in its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The section, which is the name of the document.
    pub section: String,
    /// The key in it, as `key` or `key[0].inner`; empty when the document as a whole is wrong.
    pub key: String,
    /// The refused value, secrets in it masked; `null` when a required key is missing.
    pub value: Json,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl Problem {
    /// A problem found by a check that looks at more than one parameter.
    pub fn new(section: &str, key: &str, value: Json, problem: impl Into<String>) -> Problem {
        Problem { section: section.to_owned(), key: key.to_owned(), value, problem: problem.into() }
    }
}

/// Longest value shown in a message, in characters.
const SHOWN_VALUE: usize = 80;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.section)?;
        if !self.key.is_empty() {
            write!(f, ".{}", self.key)?;
        }
        let value = self.value.to_string();
        if value.chars().count() > SHOWN_VALUE {
            let short: String = value.chars().take(SHOWN_VALUE).collect();
            write!(f, " = {short}…: {}", self.problem)
        } else {
            write!(f, " = {value}: {}", self.problem)
        }
    }
}

/// The result of reading documents into typed parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<T> {
    /// The parameters, or every problem that was found.
    pub parameters: Result<T, Vec<Problem>>,
    /// Keys nobody declared, as `section.key` (or `section` for a whole document). Never fatal: they may belong to a
    /// newer or older version, and stay in the stored documents.
    pub unknown: Vec<String>,
    /// Known keys that this program does not act on, as `section.key`.
    pub no_effect: Vec<String>,
}

impl<T> Reading<T> {
    /// Adds the problems that `check` finds in parameters that are each valid on their own.
    #[must_use]
    pub fn checked(mut self, check: impl FnOnce(&T) -> Vec<Problem>) -> Reading<T> {
        if let Ok(parameters) = &self.parameters {
            let problems = check(parameters);
            if !problems.is_empty() {
                self.parameters = Err(problems);
            }
        }
        self
    }
}
