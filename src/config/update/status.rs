//! `ovs config status`: what each process of a vPool runs with, and whether that is what is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use cfg_engine::Status;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::targets::{Host, Targets};
use crate::config::{Session, failure_of};
use crate::failure::{Failure, Kind};
use crate::output;

/// How a host stands to what is stored for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// It runs with what is stored.
    InSync,
    /// Something stored takes effect at its next start.
    PendingRestart,
    /// What is stored was not applied: nobody asked, or it was refused.
    Differs,
    /// It runs on its last good copy because what is stored is not valid.
    Degraded,
    /// It runs on its last good copy because the store did not answer.
    Stale,
    /// Nothing is heard of it.
    Down,
}

impl Standing {
    fn words(self) -> &'static str {
        match self {
            Standing::InSync => "in sync",
            Standing::PendingRestart => "pending restart",
            Standing::Differs => "differs",
            Standing::Degraded => "degraded",
            Standing::Stale => "stale",
            Standing::Down => "down",
        }
    }
}

/// One host as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    host: String,
    standing: Standing,
    frozen: bool,
    /// The newest revision at which one of its documents was written.
    written_revision: i64,
    /// What it says of itself; of one that is down what it said last.
    status: Option<Status>,
}

fn standing(host: &Host) -> Standing {
    let Some(status) = &host.status else { return Standing::Down };
    if !status.degraded.is_empty() {
        Standing::Degraded
    } else if status.stale {
        Standing::Stale
    } else if status.observed_revision < host.written || status.stored_hash.is_none() {
        // It has not seen, or cannot use, what is stored.
        Standing::Differs
    } else if !status.pending_restart.is_empty() {
        Standing::PendingRestart
    } else if status.drifts() == Some(false) {
        Standing::InSync
    } else {
        Standing::Differs
    }
}

impl Session {
    pub(in crate::config) async fn status(
        &self,
        targets: &Targets,
        wait: Option<Duration>,
    ) -> Result<(), Failure> {
        let until = wait.map(|wait| Instant::now() + wait);
        let mut watch = None;
        loop {
            let hosts = self.hosts_of(targets).await?;
            let shown: Vec<Shown> = hosts.iter().map(|(name, host)| show(name, host)).collect();
            let out = shown.iter().filter(|shown| shown.standing != Standing::InSync).count();
            let Some(until) = until.filter(|until| out > 0 && Instant::now() < *until) else {
                return self.print_hosts(&hosts, &shown, out);
            };
            // Anything may have happened between the look and the first watch: that one begins with a listing.
            let path = targets.hosts()?;
            let watch = watch.get_or_insert_with(|| self.store.watch(&path, None));
            if let Ok(item) = timeout_at(until, watch.next()).await {
                item.map_err(failure_of)?;
            }
        }
    }

    fn print_hosts(
        &self,
        hosts: &BTreeMap<String, Host>,
        shown: &[Shown],
        out: usize,
    ) -> Result<(), Failure> {
        if self.json {
            output::json(&shown)?;
        } else {
            let headings = ["HOST", "STATE", "PID", "REVISION", "HASH", "PENDING", "LAST UPDATE"];
            let rows: Vec<[String; 7]> = shown.iter().map(row).collect();
            output::line(&output::table(headings, &["PID", "REVISION", "PENDING"], &rows))?;
            for shown in shown {
                for problem in shown.status.iter().flat_map(|status| &status.degraded) {
                    let (component, param) = (&problem.component, &problem.param);
                    output::line(&format!("{}: {component}.{param}: {}", shown.host, problem.problem))?;
                }
                for pending in shown.status.iter().flat_map(|status| &status.pending_restart) {
                    let (component, param) = (&pending.component, &pending.param);
                    let (running, stored) = (&pending.running, &pending.stored);
                    output::line(&format!(
                        "{}: {component}.{param}: {running} until a restart, then {stored}",
                        shown.host
                    ))?;
                }
            }
        }
        match out {
            0 => Ok(()),
            out => {
                Err(Failure::new(Kind::NotInSync, format!("{out} of {} hosts are not in sync", hosts.len())))
            }
        }
    }
}

fn show(name: &str, host: &Host) -> Shown {
    Shown {
        host: name.to_owned(),
        standing: standing(host),
        frozen: host.frozen,
        written_revision: host.written,
        status: host.status.clone().or_else(|| host.last_status.clone()),
    }
}

fn row(shown: &Shown) -> [String; 7] {
    let frozen = if shown.frozen { ", frozen" } else { "" };
    let state = format!("{}{frozen}", shown.standing.words());
    let Some(status) = &shown.status else {
        return [shown.host.clone(), state, "-".into(), "-".into(), "-".into(), "-".into(), "-".into()];
    };
    let pid = if shown.standing == Standing::Down { "-".to_owned() } else { status.pid.to_string() };
    [
        shown.host.clone(),
        state,
        pid,
        status.running_revision.to_string(),
        status.config_hash.chars().take(12).collect(),
        status.pending_restart.len().to_string(),
        status.last_feedback.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::place::Place;

    fn host(change: impl FnOnce(&mut Host, &mut Status)) -> Standing {
        let place = Place::of("g", "h").expect("names");
        let mut host = Host { place, written: 5, status: None, last_status: None, frozen: false };
        let mut status = Status {
            node: "h".into(),
            config_hash: "a".into(),
            stored_hash: Some("a".into()),
            observed_revision: 5,
            ..Status::default()
        };
        change(&mut host, &mut status);
        host.status = (status.node == "h").then_some(status);
        standing(&host)
    }

    #[test]
    fn a_host_is_in_sync_only_if_nothing_speaks_against_it() {
        assert_eq!(host(|_, _| {}), Standing::InSync);
        assert_eq!(host(|_, status| status.node.clear()), Standing::Down);
        assert_eq!(host(|_, status| status.stale = true), Standing::Stale);
        assert_eq!(host(|host, _| host.written = 6), Standing::Differs);
        assert_eq!(host(|_, status| status.stored_hash = Some("b".into())), Standing::Differs);
        assert_eq!(host(|_, status| status.stored_hash = None), Standing::Differs);
    }
}
