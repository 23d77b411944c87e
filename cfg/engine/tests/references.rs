//! References: what must be read, what comes out, what is refused and how it is named.

use std::collections::BTreeMap;

use cfg_engine::{Limits, Snapshot};
use serde_json::{Value as Json, json};

const FOLDER: &str = "/ovs/vpools/g/hosts/h/config";

fn snapshot(documents: Json, targets: Json) -> Snapshot {
    let mut snapshot = Snapshot::new(FOLDER, serde_json::from_value(documents).expect("an object"));
    snapshot.targets = serde_json::from_value(targets).expect("an object");
    snapshot
}

fn resolved(documents: Json, targets: Json) -> Json {
    json!(snapshot(documents, targets).resolve(&Limits::default()).expect("resolves"))
}

/// Each problem as one line.
fn problems(documents: Json, targets: Json, limits: &Limits) -> Vec<String> {
    let problems = snapshot(documents, targets).resolve(limits).expect_err("problems");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn values_stand_in_place_of_references() {
    let targets = json!({
        "/d": {"port": 7, "disks": [{"path": "/a"}, {"path": "/b"}], "deep": {"$ref": "/e|x"}},
        "/e": {"x": {"y": [1, {"$ref": "/f"}]}},
        "/f": "text",
    });
    let documents = json!({
        "a": {"port": {"$ref": "/d|port"}, "list": [{"p": {"$ref": "/d|disks.1.path"}}]},
        "b": {"$ref": "/e|x"},
        "c": {"through": {"$ref": "/d|deep.y.0"}, "own": {"$ref": "/ovs/vpools/g/hosts/h/config/a|port"}},
        "plain": {"ref": "/d"},
    });
    assert_eq!(
        resolved(documents, targets),
        json!({
            "a": {"port": 7, "list": [{"p": "/b"}]},
            "b": {"y": [1, "text"]},
            "c": {"through": 1, "own": 7},
            "plain": {"ref": "/d"},
        })
    );
}

#[test]
fn what_must_be_read_is_asked_for_step_by_step() {
    let store = BTreeMap::from([
        ("/d", json!({"x": {"$ref": "/e|y.z"}, "other": {"$ref": "/never"}})),
        ("/e", json!({"y": {"$ref": "/f"}})),
        ("/f", json!({"z": 5})),
    ]);
    let documents = json!({"a": {"x": {"$ref": "/d|x"}, "own": {"$ref": format!("{FOLDER}/b")}}, "b": {}});
    let mut snapshot = snapshot(documents, json!({}));
    let mut asked = Vec::new();
    loop {
        let missing = snapshot.missing(&Limits::default());
        if missing.is_empty() {
            break;
        }
        for path in missing {
            snapshot.targets.insert(path.clone(), store.get(path.as_str()).cloned());
            asked.push(path);
        }
    }
    assert_eq!(asked, ["/d", "/e", "/f"], "what nothing refers to is not read");
    assert_eq!(
        json!(snapshot.resolve(&Limits::default())),
        json!({"Ok": {"a": {"x": 5, "own": {}}, "b": {}}})
    );
}

#[test]
fn what_cannot_be_resolved_is_named_with_the_way_to_it() {
    let limits = Limits::default();
    for (documents, targets, expected) in [
        (
            json!({"a": {"x": {"$ref": "/gone"}}}),
            json!({"/gone": null}),
            r#"a.x = {"$ref":"/gone"}: must lead to a document; there is none"#,
        ),
        (
            json!({"a": {"l": [0, {"x": {"$ref": "/d|n.m"}}]}}),
            json!({"/d": {"n": {}}}),
            r#"a.l[1].x = {"$ref":"/d|n.m"}: must lead to a value; the document has none there"#,
        ),
        (
            json!({"a": {"x": {"$ref": "/d"}}}),
            json!({"/d": {"$ref": "/e|y"}, "/e": {"y": [{"$ref": "/d"}]}}),
            r#"a.x = {"$ref":"/d"}: must not lead back to itself (/d leads to /e|y leads to /d)"#,
        ),
        (
            json!({"a": {"x": {"y": {"$ref": format!("{FOLDER}/a|x")}}}}),
            json!({}),
            "must not lead back to itself (/ovs/vpools/g/hosts/h/config/a|x leads to /ovs/vpools/g/hosts/h/config/a|x)",
        ),
        (
            json!({"a": {"x": {"$ref": "/d", "y": "secret"}}}),
            json!({}),
            r#"a.x = {"$ref":"/d"}: must have no other keys beside $ref: y"#,
        ),
        (json!({"a": {"$ref": 7}}), json!({}), "a = null: must refer to a path: a text"),
        (json!({"a": {"x": {"$ref": "d"}}}), json!({}), "must refer to a path such as"),
        (json!({"a": {"x": {"$ref": "/d//e"}}}), json!({}), "must refer to a path such as"),
        (json!({"a": {"x": {"$ref": "/d|x..y"}}}), json!({}), "must have names joined by single dots"),
        (json!({"a": {"x": {"$ref": "/unread"}}}), json!({}), "must be one of at most 256 different paths"),
    ] {
        let found = problems(documents.clone(), targets, &limits);
        assert!(found.len() == 1 && found[0].contains(expected), "{documents}: {found:#?}");
    }
}

#[test]
fn depth_number_and_size_are_bounded() {
    let chain: Json = (0..20).map(|n| (format!("/{n}"), json!({"$ref": format!("/{}", n + 1)}))).collect();
    let found = problems(json!({"a": {"$ref": "/0"}}), chain, &Limits::default());
    assert!(found[0].contains("over at most 8 references (/0 leads to /1 leads to"), "{found:?}");

    // Each names the next one ten times: 10^7 values out of few.
    let ten = |n: u32| json!(vec![json!({"$ref": format!("/{n}")}); 10]);
    let laughs: Json =
        (0..7).map(|n| (format!("/{n}"), if n < 6 { ten(n + 1) } else { json!("ha") })).collect();
    let limits = Limits { bytes: 10_000, ..Limits::default() };
    let found = problems(json!({"a": ten(0)}), laughs, &limits);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("must have at most 10000 bytes"), "{found:?}");

    let many: Json = (0..10).map(|n| (format!("k{n}"), json!({"$ref": format!("/{n}")}))).collect();
    let mut snapshot = snapshot(json!({"a": many}), json!({}));
    let limits = Limits { targets: 6, ..Limits::default() };
    let missing = snapshot.missing(&limits);
    assert_eq!(missing.len(), 6);
    snapshot.targets = missing.into_iter().map(|path| (path, Some(json!(1)))).collect();
    assert!(snapshot.missing(&limits).is_empty(), "it ends");
    assert_eq!(snapshot.resolve(&limits).expect_err("too many").len(), 4);
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    // Each document nests sixty lists around a reference to the next one.
    let nest = |inner: Json| (0..60).fold(inner, |inner, _| json!([inner]));
    let targets: Json =
        (0..7).map(|n| (format!("/{n}"), nest(json!({"$ref": format!("/{}", n + 1)})))).collect();
    let found = problems(json!({"a": {"x": {"$ref": "/0"}}}), targets, &Limits::default());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(r#"a.x = {"$ref":"/0"}: must have at most 100 lists and objects"#),
        "{found:?}"
    );
    assert!(found[0].ends_with("(/0 leads to /1)"), "{found:?}");
    assert!(
        problems(json!({"a": nest(nest(json!(1)))}), json!({}), &Limits::default())[0].starts_with("a.[0]")
    );
}

#[test]
fn a_change_set_is_laid_over_documents_and_targets() {
    let documents = json!({"a": {"x": {"$ref": "/d|x"}}, "b": {"y": 1}});
    let mut snapshot = snapshot(documents, json!({"/d": {"x": 1}}));
    snapshot.lay_over(&BTreeMap::from([
        ("/d".to_owned(), Some(json!({"x": {"$ref": "/new"}}))),
        (format!("{FOLDER}/b"), None),
        (format!("{FOLDER}/c"), Some(json!({"z": 3}))),
        ("/elsewhere/b".to_owned(), Some(json!({}))),
    ]));
    assert_eq!(snapshot.missing(&Limits::default()), ["/new"]);
    snapshot.targets.insert("/new".to_owned(), Some(json!(2)));
    assert_eq!(json!(snapshot.resolve(&Limits::default())), json!({"Ok": {"a": {"x": 2}, "c": {"z": 3}}}));
}
