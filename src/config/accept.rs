//! `ovs config accept-cluster`: lets a data directory follow a store that was restored.

use serde_json::json;

use crate::args::Global;
use crate::cluster_id::ClusterId;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::output;

/// Records that the directory follows the cluster `id` from now on. Nobody may use the directory meanwhile.
pub(super) fn run(global: &Global, id: ClusterId) -> Result<(), Failure> {
    let directory = DataDir::locate(global.data_dir.as_deref())?;
    let shown = directory.path().display();
    if !directory.identity().is_file() {
        return Err(Failure::not_found(format!(
            "{shown} is not the directory of a node: there is no identity.json; give its --data-dir"
        )));
    }
    let _lock = directory.lock()?;
    let Some(mut identity) = Identity::read(&directory.identity())? else {
        return Err(Failure::not_found(format!("{shown} is being removed: identity.json is gone")));
    };
    let before = identity.cluster(&directory);
    if identity.follow(id) {
        identity.write(&directory.identity())?;
    }
    if global.json {
        return output::json(&json!({"data_dir": shown.to_string(), "before": before, "after": id}));
    }
    output::line(&match before {
        Some(before) if before == id => {
            format!("{shown} followed the cluster {id} before; nothing is changed")
        }
        Some(before) => format!("{shown} follows the cluster {id} now, no longer {before}"),
        None => format!("{shown} follows the cluster {id} now; none was recorded before"),
    })
}
