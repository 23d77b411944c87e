//! Letters to a thread that sleeps in its ring: a bounded queue and a wake.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use uring::Wake;

/// See the module. Posted to from any thread, read by its owner alone.
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    room: Condvar,
    capacity: usize,
    wake: OnceLock<Arc<dyn Wake>>,
}

struct State<T> {
    letters: VecDeque<T>,
    closed: bool,
}

/// Why a letter came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// The owner is behind.
    Full(T),
    /// The owner is gone.
    Closed(T),
}

impl<T> Mailbox<T> {
    /// A mailbox for at most `capacity` letters.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { letters: VecDeque::new(), closed: false }),
            room: Condvar::new(),
            capacity,
            wake: OnceLock::new(),
        })
    }

    /// Says how the owner is woken, and wakes it: nobody did for letters that were posted before.
    pub fn set_wake(&self, wake: Arc<dyn Wake>) {
        self.wake.get_or_init(|| wake).wake();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Every change of the state is a single step: it is whole even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts without waiting.
    pub fn try_post(&self, letter: T) -> Result<(), Refused<T>> {
        let state = self.state();
        if state.closed {
            return Err(Refused::Closed(letter));
        }
        if state.letters.len() >= self.capacity {
            return Err(Refused::Full(letter));
        }
        self.put(state, letter);
        Ok(())
    }

    /// Posts, and waits while the mailbox is full: for background threads. `false`: the owner is gone.
    pub fn post(&self, letter: T) -> bool {
        let state = self.state();
        let state = self
            .room
            .wait_while(state, |state| !state.closed && state.letters.len() >= self.capacity)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        self.put(state, letter);
        true
    }

    /// Posts, also into a full box: for a letter that must arrive and is rare. `false`: the owner is gone.
    pub fn post_in_any_case(&self, letter: T) -> bool {
        let state = self.state();
        if state.closed {
            return false;
        }
        self.put(state, letter);
        true
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, letter: T) {
        // Who posts into an empty box wakes; the owner always empties it.
        let first = state.letters.is_empty();
        state.letters.push_back(letter);
        drop(state);
        if first && let Some(wake) = self.wake.get() {
            wake.wake();
        }
    }

    /// Takes all letters; `into` is empty and its memory is reused for the box.
    pub fn take_all(&self, into: &mut VecDeque<T>) {
        debug_assert!(into.is_empty());
        let mut state = self.state();
        if state.letters.is_empty() {
            return;
        }
        std::mem::swap(&mut state.letters, into);
        drop(state);
        self.room.notify_all();
    }

    /// Takes no more letters, and drops those inside.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let letters = std::mem::take(&mut state.letters);
        drop(state);
        self.room.notify_all();
        drop(letters);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn one_wake_for_many_letters_and_never_more_than_fit() {
        let bell = Arc::new(Bell::default());
        let mailbox = Mailbox::new(2);
        mailbox.set_wake(bell.clone());
        assert_eq!(mailbox.try_post(1), Ok(()));
        assert_eq!(mailbox.try_post(2), Ok(()));
        assert_eq!(mailbox.try_post(3), Err(Refused::Full(3)));
        assert!(mailbox.post_in_any_case(5));
        assert_eq!(bell.0.load(Ordering::SeqCst), 2, "one at the start, one for all letters");
        let mut letters = VecDeque::new();
        mailbox.take_all(&mut letters);
        assert_eq!(letters, [1, 2, 5]);
        assert!(mailbox.post(4));
        assert_eq!(bell.0.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn letters_from_before_the_owner_came_wake_it() {
        let bell = Arc::new(Bell::default());
        let mailbox = Mailbox::new(2);
        assert!(mailbox.post(1));
        mailbox.set_wake(bell.clone());
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_full_box_makes_posters_wait_until_it_is_emptied_or_closed() {
        let mailbox = Mailbox::new(1);
        assert!(mailbox.post(0));
        let poster = std::thread::spawn({
            let mailbox = mailbox.clone();
            move || (mailbox.post(1), mailbox.post(2))
        });
        let mut letters = VecDeque::new();
        let mut seen = Vec::new();
        while seen != [0, 1] {
            mailbox.take_all(&mut letters);
            seen.extend(letters.drain(..));
            std::thread::yield_now();
        }
        mailbox.close();
        let (first, _) = poster.join().unwrap();
        assert!(first);
        assert_eq!(mailbox.try_post(3), Err(Refused::Closed(3)));
        assert!(!mailbox.post(3) && !mailbox.post_in_any_case(3));
    }
}
