//! Reading the struct that each method takes, and building results.
//!
//! Scalars of requests are texts, truth values too, as the original wants them. Numbers and sizes may be integers as
//! well; Python can send none above 2^31-1.

use std::collections::BTreeMap;

use cfg_schema::ByteSize;
use dxr::Value;

use super::failed::Failed;

/// The struct of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments(BTreeMap<String, Value>);

impl Arguments {
    /// The parameters of a call: one struct.
    pub(super) fn of(parameters: Vec<Value>) -> Result<Arguments, Failed> {
        let count = parameters.len();
        match <[Value; 1]>::try_from(parameters) {
            Ok([Value::Struct(members)]) => Ok(Arguments(members)),
            Ok(_) => Err(Failed::Argument("the argument must be a struct".to_owned())),
            Err(_) => Err(Failed::Argument(format!("one struct is the argument, not {count} values"))),
        }
    }

    /// A text that may be absent.
    pub(super) fn optional(&self, key: &str) -> Result<Option<&str>, Failed> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Failed::Argument(format!("Argument {key} is not a string"))),
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<&str, Failed> {
        self.optional(key)?.ok_or_else(|| absent(key))
    }

    /// A whole number of at least 0 that may be absent.
    pub(super) fn optional_number(&self, key: &str) -> Result<Option<u64>, Failed> {
        let number = match self.0.get(key) {
            None => return Ok(None),
            Some(Value::Integer(number)) => u64::try_from(*number).ok(),
            Some(Value::Long(number)) => u64::try_from(*number).ok(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => return Err(Failed::Argument(format!("Argument {key} is not a string"))),
        };
        let wrong = || Failed::Argument(format!("Argument {key} is no whole number of at least 0"));
        number.map(Some).ok_or_else(wrong)
    }

    /// The same, below 2^32.
    pub(super) fn small_number(&self, key: &str) -> Result<Option<u32>, Failed> {
        let Some(number) = self.optional_number(key)? else { return Ok(None) };
        let wrong = |_| Failed::Argument(format!("Argument {key} is {number}, more than {}", u32::MAX));
        u32::try_from(number).map(Some).map_err(wrong)
    }

    /// A size in bytes: `4096`, `10GiB`, `10 GiB`.
    pub(super) fn size(&self, key: &str) -> Result<u64, Failed> {
        let Some(Value::String(text)) = self.0.get(key) else {
            return self.optional_number(key)?.ok_or_else(|| absent(key));
        };
        let unspaced: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let plain = unspaced.strip_suffix('B').filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        let parsed: Result<ByteSize, _> = plain.unwrap_or(&unspaced).parse();
        let size = parsed.map_err(|error| Failed::Argument(format!("Argument {key} is no size: {error}")))?;
        Ok(size.bytes())
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Failed> {
        let text = self.text(key)?;
        truth(text)
            .ok_or_else(|| Failed::Argument(format!("Argument {key} is neither true nor false: {text:?}")))
    }

    /// The same; another text or none means `default`.
    pub(super) fn lenient_flag(&self, key: &str, default: bool) -> Result<bool, Failed> {
        Ok(self.optional(key)?.and_then(truth).unwrap_or(default))
    }

    /// Whether there is anything but nothing under a key.
    pub(super) fn has(&self, key: &str) -> bool {
        match self.0.get(key) {
            None => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Struct(members)) => !members.is_empty(),
            Some(_) => true,
        }
    }
}

/// What a call misses.
pub(super) fn absent(key: &str) -> Failed {
    Failed::Argument(format!("Argument {key} not present"))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// A struct.
pub(super) fn record<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Struct(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A text in which everything is replaced that XML cannot hold.
pub(super) fn clean(text: &str) -> String {
    let fits = |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\t' | '\n');
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect()
}

/// A text, [`clean`].
pub(super) fn text(text: &str) -> Value {
    Value::String(clean(text))
}

/// A number as text, as most results of the original have it.
pub(super) fn decimal(number: u64) -> Value {
    Value::String(number.to_string())
}

/// A number: `i4` if it fits, else `i8`, and beyond that a text.
pub(super) fn number(number: u64) -> Value {
    match (i32::try_from(number), i64::try_from(number)) {
        (Ok(small), _) => Value::Integer(small),
        (_, Ok(large)) => Value::Long(large),
        _ => decimal(number),
    }
}

/// The result of what only does something.
pub(super) fn nothing() -> Value {
    Value::String(String::new())
}

/// A list of texts.
pub(super) fn texts<T: AsRef<str>>(list: impl IntoIterator<Item = T>) -> Value {
    Value::Array(list.into_iter().map(|item| text(item.as_ref())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(members: Value) -> Arguments {
        Arguments::of(vec![members]).expect("a struct")
    }

    #[test]
    fn sizes_are_texts_with_or_without_unit_or_integers() {
        let bytes = |value: Value| arguments(record([("s", value)])).size("s");
        for (given, expected) in [
            (text("4096"), 4096),
            (text("512B"), 512),
            (text("10 GiB"), 10 << 30),
            (text("1GB"), 1_000_000_000),
            (Value::Integer(512), 512),
            (Value::Long(1 << 40), 1 << 40),
        ] {
            assert_eq!(bytes(given.clone()).expect("a size"), expected, "{given:?}");
        }
        for wrong in
            [text("big"), text("1.5GiB"), text(""), text("-1"), Value::Integer(-1), Value::Boolean(true)]
        {
            assert!(matches!(bytes(wrong.clone()), Err(Failed::Argument(_))), "{wrong:?}");
        }
    }

    #[test]
    fn truth_is_a_text() {
        let given =
            arguments(record([("yes", text("True")), ("no", text("0")), ("bool", Value::Boolean(true))]));
        assert!(given.flag("yes").expect("a flag"));
        assert!(given.flag("no").is_err() && given.flag("bool").is_err() && given.flag("absent").is_err());
        assert!(given.lenient_flag("no", true).expect("the default"));
        assert!(given.lenient_flag("bool", true).is_err(), "a boolean is no text");
    }

    #[test]
    fn a_call_has_one_struct() {
        for wrong in [vec![], vec![text("a")], vec![record([]), record([])]] {
            assert!(Arguments::of(wrong).is_err());
        }
    }

    #[test]
    fn numbers_take_the_room_they_need_and_texts_are_what_xml_can_hold() {
        assert_eq!(number(7), Value::Integer(7));
        assert_eq!(number(1 << 31), Value::Long(1 << 31));
        assert_eq!(number(u64::MAX), Value::String("18446744073709551615".to_owned()));
        assert_eq!(text("a\0b\u{1b}\n"), Value::String("a\u{fffd}b\u{fffd}\n".to_owned()));
    }
}
