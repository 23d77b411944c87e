//! The engine, one scenario after the other.

mod bench;
mod kettle;

use bench::{Bench, documents, key, reading, standing, start};
use cfg_engine::{
    Broken, Feedback, Input, Options, Outcome, Output, ReadFailure, Reading, Runs, Scope, Snapshot, Source,
    Start, Status, UpdateKey, Written,
};
use cfg_schema::{ByteSize, Problem};
use kettle::Kettle;
use serde_json::{Value as Json, json};

#[test]
fn an_update_is_read_prepared_committed_and_answered() {
    let mut bench = Bench::started(json!({"heater": {"least": 5}}));
    assert_eq!(bench.status.stored_hash.as_deref(), Some(bench.status.config_hash.as_str()));
    let before = bench.status.config_hash.clone();
    bench.seen(12, json!({"id": "a"}));
    bench.read(12, json!({"heater": {"least": 7, "most": 100, "x": 1}}));
    let token = bench.prepare();
    assert_eq!(bench.least(), 5);
    bench.input(Input::Prepared(token, Ok(())));
    assert_eq!(bench.least(), 5, "not before the commit is done");
    bench.commit(vec![]);
    assert_eq!(bench.least(), 7);
    let feedback = bench.last();
    assert_eq!(
        (feedback.outcome, feedback.revision, feedback.took_us),
        (Outcome::Applied, 12, 30),
        "no status in between"
    );
    assert_eq!((feedback.applied.len(), feedback.applied[0].new.as_str()), (1, "7"));
    assert_eq!((feedback.pending_restart.len(), feedback.unknown.len()), (1, 1));
    let status = &bench.status;
    assert_eq!((status.running_revision, status.last_feedback.as_deref()), (12, Some("a")));
    assert_eq!(status.pending_restart, feedback.pending_restart);
    assert!(status.config_hash != before && status.drifts() == Some(true));
    assert_eq!(bench.kept, [10, 12]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut bench = Bench::started(json!({"heater": {"least": 5}}));
    bench.seen(12, json!({"id": "a", "dry_run": true, "rollout": "r"}));
    let Output::Read { token, rollout, .. } = bench.asked() else { panic!("no read") };
    assert_eq!(rollout.as_deref(), Some("r"));
    bench.input(Input::Read(token, Ok(reading(12, json!({"heater": {"least": 7, "most": 90}})))));
    assert!(bench.open.is_empty());
    let feedback = bench.last();
    assert!(feedback.dry_run && feedback.applied.len() == 1 && feedback.pending_restart.len() == 1);
    // What a roll-out would store is not stored.
    assert_eq!((bench.status.observed_revision, bench.status.drifts()), (10, Some(false)));
    assert_eq!((bench.least(), bench.kept.len()), (5, 1));
}

#[test]
fn a_prepare_that_fails_leaves_everything_as_it_was() {
    let mut bench = Bench::started(json!({"heater": {"password": "sesame-1"}}));
    bench.seen(12, json!({"id": "a"}));
    bench.read(12, json!({"heater": {"password": "sesame-2", "least": 6}}));
    let token = bench.prepare();
    bench.all.clear();
    let problem =
        Problem::new("heater", "password", json!("sesame-2"), "sesame-2 is not better than sesame-1");
    bench.input(Input::Prepared(token, Err(vec![problem])));
    let rejected = &bench.last().rejected[0];
    assert_eq!(
        (rejected.value.as_deref(), rejected.problem.as_str()),
        (Some("***"), "*** is not better than ***")
    );
    assert!(!bench.all.contains("sesame"), "{}", bench.all);
    assert_eq!((bench.last().outcome, bench.least()), (Outcome::Rejected, 512));
    assert_eq!((bench.status.running_revision, bench.status.drifts()), (10, Some(true)));
}

#[test]
fn a_prepare_that_is_late_is_abandoned_and_counted() {
    let mut bench = Bench::started(json!({"heater": {}}));
    let mut late = Vec::new();
    for n in 0..4 {
        bench.seen(20 + n, json!({"id": n.to_string()}));
        bench.read(20 + n, json!({"heater": {"least": 7}}));
        let token = bench.prepare();
        bench.input(Input::PrepareTimedOut(token));
        assert_eq!(bench.abandoned(), token);
        assert!(bench.problem().contains("not prepared within 30s"));
        late.push(token);
    }
    bench.seen(30, json!({"id": "more"}));
    bench.read(30, json!({"heater": {"least": 7}}));
    assert!(bench.problem().contains("4 earlier updates are still being prepared"), "{}", bench.problem());
    for token in late {
        bench.input(Input::Prepared(token, Ok(())));
        assert_eq!(bench.abandoned(), token, "its guard is dropped");
    }
    bench.seen(31, json!({"id": "again"}));
    bench.read(31, json!({"heater": {"least": 7}}));
    bench.prepare();
    assert_eq!(bench.least(), 512);
}

#[test]
fn the_newest_of_those_that_wait_wins() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.seen(21, json!({"id": "b"}));
    bench.input(Input::Seen(key(Scope::VPool, 23, json!({"id": "d"}))));
    bench.seen(22, json!({"id": "c"}));
    bench.seen(24, json!({"id": "dry", "dry_run": true}));
    bench.read(20, json!({"heater": {}}));
    let expected = [
        ("a", Outcome::Applied, None),
        ("b", Outcome::Superseded, Some("d")),
        ("c", Outcome::Superseded, Some("d")),
    ];
    assert_eq!(bench.answers(), expected);
    bench.read(23, json!({"heater": {}}));
    bench.read(24, json!({"heater": {}}));
    assert_eq!(bench.answers()[3..], [("d", Outcome::Applied, None), ("dry", Outcome::Applied, None)]);
    // One that comes late is older than what runs.
    bench.input(Input::Seen(key(Scope::VPool, 19, json!({"id": "known"}))));
    assert_eq!(bench.feedback.len(), 5, "its scope is further already");
    bench.input(Input::Seen(key(Scope::VPool, 25, json!({"id": "e"}))));
    bench.read(25, json!({"heater": {}}));
    bench.seen(24, json!({"id": "dry", "dry_run": true}));
    assert_eq!(bench.feedback.len(), 6, "a revision is answered once");
}

