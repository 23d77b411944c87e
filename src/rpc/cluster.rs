//! The drivers of the vPool.

use std::collections::BTreeMap;
use std::sync::Arc;

use cfg_client::{Content, KeyPath};
use cfg_engine::Status;
use dxr::Value;

use super::Server;
use super::failed::Failed;
use super::redirect::Address;
use super::table::Feature::Moving;
use super::table::Routing::{Local, Redirected};
use super::table::{Method, here, later};
use super::values::{Arguments, nothing, number, record, text};

/// See the module.
pub(super) const METHODS: &[Method] = &[
    here("revision", Local, |s, a| Box::pin(revision(s, a)), "The program's version, in lines."),
    later("markNodeOffline", Local, Moving, "Lets others take the volumes of a driver over. `vrouter_id`."),
    later("markNodeOnline", Local, Moving, "Takes that back. `vrouter_id`."),
    here(
        "getNodesStatusMap",
        Local,
        |s, a| Box::pin(nodes(s, a)),
        "Each driver of the vPool: `config`, and `state`, \
        1 (online) while it renews its status, else 0.",
    ),
    here(
        "updateClusterNodeConfigs",
        Redirected,
        |s, a| Box::pin(refresh(s, a)),
        "Reads the list of drivers, which is \
        never kept: sees that the store answers. [`vrouter_id`].",
    ),
];

/// A driver as it described itself.
struct Driver {
    address: Option<Address>,
    lives: bool,
}

/// All drivers of the vPool that ever ran.
async fn drivers(server: &Server) -> Result<BTreeMap<String, Driver>, Failed> {
    let hosts = KeyPath::parse(&format!("/ovs/vpools/{}/hosts", server.vpool_guid))?;
    let keys = server.store.list(&hosts.below(), Content::Keys, None).await?;
    let (folder, mut drivers) = (hosts.folder(), BTreeMap::new());
    for pair in &keys.pairs {
        let name = str::from_utf8(&pair.key).ok().and_then(|key| key.strip_prefix(&folder)?.split_once('/'));
        let Some((id, which @ ("status" | "last_status"))) = name else { continue };
        let stored = match server.store.get(&hosts.join(id)?.join(which)?, Some(keys.revision)).await {
            Ok(pair) => Status::read(&pair.value).ok(),
            Err(cfg_client::Error::Absent { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let driver = drivers.entry(id.to_owned()).or_insert(Driver { address: None, lives: false });
        driver.lives |= which == "status";
        let address = stored.and_then(|status| status.xmlrpc).as_deref().and_then(Address::of_url);
        // Both say the same while the driver lives.
        driver.address = address.or(driver.address.take());
    }
    Ok(drivers)
}

async fn nodes(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let shown = |(id, driver): (String, Driver)| {
        let Address { host, port } = driver.address.unwrap_or(Address { host: String::new(), port: 0 });
        let config = record([
            ("vrouter_id", text(&id)),
            ("message_host", text(&host)),
            ("message_port", number(0)),
            ("xmlrpc_host", text(&host)),
            ("xmlrpc_port", number(u64::from(port))),
            ("failovercache_host", text(&host)),
            ("failovercache_port", number(0)),
        ]);
        (id, record([("config", config), ("state", number(u64::from(driver.lives)))]))
    };
    Ok(Value::Struct(drivers(&server).await?.into_iter().map(shown).collect()))
}

async fn refresh(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    drivers(&server).await?;
    Ok(nothing())
}

async fn revision(_: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let version = env!("CARGO_PKG_VERSION");
    let repository = env!("CARGO_PKG_REPOSITORY");
    Ok(text(&format!(
        "version: {version}\nversion revision: {version}\nrepository URL: {repository}\nbranch: \nmd5 support: no\n\
         revision: {version}\nbuild time: \n"
    )))
}
