//! What volumes report, in the log. What a client or a broken disk can repeat as fast as it likes is told once in a
//! while, with how often it was not.

use std::time::{Duration, Instant};

use super::DataThread;
use crate::volume::event::Report;

/// Time between two messages of one kind about one volume.
const PAUSE: Duration = Duration::from_secs(1);

/// When one kind of message was told last.
#[derive(Debug, Default)]
struct Throttle {
    told: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Whether to tell one more now; how many were kept back before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            self.suppressed += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Of one volume.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    cut: Throttle,
    no_space: Throttle,
    job_failed: Throttle,
    damaged_cluster: Throttle,
}

impl DataThread {
    /// Logs what a volume reports.
    pub(super) fn report(&mut self, volume: u32, report: Report) {
        let now = self.now;
        let Some(hosted) = self.hosted(volume) else { return };
        let (name, throttles) = (hosted.volume.name(), &mut hosted.throttles);
        match report {
            Report::Halted { reason } => {
                tracing::error!(volume = name, reason, "volume halted");
                // Only the first reason is kept.
                let _ = hosted.halted.set(reason);
            }
            Report::Cut { kept, reason } => {
                if let Some(suppressed) = throttles.cut.admit(now) {
                    tracing::warn!(volume = name, %kept, reason, suppressed, "log cut after a failed write; what was \
                        not acknowledged is written again");
                }
            }
            Report::DamagedCluster { location, offset } => {
                if let Some(suppressed) = throttles.damaged_cluster.admit(now) {
                    tracing::error!(volume = name, ?location, offset, suppressed, "stored data is damaged");
                }
            }
            // Each SCO is reported once.
            Report::DamagedSco { sco, reason } => {
                tracing::error!(volume = name, %sco, reason, "compaction cannot read an SCO; it is kept");
            }
            Report::JobFailed { what, reason } => {
                if let Some(suppressed) = throttles.job_failed.admit(now) {
                    tracing::warn!(
                        volume = name,
                        what,
                        reason,
                        suppressed,
                        "background job failed; it is tried again"
                    );
                }
            }
            Report::NoSpace => {
                if let Some(suppressed) = throttles.no_space.admit(now) {
                    tracing::error!(volume = name, suppressed, "no space left for the log");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_in_a_while_tells_of_those_between() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start + PAUSE / 2), None);
        assert_eq!(throttle.admit(start + PAUSE / 2), None);
        assert_eq!(throttle.admit(start + PAUSE), Some(2));
        assert_eq!(throttle.admit(start + PAUSE * 3), Some(0));
    }
}
