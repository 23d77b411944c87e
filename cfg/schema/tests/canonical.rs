//! Hashes are equal exactly if values are, however the documents are spelled; changes name what differs.

use std::path::PathBuf;

use cfg_schema::{
    ByteSize, Category, Change, Documents, List, Milliseconds, SizeLimit, parameters, schema_hash, words,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Map, Value as Json, json};

words! {
    /// Words.
    pub enum Word {
        /// One.
        One = "one",
        /// Two.
        Two = "two",
    }
}

parameters! {
    /// One parameter of each type.
    pub struct Parameters;

    objects {
        /// A disk.
        Disk {
            /// Where.
            path: PathBuf;
            /// How much.
            size: SizeLimit = SizeLimit::Unlimited;
            /// What opens it.
            pin: u32 = 0, secret;
        }
    }

    /// All types.
    section all: All {
        /// A switch.
        flag: bool = false, Dynamic;
        /// A number.
        count: u32 = 1, Restart;
        /// A number with a sign.
        shift: i32 = 0, Dynamic;
        /// A factor.
        factor: f64 = 1.0, Dynamic;
        /// A size.
        room: ByteSize = ByteSize::gib(1), Dynamic;
        /// A time.
        wait_ms: Milliseconds = Milliseconds(100), Dynamic;
        /// A word.
        word: Word = Word::One, Dynamic;
        /// A text.
        name: String = String::new(), Dynamic, secret;
        /// Words.
        words: List<Word> = List(Vec::new()), Dynamic;
        /// A number or none.
        limit: Option<u32> = None, Dynamic;
        /// Disks.
        disks: Vec<Disk> = Vec::new(), Restart;
    }

    /// Who it is.
    section who: Who {
        /// Its name.
        id: String = "x".to_owned(), Immutable, identity;
        /// Its kind.
        kind: u32 = 0, Immutable;
    }
}

fn read(documents: &Documents) -> Parameters {
    Parameters::read(documents).parameters.expect("valid")
}

/// Spellings of one value, chosen by a number.
fn number(value: i64, spelling: u8) -> Json {
    if spelling.is_multiple_of(2) { json!(value) } else { json!(value.to_string()) }
}

fn size(mib: u64, spelling: u8) -> Json {
    match spelling % 4 {
        0 => json!(mib << 20),
        1 => json!((mib << 20).to_string()),
        2 => json!(format!("{mib}MiB")),
        _ => json!(format!("{}KiB", mib << 10)),
    }
}

fn path(name: &str, spelling: u8) -> Json {
    json!(match spelling % 4 {
        0 => format!("/d/{name}"),
        1 => format!("/d//{name}"),
        2 => format!("/d/{name}/"),
        _ => format!("/d/./{name}"),
    })
}

/// A value for each parameter, of few, so that two are often equal.
type Values = ((bool, i64, i64, u8), (u64, i64, bool, u8), (Vec<bool>, Option<i64>, Vec<(u8, Option<u64>)>));

fn values() -> impl Strategy<Value = Values> {
    let scalars = (any::<bool>(), 0..3_i64, -1..2_i64, 0..4_u8);
    let more = (1..4_u64, 0..3_i64, any::<bool>(), 0..3_u8);
    let disk = (0..2_u8, proptest::option::of(1..3_u64));
    let lists = (
        proptest::collection::vec(any::<bool>(), 0..3),
        proptest::option::of(0..2_i64),
        proptest::collection::vec(disk, 0..3),
    );
    (scalars, more, lists)
}

/// A document with these values, each spelled by the next number of `spellings`; a default is sometimes left out.
fn document(values: &Values, spellings: &[u8]) -> Documents {
    let mut spellings = spellings.iter().copied().cycle();
    let mut next = || spellings.next().unwrap_or_default();
    let ((flag, count, shift, factor), (room, wait, word, name), (words, limit, disks)) = values;
    let word_of = |second: &bool| json!(if *second { "two" } else { "one" });
    let factor = match (factor, next() % 2) {
        (0, 0) => json!(0.0),
        (0, _) => json!("-0.0"),
        (1, 0) => json!(1),
        (1, _) => json!("1.0"),
        (2, 0) => json!(1.5),
        (2, _) => json!("15e-1"),
        _ => json!(2),
    };
    let disks: Vec<Json> = disks.iter().map(|(name, mib)| match mib {
        None if next() % 2 == 0 => json!({"path": path(&name.to_string(), next())}),
        None => json!({"pin": number(0, next()), "size": "UNLIMITED", "path": path(&name.to_string(), next())}),
        Some(mib) => json!({"size": size(*mib, next()), "path": path(&name.to_string(), next())}),
    }).collect();
    let flag = match next() % 3 {
        0 => json!(flag),
        1 => json!(flag.to_string()),
        _ => json!(u8::from(*flag)),
    };
    let list = |elements: Vec<Json>, spelling: u8| {
        if elements.is_empty() && spelling.is_multiple_of(2) { json!("") } else { json!(elements) }
    };
    let mut section: Map<String, Json> = Map::new();
    section.insert("name".into(), json!("x".repeat(usize::from(*name))));
    section.insert("count".into(), number(*count, next()));
    section.insert("shift".into(), number(*shift, next()));
    section.insert("factor".into(), factor);
    section.insert("room".into(), size(*room, next()));
    section.insert("wait_ms".into(), number(*wait, next()));
    section.insert("word".into(), word_of(word));
    section.insert("words".into(), list(words.iter().map(word_of).collect(), next()));
    section.insert("limit".into(), limit.map_or(Json::Null, |limit| number(limit, next())));
    section.insert("disks".into(), list(disks, next()));
    section.insert("flag".into(), flag);
    let defaults = Parameters::default().documents();
    section.retain(|key, value| *value != defaults["all"][key] || next() % 2 == 0);
    [("all".to_owned(), Json::Object(section))].into()
}

