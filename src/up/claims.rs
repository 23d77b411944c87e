//! Which driver of a vPool a volume belongs to: `/ovs/vpools/<guid>/volumes/<volume>/config` in the store. A claim is
//! written before the volume is made, so that two drivers never make the same one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cfg_client::{Compare, Content, Error, KeyPath, KeyRange, Store, Transaction, Write};
use serde_json::{Value as Json, json};

use crate::admin::api::{ApiError, ErrorKind};

/// Claims that are written together; a transaction takes 128 operations.
const TOGETHER: usize = 60;
/// Tries against others who change the same claim.
const TRIES: usize = 8;

/// The claims of one driver.
pub(crate) struct Claims {
    store: Store,
    /// `/ovs/vpools/<guid>/volumes`
    folder: KeyPath,
    owner: String,
}

/// What a comparison with the volumes that are there found.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Volumes here that belong to another driver, and to which one.
    pub(super) foreign: BTreeMap<String, String>,
    /// Volumes that had no claim and have one now.
    pub(super) claimed: usize,
    /// Claims of volumes that are not here any more.
    pub(super) released: usize,
}

impl Claims {
    /// Those of `owner` in the vPool.
    pub(super) fn new(store: Store, vpool_guid: &str, owner: &str) -> Result<Claims, Error> {
        let folder = KeyPath::parse(&format!("/ovs/vpools/{vpool_guid}/volumes"))?;
        Ok(Claims { store, folder, owner: owner.to_owned() })
    }

    fn key(&self, volume: &str) -> Result<KeyPath, Error> {
        self.folder.join(&format!("{volume}/config"))
    }

    fn document(&self) -> Bytes {
        json!({"vrouter_id": self.owner}).to_string().into()
    }

    /// Takes the volume for this driver; it may be its own already.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] with the owner, when it is another's; [`ErrorKind::Unavailable`].
    pub(crate) async fn claim(&self, volume: &str) -> Result<(), ApiError> {
        let failed = |error: &Error| self.failed(volume, error);
        let key = self.key(volume).map_err(|error| failed(&error))?;
        for _ in 0..TRIES {
            match self.store.get(&key, None).await {
                Ok(pair) => {
                    let owner = owner_of(&pair.value).unwrap_or_default();
                    if owner == self.owner {
                        return Ok(());
                    }
                    return Err(ApiError::new(
                        ErrorKind::Exists,
                        format!(
                            "the volume {volume} belongs to the driver {owner}; ask that one, or choose another name"
                        ),
                    ));
                }
                Err(Error::Absent { .. }) => {}
                Err(error) => return Err(failed(&error)),
            }
            let unclaimed = Compare::Unchanged { key: key.clone(), mod_revision: 0 };
            let write = Write::put(&key, self.document());
            let claim = Transaction { compares: vec![unclaimed], writes: vec![write] };
            match self.store.transact(&claim).await {
                Ok(_) => return Ok(()),
                // Somebody was quicker, perhaps this one in an attempt whose answer was lost: look again.
                Err(Error::Conflict | Error::Unknown { .. }) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        let message = format!("the claim of the volume {volume} keeps changing; try again");
        Err(ApiError::new(ErrorKind::Unavailable, message))
    }

    /// Whose the volume is; `None`: nobody's.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub(crate) async fn owner(&self, volume: &str) -> Result<Option<String>, ApiError> {
        let key = self.key(volume).map_err(|error| self.failed(volume, &error))?;
        match self.store.get(&key, None).await {
            Ok(pair) => Ok(owner_of(&pair.value)),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(self.failed(volume, &error)),
        }
    }

    /// All volumes of the vPool.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub(crate) async fn volumes(&self) -> Result<BTreeSet<String>, ApiError> {
        let failed = |error: Error| {
            let message = format!(
                "the volumes of the vPool cannot be listed: {error}; try again when the store answers"
            );
            ApiError::new(ErrorKind::Unavailable, message)
        };
        let listing = self.store.list(&self.folder.below(), Content::Keys, None).await.map_err(failed)?;
        Ok(listing.pairs.iter().filter_map(|pair| self.volume_of(&pair.key)).collect())
    }

    /// Gives the volume up. What is not this driver's stays.
    pub(crate) async fn release(&self, volume: &str) -> Result<(), ApiError> {
        let key = self.key(volume).map_err(|error| self.failed(volume, &error))?;
        let mine = Compare::Value { key: key.clone(), value: self.document() };
        let release = Transaction { compares: vec![mine], writes: vec![Write::Delete(KeyRange::from(&key))] };
        match self.store.transact(&release).await {
            Ok(_) | Err(Error::Conflict) => Ok(()),
            Err(error) => Err(self.failed(volume, &error)),
        }
    }

    /// Brings the claims in line with the volumes that are here: those without a claim get one, as volumes that are
    /// older than claims do, and claims without a volume go.
    pub(super) async fn settle(&self, volumes: &BTreeSet<String>) -> Result<Settled, Error> {
        let listing = self.store.list(&self.folder.below(), Content::Values, None).await?;
        let mut owners = BTreeMap::new();
        for pair in &listing.pairs {
            let Some(volume) = self.volume_of(&pair.key) else { continue };
            owners.insert(volume, owner_of(&pair.value).unwrap_or_default());
        }
        let mut settled = Settled::default();
        let missing: Vec<&String> = volumes.iter().filter(|volume| !owners.contains_key(*volume)).collect();
        for together in missing.chunks(TOGETHER) {
            let mut claim = Transaction::default();
            for volume in together {
                let key = self.key(volume)?;
                claim.writes.push(Write::put(&key, self.document()));
                claim.compares.push(Compare::Unchanged { key, mod_revision: 0 });
            }
            self.store.transact(&claim).await?;
            settled.claimed += together.len();
        }
        for (volume, owner) in owners {
            match (owner == self.owner, volumes.contains(&volume)) {
                (false, true) => {
                    settled.foreign.insert(volume, owner);
                }
                (true, false) => {
                    let key = self.key(&volume)?;
                    let mine = Compare::Value { key: key.clone(), value: self.document() };
                    let writes = vec![Write::Delete(KeyRange::from(&key))];
                    self.store.transact(&Transaction { compares: vec![mine], writes }).await?;
                    settled.released += 1;
                }
                _ => {}
            }
        }
        Ok(settled)
    }

    fn volume_of(&self, key: &[u8]) -> Option<String> {
        let below = str::from_utf8(key).ok()?.strip_prefix(&self.folder.folder())?;
        below.strip_suffix("/config").map(str::to_owned)
    }

    fn failed(&self, volume: &str, error: &Error) -> ApiError {
        let message =
            format!("whose volume {volume} is cannot be settled: {error}; try again when the store answers");
        ApiError::new(ErrorKind::Unavailable, message)
    }
}

fn owner_of(document: &[u8]) -> Option<String> {
    let document: Json = serde_json::from_slice(document).ok()?;
    document["vrouter_id"].as_str().map(str::to_owned)
}
