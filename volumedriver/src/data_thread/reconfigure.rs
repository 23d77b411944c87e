//! Other bounds, taken over between two turns.
//!
//! Nothing is dropped: what is in flight beyond a lower bound drains, and nothing new joins it meanwhile. What a higher
//! bound allows goes on in the same turn: each volume looks at its waiting writes, and the end of the turn looks at the
//! connections that are held up.

use super::{DataThread, ThreadOptions};
use crate::volume::Context;

/// Pages of the cache that are let go of at a time: a few milliseconds.
const TRIM_STEP: usize = 8192;

impl DataThread {
    /// Works within `options` from now on.
    pub(super) fn reconfigure(&mut self, options: ThreadOptions) {
        self.options = options;
        self.pages.set_bytes_max(self.options.page_cache_bytes);
        if self.trim_pages() {
            self.next_tick.get_or_insert(self.now + self.options.tick);
        }
        if self.sends > 0 {
            // It was set by the old time limit.
            self.next_send_check = Some(self.now + self.options.send_timeout / 4);
        }
        for volume in 0..self.volumes.len() as u32 {
            self.hand_settings(volume);
        }
    }

    /// Hands the thread's settings to a volume.
    pub(super) fn hand_settings(&mut self, volume: u32) {
        let Some(hosted) = self.volumes.get_mut(volume as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        let mut context = Context { pages: &mut self.pages, now: self.moment, out: &mut hosted.outputs };
        hosted.volume.set_settings(self.options.settings.clone(), &mut context);
        self.touch(volume);
    }

    /// Lets go of some pages beyond the cache's bound; `true` if there are more.
    pub(super) fn trim_pages(&mut self) -> bool {
        self.pages.trim(TRIM_STEP)
    }
}
