//! Roll-outs in words, and as JSON. Secrets are masked.

use std::collections::BTreeMap;

use cfg_client::KeyPath;
use cfg_engine::{Asked, Cause, Ended, Progress, Rollout, State};
use serde_json::{Value as Json, json};

use super::Keys;
use super::lease::named;
use crate::config::diff::{leaves, place_name};
use crate::config::host::Host;
use crate::config::secret::Content;
use crate::failure::{Failure, Kind};
use crate::output;

/// Columns of `list`.
pub(super) const HEADINGS: [&str; 7] = ["ID", "VPOOL", "STATE", "HOSTS", "BY", "TIME", "DRIVER"];

/// What a command is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That all hosts have the new values.
    Done,
    /// That all have the old ones.
    Undone,
}

/// How far it is.
pub(super) fn stage(rollout: &Rollout) -> String {
    let of = format!("stage {} of {}", rollout.stage, rollout.stages.len());
    match rollout.state {
        State::Checking => "checking".to_owned(),
        State::Applying => of,
        State::Done => "done".to_owned(),
        State::Refused => "refused".to_owned(),
        State::Undoing => format!("undoing, after {of}"),
        State::Undone if rollout.conflicts.is_empty() => "undone".to_owned(),
        State::Undone => format!("undone but for {}", crate::config::counted(rollout.conflicts.len())),
    }
}

/// A line of `list`.
pub(super) fn row(keys: &Keys, rollout: &Rollout, driver: Option<&Json>) -> [String; 7] {
    let driver = driver.map_or("-".to_owned(), named);
    let hosts = rollout.targets().count().to_string();
    let (by, time) = (rollout.by.clone(), rollout.time.clone());
    [keys.id.clone(), keys.vpool.clone(), stage(rollout), hosts, by, time, driver]
}

/// The same of one that cannot be read.
pub(super) fn damaged_row(keys: &Keys) -> [String; 7] {
    let [hosts, by, time, driver] = std::array::from_fn(|_| "-".to_owned());
    [keys.id.clone(), keys.vpool.clone(), "damaged".to_owned(), hosts, by, time, driver]
}

/// The document, with its vPool and its driver.
pub(super) fn shown(keys: &Keys, rollout: &Rollout, driver: Option<&Json>) -> Json {
    let mut content = Content::of(rollout.text().as_bytes());
    content.mask(&keys.document);
    let mut shown = content.shown();
    shown["vpool"] = json!(keys.vpool);
    shown["driver"] = json!(driver);
    shown
}

/// What came of an update, or that nothing did yet.
fn outcome(asked: &Asked, took: &str) -> String {
    match &asked.answer {
        None if asked.live => "no answer yet".to_owned(),
        None => "is down, takes them when it starts".to_owned(),
        Some(answer) if answer.outcome == Ended::Applied => took.to_owned(),
        Some(answer) => answer.problem.clone(),
    }
}

/// A host in words.
fn host_state(rollout: &Rollout, host: &str) -> String {
    let none = Progress::default();
    let progress = rollout.hosts.get(host).unwrap_or(&none);
    if let Some(why) = rollout.skipped.get(host) {
        return format!("left out: {why}");
    }
    match progress {
        Progress { undo: Some(undo), .. } => format!("old values: {}", outcome(undo, "applied")),
        Progress { apply: Some(apply), .. } => format!("new values: {}", outcome(apply, "applied")),
        Progress { check: Some(check), .. } => format!("dry run: {}", outcome(check, "takes it")),
        _ => "not touched".to_owned(),
    }
}

