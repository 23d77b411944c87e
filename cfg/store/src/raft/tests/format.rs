//! The golden bytes of entries, `docs/formats/store-log.md`.

use cfg_api::etcdserverpb as pb;
use openraft::{EntryPayload, Membership};
use prost::Message;

use crate::raft::storage::payload;
use crate::raft::types::{self, Entry};
use crate::words::command::Command as Kind;
use crate::words::{self, Batch, Command, LogId};

/// A change of these bytes is a change of the format.
#[test]
fn golden_bytes() {
    let put = pb::PutRequest { key: "key".into(), value: "value".into(), lease: 7, ..Default::default() };
    let command = Command { command: Some(Kind::Put(put)) };
    let membership = Membership::new(vec![[1].into(), [1, 2].into()], Some([3].into()));
    let cases: [(EntryPayload<types::Types>, &[u8]); 3] = [
        (EntryPayload::Blank, b""),
        (
            EntryPayload::Membership(membership),
            b"\x1a\x10\x12\x03\x0a\x01\x01\x12\x04\x0a\x02\x01\x02\x1a\x03\x01\x02\x03",
        ),
        (
            EntryPayload::Normal(Batch { commands: vec![command] }),
            b"\x12\x12\x0a\x10\x12\x0e\x0a\x03key\x12\x05value\x18\x07",
        ),
    ];
    for (content, bytes) in cases {
        let id = types::log_id(LogId { term: 3, index: 12 });
        let entry = Entry { log_id: id, payload: content };
        assert_eq!(payload(entry.clone()), bytes, "{entry:?}");
        let read = words::Entry::decode(bytes).expect("what was written");
        assert_eq!(types::entry(id, read), entry);
    }
}
