//! Changes of hosts' documents are checked before they are written: each host's whole configuration as it would be
//! afterwards. And they are told what they do.

use std::collections::{BTreeMap, BTreeSet};

use cfg_client::{Compare, Content as ListContent, Error, KeyPath};
use cfg_schema::{Category, Change, Problem};
use serde_json::{Value as Json, json};

use super::change::Edit;
use super::host::Host;
use super::update::freeze::FROZEN;
use super::whole::{Examined, Whole};
use super::{Session, failure_of};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::output;

/// Most lines about one change that people get to read.
const LINES: usize = 40;

/// Most hosts that a line names.
const NAMES: usize = 3;

/// Whether a change is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// It is refused when a host's configuration would not be valid.
    Made,
    /// It is stored as it is.
    Omitted,
}

/// What a change means for the hosts whose documents it touches.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Each host of them.
    pub(super) hosts: Vec<HostReport>,
}

/// What it means for one.
#[derive(Debug)]
pub(super) struct HostReport {
    host: Host,
    problems: Vec<Problem>,
    changes: Vec<Change>,
    /// Unknown keys that the change brings.
    unknown: Vec<String>,
    /// Keys without effect that it brings.
    no_effect: Vec<String>,
    /// What else there is to say.
    notes: Vec<String>,
    /// Fails when somebody wrote one of the documents since they were read.
    pub(super) guard: Compare,
}

impl Session {
    /// Reads the configuration of each host that `edits` touch, as it is and as it would be.
    pub(super) async fn check(&self, edits: &[Edit]) -> Result<Report, Failure> {
        let mut touched: BTreeMap<Host, Vec<(String, &Edit)>> = BTreeMap::new();
        for edit in edits {
            if let Some((host, section)) = Host::of_document(edit.key.as_str()) {
                touched.entry(host).or_default().push((section.to_owned(), edit));
            }
        }
        let mut report = Report::default();
        for (host, own) in touched {
            report.hosts.push(self.check_host(host, &own, edits).await?);
        }
        Ok(report)
    }

    /// `own`: the edits of the host's documents, by section; `edits`: all of the change.
    async fn check_host(
        &self,
        host: Host,
        own: &[(String, &Edit)],
        edits: &[Edit],
    ) -> Result<HostReport, Failure> {
        let folder = host.key("config")?;
        let listing =
            self.store.list(&folder.below(), ListContent::Values, None).await.map_err(failure_of)?;
        let mut before = Whole::of_pairs(&folder, listing.pairs.iter());
        let mut after = before.clone();
        for (section, edit) in own {
            after.put(section.clone(), edit.after.as_deref());
        }
        self.read_targets(&mut before, &[], listing.revision).await?;
        self.read_targets(&mut after, edits, listing.revision).await?;
        let identity = self.identity_of(&host);
        let guard = Compare::NotAfter { range: folder.below(), revision: listing.revision };
        let mut report = HostReport {
            host,
            problems: Vec::new(),
            changes: Vec::new(),
            unknown: Vec::new(),
            no_effect: Vec::new(),
            notes: Vec::new(),
            guard,
        };
        if after.is_empty() {
            report.notes.push("it has no configuration any more: its driver does not start again".to_owned());
            return Ok(report);
        }
        let (was, now) = (before.examine(identity), after.examine(identity));
        report.tell(&before, &was, &after, &now, own);
        report.problems = now.problems;
        if self.current(&report.host.key(FROZEN)?).await?.is_some() {
            report.notes.push("frozen: no update reaches it until it is thawed".to_owned());
        }
        Ok(report)
    }

    /// Reads what references in `whole` lead to, at `revision`; of what `edits` change, the new values.
    pub(super) async fn read_targets(
        &self,
        whole: &mut Whole,
        edits: &[Edit],
        revision: i64,
    ) -> Result<(), Failure> {
        loop {
            let missing = whole.missing();
            if missing.is_empty() {
                return Ok(());
            }
            for path in missing {
                if let Some(edit) = edits.iter().find(|edit| edit.key.as_str() == path) {
                    whole.found(path, edit.after.as_deref());
                    continue;
                }
                let stored = match KeyPath::parse(&path) {
                    Ok(key) => self.store.get(&key, Some(revision)).await,
                    // No such key can be.
                    Err(error) => Err(Error::Absent { place: error.to_string() }),
                };
                match stored {
                    Ok(pair) => whole.found(path, Some(&pair.value)),
                    Err(Error::Absent { .. }) => whole.found(path, None),
                    Err(error) => return Err(failure_of(error)),
                }
            }
        }
    }

