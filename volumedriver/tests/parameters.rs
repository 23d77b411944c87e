//! Every parameter, walked by its declaration.

use std::collections::BTreeSet;

use cfg_schema::{Declaration, Documents, Problem, Reading, SectionDeclaration};
use serde_json::{Map, Value as Json, json};
use volumedriver::parameters::Parameters;

/// Adds `section key` of parameters and of their fields, those as `list[].field`.
fn add_names(names: &mut BTreeSet<String>, prefix: &str, declarations: &[Declaration]) {
    for declaration in declarations {
        let name = format!("{prefix}{}", declaration.key);
        add_names(names, &format!("{name}[]."), &declaration.fields);
        names.insert(name);
    }
}

#[test]
fn every_parameter_of_the_original_is_declared() {
    let mut declared = BTreeSet::new();
    for section in Parameters::declarations() {
        let prefix = format!("{} ", section.section);
        add_names(&mut declared, &prefix, &section.parameters);
        if section.numbered.is_some() {
            declared.insert(format!("{prefix}<N>"));
        }
    }
    let original: Vec<&str> = include_str!("original_parameters.txt").lines().collect();
    let missing: Vec<&&str> = original.iter().filter(|name| !declared.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(original.len(), 201);
}

/// A parameter, or a field of the objects of a list.
struct Subject<'a> {
    section: &'a str,
    /// The list that it is a field of.
    list: Option<&'a Declaration>,
    declaration: &'a Declaration,
    /// Whether ranges are not checked.
    lenient: bool,
}

impl Subject<'_> {
    /// The place that problems name.
    fn key(&self) -> String {
        let prefix = self.list.map(|list| format!("{}[0].", list.key)).unwrap_or_default();
        format!("{prefix}{}", self.declaration.key)
    }

    /// Documents in which it has `value` and everything else is valid.
    fn documents(&self, value: &Json) -> Documents {
        let (key, document) = match self.list {
            None => (self.declaration.key, value.clone()),
            Some(list) => {
                let mut object = valid_object(&list.fields);
                object.insert(self.declaration.key.to_owned(), value.clone());
                (list.key, json!([object]))
            }
        };
        [(self.section.to_owned(), json!({key: document}))].into()
    }

    fn read(&self, value: &Json) -> Reading<Parameters> {
        Parameters::read(&self.documents(value))
    }

    fn assert_accepted(&self, value: &Json) {
        let reading = self.read(value);
        assert!(
            reading.parameters.is_ok(),
            "{}.{} = {value}: {:?}",
            self.section,
            self.key(),
            reading.parameters
        );
        assert_eq!(reading.unknown, Vec::<String>::new());
        let without_effect = format!("{}.{}", self.section, self.list.unwrap_or(self.declaration).key);
        assert_eq!(reading.no_effect.contains(&without_effect), self.lenient, "{without_effect}");
    }

    /// It is refused, by one problem that names it and says what is allowed.
    fn assert_refused(&self, value: &Json, says: &str) {
        let problems: Vec<Problem> = match self.read(value).parameters {
            Err(problems) => problems,
            Ok(_) => panic!("{}.{} = {value}: accepted", self.section, self.key()),
        };
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = &problems[0];
        assert_eq!(problem.section, self.section);
        assert!(problem.key.starts_with(&self.key()), "{problem} is not about {}", self.key());
        assert!(
            problem.problem.starts_with("must be ") || problem.problem.contains(" must be "),
            "{problem}"
        );
        assert!(problem.problem.contains(says), "{problem} does not say {says:?}");
        assert!(problem.to_string().contains(&format!("{}.{}", self.section, self.key())), "{problem}");
    }
}

/// An object with a valid value for each field that needs one.
fn valid_object(fields: &[Declaration]) -> Map<String, Json> {
    let needed = fields.iter().filter(|field| field.default.is_none());
    needed.map(|field| (field.key.to_owned(), valid_value(field))).collect()
}

/// Some valid value.
fn valid_value(declaration: &Declaration) -> Json {
    if let Some(default) = &declaration.default {
        return default.clone();
    }
    match kind(&declaration.schema) {
        Kind::Whole { least, .. } | Kind::Size { least, .. } => json!(least as i64),
        Kind::Number { least, .. } => json!(least),
        Kind::Words(words) => json!(words[0]),
        Kind::Bool => json!(true),
        Kind::Text | Kind::Path => json!("x"),
        Kind::List => match declaration.fields.is_empty() {
            true => json!([]),
            false => json!([valid_object(&declaration.fields)]),
        },
    }
}

/// What a declaration allows, from its schema.
enum Kind {
    Whole { least: i128, most: i128 },
    Number { least: f64, most: f64 },
    Size { least: i128, most: i128 },
    Words(Vec<String>),
    Bool,
    Text,
    Path,
    List,
}

