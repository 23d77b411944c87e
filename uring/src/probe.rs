//! Chooses the backend of a loop, and tells why.

use std::fmt;
use std::io;
use std::str::FromStr;

use io_uring::{IoUring, opcode};

use crate::Io;
use crate::ring::Ring;
use crate::threads::Threads;

/// Which implementation of [`Io`] to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the machine allows it, plain threads elsewhere.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Plain threads.
    Threads,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Backend::Auto => "auto",
            Backend::Uring => "uring",
            Backend::Threads => "threads",
        })
    }
}

impl FromStr for Backend {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Backend> {
        match name {
            "auto" => Ok(Backend::Auto),
            "uring" => Ok(Backend::Uring),
            "threads" => Ok(Backend::Threads),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unknown I/O backend {name:?}: expected auto, uring or threads"),
            )),
        }
    }
}

/// Sizes of one loop's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// Submission queue entries (rounded up to a power of two); the completion queue has four times as many. More
    /// operations than that may be in flight. io_uring only.
    pub entries: u32,
    /// Worker threads for files. Threads only.
    pub workers: usize,
    /// File operations queued before the workers at once; more wait on the loop's side. Threads only.
    pub queue: usize,
}

impl Default for RingOptions {
    fn default() -> RingOptions {
        RingOptions { entries: 256, workers: 8, queue: 1024 }
    }
}

/// What [`open`] chose. Its `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `"uring"` or `"threads"`, as [`Io::backend`] says.
    pub backend: &'static str,
    /// Set-up flags that the kernel accepted; empty for threads.
    pub flags: &'static [&'static str],
    /// Why io_uring was not chosen, if it was tried.
    pub refusal: Option<String>,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend)?;
        if !self.flags.is_empty() {
            write!(f, " ({})", self.flags.join(" "))?;
        }
        if let Some(refusal) = &self.refusal {
            write!(f, ", no io_uring: {refusal}")?;
        }
        Ok(())
    }
}

/// Opens the backend for the calling thread, which must be the one that uses it.
///
/// # Errors
/// [`Backend::Uring`] where io_uring is refused (the message says what to do), and no memory, descriptors or threads.
pub fn open(backend: Backend, options: &RingOptions) -> io::Result<(Box<dyn Io>, Probe)> {
    let refusal = match backend {
        Backend::Threads => None,
        Backend::Auto | Backend::Uring => match ring(options.entries) {
            Ok((ring, flags)) => {
                let probe = Probe { backend: "uring", flags, refusal: None };
                return Ok((Box::new(Ring::new(ring)?), probe));
            }
            Err(refusal) if backend == Backend::Uring => {
                let advice = "choose the backend auto or threads to do without";
                return Err(io::Error::new(refusal.kind, format!("io_uring: {}; {advice}", refusal.reason)));
            }
            Err(refusal) => Some(refusal.reason),
        },
    };
    let threads = Threads::new(options.workers, options.queue)?;
    Ok((Box::new(threads), Probe { backend: "threads", flags: &[], refusal }))
}

struct Refusal {
    kind: io::ErrorKind,
    reason: String,
}

impl Refusal {
    fn unsupported(reason: String) -> Refusal {
        Refusal { kind: io::ErrorKind::Unsupported, reason }
    }
}

/// Sets of flags from the best to the one that every kernel has. Older kernels answer EINVAL to an unknown flag.
const FLAGS: [&[&str]; 4] = [
    &["SUBMIT_ALL", "COOP_TASKRUN", "SINGLE_ISSUER", "DEFER_TASKRUN", "NO_SQARRAY"],
    &["SUBMIT_ALL", "COOP_TASKRUN", "SINGLE_ISSUER", "DEFER_TASKRUN"],
    &["SUBMIT_ALL", "COOP_TASKRUN"],
    &[],
];