    /// The identity of the node on this machine, if it is that host.
    pub(super) fn identity_of(&self, host: &Host) -> Option<&Identity> {
        self.identity.as_ref().filter(|identity| {
            (identity.vpool_guid(), identity.vrouter_id()) == (host.vpool.as_str(), host.id.as_str())
        })
    }

    /// Everything that is wrong with what is stored below `config`, the folder of a host.
    pub(super) async fn problems_of(&self, config: &KeyPath) -> Result<Vec<Problem>, Failure> {
        let listing =
            self.store.list(&config.below(), ListContent::Values, None).await.map_err(failure_of)?;
        let mut whole = Whole::of_pairs(config, listing.pairs.iter());
        self.read_targets(&mut whole, &[], listing.revision).await?;
        Ok(whole.examine(self.identity.as_ref()).problems)
    }

    /// Refuses a change with problems: prints all of them.
    pub(super) fn refuse(&self, report: &Report) -> Result<(), Failure> {
        let problems: Vec<(&Host, &Problem)> =
            report.hosts.iter().flat_map(|host| host.problems.iter().map(|p| (&host.host, p))).collect();
        if problems.is_empty() {
            return Ok(());
        }
        if self.json {
            let values: Vec<Json> =
                problems.iter().map(|(host, problem)| as_json(Some(host), problem)).collect();
            output::json(&json!({"changed": false, "problems": values}))?;
        }
        let advice = "nothing was changed; correct it, or store it as it is with --unchecked";
        let line = |host: &Host, problem: &Problem| match report.hosts.len() {
            1 => problem.to_string(),
            _ => format!("{host}: {problem}"),
        };
        if let [(host, problem)] = problems[..] {
            return Err(Failure::rejected(format!("{}; {advice}", line(host, problem))));
        }
        for (host, problem) in &problems {
            eprintln!("ovs: {}", line(host, problem));
        }
        Err(Failure::rejected(format!("{} values are refused; {advice}", problems.len())))
    }

    /// Prints the result of a change, and what it does to hosts.
    pub(super) fn show_changed(
        &self,
        report: &Report,
        mut value: Json,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if report.hosts.is_empty() {
            return self.show(&value, text);
        }
        let (unknown, no_effect) = (report.keys(|host| &host.unknown), report.keys(|host| &host.no_effect));
        for key in &unknown {
            eprintln!("ovs: {key} is unknown: it is kept and has no effect");
        }
        for key in &no_effect {
            eprintln!("ovs: {key} has no effect in this program");
        }
        value["effects"] = report.effects();
        value["unknown"] = json!(unknown);
        value["no_effect"] = json!(no_effect);
        value["notes"] = json!(report.notes());
        self.show(&value, || {
            let mut lines = report.lines();
            let more = lines.len().saturating_sub(LINES);
            if more > 0 {
                lines.truncate(LINES);
                lines.push(format!("and {more} more; --json shows all"));
            }
            let lines: Vec<String> = lines.iter().map(|line| format!("\n  {line}")).collect();
            text() + &lines.concat()
        })
    }
}

/// A problem as scripts get it.
pub(super) fn as_json(host: Option<&Host>, problem: &Problem) -> Json {
    let Problem { section, key, value, problem } = problem;
    let mut shown = json!({"component": section, "param": key, "value": value, "problem": problem});
    if let Some(host) = host {
        shown["vpool"] = json!(host.vpool);
        shown["host"] = json!(host.id);
    }
    shown
}

/// What happens with a change of this category.
fn effect(category: Category) -> &'static str {
    match category {
        Category::Dynamic => "applied at once by the next update",
        Category::Restart => "waits for a restart",
        Category::Immutable => "immutable: the next update refuses it, unless the host was made with it",
        Category::NoEffect => "without effect",
    }
}

impl HostReport {
    fn tell(
        &mut self,
        before: &Whole,
        was: &Examined,
        after: &Whole,
        now: &Examined,
        own: &[(String, &Edit)],
    ) {
        let sections: BTreeSet<&str> = own.iter().map(|(section, _)| section.as_str()).collect();
        let brought = |names: &[String]| -> Vec<String> {
            let of_change = |name: &&String| {
                let section = name.split('.').next().unwrap_or_default();
                sections.contains(section) && after.differs(before, name)
            };
            names.iter().filter(of_change).cloned().collect()
        };
        (self.unknown, self.no_effect) = (brought(&now.unknown), brought(&now.no_effect));
        for (section, _) in own.iter().filter(|(_, edit)| edit.before.is_some() && edit.after.is_none()) {
            let note = format!("{section} is gone: an update refuses that unless it says allow_reset");
            self.notes.push(note);
        }
        // Nothing runs with it yet.
        if before.is_empty() {
            return;
        }
        self.changes = was.changes(now);
        if was.parameters.is_none() {
            let note = "what was stored before was not valid, so what differs cannot be told";
            self.notes.push(note.to_owned());
        } else if now.parameters.is_some() && self.changes.is_empty() && self.notes.is_empty() {
            self.notes.push("no value that has an effect changes".to_owned());
        }
    }
}

