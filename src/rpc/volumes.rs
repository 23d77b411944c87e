//! Volumes: made, listed, described, resized, deleted.
//!
//! The id of a volume is its name; its path is `/` and its name, and may end in `.raw`.

use std::sync::Arc;

use dxr::Value;

use super::Server;
use super::failed::{Code, Failed};
use super::table::Routing::{Local, Redirected};
use super::table::{Feature, Method, here, later, never};
use super::values::{Arguments, decimal, nothing, number, record, text, texts};
use crate::admin::api::ErrorKind;
use crate::driver::{Driver, VolumeError, VolumeInfo, VolumeName, VolumeState};

/// Bytes of a sector.
const LBA_SIZE: u64 = 512;
/// Sectors of a cluster.
const CLUSTER_MULTIPLIER: u64 = 8;
/// Bytes of a cluster.
pub(super) const CLUSTER_SIZE: u64 = LBA_SIZE * CLUSTER_MULTIPLIER;
/// The state of a volume without a DTL, in the original's word.
const STANDALONE: &str = "OK_STANDALONE";
/// A volume in the list of the types of objects.
const OBJECT_TYPE: u64 = 1;

/// See the module.
pub(super) const METHODS: &[Method] = &[
    here(
        "volumeCreate",
        Redirected,
        |s, a| Box::pin(create(s, a)),
        "Makes a volume. `target_path`, `volume_size`, \
        [`vrouter_id`]; gives `volume_id`. `metadata_backend_config` is refused until there are metadata servers.",
    ),
    later(
        "volumeClone",
        Redirected,
        Feature::Clones,
        "Makes a clone of a snapshot or template. `target_path`, \
        `parent_volume_id`, `parent_snapshot_id`, [`vrouter_id`].",
    ),
    here(
        "volumesList",
        Redirected,
        |s, a| Box::pin(list(s, a)),
        "Ids of all volumes of the vPool; with `vrouter_id`: \
        of those that this driver has.",
    ),
    here(
        "volumesListHalted",
        Redirected,
        |s, a| Box::pin(list_halted(s, a)),
        "Ids of the halted volumes of a driver. \
        [`vrouter_id`].",
    ),
    here(
        "volumesListByPath",
        Local,
        |s, a| Box::pin(list_by_path(s, a)),
        "Paths of all volumes of the vPool.",
    ),
    here(
        "volumeInfo",
        Redirected,
        |s, a| Box::pin(info(s, a)),
        "What a volume is, as a struct. `volume_id`, \
        [`redirect_fenced`].",
    ),
    here(
        "resizeObject",
        Redirected,
        |s, a| Box::pin(resize(s, a)),
        "Makes a volume larger. `volume_id`, \
        `volume_size`.",
    ),
    here("unlink", Redirected, |s, a| Box::pin(unlink(s, a)), "Deletes a volume. `target_path`."),
    here(
        "getVolumeId",
        Local,
        |s, a| Box::pin(volume_id(s, a)),
        "The id of the volume at a path, empty if there is \
        none. `target_path`; gives `volume_id`.",
    ),
    here(
        "getObjectId",
        Local,
        |s, a| Box::pin(object_id(s, a)),
        "The same, of any object. `target_path`; gives \
        `object_id`.",
    ),
    later("setVolumeAsTemplate", Redirected, Feature::Clones, "Makes a template of a volume. `volume_id`."),
    later(
        "migrateVolume",
        Redirected,
        Feature::Moving,
        "Moves a volume to the driver `vrouter_id`. `volume_id`, \
        `force`.",
    ),
    later("restartVolume", Redirected, Feature::Moving, "Starts a volume again. `volume_id`, `force`."),
    later(
        "stopVolume",
        Redirected,
        Feature::Moving,
        "Stops a volume. `volume_id`, `delete_local_data`, \
        [`vrouter_id`].",
    ),
    here(
        "volumePotential",
        Redirected,
        |s, a| Box::pin(potential(s, a)),
        "How many more volumes there is room for, by \
        the free segments. [`vrouter_id`], [`cluster_size`], [`sco_multiplier`], [`tlog_multiplier`]; gives \
        `volume_potential`.",
    ),
    never(
        "vaaiCopy",
        Redirected,
        "it serves VMware's storage API",
        "Copies a file or volume. `src_path`, \
        `target_path`, `timeout`, `flags`.",
    ),
    here(
        "volumeDestroy",
        Local,
        |s, a| Box::pin(destroy(s, a)),
        "Deletes a volume. `volume_id`, `delete_local_data`, \
        `force`, `delete_global_metadata`; the first and the last must be true.",
    ),
    here(
        "volumesOverview",
        Local,
        |s, a| Box::pin(overview(s, a)),
        "State (`Active`, `Halted`) and namespace of each \
        volume of this driver.",
    ),
    later(
        "checkVolumeConsistency",
        Local,
        Feature::Checking,
        "Compares a volume's map with its log. `volume_id`.",
    ),
];

