//! Documents in, typed values and reports out.

use std::path::PathBuf;

use cfg_schema::{
    ByteSize, Documents, List, Milliseconds, Problem, Reading, Seconds, SizeLimit, commented_sample,
    help_markdown, json_schema, lint, parameters, reference_markdown, sample, words,
};
use serde_json::{Value as Json, json};

words! {
    /// How hard to try.
    pub enum Effort {
        /// Hardly.
        Low = "low",
        /// Much.
        High = "high",
    }
}

parameters! {
    /// What the tests declare.
    pub struct Parameters;

    objects {
        /// A disk.
        Disk {
            /// Where it is mounted.
            path: PathBuf;
            /// Space that may be used.
            size: SizeLimit = SizeLimit::Unlimited, range 1 << 20..=1 << 40;
            /// How many heads it has.
            heads: u32 = 4, unit "heads", range 1..=16;
        }

        /// A key.
        Key {
            /// Which one.
            open: u32 = 0;
            /// The key itself.
            key: String, secret;
        }
    }

    /// The first section.
    section first: First {
        /// A switch.
        flag: bool = false, Dynamic;
        /// A small number.
        count: u32 = 8, Restart, unit "pages", range 1..=1000;
        /// A big number.
        total: u64 = 0, Dynamic;
        /// A factor.
        factor: f64 = 1.5, Dynamic, range 1.0..=20.0;
        /// A size.
        room: ByteSize = ByteSize::mib(32), Immutable, range 1 << 20..=1 << 30;
        /// A time
        /// that is waited.
        wait_ms: Milliseconds = Milliseconds(100), Dynamic, range 1..=60_000;
        /// An effort.
        effort: Effort = Effort::Low, Dynamic;
        /// A text.
        name: String = "anna".to_owned(), Restart;
        /// The disks.
        disks: Vec<Disk> = vec![Disk { path: "d".into(), size: SizeLimit::Unlimited, heads: 4 }], Restart, range 1..=2;
        /// Remote memory.
        rdma: bool = false, NoEffect;
    }

    /// The second section.
    section second: Second {
        /// Another number.
        number: u16 = 7, Dynamic;
    }

    /// A section that is only known.
    section amqp: Amqp, numbered "One more broker." {
        /// Where messages go.
        uri: String, NoEffect, secret;
        /// How many.
        depth: u32 = 4, NoEffect, range 1..=8, since "0.2.0";
        /// A shift.
        shift: i32 = -1, NoEffect;
        /// Unset or not.
        window: Option<u32> = None, NoEffect;
        /// Where files are.
        folder: PathBuf, NoEffect;
        /// Efforts.
        efforts: List<Effort> = List(Vec::new()), NoEffect;
        /// More disks.
        more: Vec<Disk> = Vec::new(), NoEffect, range 0..=2;
        /// Keys.
        keys: Vec<Key> = Vec::new(), NoEffect;
        /// A pause.
        pause: Seconds = Seconds(1), NoEffect, unit "seconds";
    }
}

fn read(documents: Json) -> Reading<Parameters> {
    let documents: Documents = serde_json::from_value(documents).expect("an object");
    Parameters::read(&documents)
}

fn problems(documents: Json) -> Vec<Problem> {
    read(documents).parameters.expect_err("problems")
}

#[test]
fn nothing_stored_gives_the_defaults() {
    let reading = read(json!({}));
    assert_eq!(reading.parameters, Ok(Parameters::default()));
    assert!(reading.unknown.is_empty() && reading.no_effect.is_empty());
}

