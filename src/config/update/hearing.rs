//! What is heard of the hosts of a vPool: whether they live, whether they are frozen, and their answers.

use std::collections::BTreeMap;

use cfg_client::{Event, Item, Pair, Store, Watch};
use cfg_engine::{Feedback, Heard};

use super::targets::Targets;
use crate::config::failure_of;
use crate::failure::Failure;

/// A watch of all hosts of a vPool.
#[derive(Debug)]
pub(in crate::config) struct Hearing {
    watch: Watch,
    /// `/ovs/vpools/GUID/hosts/`
    folder: String,
    hosts: BTreeMap<String, Heard>,
}

impl Hearing {
    /// Hears nothing before the first [`Hearing::next`], which tells all there is.
    pub(in crate::config) fn new(store: &Store, targets: &Targets) -> Result<Hearing, Failure> {
        let path = targets.hosts()?;
        Ok(Hearing { watch: store.watch(&path, None), folder: path.folder(), hosts: BTreeMap::new() })
    }

    /// What is known now.
    pub(in crate::config) fn hosts(&self) -> &BTreeMap<String, Heard> {
        &self.hosts
    }

    /// Waits for news. It can be dropped while it waits, and nothing is lost.
    pub(in crate::config) async fn next(&mut self) -> Result<(), Failure> {
        match self.watch.next().await.map_err(failure_of)? {
            Item::Listed(listing) => {
                self.hosts.clear();
                listing.pairs.iter().for_each(|pair| self.put(pair));
            }
            Item::Changed { events, .. } => {
                for event in events {
                    match event {
                        Event::Put(pair) => self.put(&pair),
                        Event::Deleted(key) => self.deleted(&key),
                    }
                }
            }
        }
        Ok(())
    }

    /// The host of a key, and what stands behind it.
    fn host<'k>(&mut self, key: &'k [u8]) -> Option<(&mut Heard, &'k str)> {
        let (host, rest) = str::from_utf8(key).ok()?.strip_prefix(&self.folder)?.split_once('/')?;
        Some((self.hosts.entry(host.to_owned()).or_default(), rest))
    }

    fn put(&mut self, pair: &Pair) {
        let Some((heard, name)) = self.host(&pair.key) else { return };
        match name {
            "status" => heard.live = true,
            "frozen" => heard.frozen = true,
            name => {
                let Some(id) = name.strip_prefix("feedback/") else { return };
                match Feedback::read(&pair.value) {
                    Ok(feedback) if feedback.id == id => drop(heard.feedback.insert(id.to_owned(), feedback)),
                    // What is no answer answers nothing.
                    _ => drop(heard.feedback.remove(id)),
                }
            }
        }
    }

    fn deleted(&mut self, key: &[u8]) {
        let Some((heard, name)) = self.host(key) else { return };
        match name {
            "status" => heard.live = false,
            "frozen" => heard.frozen = false,
            // An answer that was trimmed was given all the same.
            _ => {}
        }
    }
}