#[test]
fn an_update_that_is_older_than_the_last_one_is_not_done() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "host"}));
    bench.read(20, json!({"heater": {}}));
    bench.input(Input::Seen(key(Scope::VPool, 18, json!({"id": "vpool"}))));
    assert_eq!(bench.answers()[1], ("vpool", Outcome::Superseded, Some("host")));
    bench.input(Input::Seen(key(Scope::VPool, 21, json!({"id": "host"}))));
    bench.read(21, json!({"heater": {}}));
    assert_eq!(bench.answers()[2], ("host", Outcome::Applied, None), "a repeated id runs again");
}

#[test]
fn an_answer_of_the_start_leads_nowhere_back() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "host"}));
    bench.read(20, json!({"heater": {}}));
    bench.input(Input::Seen(key(Scope::VPool, 7, json!({"id": "old"}))));
    bench.input(Input::Seen(key(Scope::VPool, 15, json!({"id": "older"}))));
    let expected = [("old", Outcome::Applied, None), ("older", Outcome::Superseded, Some("host"))];
    assert_eq!(bench.answers()[1..], expected);
}

#[test]
fn a_store_that_is_away_loses_nothing() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.store = Written::Away;
    bench.read(20, json!({"heater": {}}));
    bench.seen(21, json!({"id": "b"}));
    assert!(bench.open.is_empty() && bench.feedback.is_empty(), "nothing is asked of it");
    bench.store = Written::Done;
    let found = vec![standing(21, json!({"id": "b"}), false)];
    bench.input(Input::Listed(found.clone()));
    assert_eq!(bench.answers(), [("a", Outcome::Applied, None)]);
    let Output::Read { token, .. } = bench.asked() else { panic!("no read") };
    bench.input(Input::Read(token, Err(ReadFailure::Away)));
    bench.input(Input::Seen(key(Scope::VPool, 22, json!({"id": "c"}))));
    bench.input(Input::Listed(found));
    bench.read(22, json!({"heater": {}}));
    assert_eq!(bench.answers()[1..], [("b", Outcome::Superseded, Some("c")), ("c", Outcome::Applied, None)]);
    bench.input(Input::Listed(vec![standing(30, json!({"id": "other"}), true)]));
    assert!(bench.open.is_empty(), "somebody answered it");
}

