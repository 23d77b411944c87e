//! Caches, queues and what else is asked when something is looked for.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dxr::Value;

use super::Server;
use super::failed::Failed;
use super::table::Feature::{Backend, ReadCache};
use super::table::Routing::{Local, Redirected};
use super::table::{Method, here, later, never};
use super::values::{Arguments, decimal, number, record, text};
use super::volumes;
use crate::driver::{Client, Driver};

/// See the module.
pub(super) const METHODS: &[Method] = &[
    here(
        "ListClientConnections",
        Redirected,
        |s, a| Box::pin(clients(s, a)),
        "NBD clients of a driver: `object_id`, \
        `ip`, `port`. One on its unix socket has the port 0. [`vrouter_id`].",
    ),
    here(
        "scoCacheInfo",
        Redirected,
        |s, a| Box::pin(space(s, a)),
        "The local disks of the log: `path`, `max_size`, \
        `free`, `used`, `choking`, `offlined`. [`vrouter_id`].",
    ),
    later("volumeScoCacheInfo", Local, Backend, "What a volume has in the SCO cache. `volume_id`."),
    later("removeNamespaceFromSCOCache", Local, Backend, "Takes a namespace out of the SCO cache. `nspace`."),
    later("listClusterCacheHandles", Local, ReadCache, "Handles of the read cache."),
    later("getClusterCacheHandleInfo", Local, ReadCache, "What a handle has. `cluster_cache_handle`."),
    later("removeClusterCacheHandle", Local, ReadCache, "Takes a handle out of it. `cluster_cache_handle`."),
    here(
        "dataStoreWriteUsed",
        Local,
        |s, a| Box::pin(written(s, a)),
        "Bytes of a volume on the local disk that are \
        not on a backend: all. `volume_id`; gives `data_store_write_used`.",
    ),
    here(
        "dataStoreReadUsed",
        Local,
        |s, a| Box::pin(read(s, a)),
        "Bytes on the local disk that are on a backend, too: \
        none. `volume_id`; gives `data_store_read_used`.",
    ),
    later("queueCount", Local, Backend, "SCOs that wait for the backend. `volume_id`."),
    later("queueSize", Local, Backend, "Bytes that wait for the backend. `volume_id`."),
    later("tlogUsed", Local, Backend, "Bytes of TLogs that wait for the backend. `volume_id`."),
    here(
        "getFailoverMode",
        Local,
        |s, a| Box::pin(volumes::failover_mode(s, a)),
        "The state of a volume's DTL: there \
        is none. `volume_id`.",
    ),
    never(
        "dumpSCOInfo",
        Local,
        "a request from the network does not name a file that the driver writes",
        "Writes a list of SCOs to a file. `file_name`.",
    ),
    later("startPrefetching", Local, Backend, "Fetches what a volume needs from the backend. `volume_id`."),
    here("getVolumeDriverState", Redirected, |s, a| Box::pin(state(s, a)), "`volumedriver_readonly`: false."),
    here("mallocInfo", Local, |s, a| Box::pin(memory(s, a)), "The memory of the process, as XML."),
];

async fn clients(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let shown = |client: Client| {
        // Who is on the unix socket is on this machine.
        let peer = client.peer.parse().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        record([
            ("object_id", text(&client.volume)),
            ("ip", text(&peer.ip().to_string())),
            ("port", number(u64::from(peer.port()))),
        ])
    };
    Ok(Value::Array(server.ask(Driver::clients).await?.into_iter().map(shown).collect()))
}

async fn space(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let space = server.ask(Driver::space).await?;
    Ok(Value::Array(vec![record([
        ("path", text(&space.directory.display().to_string())),
        ("max_size", text(&format!("{}B", space.size))),
        ("free", decimal(space.free)),
        ("used", decimal(space.used)),
        ("choking", Value::Boolean(space.tight)),
        ("offlined", Value::Boolean(false)),
    ])]))
}

async fn written(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let info = server.volume(arguments.text("volume_id")?).await?;
    Ok(record([("data_store_write_used", decimal(info.stored_bytes))]))
}

async fn read(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    server.volume(arguments.text("volume_id")?).await?;
    Ok(record([("data_store_read_used", decimal(0))]))
}

async fn state(_: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    Ok(record([("volumedriver_readonly", Value::Boolean(false))]))
}

/// Lines of `/proc/self/status` about memory.
const LINES: [(&str, &str); 4] =
    [("VmSize", "virtual"), ("VmRSS", "resident"), ("VmHWM", "resident_peak"), ("VmData", "data")];

async fn memory(_: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| Failed::Other(format!("/proc/self/status: {error}")))?;
    let mut xml = "<malloc version=\"ovs-1\">\n".to_owned();
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let Some((_, shown)) = LINES.iter().find(|(known, _)| *known == name) else { continue };
        let Some(kib) = value.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok()) else {
            continue;
        };
        // Writing to a string does not fail.
        let _ = writeln!(xml, "<system type=\"{shown}\" size=\"{}\"/>", kib << 10);
    }
    xml.push_str("</malloc>\n");
    Ok(text(&xml))
}
