//! The fuzzer's seeds, and a short run of mutations of them with every `cargo test`.
//!
//! The seeds are made here from valid sessions. After a change of [`seeds`], write them anew with
//! `NBD_CORPUS_WRITE=1 cargo test -p volumedriver --test nbd_corpus`.

mod nbd_wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nbd_wire::wire;
use volumedriver::nbd::fuzz::fuzz_entry;

const MUTATIONS: u64 = 20_000;
/// Longest mutated input, bytes.
const LONGEST: usize = 16 << 10;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/nbd_corpus")
}

/// Names and contents of the seeds. The first byte is the fuzzer's (see `nbd/fuzz.rs`).
fn seeds() -> BTreeMap<&'static str, Vec<u8>> {
    let go = "'IHAVEOPT' 00000007 0000000e 00000004 'disk' 0002 0003 0001";
    let structured = "'IHAVEOPT' 00000008 00000000";
    let context = "'IHAVEOPT' 0000000a 0000001f 00000004 'disk' 00000001 0000000f 'base:allocation'";
    let requests = "25609513 0000 0000 0000000000000001 0000000000000000 00001000
                    25609513 0001 0001 0000000000000002 0000000000000ff0 00000020 a5*32
                    25609513 0000 0003 0000000000000003 0000000000000000 00000000
                    25609513 0000 0004 0000000000000004 0000000000001000 00010000
                    25609513 0000 0005 0000000000000005 0000000000000000 00010000
                    25609513 0012 0006 0000000000000006 0000000000002000 00008000
                    25609513 0000 0001 0000000000000007 00000000fffff000 00000010 5a*16
                    25609513 0000 0008 0000000000000008 0000000000000000 00000000";
    let status = "25609513 0008 0007 0000000000000009 0000000000000000 00100000
                  25609513 0004 0000 000000000000000a 0000000000000000 00000200";
    let bye = "25609513 0000 0002 000000000000000b 0000000000000000 00000000";
    let texts = [
        ("abort", "00 00000003 'IHAVEOPT' 00000002 00000000".to_owned()),
        ("default_export", "00 00000003 'IHAVEOPT' 00000007 00000006 00000000 0000".to_owned()),
        ("export_name", format!("00 00000001 'IHAVEOPT' 00000001 00000004 'disk' {requests} {bye}")),
        ("go_simple", format!("00 00000003 {go} {requests} {bye}")),
        ("go_structured", format!("04 00000003 {structured} {context} {go} {requests} {status} {bye}")),
        (
            "questions",
            format!(
                "04 00000003 'IHAVEOPT' 00000005 00000000 'IHAVEOPT' 00000003 00000000 {structured}
                 'IHAVEOPT' 00000009 00000015 00000004 'disk' 00000001 00000005 'base:'
                 'IHAVEOPT' 00000006 0000000a 00000004 'disk' 0000
                 'IHAVEOPT' 0000002a 00000003 '???' {go} {bye}"
            ),
        ),
        ("requests_huge", format!("07 {requests} {status} {bye}")),
        ("requests_simple", format!("01 {requests} {bye}")),
        (
            "write_pieces",
            format!(
                "03 25609513 0001 0001 0000000000000001 0000000000000f80 00002100 3c*8448 {status} {bye}"
            ),
        ),
    ];
    texts.into_iter().map(|(name, text)| (name, wire(&text))).collect()
}

#[test]
fn the_seeds_are_the_checked_in_ones() {
    let folder = folder();
    if std::env::var_os("NBD_CORPUS_WRITE").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds() {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, std::fs::read(entry.path()).unwrap());
    }
    let expected: BTreeMap<String, Vec<u8>> =
        seeds().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    assert_eq!(found, expected);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One to four changes: a bit, a byte, an interesting number, a piece left out, doubled, or taken from
/// another seed.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        if input.is_empty() {
            break;
        }
        let at = random.below(input.len());
        let end = (at + 1 + random.below(40)).min(input.len());
        match random.below(6) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = random.next() as u8,
            2 => {
                let number =
                    [0, 1, 0xffff, 0x1_0000, 0x200_0000, 0x200_0001, 0x400_0001, u32::MAX][random.below(8)];
                for (to, from) in input[at..].iter_mut().zip(number.to_be_bytes()) {
                    *to = from;
                }
            }
            3 => drop(input.drain(at..end)),
            4 => {
                let doubled = input[at..end].to_vec();
                input.splice(at..at, doubled);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

#[test]
fn mutations_break_nothing() {
    let seeds: Vec<Vec<u8>> = seeds().into_values().collect();
    seeds.iter().for_each(|seed| fuzz_entry(seed));
    for seed in 0..MUTATIONS {
        let input = mutate(&mut Random(seed), &seeds);
        if let Err(panic) = std::panic::catch_unwind(|| fuzz_entry(&input)) {
            eprintln!("seed {seed}: {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
}
