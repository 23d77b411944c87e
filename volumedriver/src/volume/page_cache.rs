//! Pages of runs in memory: one cache for all volumes of a data thread, bounded in pages. Eviction by clock: a page
//! that was used since the hand passed gets a second round.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;

use super::address::{CLUSTER_SIZE, RunId, VolumeId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    volume: u64,
    run: u64,
    page: u32,
}

/// Mixes by multiplication: keys are counters and random ids, and no client chooses them.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Debug)]
struct Slot {
    key: Key,
    page: Bytes,
    used: bool,
}

/// See the module.
#[derive(Debug)]
pub struct PageCache {
    index: HashMap<Key, u32, BuildHasherDefault<Mix>>,
    slots: Vec<Slot>,
    /// Slots without a page.
    vacant: Vec<u32>,
    hand: usize,
    pages_max: usize,
    hits: u64,
    misses: u64,
}

impl PageCache {
    /// A cache of at most `bytes`, never less than 16 pages: one look-up needs two at a time.
    pub fn new(bytes: usize) -> Self {
        Self {
            index: HashMap::default(),
            slots: Vec::new(),
            vacant: Vec::new(),
            hand: 0,
            pages_max: pages_in(bytes),
            hits: 0,
            misses: 0,
        }
    }

    /// At most `bytes` from now on. Pages beyond that stay until [`PageCache::trim`].
    pub fn set_bytes_max(&mut self, bytes: usize) {
        self.pages_max = pages_in(bytes);
    }

    /// Lets go of pages beyond the bound, at most `count` at a time: freeing memory takes time. `true`: there are more.
    pub fn trim(&mut self, count: usize) -> bool {
        let end = self.slots.len().saturating_sub(count).max(self.pages_max);
        if end >= self.slots.len() {
            return false;
        }
        for slot in self.slots.drain(end..) {
            // A vacant slot has the key of a page that is gone, or is elsewhere by now.
            if self.index.get(&slot.key).is_some_and(|&index| index as usize >= end) {
                self.index.remove(&slot.key);
            }
        }
        self.slots.shrink_to_fit();
        self.vacant.retain(|&slot| (slot as usize) < end);
        self.hand %= self.slots.len();
        end > self.pages_max
    }

    fn key(volume: VolumeId, run: RunId, page: u32) -> Key {
        Key { volume: u64::from_le_bytes(volume.0[..8].try_into().expect("8 bytes")), run: run.0, page }
    }

    /// The page, if it is here.
    pub fn get(&mut self, volume: VolumeId, run: RunId, page: u32) -> Option<&Bytes> {
        let Some(&slot) = self.index.get(&Self::key(volume, run, page)) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let slot = &mut self.slots[slot as usize];
        slot.used = true;
        Some(&slot.page)
    }

    /// Takes in a checked page.
    pub fn insert(&mut self, volume: VolumeId, run: RunId, page: u32, bytes: Bytes) {
        let key = Self::key(volume, run, page);
        if let Some(&slot) = self.index.get(&key) {
            self.slots[slot as usize].page = bytes;
            return;
        }
        // Not marked as used: a page that is read once goes before one that is read again.
        let fresh = Slot { key, page: bytes, used: false };
        if let Some(slot) = self.vacant.pop() {
            self.index.insert(key, slot);
            self.slots[slot as usize] = fresh;
            return;
        }
        if self.slots.len() < self.pages_max {
            self.index.insert(key, self.slots.len() as u32);
            self.slots.push(fresh);
            return;
        }
        while std::mem::take(&mut self.slots[self.hand].used) {
            self.hand = (self.hand + 1) % self.slots.len();
        }
        self.index.remove(&self.slots[self.hand].key);
        self.index.insert(key, self.hand as u32);
        self.slots[self.hand] = fresh;
        self.hand = (self.hand + 1) % self.slots.len();
    }