impl Server {
    /// Asks the driver, which may take its time.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Driver) -> T + Send + 'static,
    ) -> Result<T, Failed> {
        self.node.operate(question).await.ok_or_else(stopping)
    }

    /// One volume, if it is here.
    pub(super) async fn volume(&self, volume: &str) -> Result<VolumeInfo, Failed> {
        let sought = volume.to_owned();
        self.ask(move |driver| driver.info(&sought)).await?.map_err(|error| Failed::of_volume(volume, error))
    }
}

fn stopping() -> Failed {
    Failed::Other("the driver is stopping".to_owned())
}

/// The name of the volume at a path.
fn named(path: &str) -> Result<VolumeName, Failed> {
    let name = path.strip_prefix('/').unwrap_or(path);
    let name = name.strip_suffix(".raw").unwrap_or(name);
    VolumeName::parse(name)
        .map_err(|error| Failed::Argument(format!("Argument target_path: {error}; a path is /NAME")))
}

async fn create(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let (path, size) = (arguments.text("target_path")?, arguments.size("volume_size")?);
    let name = named(path)?;
    if arguments.has("metadata_backend_config") {
        let message = format!("metadata_backend_config comes with {}; leave it out", Feature::Mds);
        return Err(Failed::Error(Code::InvalidOperation, message));
    }
    match server.node.claims()?.claim(name.as_str()).await {
        Err(error) if error.kind == ErrorKind::Exists => {
            return Err(Failed::Error(Code::FileExists, error.message));
        }
        claimed => claimed?,
    }
    let volume = name.to_string();
    let created = server.node.create(name, size).await.ok_or_else(stopping)?;
    let info = created.map_err(|error| Failed::of_volume(&volume, error))?;
    Ok(record([("volume_id", text(&info.name))]))
}

async fn list(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    match arguments.optional("vrouter_id")? {
        Some(id) if !id.is_empty() => {
            let here = server.ask(Driver::list).await?;
            let runs = |info: &&VolumeInfo| info.state == VolumeState::Running;
            Ok(texts(here.iter().filter(runs).map(|info| &info.name)))
        }
        _ => Ok(texts(server.node.claims()?.volumes().await?)),
    }
}

async fn list_halted(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let here = server.ask(Driver::list).await?;
    Ok(texts(here.iter().filter(|info| info.state != VolumeState::Running).map(|info| &info.name)))
}

async fn list_by_path(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let volumes = server.node.claims()?.volumes().await?;
    Ok(texts(volumes.iter().map(|volume| format!("/{volume}"))))
}

