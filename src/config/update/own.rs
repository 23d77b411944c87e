//! The configuration of the host that this process is: an update of it as `ovs config apply` asks for one, and
//! documents that are imported first. For the admin RPC.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cfg_client::{KeyPath, Store};
use cfg_engine::{Feedback, Outcome, Update};
use cfg_schema::{Documents, Problem};
use serde_json::Value as Json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::targets::Targets;
use crate::agent::place::Place;
use crate::config::change::{Edit, Intent};
use crate::config::check::Check;
use crate::config::write::TRIES;
use crate::config::{Session, author, failure_of};
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// What a change is called in the history.
const ACTION: &str = "update_configuration";

/// See the module.
pub(crate) struct OwnConfig {
    session: Session,
    place: Place,
    targets: Targets,
    vrouter_id: String,
    /// One update at a time, so that each caller hears of its own changes and of no other's.
    turn: Mutex<()>,
}

/// What came of an update.
#[derive(Debug)]
pub(crate) enum Updated {
    /// It was taken.
    Taken(Box<Feedback>),
    /// It was not, and nothing changed; what was imported for it is taken back.
    Rejected(Vec<Problem>),
}

impl OwnConfig {
    /// That of the driver `identity`.
    ///
    /// # Errors
    /// Its name cannot be part of a key.
    pub(crate) fn new(store: Store, identity: &Identity) -> Result<OwnConfig, Failure> {
        let (vpool, id) = (identity.vpool_guid().to_owned(), identity.vrouter_id().to_owned());
        Ok(OwnConfig {
            session: Session { store, json: false, identity: Some(identity.clone()) },
            place: Place::of(&vpool, &id).map_err(failure_of)?,
            targets: Targets { vpool, host: Some(id.clone()) },
            vrouter_id: id,
            turn: Mutex::default(),
        })
    }

    /// Where the documents are.
    pub(crate) fn path(&self) -> &KeyPath {
        &self.place.config
    }

    /// Takes what is stored; with `documents` these are stored first, each in the place of its section, unless
    /// something is wrong with them.
    pub(crate) async fn update(
        &self,
        documents: Option<&Documents>,
        wait: Duration,
    ) -> Result<Updated, Failure> {
        let _turn = self.turn.lock().await;
        let imported = match documents {
            None => Vec::new(),
            Some(documents) => match self.import(documents).await? {
                Ok(imported) => imported,
                Err(problems) => return Ok(Updated::Rejected(problems)),
            },
        };
        let feedback = self.ask(wait).await?;
        if feedback.outcome != Outcome::Rejected {
            return Ok(Updated::Taken(Box::new(feedback)));
        }
        self.take_back(imported).await?;
        let problem = |rejected: &cfg_engine::Rejected| {
            let value = rejected.value.clone().map_or(Json::Null, Json::String);
            Problem::new(&rejected.component, &rejected.param, value, rejected.problem.clone())
        };
        Ok(Updated::Rejected(feedback.rejected.iter().map(problem).collect()))
    }

    /// Everything that is wrong with what is stored; with `documents` as it would be with these.
    pub(crate) async fn check(&self, documents: Option<&Documents>) -> Result<Vec<Problem>, Failure> {
        match documents {
            None => self.session.problems_of(&self.place.config).await,
            Some(documents) => {
                let edits = self.session.edits_of_documents(&self.place, documents, false).await?;
                Ok(self.session.check(&edits).await?.into_problems())
            }
        }
    }

    /// Stores documents. What was done, to be taken back, or what is wrong with them.
    async fn import(&self, documents: &Documents) -> Result<Result<Vec<Edit>, Vec<Problem>>, Failure> {
        let intent = Intent::new(ACTION, None)?;
        for _ in 0..TRIES {
            let edits = match self.session.edits_of_documents(&self.place, documents, false).await {
                Err(failure) if failure.kind() == Kind::Rejected => return Ok(Err(vec![whole(&failure)])),
                edits => edits?,
            };
            if edits.is_empty() {
                return Ok(Ok(edits));
            }
            let problems = self.session.check(&edits).await?.into_problems();
            if !problems.is_empty() {
                return Ok(Err(problems));
            }
            match self.session.commit(&edits, &intent, Check::Made).await {
                Ok(Some(_)) => return Ok(Ok(edits)),
                // Somebody else wrote one of them meanwhile.
                Ok(None) => {}
                Err(failure) if failure.kind() == Kind::Rejected => return Ok(Err(vec![whole(&failure)])),
                Err(failure) => return Err(failure),
            }
        }
        Err(crate::config::write::busy(&self.place.config))
    }

    /// Puts back what was there before an import. What others wrote since then stays.
    async fn take_back(&self, imported: Vec<Edit>) -> Result<(), Failure> {
        let mut edits = Vec::new();
        for Edit { key, before, after, .. } in imported {
            let now = self.session.current(&key).await?;
            if now.as_ref().map(|pair| &pair.value[..]) == after.as_deref() {
                let after = before.map(|pair| pair.value.to_vec());
                edits.push(Edit { key, before: now, after, other: None });
            }
        }
        if edits.is_empty() {
            return Ok(());
        }
        let note = Some("it was refused when it was to be applied".to_owned());
        // What was there before may have been wrong, too.
        match self.session.commit(&edits, &Intent::new(ACTION, note)?, Check::Omitted).await? {
            Some(_) => Ok(()),
            None => {
                tracing::warn!("documents that were refused stay: somebody else changes them now");
                Ok(())
            }
        }
    }

    /// Writes the update key with an id of its own, and waits for the answer: to an update that covers it, if it is
    /// superseded.
    async fn ask(&self, wait: Duration) -> Result<Feedback, Failure> {
        let id = cfg_client::random_id().map_err(failure_of)?;
        let update = Update {
            id: id.clone(),
            by: author::author(),
            note: ACTION.to_owned(),
            dry_run: false,
            allow_reset: false,
            rollout: None,
        };
        let until = Instant::now() + wait;
        let revision = self.session.request(&self.place.update, &update).await?;
        let waiting = BTreeSet::from([self.vrouter_id.clone()]);
        let (mut answers, _): (BTreeMap<String, Feedback>, _) =
            self.session.collect(&self.targets, revision, &id, waiting, until).await?;
        answers.remove(&self.vrouter_id).ok_or_else(|| {
            let message = format!(
                "the update {id} is not answered after {wait:?}; `ovs config status` shows when it is"
            );
            Failure::new(Kind::NotInSync, message)
        })
    }
}

/// A problem of all documents together.
fn whole(failure: &Failure) -> Problem {
    Problem::new("", "", Json::Null, failure.to_string())
}