/// A roll-out for people.
pub(super) fn described(rollout: &Rollout, driver: Option<&Json>) -> String {
    let mut lines = vec![format!("{}: {}", rollout.id, stage(rollout))];
    let note = if rollout.note.is_empty() { String::new() } else { format!(" ({})", rollout.note) };
    lines.push(format!("begun by {} at {}{note}", rollout.by, rollout.time));
    lines.push(match driver {
        Some(driver) => format!("driven by {}", named(driver)),
        None if rollout.state.is_open() => {
            format!("driven by nobody: `ovs config rollout resume {}` goes on", rollout.id)
        }
        None => "over".to_owned(),
    });
    if let Some(reason) = &rollout.reason {
        let host = reason.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        lines.push(format!("because {host}{}", reason.problem));
    }
    lines.extend(changes(rollout).into_iter().map(|line| format!("  {line}")));
    let mut rows = Vec::new();
    for (number, stage) in rollout.stages.iter().enumerate() {
        let row = |host: &String| [host.clone(), (number + 1).to_string(), host_state(rollout, host)];
        rows.extend(stage.iter().map(row));
    }
    let outside = rollout.skipped.keys().filter(|host| !rollout.targets().any(|target| target == *host));
    rows.extend(outside.map(|host| [host.clone(), "-".to_owned(), host_state(rollout, host)]));
    lines.push(output::table(["HOST", "STAGE", "STATE"], &[], &rows));
    lines.extend(rollout.conflicts.iter().map(|conflict| {
        format!("{}: somebody else wrote it at revision {}; left as it is", conflict.key, conflict.revision)
    }));
    lines.join("\n")
}

/// What changes, each thing once.
fn changes(rollout: &Rollout) -> Vec<String> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (path, new) in &rollout.changes {
        let (Ok(key), Some((_, section))) = (KeyPath::parse(path), Host::of_document(path)) else { continue };
        let old = rollout.old.get(path).and_then(|old| old.value.as_ref());
        let old = old.map(|value| Content::of(value.as_bytes()));
        let new = new.as_ref().map(|value| Content::Json(value.clone()));
        let places = |content: &Option<Content>, mask: bool| {
            let mut content = content.clone();
            if let Some(content) = content.as_mut().filter(|_| mask) {
                content.mask(&key);
            }
            content.map(|content| leaves(&content.shown())).unwrap_or_default()
        };
        let (clear, masked) =
            ([places(&old, false), places(&new, false)], [places(&old, true), places(&new, true)]);
        for place in clear[0].keys().chain(clear[1].keys()) {
            if clear[0].get(place) == clear[1].get(place) {
                continue;
            }
            let value =
                |side: &BTreeMap<String, Json>| side.get(place).map_or("-".to_owned(), Json::to_string);
            let name = match place_name(place).as_str() {
                "" => section.to_owned(),
                name => format!("{section}|{name}"),
            };
            let line = format!("{name}: {} -> {}", value(&masked[0]), value(&masked[1]));
            // A place that is in both was met twice.
            let once = usize::from(!(clear[0].contains_key(place) && clear[1].contains_key(place))) + 1;
            *found.entry(line).or_default() += once;
        }
    }
    let hosts = |twice: usize| match twice / 2 {
        1 => "1 host".to_owned(),
        hosts => format!("{hosts} hosts"),
    };
    found.into_iter().map(|(line, twice)| format!("{line} ({})", hosts(twice))).collect()
}

/// The first line of a driver.
pub(super) fn beginning(rollout: &Rollout) -> String {
    let sizes: Vec<String> = rollout.stages.iter().map(|stage| stage.len().to_string()).collect();
    let hosts = match rollout.targets().count() {
        1 => "1 host".to_owned(),
        hosts => format!("{hosts} hosts"),
    };
    let skipped: Vec<String> =
        rollout.skipped.iter().map(|(host, why)| format!("\n{host}: {why}, left out as it is")).collect();
    format!(
        "roll-out {}: {hosts} in stages of {}; {}{}",
        rollout.id,
        sizes.join(", "),
        stage(rollout),
        skipped.concat()
    )
}

