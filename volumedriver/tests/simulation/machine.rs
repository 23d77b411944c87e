//! The shell of the simulation: does the core's outputs on the simulated disk, in an order that the seed chooses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uring::sim::SimWorld;
use uring::{AlignedBuf, Completion, Disk, Durability, File, Io, Op, OpenMode};
use volumedriver::job::{self, Paths};
use volumedriver::recovery::{self, OpenError, RecoveryReport};
use volumedriver::volume::address::{BootId, ManifestVersion, RunId, SegmentId, VolumeId};
use volumedriver::volume::event::{
    Answer, Event, Failure, Output, Promise, Report, RequestError, RequestId, SpaceView, Stream,
};
use volumedriver::volume::own::OwnChange;
use volumedriver::volume::{Context, PageCache, Settings, Volume};

/// Segments kept for compaction.
const RESERVE: usize = 4;

/// The segments of the simulated pool.
pub struct Pool {
    files: BTreeMap<SegmentId, Arc<dyn File>>,
    free: Vec<SegmentId>,
}

/// A running process with one volume.
pub struct Machine {
    pub world: SimWorld,
    pub volume: Volume,
    pub report: RecoveryReport,
    pub replies: VecDeque<(RequestId, Result<Answer, RequestError>)>,
    pub reports: Vec<Report>,
    disk: Arc<dyn Disk>,
    io: Box<dyn Io>,
    pool: Pool,
    paths: Paths,
    pages: PageCache,
    /// What the volume is told of the time.
    now: Duration,
    runs: HashMap<RunId, Arc<dyn File>>,
    pending: HashMap<u64, Output>,
    jobs: Vec<Output>,
    /// Runs to be built that have to wait, if they have to.
    held_builds: Option<Vec<Output>>,
    next_token: u64,
}

/// Makes the disk of a new machine: `segments` zeroed segments and one volume.
pub fn install(world: &SimWorld, settings: &Settings, segments: u32, size: u64) {
    let disk = world.disk();
    disk.create_dir("/pool".as_ref()).expect("a fresh disk");
    for segment in 0..segments {
        let file = disk.open(&segment_path(SegmentId(segment)), OpenMode::CreateNew).expect("a fresh disk");
        file.set_len(u64::from(settings.segment_blocks) * 4096).expect("room");
        file.sync().expect("syncs");
    }
    let paths = paths();
    disk.create_dir(&paths.directory).expect("a fresh disk");
    recovery::create(&*disk, &paths, "sim", paths.volume, size).expect("room");
    for directory in ["/pool", "/volumes", "/"] {
        disk.sync_dir(directory.as_ref()).expect("syncs");
    }
}

pub fn paths() -> Paths {
    Paths::new("/".as_ref(), VolumeId([7; 16]))
}

pub fn segment_path(segment: SegmentId) -> PathBuf {
    PathBuf::from(format!("/pool/segment-{:08x}", segment.0))
}

impl Machine {
    /// Boots: waits for locks, recovers the volume.
    pub fn boot(world: &SimWorld, settings: &Settings, boot: BootId) -> Result<Self, OpenError> {
        let (disk, io) = (world.disk(), world.io());
        let failed = |error: std::io::Error| OpenError::Failed(job::failure(&error));
        let mut files = BTreeMap::new();
        for name in disk.read_dir("/pool".as_ref()).map_err(failed)? {
            let number = name.strip_prefix("segment-").and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let segment = SegmentId(number.expect("only segments are here"));
            let file = disk.open(&segment_path(segment), OpenMode::Direct).map_err(failed)?;
            let mut tries = 0;
            while !file.try_lock().map_err(failed)? {
                tries += 1;
                assert!(tries < 10_000, "a lock is never released");
            }
            files.insert(segment, file);
        }
        let paths = paths();
        let manifest = job::read_manifest(&*disk, &paths)?;
        let segments = |segment: SegmentId| files.get(&segment).cloned();
        let settings = Arc::new(settings.clone());
        let (volume, report) = recovery::replay(&*disk, &paths, &manifest, &segments, boot, settings)?;
        let used: Vec<_> = manifest.scos.iter().map(|sco| sco.segment).chain(volume.segments()).collect();
        let free = files.keys().filter(|segment| !used.contains(segment)).copied().collect();
        let mut runs = HashMap::new();
        for run in volume.runs().collect::<Vec<_>>() {
            runs.insert(run, disk.open(&paths.run(run), OpenMode::Direct).map_err(failed)?);
        }
        let mut pages = PageCache::new(64 << 10);
        volume.limit_pages(&mut pages);
        Ok(Self {
            world: world.clone(),
            volume,
            report,
            replies: VecDeque::new(),
            reports: Vec::new(),
            disk,
            io,
            pool: Pool { files, free },
            paths,
            pages,
            now: Duration::from_secs(1000),
            runs,
            pending: HashMap::new(),
            jobs: Vec::new(),
            held_builds: None,
            next_token: 0,
        })
    }

