//! The name of a volume: what users type, what NBD clients ask for. Its files are found by UUID instead, so that a
//! name needs no escaping anywhere.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 128;

/// A checked name: 1 to 128 bytes, a letter or digit, then letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

/// The text is no name of a volume; prints the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a volume name: 1 to {NAME_MAX} characters, the first a letter or digit, the others letters, digits, \
     '.', '_' or '-'"
)]
pub struct InvalidName(pub String);

impl VolumeName {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let bytes = text.as_bytes();
        let valid = bytes.len() <= NAME_MAX
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|&byte| rest(byte));
        if !valid {
            return Err(InvalidName(text.chars().take(NAME_MAX).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let longest = "a".repeat(NAME_MAX);
        for name in ["a", "0", "vm-1.root_disk", longest.as_str()] {
            assert_eq!(VolumeName::parse(name).unwrap().as_str(), name);
        }
        let too_long = "a".repeat(NAME_MAX + 1);
        for name in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0", too_long.as_str()] {
            let error = VolumeName::parse(name).unwrap_err();
            assert!(error.to_string().contains("1 to 128 characters"), "{error}");
        }
    }
}
