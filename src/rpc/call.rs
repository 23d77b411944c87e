//! One call: from a method's name and its parameters to a result or a fault.

use std::sync::Arc;

use dxr::{Fault, Value};

use super::Server;
use super::failed::{Code, Failed, NO_METHOD};
use super::system;
use super::table::{self, Method, Routing, Standing};
use super::values::Arguments;

impl Server {
    /// Does a call to its end.
    pub(super) async fn call(self: Arc<Server>, name: &str, parameters: Vec<Value>) -> Result<Value, Fault> {
        match name {
            system::MULTICALL => self.many(parameters).await,
            name => self.single(name, parameters).await,
        }
    }

    /// The calls of a `system.multicall`, one after the other.
    async fn many(self: &Arc<Server>, parameters: Vec<Value>) -> Result<Value, Fault> {
        let mut results = Vec::new();
        for call in system::calls(parameters)? {
            results.push(match call {
                Ok((name, parameters)) => self.single(&name, parameters).await,
                Err(fault) => Err(fault),
            });
        }
        Ok(dxr::multicall::into_multicall_response(results))
    }

    async fn single(self: &Arc<Server>, name: &str, parameters: Vec<Value>) -> Result<Value, Fault> {
        if let Some(result) = system::answer(name, &parameters) {
            return result;
        }
        let unknown = || Fault::new(NO_METHOD, format!("{name}: unknown method name"));
        let method = table::find(name).ok_or_else(unknown)?;
        match self.handle(method, parameters).await {
            Ok(value) => Ok(value),
            Err(failed) => self.settle(failed).await.answer(name),
        }
    }

    async fn handle(self: &Arc<Server>, method: &Method, parameters: Vec<Value>) -> Result<Value, Failed> {
        let arguments = Arguments::of(parameters)?;
        let cluster = arguments.text("vrouter_cluster_id")?;
        if cluster != self.cluster_id {
            return Err(Failed::Argument(format!("cluster id mismatch: {cluster}")));
        }
        if method.routing == Routing::Redirected
            && let Some(vrouter_id) = arguments.optional("vrouter_id")?
            && let Some(address) = self.route(vrouter_id).await?
        {
            return Err(Failed::Redirect(address));
        }
        let invalid = |why: String| Err(Failed::Error(Code::InvalidOperation, why));
        let name = method.name;
        match method.standing {
            Standing::Here(handler) => handler(Arc::clone(self), arguments).await,
            Standing::Later(feature) => {
                if method.routing == Routing::Redirected && arguments.has("volume_id") {
                    // Where there is no such volume, or where it belongs to another driver, that is the answer.
                    self.volume(arguments.text("volume_id")?).await?;
                }
                invalid(format!("invalid operation: {name} comes with {feature}"))
            }
            Standing::Never(reason) => {
                invalid(format!("invalid operation: {name} is not part of ovs: {reason}"))
            }
        }
    }

    /// Looks up whose the volume is, where that decides what is said.
    async fn settle(&self, failed: Failed) -> Failed {
        match failed {
            Failed::Elsewhere(volume) => self.elsewhere(&volume).await,
            Failed::Halted { volume, reason } => match self.taken_over(&volume).await {
                Some(address) => Failed::Redirect(address),
                None => Failed::Halted { volume, reason },
            },
            failed => failed,
        }
    }
}
