//! What all members have in common: the keys, and who belongs to the cluster. Commands are applied one after the other,
//! in the order of the log, and give the same state and the same outcomes on each member.

pub(crate) mod convert;
mod refused;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cfg_api::etcdserverpb as pb;
use pb::AlarmType;
use pb::alarm_request::AlarmAction;
use prost::Message;

pub use refused::Refused;
pub use snapshot::{READ_PIECE, StateError};

use crate::mvcc::Store;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;
use crate::words::{Batch, Command, Describe, Description, LogId, Membership, Outcome};

/// Names a member for good: the index of the entry that admitted it; 1 is the one that founded the cluster, 0 is none.
pub type MemberId = u64;

/// Members at most, and what each may say of itself, bytes: together less than what is believed of a state.
const MEMBERS_MAX: usize = 100;
const DESCRIPTION_MAX: usize = 16 << 10;

/// The founder.
pub const FOUNDER: MemberId = 1;

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it says of itself.
    pub description: Description,
    /// It stays without a vote until somebody promotes it.
    pub learner: bool,
}

/// An alarm: who has it, and which of [`AlarmType`].
type Alarm = (MemberId, i32);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// The keys.
    pub store: Store,
    /// Number of the cluster; 0: not founded.
    pub cluster_id: u64,
    /// Members by number.
    pub members: BTreeMap<MemberId, Member>,
    /// The last entry that is in it.
    pub applied: Option<LogId>,
    /// The last change of the voters that is in it.
    pub membership: Option<Membership>,
    /// Members that were dismissed and still have a part in the agreement: without them there may be no majority to
    /// take it from them.
    leaving: BTreeMap<MemberId, Description>,
    alarms: BTreeSet<Alarm>,
}

impl Machine {
    /// Applies the commands of the entry at `index`.
    pub fn apply(&mut self, index: u64, batch: &Batch) -> Vec<Outcome> {
        let one = |command: &Command| {
            let came = self.apply_one(index, command).unwrap_or_else(|refused| Came::Refusal(refused.into()));
            Outcome { outcome: Some(came) }
        };
        batch.commands.iter().map(one).collect()
    }

    /// Whether `id` was a member and is none any more. A number is the index of an entry: one that is not known
    /// although its entry is applied was removed. Who is on its way out still has a part in the agreement.
    pub fn was_removed(&self, id: MemberId) -> bool {
        self.cluster_id != 0
            && !self.members.contains_key(&id)
            && !self.takes_part(id)
            && self.applied.is_some_and(|applied| applied.index >= id)
    }

