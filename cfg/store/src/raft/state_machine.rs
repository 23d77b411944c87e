//! The replicated state as openraft wants it.

use std::io;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EmptyNode, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, Snapshot,
    SnapshotMeta, StorageIOError,
};

use super::files::{self, Files, SnapshotFile};
use super::types::{self, Entry, LogId, StorageError, StoredMembership, Types};
use crate::machine::{Machine, MemberId};
use crate::replica::Replica;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;
use crate::words::{Batch, Outcome};

/// See the module.
#[derive(Clone)]
pub(super) struct StateMachine {
    replica: Arc<Replica>,
    pub(super) files: Files,
}

impl StateMachine {
    pub(super) fn new(replica: Arc<Replica>, files: Files) -> Self {
        Self { replica, files }
    }

    /// The leader learns which leases there are.
    fn tell_leases(&self, batch: &Batch, outcomes: &[Outcome]) {
        for (command, outcome) in batch.commands.iter().zip(outcomes) {
            match (&command.command, &outcome.outcome) {
                (Some(Kind::LeaseGrant(grant)), Some(Came::LeaseGrant(_))) => {
                    self.replica.leases.granted(grant.id, grant.ttl);
                }
                (Some(Kind::LeaseRevoke(revoke)), _) => self.replica.leases.revoked(revoke.id),
                _ => {}
            }
        }
    }
}

/// What openraft has to know of a state.
pub(crate) fn meta(machine: &Machine) -> SnapshotMeta<MemberId, EmptyNode> {
    SnapshotMeta {
        last_log_id: machine.applied.map(types::log_id),
        last_membership: types::stored_membership(machine.membership.as_ref()),
        snapshot_id: files::name(machine.applied),
    }
}

fn failed(verb: ErrorVerb, error: impl std::error::Error + 'static) -> StorageError {
    StorageIOError::new(ErrorSubject::Snapshot(None), verb, AnyError::new(&error)).into()
}

/// Does what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let result = tokio::task::spawn_blocking(work).await;
    let result = result.unwrap_or_else(|error| Err(io::Error::other(error)));
    result.map_err(|error| failed(ErrorVerb::Write, error))
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        // Values are shared; what is copied is the tree around them, so that writes go on meanwhile.
        let machine = self.replica.read().clone();
        let meta = meta(&machine);
        let files = self.files.clone();
        let file = blocking(move || files.write(&machine)).await?;
        Ok(Snapshot { meta, snapshot: Box::new(file) })
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let machine = self.replica.read();
        Ok((machine.applied.map(types::log_id), types::stored_membership(machine.membership.as_ref())))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let apply = |machine: &mut Machine, entry: Entry| {
            let outcomes = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(batch) => {
                    let outcomes = machine.apply(entry.log_id.index, &batch);
                    self.tell_leases(&batch, &outcomes);
                    outcomes
                }
                EntryPayload::Membership(membership) => {
                    machine.set_membership(types::stored_membership_words(entry.log_id, &membership));
                    Vec::new()
                }
            };
            machine.applied = Some(types::log_id_words(entry.log_id));
            outcomes
        };
        let all = |machine: &mut Machine| entries.into_iter().map(|entry| apply(machine, entry)).collect();
        Ok(self.replica.change(all))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        let files = self.files.clone();
        Ok(Box::new(blocking(move || files.begin()).await?))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<MemberId, EmptyNode>,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let machine = match &snapshot.machine {
            Some(machine) => machine.clone(),
            None => Arc::new(snapshot.load().map_err(|error| failed(ErrorVerb::Read, error))?),
        };
        let (files, name) = (self.files.clone(), meta.snapshot_id.clone());
        blocking(move || files.finish(*snapshot, &name)).await?;
        self.replica.change(|now| *now = Machine::clone(&machine));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let newest = self.files.newest().map_err(|error| failed(ErrorVerb::Read, error))?;
        let Some(file) = newest else { return Ok(None) };
        let machine = file.load().map_err(|error| failed(ErrorVerb::Read, error))?;
        Ok(Some(Snapshot { meta: meta(&machine), snapshot: Box::new(file) }))
    }
}
