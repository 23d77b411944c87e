//! What clients asked of one volume, and how long it took: counts, sums, sums of squares, extremes and buckets.
//!
//! Counted when a request is answered without an error. Times are those of turns of the data thread, from the turn in
//! which the volume got the request to the one that answered it: what was answered in the same turn took no time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of buckets of sizes, bytes.
pub const SIZE_BOUNDS: [u64; 8] =
    [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10];
/// Bounds of buckets of times, microseconds.
pub const TIME_BOUNDS: [u64; 10] = [100, 250, 500, 750, 1000, 2000, 5000, 10_000, 100_000, 1_000_000];

/// Samples of one kind; sums stop at their largest value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many there were.
    pub events: u64,
    /// All together.
    pub sum: u64,
    /// Their squares together.
    pub sum_of_squares: u64,
    /// The smallest; the largest number there is if there was none.
    pub min: u64,
    /// The largest; 0 if there was none.
    pub max: u64,
    /// Samples by the first bound that is greater. Those that reach the last bound are in none.
    pub buckets: Vec<u64>,
}

impl Distribution {
    fn new(bounds: &[u64]) -> Self {
        Self { events: 0, sum: 0, sum_of_squares: 0, min: u64::MAX, max: 0, buckets: vec![0; bounds.len()] }
    }

    #[inline]
    fn count(&mut self, sample: u64, bounds: &[u64]) {
        self.events += 1;
        self.sum = self.sum.saturating_add(sample);
        self.sum_of_squares = self.sum_of_squares.saturating_add(sample.saturating_mul(sample));
        self.min = self.min.min(sample);
        self.max = self.max.max(sample);
        let fits = bounds.iter().position(|&bound| sample < bound);
        if let Some(bucket) = fits.and_then(|index| self.buckets.get_mut(index)) {
            *bucket += 1;
        }
    }

    /// Adds the samples of another one.
    pub fn add(&mut self, other: &Distribution) {
        self.events = self.events.saturating_add(other.events);
        self.sum = self.sum.saturating_add(other.sum);
        self.sum_of_squares = self.sum_of_squares.saturating_add(other.sum_of_squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
    }
}

/// Requests of one kind that have a size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Bytes of each.
    pub size: Distribution,
    /// Bytes of those that do not begin and end with a cluster.
    pub unaligned_size: Distribution,
    /// Microseconds until each was answered.
    pub usecs: Distribution,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            size: Distribution::new(&SIZE_BOUNDS),
            unaligned_size: Distribution::new(&SIZE_BOUNDS),
            usecs: Distribution::new(&TIME_BOUNDS),
        }
    }
}

impl Requests {
    /// One was answered.
    #[inline]
    pub(crate) fn count(&mut self, offset: u64, bytes: u64, took: Duration) {
        const CLUSTER: u64 = crate::volume::address::CLUSTER_SIZE as u64;
        self.size.count(bytes, &SIZE_BOUNDS);
        if !offset.is_multiple_of(CLUSTER) || !bytes.is_multiple_of(CLUSTER) {
            self.unaligned_size.count(bytes, &SIZE_BOUNDS);
        }
        self.usecs.count(took.as_micros() as u64, &TIME_BOUNDS);
    }

    fn add(&mut self, other: &Requests) {
        self.size.add(&other.size);
        self.unaligned_size.add(&other.unaligned_size);
        self.usecs.add(&other.usecs);
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Performance {
    /// Reads.
    pub read: Requests,
    /// Writes, without trims and write-zeroes.
    pub write: Requests,
    /// Microseconds until each flush was answered, those included that were answered without a sync.
    pub flush_usecs: Distribution,
}

impl Default for Performance {
    fn default() -> Self {
        let flush_usecs = Distribution::new(&TIME_BOUNDS);
        Self { read: Requests::default(), write: Requests::default(), flush_usecs }
    }
}

impl Performance {
    /// Adds what another one counted.
    pub fn add(&mut self, other: &Performance) {
        self.read.add(&other.read);
        self.write.add(&other.write);
        self.flush_usecs.add(&other.flush_usecs);
    }

    /// A flush was answered.
    #[inline]
    pub(crate) fn count_flush(&mut self, took: Duration) {
        self.flush_usecs.count(took.as_micros() as u64, &TIME_BOUNDS);
    }

    fn totals(&self) -> Totals {
        let total = |usecs: &Distribution| Total { events: usecs.events, usecs: usecs.sum };
        Totals {
            read: total(&self.read.usecs),
            write: total(&self.write.usecs),
            flush: total(&self.flush_usecs),
        }
    }
}

/// How many requests were answered, and in how many microseconds altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) events: u64,
    pub(crate) usecs: u64,
}

/// What metrics show; only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) read: Total,
    pub(crate) write: Total,
    pub(crate) flush: Total,
}

