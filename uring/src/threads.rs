//! The plain-threads backend, for machines that refuse io_uring: workers do the blocking file operations, and the
//! loop's own thread drives the sockets with `poll` inside its wait.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use libc::{iovec, pollfd};

use crate::transfer::{Kind, Step, Transfer, cancelled};
use crate::wake::EventWake;
use crate::{Completion, Io, Op, Token, Wake};

/// How long a dropped backend waits for the operations that its workers are in.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

type Ended = (Transfer, io::Result<usize>);

/// What the loop and its workers share.
struct Shared {
    jobs: Mutex<Jobs>,
    /// A job came, or the end.
    work: Condvar,
    /// The last running job ended.
    idle: Condvar,
    ended: Mutex<Vec<Ended>>,
    closing: AtomicBool,
    wake: Arc<EventWake>,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Transfer>,
    running: usize,
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().expect("no holder of this lock panics")
    }

    fn ended(&self) -> MutexGuard<'_, Vec<Ended>> {
        self.ended.lock().expect("no holder of this lock panics")
    }

    fn work(&self) {
        let mut iov = Vec::new();
        let mut jobs = self.jobs();
        loop {
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            let Some(mut transfer) = jobs.queue.pop_front() else {
                jobs = self.work.wait(jobs).expect("no holder of this lock panics");
                continue;
            };
            jobs.running += 1;
            drop(jobs);
            let result = self.run(&mut transfer, &mut iov);
            // The loop frees the data, so that buffers return to the free list of the thread that takes them.
            self.ended().push((transfer, result));
            self.wake.signal();
            jobs = self.jobs();
            jobs.running -= 1;
            if jobs.running == 0 {
                self.idle.notify_all();
            }
        }
    }

    fn run(&self, transfer: &mut Transfer, iov: &mut Vec<iovec>) -> io::Result<usize> {
        loop {
            let answer = file_call(transfer, iov);
            match transfer.absorb(answer) {
                Step::Done(result) => return result,
                // The owner of the descriptor may close it once the loop is gone.
                Step::Again | Step::NotReady if self.closing.load(Ordering::Acquire) => {
                    return Err(cancelled());
                }
                Step::Again | Step::NotReady => {}
            }
        }
    }
}

