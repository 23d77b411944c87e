//! Which addresses a run of level 0 may know: a Bloom filter whose bits for one address lie in one word.
//!
//! Runs of level 0 overlap, so a look-up has to ask each of them, mostly to hear nothing. The filter answers that with
//! one line of the processor's cache instead of a search in two pages. It lives in memory only: after a restart the
//! runs of level 0 are searched until they are merged.

use super::address::ClusterAddress;
use super::run::MapEntry;

/// Bits for each entry: about one address in fifty passes that the run does not know.
const BITS_PER_ENTRY: usize = 12;
/// Bits set for each address.
const PROBES: u32 = 4;

/// See the module.
#[derive(Clone, Debug)]
pub struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// The filter of a run with these entries; `None` if one of them spans several clusters, which it cannot tell.
    pub fn of(entries: &[MapEntry]) -> Option<Self> {
        if entries.iter().any(|entry| entry.count != 1) {
            return None;
        }
        let mut words = vec![0; (entries.len() * BITS_PER_ENTRY).div_ceil(64).max(1)];
        for entry in entries {
            let (word, bits) = place(entry.address, words.len());
            words[word] |= bits;
        }
        Some(Self { words })
    }

    /// False only if the run says nothing about `address`.
    pub fn may_hold(&self, address: ClusterAddress) -> bool {
        let (word, bits) = place(address, self.words.len());
        self.words[word] & bits == bits
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }
}

/// The word of an address and its bits there: the upper half of a mixed address picks the word, the lower the bits.
fn place(address: ClusterAddress, words: usize) -> (usize, u64) {
    let mixed = (address.0 ^ (address.0 >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = ((mixed >> 32) * words as u64) >> 32;
    let bits = (0..PROBES).fold(0, |bits, probe| bits | 1 << ((mixed >> (6 * probe)) & 63));
    (word as usize, bits)
}

#[cfg(test)]
mod tests {
    use super::super::address::{Location, ScoNumber};
    use super::super::event::Emptiness;
    use super::super::run::MapValue;
    use super::*;

    fn entry(address: u64) -> MapEntry {
        let value = MapValue::Data { location: Location::new(ScoNumber(1), 1), crc: 0 };
        MapEntry { address: ClusterAddress(address), count: 1, value }
    }

    #[test]
    fn knows_all_of_its_run_and_few_others() {
        for step in [1, 2, 255, 4096, 1 << 28] {
            let entries: Vec<_> = (0..20_000).map(|index| entry(index * step)).collect();
            let filter = Filter::of(&entries).expect("single clusters");
            assert!(entries.iter().all(|entry| filter.may_hold(entry.address)), "step {step}");
            let strangers = (20_000..120_000).filter(|index| filter.may_hold(ClusterAddress(index * step)));
            let passed = strangers.count();
            assert!(passed < 5_000, "step {step}: {passed} of 100,000 strangers pass");
            assert_eq!(filter.bytes(), 30_000);
        }
    }

    #[test]
    fn a_run_with_a_stretch_has_none() {
        let value = MapValue::Empty { kind: Emptiness::Hole };
        assert!(Filter::of(&[entry(1), MapEntry { address: ClusterAddress(5), count: 2, value }]).is_none());
        assert!(Filter::of(&[entry(1), MapEntry { address: ClusterAddress(5), count: 1, value }]).is_some());
    }
}
