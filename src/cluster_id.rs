//! Which store a directory belongs to: the id of the store's cluster, 16 hexadecimal digits wherever people see it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hexadecimal digits of an id.
const DIGITS: usize = 16;

/// The id of a cluster of the configuration store; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ClusterId(u64);

impl ClusterId {
    /// What an answer of the store carries; zero is none.
    pub(crate) fn of(id: u64) -> Option<ClusterId> {
        (id != 0).then_some(ClusterId(id))
    }

    /// As the store's API has it.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = DIGITS)
    }
}

impl FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterId, String> {
        let is_hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u64::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal && text.len() <= DIGITS);
        id.and_then(ClusterId::of).ok_or_else(|| {
            format!("the id of a cluster has 1 to {DIGITS} hexadecimal digits, such as cdf818194e3a8c32, and is not 0")
        })
    }
}

impl TryFrom<String> for ClusterId {
    type Error = String;

    fn try_from(text: String) -> Result<ClusterId, String> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_hexadecimal_digits() {
        let id: ClusterId = "cdf818194e3a8c32".parse().unwrap();
        assert_eq!((id.number(), id.to_string()), (0xcdf8_1819_4e3a_8c32, "cdf818194e3a8c32".to_owned()));
        // Some commands leave zeros at the front away.
        let short: ClusterId = "8C32".parse().unwrap();
        assert_eq!(short.to_string(), "0000000000008c32");
        assert_eq!(serde_json::to_string(&short).unwrap(), "\"0000000000008c32\"");
        assert_eq!(serde_json::from_str::<ClusterId>("\"0000000000008c32\"").unwrap(), short);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let decimal = "14841639068965178418";
        for text in ["", "0", "0x1", "+1", "-1", "cluster", " 1", decimal, "10000000000000000"] {
            assert!(text.parse::<ClusterId>().is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<ClusterId>("7").is_err());
    }
}
