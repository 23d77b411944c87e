//! Lists, and values that may be unset.

use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json, json};

use crate::{Declaration, Parameter, Place};

/// An object in a list parameter; made by `parameters!`.
pub trait ParameterObject: Clone + PartialEq + Sized {
    /// Its fields.
    fn fields() -> Vec<Declaration>;
    /// As [`Parameter::read`], for a JSON object.
    fn read(object: &Map<String, Json>, place: &mut Place<'_>) -> Option<Self>;
    /// As [`Parameter::write`].
    fn write(&self) -> Json;
    /// As [`Parameter::canonical`].
    fn canonical(&self) -> Json;
}

/// The elements of a list; an empty string is an empty list, as in the documents of the original volume driver.
fn elements<'j>(json: &'j Json, place: &mut Place<'_>, problem: &str) -> Option<&'j [Json]> {
    match json {
        Json::Array(elements) => Some(elements),
        Json::String(text) if text.is_empty() => Some(&[]),
        other => {
            place.refuse(other, problem);
            None
        }
    }
}

/// A range bounds the number of entries.
impl<T: ParameterObject> Parameter for Vec<T> {
    type Bound = usize;

    fn type_name() -> &'static str {
        "list of objects"
    }

    fn allowed(range: Option<&RangeInclusive<usize>>) -> String {
        match range {
            None => "a list of objects".to_owned(),
            Some(range) if range.start() == range.end() => {
                format!("a list of exactly {} object(s)", range.start())
            }
            Some(range) if *range.end() == usize::MAX => {
                format!("a list of at least {} object(s)", range.start())
            }
            Some(range) => format!("a list of {} to {} objects", range.start(), range.end()),
        }
    }

    fn schema(range: Option<&RangeInclusive<usize>>) -> Json {
        let mut schema = crate::generate::object_schema(&T::fields());
        schema = json!({"type": "array", "items": schema});
        if let Some(range) = range {
            schema["minItems"] = json!(range.start());
            schema["maxItems"] = json!(range.end());
        }
        schema
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<Vec<T>> {
        let elements = elements(json, place, "must be a list of objects")?;
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let mut place = place.element(index);
            match element {
                Json::Object(object) => values.extend(T::read(object, &mut place)),
                other => place.refuse(other, "must be an object"),
            }
        }
        // A refused element was reported; the rest is not judged by its number.
        (values.len() == elements.len()).then_some(values)
    }

    fn write(&self) -> Json {
        Json::Array(self.iter().map(ParameterObject::write).collect())
    }

    fn canonical(&self) -> Json {
        Json::Array(self.iter().map(ParameterObject::canonical).collect())
    }

    fn within(&self, range: &RangeInclusive<usize>) -> bool {
        range.contains(&self.len())
    }

    fn fields() -> Vec<Declaration> {
        T::fields()
    }
}

/// A list of plain values. A range bounds the number of entries.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T: Parameter> Parameter for List<T> {
    type Bound = usize;

    fn type_name() -> &'static str {
        "list"
    }

    fn allowed(range: Option<&RangeInclusive<usize>>) -> String {
        match range {
            None => format!("a list, each element {}", T::allowed(None)),
            Some(range) => {
                format!("a list of {} to {}, each element {}", range.start(), range.end(), T::allowed(None))
            }
        }
    }

    fn schema(range: Option<&RangeInclusive<usize>>) -> Json {
        let mut schema = json!({"type": "array", "items": T::schema(None)});
        if let Some(range) = range {
            schema["minItems"] = json!(range.start());
            schema["maxItems"] = json!(range.end());
        }
        schema
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<List<T>> {
        let elements = elements(json, place, &format!("must be {}", Self::allowed(None)))?;
        let read = |(index, element)| T::read(element, &mut place.element(index));
        let values: Vec<T> = elements.iter().enumerate().filter_map(read).collect();
        (values.len() == elements.len()).then_some(List(values))
    }

    fn write(&self) -> Json {
        Json::Array(self.0.iter().map(Parameter::write).collect())
    }

    fn canonical(&self) -> Json {
        Json::Array(self.0.iter().map(Parameter::canonical).collect())
    }

    fn within(&self, range: &RangeInclusive<usize>) -> bool {
        range.contains(&self.0.len())
    }
}

/// A value that may be unset: `null`. A range bounds the values.
impl<T: Parameter> Parameter for Option<T> {
    type Bound = T::Bound;

    fn type_name() -> &'static str {
        T::type_name()
    }

    fn allowed(range: Option<&RangeInclusive<T::Bound>>) -> String {
        format!("{}, or null", T::allowed(range))
    }

    fn schema(range: Option<&RangeInclusive<T::Bound>>) -> Json {
        json!({"anyOf": [T::schema(range), {"type": "null"}]})
    }

    fn read(json: &Json, place: &mut Place<'_>) -> Option<Option<T>> {
        if json.is_null() { Some(None) } else { T::read(json, place).map(Some) }
    }

    fn write(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::write)
    }

    fn canonical(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::canonical)
    }

    fn within(&self, range: &RangeInclusive<T::Bound>) -> bool {
        self.as_ref().is_none_or(|value| value.within(range))
    }

    fn fields() -> Vec<Declaration> {
        T::fields()
    }
}
