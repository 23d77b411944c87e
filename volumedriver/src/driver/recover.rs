//! What is on the disk when a driver starts: whose volumes, in which state, with which segments. A volume that cannot
//! be opened stops no other one.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uring::{Disk, File};

use super::start::refused;
use super::{Progress, StartError, VolumeError, parallel};
use crate::data_thread::background::open_runs;
use crate::job::{self, Paths};
use crate::parameters::Parameters;
use crate::pool::open::{OpenPool, SegmentFiles};
use crate::recovery::{self, RecoveryReport};
use crate::volume::address::{BootId, RunId, SegmentId, VolumeId};
use crate::volume::event::Failure;
use crate::volume::manifest::Manifest;
use crate::volume::{Settings, Volume};

/// Threads that open volumes.
const OPENERS: usize = 4;
/// Prefix of the directory of a volume whose deletion is not complete.
const DELETED: &str = "deleted-";

/// Where things are in the data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The data directory.
    pub data_dir: PathBuf,
    /// One directory for each volume, named by its UUID.
    pub volumes: PathBuf,
    /// The segments.
    pub segments: PathBuf,
}

impl Layout {
    pub(super) fn new(data_dir: &Path, parameters: &Parameters) -> Self {
        let mount = parameters.scocache.scocache_mount_points.first();
        let segments = mount.map_or_else(|| PathBuf::from("scocache"), |mount| mount.path.clone());
        Self {
            data_dir: data_dir.to_owned(),
            volumes: data_dir.join("volumes"),
            segments: data_dir.join(segments),
        }
    }

    pub(super) fn deleted_dir(&self, id: VolumeId) -> PathBuf {
        self.volumes.join(format!("{DELETED}{id}"))
    }

    pub(super) fn volume(&self, id: VolumeId) -> Paths {
        Paths::new(&self.data_dir, id)
    }
}

/// A volume found on the disk.
pub(super) struct Found {
    pub(super) id: VolumeId,
    pub(super) paths: Arc<Paths>,
    pub(super) manifest: Result<Manifest, String>,
}

/// An opened one.
pub(super) struct Opened {
    pub(super) volume: Volume,
    pub(super) report: RecoveryReport,
    pub(super) runs: HashMap<RunId, Arc<dyn File>>,
}

/// Creates the files of a volume.
pub(super) fn create(
    disk: &dyn Disk,
    layout: &Layout,
    paths: &Paths,
    name: &str,
    id: VolumeId,
    size: u64,
) -> Result<(), VolumeError> {
    let refused = |failure| match failure {
        Failure::NoSpace => VolumeError::NoSpace(failure.to_string()),
        failure => VolumeError::Io(failure.to_string()),
    };
    disk.create_dir(&paths.directory).map_err(|error| refused(job::failure(&error)))?;
    recovery::create(disk, paths, name, id, size).map_err(refused)?;
    disk.sync_dir(&layout.volumes).map_err(|error| refused(job::failure(&error)))
}

/// Opens one volume, whose manifest is read anew.
pub(super) fn open_volume(
    disk: &dyn Disk,
    paths: &Arc<Paths>,
    segments: &SegmentFiles,
    boot: BootId,
    settings: &Arc<Settings>,
) -> Result<(Volume, RecoveryReport), String> {
    let manifest = job::read_manifest(disk, paths).map_err(|error| error.to_string())?;
    recover(disk, paths, &manifest, &|segment| segments.get(segment).cloned(), boot, settings)
}

fn recover(
    disk: &dyn Disk,
    paths: &Paths,
    manifest: &Manifest,
    file: recovery::Segments<'_>,
    boot: BootId,
    settings: &Arc<Settings>,
) -> Result<(Volume, RecoveryReport), String> {
    recovery::replay(disk, paths, manifest, file, boot, settings.clone()).map_err(|error| error.to_string())
}

/// As [`recover`], of a volume that may own segments of a wrong length. A segment had its whole length before it was
/// granted, so no crash cut it short: what its end held is as lost as that of a missing one, and nothing that is left
/// can tell whether it was acknowledged.
fn recover_from_pool(
    disk: &dyn Disk,
    found: &Found,
    manifest: &Manifest,
    pool: &OpenPool,
    boot: BootId,
    settings: &Arc<Settings>,
) -> Result<(Volume, RecoveryReport), String> {
    let short = Cell::new(None);
    let file = |segment| match pool.cut_short(segment) {
        None => pool.files().get(segment).cloned(),
        Some(length) => {
            short.set(Some((segment, length)));
            None
        }
    };
    recover(disk, &found.paths, manifest, &file, boot, settings).map_err(|error| match short.get() {
        None => error,
        Some((segment, length)) => {
            format!("segment {segment}, which recovery needs, was cut to {length} bytes: {error}")
        }
    })
}

