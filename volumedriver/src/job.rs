//! Background jobs of a volume on the files of its directory: manifests and runs. They block; the core orders them by
//! its outputs, a background thread does them, and what they answer was made durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use uring::{Disk, File, OpenMode};

use crate::volume::address::{CLUSTER_SIZE, RunId, ScoNumber, VolumeId};
use crate::volume::event::{Failure, MergeInput, RunsBuilt};
use crate::volume::filter::Filter;
use crate::volume::manifest::{MANIFEST_BYTES_MAX, Manifest};
use crate::volume::merge::{Input, Merge};
use crate::volume::run::{MapEntry, MapValue, RunBuilder, RunInfo, check_page, page_entries};

/// Pages that a merge reads at a time from each input.
const PAGES_PER_READ: u32 = 64;

/// Bytes of pages that one job hands on for the cache at most.
const PAGE_BYTES_MAX: u64 = 32 << 20;

/// Where the files of a volume are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The volume.
    pub volume: VolumeId,
    /// Its directory.
    pub directory: PathBuf,
}

impl Paths {
    /// Files of `volume` below the data directory `data_dir`.
    pub fn new(data_dir: &Path, volume: VolumeId) -> Self {
        Self { volume, directory: data_dir.join("volumes").join(volume.to_string()) }
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.directory.join("manifest")
    }

    /// A run.
    pub fn run(&self, run: RunId) -> PathBuf {
        self.directory.join(format!("run-{:016x}", run.0))
    }
}

/// The core's word for an error of the operating system.
pub fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::NoSpace,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Failure::Corrupt(error.to_string()),
        _ => Failure::Io(error.to_string()),
    }
}

/// Replaces the manifest in one atomic, durable step.
pub fn write_manifest(disk: &dyn Disk, paths: &Paths, bytes: &[u8]) -> Result<(), Failure> {
    let fresh = paths.directory.join("manifest.new");
    let write = || {
        let file = disk.open(&fresh, OpenMode::CreateOrTruncate)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        drop(file);
        disk.rename(&fresh, &paths.manifest())?;
        disk.sync_dir(&paths.directory)
    };
    write().map_err(|error| failure(&error))
}

/// Reads and checks the manifest.
pub fn read_manifest(disk: &dyn Disk, paths: &Paths) -> Result<Manifest, Failure> {
    let bytes = disk.read(&paths.manifest(), MANIFEST_BYTES_MAX).map_err(|error| failure(&error))?;
    let manifest = Manifest::decode(&bytes)?;
    if manifest.id != paths.volume {
        return Err(Failure::Corrupt(format!("manifest: it is that of volume {}", manifest.id)));
    }
    Ok(manifest)
}

/// Writes one run.
pub fn build_run(
    disk: &dyn Disk,
    paths: &Paths,
    run: RunId,
    entries: &[MapEntry],
) -> Result<RunsBuilt, Failure> {
    let mut output = Output::new(disk, paths, run, u64::MAX);
    let mut references = BTreeMap::new();
    for entry in entries {
        output.push(entry)?;
        if let MapValue::Data { location, .. } = entry.value {
            *references.entry(location.sco()).or_insert(0) += 1;
        }
    }
    let built = output.finish(references)?;
    Ok(RunsBuilt { filter: Filter::of(entries), ..built })
}

/// Merges runs into new ones of at most `run_bytes_max` each.
pub fn merge_runs(
    disk: &dyn Disk,
    paths: &Paths,
    inputs: &[MergeInput],
    first_run: RunId,
    bottom: bool,
    run_bytes_max: u64,
) -> Result<RunsBuilt, Failure> {
    // Runs that follow each other (those of one level do) are one input: the merge looks at each input for each entry.
    let chained = inputs.chunk_by(|one, next| one.run.end <= next.run.first);
    let sources = chained.map(|chain| -> Result<Input<'_>, Failure> {
        let open = |input: &MergeInput| {
            let file =
                disk.open(&paths.run(input.run.id), OpenMode::Read).map_err(|error| failure(&error))?;
            Ok(RunReader::new(paths.volume, input.run.clone(), file))
        };
        let readers = chain.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
        Ok(Box::new(readers.into_iter().flatten()))
    });
    let mut merge = Merge::new(sources.collect::<Result<_, _>>()?, bottom)?;
    let mut output = Output::new(disk, paths, first_run, run_bytes_max);
    while let Some(entry) = merge.next_entry()? {
        output.push(&entry)?;
    }
    output.finish(merge.dropped().iter().map(|(&sco, &count)| (sco, -count)).collect())
}