    /// Gives the volume an event, then ends the turn with some probability, so that turns hold several events.
    pub fn tell(&mut self, event: Event<'_>) {
        let mut out = Vec::new();
        let mut cx = Context { pages: &mut self.pages, now: self.now, out: &mut out };
        self.volume.handle(event, &mut cx);
        if !self.world.random().is_multiple_of(3) {
            self.volume.finish_turn(&mut cx);
        }
        self.take(out);
    }

    /// Runs are not built any more until [`Machine::release_builds`].
    pub fn hold_builds(&mut self) {
        self.held_builds.get_or_insert_default();
    }

    pub fn release_builds(&mut self) {
        self.jobs.extend(self.held_builds.take().unwrap_or_default());
    }

    pub fn freeze(&mut self) {
        let mut out = Vec::new();
        self.volume.freeze(&mut Context { pages: &mut self.pages, now: self.now, out: &mut out });
        self.take(out);
    }

    /// Other limits between two turns.
    pub fn set_settings(&mut self, settings: Settings) {
        let mut out = Vec::new();
        let mut cx = Context { pages: &mut self.pages, now: self.now, out: &mut out };
        self.volume.set_settings(Arc::new(settings), &mut cx);
        self.volume.finish_turn(&mut cx);
        self.take(out);
    }

    /// Another setting of the volume's own; the manifest version that will have it.
    pub fn change_own(&mut self, change: OwnChange) -> ManifestVersion {
        let mut out = Vec::new();
        let mut cx = Context { pages: &mut self.pages, now: self.now, out: &mut out };
        let version = self.volume.change_own(change, &mut cx);
        self.volume.finish_turn(&mut cx);
        self.pages.trim(usize::MAX);
        self.take(out);
        version
    }

    /// Time passes; nobody is told before the next event.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Pages of the volume's map in memory.
    pub fn map_pages(&self) -> usize {
        self.pages.pages_of(self.volume.id())
    }

    /// Another bound of the page cache; pages beyond it go at once or later.
    pub fn set_page_cache(&mut self, bytes: usize) {
        self.pages.set_bytes_max(bytes);
        self.pages.trim(self.world.random() as usize % 8);
    }

    pub fn end_turn(&mut self) {
        let mut out = Vec::new();
        self.volume.finish_turn(&mut Context { pages: &mut self.pages, now: self.now, out: &mut out });
        self.take(out);
    }

    /// For the report of a failed seed.
    pub fn describe(&self) -> String {
        let (pending, jobs) = (self.pending.values(), &self.jobs);
        let manifest = self.volume.manifest();
        let reports = self.reports.len();
        format!("{:?}, in flight {pending:?}, jobs {jobs:?}, {reports} reports, {manifest:?}", self.view())
    }

