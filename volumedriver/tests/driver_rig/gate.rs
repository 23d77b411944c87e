//! I/O that stands between a data thread and its ring: it holds reads or writes of the disk back, and stops the thread
//! altogether, until the test says otherwise; and it remembers how large they were.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use uring::{Backend, Completion, Io, Op, RingOptions, Token, Wake};
use volumedriver::driver::IoFactory;

/// How long a thread may take to come to the gate.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    hold_reads: bool,
    hold_writes: bool,
    stalled: bool,
    /// A thread does nothing because of it.
    stands: bool,
    held_reads: Vec<usize>,
    held_writes: Vec<usize>,
    largest_read: usize,
    largest_write: usize,
    wakes: Vec<Arc<dyn Wake>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        self.changed.notify_all();
        state.wakes.iter().for_each(|wake| wake.wake());
    }

    pub(crate) fn hold_reads(&self, hold: bool) {
        self.change(|state| state.hold_reads = hold);
    }

    pub(crate) fn hold_writes(&self, hold: bool) {
        self.change(|state| state.hold_writes = hold);
    }

    /// Holds nothing any more.
    pub(crate) fn open(&self) {
        self.change(|state| (state.hold_reads, state.hold_writes, state.stalled) = (false, false, false));
    }

    /// The thread does nothing at all until it is no longer stalled. Returns when it stands.
    pub(crate) fn stall(&self, stalled: bool) {
        self.change(|state| state.stalled = stalled);
        if stalled {
            let state = self.state.lock().unwrap();
            let (_state, waited) =
                self.changed.wait_timeout_while(state, PATIENCE, |state| !state.stands).unwrap();
            assert!(!waited.timed_out(), "no thread came to the gate");
        }
    }

    /// Bytes of each write that is held.
    pub(crate) fn held_writes(&self) -> Vec<usize> {
        self.state.lock().unwrap().held_writes.clone()
    }

    /// Bytes of each read that is held.
    pub(crate) fn held_reads(&self) -> Vec<usize> {
        self.state.lock().unwrap().held_reads.clone()
    }

    /// Bytes of the largest read and the largest write since the last question.
    pub(crate) fn take_largest(&self) -> (usize, usize) {
        let mut state = self.state.lock().unwrap();
        (std::mem::take(&mut state.largest_read), std::mem::take(&mut state.largest_write))
    }

    pub(crate) fn factory(self: &Arc<Self>) -> IoFactory {
        let gate = self.clone();
        Arc::new(move || {
            let (inner, probe) = uring::open(Backend::Auto, &RingOptions::default())?;
            gate.state.lock().unwrap().wakes.push(inner.waker());
            Ok((Box::new(Gated { inner, gate: gate.clone(), held: Vec::new() }), probe.to_string()))
        })
    }
}

struct Gated {
    inner: Box<dyn Io>,
    gate: Arc<Gate>,
    held: Vec<(Token, Op)>,
}

impl Io for Gated {
    fn submit(&mut self, token: Token, op: Op) {
        let mut state = self.gate.state.lock().unwrap();
        let held = match &op {
            Op::Read { buf, .. } => {
                state.largest_read = state.largest_read.max(buf.len());
                if state.hold_reads {
                    state.held_reads.push(buf.len());
                }
                state.hold_reads
            }
            Op::Write { data, .. } => {
                let length = data.iter().map(|part| part.len()).sum();
                state.largest_write = state.largest_write.max(length);
                if state.hold_writes {
                    state.held_writes.push(length);
                }
                state.hold_writes
            }
            _ => false,
        };
        drop(state);
        if held { self.held.push((token, op)) } else { self.inner.submit(token, op) }
    }

    fn cancel(&mut self, token: Token) {
        self.inner.cancel(token);
    }

    fn wait(&mut self, timeout: Option<Duration>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut state = self.gate.state.lock().unwrap();
        state.stands = state.stalled;
        if state.stands {
            self.gate.changed.notify_all();
            state = self.gate.changed.wait_while(state, |state| state.stalled).unwrap();
            state.stands = false;
        }
        for (token, op) in std::mem::take(&mut self.held) {
            let (hold, held) = match &op {
                Op::Read { .. } => (state.hold_reads, &mut state.held_reads),
                _ => (state.hold_writes, &mut state.held_writes),
            };
            if hold {
                self.held.push((token, op));
            } else {
                held.clear();
                self.inner.submit(token, op);
            }
        }
        drop(state);
        self.inner.wait(timeout, completions)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len()
    }

    fn backend(&self) -> &'static str {
        self.inner.backend()
    }
}
