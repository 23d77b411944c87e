//! The JSON of a roll-out, byte by byte, and what is no roll-out.

use cfg_engine::{Rollout, State};
use serde_json::{Value, json};

/// As the page docs/formats/rollout.md shows it.
const GOLDEN: &str = concat!(
    r#"{"version":1,"id":"3f2a9c01","by":"eve@h-1","time":"2026-11-21T17:34:56Z","note":"more clients","#,
    r#""changes":{"/ovs/vpools/g/hosts/h1/config/nbd":{"nbd_max_connections":64},"#,
    r#""/ovs/vpools/g/hosts/h2/config/nbd":{"nbd_max_connections":64}},"#,
    r#""old":{"/ovs/vpools/g/hosts/h1/config/nbd":"#,
    r#"{"host":"h1","revision":812,"value":"{\"nbd_max_connections\": 8}"},"#,
    r#""/ovs/vpools/g/hosts/h2/config/nbd":{"host":"h2","revision":0,"value":null}},"#,
    r#""stages":[["h1"],["h2"]],"skipped":{"h3":"frozen"},"wait_secs":30,"pause_secs":0,"abort_on":"rejected","#,
    r#""allow_reset":false,"state":"undoing","stage":2,"#,
    r#""hosts":{"h1":{"check":{"update":"3f2a9c01-check","revision":820,"live":true,"answer":{"outcome":"applied"}},"#,
    r#""apply":{"update":"3f2a9c01-stage-1","revision":825,"live":true,"answer":{"outcome":"applied"}},"#,
    r#""undo":{"update":"3f2a9c01-undo","revision":0,"live":true,"answer":null}},"#,
    r#""h2":{"apply":{"update":"3f2a9c01-stage-2","revision":830,"live":true,"#,
    r#""answer":{"outcome":"rejected","problem":"nbd.nbd_port = 70000: must be a whole number from 0 to 65535"}}}},"#,
    r#""abort":{"by":"adam@h-2","time":"2026-11-21T17:40:00Z","note":"too many"},"#,
    r#""reason":{"cause":"rejected","host":"h2","#,
    r#""problem":"nbd.nbd_port = 70000: must be a whole number from 0 to 65535"},"#,
    r#""conflicts":[{"key":"/ovs/vpools/g/hosts/h2/config/nbd","revision":829}]}"#
);

fn read(text: &str) -> Result<Rollout, String> {
    Rollout::read("3f2a9c01", text.as_bytes(), 900)
}

#[test]
fn a_rollout_has_the_form_of_its_page() {
    let rollout = read(GOLDEN).expect("a roll-out");
    assert_eq!((rollout.state, rollout.stage), (State::Undoing, 2));
    // Revisions that are not known yet are that of the document.
    assert_eq!(
        rollout.text(),
        GOLDEN.replace(r#""3f2a9c01-undo","revision":0"#, r#""3f2a9c01-undo","revision":900"#)
    );
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/rollout.md"));
    let page: String = page.expect("the page").lines().map(str::trim_start).collect();
    assert!(page.contains(GOLDEN), "the example of the page");
    assert!(!format!("{rollout:?}").contains("64"), "values may be secrets");
}

#[test]
fn what_is_no_rollout_is_refused() {
    let mut problems = Vec::new();
    let mut refused = |change: &dyn Fn(&mut Value), problem: &str| {
        let mut document: Value = serde_json::from_str(GOLDEN).expect("JSON");
        change(&mut document);
        let result = read(&document.to_string());
        if !result.as_ref().is_err_and(|found| found.contains(problem)) {
            problems.push(format!("{problem}: {result:?}"));
        }
    };
    let nbd = "/ovs/vpools/g/hosts/h1/config/nbd";
    refused(&|d| d["version"] = json!(2), "of version 2, this program knows 1");
    refused(&|d| d["version"] = json!("1"), "wrong at line 1");
    refused(&|d| d["state"] = json!("paused"), "wrong at line 1");
    refused(&|d| d["old"][nbd]["value"] = json!(5), "wrong at line 1");
    refused(&|d| drop(d.as_object_mut().expect("one").remove("changes")), "missing or wrong");
    refused(&|d| d["id"] = json!("3f2a9c02"), "its id is not the name");
    refused(&|d| d["wait_secs"] = json!(1_000_000), "more than 604800 s");
    refused(&|d| d["stages"] = json!([]), "no host");
    refused(&|d| d["stages"] = json!([["h1"], ["h1", "h2"]]), "one twice");
    refused(&|d| d["stages"] = json!([["h1", "h2"], []]), "a stage has no host");
    refused(&|d| d["stage"] = json!(0), "stage 0 of 2");
    refused(&|d| d["stage"] = json!(3), "stage 3 of 2");
    refused(&|d| d["changes"]["/x"] = json!({}), "do not have the same keys");
    refused(&|d| d["old"][nbd]["host"] = json!("h9"), "belongs to h9, which is in no stage");
    refused(&|d| d["old"][nbd]["host"] = json!("h2"), "nothing changes on h1");
    refused(&|d| d["old"][nbd]["revision"] = json!(0), "does not go with its revision");
    refused(&|d| d["hosts"]["h9"] = json!({}), "h9 is in no stage");
    refused(&|d| d["hosts"]["h1"]["apply"] = Value::Null, "h1 is undone and was not written");
    refused(&|d| d["state"] = json!("checking"), "is written already");
    refused(&|d| d["hosts"]["h1"]["apply"]["update"] = json!("a/b"), "has no such id or revision");
    refused(&|d| d["hosts"]["h1"]["apply"]["revision"] = json!(901), "has no such id or revision");
    refused(&|d| d["conflicts"][0]["key"] = json!("/x"), "a key that does not change");
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(read("").is_err_and(|problem| problem.contains("line 1, column 0")));
    let newer = GOLDEN.replacen('{', r#"{"a_new_field":[1],"#, 1);
    assert!(read(&newer).is_ok());
}