/// Runs in the making.
struct Output<'a> {
    disk: &'a dyn Disk,
    paths: &'a Paths,
    builder: RunBuilder,
    next: RunId,
    bytes_max: u64,
    runs: Vec<RunInfo>,
    pages: Vec<Vec<Bytes>>,
    page_bytes: u64,
}

impl<'a> Output<'a> {
    fn new(disk: &'a dyn Disk, paths: &'a Paths, first: RunId, bytes_max: u64) -> Self {
        let builder = RunBuilder::new(paths.volume, first);
        let next = RunId(first.0 + 1);
        Self { disk, paths, builder, next, bytes_max, runs: Vec::new(), pages: Vec::new(), page_bytes: 0 }
    }

    fn push(&mut self, entry: &MapEntry) -> Result<(), Failure> {
        // A further page and its fence must still fit.
        if self.builder.len() + 2 * CLUSTER_SIZE as u64 > self.bytes_max {
            let full = std::mem::replace(&mut self.builder, RunBuilder::new(self.paths.volume, self.next));
            self.next = RunId(self.next.0 + 1);
            self.write(full)?;
        }
        self.builder.push(entry);
        Ok(())
    }

    fn write(&mut self, builder: RunBuilder) -> Result<(), Failure> {
        let (info, bytes) = builder.finish();
        let write = || {
            // A run of that number may be left from a job that failed or a process that died.
            let file = self.disk.open(&self.paths.run(info.id), OpenMode::CreateOrTruncate)?;
            file.write_at(&bytes, 0)?;
            file.sync()
        };
        write().map_err(|error| failure(&error))?;
        self.page_bytes += info.bytes();
        let held = self.page_bytes <= PAGE_BYTES_MAX;
        // Each page is memory of its own, so that the cache can let one go without the others.
        let pages = bytes.chunks(CLUSTER_SIZE).filter(|_| held).map(Bytes::copy_from_slice);
        self.pages.push(pages.collect());
        self.runs.push(info);
        Ok(())
    }

    fn finish(mut self, references: BTreeMap<ScoNumber, i64>) -> Result<RunsBuilt, Failure> {
        let last = std::mem::replace(&mut self.builder, RunBuilder::new(self.paths.volume, self.next));
        if !last.is_empty() {
            self.write(last)?;
        }
        self.disk.sync_dir(&self.paths.directory).map_err(|error| failure(&error))?;
        let references = references.into_iter().collect();
        Ok(RunsBuilt { runs: self.runs, pages: self.pages, filter: None, references })
    }
}

/// Entries of a run's file, page by page, each checked.
struct RunReader {
    volume: VolumeId,
    run: RunInfo,
    file: Arc<dyn File>,
    next_page: u32,
    entries: std::vec::IntoIter<MapEntry>,
    failed: bool,
}

impl RunReader {
    fn new(volume: VolumeId, run: RunInfo, file: Arc<dyn File>) -> Self {
        Self { volume, run, file, next_page: 0, entries: Vec::new().into_iter(), failed: false }
    }

    fn refill(&mut self) -> Result<(), Failure> {
        let pages = (self.run.data_pages - self.next_page).min(PAGES_PER_READ);
        let mut bytes = vec![0; pages as usize * CLUSTER_SIZE];
        let offset = u64::from(self.next_page) * CLUSTER_SIZE as u64;
        self.file.read_at(&mut bytes, offset).map_err(|error| failure(&error))?;
        let mut entries = Vec::new();
        for page in bytes.chunks(CLUSTER_SIZE) {
            check_page(page, self.volume, &self.run, self.next_page)?;
            for entry in page_entries(page) {
                entries.push(entry?);
            }
            self.next_page += 1;
        }
        self.entries = entries.into_iter();
        Ok(())
    }
}

impl Iterator for RunReader {
    type Item = Result<MapEntry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.failed {
                return None;
            }
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            if self.next_page == self.run.data_pages {
                return None;
            }
            if let Err(failure) = self.refill() {
                self.failed = true;
                return Some(Err(failure));
            }
        }
    }
}
