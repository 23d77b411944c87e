//! `ovs config freeze` and `thaw`: while the key `frozen` of a host is there, no update reaches it.

use std::collections::BTreeSet;

use cfg_client::{Content as ListContent, KeyPath, Pair};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::change::{Edit, Intent};
use crate::config::check::Check;
use crate::config::host::{Host, VPOOLS};
use crate::config::write::TRIES;
use crate::config::{Session, author, failure_of};
use crate::failure::{Failure, Kind};

/// The name of the key, beside `update`.
pub(in crate::config) const FROZEN: &str = "frozen";

/// Its value.
#[derive(Debug, Serialize, Deserialize)]
struct Frozen {
    /// `user@host`
    by: String,
    /// Why.
    #[serde(default)]
    note: Option<String>,
    /// Since when, as in RFC 3339.
    since: String,
}

impl Session {
    pub(in crate::config) async fn freeze(
        &self,
        id: &str,
        vpool: Option<&str>,
        note: Option<String>,
    ) -> Result<(), Failure> {
        let (host, intent) = (self.host(id, vpool).await?, Intent::new("freeze", note.clone())?);
        let key = host.key(FROZEN)?;
        let frozen = Frozen { by: intent.by.clone(), note, since: author::now() };
        let value = serde_json::to_vec(&frozen)
            .map_err(|error| Failure::failed(format!("{key} cannot be written as JSON: {error}")))?;
        for _ in 0..TRIES {
            if let Some(pair) = self.current(&key).await? {
                return Err(Failure::new(
                    Kind::Conflict,
                    format!("{host} is frozen already{}", since(&pair)),
                ));
            }
            let edit = Edit { key: key.clone(), before: None, after: Some(value.clone()), other: None };
            if let Some(done) = self.commit(&[edit], &intent, Check::Made).await? {
                let revision = done.revision;
                let result =
                    json!({"vpool": host.vpool, "host": host.id, "frozen": true, "revision": revision});
                return self.show(&result, || {
                    format!("froze {host} at revision {revision}: no update reaches it until `ovs config thaw {id}`")
                });
            }
        }
        Err(crate::config::write::busy(&key))
    }

    pub(in crate::config) async fn thaw(
        &self,
        id: &str,
        vpool: Option<&str>,
        note: Option<String>,
    ) -> Result<(), Failure> {
        let (host, intent) = (self.host(id, vpool).await?, Intent::new("thaw", note)?);
        let key = host.key(FROZEN)?;
        for _ in 0..TRIES {
            let Some(pair) = self.current(&key).await? else {
                return Err(Failure::new(Kind::Conflict, format!("{host} is not frozen")));
            };
            let was = since(&pair);
            let edit = Edit { key: key.clone(), before: Some(pair), after: None, other: None };
            if let Some(done) = self.commit(&[edit], &intent, Check::Made).await? {
                let revision = done.revision;
                let result =
                    json!({"vpool": host.vpool, "host": host.id, "frozen": false, "revision": revision});
                return self
                    .show(&result, || format!("thawed {host} at revision {revision}; it was frozen{was}"));
            }
        }
        Err(crate::config::write::busy(&key))
    }

    /// The host of this id, in the given vPool or in the only one that has it.
    async fn host(&self, id: &str, vpool: Option<&str>) -> Result<Host, Failure> {
        let hosts: Vec<Host> =
            self.all_hosts(vpool).await?.into_iter().filter(|host| host.id == id).collect();
        match hosts.as_slice() {
            [host] => Ok(host.clone()),
            [] => {
                let place = vpool.map_or(String::new(), |vpool| format!(" in the vPool {vpool}"));
                Err(Failure::not_found(format!("there is no host {id:?} with a configuration{place}")))
            }
            hosts => {
                let vpools: Vec<&str> = hosts.iter().map(|host| host.vpool.as_str()).collect();
                let message =
                    format!("there is a host {id:?} in the vPools {}; give --vpool", vpools.join(", "));
                Err(Failure::usage(message))
            }
        }
    }

    /// The hosts that have a configuration, of one vPool or of all.
    pub(in crate::config) async fn all_hosts(&self, vpool: Option<&str>) -> Result<BTreeSet<Host>, Failure> {
        let path = match vpool {
            Some(vpool) => format!("{VPOOLS}/{vpool}/hosts"),
            None => VPOOLS.to_owned(),
        };
        let path = KeyPath::parse(&path).map_err(failure_of)?;
        let listing = self.store.list(&path.below(), ListContent::Keys, None).await.map_err(failure_of)?;
        let hosts = listing.pairs.iter().filter_map(|pair| {
            let (host, rest) = Host::of(str::from_utf8(&pair.key).ok()?)?;
            rest.starts_with("config/").then_some(host)
        });
        Ok(hosts.collect())
    }
}

/// By whom, since when and why, as far as the value says.
fn since(pair: &Pair) -> String {
    let Ok(Frozen { by, note, since }) = serde_json::from_slice(&pair.value) else { return String::new() };
    let note = note.map_or(String::new(), |note| format!(" ({note})"));
    format!(", by {by} since {since}{note}")
}
