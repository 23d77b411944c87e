//! What goes into a volume and what comes out of it. The shell (data thread or simulator) does the outputs and
//! brings their results back as events; no output is handed out before those it depends on have come back.

use bytes::Bytes;

use super::address::{Location, ManifestVersion, RunId, ScoNumber, SegmentId, Sequence};
use super::filter::Filter;
use super::run::{MapEntry, RunInfo};

/// Names a client's request (or a piece of one) in the shell's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Names a read of log data in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadId(pub u64);

/// Names a sync in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyncId(pub u64);

/// Names a background job in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub u64);

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Survives the death of the process.
    Written,
    /// Survives power loss (FUA).
    Durable,
}

/// What a range without data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Emptiness {
    /// Trimmed or never written.
    Hole,
    /// Zeros that the client wants to count as allocated.
    Zero,
}

/// The two sequences of records of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Clients' writes, replayed by recovery.
    Log,
    /// Clusters that compaction moved; never replayed.
    Relocation,
}

/// What a volume is told. Byte offsets and lengths lie within the volume: the protocol side checked them.
#[derive(Debug)]
#[expect(missing_docs, reason = "a variant's text and its fields' types say what the fields are")]
pub enum Event<'a> {
    /// A client wants bytes.
    Read { request: RequestId, offset: u64, length: u32 },
    /// A client brings bytes, of any alignment and up to 1 MiB at a time.
    Write { request: RequestId, offset: u64, data: &'a [u8], promise: Promise },
    /// A client empties a range: trim ([`Emptiness::Hole`]; partial clusters at its ends stay as they are) or
    /// write-zeroes (either kind; exact to the byte).
    Empty { request: RequestId, offset: u64, length: u64, kind: EmptyKind, promise: Promise },
    /// Everything acknowledged so far shall survive power loss.
    Flush { request: RequestId, by: FlushedBy },
    /// A client asks what is allocated.
    Status { request: RequestId, offset: u64, length: u64, extents_max: usize },
    /// A record reached its segment, or did not.
    RecordWritten { stream: Stream, sequence: Sequence, result: Result<(), Failure> },
    /// A segment was synced, or not.
    Synced { sync: SyncId, result: Result<(), Failure> },
    /// Log data arrived; exactly as long as asked.
    DataRead { read: ReadId, result: Result<Bytes, Failure> },
    /// A page of a run arrived; 4096 bytes.
    PageRead { run: RunId, page: u32, result: Result<Bytes, Failure> },
    /// The pool's answer to [`Output::WantSegments`]; empty when it has none to give now.
    SegmentsGranted { stream: Stream, segments: Vec<SegmentId> },
    /// A manifest is durable, or not.
    ManifestWritten { version: ManifestVersion, result: Result<(), Failure> },
    /// [`Output::BuildRun`] or [`Output::MergeRuns`] ended. The files are durable, their directory too.
    RunsBuilt { job: JobId, result: Result<RunsBuilt, Failure> },
    /// Time passed, or the pool's level changed.
    Tick { space: SpaceView },
}

/// Who wants an [`Event::Flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushedBy {
    /// A client: the volume's own settings may let it be answered without a sync.
    Client,
    /// The shell, before it ends: always done.
    Shutdown,
}

/// How exact an [`Event::Empty`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyKind {
    /// Trim: whole clusters only.
    Trim,
    /// Write-zeroes: every byte reads as zero afterwards; counts as this kind of emptiness.
    Zeroes(Emptiness),
}

/// Why the shell could not do an output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No room on the file system.
    #[error("no space left on the disk")]
    NoSpace,
    /// Anything else; the text is the operating system's.
    #[error("{0}")]
    Io(String),
    /// What was read is not what was written.
    #[error("{0}")]
    Corrupt(String),
}

/// The pool's level as the data thread knows it; all in segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceView {
    /// Segments the pool could still hand out for the log (free ones and those it may still create).
    pub free: u32,
    /// All that the pool may ever have.
    pub total: u32,
    /// Compaction begins below this many free segments …
    pub trigger: u32,
    /// … and goes on until this many are free.
    pub backoff: u32,
}