#[test]
fn every_type_is_read() {
    let parameters = read(json!({"first": {
        "flag": true, "count": 1000, "total": u64::MAX, "factor": 2, "room": "1GiB", "wait_ms": 5, "effort": "high",
        "name": "", "disks": [{"path": "/a", "size": "2TB"}, {"path": "/b", "heads": 16}],
    }}))
    .parameters
    .expect_err("2TB is out of range");
    assert_eq!(parameters[0].key, "disks[0].size");

    let first = read(json!({"first": {
        "flag": true, "count": 1000, "total": u64::MAX, "factor": 2, "room": "1GiB", "wait_ms": 5, "effort": "high",
        "name": "", "disks": [{"path": "/a", "size": "1TB"}, {"path": "/b", "heads": 16}],
    }}))
    .parameters
    .expect("valid")
    .first;
    assert_eq!((first.flag, first.count, first.total, first.factor), (true, 1000, u64::MAX, 2.0));
    assert_eq!((first.room, first.effort, first.name.as_str()), (ByteSize::gib(1), Effort::High, ""));
    assert_eq!(first.wait_ms.duration(), std::time::Duration::from_millis(5));
    assert_eq!(first.disks[0].size, SizeLimit::Bytes(ByteSize(1_000_000_000_000)));
    assert_eq!(first.disks[1], Disk { path: "/b".into(), size: SizeLimit::Unlimited, heads: 16 });
}

#[test]
fn scalars_are_read_from_strings_as_the_original_stored_them() {
    let first = read(json!({"first": {
        "flag": "1", "count": "12", "factor": "2.5", "room": "2097152", "wait_ms": "7", "total": "0",
    }}))
    .parameters
    .expect("valid")
    .first;
    assert_eq!((first.flag, first.count, first.factor), (true, 12, 2.5));
    assert_eq!((first.room, first.wait_ms), (ByteSize::mib(2), Milliseconds(7)));
}

#[test]
fn a_wrong_value_is_refused_with_its_place_and_what_is_allowed() {
    for (key, value, allowed) in [
        ("flag", json!(2), "true or false"),
        ("flag", json!("yes"), "true or false"),
        ("count", json!(0), "a whole number from 1 to 1000"),
        ("count", json!(1001), "a whole number from 1 to 1000"),
        ("count", json!(-1), "a whole number from 0 to 4294967295"),
        ("count", json!(4294967296_u64), "a whole number from 0 to 4294967295"),
        ("count", json!(1.5), "a whole number"),
        ("count", json!("+5"), "a whole number"),
        ("count", json!(""), "a whole number"),
        ("count", json!("-0"), "a whole number"),
        ("disks", json!(""), "a list of 1 to 2 objects"),
        ("count", json!(null), "a whole number"),
        ("total", json!("18446744073709551616"), "a whole number"),
        ("factor", json!(0.5), "a number from 1 to 20"),
        ("factor", json!("inf"), "a number"),
        ("factor", json!("NaN"), "a number"),
        ("room", json!("1023KiB"), "a size from 1MiB to 1GiB"),
        ("room", json!("UNLIMITED"), "is not a size"),
        ("room", json!(-4), "a number of bytes"),
        ("wait_ms", json!(60_001), "from 1 to 60000 (milliseconds)"),
        ("effort", json!("High"), "one of low, high"),
        ("name", json!(3), "a string"),
        ("disks", json!("/a"), "a list of objects"),
        ("disks", json!([]), "a list of 1 to 2 objects"),
    ] {
        let found = problems(json!({"first": {key: value.clone()}}));
        assert_eq!(found.len(), 1, "{key} = {value}: {found:?}");
        assert_eq!(
            (found[0].section.as_str(), found[0].key.as_str(), &found[0].value),
            ("first", key, &value)
        );
        assert!(found[0].problem.contains(allowed), "{key} = {value}: {}", found[0].problem);
    }
}

#[test]
fn problems_inside_lists_name_the_element() {
    let found = problems(json!({"first": {"disks": [{"path": "/a", "heads": 17}, {"size": "x"}, 5]}}));
    let places: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(places, ["disks[0].heads", "disks[1].path", "disks[1].size", "disks[2]"]);
    assert!(found[1].problem.contains("is missing"));
}

#[test]
fn all_problems_of_all_sections_are_reported_at_once() {
    let found = problems(json!({"first": {"flag": 3, "count": 0}, "second": {"number": 65536}}));
    let shown: Vec<String> = found.iter().map(Problem::to_string).collect();
    assert_eq!(shown[0], "first.flag = 3: must be true or false");
    assert_eq!(shown[1], "first.count = 0: must be a whole number from 1 to 1000");
    assert!(shown[2].starts_with("second.number = 65536"));
}

#[test]
fn a_section_that_is_no_object_is_refused() {
    let found = problems(json!({"first": [1]}));
    assert_eq!(found[0].to_string(), "first = [1]: must be a JSON object");
}