#[test]
fn feedback_beyond_the_bound_is_counted() {
    let mut bench = Bench::new(Options { feedback_kept: 2, ..Options::default() });
    bench.input(Input::Started(Box::new(start(json!({"heater": {}}), 10))));
    bench.input(Input::StoreAway);
    for revision in 20..25 {
        bench.seen(revision, json!({"id": revision}));
    }
    bench.input(Input::Listed(vec![]));
    let ids: Vec<&str> = bench.feedback.iter().map(|feedback| feedback.id.as_str()).collect();
    assert_eq!(ids, ["r23", "r24"]);
    assert_eq!(bench.status.feedback_lost, 3);
}

#[test]
fn a_forgotten_revision_is_read_as_it_is_now() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    let Output::Read { token, .. } = bench.asked() else { panic!("no read") };
    bench.input(Input::Read(token, Err(ReadFailure::Compacted)));
    let Output::Read { token, revision: None, .. } = bench.asked() else { panic!("not the newest") };
    bench.seen(24, json!({"id": "b"}));
    bench.input(Input::Read(token, Ok(reading(25, json!({"heater": {"most": 600}})))));
    assert_eq!((bench.feedback[0].revision, bench.status.running_revision), (20, 25));
    assert_eq!(bench.answers()[1], ("b", Outcome::Superseded, Some("a")), "what was read is newer");
}

#[test]
fn a_frozen_process_takes_no_update() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.input(Input::Frozen(15, true));
    assert!(bench.status.frozen);
    bench.seen(20, json!({"id": "a"}));
    let Output::Read { token, .. } = bench.asked() else { panic!("no read") };
    let frozen = Reading { frozen: true, ..reading(20, json!({"heater": {"least": 7}})) };
    bench.input(Input::Read(token, Ok(frozen)));
    assert!(bench.last().frozen && bench.last().outcome == Outcome::Rejected);
    assert!(bench.problem().contains("thaw it, then apply again"));
    bench.input(Input::Frozen(22, false));
    assert!(!bench.status.frozen && bench.open.is_empty() && bench.least() == 512);
}