/// A system call's result in the form of a ring's answer.
fn answer(returned: isize) -> i32 {
    if returned >= 0 {
        // `Transfer` asks for a GiB at most.
        return returned as i32;
    }
    -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn file_call(transfer: &mut Transfer, iov: &mut Vec<iovec>) -> i32 {
    let fd = transfer.fd;
    answer(match transfer.kind {
        Kind::Read => {
            let target = transfer.target();
            // SAFETY: `target` names memory that `transfer` owns, borrowed exclusively here.
            unsafe { libc::pread(fd, target.ptr.cast(), target.len, target.offset as libc::off_t) }
        }
        Kind::Write(_) => {
            transfer.gather(iov);
            let (offset, flags) = (transfer.position() as libc::off_t, transfer.write_flags());
            // SAFETY: the vectors name memory that `transfer` owns.
            unsafe { libc::pwritev2(fd, iov.as_ptr(), iov.len() as i32, offset, flags) }
        }
        // SAFETY: no memory is passed.
        Kind::Sync => unsafe { libc::fdatasync(fd) as isize },
        Kind::Recv | Kind::Send => unreachable!("sockets stay with the loop"),
    })
}

fn socket_call(transfer: &mut Transfer, iov: &mut Vec<iovec>) -> i32 {
    let fd = transfer.fd;
    answer(if transfer.kind == Kind::Recv {
        let target = transfer.target();
        // SAFETY: `target` names memory that `transfer` owns, borrowed exclusively here.
        unsafe { libc::recv(fd, target.ptr.cast(), target.len, libc::MSG_DONTWAIT) }
    } else {
        transfer.gather(iov);
        // SAFETY: all zero is a valid `msghdr`: no name, no vectors, no control data.
        let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
        msg.msg_iov = iov.as_mut_ptr();
        msg.msg_iovlen = iov.len() as _;
        // SAFETY: `msg` names vectors that outlive the call, and these memory that `transfer` owns.
        unsafe { libc::sendmsg(fd, &raw const msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Goes as far as the socket lets it; the result once there is one.
fn attempt(transfer: &mut Transfer, iov: &mut Vec<iovec>) -> Option<io::Result<usize>> {
    loop {
        let answer = socket_call(transfer, iov);
        match transfer.absorb(answer) {
            Step::Done(result) => return Some(result),
            Step::Again => {}
            Step::NotReady => return None,
        }
    }
}

/// A file operation's place before the workers, and everything of the sockets.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    /// Jobs that fit into the shared queue.
    queue_limit: usize,
    /// File operations the shared queue has no room for yet, in order.
    waiting: VecDeque<Transfer>,
    /// File operations with the workers, ended ones that were not collected included.
    handed_over: usize,
    /// Socket operations; those from `fresh` on were never tried.
    sockets: Vec<Transfer>,
    fresh: usize,
    /// Ended without a system call; returned by the next wait.
    ready: Vec<Completion>,
    polls: Vec<pollfd>,
    iov: Vec<iovec>,
    collected: Vec<Ended>,
}

impl Threads {
    /// Starts `workers` threads (at least one) behind a queue of `queue_limit` jobs (at least one).
    pub(crate) fn new(workers: usize, queue_limit: usize) -> io::Result<Threads> {
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            ended: Mutex::default(),
            closing: AtomicBool::new(false),
            wake: Arc::new(EventWake::new()?),
        });
        let threads = Threads {
            shared,
            queue_limit: queue_limit.max(1),
            waiting: VecDeque::new(),
            handed_over: 0,
            sockets: Vec::new(),
            fresh: 0,
            ready: Vec::new(),
            polls: Vec::new(),
            iov: Vec::new(),
            collected: Vec::new(),
        };
        for index in 0..workers.max(1) {
            let shared = threads.shared.clone();
            // If this one cannot start, dropping `threads` ends the others.
            thread::Builder::new().name(format!("io-worker-{index}")).spawn(move || shared.work())?;
        }
        Ok(threads)
    }

    fn hand_over(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut jobs = self.shared.jobs();
        let count = self.queue_limit.saturating_sub(jobs.queue.len()).min(self.waiting.len());
        jobs.queue.extend(self.waiting.drain(..count));
        drop(jobs);
        self.handed_over += count;
        if count == 1 {
            self.shared.work.notify_one();
        } else if count > 1 {
            self.shared.work.notify_all();
        }
    }

    fn try_fresh(&mut self, completions: &mut Vec<Completion>) {
        let mut index = self.fresh;
        while index < self.sockets.len() {
            match attempt(&mut self.sockets[index], &mut self.iov) {
                Some(result) => completions.push(self.sockets.remove(index).complete(result)),
                None => index += 1,
            }
        }
        self.fresh = self.sockets.len();
    }

    /// Waits for sockets, workers and wakes; `None` waits without limit. Signals end the wait early.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.polls.clear();
        self.polls.push(pollfd { fd: self.shared.wake.fd(), events: libc::POLLIN, revents: 0 });
        let sockets = self.sockets.iter();
        self.polls.extend(sockets.map(|it| pollfd { fd: it.fd, events: it.poll_events(), revents: 0 }));
        let timespec = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timespec = timespec.as_ref().map_or(std::ptr::null(), |timespec| timespec as *const _);
        let (polls, count) = (self.polls.as_mut_ptr(), self.polls.len() as libc::nfds_t);
        // SAFETY: `polls` has `count` elements; the time is null or outlives the call; no signal mask.
        let ready = unsafe { libc::ppoll(polls, count, timespec, std::ptr::null()) };
        if ready >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        self.polls.iter_mut().for_each(|poll| poll.revents = 0);
        Ok(())
    }

    /// Takes what the last poll announced. Whether a wake was part of it.
    fn collect(&mut self, completions: &mut Vec<Completion>) -> bool {
        let mut woke = false;
        if self.polls[0].revents != 0 {
            let mut count = 0u64;
            // SAFETY: the eight bytes of `count` outlive the call. It does not block: poll saw the counter, and
            // nobody else reads it.
            unsafe { libc::read(self.shared.wake.fd(), (&raw mut count).cast(), 8) };
            woke = self.shared.wake.take();
            std::mem::swap(&mut *self.shared.ended(), &mut self.collected);
            self.handed_over -= self.collected.len();
            let ended = self.collected.drain(..);
            completions.extend(ended.map(|(mut transfer, result)| transfer.complete(result)));
        }
        let mut polls = self.polls[1..].iter();
        let iov = &mut self.iov;
        self.sockets.retain_mut(|transfer| {
            if polls.next().is_none_or(|poll| poll.revents == 0) {
                return true;
            }
            match attempt(transfer, iov) {
                Some(result) => {
                    completions.push(transfer.complete(result));
                    false
                }
                None => true,
            }
        });
        self.fresh = self.sockets.len();
        woke
    }

    /// Takes an operation that no worker runs out of its queue.
    fn withdraw(&mut self, token: Token) -> Option<Transfer> {
        let named = |transfer: &Transfer| transfer.token == token;
        if let Some(index) = self.sockets.iter().position(named) {
            self.fresh -= usize::from(index < self.fresh);
            return Some(self.sockets.remove(index));
        }
        if let Some(index) = self.waiting.iter().position(named) {
            return self.waiting.remove(index);
        }
        let mut jobs = self.shared.jobs();
        let index = jobs.queue.iter().position(named)?;
        self.handed_over -= 1;
        jobs.queue.remove(index)
    }
}

impl Io for Threads {
    fn submit(&mut self, token: Token, op: Op) {
        let mut transfer = Transfer::idle();
        match transfer.load(token, op) {
            Some(result) => self.ready.push(transfer.complete(result)),
            None if transfer.is_socket() => self.sockets.push(transfer),
            None => self.waiting.push_back(transfer),
        }
    }

    fn cancel(&mut self, token: Token) {
        if let Some(mut transfer) = self.withdraw(token) {
            self.ready.push(transfer.complete(Err(cancelled())));
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        completions.append(&mut self.ready);
        // A time beyond the clock's range is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = timeout.filter(|_| deadline.is_some());
        self.hand_over();
        self.try_fresh(completions);
        loop {
            self.poll(if completions.len() > before { Some(Duration::ZERO) } else { left })?;
            let woke = self.collect(completions);
            self.hand_over();
            if woke || completions.len() > before {
                return Ok(());
            }
            if let Some(deadline) = deadline {
                let rest = deadline.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    return Ok(());
                }
                left = Some(rest);
            }
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.shared.wake.clone()
    }

    fn in_flight(&self) -> usize {
        self.ready.len() + self.sockets.len() + self.waiting.len() + self.handed_over
    }

    fn backend(&self) -> &'static str {
        "threads"
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut jobs = self.shared.jobs();
        self.shared.closing.store(true, Ordering::Release);
        let queued = std::mem::take(&mut jobs.queue);
        self.shared.work.notify_all();
        // The running ones own their memory; waiting only keeps them from outliving their descriptors. One that
        // hangs in the kernel for longer holds the file itself.
        let idle = self.shared.idle.wait_timeout_while(jobs, DRAIN_LIMIT, |jobs| jobs.running > 0);
        drop((idle, queued));
    }
}