fn spellings() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 32)
}

proptest! {
    #[test]
    fn two_spellings_of_one_configuration_have_one_hash(
        values in values(), one in spellings(), other in spellings(),
    ) {
        let (one, other) = (read(&document(&values, &one)), read(&document(&values, &other)));
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.config_hash(), other.config_hash());
        prop_assert_eq!(one.changes(&other), vec![]);
        // What is written reads back to the same hash.
        prop_assert_eq!(read(&one.documents()).config_hash(), one.config_hash());
    }

    #[test]
    fn hashes_are_equal_exactly_if_values_are(
        (old, new) in (values(), values()).prop_flat_map(|(old, new)| {
            // Often but one differs, or none.
            let (scalars, more, lists) = (old.0, old.1, new.2.clone());
            prop_oneof![
                Just((old.clone(), old.clone())),
                Just((old.clone(), (scalars, more, lists))),
                Just((old.clone(), (new.0, old.1, old.2.clone()))),
                Just((old, new)),
            ]
        }),
        one in spellings(), other in spellings(),
    ) {
        let (old, new) = (read(&document(&old, &one)), read(&document(&new, &other)));
        compare(&old, &new)?;
    }
}

fn compare(old: &Parameters, new: &Parameters) -> TestCaseResult {
    prop_assert_eq!(old == new, old.config_hash() == new.config_hash());
    prop_assert_eq!(old == new, old.changes(new).is_empty());
    Ok(())
}

#[test]
fn the_canonical_form_has_every_value_and_no_identity() {
    let parameters = read(
        &[("all".to_owned(), json!({"room": "1024MiB", "disks": [{"path": "/d", "size": "1GB"}]}))].into(),
    );
    assert_eq!(
        parameters.canonical(),
        concat!(
            r#"{"all":{"count":1,"disks":[{"path":"/d","pin":0,"size":1000000000}],"factor":1.0,"flag":false,"#,
            r#""limit":null,"name":"","room":1073741824,"shift":0,"wait_ms":100,"word":"one","words":[]},"#,
            r#""who":{"kind":0}}"#,
        )
    );
}

#[test]
fn an_identity_is_no_part_of_the_hash_and_what_is_immutable_is() {
    let mut other = Parameters::default();
    other.who.id = "y".to_owned();
    assert_eq!(other.config_hash(), Parameters::default().config_hash());
    other.who.kind = 1;
    assert_ne!(other.config_hash(), Parameters::default().config_hash());
    assert_eq!(Parameters::default().config_hash().len(), 32);
}

#[test]
fn changes_are_written_for_people() {
    let old = Parameters::default();
    let new = read(
        &[
            (
                "all".to_owned(),
                json!({
                    "room": 2_000_000_000, "name": "hunter2", "limit": 5, "word": "two", "flag": true,
                    "disks": [{"path": "/d", "size": "1024MiB", "pin": 1234}],
                }),
            ),
            ("who".to_owned(), json!({"id": "y"})),
        ]
        .into(),
    );
    let changes = old.changes(&new);
    let change = |section, key, category, old: &str, new: &str| Change {
        section,
        key,
        category,
        old: old.to_owned(),
        new: new.to_owned(),
    };
    assert_eq!(
        changes,
        [
            change("all", "flag", Category::Dynamic, "false", "true"),
            change("all", "room", Category::Dynamic, "1GiB", "2GB"),
            change("all", "word", Category::Dynamic, "one", "two"),
            change("all", "name", Category::Dynamic, "", "***"),
            change("all", "limit", Category::Dynamic, "unset", "5"),
            change("all", "disks", Category::Restart, "[]", r#"[{"path":"/d","pin":"***","size":"1GiB"}]"#),
            change("who", "id", Category::Immutable, "x", "y"),
        ]
    );
}

#[test]
fn the_schema_hash_follows_what_is_accepted_and_not_how_it_is_explained() {
    let declarations = Parameters::declarations();
    let hash = schema_hash(&declarations);
    let mut same = declarations.clone();
    same.reverse();
    same[1].parameters.swap(0, 1);
    same[1].parameters[2].meaning = "Something else.".to_owned();
    assert_eq!(schema_hash(&same), hash);

    let mut others = vec![declarations.clone(); 6];
    others[0][0].parameters[0].key = "flags";
    others[1][0].parameters[1].default = Some(json!(2));
    others[2][0].parameters[1].schema["maximum"] = json!(7);
    others[3][0].parameters[1].category = Some(Category::Dynamic);
    others[4][0].parameters[10].fields[1].type_name = "size";
    others[5][0].parameters.pop();
    for (index, other) in others.iter().enumerate() {
        assert_ne!(schema_hash(other), hash, "{index}");
    }
}