    /// Takes in all pages of a run that was just made, if they take at most half of the cache: they are wanted next.
    pub fn warm(&mut self, volume: VolumeId, run: RunId, pages: Vec<Bytes>) {
        if pages.len() <= self.pages_max / 2 {
            for (page, bytes) in pages.into_iter().enumerate() {
                self.insert(volume, run, page as u32, bytes);
            }
        }
    }

    /// Lets go of the pages of a run that is in no stack any more.
    pub fn forget(&mut self, volume: VolumeId, run: RunId, pages: u32) {
        for page in 0..pages {
            if let Some(slot) = self.index.remove(&Self::key(volume, run, page)) {
                self.slots[slot as usize].page = Bytes::new();
                self.vacant.push(slot);
            }
        }
    }

    /// Found and missed look-ups since the start.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    /// Memory held by pages, in bytes.
    pub fn bytes(&self) -> usize {
        self.index.len() * CLUSTER_SIZE
    }
}

fn pages_in(bytes: usize) -> usize {
    (bytes / CLUSTER_SIZE).max(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let volume = VolumeId([1; 16]);
        let mut cache = PageCache::new(16 * CLUSTER_SIZE);
        for page in 0..1000 {
            cache.insert(volume, RunId(1), page, Bytes::from(page.to_string()));
            assert!(cache.get(volume, RunId(1), 0).is_some(), "page 0 is used all the time");
            assert!(cache.bytes() <= 16 * CLUSTER_SIZE);
        }
        assert_eq!(cache.get(volume, RunId(1), 999).map(|page| &page[..]), Some(&b"999"[..]));
        assert_eq!(cache.get(volume, RunId(1), 500), None);
        assert_eq!(cache.get(volume, RunId(2), 999), None);
        assert_eq!(cache.get(VolumeId([2; 16]), RunId(1), 999), None);
        assert_eq!(cache.hits_and_misses(), (1001, 3));
        cache.forget(volume, RunId(1), 1000);
        assert_eq!((cache.bytes(), cache.get(volume, RunId(1), 0)), (0, None));
        cache.warm(volume, RunId(3), vec![Bytes::from_static(b"x"); 9]);
        assert_eq!(cache.bytes(), 0, "more than half of the cache");
        cache.warm(volume, RunId(3), vec![Bytes::from_static(b"x"); 8]);
        assert_eq!((cache.bytes(), cache.slots.len()), (8 * CLUSTER_SIZE, 16));
    }

    #[test]
    fn another_bound_lets_go_of_pages_step_by_step_and_takes_more_in() {
        let volume = VolumeId([1; 16]);
        let page = |page: u32| Bytes::from(page.to_string());
        let mut cache = PageCache::new(64 * CLUSTER_SIZE);
        (0..64).for_each(|number| cache.insert(volume, RunId(1), number, page(number)));
        cache.forget(volume, RunId(1), 40);
        // Slots of both ends are taken again.
        (0..30).for_each(|number| cache.insert(volume, RunId(2), number, page(number)));
        assert_eq!(cache.bytes(), 54 * CLUSTER_SIZE);
        cache.set_bytes_max(20 * CLUSTER_SIZE);
        assert!(cache.trim(30), "34 slots are left");
        assert!(!cache.trim(30));
        assert!(!cache.trim(30));
        assert_eq!((cache.slots.len(), cache.vacant.iter().filter(|&&slot| slot >= 20).count()), (20, 0));
        for round in 0..3 {
            for number in 0..100 {
                cache.insert(volume, RunId(3 + round), number, page(number));
                assert_eq!(cache.get(volume, RunId(3 + round), number), Some(&page(number)));
                assert!(cache.bytes() <= 20 * CLUSTER_SIZE);
            }
        }
        cache.set_bytes_max(40 * CLUSTER_SIZE);
        (0..100).for_each(|number| cache.insert(volume, RunId(9), number, page(number)));
        assert_eq!(cache.bytes(), 40 * CLUSTER_SIZE);
    }
}