/// Removes what interrupted jobs left in the directory of a volume: runs that its manifest does not name, and a
/// manifest that did not get its name.
fn remove_strays(disk: &dyn Disk, found: &Found, manifest: &Manifest, volume: &Volume) {
    let named = manifest.levels.iter().flatten().map(|run| run.id).chain(volume.runs());
    let kept: HashSet<PathBuf> = named.map(|run| found.paths.run(run)).collect();
    let directory = &found.paths.directory;
    let names = disk.read_dir(directory).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %directory.display(), "not searched for files of interrupted jobs");
        Vec::new()
    });
    for name in names {
        let run = name.strip_prefix("run-").and_then(|id| u64::from_str_radix(id, 16).ok());
        let path = directory.join(&name);
        // Only names as they are written here.
        let stray = run.is_some_and(|id| found.paths.run(RunId(id)) == path && !kept.contains(&path));
        if !stray && name != "manifest.new" {
            continue;
        }
        match disk.remove_file(&path) {
            Ok(()) => tracing::debug!(path = %path.display(), "removed; an interrupted job left it"),
            Err(error) => tracing::warn!(%error, path = %path.display(), "left for the next start to remove"),
        }
    }
}

/// The volumes' identities, and the directories to remove: of volumes whose deletion was interrupted, and of those
/// whose creation was.
pub(super) fn scan(disk: &dyn Disk, layout: &Layout) -> Result<(Vec<VolumeId>, Vec<PathBuf>), StartError> {
    let read = |path: &PathBuf| disk.read_dir(path).map_err(refused(format!("read {}", path.display())));
    let (mut ids, mut leftovers) = (Vec::new(), Vec::new());
    for name in read(&layout.volumes)? {
        let path = layout.volumes.join(&name);
        match name.parse() {
            // The first manifest is renamed into place before the creation is acknowledged.
            Ok(_) if read(&path)?.iter().all(|name| name == "manifest.new") => leftovers.push(path),
            Ok(id) => ids.push(id),
            Err(()) if name.starts_with(DELETED) => leftovers.push(path),
            Err(()) => tracing::warn!(name, "not a volume; left alone"),
        }
    }
    Ok((ids, leftovers))
}

/// All manifests, or why one cannot be read.
pub(super) fn read_manifests(
    disk: &dyn Disk,
    layout: &Layout,
    ids: Vec<VolumeId>,
    progress: &dyn Progress,
) -> Vec<Found> {
    let total = ids.len() as u64;
    let read = |id: &VolumeId| {
        let paths = Arc::new(layout.volume(*id));
        let manifest = job::read_manifest(disk, &paths).map_err(|error| format!("manifest: {error}"));
        Found { id: *id, paths, manifest }
    };
    parallel::map(&ids, OPENERS, read, |done| progress.step("manifests", done as u64, total))
}

/// Segments that several manifests name. That cannot happen; if it did, none of these volumes may be trusted.
pub(super) fn claimed_twice(found: &[Found]) -> HashSet<SegmentId> {
    let mut seen = HashSet::new();
    let manifests = found.iter().filter_map(|found| found.manifest.as_ref().ok());
    let claimed = manifests.flat_map(|manifest| manifest.scos.iter().map(|sco| sco.segment));
    claimed.filter(|&segment| !seen.insert(segment)).collect()
}

/// Opens all volumes whose manifests could be read.
pub(super) fn replay(
    disk: &dyn Disk,
    found: &[Found],
    doubly: &HashSet<SegmentId>,
    pool: &OpenPool,
    boot: BootId,
    settings: &Arc<Settings>,
    progress: &dyn Progress,
) -> Vec<Result<Opened, String>> {
    let total = found.len() as u64;
    let open = |found: &Found| {
        let manifest = found.manifest.as_ref().map_err(String::clone)?;
        if let Some(sco) = manifest.scos.iter().find(|sco| doubly.contains(&sco.segment)) {
            return Err(format!("segment {} belongs to another volume, too", sco.segment));
        }
        let (volume, report) = recover_from_pool(disk, found, manifest, pool, boot, settings)?;
        let runs = open_runs(disk, &found.paths, volume.runs()).map_err(|error| format!("a run: {error}"))?;
        remove_strays(disk, found, manifest, &volume);
        Ok(Opened { volume, report, runs: runs.into_iter().collect() })
    };
    parallel::map(found, OPENERS, open, |done| progress.step("volumes", done as u64, total))
}

/// All segments that must not be handed out, with their owners as far as known.
pub(super) fn used_segments(
    found: &[Found],
    opened: &[Result<Opened, String>],
    pool: &OpenPool,
) -> Result<Vec<(SegmentId, Option<VolumeId>)>, StartError> {
    let mut used: HashMap<SegmentId, Option<VolumeId>> = HashMap::new();
    let mut unreadable = Vec::new();
    for (found, opened) in found.iter().zip(opened) {
        match &found.manifest {
            // Also those that the volume gave up while it was opened: the manifest on disk still names them.
            Ok(manifest) => used.extend(manifest.scos.iter().map(|sco| (sco.segment, Some(found.id)))),
            Err(_) => unreadable.push(found.id),
        }
        if let Ok(opened) = opened {
            used.extend(opened.volume.segments().map(|segment| (segment, Some(found.id))));
        }
    }
    if !unreadable.is_empty() {
        let others: Vec<_> = pool.files().ids().filter(|segment| !used.contains_key(segment)).collect();
        used.extend(pool.segments_of_unreadable(&unreadable, others.into_iter())?);
    }
    Ok(used.into_iter().collect())
}
