//! A line for each step, with an estimate of the time left.

use std::time::{Duration, Instant};

use crate::units::rough_duration;

/// Progress through work whose parts have planned durations.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    steps: usize,
    step: usize,
    planned: f64,
    done: f64,
}

impl Progress {
    /// Work of `steps` steps that should take `planned` in all.
    pub(crate) fn new(steps: usize, planned: Duration) -> Progress {
        Progress { began: Instant::now(), steps, step: 0, planned: planned.as_secs_f64(), done: 0.0 }
    }

    /// A step is done that was planned with `planned`; says so.
    pub(crate) fn finish(&mut self, planned: Duration, what: &str) {
        self.step += 1;
        self.done += planned.as_secs_f64();
        let left = rough_duration(self.left());
        eprintln!("[{}/{}] {what}; about {left} left", self.step, self.steps);
    }

    /// A step that was planned with `planned` will not be done; says nothing.
    pub(crate) fn skip(&mut self, planned: Duration) {
        self.steps -= 1;
        self.planned -= planned.as_secs_f64();
    }

    /// The time left: the plan, stretched by how far it was off until now.
    fn left(&self) -> Duration {
        let stretch = if self.done > 0.0 { self.began.elapsed().as_secs_f64() / self.done } else { 1.0 };
        Duration::from_secs_f64(((self.planned - self.done) * stretch.clamp(0.2, 10.0)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_plan() {
        let mut progress = Progress::new(2, Duration::from_secs(100));
        assert_eq!(progress.left(), Duration::from_secs(100));
        progress.finish(Duration::from_secs(60), "a step of this test");
        // Next to nothing has really passed: the plan is shortened to its lower bound.
        assert!(progress.left() < Duration::from_secs(9));
        progress.skip(Duration::from_secs(40));
        assert_eq!((progress.left(), progress.step, progress.steps), (Duration::ZERO, 1, 1));
    }
}
