//! The volume driver as a part that takes parameters while it runs.

use std::sync::Arc;

use cfg_engine::Broken;
use cfg_schema::{Change, Problem};
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
    fn prepare(&self, values: &Parameters, _: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        let prepared = self.0.wait_for(|driver| {
            // Ports that the system chose are not what is stored; they stay as they are.
            let (next, _) = takeable(&driver.parameters(), values)?;
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