impl Report {
    /// What is wrong, in one line, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        let mut problems = self.hosts.iter().flat_map(|host| &host.problems);
        let first = problems.next()?;
        Some(match problems.count() {
            0 => first.to_string(),
            more => format!("{first} (and {more} more)"),
        })
    }

    /// Everything that is wrong, of all hosts.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.hosts.into_iter().flat_map(|host| host.problems).collect()
    }

    fn keys(&self, keys: impl Fn(&HostReport) -> &Vec<String>) -> BTreeSet<String> {
        self.hosts.iter().flat_map(|host| keys(host).iter().cloned()).collect()
    }

    fn effects(&self) -> Json {
        let of_host = |report: &HostReport| -> Vec<Json> {
            let host = &report.host;
            let value = |change: &Change| {
                json!({
                    "vpool": host.vpool, "host": host.id, "component": change.section, "param": change.key,
                    "old": change.old, "new": change.new, "category": change.category,
                })
            };
            report.changes.iter().map(value).collect()
        };
        self.hosts.iter().flat_map(of_host).collect()
    }

    fn notes(&self) -> Vec<Json> {
        let of_host = |report: &HostReport| -> Vec<Json> {
            let Host { vpool, id } = &report.host;
            report.notes.iter().map(|note| json!({"vpool": vpool, "host": id, "note": note})).collect()
        };
        self.hosts.iter().flat_map(of_host).collect()
    }

    /// For people: each thing once, with the hosts that it holds for.
    fn lines(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let mut holders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for report in &self.hosts {
            let changes = report.changes.iter().map(|change| {
                let Change { section, key, old, new, category } = change;
                format!("{section}.{key}: {old} -> {new}, {}", effect(*category))
            });
            for line in changes.chain(report.notes.iter().cloned()) {
                if !holders.contains_key(&line) {
                    order.push(line.clone());
                }
                holders.entry(line).or_default().push(&report.host.id);
            }
        }
        let line = |line: String| match holders[&line].as_slice() {
            _ if self.hosts.len() == 1 => line,
            hosts if hosts.len() <= NAMES => format!("{line} ({})", hosts.join(", ")),
            hosts => format!("{line} ({} hosts)", hosts.len()),
        };
        order.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cfg_client::KeyPath;

    fn host(id: &str, changes: &[(&'static str, Category)]) -> HostReport {
        let change = |(key, category): &(&'static str, Category)| {
            let (old, new) = ("1".to_owned(), "2".to_owned());
            Change { section: "kettle", key, category: *category, old, new }
        };
        HostReport {
            host: Host { vpool: "g".to_owned(), id: id.to_owned() },
            problems: Vec::new(),
            changes: changes.iter().map(change).collect(),
            unknown: Vec::new(),
            no_effect: Vec::new(),
            notes: vec!["note".to_owned()],
            guard: Compare::NotAfter { range: KeyPath::root().below(), revision: 1 },
        }
    }

    #[test]
    fn each_line_stands_once_with_the_hosts_it_holds_for() {
        let (now, later) = (("a", Category::Dynamic), ("b", Category::Restart));
        let never = ("c", Category::Immutable);
        let alone = Report { hosts: vec![host("h1", &[now, later, never])] };
        assert_eq!(
            alone.lines(),
            [
                "kettle.a: 1 -> 2, applied at once by the next update",
                "kettle.b: 1 -> 2, waits for a restart",
                "kettle.c: 1 -> 2, immutable: the next update refuses it, unless the host was made with it",
                "note"
            ]
        );
        let hosts = vec![host("h1", &[now]), host("h2", &[now, later]), host("h3", &[]), host("h4", &[now])];
        assert_eq!(
            Report { hosts }.lines(),
            [
                "kettle.a: 1 -> 2, applied at once by the next update (h1, h2, h4)",
                "note (4 hosts)",
                "kettle.b: 1 -> 2, waits for a restart (h2)"
            ]
        );
    }
}
