//! Which keys a request is about.

use std::ops::Bound;

use bytes::Bytes;

/// A key, or the keys from one to another, in etcd's notation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The key, or the first one.
    pub key: Bytes,
    /// Empty: the key alone. One zero byte: all keys from `key` on. Else the first key behind the range.
    pub end: Bytes,
}

impl KeyRange {
    /// One key.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), end: Bytes::new() }
    }

    /// The keys from `key` up to, and without, `end`.
    pub fn between(key: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { key: key.into(), end: end.into() }
    }

    /// The keys that begin with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key: Bytes = prefix.into();
        let last = key.iter().rposition(|&byte| byte != 0xff);
        let end = match last {
            Some(last) => {
                let mut end = key[..=last].to_vec();
                end[last] += 1;
                end.into()
            }
            // Nothing follows a prefix of 0xff bytes.
            None => Bytes::from_static(&[0]),
        };
        let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key };
        Self { key, end }
    }

    /// Whether it means one key.
    pub fn is_one(&self) -> bool {
        self.end.is_empty()
    }

    /// Whether `key` belongs to it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            [] => self.key == key,
            [0] => &self.key[..] <= key,
            end => &self.key[..] <= key && key < end,
        }
    }

    /// Whether a key could belong to both.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        let begins_before_end = |a: &KeyRange, b: &KeyRange| match &b.end[..] {
            [] => a.key <= b.key,
            [0] => true,
            end => &a.key[..] < end,
        };
        !self.is_empty()
            && !other.is_empty()
            && begins_before_end(self, other)
            && begins_before_end(other, self)
    }

    /// Whether no key can belong to it.
    pub fn is_empty(&self) -> bool {
        !matches!(&self.end[..], [] | [0]) && self.end <= self.key
    }

    /// For an ordered map. An empty range gives bounds that hold nothing.
    pub(super) fn bounds(&self) -> (Bound<&Bytes>, Bound<&Bytes>) {
        match &self.end[..] {
            [] => (Bound::Included(&self.key), Bound::Included(&self.key)),
            [0] => (Bound::Included(&self.key), Bound::Unbounded),
            // An ordered map panics on bounds the wrong way round.
            _ if self.is_empty() => (Bound::Included(&self.key), Bound::Excluded(&self.key)),
            _ => (Bound::Included(&self.key), Bound::Excluded(&self.end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_the_next_one_begins() {
        assert_eq!(KeyRange::prefix("ab"), KeyRange::between("ab", "ac"));
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]), KeyRange::between(&b"a\xff"[..], "b"));
        assert_eq!(KeyRange::prefix(&b"\xff"[..]), KeyRange::between(&b"\xff"[..], &b"\0"[..]));
        assert!(KeyRange::prefix("").contains(b"anything") && KeyRange::prefix("").contains(&[0]));
    }

    #[test]
    fn overlaps_are_found_from_both_sides() {
        let ranges = [
            KeyRange::one("b"),
            KeyRange::one("c"),
            KeyRange::between("a", "c"),
            KeyRange::between("c", "e"),
            KeyRange::between("c", &b"\0"[..]),
            KeyRange::between("c", "a"),
        ];
        let keys = ["a", "b", "c", "d", "e", "f"].map(str::as_bytes);
        for one in &ranges {
            for other in &ranges {
                let shared = keys.iter().any(|key| one.contains(key) && other.contains(key));
                assert_eq!(one.overlaps(other), shared, "{one:?} {other:?}");
            }
        }
    }
}
