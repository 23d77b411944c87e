//! The volume driver as a part that takes parameters while it runs.

use std::sync::Arc;

use cfg_engine::Broken;
use cfg_schema::{Category, Change, Problem};
use serde_json::Value as Json;
use volumedriver::driver::takeable;
use volumedriver::parameters::Parameters;

use super::node::Node;
use crate::agent::component::{Component, Prepared};

/// See the module.
pub(super) struct Volumes(pub(super) Arc<Node>);

/// A change that the driver is ready for.
struct Ready(volumedriver::driver::Prepared);

impl Component for Volumes {
    fn prepare(&self, values: &Parameters, changes: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        let prepared = self.0.wait_for(|driver| {
            // Ports that the system chose are not what is stored; they stay as they are.
            let (next, waiting) = takeable(&driver.parameters(), values)?;
            // The list of disks is dynamic in its sizes alone.
            let disks = waiting.iter().find(|waits| {
                waits.category == Category::Restart
                    && changes.iter().any(|change| (change.section, change.key) == (waits.section, waits.key))
            });
            if let Some(Change { section, key, new, .. }) = disks {
                let problem = "can change in its sizes while the process runs; put the disks back, apply, and store \
                               other disks before a restart";
                return Err(vec![Problem::new(section, key, Json::String(new.clone()), problem)]);
            }
            driver.prepare(&next)
        });
        let stopping = || Err(vec![Problem::new("", "", Json::Null, "the driver is shutting down")]);
        Ok(Box::new(Ready(prepared.unwrap_or_else(stopping)?)))
    }
}

impl Prepared for Ready {
    fn commit(self: Box<Self>) -> Vec<Broken> {
        for late in self.0.commit().late {
            tracing::warn!(late, "takes the new parameters later than it should");
        }
        Vec::new()
    }
}
