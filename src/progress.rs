//! Progress of long steps: bars on a terminal, log lines elsewhere.

use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::driver::Progress;

/// Shows one step after the other.
pub(crate) struct Bars {
    bars: MultiProgress,
    current: Mutex<Option<(String, ProgressBar)>>,
}

impl Bars {
    /// Draws among `bars`, which are hidden where standard error is no terminal.
    pub(crate) fn new(bars: &MultiProgress) -> Bars {
        Bars { bars: bars.clone(), current: Mutex::new(None) }
    }

    /// Ends the last step.
    pub(crate) fn finish(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bar)) = current.take() {
            bar.finish_and_clear();
        }
    }

    fn begin(&self, what: &str, total: u64) -> ProgressBar {
        tracing::debug!(total, "{what}");
        let bar = self.bars.add(ProgressBar::new(total));
        // The template is a constant, and the style without one says the same less nicely.
        if let Ok(style) = ProgressStyle::with_template("{msg:30} [{bar:30}] {pos}/{len} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar
    }
}

impl Progress for Bars {
    fn step(&self, what: &str, done: u64, total: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(step, _)| step != what) {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            *current = Some((what.to_owned(), self.begin(what, total)));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}
