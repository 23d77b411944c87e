//! Takes updates of the configuration for a process: drives [`cfg_engine::Engine`], which decides, with the store,
//! which is watched and written, and with the components, which prepare and commit.
//!
//! One task owns the engine. What takes time runs beside it and comes back as an input.

pub(crate) mod component;
mod drive;
mod keeping;
pub(crate) mod place;
pub(crate) mod reading;
#[cfg(test)]
mod tests;
mod timing;
mod watching;
mod writing;

use std::path::PathBuf;

use cfg_client::Store;
use cfg_engine::{Process, Start};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use volumedriver::parameters::Parameters;

use self::component::Component;
use self::drive::Drive;
use self::place::Place;
use self::timing::{Tempo, Timing};

/// What an agent works with.
pub(crate) struct Surroundings {
    /// The store.
    pub(crate) store: Store,
    /// Where the process has its keys.
    pub(crate) place: Place,
    /// The URL of its documents, for the last good copy.
    pub(crate) url: String,
    /// The file of the last good copy.
    pub(crate) last_good: PathBuf,
    /// Who it is.
    pub(crate) process: Process,
    /// Those who take parameters.
    pub(crate) components: Vec<Box<dyn Component>>,
}

/// An agent at work.
#[derive(Debug)]
pub(crate) struct Agent {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// `None`: it was waited for.
    announced: Option<oneshot::Receiver<()>>,
    timing: watch::Receiver<Timing>,
}

impl Agent {
    /// Begins: from now on updates are taken.
    pub(crate) fn start(mut surroundings: Surroundings, start: Start<Parameters>) -> Agent {
        let (tempo, timing) = watch::channel(Timing::new(&start.values));
        surroundings.components.push(Box::new(Tempo(tempo)));
        let (stop, stopped) = oneshot::channel();
        let (announce, announced) = oneshot::channel();
        let drive = Drive::new(surroundings, timing.clone(), announce);
        let task = tokio::spawn(drive.run(start, stopped));
        Agent { stop, task, announced: Some(announced), timing }
    }

    /// Waits until the status of the process is stored, so that whoever asks for an update finds it alive, and until
    /// its last good copy is written, so that it starts again without the store; not while the store is away.
    pub(crate) async fn announced(&mut self) {
        let Some(announced) = self.announced.take() else { return };
        let wait = self.timing.borrow().announcement;
        if timeout(wait, announced).await.is_err() {
            tracing::warn!("the store does not take the status of this process yet");
        }
    }

    /// Answers what can be answered, takes the status away, and ends.
    pub(crate) async fn stop(self) {
        let Agent { stop, mut task, announced: _, timing } = self;
        // It may have ended.
        let _ = stop.send(());
        let wait = timing.borrow().parting;
        if timeout(wait, &mut task).await.is_err() {
            tracing::warn!("the store does not take the last words of this process");
            task.abort();
        }
    }
}