    fn view(&self) -> SpaceView {
        let total = self.pool.files.len() as u32;
        let free = self.pool.free.len().saturating_sub(RESERVE) as u32;
        SpaceView { free, total, trigger: total / 5, backoff: total / 3 }
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { request, result } => self.replies.push_back((request, result)),
                Output::Report(report) => self.reports.push(report),
                Output::ReleaseSegments { segments } => self.pool.free.extend(segments),
                Output::RemoveRuns { runs } => {
                    for run in runs {
                        self.runs.remove(&run);
                        // The power may go at any time.
                        let _ = self.disk.remove_file(&self.paths.run(run));
                    }
                }
                Output::BuildRun { .. } => self.held_builds.as_mut().unwrap_or(&mut self.jobs).push(output),
                Output::WriteManifest { .. } | Output::MergeRuns { .. } | Output::WantSegments { .. } => {
                    self.jobs.push(output)
                }
                Output::WriteRecord { .. }
                | Output::Sync { .. }
                | Output::ReadData { .. }
                | Output::ReadPage { .. } => self.submit(output),
            }
        }
    }

    fn submit(&mut self, output: Output) {
        let op = match &output {
            Output::WriteRecord { segment, offset, data, promise, .. } => Op::Write {
                file: self.pool.files[segment].fd(),
                offset: *offset,
                data: vec![data.clone()],
                durability: match promise {
                    Promise::Written => Durability::Written,
                    Promise::Durable => Durability::Durable,
                },
            },
            Output::Sync { segment, .. } => Op::Sync { file: self.pool.files[segment].fd() },
            Output::ReadData { segment, offset, length, .. } => Op::Read {
                file: self.pool.files[segment].fd(),
                offset: *offset,
                buf: AlignedBuf::zeroed(*length as usize),
            },
            Output::ReadPage { run, page } => Op::Read {
                file: self.runs[run].fd(),
                offset: u64::from(*page) * 4096,
                buf: AlignedBuf::zeroed(4096),
            },
            other => unreachable!("not for the ring: {other:?}"),
        };
        self.next_token += 1;
        self.pending.insert(self.next_token, output);
        self.io.submit(self.next_token, op);
    }

    /// Lets something happen: a completion, a job, or the passing of time. `false` if nothing is under way.
    pub fn step(&mut self) -> bool {
        let choices = usize::from(!self.pending.is_empty()) * 3 + self.jobs.len();
        if choices == 0 {
            self.end_turn();
            if self.volume.wants_ticks() {
                self.tick();
            }
            return !self.pending.is_empty() || !self.jobs.is_empty();
        }
        let choice = self.world.random() as usize % choices;
        if choice < self.jobs.len() {
            let job = self.jobs.swap_remove(choice);
            self.work(job);
        } else {
            let mut completions = Vec::new();
            self.io.wait(Some(Duration::ZERO), &mut completions).expect("a ring waits");
            for completion in completions {
                self.completed(completion);
            }
            self.end_turn();
        }
        if self.volume.wants_ticks() && self.world.random().is_multiple_of(8) {
            self.tick();
        }
        true
    }

    pub fn tick(&mut self) {
        let space = self.view();
        self.tell(Event::Tick { space });
        self.end_turn();
    }

    fn completed(&mut self, completion: Completion) {
        let output = self.pending.remove(&completion.token).expect("known");
        let length = completion.result.as_ref().copied().unwrap_or(0);
        let result = completion.result.map(drop).map_err(|error| job::failure(&error));
        let bytes = |expected: usize| match (&result, completion.buf) {
            (Ok(()), Some(buf)) if length == expected => Ok(buf.freeze()),
            (Ok(()), _) => Err(Failure::Corrupt("short".into())),
            (Err(failure), _) => Err(failure.clone()),
        };
        match output {
            Output::WriteRecord { stream, sequence, .. } => {
                self.tell(Event::RecordWritten { stream, sequence, result });
            }
            Output::Sync { sync, .. } => self.tell(Event::Synced { sync, result }),
            Output::ReadData { read, length, .. } => {
                let result = bytes(length as usize);
                self.tell(Event::DataRead { read, result });
            }
            Output::ReadPage { run, page } => {
                let result = bytes(4096);
                self.tell(Event::PageRead { run, page, result });
            }
            other => unreachable!("not from the ring: {other:?}"),
        }
    }

    fn work(&mut self, output: Output) {
        match output {
            Output::WantSegments { stream, count } => {
                let kept = if stream == Stream::Log { RESERVE } else { 0 };
                let some = (count as usize).min(self.pool.free.len().saturating_sub(kept));
                let start = self.pool.free.len() - some;
                let segments = self.pool.free.split_off(start);
                self.tell(Event::SegmentsGranted { stream, segments });
                self.tick();
            }
            Output::WriteManifest { version, bytes } => {
                let result = job::write_manifest(&*self.disk, &self.paths, &bytes);
                self.tell(Event::ManifestWritten { version, result });
            }
            Output::BuildRun { job, run, entries } => {
                let result = job::build_run(&*self.disk, &self.paths, run, &entries);
                self.runs_built(job, result);
            }
            Output::MergeRuns { job, inputs, first_run, bottom, run_bytes_max } => {
                let result =
                    job::merge_runs(&*self.disk, &self.paths, &inputs, first_run, bottom, run_bytes_max);
                self.runs_built(job, result);
            }
            other => unreachable!("not a job: {other:?}"),
        }
        self.end_turn();
    }

    fn runs_built(
        &mut self,
        job: volumedriver::volume::event::JobId,
        result: Result<volumedriver::volume::event::RunsBuilt, Failure>,
    ) {
        let result = result.and_then(|built| {
            for run in &built.runs {
                let file = self.disk.open(&self.paths.run(run.id), OpenMode::Direct);
                self.runs.insert(run.id, file.map_err(|error| job::failure(&error))?);
            }
            Ok(built)
        });
        self.tell(Event::RunsBuilt { job, result });
    }

    /// Runs until nothing is under way any more.
    pub fn settle(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 1_000_000, "the volume never comes to rest");
        }
    }
}
