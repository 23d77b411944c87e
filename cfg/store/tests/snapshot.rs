//! Snapshots: their bytes, and what is done about bytes that are none.

use cfg_store::mvcc::{DeleteRangeRequest, KeyRange, PutRequest, SnapshotError, Store};

fn sample() -> Store {
    let mut store = Store::new();
    let put = |store: &mut Store, key: &str, value: &str, lease| {
        let request = PutRequest { lease, ..PutRequest::new(key.to_string(), value.to_string()) };
        store.put(&request).expect("a sound put");
    };
    store.lease_grant(7, 60).expect("a new lease");
    store.lease_grant(9, 10).expect("a new lease");
    put(&mut store, "a", "1", 0);
    put(&mut store, "b", "2", 7);
    put(&mut store, "a", "3", 0);
    store.delete_range(&DeleteRangeRequest { keys: KeyRange::one("a"), prev_kv: false }).expect("sound");
    store.compact(5).expect("a revision that happened");
    put(&mut store, "c", &"long".repeat(40_000), 0);
    put(&mut store, "b", "", 7);
    store
}

fn bytes_of(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.write_snapshot(&mut bytes).expect("a vector takes it");
    bytes
}

/// The golden bytes of `docs/formats/store-snapshot.md`: a change of these numbers is a change of the format.
#[test]
fn golden_bytes() {
    let bytes = bytes_of(&sample());
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), GOLDEN);
    assert_eq!(bytes[8..20], *b"OVSSTORE\x01\0\0\0");
}

const GOLDEN: (usize, u32) = (160_317, 2_940_314_569);

#[test]
fn what_was_written_is_read_and_nothing_behind_it() {
    let mut bytes = bytes_of(&sample());
    bytes.extend_from_slice(b"something else");
    let mut input = &bytes[..];
    let store = Store::read_snapshot(&mut input).expect("what was written");
    assert_eq!((&store, input), (&sample(), &b"something else"[..]));
    assert_eq!(Store::read_snapshot(&mut &bytes_of(&Store::new())[..]).expect("an empty one"), Store::new());
}

#[test]
fn a_changed_byte_or_a_missing_end_is_refused_with_its_place() {
    let bytes = bytes_of(&sample());
    let place = |bytes: &[u8]| match Store::read_snapshot(&mut &bytes[..]) {
        Err(SnapshotError::Damaged { at, .. }) => Some(at),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    let piece = 8 + (64 << 10);
    for at in
        [0, 5, 9, 100, piece, piece + 5, piece + 30_000, 2 * piece + 9, bytes.len() - 9, bytes.len() - 1]
    {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let found = place(&damaged).unwrap_or_else(|| panic!("a changed byte at {at} was taken"));
        assert!(found <= at as u64 && at as u64 - found < 2 * piece as u64, "{at}: said to be at {found}");
        assert!(place(&bytes[..at]).is_some(), "cut at {at}");
    }
}

/// Whole pieces, with checksums that match, of what no store is.
#[test]
fn sound_pieces_of_an_impossible_store_are_refused() {
    let framed = |payload: &[u8]| {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend(crc32fast::hash(payload).to_le_bytes());
        bytes.extend(payload);
        bytes.extend([0; 8]);
        bytes
    };
    let mut store = Store::new();
    store.lease_grant(7, 60).expect("a new lease");
    store.put(&PutRequest { lease: 7, ..PutRequest::new("a", "1") }).expect("a sound put");
    let whole = bytes_of(&store);
    let payload = &whole[8..whole.len() - 8];
    assert!(Store::read_snapshot(&mut &framed(payload)[..]).is_ok());
    let said = |at: usize, value: u8| {
        let mut other = payload.to_vec();
        other[at] = value;
        Store::read_snapshot(&mut &framed(&other)[..]).map(drop).map_err(|error| error.to_string())
    };
    // Header of 28 bytes, one lease of 16 behind its count, the key behind its count, its version, the change.
    let (revision, lease, key) = (12, 36, 60);
    let version = key + 5 + 8;
    for (at, value, what) in [
        (0, b'X', "begins otherwise"),
        (8, 2, "format 2"),
        (revision, 0, "revisions that cannot be"),
        (revision, 1, "a version out of order"),
        (lease, 0, "lease 0"),
        (lease, 8, "lease 7, which is not there"),
        (key, 0, "a key that is empty"),
        (key + 3, 0xff, "bytes"),
        (key + 5, 0, "a key without versions"),
        (version + 16, 0, "numbers that cannot be"),
        (version + 32, 9, "no kind of version"),
        (payload.len() - 1, b'b', "its key does not know"),
        (payload.len() - 6, 0xff, "it ends"),
    ] {
        let error = said(at, value).expect_err(what);
        assert!(error.contains(what), "byte {at} = {value}: {error}");
    }
}
