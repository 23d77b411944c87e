//! The types that parameters can have.

use std::convert::Infallible;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::{Declaration, Place};

/// The bound of types that take no range: there is no value of it, hence no range of it.
pub type Unranged = Infallible;

/// A type that a parameter can have.
///
/// Scalars are read from their JSON type, and from a string that holds exactly the same text (`"5000"` for 5000),
/// because documents of the original volume driver and of the tools around it are full of them.
pub trait Parameter: Clone + PartialEq + Sized {
    /// What a range is made of: the number itself, bytes of a size, entries of a list.
    type Bound: PartialOrd + Display;

    /// Name of the type in the reference.
    fn type_name() -> &'static str;
    /// What is allowed, as the end of a sentence that begins with "must be".
    fn allowed(range: Option<&RangeInclusive<Self::Bound>>) -> String;
    /// Type and range in JSON schema.
    fn schema(range: Option<&RangeInclusive<Self::Bound>>) -> Json;
    /// The typed value of `json`; `None` when it was refused and reported at `place`. The range is not checked here.
    fn read(json: &Json, place: &mut Place<'_>) -> Option<Self>;
    /// The value as people write it: sizes with a unit where that is exact.
    fn write(&self) -> Json;
    /// The canonical form: equal values, and only those, give equal JSON.
    fn canonical(&self) -> Json {
        self.write()
    }
    /// Whether the value is in `range`.
    fn within(&self, range: &RangeInclusive<Self::Bound>) -> bool;
    /// Fields of the objects that the value is a list of.
    fn fields() -> Vec<Declaration> {
        Vec::new()
    }
}

macro_rules! whole {
    ($type:ty, $name:literal, $as_number:ident) => {
        impl Parameter for $type {
            type Bound = $type;

            fn type_name() -> &'static str {
                $name
            }

            fn allowed(range: Option<&RangeInclusive<$type>>) -> String {
                let (least, most) = range.map_or((<$type>::MIN, <$type>::MAX), |r| (*r.start(), *r.end()));
                match most {
                    <$type>::MAX => format!("a whole number of at least {least}"),
                    _ => format!("a whole number from {least} to {most}"),
                }
            }

            fn schema(range: Option<&RangeInclusive<$type>>) -> Json {
                let (least, most) = range.map_or((<$type>::MIN, <$type>::MAX), |r| (*r.start(), *r.end()));
                json!({"type": "integer", "minimum": least, "maximum": most})
            }

            fn read(json: &Json, place: &mut Place<'_>) -> Option<$type> {
                let value = match json {
                    // Digits and no plus sign: what is written is what is meant.
                    Json::String(text) if !text.starts_with('+') => text.parse().ok(),
                    other => other.$as_number().and_then(|number| <$type>::try_from(number).ok()),
                };
                if value.is_none() {
                    place.refuse(json, format!("must be a whole number from {} to {}", <$type>::MIN, <$type>::MAX));
                }
                value
            }

            fn write(&self) -> Json {
                json!(self)
            }

            fn within(&self, range: &RangeInclusive<$type>) -> bool {
                range.contains(self)
            }
        }
    };
}
whole!(u16, "uint16", as_u64);
whole!(u32, "uint32", as_u64);
whole!(u64, "uint64", as_u64);
whole!(i32, "int32", as_i64);

impl Parameter for f64 {
    type Bound = f64;

    fn type_name() -> &'static str {
        "float"
    }

    fn allowed(range: Option<&RangeInclusive<f64>>) -> String {
        match range {
            None => "a number".to_owned(),
            Some(range) if *range.end() == f64::MAX => format!("a number of at least {}", range.start()),
            Some(range) => format!("a number from {} to {}", range.start(), range.end()),
        }
    }

    fn schema(range: Option<&RangeInclusive<f64>>) -> Json {
        range.map_or(
            json!({"type": "number"}),
            |range| json!({"type": "number", "minimum": range.start(), "maximum": range.end()}),
        )
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<f64> {
        let value = match json {
            Json::String(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
            other => other.as_f64(),
        };
        if value.is_none() {
            place.refuse(json, "must be a number");
        }
        value
    }

    fn write(&self) -> Json {
        json!(self)
    }

    fn canonical(&self) -> Json {
        // Minus zero equals zero and is written otherwise.
        json!(self + 0.0)
    }

    fn within(&self, range: &RangeInclusive<f64>) -> bool {
        range.contains(self)
    }
}

impl Parameter for bool {
    type Bound = Unranged;

    fn type_name() -> &'static str {
        "bool"
    }

    fn allowed(_: Option<&RangeInclusive<Unranged>>) -> String {
        "true or false".to_owned()
    }

    fn schema(_: Option<&RangeInclusive<Unranged>>) -> Json {
        json!({"type": "boolean"})
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<bool> {
        let value = match json {
            Json::Bool(value) => Some(*value),
            Json::String(text) if text == "true" || text == "1" => Some(true),
            Json::String(text) if text == "false" || text == "0" => Some(false),
            Json::Number(number) if number.as_u64() == Some(1) => Some(true),
            Json::Number(number) if number.as_u64() == Some(0) => Some(false),
            _ => None,
        };
        if value.is_none() {
            place.refuse(json, "must be true or false");
        }
        value
    }

    fn write(&self) -> Json {
        json!(self)
    }

    fn within(&self, range: &RangeInclusive<Unranged>) -> bool {
        match *range.start() {}
    }
}

impl Parameter for String {
    type Bound = Unranged;

    fn type_name() -> &'static str {
        "string"
    }

    fn allowed(_: Option<&RangeInclusive<Unranged>>) -> String {
        "a string".to_owned()
    }

    fn schema(_: Option<&RangeInclusive<Unranged>>) -> Json {
        json!({"type": "string"})
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<String> {
        let value = match json {
            Json::String(text) => Some(text.clone()),
            // The original knew text only.
            Json::Number(_) | Json::Bool(_) if place.is_lenient() => Some(json.to_string()),
            _ => None,
        };
        if value.is_none() {
            place.refuse(json, "must be a string");
        }
        value
    }

    fn write(&self) -> Json {
        json!(self)
    }

    fn within(&self, range: &RangeInclusive<Unranged>) -> bool {
        match *range.start() {}
    }
}

impl Parameter for PathBuf {
    type Bound = Unranged;

    fn type_name() -> &'static str {
        "path"
    }

    fn allowed(_: Option<&RangeInclusive<Unranged>>) -> String {
        "a path (a relative one starts in the data directory)".to_owned()
    }

    fn schema(_: Option<&RangeInclusive<Unranged>>) -> Json {
        json!({"type": "string", "minLength": 1})
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<PathBuf> {
        match json.as_str() {
            Some(text) if (place.is_lenient() || !text.is_empty()) && !text.contains('\0') => {
                Some(PathBuf::from(text))
            }
            _ => {
                place.refuse(json, "must be a path: a string that is not empty");
                None
            }
        }
    }

    fn write(&self) -> Json {
        json!(self.to_string_lossy())
    }

    fn canonical(&self) -> Json {
        // Paths are equal if their components are.
        json!(self.components().collect::<PathBuf>().to_string_lossy())
    }

    fn within(&self, range: &RangeInclusive<Unranged>) -> bool {
        match *range.start() {}
    }
}
