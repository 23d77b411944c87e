//! How long the agent waits for what: the section `updates`, which it takes itself.

use std::time::Duration;

use cfg_engine::Broken;
use cfg_schema::{Change, Problem};
use tokio::sync::watch;
use volumedriver::parameters::Parameters;

use super::component::{Component, Nothing, Prepared};

/// See the parameters of the section `updates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Life of a status without a sign of life.
    pub(crate) status_ttl: Duration,
    /// Pause between tries to reach the store.
    pub(crate) retry: Duration,
    /// From a change of the documents until they are looked at. Often an update follows, which reads them itself.
    pub(crate) look_pause: Duration,
    /// From a change until the last good copy has it.
    pub(crate) keep_delay: Duration,
    /// Age of the last good copy at which it is written again while the store is heard of.
    pub(crate) refresh: Duration,
    /// For all components together to prepare.
    pub(crate) prepare: Duration,
    /// For the first status to be stored.
    pub(crate) announcement: Duration,
    /// For the last words to be stored.
    pub(crate) parting: Duration,
}

impl Timing {
    /// Of these parameters.
    pub(crate) fn new(parameters: &Parameters) -> Timing {
        let updates = &parameters.updates;
        Timing {
            status_ttl: updates.update_status_ttl_secs.duration(),
            retry: updates.update_store_retry_ms.duration(),
            look_pause: updates.update_look_pause_ms.duration(),
            keep_delay: updates.update_last_good_delay_ms.duration(),
            refresh: updates.update_last_good_refresh_ms.duration(),
            prepare: updates.update_prepare_timeout_ms.duration(),
            announcement: updates.update_status_wait_ms.duration(),
            parting: updates.update_answer_wait_ms.duration(),
        }
    }
}

/// Gives the agent what is new for it.
pub(super) struct Tempo(pub(super) watch::Sender<Timing>);

/// What the agent gets next.
struct Next(watch::Sender<Timing>, Timing);

impl Component for Tempo {
    fn prepare(&self, values: &Parameters, changes: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        match changes.iter().any(|change| change.section == "updates") {
            true => Ok(Box::new(Next(self.0.clone(), Timing::new(values)))),
            false => Ok(Box::new(Nothing)),
        }
    }
}

impl Prepared for Next {
    fn commit(self: Box<Self>) -> Vec<Broken> {
        let Next(sender, timing) = *self;
        sender.send_replace(timing);
        Vec::new()
    }
}
