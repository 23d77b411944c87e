//! News from the store: update keys that are written, documents that change, a process that is frozen.

use cfg_client::{Event, Item, KeyPath, Store, Watch};
use cfg_engine::{Scope, UpdateKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::place::Place;
use super::timing::Timing;

/// What one watch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// An update key.
    Update(Scope),
    /// The documents.
    Documents,
    /// Whether the process is frozen.
    Frozen,
}

/// What is heard.
#[derive(Debug)]
pub(crate) enum News {
    /// An update key was written.
    Update(UpdateKey),
    /// The documents are others since this revision.
    Documents(i64),
    /// The process is frozen or thawed since this revision.
    Frozen(i64, bool),
    /// Something may have been missed, and has to be looked up.
    Missed,
    /// A watch does not reach the store; it tries again.
    Away,
}

/// Watches everything that concerns the process over one stream, from revision `from` on; without it all is news at
/// first.
pub(crate) fn watch(
    store: &Store,
    place: &Place,
    from: Option<i64>,
    timing: &watch::Receiver<Timing>,
    news: &mpsc::Sender<News>,
) -> JoinSet<()> {
    let subjects = [
        (Subject::Update(Scope::Host), place.update.clone()),
        (Subject::Update(Scope::VPool), place.vpool_update.clone()),
        (Subject::Documents, place.config.clone()),
        (Subject::Frozen, place.frozen.clone()),
    ];
    let watch = store.watch_all(&subjects.each_ref().map(|(_, path)| path.clone()), from);
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(watch, subjects.into(), timing.clone(), news.clone()));
    tasks
}

/// `subjects` are those of the watch, in its order.
async fn follow(
    mut watch: Watch,
    subjects: Vec<(Subject, KeyPath)>,
    timing: watch::Receiver<Timing>,
    news: mpsc::Sender<News>,
) {
    loop {
        let heard = match watch.next_of().await {
            Ok((_, Item::Listed(_))) => vec![News::Missed],
            Ok((place, Item::Changed { revision, events })) => match subjects.get(place) {
                Some((subject, path)) => heard(*subject, path, revision, events),
                None => continue,
            },
            Err(error) => {
                tracing::debug!(%error, "nothing is watched now");
                vec![News::Away]
            }
        };
        let away = matches!(heard[..], [News::Away]);
        for one in heard {
            // Nobody listens any more: the process ends.
            if news.send(one).await.is_err() {
                return;
            }
        }
        if away {
            let retry = timing.borrow().retry;
            sleep(retry).await;
        }
    }
}

/// What the changes of one revision mean.
fn heard(subject: Subject, path: &KeyPath, revision: i64, events: Vec<Event>) -> Vec<News> {
    match subject {
        Subject::Documents => vec![News::Documents(revision)],
        Subject::Frozen => {
            let of_key = |event: &Event| match event {
                Event::Put(pair) => (pair.key == path.as_str()).then_some(true),
                Event::Deleted(key) => (key == path.as_str()).then_some(false),
            };
            events.iter().filter_map(of_key).map(|frozen| News::Frozen(revision, frozen)).collect()
        }
        Subject::Update(scope) => events
            .into_iter()
            .filter_map(|event| match event {
                Event::Put(pair) if pair.key == path.as_str() => Some(News::Update(UpdateKey {
                    scope,
                    revision: pair.mod_revision,
                    value: pair.value.to_vec(),
                })),
                // A key that goes asks for nothing; what lies below it is not ours.
                Event::Put(_) | Event::Deleted(_) => None,
            })
            .collect(),
    }
}