impl Totals {
    fn plus(self, other: Totals) -> Totals {
        let plus = |a: Total, b: Total| Total {
            events: a.events + b.events,
            usecs: a.usecs.saturating_add(b.usecs),
        };
        Totals {
            read: plus(self.read, other.read),
            write: plus(self.write, other.write),
            flush: plus(self.flush, other.flush),
        }
    }
}

/// Of one volume on its data thread: what was counted since somebody began anew, and totals.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    recent: Performance,
    before: Totals,
}

impl Counting {
    /// Where to count.
    pub(crate) fn recent(&mut self) -> &mut Performance {
        &mut self.recent
    }

    /// Since the last [`Counting::begin_anew`].
    pub(crate) fn since(&self) -> Performance {
        self.recent.clone()
    }

    /// Since the volume was opened.
    pub(crate) fn totals(&self) -> Totals {
        self.before.plus(self.recent.totals())
    }

    /// Counts from nothing.
    pub(crate) fn begin_anew(&mut self) {
        self.before = self.totals();
        self.recent = Performance::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_in_the_first_bucket_whose_bound_is_greater() {
        let mut requests = Requests::default();
        for (offset, bytes, usecs) in
            [(0, 4095, 99), (0, 4096, 100), (512, 8192, 999_999), (0, 524_288, 1_000_000)]
        {
            requests.count(offset, bytes, Duration::from_micros(usecs));
        }
        assert_eq!(requests.size.buckets, [1, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(requests.usecs.buckets, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        let squares = 99 * 99 + 100 * 100 + 999_999_u64.pow(2) + 1_000_000_u64.pow(2);
        let Distribution { events, sum, sum_of_squares, min, max, .. } = requests.usecs;
        assert_eq!((events, sum, sum_of_squares, min, max), (4, 2_000_198, squares, 99, 1_000_000));
        assert_eq!((requests.unaligned_size.events, requests.unaligned_size.sum), (2, 4095 + 8192));
    }

    #[test]
    fn nothing_was_counted_at_first_and_sums_stop_at_the_end() {
        let mut counter = Distribution::new(&SIZE_BOUNDS);
        assert_eq!((counter.min, counter.max), (u64::MAX, 0));
        counter.count(1 << 40, &SIZE_BOUNDS);
        assert_eq!(counter.sum_of_squares, u64::MAX);
        counter.add(&counter.clone());
        assert_eq!((counter.events, counter.sum, counter.sum_of_squares), (2, 1 << 41, u64::MAX));
    }

    #[test]
    fn to_begin_anew_does_not_take_from_the_total() {
        let mut counting = Counting::default();
        let count = |counting: &mut Counting, bytes| {
            counting.recent().write.count(0, bytes, Duration::from_micros(7));
        };
        count(&mut counting, 4096);
        counting.begin_anew();
        assert_eq!(counting.since(), Performance::default());
        count(&mut counting, 8192);
        assert_eq!((counting.since().write.size.min, counting.since().write.size.events), (8192, 1));
        counting.recent().count_flush(Duration::from_micros(3));
        let Totals { read, write, flush } = counting.totals();
        let total = |events, usecs| Total { events, usecs };
        assert_eq!((read, write, flush), (total(0, 0), total(2, 14), total(1, 3)));
    }
}
