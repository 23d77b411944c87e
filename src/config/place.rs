//! `/a/b/c` and `/a/b/c|x.y`: a key, or a place in the document of a key.

use std::fmt;

use cfg_client::KeyPath;
use serde_json::{Map, Value as Json};

/// A key, or a place in its document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// The key.
    pub(crate) key: KeyPath,
    /// Names of members and indexes of lists, from the outside; empty: the whole document.
    pub(crate) steps: Vec<String>,
}

impl Place {
    /// Reads `/a/b/c` or `/a/b/c|x.y`.
    pub(crate) fn parse(text: &str) -> Result<Place, String> {
        let (key, steps) = match text.split_once('|') {
            None => (text, Vec::new()),
            Some((key, steps)) => (key, steps.split('.').map(str::to_owned).collect()),
        };
        let key = KeyPath::parse(key).map_err(|error| error.to_string())?;
        if key.is_root() {
            return Err("/ is no key; give one such as /ovs/framework/cluster_id".to_owned());
        }
        if steps.iter().any(String::is_empty) {
            return Err("behind | stand names joined by single dots, such as |x.y".to_owned());
        }
        Ok(Place { key, steps })
    }

    /// The value here, if there is one.
    pub(crate) fn find<'a>(&self, document: &'a Json) -> Option<&'a Json> {
        self.steps.iter().try_fold(document, |value, step| match value {
            Json::Object(members) => members.get(step),
            Json::Array(elements) => elements.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Puts `value` here. Objects on the way are made where there is nothing; an element behind the last one of a list
    /// is appended.
    ///
    /// # Errors
    /// What stands in the way.
    pub(crate) fn put(&self, document: &mut Json, value: Json) -> Result<(), String> {
        let mut at = document;
        for (index, step) in self.steps.iter().enumerate() {
            let way = || format!("{}|{}", self.key, self.steps[..index].join("."));
            if at.is_null() && index > 0 {
                *at = Json::Object(Map::new());
            }
            at = match at {
                Json::Object(members) => members.entry(step.clone()).or_insert(Json::Null),
                Json::Array(elements) => {
                    let length = elements.len();
                    let element = step.parse::<usize>().ok().filter(|element| *element <= length);
                    let element = element.ok_or_else(|| {
                        format!("{} is a list of {length}; {step} is no place in it", way())
                    })?;
                    if element == length {
                        elements.push(Json::Null);
                    }
                    &mut elements[element]
                }
                _ => return Err(format!("{} is neither an object nor a list, so it has no {step}", way())),
            };
        }
        *at = value;
        Ok(())
    }

    /// Takes the value here out; `false`: there is none.
    pub(crate) fn remove(&self, document: &mut Json) -> bool {
        let Some((last, way)) = self.steps.split_last() else { return false };
        let mut pointer = String::new();
        for step in way {
            pointer.push('/');
            pointer.push_str(&escaped(step));
        }
        match document.pointer_mut(&pointer) {
            Some(Json::Object(members)) => members.remove(last).is_some(),
            Some(Json::Array(elements)) => match last.parse::<usize>() {
                Ok(element) if element < elements.len() => {
                    elements.remove(element);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps.is_empty() {
            true => write!(f, "{}", self.key),
            false => write!(f, "{}|{}", self.key, self.steps.join(".")),
        }
    }
}

/// A step of a JSON pointer (RFC 6901).
pub(crate) fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place(text: &str) -> Place {
        Place::parse(text).expect("a place")
    }

    #[test]
    fn places_are_found_put_and_removed() {
        let mut document = json!({"a": {"b": [1, {"c": 2}]}, "s": "x"});
        assert_eq!(place("/k|a.b.1.c").find(&document), Some(&json!(2)));
        assert_eq!(place("/k").find(&document), Some(&document));
        for missing in ["/k|a.x", "/k|a.b.2", "/k|s.x", "/k|a.b.x"] {
            assert_eq!(place(missing).find(&document), None, "{missing}");
            assert!(!place(missing).remove(&mut document), "{missing}");
        }
        place("/k|a.b.2").put(&mut document, json!(3)).expect("appended");
        place("/k|n.m.o").put(&mut document, json!(4)).expect("made");
        place("/k|s").put(&mut document, json!("y")).expect("replaced");
        assert_eq!(document, json!({"a": {"b": [1, {"c": 2}, 3]}, "s": "y", "n": {"m": {"o": 4}}}));
        assert!(place("/k|s.x").put(&mut document, json!(1)).is_err_and(|e| e.contains("/k|s is neither")));
        assert!(place("/k|a.b.9").put(&mut document, json!(1)).is_err_and(|e| e.contains("a list of 3")));
        assert!(place("/k|a.b.0").remove(&mut document) && place("/k|n").remove(&mut document));
        assert_eq!(document, json!({"a": {"b": [{"c": 2}, 3]}, "s": "y"}));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "a", "/", "/|x", "/a|", "/a|x..y", "/a|.x", "/a/", "/a//b"] {
            assert!(Place::parse(text).is_err(), "{text:?}");
        }
    }
}
