//! Every bound of the client.

use std::time::Duration;

/// Bounds of a [`crate::Store`]; each has a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// For one connection to one endpoint, TLS included. Default: 2 s.
    pub connect_timeout: Duration,
    /// For one attempt of a request at one endpoint. Default: 5 s.
    pub request_timeout: Duration,
    /// For a call with all its attempts; then it ends with an error. Default: 20 s.
    pub call_timeout: Duration,
    /// How often all endpoints are tried in turn, within `call_timeout`. Default: 8, which is some
    /// seconds when connections are refused at once.
    pub rounds: usize,
    /// Wait between the first two rounds; it doubles with each. Default: 100 ms.
    pub backoff: Duration,
    /// The longest such wait. Default: 2 s.
    pub backoff_limit: Duration,
    /// How long a connection may be silent before it is asked for a sign of life. Default: 5 s.
    pub keep_alive_interval: Duration,
    /// How long that sign may take. Default: 5 s.
    pub keep_alive_timeout: Duration,
    /// Keys of one page of a listing; fewer are asked for when they do not fit `answer_limit`. Default: 128.
    pub page_keys: usize,
    /// Largest answer, in bytes. Default: 4 MiB, in which two of etcd's largest values fit.
    pub answer_limit: usize,
    /// Largest listing, in bytes of keys and values. Default: 256 MiB.
    pub listing_limit: usize,
    /// How long a watch may be silent before the store is asked for its progress. Default: 5 s.
    pub progress_interval: Duration,
    /// How long that answer may take before the stream counts as dead. Default: 5 s.
    pub progress_timeout: Duration,
    /// Time to live of the marker by which a change is found again after its answer was lost. It must be longer than
    /// `call_timeout`. Default: 300 s.
    pub marker_ttl: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(20),
            rounds: 8,
            backoff: Duration::from_millis(100),
            backoff_limit: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(5),
            page_keys: 128,
            answer_limit: 4 << 20,
            listing_limit: 256 << 20,
            progress_interval: Duration::from_secs(5),
            progress_timeout: Duration::from_secs(5),
            marker_ttl: Duration::from_secs(300),
        }
    }
}

impl Options {
    /// The wait before round `round`, counted from 0; none before the first.
    pub(crate) fn backoff_before(&self, round: usize) -> Duration {
        match u32::try_from(round) {
            Ok(0) => Duration::ZERO,
            Ok(round) => {
                let factor = 2_u32.checked_pow(round - 1).unwrap_or(u32::MAX);
                self.backoff.saturating_mul(factor).min(self.backoff_limit)
            }
            Err(_) => self.backoff_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit() {
        let options = Options::default();
        let waits: Vec<u128> = (0..8).map(|round| options.backoff_before(round).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(options.backoff_before(usize::MAX), options.backoff_limit);
    }
}