    /// Whether `id` has a part in the agreement.
    fn takes_part(&self, id: MemberId) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.members.contains(&id))
    }

    /// Takes over who learns and who votes.
    pub(crate) fn set_membership(&mut self, membership: Membership) {
        self.leaving.retain(|id, _| membership.members.contains(id));
        self.membership = Some(membership);
    }

    /// Where `id` is reached.
    pub(crate) fn peer_urls(&self, id: MemberId) -> &[String] {
        let description = self.members.get(&id).map(|member| &member.description);
        description.or_else(|| self.leaving.get(&id)).map_or(&[], |description| &description.peer_urls)
    }

    /// Whether the store is full: only what makes room is taken.
    pub fn is_full(&self) -> bool {
        self.alarms.iter().any(|&(_, kind)| kind == i32::from(AlarmType::Nospace))
    }

    /// What all of it takes, bytes, near enough for a quota.
    pub fn bytes(&self) -> u64 {
        let members = self.members.values().map(|member| member.description.encoded_len() as u64);
        self.store.bytes() + members.sum::<u64>()
    }

    /// The alarms that stand.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        self.alarms.iter().map(|&(member_id, alarm)| pb::AlarmMember { member_id, alarm }).collect()
    }

    /// Clears all alarms: those of another cluster.
    pub(crate) fn forget_alarms(&mut self) {
        self.alarms.clear();
    }

    /// A header of now.
    fn header(&self) -> Option<pb::ResponseHeader> {
        convert::header(self.store.revision())
    }

    fn apply_one(&mut self, index: u64, command: &Command) -> Result<Came, Refused> {
        let kind = command.command.as_ref().ok_or_else(|| Refused::argument("an unknown command"))?;
        Ok(match kind {
            Kind::Found(found) => {
                // Only the first one counts: a founder that was cut off may say it again.
                if self.cluster_id == 0 {
                    self.cluster_id = found.cluster_id;
                    let description = found.member.clone().unwrap_or_default();
                    self.members.insert(FOUNDER, Member { description, learner: false });
                }
                Came::Cluster(self.cluster_id)
            }
            Kind::Put(put) => {
                self.check_room(true)?;
                Came::Put(convert::put_response(self.store.put(&convert::put(put))?))
            }
            Kind::DeleteRange(delete) => {
                let response = self.store.delete_range(&convert::delete_range(delete))?;
                Came::DeleteRange(convert::delete_range_response(response))
            }
            Kind::Txn(txn) => {
                self.check_room(has_put(txn))?;
                Came::Txn(convert::txn_response(self.store.txn(&convert::txn(txn, 0)?)?))
            }
            Kind::Compact(compact) => {
                self.store.compact(compact.revision)?;
                Came::Compact(pb::CompactionResponse { header: self.header() })
            }
            Kind::LeaseGrant(grant) => {
                self.check_room(true)?;
                self.store.lease_grant(grant.id, grant.ttl)?;
                let header = self.header();
                let response =
                    pb::LeaseGrantResponse { header, id: grant.id, ttl: grant.ttl, error: String::new() };
                Came::LeaseGrant(response)
            }
            Kind::LeaseRevoke(revoke) => {
                self.store.lease_revoke(revoke.id)?;
                Came::LeaseRevoke(pb::LeaseRevokeResponse { header: self.header() })
            }
            Kind::Alarm(alarm) => Came::Alarm(self.alarm(alarm)?),
            Kind::Admit(admit) => {
                let description = admit.member.clone().unwrap_or_default();
                Came::Member(self.admit(index, description, admit.learner)?)
            }
            Kind::Describe(describe) => Came::Member(self.describe(describe)?),
            Kind::Dismiss(dismiss) => {
                let member = self.members.remove(&dismiss.id).ok_or_else(Refused::no_member)?;
                if self.takes_part(dismiss.id) {
                    self.leaving.insert(dismiss.id, member.description);
                }
                self.alarms.retain(|&(member, _)| member != dismiss.id);
                Came::Member(dismiss.id)
            }
        })
    }

    /// While the store is full nothing that adds to it is done.
    fn check_room(&self, adds: bool) -> Result<(), Refused> {
        if adds && self.is_full() { Err(Refused::no_space()) } else { Ok(()) }
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> Result<pb::AlarmResponse, Refused> {
        let action = AlarmAction::try_from(request.action);
        let action = action.map_err(|_| Refused::argument("etcdserver: unknown alarm action"))?;
        let of = |&(member, kind): &Alarm| {
            (request.member_id == 0 || request.member_id == member)
                && (request.alarm == i32::from(AlarmType::None) || request.alarm == kind)
        };
        let found: Vec<Alarm> = match action {
            AlarmAction::Get => self.alarms.iter().copied().filter(of).collect(),
            AlarmAction::Activate => {
                // So there are never more of them than members and kinds.
                if AlarmType::try_from(request.alarm).is_err() {
                    return Err(Refused::argument("etcdserver: unknown alarm type"));
                }
                if !self.members.contains_key(&request.member_id) {
                    return Err(Refused::no_member());
                }
                let raised = request.alarm != i32::from(AlarmType::None)
                    && self.alarms.insert((request.member_id, request.alarm));
                raised.then_some((request.member_id, request.alarm)).into_iter().collect()
            }
            AlarmAction::Deactivate => {
                let cleared = self.alarms.iter().copied().filter(of).collect();
                self.alarms.retain(|alarm| !of(alarm));
                cleared
            }
        };
        let alarms =
            found.into_iter().map(|(member_id, alarm)| pb::AlarmMember { member_id, alarm }).collect();
        Ok(pb::AlarmResponse { header: self.header(), alarms })
    }

    fn admit(&mut self, index: u64, description: Description, learner: bool) -> Result<MemberId, Refused> {
        if self.is_reached_at(&description.peer_urls, 0) {
            return Err(Refused::peer_urls_taken());
        }
        if learner && self.members.values().any(|member| member.learner) {
            return Err(Refused::too_many_learners());
        }
        check_description(&description)?;
        if self.members.len() >= MEMBERS_MAX {
            let text = format!("a cluster has at most {MEMBERS_MAX} members; remove those that are gone");
            return Err(Refused::new(tonic::Code::FailedPrecondition, text));
        }
        // An entry admits one member at most: its index is the number.
        if index <= FOUNDER || self.members.contains_key(&index) {
            return Err(Refused::unavailable("etcdserver: another member is being added; try again"));
        }
        self.members.insert(index, Member { description, learner });
        Ok(index)
    }

    fn describe(&mut self, describe: &Describe) -> Result<MemberId, Refused> {
        let new = describe.member.clone().unwrap_or_default();
        if self.is_reached_at(&new.peer_urls, describe.id) {
            return Err(Refused::peer_urls_taken());
        }
        check_description(&new)?;
        let member = self.members.get_mut(&describe.id).ok_or_else(Refused::no_member)?;
        let old = &mut member.description;
        if !new.name.is_empty() {
            old.name = new.name;
        }
        if !new.peer_urls.is_empty() {
            old.peer_urls = new.peer_urls;
        }
        if !new.client_urls.is_empty() {
            old.client_urls = new.client_urls;
        }
        if new.token != 0 {
            old.token = new.token;
        }
        member.learner &= !describe.promote;
        Ok(describe.id)
    }

    /// Whether another member than `id` is reached at one of `urls`.
    fn is_reached_at(&self, urls: &[String], id: MemberId) -> bool {
        let others = self.members.iter().filter(|(other, _)| **other != id);
        others.flat_map(|(_, member)| &member.description.peer_urls).any(|url| urls.contains(url))
    }
}

/// What is said of a member stays below [`DESCRIPTION_MAX`].
fn check_description(description: &Description) -> Result<(), Refused> {
    if description.encoded_len() > DESCRIPTION_MAX {
        let text = format!("name and addresses of a member have more than {DESCRIPTION_MAX} bytes");
        return Err(Refused::argument(text));
    }
    Ok(())
}

/// Whether one of the lists could write a key.
pub(crate) fn has_put(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(inner)) => has_put(inner),
        _ => false,
    })
}
