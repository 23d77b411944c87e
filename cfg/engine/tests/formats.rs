//! The JSON of feedback and status, byte by byte.

use std::time::Duration;

use cfg_engine::{Applied, Feedback, Kept, Mixed, Outcome, Pending, Rejected, Runs, Status, trim};

const FEEDBACK: &str = concat!(
    r#"{"id":"a1","node":"vr1","revision":812,"outcome":"applied","dry_run":false,"at_start":false,"by":null,"#,
    r#""took_us":420,"applied":[{"component":"scocache","param":"trigger_gap","old":"1GB","new":"2GB"}],"#,
    r#""pending_restart":[{"component":"nbd","param":"nbd_port","running":"10809","stored":"10810"}],"#,
    r#""rejected":[],"mixed":[],"no_effect":["fuse.fuse_min_workers"],"unknown":["nbd.colour"]}"#
);

#[test]
fn a_feedback_has_the_form_of_the_contract() {
    let mut feedback = Feedback::new("a1", "vr1", 812, Outcome::Applied);
    feedback.took_us = 420;
    feedback.applied.push(Applied {
        component: "scocache".into(),
        param: "trigger_gap".into(),
        old: "1GB".into(),
        new: "2GB".into(),
    });
    feedback.pending_restart.push(Pending {
        component: "nbd".into(),
        param: "nbd_port".into(),
        running: "10809".into(),
        stored: "10810".into(),
    });
    feedback.no_effect.push("fuse.fuse_min_workers".into());
    feedback.unknown.push("nbd.colour".into());
    assert_eq!(feedback.text(), FEEDBACK);
    assert_eq!(Feedback::read(FEEDBACK.as_bytes()), Ok(feedback));
}

#[test]
fn the_other_outcomes_have_it_too() {
    let mut failed = Feedback::new("a", "n", 5, Outcome::Failed);
    failed.mixed.push(Mixed {
        component: "c".into(),
        param: "p".into(),
        old: "1".into(),
        new: "2".into(),
        runs: Runs::Old,
        problem: Some("no".into()),
    });
    let text = failed.text();
    assert!(text.contains(r#""outcome":"failed""#));
    let mixed = r#""mixed":[{"component":"c","param":"p","old":"1","new":"2","runs":"old","problem":"no"}]"#;
    assert!(text.contains(mixed), "{text}");

    let mut rejected = Feedback::new("a", "n", 5, Outcome::Rejected);
    rejected.rejected.push(Rejected {
        component: "c".into(),
        param: "p".into(),
        value: Some("9".into()),
        problem: "must be 8".into(),
    });
    rejected.frozen = true;
    let text = rejected.text();
    let entry = r#""rejected":[{"component":"c","param":"p","value":"9","problem":"must be 8"}]"#;
    assert!(text.contains(entry) && text.ends_with(r#","frozen":true}"#), "{text}");

    let mut superseded = Feedback::new("a", "n", 5, Outcome::Superseded);
    superseded.by = Some("b".into());
    assert!(
        superseded.text().contains(r#""outcome":"superseded","dry_run":false,"at_start":false,"by":"b""#)
    );
    for feedback in [failed, rejected, superseded] {
        assert_eq!(Feedback::read(feedback.text().as_bytes()), Ok(feedback));
    }
}

#[test]
fn what_is_no_feedback_is_refused() {
    for (text, problem) in [
        ("", "EOF"),
        (r#"{"id":"a"}"#, "missing field `node`"),
        (r#"{"id":"a/b","node":"n","revision":5,"outcome":"applied"}"#, "its id is none"),
        (r#"{"id":"a","node":"n","revision":0,"outcome":"applied"}"#, "the revision 0"),
        (r#"{"id":"a","node":"n","revision":5,"outcome":"done"}"#, "unknown variant"),
        (r#"{"id":"a","node":"n","revision":5,"outcome":"superseded"}"#, "`by` names an update"),
        (r#"{"id":"a","node":"n","revision":5,"outcome":"applied","by":"b"}"#, "`by` names an update"),
    ] {
        assert!(Feedback::read(text.as_bytes()).is_err_and(|error| error.contains(problem)), "{text}");
    }
    let newer = r#"{"id":"a","node":"n","revision":5,"outcome":"applied","a_new_field":[1]}"#;
    assert!(Feedback::read(newer.as_bytes()).is_ok());
}

const STATUS: &str = concat!(
    r#"{"node":"vr1","pid":7,"version":"0.1.0","schema":"5c","cluster_id":14841639068965178418,"incarnation":3,"#,
    r#""started":"2026-11-21T17:34:56Z","observed_revision":812,"running_revision":800,"config_hash":"aa","#,
    r#""stored_hash":"bb","degraded":[{"component":"c","param":"","value":null,"problem":"no"}],"#,
    r#""pending_restart":[],"last_feedback":"a1"}"#
);

#[test]
fn a_status_has_the_form_of_the_contract() {
    let mut status = Status {
        node: "vr1".into(),
        pid: 7,
        version: "0.1.0".into(),
        schema: "5c".into(),
        cluster_id: Some(14841639068965178418),
        incarnation: 3,
        started: "2026-11-21T17:34:56Z".into(),
        observed_revision: 812,
        running_revision: 800,
        config_hash: "aa".into(),
        stored_hash: Some("bb".into()),
        degraded: vec![Rejected {
            component: "c".into(),
            param: String::new(),
            value: None,
            problem: "no".into(),
        }],
        last_feedback: Some("a1".into()),
        ..Status::default()
    };
    assert_eq!(status.text(), STATUS);
    assert_eq!(Status::read(STATUS.as_bytes()), Ok(status.clone()));
    assert_eq!(status.drifts(), Some(true));
    (status.stale, status.frozen, status.feedback_lost) = (true, true, 2);
    assert!(status.text().ends_with(r#""last_feedback":"a1","stale":true,"frozen":true,"feedback_lost":2}"#));
    status.xmlrpc = Some("http://127.0.0.1:26201/RPC2".into());
    status.vrouter_cluster_id = Some("g".into());
    assert_eq!(Status::read(status.text().as_bytes()), Ok(status.clone()));
    assert!(status.text().ends_with(r#","xmlrpc":"http://127.0.0.1:26201/RPC2","vrouter_cluster_id":"g"}"#));
    assert!(Status::read(b"{}").is_err_and(|error| error.contains("missing field `node`")));
}

#[test]
fn feedback_is_kept_by_number_and_by_age() {
    let kept = |revision: i64, minutes: u64| Kept {
        id: revision.to_string(),
        revision,
        standing: revision == 2,
        age: Duration::from_secs(minutes * 60),
    };
    // In any order; all old: the last 16 stay.
    let old: Vec<Kept> = (1..=20).rev().map(|revision| kept(revision, 60)).collect();
    assert_eq!(trim(old), ["4", "3", "1"], "the second answers a key that still stands");
    // All young: 256 stay.
    let young = (1..=300).map(|revision| kept(revision, 10)).collect();
    assert_eq!(trim(young).len(), 43);
    // The young ones beyond 16 stay, an old one among them goes.
    let some = (1..=30).map(|revision| kept(revision, if revision == 5 { 11 } else { 9 })).collect();
    assert_eq!(trim(some), ["5"]);
    assert_eq!(trim(vec![kept(1, 1000)]), [""; 0]);
}
