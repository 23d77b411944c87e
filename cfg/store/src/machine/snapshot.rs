//! The whole state as bytes, `docs/formats/store-state.md`: what stands beside the keys in one message with a checksum,
//! behind it the snapshot of the keys.

use std::io::{self, Read, Write};

use prost::Message;

use super::{FOUNDER, Machine, Member};
use crate::mvcc::{SnapshotError, Store};
use crate::words::{MemberState, State};

/// Every file begins with it.
const MAGIC: [u8; 8] = *b"OVSSTATE";
/// Of the format.
const FORMAT: u32 = 1;
/// Bytes in front of the message.
const HEAD: usize = 20;
/// Longest message that is believed, bytes; a member takes some hundred.
const STATE_MAX: u32 = 4 << 20;
/// A good size for the reads below, bytes.
pub const READ_PIECE: usize = 256 << 10;

/// Why a state is not taken. Nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It could not be read.
    #[error("the state cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Another program's file, or a later format.
    #[error("this is no state that this version reads: {0}")]
    Foreign(String),
    /// It is not what was written.
    #[error("the state is damaged: {0}")]
    Damaged(String),
    /// The keys are not what was written.
    #[error("behind byte {offset}: {error}")]
    Keys {
        /// Where they begin.
        offset: u64,
        /// What is wrong with them.
        error: SnapshotError,
    },
}

impl Machine {
    /// Writes all of it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let members = self.members.iter().map(|(&id, member)| {
            (id, MemberState { description: Some(member.description.clone()), learner: member.learner })
        });
        let state = State {
            applied: self.applied,
            membership: self.membership.clone(),
            cluster_id: self.cluster_id,
            members: members.collect(),
            alarms: self.alarms(),
            leaving: self.leaving.clone().into_iter().collect(),
        };
        let state = state.encode_to_vec();
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&(state.len() as u32).to_le_bytes())?;
        out.write_all(&crc32fast::hash(&state).to_le_bytes())?;
        out.write_all(&state)?;
        self.store.write_snapshot(out)
    }

    /// Reads all of it; `input` ends behind it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(input: &mut impl Read) -> Result<Self, StateError> {
        let mut head = [0; HEAD];
        read_exact(input, &mut head, 0)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..8] != MAGIC {
            return Err(StateError::Foreign("it does not begin like one".into()));
        }
        let (format, length, crc) = (word(8), word(12), word(16));
        if format != FORMAT {
            return Err(StateError::Foreign(format!("format {format}, this version reads {FORMAT}")));
        }
        if length > STATE_MAX {
            return Err(StateError::Damaged(format!("the length at byte 12 says {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        read_exact(input, &mut bytes, HEAD)?;
        if crc32fast::hash(&bytes) != crc {
            return Err(StateError::Damaged("the checksum of the message at byte 20 does not match".into()));
        }
        let state = State::decode(&bytes[..]);
        let state =
            state.map_err(|error| StateError::Damaged(format!("the message at byte {HEAD}: {error}")))?;
        let offset = (HEAD + bytes.len()) as u64;
        let store = Store::read_snapshot(input).map_err(|error| StateError::Keys { offset, error })?;
        Self::of(state, store)
    }

    fn of(state: State, store: Store) -> Result<Self, StateError> {
        let damaged = |what: &str| StateError::Damaged(format!("the message at byte {HEAD}: {what}"));
        if state.cluster_id == 0 && !state.members.is_empty() {
            return Err(damaged("it has members and no cluster"));
        }
        let mut machine = Machine { store, cluster_id: state.cluster_id, ..Machine::default() };
        for (id, member) in state.members {
            if id < FOUNDER {
                return Err(damaged("a member without a number"));
            }
            let description = member.description.unwrap_or_default();
            machine.members.insert(id, Member { description, learner: member.learner });
        }
        machine.alarms = state.alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect();
        machine.leaving = state.leaving.into_iter().collect();
        (machine.applied, machine.membership) = (state.applied, state.membership);
        Ok(machine)
    }
}

/// Fills `bytes`, which begin at byte `at`.
fn read_exact(input: &mut impl Read, bytes: &mut [u8], at: usize) -> Result<(), StateError> {
    let length = bytes.len();
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => StateError::Damaged(format!("it ends before byte {}", at + length)),
        _ => error.into(),
    })
}
