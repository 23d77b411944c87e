//! `ovs config watch`

use std::io::{self, Write};

use cfg_client::{Content as ListContent, Event, Item, KeyPath, Pair};
use serde_json::{Value as Json, json};

use super::change::is_internal;
use super::read::text;
use super::secret::Content;
use super::{Session, failure_of};
use crate::failure::Failure;

/// What one change is shown as.
struct Shown {
    key: String,
    /// `None`: deleted.
    value: Option<Content>,
}

impl Session {
    pub(super) async fn watch(
        &self,
        prefix: &KeyPath,
        from: Option<i64>,
        show_secrets: bool,
    ) -> Result<(), Failure> {
        let from = match from {
            Some(from) => from,
            None => {
                self.store.list(&prefix.into(), ListContent::Keys, None).await.map_err(failure_of)?.revision
                    + 1
            }
        };
        let mut watch = self.store.watch(prefix, Some(from));
        let inside = is_internal(prefix.as_str().as_bytes());
        let visible = |key: &[u8]| inside || !is_internal(key);
        let put = |pair: &Pair| {
            let key = String::from_utf8_lossy(&pair.key).into_owned();
            visible(&pair.key).then(|| Shown { key, value: Some(masked(pair, show_secrets)) })
        };
        loop {
            let item = tokio::select! {
                item = watch.next() => item.map_err(failure_of)?,
                signal = tokio::signal::ctrl_c() => {
                    return signal.map_err(|error| Failure::failed(format!("signals cannot be received: {error}")));
                }
            };
            let (revision, listed, changes): (i64, bool, Vec<Shown>) = match &item {
                Item::Listed(listing) => {
                    (listing.revision, true, listing.pairs.iter().filter_map(put).collect())
                }
                Item::Changed { revision, events } => {
                    let changes = events.iter().filter_map(|event| match event {
                        Event::Put(pair) => put(pair),
                        Event::Deleted(key) => visible(key)
                            .then(|| Shown { key: String::from_utf8_lossy(key).into_owned(), value: None }),
                    });
                    (*revision, false, changes.collect())
                }
            };
            if (listed || !changes.is_empty()) && !self.print(revision, listed, &changes)? {
                return Ok(());
            }
        }
    }

    /// Prints one revision; `false`: nobody reads any more.
    fn print(&self, revision: i64, listed: bool, changes: &[Shown]) -> Result<bool, Failure> {
        let output = if self.json {
            let changes: Vec<Json> = changes
                .iter()
                .map(|change| match &change.value {
                    Some(value) => json!({"key": change.key, "value": value.shown()}),
                    None => json!({"key": change.key, "deleted": true}),
                })
                .collect();
            let name = if listed { "listed" } else { "changed" };
            format!("{}\n", json!({"revision": revision, name: changes}))
        } else {
            let mut output = match listed {
                true => {
                    format!("{revision} what changed before was compacted away; this is what there is now\n")
                }
                false => String::new(),
            };
            for change in changes {
                output.push_str(&match &change.value {
                    Some(value) if listed => format!("{revision} is {} {}\n", change.key, text(value)),
                    Some(value) => format!("{revision} set {} {}\n", change.key, text(value)),
                    None => format!("{revision} deleted {}\n", change.key),
                });
            }
            output
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        }
    }
}

fn masked(pair: &Pair, show_secrets: bool) -> Content {
    let mut content = Content::of(&pair.value);
    // A key that ovs would not take has no name by which its secrets could be known inside.
    if let (false, Ok(key)) = (show_secrets, super::write::key_of(pair)) {
        content.mask(&key);
    }
    content
}
