//! The bytes of a state, `docs/formats/store-state.md`, and what is done about bytes that are none.

use cfg_api::etcdserverpb as pb;

use super::{Machine, StateError};
use crate::words::command::Command as Kind;
use crate::words::{Admit, Batch, Command, Description, Found, LogId, Membership, Voters};

fn description(name: &str, port: u16) -> Option<Description> {
    let url = |port| vec![format!("http://127.0.0.1:{port}")];
    Some(Description { name: name.into(), peer_urls: url(port), client_urls: url(port + 1), token: 0 })
}

/// A state with something of everything.
fn sample() -> Machine {
    let mut machine = Machine::default();
    let alarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate.into(),
        member_id: 1,
        alarm: pb::AlarmType::Nospace.into(),
    };
    let put = pb::PutRequest { key: "a".into(), value: "1".into(), lease: 9, ..Default::default() };
    let kinds = [
        Kind::Found(Found { cluster_id: 0x1d0b_57a3, member: description("one", 2380) }),
        Kind::Admit(Admit { member: description("two", 2390), learner: false }),
        Kind::Admit(Admit { member: description("", 2400), learner: true }),
        Kind::LeaseGrant(pb::LeaseGrantRequest { id: 9, ttl: 60 }),
        Kind::Put(put),
        Kind::Alarm(alarm),
    ];
    for (index, kind) in (1..).zip(kinds) {
        let batch = Batch { commands: vec![Command { command: Some(kind) }] };
        machine.apply(index, &batch);
        machine.applied = Some(LogId { term: 3, index });
    }
    let at = Some(LogId { term: 2, index: 4 });
    let voters = |ids: &[u64]| Voters { ids: ids.to_vec() };
    let configurations = vec![voters(&[1]), voters(&[1, 2])];
    machine.membership = Some(Membership { at, configurations, members: vec![1, 2, 3] });
    machine
}

fn bytes_of(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.write(&mut bytes).expect("a vector takes it");
    bytes
}

/// A change of these numbers is a change of the format.
#[test]
fn golden_bytes() {
    let bytes = bytes_of(&sample());
    assert_eq!(bytes[..12], *b"OVSSTATE\x01\0\0\0");
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), GOLDEN);
    assert_eq!(Machine::read(&mut &bytes[..]).expect("what was written"), sample());
}

const GOLDEN: (usize, u32) = (392, 2_391_973_478);

#[test]
fn every_changed_bit_and_every_missing_end_is_refused_with_its_place() {
    let whole = bytes_of(&sample());
    let keys = 20 + u32::from_le_bytes([whole[12], whole[13], whole[14], whole[15]]) as usize;
    let refusal = |bytes: &[u8], what: &str| match Machine::read(&mut &bytes[..]) {
        Err(StateError::Io(error)) => panic!("{what}: {error}"),
        Err(error) => error,
        Ok(_) => panic!("{what} was taken"),
    };
    for at in 0..whole.len() {
        let cut = refusal(&whole[..at], &format!("a state cut at {at}"));
        assert!(cut.to_string().contains("byte"), "cut at {at}: {cut}");
        assert_eq!(matches!(cut, StateError::Keys { .. }), at >= keys, "cut at {at}: {cut}");
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let error = refusal(&bytes, &format!("bit {bit} of byte {at}, changed,"));
            match at {
                0..12 => assert!(matches!(error, StateError::Foreign(_)), "byte {at}: {error}"),
                _ if at < keys => assert!(error.to_string().contains("byte"), "byte {at}: {error}"),
                _ => assert!(
                    matches!(error, StateError::Keys { offset, .. } if offset == keys as u64),
                    "byte {at}: {error}"
                ),
            }
        }
    }
}