/// The result of a finished background job.
#[derive(Debug)]
pub struct RunsBuilt {
    /// New runs, in order of address; disjoint. Empty if nothing was left.
    pub runs: Vec<RunInfo>,
    /// All pages of each of them, for the cache; empty where they are too many to be held.
    pub pages: Vec<Vec<Bytes>>,
    /// Of a run that goes to level 0: which addresses it may know.
    pub filter: Option<Filter>,
    /// Change of the number of references to each SCO, new runs minus inputs.
    pub references: Vec<(ScoNumber, i64)>,
}

/// One input of a merge: the newest first, so that the first of several entries for an address wins.
#[derive(Clone, Debug)]
pub struct MergeInput {
    /// The run.
    pub run: RunInfo,
}

/// What a volume wants done.
#[derive(Debug)]
#[expect(missing_docs, reason = "a variant's text and its fields' types say what the fields are")]
pub enum Output {
    /// Write `data` at byte `offset` of `segment`.
    WriteRecord {
        stream: Stream,
        sequence: Sequence,
        segment: SegmentId,
        offset: u64,
        data: Bytes,
        promise: Promise,
    },
    /// `fdatasync` the segment.
    Sync { sync: SyncId, segment: SegmentId },
    /// Read `length` bytes at byte `offset` of `segment`.
    ReadData { read: ReadId, segment: SegmentId, offset: u64, length: u32 },
    /// Read page `page` (4096 bytes) of a run.
    ReadPage { run: RunId, page: u32 },
    /// Answer a request.
    Reply { request: RequestId, result: Result<Answer, RequestError> },
    /// Ask the pool for this many segments; one question a stream is open at a time.
    WantSegments { stream: Stream, count: u32 },
    /// Make this the volume's manifest: durable, atomic. One at a time.
    WriteManifest { version: ManifestVersion, bytes: Vec<u8> },
    /// Write one run from sorted entries; durable before it is answered.
    BuildRun { job: JobId, run: RunId, entries: Vec<MapEntry> },
    /// Merge runs into new ones, numbered from `first_run` on, at most `runs_max`.
    MergeRuns { job: JobId, inputs: Vec<MergeInput>, first_run: RunId, bottom: bool, run_bytes_max: u64 },
    /// Nothing refers to these any more, durably: the pool may reuse them.
    ReleaseSegments { segments: Vec<SegmentId> },
    /// Nothing refers to these any more, durably: the files may go. No page read of them is in flight.
    RemoveRuns { runs: Vec<RunId> },
    /// Something an operator should see; the shell logs it with the volume's name.
    Report(Report),
}

/// What a request brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done as promised.
    Done,
    /// The bytes asked for, in order.
    Data(Vec<Bytes>),
    /// Extents from the start of the range on, lengths in bytes; may end before the range does.
    Extents(Vec<(u64, ExtentKind)>),
}

/// What [`Event::Status`] tells of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Has data.
    Data,
    /// Reads as zeros.
    Empty(Emptiness),
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No segment could be had and compaction cannot make one.
    #[error("no space left for the log")]
    NoSpace,
    /// What was read is not what was written, and there is no other copy.
    #[error("stored data is damaged")]
    Corrupt,
    /// The disk refused.
    #[error("the disk failed")]
    Io,
    /// The volume halted.
    #[error("the volume is halted")]
    Halted,
}

/// For the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant's text and its fields' types say what the fields are")]
pub enum Report {
    /// The volume serves nothing from now on.
    Halted { reason: String },
    /// The log was cut behind `kept` after a failed write; what was not acknowledged is written again.
    Cut { kept: Sequence, reason: String },
    /// A cluster's data does not match its checksum.
    DamagedCluster { location: Location, offset: u64 },
    /// Compaction found an SCO that it cannot read; it is kept and not picked again.
    DamagedSco { sco: ScoNumber, reason: String },
    /// A background job failed; it is tried again.
    JobFailed { what: &'static str, reason: String },
    /// Clients are told that there is no space.
    NoSpace,
}
