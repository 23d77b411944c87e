//! `ovs config set --vpool`: one value for every host of a vPool.

use std::collections::BTreeSet;

use cfg_client::{Content as ListContent, KeyPath};
use serde_json::json;

use super::change::Intent;
use super::check::{Check, Report};
use super::journal::Done;
use super::update::wanted::Wanted;
use super::write::{TRIES, busy};
use super::{Session, counted, failure_of};
use crate::failure::Failure;

impl Session {
    pub(super) async fn set_vpool(
        &self,
        guid: &str,
        section: &str,
        value: &str,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let hosts = KeyPath::parse(&format!("/ovs/vpools/{guid}/hosts")).map_err(failure_of)?;
        let wanted = [Wanted::parse(guid, section, value)?];
        let intent = Intent::new("set", note)?;
        for _ in 0..TRIES {
            let mut edits = Vec::new();
            let names = self.hosts(&hosts).await?;
            for host in &names {
                edits.extend(self.edits_of_values(guid, host, &wanted).await?);
            }
            let done = match edits.is_empty() {
                true => Some(Done { revision: 0, report: Report::default() }),
                false => self.commit(&edits, &intent, check).await?,
            };
            if let Some(Done { revision, report }) = done {
                let (set, so_already) = (edits.len(), names.len() - edits.len());
                let result =
                    json!({"vpool": guid, "set": set, "unchanged": so_already, "revision": revision});
                return self.show_changed(&report, result, || match set {
                    0 => format!("{section} is so already on all {} hosts", names.len()),
                    set => format!(
                        "set {} at revision {revision}; so already: {}",
                        counted(set),
                        counted(so_already)
                    ),
                });
            }
        }
        Err(busy(&hosts))
    }

    /// The hosts that have a configuration.
    async fn hosts(&self, hosts: &KeyPath) -> Result<BTreeSet<String>, Failure> {
        let listing = self.store.list(&hosts.below(), ListContent::Keys, None).await.map_err(failure_of)?;
        let folder = hosts.folder();
        let names = listing.pairs.iter().filter_map(|pair| {
            let (host, rest) = str::from_utf8(&pair.key).ok()?.strip_prefix(&folder)?.split_once('/')?;
            rest.starts_with("config/").then(|| host.to_owned())
        });
        let names: BTreeSet<String> = names.collect();
        match names.is_empty() {
            true => Err(Failure::not_found(format!("there is no host with a configuration at {hosts}"))),
            false => Ok(names),
        }
    }
}
