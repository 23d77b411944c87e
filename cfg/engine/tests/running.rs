//! What an update makes of what runs.

mod kettle;

use cfg_engine::{Checked, Values};
use cfg_schema::{ByteSize, Documents, Problem};
use kettle::Kettle;
use serde_json::{Value as Json, json};

fn documents(documents: Json) -> Documents {
    serde_json::from_value(documents).expect("an object")
}

/// Of a kettle that started with this.
fn values(stored: Json) -> Values<Kettle> {
    let stored = documents(stored);
    Values::new(Kettle::read(&stored).parameters.expect("valid"), &stored)
}

fn check(values: &Values<Kettle>, stored: Json) -> Checked<Kettle> {
    values.check(&documents(stored), false)
}

/// Commits what is stored.
fn apply(values: &mut Values<Kettle>, checked: Checked<Kettle>) {
    values.observe(&checked);
    values.commit(checked.plan.expect("valid"), &[]).expect("read again");
}

fn problems(values: &Values<Kettle>, stored: Json) -> Vec<String> {
    check(values, stored).plan.expect_err("problems").iter().map(Problem::to_string).collect()
}

#[test]
fn dynamic_parameters_change_at_once_and_others_at_the_restart() {
    let mut values = values(json!({"heater": {"least": 10}, "table": {}}));
    let checked = check(
        &values,
        json!({"heater": {"least": 20, "most": 30, "x": 1, "whistle": false}, "table": {"legs": 3}}),
    );
    assert_eq!(
        (checked.unknown.clone(), checked.no_effect.clone()),
        (vec!["heater.x".to_owned()], vec!["heater.whistle".to_owned()])
    );
    let plan = checked.plan.clone().expect("valid");
    let changed: Vec<&str> = plan.changes.iter().map(|change| change.key).collect();
    assert_eq!(changed, ["least"]);
    assert_eq!((plan.next.heater.least, plan.next.heater.most), (ByteSize(20), ByteSize(4096)));
    apply(&mut values, checked);
    let pending: Vec<_> = values.pending().into_iter().map(|c| (c.key, c.old, c.new)).collect();
    let expected = [("most", "4096".to_owned(), "30".to_owned()), ("legs", "4".to_owned(), "3".to_owned())];
    assert_eq!(pending, expected);
    assert_ne!(values.running.config_hash(), values.accepted.config_hash());

    // What was stored before is stored again.
    let checked = check(&values, json!({"heater": {"least": 20}, "table": {}}));
    assert!(checked.plan.as_ref().is_ok_and(|plan| plan.changes.is_empty()));
    apply(&mut values, checked);
    assert!(values.pending().is_empty());
    assert_eq!(values.running.config_hash(), values.accepted.config_hash());
}

#[test]
fn checks_across_parameters_look_at_what_is_stored_and_at_what_would_run() {
    let values = values(json!({"heater": {"most": 100, "least": 50}}));
    let found = problems(&values, json!({"heater": {"most": 100, "least": 200}}));
    assert_eq!(found, [r#"heater.least = "200": must be at most heater.most, which is 100"#]);
    // Good after a restart, and not before.
    let found = problems(&values, json!({"heater": {"most": 300, "least": 200}}));
    let until = "; until the restart, parameters that need one keep the values that run";
    assert_eq!(found, [format!(r#"heater.least = "200": must be at most heater.most, which is 100{until}"#)]);
    // Good before a restart, and not after.
    let found = problems(&values, json!({"heater": {"most": 40, "least": 50}}));
    assert_eq!(found, [r#"heater.least = "50": must be at most heater.most, which is 40"#]);
}

#[test]
fn what_is_immutable_is_refused_and_silence_is_no_change() {
    let values = values(json!({"plate": {"serial": "x", "metal": "tin"}}));
    let plan = check(&values, json!({"plate": {}, "heater": {"least": 1}})).plan.expect("silent");
    assert_eq!((plan.next.plate.metal.as_str(), plan.stored.plate.serial.as_str()), ("tin", "x"));
    assert_eq!(
        problems(&values, json!({"plate": {"serial": "y", "metal": "tin"}})),
        [r#"plate.serial = "y": is immutable; this process was made with x"#]
    );
    assert!(
        values.check(&documents(json!({"table": {}})), true).plan.is_ok(),
        "a reset keeps what is immutable"
    );
}

#[test]
fn a_section_that_is_gone_is_refused_unless_a_reset_is_allowed() {
    let mut values = values(json!({"heater": {"least": 10}, "other": {}}));
    let found = problems(&values, json!({"table": {}}));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("heater = null: was stored and is gone"), "{found:?}");
    // What is no section of this service does not count.
    assert!(check(&values, json!({"heater": {}})).plan.is_ok());
    let plan = values.check(&documents(json!({"table": {}})), true).plan.expect("allowed");
    assert_eq!(plan.next.heater.least, ByteSize(512));
    values.commit(plan, &[]).expect("read again");
    assert!(check(&values, json!({"table": {}})).plan.is_ok(), "it has not been there since");
    let nothing = values.check(&documents(json!({})), true).plan.expect_err("not even then");
    assert!(nothing[0].problem.contains("would not start again"), "{nothing:?}");
}

#[test]
fn every_problem_is_reported_at_once() {
    let values = values(json!({"heater": {}, "table": {}}));
    let found = problems(&values, json!({"heater": {"least": 0, "lid_timeout_ms": "x"}}));
    assert_eq!(found.len(), 3, "{found:?}");
    let found = problems(&values, json!({"heater": {"least": 9000}, "plate": {"serial": "y"}}));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_component_that_breaks_its_word_leaves_a_mixture() {
    let mut values = values(json!({}));
    let stored =
        json!({"heater": {"least": 7, "lid_timeout_ms": 8, "most": 9}, "table": {"cups": [{"name": "a"}]}});
    let plan = check(&values, stored.clone()).plan.expect("valid");
    values.commit(plan, &[("heater", "least"), ("table", "")]).expect("read again");
    assert_eq!(values.running.heater.least, ByteSize(512));
    assert_eq!(values.running.heater.lid_timeout_ms.0, 8);
    assert!(values.running.table.cups.is_empty());
    // The next one mends it.
    let plan = check(&values, stored).plan.expect("valid");
    let changed: Vec<&str> = plan.changes.iter().map(|change| change.key).collect();
    assert_eq!(changed, ["least", "cups"]);
}