#[test]
fn an_update_of_before_the_start_is_answered_by_it() {
    let before = |source: Source, frozen: bool| {
        let mut bench = Bench::new(Options::default());
        bench.input(Input::Seen(key(Scope::VPool, 8, json!({"id": "vpool"}))));
        let previous = Kettle::read(&documents(json!({"heater": {"most": 600}}))).parameters.expect("valid");
        bench.input(Input::Started(Box::new(Start {
            source,
            frozen,
            previous: Some(previous),
            standing: vec![standing(9, json!({"id": "a"}), false)],
            ..start(json!({"heater": {"least": 6}}), 8)
        })));
        bench
    };
    let problems = vec![Problem::new("heater", "least", json!(0), "must be more")];
    let bench = before(Source::LastGood { observed: Some(12), problems }, false);
    let expected = [("vpool", Outcome::Superseded, Some("a")), ("a", Outcome::Rejected, None)];
    assert_eq!(bench.answers(), expected);
    assert!(bench.last().at_start && bench.last().rejected == bench.status.degraded);
    assert_eq!(bench.status.degraded.len(), 1);
    assert_eq!((bench.status.stored_hash.as_ref(), bench.status.observed_revision), (None, 12));

    let bench = before(Source::LastGood { observed: Some(12), problems: vec![] }, true);
    assert_eq!(bench.answers(), expected);
    assert!(bench.last().frozen && bench.status.frozen);

    let mut bench = before(Source::LastGood { observed: None, problems: vec![] }, false);
    assert!(bench.feedback.is_empty() && bench.open.is_empty(), "the store is away");
    bench.input(Input::Listed(vec![]));
    assert!(bench.status.stale);
    bench.read(9, json!({"heater": {"least": 6}}));
    assert!(bench.last().id == "a" && !bench.last().at_start, "it runs like any other");
    assert!(!bench.status.stale);

    let mut bench = Bench::new(Options::default());
    let previous = Kettle::read(&documents(json!({"heater": {"most": 600}}))).parameters.expect("valid");
    bench.input(Input::Started(Box::new(Start {
        previous: Some(previous),
        standing: vec![standing(9, json!({"id": "a"}), false)],
        ..start(json!({"heater": {"least": 6}}), 10)
    })));
    assert_eq!(bench.answers(), [("a", Outcome::Applied, None)]);
    assert!(bench.last().at_start && bench.last().applied.len() == 2, "restart parameters too");
    assert!(bench.last().pending_restart.is_empty());
}

#[test]
fn a_dry_run_of_before_the_start_is_done() {
    let mut bench = Bench::new(Options::default());
    bench.input(Input::Started(Box::new(Start {
        standing: vec![standing(9, json!({"id": "a", "dry_run": true}), false)],
        ..start(json!({"heater": {"least": 6}}), 10)
    })));
    bench.read(9, json!({"heater": {"least": 5000}}));
    assert!(bench.last().at_start && bench.problem().contains("must be at most heater.most"));
}

#[test]
fn a_shutdown_ends_what_is_not_committed() {
    // Nothing to do.
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.input(Input::Shutdown);
    assert_eq!(bench.asked(), Output::Exit);
    // While reading, and another one waits.
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.open.clear();
    bench.input(Input::Seen(key(Scope::VPool, 19, json!({"id": "vpool"}))));
    bench.input(Input::Shutdown);
    assert_eq!(bench.answers(), [("vpool", Outcome::Superseded, Some("a"))], "the other stands in the store");
    assert_eq!(bench.asked(), Output::Exit);
    // While preparing.
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.read(20, json!({"heater": {"least": 7}}));
    let token = bench.prepare();
    bench.input(Input::Shutdown);
    assert_eq!(bench.open, [Output::Abandon { token }, Output::Exit]);
    bench.open.clear();
    bench.input(Input::Prepared(token, Ok(())));
    assert_eq!((bench.abandoned(), bench.least(), bench.feedback.len()), (token, 512, 0));
    // While committing: it ends first, and is answered.
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.read(20, json!({"heater": {"least": 7}}));
    let token = bench.prepare();
    bench.input(Input::Prepared(token, Ok(())));
    bench.input(Input::Shutdown);
    bench.commit(vec![]);
    assert_eq!(bench.answers(), [("a", Outcome::Applied, None)]);
    assert_eq!((bench.asked(), bench.least()), (Output::Exit, 7));
}

#[test]
fn what_was_overwritten_is_answered_before_the_end() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.seen(21, json!({"id": "dry", "dry_run": true}));
    bench.open.clear();
    bench.input(Input::Shutdown);
    assert_eq!(bench.answers(), [("a", Outcome::Rejected, None)], "a dry run covers no update");
    assert!(bench.problem().contains("at its next start"));
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.open.clear();
    bench.seen(21, json!({"id": 7}));
    bench.input(Input::Shutdown);
    assert_eq!(bench.answers(), [("r21", Outcome::Rejected, None), ("a", Outcome::Rejected, None)]);
    assert!(bench.problem().contains("at its next start"));
}

