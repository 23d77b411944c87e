//! The last good copy of a process that runs: written a while after the change, so that nobody who waits for an answer
//! of this process, or of another one of the same machine, waits for this disk too. One at a time; of those that wait
//! the newest counts.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use cfg_client::{LastGood, Snapshot};
use cfg_schema::Documents;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Writes copies for one process.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The URL of the documents.
    url: String,
    cluster_id: Option<u64>,
    /// The file.
    path: PathBuf,
    /// What the copy holds or will hold, with its revision, and since when.
    newest: (i64, Documents, Instant),
    /// That is still to be written.
    due: bool,
    /// Of the copy that is being written; dropped, it does not wait any more.
    held: Option<oneshot::Sender<()>>,
    /// Nothing is waited for any more.
    hurried: bool,
    busy: bool,
}

impl Keeper {
    /// Copies of what is at `url`, to the file `path`.
    pub(super) fn new(url: String, cluster_id: Option<u64>, path: PathBuf) -> Keeper {
        let newest = (0, Documents::new(), Instant::now());
        Keeper { url, cluster_id, path, newest, due: false, held: None, hurried: false, busy: false }
    }

    /// The copy has these documents already.
    pub(super) fn holds(&mut self, revision: i64, documents: Documents) {
        self.newest = (revision, documents, Instant::now());
    }

    /// These documents are to be kept.
    pub(super) fn put(&mut self, revision: i64, documents: Documents) {
        self.newest = (revision, documents, Instant::now());
        self.due = true;
    }

    /// The store is heard of, so the copy may be as young as that; it is written again once it is older than `after`.
    pub(super) fn refresh(&mut self, after: Duration) {
        if self.newest.2.elapsed() >= after {
            self.newest.2 = Instant::now();
            self.due = true;
        }
    }

    /// What writes the next copy after `delay`, if there is one and none is being written. At its end [`Keeper::ended`]
    /// is due.
    pub(super) fn begin(&mut self, delay: Duration) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.busy || !std::mem::take(&mut self.due) {
            return None;
        }
        self.busy = true;
        let (held, released) = oneshot::channel::<()>();
        self.held = Some(held).filter(|_| !self.hurried);
        let (revision, documents, _) = &self.newest;
        let revision = u64::try_from(*revision).unwrap_or(0);
        let snapshot = Snapshot { revision, cluster_id: self.cluster_id, documents: documents.clone() };
        let copy = LastGood::new(&self.url, &snapshot, SystemTime::now());
        let path = self.path.clone();
        Some(async move {
            // Released, or it waited long enough: it is time.
            let _ = timeout(delay, released).await;
            let kept = spawn_blocking(move || copy.write(&path)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "no copy of the configuration is kept");
            }
        })
    }

    /// The copy that is being written does not wait any more.
    pub(super) fn hurry(&mut self) {
        self.held = None;
    }

    /// The process ends: nothing is to be waited for.
    pub(super) fn release(&mut self) {
        (self.held, self.hurried) = (None, true);
    }

    /// A copy is written.
    pub(super) fn ended(&mut self) {
        (self.busy, self.held) = (false, None);
    }

    /// Whether nothing is being written.
    pub(super) fn is_idle(&self) -> bool {
        !self.busy
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The revision of the copy at `path`.
    fn kept(path: &Path) -> Option<u64> {
        LastGood::read(path).ok().map(|copy| copy.revision)
    }

    #[tokio::test]
    async fn the_newest_is_kept_once_it_is_released_or_waited_long_enough() {
        let directory = std::env::temp_dir().join(format!("ovs-keeping-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("made");
        let path = directory.join("last_good");
        let mut keeper = Keeper::new("etcd://h/c".to_owned(), Some(1), path.clone());
        let (long, short) = (Duration::from_secs(3600), Duration::from_millis(1));
        assert!(keeper.begin(short).is_none(), "nothing to write");
        keeper.put(5, Documents::new());
        let first = keeper.begin(long).expect("to be written");
        for revision in [6, 7] {
            keeper.put(revision, Documents::new());
        }
        assert!(keeper.begin(short).is_none() && !keeper.is_idle(), "one at a time");
        let mut first = tokio::spawn(first);
        assert!(timeout(10 * short, &mut first).await.is_err() && kept(&path).is_none(), "it waits");
        keeper.release();
        first.await.expect("no panic");
        assert_eq!(kept(&path), Some(5));
        keeper.ended();
        // Nobody releases this one.
        keeper.begin(short).expect("the newest").await;
        assert_eq!(kept(&path), Some(7));
        keeper.ended();
        assert!(keeper.begin(short).is_none() && keeper.is_idle());
        keeper.refresh(long);
        assert!(keeper.begin(short).is_none(), "it is young");
        keeper.refresh(Duration::ZERO);
        keeper.begin(short).expect("the same again").await;
        assert_eq!(kept(&path), Some(7));
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
