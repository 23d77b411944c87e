//! Pages of runs in memory: one cache for all volumes of a data thread, bounded in pages. Eviction by clock: a page
//! that was used since the hand passed gets a second round.
//!
//! A volume may have a limit of its own: a new page of it then takes the place of one of its own pages. The cache knows
//! for that which slots each volume has.

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
    /// Its place in the list of its volume's slots.
    place: u32,
}

/// What one volume has of the cache.
#[derive(Debug, Default)]
struct Share {
    /// Slots with its pages.
    slots: Vec<u32>,
    hand: usize,
    pages_max: Option<usize>,
}

impl Share {
    fn excess(&self) -> usize {
        self.pages_max.map_or(0, |most| self.slots.len().saturating_sub(most))
    }
}

/// See the module.
#[derive(Debug)]
pub struct PageCache {
    index: HashMap<Key, u32, BuildHasherDefault<Mix>>,
    slots: Vec<Slot>,
    /// Slots without a page.
    vacant: Vec<u32>,
    /// Volumes with pages or a limit.
    shares: HashMap<u64, Share, BuildHasherDefault<Mix>>,
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
            shares: HashMap::default(),
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

    /// At most `pages` of one volume from now on, but never less than 16; `None`: as many as there is room for. Pages
    /// beyond that go when others come, and by [`PageCache::trim`].
    pub fn set_limit(&mut self, volume: VolumeId, pages: Option<u32>) {
        let pages_max = pages.map(|pages| pages_in(pages as usize * CLUSTER_SIZE));
        let volume = short(volume);
        if pages_max.is_some() {
            self.shares.entry(volume).or_default().pages_max = pages_max;
        } else if let Some(share) = self.shares.get_mut(&volume) {
            share.pages_max = None;
            self.drop_empty_share(volume);
        }
    }

    /// Pages of one volume.
    pub fn pages_of(&self, volume: VolumeId) -> usize {
        self.shares.get(&short(volume)).map_or(0, |share| share.slots.len())
    }

    /// Lets go of pages beyond a bound, at most `count` of a volume with a limit and as many of the rest: freeing
    /// memory takes time. `true`: there are more.
    pub fn trim(&mut self, count: usize) -> bool {
        let over: Vec<_> = self.shares.iter().filter(|(_, share)| share.excess() > 0).collect();
        let over: Vec<_> = over.into_iter().map(|(&volume, share)| (volume, share.excess())).collect();
        for &(volume, excess) in &over {
            (0..excess.min(count)).for_each(|_| self.evict_own(volume));
        }
        let more = over.iter().any(|&(_, excess)| excess > count);
        self.trim_end(count) || more
    }

    fn trim_end(&mut self, count: usize) -> bool {
        let end = self.slots.len().saturating_sub(count).max(self.pages_max);
        if end >= self.slots.len() {
            return false;
        }
        for index in end..self.slots.len() {
            // A vacant slot has the key of a page that is gone, or is elsewhere by now.
            if self.index.get(&self.slots[index].key).is_some_and(|&there| there as usize == index) {
                self.take_out(index);
            }
        }
        self.slots.truncate(end);
        self.slots.shrink_to_fit();
        self.vacant.retain(|&slot| (slot as usize) < end);
        self.hand %= self.slots.len();
        end > self.pages_max
    }

    fn key(volume: VolumeId, run: RunId, page: u32) -> Key {
        Key { volume: short(volume), run: run.0, page }
    }

    /// The page of a slot is in the cache no longer.
    fn take_out(&mut self, index: usize) {
        let Slot { key, place, .. } = self.slots[index];
        self.index.remove(&key);
        let Some(share) = self.shares.get_mut(&key.volume) else { return };
        share.slots.swap_remove(place as usize);
        if let Some(&moved) = share.slots.get(place as usize) {
            self.slots[moved as usize].place = place;
        }
        self.drop_empty_share(key.volume);
    }

    fn drop_empty_share(&mut self, volume: u64) {
        let empty = |share: &Share| share.slots.is_empty() && share.pages_max.is_none();
        if self.shares.get(&volume).is_some_and(empty) {
            self.shares.remove(&volume);
        }
    }

    /// Lets go of a page of `volume`, which has some.
    fn evict_own(&mut self, volume: u64) {
        let Some(share) = self.shares.get_mut(&volume).filter(|share| !share.slots.is_empty()) else {
            return;
        };
        let victim = loop {
            share.hand = (share.hand + 1) % share.slots.len();
            let slot = share.slots[share.hand];
            if !std::mem::take(&mut self.slots[slot as usize].used) {
                break slot;
            }
        };
        self.take_out(victim as usize);
        self.slots[victim as usize].page = Bytes::new();
        self.vacant.push(victim);
    }

