//! Sizes in bytes, with units.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Value as Json, json};

use crate::{Parameter, Place};

/// A number of bytes: `4096`, `32MiB`, `10GB`. Units are `B`, `KB`…`PB` (powers of 1000) and `KiB`…`PiB` (powers of
/// 1024). Two spellings of the same number are the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A size, or `UNLIMITED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// At most so much.
    Bytes(ByteSize),
    /// No limit but the medium's own.
    Unlimited,
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseSizeError(String);

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseSizeError {}

/// Units with their factors; the binary ones first, because they are shown where both are as short.
const UNITS: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const ALLOWED: &str = "a number of bytes, or a whole number with a unit, such as 4096, 32MiB or 10GB";

impl ByteSize {
    /// `count` times 1024 bytes.
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count << 10)
    }

    /// `count` times 1024² bytes.
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    /// `count` times 1024³ bytes.
    pub const fn gib(count: u64) -> ByteSize {
        ByteSize(count << 30)
    }

    /// `count` times 1024⁴ bytes.
    pub const fn tib(count: u64) -> ByteSize {
        ByteSize(count << 40)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Below 10 KiB the bytes are as readable, and 4096 is what everybody calls it.
        let exact = UNITS.iter().filter(|(_, factor)| self.0 >= 10 << 10 && self.0.is_multiple_of(*factor));
        match exact.min_by_key(|(_, factor)| self.0 / factor) {
            Some((unit, factor)) if *factor > 1 => f.pad(&format!("{}{unit}", self.0 / factor)),
            _ => f.pad(&self.0.to_string()),
        }
    }
}

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<ByteSize, ParseSizeError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(ParseSizeError(format!("{text:?} is not a size: give {ALLOWED}")));
        }
        let factor = match unit {
            "" => 1,
            unit if unit.starts_with(['.', ',']) => {
                return Err(ParseSizeError(format!("{text:?} has a fraction: give {ALLOWED}")));
            }
            unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(|| {
                ParseSizeError(format!(
                    "{unit:?} in {text:?} is not a unit: use B, KiB, MiB, GiB, TiB, PiB, KB, MB, GB, TB or PB"
                ))
            })?,
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        bytes.map(ByteSize).ok_or_else(|| ParseSizeError(format!("{text:?} is more than {} bytes", u64::MAX)))
    }
}

impl Parameter for ByteSize {
    type Bound = u64;

    fn type_name() -> &'static str {
        "size"
    }

    fn allowed(range: Option<&RangeInclusive<u64>>) -> String {
        range.map_or("a size such as 4096, 32MiB or 10GB".to_owned(), |range| {
            format!("a size from {} to {}", ByteSize(*range.start()), ByteSize(*range.end()))
        })
    }

    fn schema(range: Option<&RangeInclusive<u64>>) -> Json {
        let (least, most) = range.map_or((0, u64::MAX), |range| (*range.start(), *range.end()));
        json!({"anyOf": [
            {"type": "integer", "minimum": least, "maximum": most},
            {"type": "string", "pattern": "^[0-9]+([KMGTP]i?B|B)?$"},
        ]})
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<ByteSize> {
        match json {
            Json::String(text) => match text.parse() {
                Ok(size) => return Some(size),
                Err(error) => place.refuse(json, format!("must be a size: {error}")),
            },
            Json::Number(number) if number.is_u64() => return number.as_u64().map(ByteSize),
            other => place.refuse(other, format!("must be a size: {ALLOWED}")),
        }
        None
    }

    fn write(&self) -> Json {
        json!(self.to_string())
    }

    fn canonical(&self) -> Json {
        json!(self.0)
    }

    fn within(&self, range: &RangeInclusive<u64>) -> bool {
        range.contains(&self.0)
    }
}

impl SizeLimit {
    const WORD: &str = "UNLIMITED";
}

impl fmt::Display for SizeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeLimit::Bytes(size) => size.fmt(f),
            SizeLimit::Unlimited => f.pad(SizeLimit::WORD),
        }
    }
}

/// A range bounds the bytes; `UNLIMITED` is always in it.
impl Parameter for SizeLimit {
    type Bound = u64;

    fn type_name() -> &'static str {
        "size or UNLIMITED"
    }

    fn allowed(range: Option<&RangeInclusive<u64>>) -> String {
        format!("{}, or UNLIMITED", ByteSize::allowed(range))
    }

    fn schema(range: Option<&RangeInclusive<u64>>) -> Json {
        let mut schema = ByteSize::schema(range);
        if let Some(alternatives) = schema["anyOf"].as_array_mut() {
            alternatives.push(json!({"const": SizeLimit::WORD}));
        }
        schema
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<SizeLimit> {
        match json.as_str() {
            Some(SizeLimit::WORD) => Some(SizeLimit::Unlimited),
            _ => ByteSize::read(json, place).map(SizeLimit::Bytes),
        }
    }

    fn write(&self) -> Json {
        json!(self.to_string())
    }

    fn canonical(&self) -> Json {
        match self {
            SizeLimit::Bytes(size) => size.canonical(),
            SizeLimit::Unlimited => json!(SizeLimit::WORD),
        }
    }

    fn within(&self, range: &RangeInclusive<u64>) -> bool {
        match self {
            SizeLimit::Bytes(size) => size.within(range),
            SizeLimit::Unlimited => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("7B", 7),
            ("10GiB", 10 << 30),
            ("10GB", 10_000_000_000),
            ("239910912KiB", 239_910_912 << 10),
            ("16383PiB", 16383 << 50),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is not a size"),
            ("-1", "is not a size"),
            ("GiB", "is not a size"),
            (" 1GiB", "is not a size"),
            ("1.5GiB", "fraction"),
            ("10G", "is not a unit"),
            ("10gib", "is not a unit"),
            ("10GiB ", "is not a unit"),
            ("16384PiB", "is more than"),
            ("99999999999999999999", "is more than"),
        ] {
            let error = text.parse::<ByteSize>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_the_unit_that_leaves_the_least_number_and_reads_back() {
        for (bytes, text) in [
            (0, "0"),
            (4096, "4096"),
            (32 << 20, "32MiB"),
            (1_000_000_000, "1GB"),
            (10_241, "10241"),
            (64 << 40, "64TiB"),
            (20_000_000_000, "20GB"),
            (1_024_000, "1000KiB"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
    }
}