/// What is new in a document, a line each.
pub(super) fn news(old: &Rollout, new: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    let none = Progress::default();
    for (host, now) in &new.hosts {
        let before = old.hosts.get(host).unwrap_or(&none);
        let mut heard = |before: &Option<Asked>, now: &Option<Asked>, took: &str, verb: &str| {
            let Some(asked) = now.as_ref().filter(|_| before != now) else { return };
            let told = before.as_ref().is_some_and(|before| before.answer == asked.answer);
            match &asked.answer {
                Some(_) if !told => lines.push(format!("{host}: {verb}{}", outcome(asked, took))),
                None if !told && !asked.live => lines.push(format!("{host}: {verb}{}", outcome(asked, took))),
                _ => {}
            }
        };
        heard(&before.check, &now.check, "would take it", "dry run: ");
        heard(&before.apply, &now.apply, "applied", "new values: ");
        heard(&before.undo, &now.undo, "applied", "old values: ");
    }
    for (host, why) in new.skipped.iter().filter(|(host, _)| !old.skipped.contains_key(*host)) {
        lines.push(format!("{host}: {why}, left out as it is"));
    }
    for conflict in new.conflicts.iter().skip(old.conflicts.len()) {
        lines.push(format!(
            "{}: somebody else wrote it at revision {}; left as it is",
            conflict.key, conflict.revision
        ));
    }
    if (old.state, old.stage) != (new.state, new.stage) && new.state.is_open() {
        let why = new.reason.as_ref().filter(|_| old.reason.is_none());
        let why = why.map(|reason| {
            let host = reason.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
            format!(", because {host}{}", reason.problem)
        });
        lines.push(format!("{}{}", stage(new), why.unwrap_or_default()));
    }
    lines
}

/// The last line, if all went as wanted.
pub(super) fn summary(rollout: &Rollout) -> String {
    let applied = rollout.hosts.values().filter_map(|progress| progress.apply.as_ref());
    let outcomes: Vec<Option<Ended>> =
        applied.map(|asked| asked.answer.as_ref().map(|answer| answer.outcome)).collect();
    let count = |wanted: Option<Ended>| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let mut line = format!("roll-out {} is {}", rollout.id, stage(rollout));
    if rollout.state == State::Done {
        line = format!("{line}: {} of {} hosts applied it", count(Some(Ended::Applied)), outcomes.len());
        for (number, what) in [(count(None), "down"), (count(Some(Ended::Rejected)), "rejected it")] {
            if number > 0 {
                line = format!("{line}, {number} {what}");
            }
        }
    }
    line
}