#[test]
fn unknown_keys_are_reported_and_never_fatal() {
    let reading = read(json!({
        "first": {"cuont": 5, "rdma": true, "disks": [{"path": "/a", "colour": "red"}]},
        "amqp": {"uri": "x", "other": 1},
        "third": {"a": 1},
        "fourth": 4,
    }));
    assert!(reading.parameters.is_ok());
    assert_eq!(reading.unknown, ["first.cuont", "first.disks[0].colour", "amqp.other", "fourth", "third"]);
    assert_eq!(reading.no_effect, ["first.rdma", "amqp.uri"]);
}

#[test]
fn what_has_no_effect_is_read_as_the_original_read_it_and_not_kept() {
    let reading = read(json!({"amqp": {
        "uri": 5, "depth": "9", "shift": "-3", "window": "7", "folder": "", "efforts": ["high", "high"],
        "more": "", "pause": "60", "0": {"depth": 3, "colour": "red"}, "7": {},
    }}));
    assert_eq!(reading.parameters, Ok(Parameters::default()));
    assert_eq!(reading.unknown, ["amqp.0.colour"]);
    assert_eq!(reading.no_effect.len(), 10);
    assert!(reading.no_effect.contains(&"amqp.7".to_owned()));
    assert!(!Parameters::default().documents().contains_key("amqp"));
}

#[test]
fn problems_do_not_show_secrets() {
    for document in [
        json!({"uri": ["hunter2"]}),
        json!({"3": {"uri": ["hunter2"]}}),
        json!({"keys": [{"open": 1, "key": ["hunter2"]}]}),
        json!({"keys": {"key": "hunter2"}}),
        json!({"keys": "hunter2"}),
    ] {
        let found = problems(json!({"amqp": document}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0].to_string().contains("hunter2"), "{}", found[0]);
        assert!(found[0].to_string().contains("***"), "{}", found[0]);
    }
    let shown = problems(json!({"amqp": {"keys": [{"open": "first", "key": "hunter2"}]}}))[0].to_string();
    assert!(shown.contains("first"), "{shown}");
}

#[test]
fn a_wrong_value_is_found_before_it_has_an_effect() {
    for (key, value, allowed) in [
        ("depth", json!("many"), "a whole number"),
        ("shift", json!(1.5), "a whole number from -2147483648"),
        ("window", json!("x"), "a whole number"),
        ("folder", json!(["a"]), "a path"),
        ("efforts", json!("high"), "a list, each element one of low, high"),
        ("efforts[1]", json!("most"), "one of low, high"),
        ("more[0].path", json!(null), "is missing"),
        ("pause", json!("1s"), "a whole number"),
        ("1", json!(3), "an object"),
        ("0.depth", json!("few"), "a whole number"),
    ] {
        let document = match key {
            "efforts[1]" => json!({"efforts": ["low", value]}),
            "more[0].path" => json!({"more": [{"size": "3MB"}]}),
            "0.depth" => json!({"0": {"depth": value}}),
            key => json!({key: value}),
        };
        let found = problems(json!({"amqp": document}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].section.as_str(), found[0].key.as_str()), ("amqp", key));
        assert!(found[0].problem.contains(allowed), "{}", found[0]);
    }
}

#[test]
fn a_check_over_several_parameters_adds_its_problems() {
    let reading = read(json!({})).checked(|parameters| {
        vec![Problem::new("first", "count", json!(parameters.first.count), "must be less than second.number")]
    });
    assert_eq!(reading.parameters.expect_err("refused").len(), 1);
}

#[test]
fn written_documents_read_back_equal() {
    let parameters = read(json!({"first": {"room": "1000000B", "disks": [{"path": "x", "size": 1048577}]}}));
    assert!(parameters.parameters.is_err(), "1000000 bytes are below 1 MiB");
    let parameters = read(json!({"first": {"room": "2000000B", "disks": [{"path": "x", "size": 1048577}]}}));
    let parameters = parameters.parameters.expect("valid");
    let documents = parameters.documents();
    assert_eq!(documents["first"]["room"], json!("2MB"));
    assert_eq!(Parameters::read(&documents).parameters, Ok(parameters));
}