fn ring(entries: u32) -> Result<(IoUring, &'static [&'static str]), Refusal> {
    let entries = entries.clamp(1, 1 << 15).next_power_of_two();
    let mut refusal = None;
    for flags in FLAGS {
        match set_up(entries, flags) {
            Ok(ring) => return examine(&ring).map(|()| (ring, flags)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = Some(explain(&error)),
            Err(error) => return Err(explain(&error)),
        }
    }
    Err(refusal.unwrap_or_else(|| Refusal::unsupported("no flags to try".into())))
}

fn set_up(entries: u32, flags: &[&str]) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(entries * 4).dontfork();
    for &flag in flags {
        match flag {
            "SUBMIT_ALL" => builder.setup_submit_all(),
            "COOP_TASKRUN" => builder.setup_coop_taskrun(),
            "SINGLE_ISSUER" => builder.setup_single_issuer(),
            "DEFER_TASKRUN" => builder.setup_defer_taskrun(),
            "NO_SQARRAY" => builder.setup_no_sqarray(),
            _ => unreachable!("a flag of the table above"),
        };
    }
    builder.build(entries)
}

/// Refuses a ring that lacks what [`Ring`] builds on.
fn examine(ring: &IoUring) -> Result<(), Refusal> {
    let params = ring.params();
    let features = [
        (params.is_feature_nodrop(), "NODROP"),
        (params.is_feature_submit_stable(), "SUBMIT_STABLE"),
        (params.is_feature_fast_poll(), "FAST_POLL"),
        (params.is_feature_ext_arg(), "EXT_ARG"),
    ];
    let missing: Vec<_> = features.iter().filter(|(present, _)| !present).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        let reason = format!("the kernel lacks {}: 5.11 or newer is needed", missing.join(", "));
        return Err(Refusal::unsupported(reason));
    }
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
    let opcodes = [
        (opcode::Read::CODE, "READ"),
        (opcode::Write::CODE, "WRITE"),
        (opcode::Writev::CODE, "WRITEV"),
        (opcode::Fsync::CODE, "FSYNC"),
        (opcode::Recv::CODE, "RECV"),
        (opcode::Send::CODE, "SEND"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    ];
    let missing: Vec<_> =
        opcodes.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::unsupported(format!("the kernel lacks the operations {}", missing.join(", "))))
}

fn explain(error: &io::Error) -> Refusal {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile, and set \
             the sysctl kernel.io_uring_disabled to 0"
        }
        Some(libc::ENOSYS) => "the kernel, or the sandbox around this process, has no io_uring",
        Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK, or choose fewer entries",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files",
        _ => "the kernel refused its set-up",
    };
    Refusal { kind: error.kind(), reason: format!("{error}: {advice}") }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use super::*;
    use crate::{AlignedBuf, Op};

    #[test]
    fn backends_have_names() {
        for backend in [Backend::Auto, Backend::Uring, Backend::Threads] {
            assert_eq!(backend.to_string().parse::<Backend>().unwrap(), backend);
        }
        assert!("epoll".parse::<Backend>().unwrap_err().to_string().contains("auto, uring or threads"));
    }

    /// Older kernels end up with fewer flags; the loop must work with each set.
    #[test]
    fn the_loop_runs_with_every_set_of_flags() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        for flags in FLAGS {
            let ring = match set_up(8, flags) {
                Ok(ring) => ring,
                Err(error) => {
                    eprintln!("skipped {flags:?}: {error}");
                    continue;
                }
            };
            assert!(examine(&ring).is_ok(), "{flags:?}");
            assert_eq!((ring.params().sq_entries(), ring.params().cq_entries()), (8, 32));
            let mut ring = Ring::new(ring).unwrap();
            let mut completions = Vec::new();
            for token in 0..100 {
                let buf = AlignedBuf::with_capacity(1);
                ring.submit(token, Op::Recv { socket: ours.as_raw_fd(), buf });
            }
            ring.wait(Some(Duration::ZERO), &mut completions).unwrap();
            assert_eq!((completions.len(), ring.in_flight()), (0, 100));
            ring.waker().wake();
            ring.wait(None, &mut completions).unwrap();
            assert!(completions.is_empty());
            theirs.write_all(b"x").unwrap();
            ring.wait(None, &mut completions).unwrap();
            assert_eq!(completions.pop().unwrap().buf.as_deref(), Some(&b"x"[..]));
            (0..100).for_each(|token| ring.cancel(token));
            while completions.len() < 99 {
                ring.wait(Some(Duration::from_secs(60)), &mut completions).unwrap();
            }
            assert_eq!(ring.in_flight(), 0);
            ring.submit(0, Op::Recv { socket: ours.as_raw_fd(), buf: AlignedBuf::with_capacity(1) });
        }
        assert!(FLAGS.last().unwrap().is_empty());
    }
}
