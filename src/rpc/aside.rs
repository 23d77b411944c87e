//! Work that takes the processor for milliseconds, such as reading a long document: one piece at a time, on a thread
//! that gives way to those that do I/O.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::sync::{mpsc, oneshot};
use volumedriver::limits::give_way;

/// How far its thread gives way: it gets a tenth of what another thread gets that wants the processor, too.
const NICENESS: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped and what waits is done.
pub(super) struct Aside(mpsc::Sender<Work>);

impl Aside {
    /// Starts the thread; at most `waiting` pieces of work wait for it, further ones where they come from.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(waiting: usize) -> io::Result<Aside> {
        let (sender, mut receiver) = mpsc::channel::<Work>(waiting.max(1));
        thread::Builder::new().name("ovs-rpc-aside".to_owned()).spawn(move || {
            if let Err(error) = give_way(NICENESS) {
                tracing::warn!(%error, "long requests of the admin RPC are worked on beside I/O, not behind it");
            }
            while let Some(work) = receiver.blocking_recv() {
                // What breaks down ends itself alone: whoever waits for it sees that.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("a request of the admin RPC broke down");
                }
            }
        })?;
        Ok(Aside(sender))
    }

    /// Does `work` there; `None`: it broke down.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        // Who asked may be gone by then.
        let work = Box::new(move || drop(sender.send(work())));
        self.0.send(work).await.ok()?;
        receiver.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_down_takes_nothing_along() {
        let aside = Aside::start(1).expect("a thread");
        assert_eq!(aside.run(|| -> u8 { panic!("as meant") }).await, None);
        assert_eq!(aside.run(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn work_is_done_on_another_thread_in_its_order() {
        let aside = Aside::start(1).expect("a thread");
        let name = || thread::current().name().map(str::to_owned);
        let (first, second) = tokio::join!(aside.run(name), aside.run(|| 7));
        assert_eq!((first.flatten().as_deref(), second), (Some("ovs-rpc-aside"), Some(7)));
    }
}