#[test]
fn the_sample_is_the_defaults() {
    let declarations = Parameters::declarations();
    let documents = sample(&declarations);
    assert_eq!(documents, Parameters::default().documents());
    assert_eq!(Parameters::read(&documents).parameters, Ok(Parameters::default()));
}

#[test]
fn the_reference_has_a_row_for_every_parameter() {
    let page = reference_markdown("Reference", "All of it.", &Parameters::declarations());
    assert!(page.contains(
        "| `count` | uint32, pages | `8` | a whole number from 1 to 1000 | restart | A small number. |"
    ));
    assert!(page.contains("| `wait_ms` | milliseconds | `100` |"));
    assert!(page.contains("A time that is waited. |"));
    assert!(page.contains("| `uri` | string, secret |  | a string | Where messages go. |"));
    assert!(
        page.contains("| `depth` | uint32 | `4` | a whole number from 1 to 8 | How many. Since 0.2.0. |")
    );
    assert!(page.contains("| `pause` | seconds | `1` |"));
    assert!(page.contains("| `keys[].key` | string, secret | required | a string | The key itself. |"));
    assert!(page.contains("| `disks[].path` | path | required |"));
}

#[test]
fn the_table_of_the_original_has_five_columns() {
    let table = help_markdown(&Parameters::declarations());
    // As the framework reads it: without the first two rows.
    let rows: Vec<Vec<&str>> =
        table.split("\n|").skip(2).map(|row| row.split('|').map(str::trim).collect()).collect();
    assert_eq!(rows[0][..5], ["first", "flag", "false", "yes", "A switch."]);
    assert_eq!(rows[1][..4], ["first", "count", "8", "no"]);
    let uri = rows.iter().find(|row| row[1] == "uri").expect("a row");
    assert_eq!(uri[..5], ["amqp", "uri", "---", "no", "Where messages go. Without effect."]);
    let parameters: usize = Parameters::declarations().iter().map(|section| section.parameters.len()).sum();
    assert_eq!(rows.len(), parameters);
    assert!(table.starts_with("| component |"));
}

#[test]
fn the_commented_sample_is_the_sample_between_comments() {
    let text = commented_sample(&Parameters::declarations());
    assert!(text.contains("// first: The first section.\n//\n// flag (bool)\n//     A switch.\n"), "{text}");
    assert!(
        text.contains("//     Allowed: a whole number from 1 to 1000. Takes effect: restart.\n"),
        "{text}"
    );
    assert!(text.contains("// disks[].heads (uint32, heads)\n"), "{text}");
    assert!(text.lines().filter(|line| line.starts_with("//")).all(|line| line.chars().count() <= 100));
    let without_comments: String = text.lines().filter(|line| !line.starts_with("//")).collect();
    let documents = serde_json::Deserializer::from_str(&without_comments).into_iter::<Json>();
    let documents: Vec<Json> = documents.collect::<Result<_, _>>().expect("JSON");
    assert_eq!(documents, sample(&Parameters::declarations()).into_values().collect::<Vec<_>>());
}

#[test]
fn the_json_schema_knows_types_ranges_and_categories() {
    let schema = json_schema("test", &Parameters::declarations());
    let count = &schema["properties"]["first"]["properties"]["count"];
    assert_eq!(count["maximum"], json!(1000));
    assert_eq!(count["x-category"], json!("restart"));
    let disk = &schema["properties"]["first"]["properties"]["disks"]["items"];
    assert_eq!(disk["required"], json!(["path"]));
    let amqp = &schema["properties"]["amqp"];
    assert_eq!(amqp.get("required"), None);
    assert_eq!(amqp["properties"]["depth"].get("maximum"), Some(&json!(u32::MAX)));
    assert_eq!(amqp["properties"]["uri"]["x-secret"], json!(true));
}

#[test]
fn declarations_are_linted() {
    assert_eq!(lint(&Parameters::declarations()), Vec::<String>::new());
    let mut declarations = Parameters::declarations();
    declarations[0].parameters[5].key = "wait";
    declarations[0].parameters[0].meaning = "no sentence".to_owned();
    assert_eq!(lint(&declarations).len(), 2);
}