/// Why an end is not the one that was wanted, with the exit code.
pub(super) fn failure(rollout: &Rollout, wanted: Wanted) -> Option<Failure> {
    let id = &rollout.id;
    if rollout.state == State::Done {
        let message = format!("the roll-out {id} is done; it was too late to take it back");
        return (wanted == Wanted::Undone).then(|| Failure::new(Kind::Conflict, message));
    }
    let conflicts: Vec<&str> = rollout.conflicts.iter().map(|conflict| conflict.key.as_str()).collect();
    let cause = rollout.reason.as_ref().map(|reason| reason.cause);
    let kind = match cause {
        _ if !conflicts.is_empty() => Kind::Conflict,
        Some(Cause::Rejected) => Kind::Rejected,
        Some(Cause::Conflict) => Kind::Conflict,
        Some(Cause::Aborted) if wanted == Wanted::Undone => return None,
        Some(Cause::Aborted) => Kind::Conflict,
        _ if wanted == Wanted::Undone => return None,
        _ => Kind::Failed,
    };
    if wanted == Wanted::Undone && conflicts.is_empty() {
        return None;
    }
    let reason = rollout.reason.as_ref().map(|reason| {
        let host = reason.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        format!("{host}{}", reason.problem)
    });
    let reason = reason.unwrap_or_default();
    let end = match rollout.state {
        State::Refused => "nothing was changed".to_owned(),
        State::Undone if conflicts.is_empty() => "every host has its old values again".to_owned(),
        State::Undone => {
            format!("the old values are back, but somebody else wrote {}", conflicts.join(", "))
        }
        _ => format!("it is not over: {}", stage(rollout)),
    };
    let late = rollout.hosts.iter().filter(|(_, progress)| {
        let undo = progress.undo.as_ref().and_then(|undo| undo.answer.as_ref());
        undo.is_some_and(|answer| !matches!(answer.outcome, Ended::Applied | Ended::Conflict))
    });
    let late: Vec<&str> = late.map(|(host, _)| host.as_str()).collect();
    let late = match late.as_slice() {
        [] => String::new(),
        late => {
            format!("; they are stored, but not taken by {}: `ovs config status` shows more", late.join(", "))
        }
    };
    Some(Failure::new(kind, format!("roll-out {id}: {reason}; {end}{late}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/ovs/vpools/g/hosts/h1/config/backend_connection_manager";

    fn rollout(state: &str, reason: &Json, conflicts: &Json) -> Rollout {
        let apply = |host: &str, outcome: &str| {
            let answer = json!({"outcome": outcome, "problem": "late"});
            let undo = json!({"update": "r-undo", "revision": 9, "live": true, "answer": answer});
            let asked = json!({"update": "r-stage-1", "revision": 8, "live": true});
            (host.to_owned(), json!({"apply": asked, "undo": undo}))
        };
        let hosts: serde_json::Map<String, Json> = match state {
            "refused" => serde_json::Map::new(),
            _ => [apply("h1", "silent")].into_iter().collect(),
        };
        let new = json!({"s3_connection_password": "new", "s3_connection_port": 1, "list": [1, 2]});
        let old = json!({"s3_connection_password": "old", "s3_connection_port": 1, "list": [1]}).to_string();
        let document = json!({
            "version": 1, "id": "r", "by": "eve@h", "time": "now", "stages": [["h1"]], "wait_secs": 1,
            "pause_secs": 0, "abort_on": "rejected", "allow_reset": false, "state": state, "stage": 1,
            "changes": {PATH: new}, "old": {PATH: {"host": "h1", "revision": 5, "value": old}},
            "hosts": hosts, "reason": reason, "conflicts": conflicts,
        });
        Rollout::read("r", document.to_string().as_bytes(), 10).expect("a roll-out")
    }

    #[test]
    fn the_exit_code_says_how_it_ended() {
        let reason = |cause: &str| json!({"cause": cause, "host": "h1", "problem": "no"});
        let conflicts = json!([{"key": PATH, "revision": 7}]);
        let kind = |state: &str, cause: &str, conflicts: &Json, wanted: Wanted| {
            let failure = failure(&rollout(state, &reason(cause), conflicts), wanted);
            failure.map(|failure| failure.kind())
        };
        for (cause, expected) in [
            ("rejected", Kind::Rejected),
            ("failed", Kind::Failed),
            ("conflict", Kind::Conflict),
            ("aborted", Kind::Conflict),
        ] {
            for state in ["refused", "undone"] {
                assert_eq!(kind(state, cause, &json!([]), Wanted::Done), Some(expected), "{state} {cause}");
                assert_eq!(kind(state, cause, &json!([]), Wanted::Undone), None, "{state} {cause}");
            }
            assert_eq!(kind("undone", cause, &conflicts, Wanted::Done), Some(Kind::Conflict));
            assert_eq!(kind("undone", cause, &conflicts, Wanted::Undone), Some(Kind::Conflict));
        }
        let done = rollout("done", &Json::Null, &json!([]));
        assert!(failure(&done, Wanted::Done).is_none());
        assert_eq!(failure(&done, Wanted::Undone).map(|failure| failure.kind()), Some(Kind::Conflict));
        let undone = rollout("undone", &reason("failed"), &json!([]));
        let words = failure(&undone, Wanted::Done).expect("a failure").to_string();
        assert_eq!(
            words,
            "roll-out r: h1: no; every host has its old values again; they are stored, but not taken by h1: \
             `ovs config status` shows more"
        );
    }

    #[test]
    fn changes_are_told_once_and_without_secrets() {
        let rollout = rollout("done", &Json::Null, &json!([]));
        assert_eq!(
            changes(&rollout),
            [
                "backend_connection_manager|list.1: - -> 2 (1 host)",
                "backend_connection_manager|s3_connection_password: \"***\" -> \"***\" (1 host)"
            ]
        );
        assert!(!described(&rollout, None).contains("new\""));
    }
}
