//! Keys as paths, and ranges of keys.

use std::fmt;

use crate::Error;

/// Longest key, in bytes.
pub const KEY_LIMIT: usize = 1024;

/// A key of the store: `/` or `/a/b/c`. As a prefix it covers itself and what is below it, never what merely begins
/// with the same letters: `/a/b` covers `/a/b/c` and not `/a/bc`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(String);

impl KeyPath {
    /// The path of everything.
    pub fn root() -> KeyPath {
        KeyPath("/".to_owned())
    }

    /// Takes `text` as it stands: absolute, no empty part, no `.` and `..`, no control characters, no `|` (which
    /// separates a key from a place in its document), no `/` at its end.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn parse(text: &str) -> Result<KeyPath, Error> {
        let refused = |problem: &str| Err(Error::Key { key: text.to_owned(), problem: problem.to_owned() });
        let Some(parts) = text.strip_prefix('/') else {
            return refused("begins with a /, such as /ovs/framework");
        };
        if text.len() > KEY_LIMIT {
            return refused(&format!("has {} bytes, at most {KEY_LIMIT} are allowed", text.len()));
        }
        if text.chars().any(|c| c.is_control() || c == '|') {
            return refused("cannot contain | or control characters");
        }
        for part in parts.split('/') {
            match part {
                "" if parts.is_empty() => {}
                "" => return refused("has an empty part: no // and no / at its end"),
                "." | ".." => return refused("cannot have . or .. as a part"),
                _ => {}
            }
        }
        Ok(KeyPath(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`, which is no key.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// What all keys below this path begin with; ends in `/`.
    pub fn folder(&self) -> String {
        if self.is_root() { self.0.clone() } else { format!("{}/", self.0) }
    }

    /// Whether `key` is this one or below it.
    pub fn covers(&self, key: &[u8]) -> bool {
        key == self.0.as_bytes() || key.starts_with(self.folder().as_bytes())
    }

    /// The key `name`, which may itself have several parts, below this one.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn join(&self, name: &str) -> Result<KeyPath, Error> {
        KeyPath::parse(&format!("{}{name}", self.folder()))
    }

    /// The paths above this one, the root left out, from the top: `/a` and `/a/b` of `/a/b/c`.
    pub fn parents(&self) -> Vec<KeyPath> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        ends.map(|at| KeyPath(self.0[..at].to_owned())).collect()
    }

    /// All keys below this path, itself left out.
    pub fn below(&self) -> KeyRange {
        KeyRange::prefix(self.folder().into_bytes())
    }

    /// One range with everything that this path covers, and with foreign keys that the caller drops by
    /// [`KeyPath::covers`].
    pub(crate) fn around(&self) -> KeyRange {
        let below = self.below();
        KeyRange { from: self.0.clone().into_bytes(), to: below.to }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One key, or all keys from one up to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub(crate) from: Vec<u8>,
    /// The first key behind the range; empty: the range is the key `from` alone.
    pub(crate) to: Vec<u8>,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange { from: key.into(), to: Vec::new() }
    }

    /// What lies between two ranges of which the first one comes before the other.
    pub fn between(first: &KeyRange, second: &KeyRange) -> KeyRange {
        KeyRange { from: first.to.clone(), to: second.from.clone() }
    }

    /// All keys that begin with `prefix`, letter by letter.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> KeyRange {
        let from = prefix.into();
        let mut to = from.clone();
        while to.pop_if(|last| *last == u8::MAX).is_some() {}
        match to.last_mut() {
            Some(last) => *last += 1,
            // The API's word for "to the end".
            None => to = vec![0],
        }
        KeyRange { from, to }
    }
}

impl From<&KeyPath> for KeyRange {
    /// The key itself, without what is below.
    fn from(path: &KeyPath) -> KeyRange {
        KeyRange::key(path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> KeyPath {
        KeyPath::parse(text).unwrap()
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below() {
        let abc = path("/abc");
        for (key, covered) in [
            ("/abc", true),
            ("/abc/d", true),
            ("/abcd", false),
            ("/abc-d", false),
            ("/ab", false),
            ("/abc/", true),
        ] {
            assert_eq!(abc.covers(key.as_bytes()), covered, "{key}");
        }
        assert!(KeyPath::root().covers(b"/x"));
        assert_eq!(abc.below(), KeyRange { from: b"/abc/".into(), to: b"/abc0".into() });
        assert_eq!(path("/a/b/c").parents(), [path("/a"), path("/a/b")]);
        assert!(path("/a").parents().is_empty());
        assert_eq!(KeyRange::prefix([1, 255, 255]).to, [2]);
        assert_eq!(KeyRange::prefix([255]).to, [0]);
        let between = KeyRange::between(&abc.below(), &path("/b").below());
        assert_eq!(between, KeyRange { from: b"/abc0".into(), to: b"/b/".into() });
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = format!("/{}", "x".repeat(KEY_LIMIT));
        for text in ["", "a", "//", "/a//b", "/a/", "/a/./b", "/..", "/a|b", "/a\nb", &long] {
            assert!(matches!(KeyPath::parse(text), Err(Error::Key { .. })), "{text:?}");
        }
        assert_eq!(path("/a").join("b/c").unwrap(), path("/a/b/c"));
        assert!(path("/").join("a").is_ok_and(|key| key == path("/a")));
    }
}
