//! `ovs cfg members`, `add`, `remove`, `promote`, `move-leader`, `status`, `defrag`.

use cfg_client::{Error, Member, MemberStatus, Options, Store, StoreUrl};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::config::failure_of;
use crate::failure::Failure;
use crate::output::{json, line, table};

/// A member, and how it is if it answers.
#[derive(Serialize)]
struct Seen {
    #[serde(flatten)]
    member: Member,
    status: Option<MemberStatus>,
    problem: Option<String>,
}

impl Session {
    pub(super) async fn members(&self) -> Result<(), Failure> {
        let members = self.store.members().await.map_err(failure_of)?;
        self.show_members(&members)
    }

    fn show_members(&self, members: &[Member]) -> Result<(), Failure> {
        if self.json {
            return json(&members);
        }
        let row = |member: &Member| {
            let name = if member.name.is_empty() { "(not started)".to_owned() } else { member.name.clone() };
            let votes = if member.learner { "no" } else { "yes" }.to_owned();
            let urls = [member.peer_urls.join(","), member.client_urls.join(",")];
            let [peer, client] = urls;
            [format!("{:x}", member.id), name, votes, peer, client]
        };
        let rows: Vec<[String; 5]> = members.iter().map(row).collect();
        line(&table(["MEMBER", "NAME", "VOTES", "PEER URLS", "CLIENT URLS"], &[], &rows))
    }

    pub(super) async fn add(&self, peer_urls: &[String], learner: bool) -> Result<(), Failure> {
        let member = self.store.add_member(peer_urls, learner).await.map_err(failure_of)?;
        if self.json {
            return json(&member);
        }
        let url = peer_urls.join(",");
        line(&format!(
            "member {:x} may join: start it with --peer-urls {url} --join, and it gets a vote",
            member.id
        ))
    }

    pub(super) async fn remove(&self, id: u64) -> Result<(), Failure> {
        let members = self.store.remove_member(id).await.map_err(|error| of_member(id, error))?;
        self.show_members(&members)
    }

    pub(super) async fn promote(&self, id: u64) -> Result<(), Failure> {
        let members = self.store.promote_member(id).await.map_err(|error| of_member(id, error))?;
        self.show_members(&members)
    }

    pub(super) async fn move_leader(&self, id: u64) -> Result<(), Failure> {
        self.store.move_leader(id).await.map_err(failure_of)?;
        if self.json { json(&json!({"leader": id})) } else { line(&format!("member {id:x} leads")) }
    }

    /// Asks each member by itself.
    pub(super) async fn status(&self) -> Result<(), Failure> {
        let mut all = Vec::new();
        for member in self.store.members().await.map_err(failure_of)? {
            let (status, problem) = match self.of(&member) {
                Ok(store) => match store.status().await {
                    Ok(status) => (Some(status), None),
                    Err(error) => (None, Some(error.to_string())),
                },
                Err(failure) => (None, Some(failure.to_string())),
            };
            all.push(Seen { member, status, problem });
        }
        if self.json { json(&all) } else { line(&shown(&all)) }
    }

    /// Lets each member give back what it does not need.
    pub(super) async fn defrag(&self) -> Result<(), Failure> {
        let mut done = Vec::new();
        let members = self.store.members().await.map_err(failure_of)?;
        // Who was admitted and has not started has no log.
        for member in members.into_iter().filter(|member| !member.client_urls.is_empty()) {
            self.of(&member)?.defragment().await.map_err(failure_of)?;
            done.push(member.id);
        }
        if self.json {
            json(&done)
        } else {
            line(&format!("{} members replace their logs by snapshots", done.len()))
        }
    }

    /// A client of one member, with the certificates of the address that was given.
    fn of(&self, member: &Member) -> Result<Store, Failure> {
        let endpoints: Vec<String> = member
            .client_urls
            .iter()
            .map(|url| url.trim_start_matches("https://").trim_start_matches("http://").to_owned())
            .collect();
        if endpoints.is_empty() {
            return Err(Failure::failed(format!("member {:x} has not started", member.id)));
        }
        let url = StoreUrl { endpoints, ..self.url.clone() };
        let patience = Options { rounds: 1, ..Options::default() };
        Store::open(&url, patience).map_err(failure_of)
    }
}

/// What an error means that is about a member.
fn of_member(id: u64, error: Error) -> Failure {
    match &error {
        Error::Refused { problem } if problem.ends_with("member not found") => {
            Failure::not_found(format!("there is no member {id:x}; `ovs cfg members` lists them"))
        }
        _ => failure_of(error),
    }
}

/// The members as a table for people.
fn shown(all: &[Seen]) -> String {
    let row = |seen: &Seen| {
        let id = format!("{:x}", seen.member.id);
        let Some(status) = &seen.status else {
            let problem = seen.problem.clone().unwrap_or_default();
            let empty = String::new;
            return [id, seen.member.name.clone(), "away".into(), empty(), empty(), empty(), problem];
        };
        let role = match (status.leader == status.id, status.learner) {
            (true, _) => "leads",
            (_, true) => "learns",
            _ => "follows",
        };
        let errors = status.errors.join("; ");
        let (term, applied, revision) = (status.term, status.applied, status.revision);
        [
            id,
            seen.member.name.clone(),
            role.into(),
            term.to_string(),
            applied.to_string(),
            revision.to_string(),
            errors,
        ]
    };
    let rows: Vec<[String; 7]> = all.iter().map(row).collect();
    let headings = ["MEMBER", "NAME", "ROLE", "TERM", "APPLIED", "REVISION", "PROBLEMS"];
    table(headings, &["TERM", "APPLIED", "REVISION"], &rows)
}
