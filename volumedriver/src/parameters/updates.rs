//! How a process takes updates of its configuration.

use cfg_schema::{Milliseconds, Seconds, sections};

sections! {
    /// Updates of the configuration: how long the process waits for its parts and for the store.
    section updates: Updates {
        /// How long the status of a process stays that says nothing more. A sign of life follows in a third of it.
        update_status_ttl_secs: Seconds = Seconds(10), Dynamic, range 3..=600;
        /// Pause between tries to reach a store that is away.
        update_store_retry_ms: Milliseconds = Milliseconds(1_000), Dynamic, range 10..=60_000;
        /// From a change of the documents until the process looks at them, to say in its status that they differ. Often
        /// an update follows, which reads them itself.
        update_look_pause_ms: Milliseconds = Milliseconds(100), Dynamic, range 0..=60_000;
        /// From a change of what runs until the last good copy has it. Changes that follow each other are one copy, and
        /// no answer waits for its disk; a process that is killed meanwhile has the copy of before.
        update_last_good_delay_ms: Milliseconds = Milliseconds(1_000), Dynamic, range 0..=60_000;
        /// Age of the last good copy at which it is written again while the store answers: what counts at a start is
        /// the time without a store.
        update_last_good_refresh_ms: Milliseconds = Milliseconds(3_600_000), Dynamic, range 100..=86_400_000;
        /// How long the parts of the process may take to prepare; then the update is refused.
        update_prepare_timeout_ms: Milliseconds = Milliseconds(30_000), Dynamic, range 100..=600_000;
        /// How long a start waits until the status is stored, before it says that it is ready.
        update_status_wait_ms: Milliseconds = Milliseconds(5_000), Restart, range 0..=60_000;
        /// How long the end waits for answers that are on their way to the store.
        update_answer_wait_ms: Milliseconds = Milliseconds(5_000), Dynamic, range 0..=60_000;
    }
}
