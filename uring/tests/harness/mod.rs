//! A loop to drive, and places to put files. Every wait is bounded.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use uring::{AlignedBuf, Backend, Completion, Disk, File, Io, LocalDisk, Op, OpenMode, RingOptions};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One backend under test.
pub struct Loop {
    pub io: Box<dyn Io>,
    next: u64,
}

impl Loop {
    /// `None`, said aloud, where the machine refuses io_uring; how that is reported is a test of its own.
    pub fn open(backend: Backend) -> Option<Loop> {
        Loop::open_with(backend, &RingOptions::default())
    }

    pub fn open_with(backend: Backend, options: &RingOptions) -> Option<Loop> {
        match uring::open(backend, options) {
            Ok((io, probe)) => {
                assert_eq!((io.backend(), probe.backend), (&*backend.to_string(), &*backend.to_string()));
                Some(Loop { io, next: 0 })
            }
            Err(refusal) if backend == Backend::Uring => {
                eprintln!("skipped: {refusal}");
                None
            }
            Err(error) => panic!("{backend}: {error}"),
        }
    }

    pub fn submit(&mut self, op: Op) -> u64 {
        self.next += 1;
        self.io.submit(self.next, op);
        self.next
    }

    /// Waits for `count` completions.
    pub fn collect(&mut self, count: usize) -> Vec<Completion> {
        let (mut completions, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while completions.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} completions came", completions.len());
            self.io.wait(Some(left), &mut completions).unwrap();
        }
        assert_eq!(completions.len(), count);
        completions
    }

    /// Runs one operation alone.
    pub fn run(&mut self, op: Op) -> Completion {
        let token = self.submit(op);
        let completion = self.collect(1).pop().unwrap();
        assert_eq!((completion.token, self.io.in_flight()), (token, 0));
        completion
    }

    /// Waits at most `timeout` and expects nothing.
    pub fn expect_nothing(&mut self, timeout: Duration) {
        let mut completions = Vec::new();
        self.io.wait(Some(timeout), &mut completions).unwrap();
        assert!(completions.is_empty(), "{completions:?}");
    }
}

/// A directory of its own, removed at the end.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("uring-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file with `content`, opened for direct I/O.
    pub fn direct(&self, name: &str, content: &[u8]) -> Arc<dyn File> {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        LocalDisk.open(&path, OpenMode::Direct).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `len` bytes that tell their place and `seed`.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

/// As [`pattern`], in aligned memory.
pub fn aligned(seed: u64, len: usize) -> Bytes {
    AlignedBuf::copy_from(&pattern(seed, len)).freeze()
}

pub fn recv(socket: &impl AsRawFd, capacity: usize) -> Op {
    Op::Recv { socket: socket.as_raw_fd(), buf: AlignedBuf::with_capacity(capacity) }
}

pub fn send(socket: &impl AsRawFd, data: Vec<Bytes>) -> Op {
    Op::Send { socket: socket.as_raw_fd(), data }
}

pub fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> Op {
    Op::Read { file: file.fd(), offset, buf: AlignedBuf::zeroed(len) }
}

pub fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    (ours, theirs)
}

/// The errno of a failed completion.
pub fn errno(completion: &Completion) -> Option<i32> {
    completion.result.as_ref().unwrap_err().raw_os_error()
}

/// Makes one test of each named function for each real backend.
#[macro_export]
macro_rules! on_both_backends {
    ($($name:ident),* $(,)?) => {
        mod uring_backend { $(#[test] fn $name() { super::$name(uring::Backend::Uring); })* }
        mod threads_backend { $(#[test] fn $name() { super::$name(uring::Backend::Threads); })* }
    };
}
