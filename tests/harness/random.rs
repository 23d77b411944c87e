//! A small seeded generator (SplitMix64): the same seed makes the same run.

/// Pseudo-random numbers.
pub struct Random(u64);

impl Random {
    /// From `OVS_TEST_SEED` if it is set, else from the clock; printed, so that a failing run can be repeated.
    pub fn announced(what: &str) -> (Self, u64) {
        let seed = match std::env::var("OVS_TEST_SEED") {
            Ok(text) => text.parse().expect("OVS_TEST_SEED is a number"),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.expect("the clock is past 1970").subsec_nanos())
            }
        };
        eprintln!("{what}: OVS_TEST_SEED={seed}");
        (Self::new(seed), seed)
    }

    /// From a fixed seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform enough below `limit` (greater than 0).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Within `range`, both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Fills `buf`.
    pub fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
