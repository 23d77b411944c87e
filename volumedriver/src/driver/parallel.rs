//! The same work on many things by a few threads: at start, where it blocks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

/// Does `work` on all of `items` with `threads` threads; the results in the items' order. `step` hears on this thread
/// how many are done.
pub(super) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    mut step: impl FnMut(usize),
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let (sender, results) = sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    if sender.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut done: Vec<(usize, R)> = Vec::with_capacity(items.len());
        for result in results {
            done.push(result);
            step(done.len());
        }
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_every_step_is_told() {
        let items: Vec<u64> = (0..100).collect();
        let mut steps = Vec::new();
        let squares = map(&items, 4, |&item| item * item, |done| steps.push(done));
        assert_eq!(squares, items.iter().map(|item| item * item).collect::<Vec<_>>());
        assert_eq!(steps, (1..=100).collect::<Vec<_>>());
        assert!(map(&[] as &[u64], 4, |item| *item, |_| ()).is_empty());
    }
}