async fn info(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let volume = arguments.text("volume_id")?;
    let redirect_fenced = arguments.lenient_flag("redirect_fenced", true)?;
    let info = server.volume(volume).await?;
    let halted = info.state != VolumeState::Running;
    if halted
        && redirect_fenced
        && let Some(address) = server.taken_over(volume).await
    {
        return Err(Failed::Redirect(address));
    }
    let segment_size = server.ask(Driver::space).await?.segment_size;
    Ok(record([
        ("volume_id", text(&info.name)),
        ("_namespace_", text(&info.uuid)),
        ("parent_namespace", nothing()),
        ("parent_snapshot_id", nothing()),
        ("volume_size", number(info.size)),
        ("lba_size", number(LBA_SIZE)),
        ("lba_count", number(info.size / LBA_SIZE)),
        ("cluster_multiplier", number(CLUSTER_MULTIPLIER)),
        ("sco_multiplier", number(segment_size / CLUSTER_SIZE)),
        ("failover_mode", text(STANDALONE)),
        ("failover_ip", nothing()),
        ("failover_port", number(0)),
        ("halted", Value::Boolean(halted)),
        ("footprint", number(0)),
        ("stored", number(info.stored_bytes)),
        ("object_type", number(OBJECT_TYPE)),
        ("parent_volume_id", nothing()),
        ("vrouter_id", text(&server.vrouter_id)),
        ("metadata_backend_config", record([])),
        ("owner_tag", number(0)),
        ("cluster_cache_handle", number(0)),
    ]))
}

async fn resize(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let (volume, size) = (arguments.text("volume_id")?, arguments.size("volume_size")?);
    let sought = volume.to_owned();
    let resized = server.ask(move |driver| driver.resize(&sought, size)).await?;
    resized.map_err(|error| Failed::of_volume(volume, error))?;
    tracing::info!(volume, size, "volume resized");
    Ok(nothing())
}

async fn unlink(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let path = arguments.text("target_path")?;
    let name = named(path)?;
    match server.node.delete(name.as_str()).await.ok_or_else(stopping)? {
        Ok(()) => Ok(nothing()),
        Err(VolumeError::NotFound) => Err(match server.elsewhere(name.as_str()).await {
            // A path without anything is no error that the original counts among its own.
            Failed::Error(Code::ObjectNotFound, _) => Failed::Other(format!("there is nothing at {path}")),
            failed => failed,
        }),
        Err(error) => Err(Failed::of_volume(name.as_str(), error)),
    }
}

/// The id of the volume at `target_path`; empty: there is none.
async fn found(server: &Server, arguments: &Arguments) -> Result<Value, Failed> {
    let path = arguments.text("target_path")?;
    let Ok(name) = named(path) else { return Ok(nothing()) };
    let sought = name.clone();
    let is_here = server.ask(move |driver| driver.info(sought.as_str()).is_ok()).await?;
    let exists = is_here || server.owner(name.as_str()).await?.is_some();
    Ok(if exists { text(name.as_str()) } else { nothing() })
}

async fn volume_id(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    Ok(record([("volume_id", found(&server, &arguments).await?)]))
}

async fn object_id(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    Ok(record([("object_id", found(&server, &arguments).await?)]))
}

async fn potential(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    for key in ["cluster_size", "sco_multiplier", "tlog_multiplier"] {
        arguments.optional_number(key)?;
    }
    let space = server.ask(Driver::space).await?;
    // A volume needs a segment to be written to.
    let potential = space.free.checked_div(space.segment_size).unwrap_or(0);
    Ok(record([("volume_potential", decimal(potential))]))
}

async fn destroy(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let volume = arguments.text("volume_id")?;
    let (local, global) = (arguments.flag("delete_local_data")?, arguments.flag("delete_global_metadata")?);
    arguments.flag("force")?;
    if !local || !global {
        let message = "a volume is deleted with its local data and its place in the vPool, or not at all; \
                       delete_local_data and delete_global_metadata must be true";
        return Err(Failed::Error(Code::InvalidOperation, message.to_owned()));
    }
    let deleted = server.node.delete(volume).await.ok_or_else(stopping)?;
    deleted.map_err(|error| Failed::of_volume(volume, error))?;
    Ok(nothing())
}

async fn overview(server: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let here = server.ask(Driver::list).await?;
    let state = |info: &VolumeInfo| if info.state == VolumeState::Running { "Active" } else { "Halted" };
    let shown = |info: VolumeInfo| {
        let state = text(state(&info));
        (info.name, record([("state", state), ("nspace", text(&info.uuid))]))
    };
    Ok(Value::Struct(here.into_iter().map(shown).collect()))
}

/// `failover_mode` of a volume: there is no DTL.
pub(super) async fn failover_mode(server: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    server.volume(arguments.text("volume_id")?).await?;
    Ok(text(STANDALONE))
}