    /// Puts a page into a slot that has none.
    fn put(&mut self, index: usize, key: Key, page: Bytes) {
        let share = self.shares.entry(key.volume).or_default();
        // Not marked as used: a page that is read once goes before one that is read again.
        let fresh = Slot { key, page, used: false, place: share.slots.len() as u32 };
        share.slots.push(index as u32);
        self.index.insert(key, index as u32);
        match self.slots.get_mut(index) {
            Some(slot) => *slot = fresh,
            None => self.slots.push(fresh),
        }
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
        let full = |share: &Share| share.pages_max.is_some_and(|most| share.slots.len() >= most);
        // Two at most: a lower limit is reached step by step.
        for _ in 0..2 {
            if self.shares.get(&key.volume).is_some_and(full) {
                self.evict_own(key.volume);
            }
        }
        if let Some(slot) = self.vacant.pop() {
            return self.put(slot as usize, key, bytes);
        }
        if self.slots.len() < self.pages_max {
            return self.put(self.slots.len(), key, bytes);
        }
        while std::mem::take(&mut self.slots[self.hand].used) {
            self.hand = (self.hand + 1) % self.slots.len();
        }
        self.take_out(self.hand);
        self.put(self.hand, key, bytes);
        self.hand = (self.hand + 1) % self.slots.len();
    }

    /// Takes in all pages of a run that was just made, if they take at most half of the cache, and of what the volume
    /// may have of it: they are wanted next.
    pub fn warm(&mut self, volume: VolumeId, run: RunId, pages: Vec<Bytes>) {
        let limit = self.shares.get(&short(volume)).and_then(|share| share.pages_max);
        if pages.len() <= limit.map_or(self.pages_max, |limit| limit.min(self.pages_max)) / 2 {
            for (page, bytes) in pages.into_iter().enumerate() {
                self.insert(volume, run, page as u32, bytes);
            }
        }
    }

    /// Lets go of the pages of a run that is in no stack any more.
    pub fn forget(&mut self, volume: VolumeId, run: RunId, pages: u32) {
        for page in 0..pages {
            if let Some(&slot) = self.index.get(&Self::key(volume, run, page)) {
                self.take_out(slot as usize);
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

/// A volume in a key.
fn short(volume: VolumeId) -> u64 {
    u64::from_le_bytes(volume.0[..8].try_into().expect("8 bytes"))
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

    /// Lists and slots agree.
    fn check(cache: &PageCache) {
        let listed: usize = cache.shares.values().map(|share| share.slots.len()).sum();
        assert_eq!(listed, cache.index.len());
        for (volume, share) in &cache.shares {
            for (place, &slot) in share.slots.iter().enumerate() {
                let found = &cache.slots[slot as usize];
                assert_eq!((found.key.volume, found.place as usize), (*volume, place));
                assert_eq!(cache.index.get(&found.key), Some(&slot));
            }
        }
        assert_eq!(cache.slots.len(), cache.index.len() + cache.vacant.len());
    }

    #[test]
    fn a_volume_with_a_limit_takes_the_place_of_its_own_pages() {
        let (one, other) = (VolumeId([1; 16]), VolumeId([2; 16]));
        let page = |number: u32| Bytes::from(number.to_string());
        let mut cache = PageCache::new(64 * CLUSTER_SIZE);
        (0..30).for_each(|number| cache.insert(one, RunId(1), number, page(number)));
        (0..30).for_each(|number| cache.insert(other, RunId(1), number, page(number)));
        cache.set_limit(one, Some(20));
        assert_eq!(cache.pages_of(one), 30, "until others come, or it is trimmed");
        assert!(cache.trim(4));
        assert!(!cache.trim(6));
        assert_eq!((cache.pages_of(one), cache.pages_of(other)), (20, 30));
        check(&cache);
        for number in 100..400 {
            assert!(number == 100 || cache.get(one, RunId(1), 100).is_some(), "used all the time");
            cache.insert(one, RunId(1), number, page(number));
            assert_eq!(cache.get(one, RunId(1), number), Some(&page(number)));
            assert_eq!((cache.pages_of(one), cache.pages_of(other)), (20, 30), "others are not pushed out");
        }
        check(&cache);
        cache.warm(one, RunId(2), vec![page(0); 11]);
        assert_eq!(cache.get(one, RunId(2), 0), None, "more than half of what it may have");
        cache.set_limit(one, Some(1));
        cache.trim(64);
        assert_eq!(cache.pages_of(one), 16, "a look-up needs some");
        cache.set_limit(one, None);
        (500..600).for_each(|number| cache.insert(one, RunId(1), number, page(number)));
        assert_eq!(cache.bytes(), 64 * CLUSTER_SIZE);
        assert!(cache.pages_of(one) > 20, "there is no limit any more");
        check(&cache);
        cache.forget(one, RunId(1), 600);
        cache.forget(other, RunId(1), 30);
        cache.set_bytes_max(16 * CLUSTER_SIZE);
        cache.trim(64);
        check(&cache);
        assert_eq!((cache.bytes(), cache.shares.len()), (0, 0), "nothing is kept of volumes without pages");
    }

    #[test]
    fn any_order_of_changes_keeps_the_lists_right() {
        let mut state = 1_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        let mut cache = PageCache::new(40 * CLUSTER_SIZE);
        for step in 0..20_000 {
            let (volume, run) = (VolumeId([random(3) as u8; 16]), RunId(random(4)));
            match random(40) {
                0 => cache.set_limit(volume, (random(3) > 0).then_some(random(40) as u32)),
                1 => cache.set_bytes_max(random(60) as usize * CLUSTER_SIZE),
                2 => drop(cache.trim(random(20) as usize)),
                3 => cache.forget(volume, run, 50),
                4..20 => drop(cache.get(volume, run, random(50) as u32).cloned()),
                _ => cache.insert(volume, run, random(50) as u32, Bytes::new()),
            }
            if step % 16 == 0 {
                check(&cache);
            }
        }
    }
}