fn kind(schema: &Json) -> Kind {
    let whole = |schema: &Json, bound: &str| -> i128 {
        let number = &schema[bound];
        number.as_u64().map(i128::from).or(number.as_i64().map(i128::from)).expect("a bound")
    };
    if let Some(alternatives) = schema["anyOf"].as_array() {
        return match kind(&alternatives[0]) {
            Kind::Whole { least, most } if alternatives[1]["type"] == "string" => Kind::Size { least, most },
            // A value that may be unset.
            other => other,
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        return Kind::Words(words.iter().map(|word| word.as_str().expect("a word").to_owned()).collect());
    }
    match schema["type"].as_str().expect("a type") {
        "integer" => Kind::Whole { least: whole(schema, "minimum"), most: whole(schema, "maximum") },
        "number" => Kind::Number {
            least: schema["minimum"].as_f64().unwrap_or(f64::MIN),
            most: schema["maximum"].as_f64().unwrap_or(f64::MAX),
        },
        "boolean" => Kind::Bool,
        "string" if schema["minLength"] == 1 => Kind::Path,
        "string" => Kind::Text,
        "array" => Kind::List,
        other => panic!("no test for {other}"),
    }
}

/// Calls `check` with every parameter and field.
fn for_each(check: impl Fn(&Subject)) -> usize {
    let sections: Vec<SectionDeclaration> = Parameters::declarations();
    let mut count = 0;
    for section in &sections {
        for parameter in &section.parameters {
            let lenient = parameter.is_without_effect();
            check(&Subject { section: section.section, list: None, declaration: parameter, lenient });
            for field in &parameter.fields {
                check(&Subject {
                    section: section.section,
                    list: Some(parameter),
                    declaration: field,
                    lenient,
                });
            }
            count += 1 + parameter.fields.len();
        }
    }
    count
}

#[test]
fn defaults_are_accepted_and_are_what_is_used() {
    let count = for_each(|subject| {
        let Some(default) = &subject.declaration.default else { return };
        subject.assert_accepted(default);
        let parameters = subject.read(default).parameters.expect("accepted");
        if !subject.lenient && subject.list.is_none() {
            assert_eq!(&parameters.documents()[subject.section][subject.declaration.key], default);
            assert_eq!(parameters, Parameters::default(), "{}", subject.key());
        }
    });
    assert!(count >= 230, "{count}");
}

#[test]
fn the_ends_of_a_range_are_accepted_and_what_is_beyond_is_refused() {
    for_each(|subject| match kind(&subject.declaration.schema) {
        Kind::Whole { least, most } | Kind::Size { least, most } => {
            let spellings = |value: i128| {
                [serde_json::from_str(&value.to_string()).expect("JSON"), json!(value.to_string())]
            };
            for value in [least, most].into_iter().flat_map(spellings) {
                subject.assert_accepted(&value);
            }
            // The schema of what has no effect has the ends of the type.
            for value in [least - 1, most + 1].into_iter().flat_map(spellings) {
                subject.assert_refused(&value, if value.is_string() { "" } else { "must be" });
            }
        }
        Kind::Number { least, most } => {
            for value in [least, most] {
                subject.assert_accepted(&json!(value));
                subject.assert_accepted(&json!(value.to_string()));
            }
            for value in
                [least - 0.001, most + 0.001].into_iter().filter(|value| *value < least || *value > most)
            {
                subject.assert_refused(&json!(value), &subject.declaration.allowed);
            }
        }
        _ => {}
    });
}

#[test]
fn values_of_another_type_are_refused() {
    for_each(|subject| {
        let of_another_type: &[Json] = match kind(&subject.declaration.schema) {
            Kind::Whole { .. } => &[
                json!(true),
                json!(1.5),
                json!("1.5"),
                json!("x"),
                json!(""),
                json!("1 "),
                json!([1]),
                json!({}),
            ],
            Kind::Number { .. } => &[json!(true), json!("x"), json!(""), json!("NaN"), json!([1]), json!({})],
            Kind::Size { .. } => &[json!(true), json!(1.5), json!("x"), json!(""), json!([1]), json!({})],
            Kind::Words(_) => &[json!(true), json!(1), json!(""), json!([]), json!({})],
            Kind::Bool => {
                &[json!("yes"), json!("True"), json!(""), json!(2), json!([]), json!({}), json!(null)]
            }
            Kind::Text if subject.lenient => &[json!([]), json!({}), json!(null)],
            Kind::Text => &[json!(1), json!(true), json!([]), json!({}), json!(null)],
            Kind::Path => &[json!(1), json!(true), json!(""), json!([]), json!({}), json!(null)],
            Kind::List => &[json!(1), json!(true), json!("x"), json!({}), json!(null), json!([1])],
        };
        for value in of_another_type {
            subject.assert_refused(value, "must be");
        }
    });
}

#[test]
fn wrong_units_and_words_are_refused() {
    for_each(|subject| match kind(&subject.declaration.schema) {
        Kind::Size { .. } => {
            for (text, says) in [
                ("10G", "use B, KiB"),
                ("10gib", "use B, KiB"),
                ("10 GiB", "use B, KiB"),
                ("1.5GiB", "a fraction"),
                ("GiB", "is not a size"),
                ("99999999PiB", "is more than"),
            ] {
                subject.assert_refused(&json!(text), says);
            }
        }
        Kind::Words(words) => {
            for word in &words {
                subject.assert_accepted(&json!(word));
                subject.assert_refused(&json!(format!("{word}x")), &format!("one of {}", words.join(", ")));
                let other_case =
                    if word.to_lowercase() == *word { word.to_uppercase() } else { word.to_lowercase() };
                subject.assert_refused(&json!(other_case), &format!("one of {}", words.join(", ")));
            }
        }
        _ => {}
    });
}