#[test]
fn an_update_that_is_none_is_answered_under_its_revision() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.input(Input::Seen(UpdateKey { scope: Scope::Host, revision: 20, value: b"{".to_vec() }));
    bench.seen(21, json!({"id": "a b"}));
    bench.seen(22, json!({"id": "ok", "dry_run": 3}));
    let answers: Vec<(&str, i64)> = bench.feedback.iter().map(|f| (f.id.as_str(), f.revision)).collect();
    assert_eq!(answers, [("r20", 20), ("r21", 21), ("ok", 22)]);
    assert!(bench.feedback.iter().all(|feedback| feedback.outcome == Outcome::Rejected));
    assert_eq!(bench.last().rejected[0].component, "update");
    assert!(bench.open.is_empty());
}

#[test]
fn a_component_that_breaks_its_word_is_named() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.read(20, json!({"heater": {"least": 7, "lid_timeout_ms": 9}}));
    let token = bench.prepare();
    bench.input(Input::Prepared(token, Ok(())));
    let broken = Broken { section: "heater".into(), key: "least".into(), problem: "stuck".into() };
    bench.commit(vec![broken]);
    let feedback = bench.last();
    assert_eq!((feedback.outcome, feedback.applied.len(), feedback.mixed.len()), (Outcome::Failed, 1, 2));
    assert_eq!((feedback.mixed[0].runs, feedback.mixed[0].problem.as_deref()), (Runs::Old, Some("stuck")));
    assert_eq!((feedback.mixed[1].runs, feedback.mixed[1].problem.as_ref()), (Runs::New, None));
    assert_eq!(bench.least(), 512);
    assert_eq!(bench.engine.running().map(|kettle| kettle.heater.lid_timeout_ms.0), Some(9));
    assert!(bench.status.degraded[0].problem.contains("still runs, and should be 7: stuck"));
    assert_eq!(bench.kept, [10], "it is no good copy");
    // The next one mends it.
    bench.seen(21, json!({"id": "b"}));
    bench.read(21, json!({"heater": {"least": 7, "lid_timeout_ms": 9}}));
    let token = bench.prepare();
    bench.input(Input::Prepared(token, Ok(())));
    bench.commit(vec![]);
    assert!(bench.status.degraded.is_empty() && bench.least() == 7);
}

/// What is read of documents that cannot be used.
fn unusable(revision: i64, problem: Problem) -> Reading {
    let snapshot = Snapshot { problems: vec![problem], ..Snapshot::default() };
    Reading { revision, snapshot, frozen: false }
}

#[test]
fn what_cannot_be_resolved_or_read_is_rejected() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.seen(20, json!({"id": "a"}));
    bench.read(20, json!({"heater": {"least": {"$ref": "/k/config/table|x"}}}));
    let rejected = &bench.last().rejected[0];
    assert_eq!((rejected.component.as_str(), rejected.param.as_str()), ("heater", "least"));
    assert_eq!(rejected.value.as_deref(), Some(r#"{"$ref":"/k/config/table|x"}"#));
    assert_eq!(bench.status.stored_hash, None);
    bench.seen(21, json!({"id": "b"}));
    let Output::Read { token, .. } = bench.asked() else { panic!("no read") };
    let problem = Problem::new("heater", "", Json::Null, "is no JSON");
    bench.input(Input::Read(token, Ok(unusable(21, problem.clone()))));
    assert_eq!(bench.problem(), "is no JSON");
    // It is known as well when nobody asks for an update.
    bench.input(Input::Observed(reading(22, json!({"heater": {"least": 7}}))));
    assert!(bench.status.stored_hash.is_some());
    bench.input(Input::Observed(unusable(23, problem)));
    assert_eq!((bench.status.stored_hash.as_ref(), bench.status.observed_revision), (None, 23));
}

#[test]
fn no_secret_comes_out() {
    let stored = |pin: Json| {
        json!({"heater": {"password": "sesame-1"},
               "table": {"cups": [{"name": "n", "pin": pin}]}})
    };
    let mut bench = Bench::started(stored(json!("pin-4711")));
    bench.seen(20, json!({"id": "a"}));
    bench.read(20, stored(json!("pin-4712")));
    let token = bench.prepare();
    bench.input(Input::Prepared(token, Ok(())));
    bench.commit(vec![Broken { section: "table".into(), key: String::new(), problem: "pin-4712!".into() }]);
    for (revision, pin) in [(21, json!({"x": "pin-4713"})), (22, json!([["pin-4714"]]))] {
        bench.seen(revision, json!({"id": "b"}));
        bench.read(revision, stored(pin));
    }
    bench.seen(23, json!({"id": "b"}));
    bench.read(23, json!({"heater": "sesame-3", "table": {"cups": ["pin-4715"]}}));
    bench.seen(24, json!({"id": "b"}));
    bench.read(24, json!({"heater": ["sesame-4"], "table": {"cups": "pin-4716"}}));
    assert_eq!(bench.feedback.len(), 5);
    for text in bench.feedback.iter().map(Feedback::text).chain([bench.status.text(), bench.all]) {
        assert!(!text.contains("sesame") && !text.contains("pin-47"), "{text}");
    }
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = Bench::new(Options { waiting: 3, ..Options::default() });
    bench.input(Input::Started(Box::new(start(json!({"heater": {}}), 10))));
    bench.seen(20, json!({"id": "a"}));
    for n in 0..3 {
        bench.seen(21 + n, json!({"id": n.to_string()}));
    }
    assert!(bench.feedback.is_empty());
    bench.seen(30, json!({"id": "b"}));
    assert_eq!(bench.feedback.len(), 3, "covered ones are answered");
    for n in 0..3 {
        bench.seen(31 + n, json!({"id": format!("d{n}"), "dry_run": true, "rollout": format!("r{n}")}));
    }
    assert_eq!((bench.last().id.as_str(), bench.last().outcome), ("d0", Outcome::Rejected));
    assert!(bench.problem().contains("3 updates wait already"));
}

#[test]
fn what_is_stored_without_an_update_is_drift() {
    let mut bench = Bench::started(json!({"heater": {}}));
    bench.input(Input::Observed(reading(15, json!({"heater": {"least": 9, "most": 600}}))));
    assert_eq!((bench.status.observed_revision, bench.status.running_revision), (15, 10));
    assert_eq!((bench.status.drifts(), bench.status.pending_restart.len()), (Some(true), 1));
    bench.input(Input::Observed(reading(16, json!({"heater": {"least": 0}}))));
    assert_eq!(bench.status.drifts(), None);
    bench.input(Input::Observed(reading(14, json!({"heater": {"least": 0}}))));
    assert_eq!(bench.status.observed_revision, 16, "an old reading says nothing");
    bench.input(Input::Observed(reading(17, json!({"heater": {}}))));
    assert_eq!((bench.status.drifts(), bench.status.pending_restart.len()), (Some(false), 0));
    assert_eq!(bench.engine.running().map(|kettle| kettle.heater.least), Some(ByteSize(512)));
    assert!(bench.feedback.is_empty());
}

#[test]
fn a_status_that_is_gone_is_written_again() {
    let mut bench = Bench::started(json!({"heater": {}}));
    let status = std::mem::take(&mut bench.status);
    bench.input(Input::Seen(UpdateKey { scope: Scope::Host, revision: 1, value: vec![] }));
    bench.status = Status::default();
    bench.input(Input::StatusLost);
    assert_eq!(bench.status, bench.engine.status());
    assert_eq!(bench.status, Status { last_feedback: Some("r1".to_owned()), ..status });
}
