//! Whose a volume is, and where that driver is reached.

use cfg_client::Error;
use cfg_engine::Status;

use super::Server;
use super::failed::Failed;
use crate::agent::place::Place;
use crate::driver::VolumeName;

/// Where a driver's admin RPC is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, or an address without brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

impl Address {
    /// Of a URL such as `http://host:26201/RPC2`.
    pub(super) fn of_url(url: &str) -> Option<Address> {
        let (_, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let (host, port) = authority.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Address { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl Server {
    /// The owner of a volume, as the store knows it.
    pub(super) async fn owner(&self, volume: &str) -> Result<Option<String>, Failed> {
        // What cannot be a name is nobody's.
        if VolumeName::parse(volume).is_err() {
            return Ok(None);
        }
        Ok(self.node.claims()?.owner(volume).await?)
    }

    /// Another driver of the vPool, as it said last of itself; `None`: it never did.
    pub(super) async fn address_of(&self, vrouter_id: &str) -> Result<Option<Address>, Failed> {
        let Ok(place) = Place::of(&self.vpool_guid, vrouter_id) else { return Ok(None) };
        for key in [&place.status, &place.last_status] {
            match self.store.get(key, None).await {
                Ok(pair) => {
                    let url = Status::read(&pair.value).ok().and_then(|status| status.xmlrpc);
                    if let Some(address) = url.as_deref().and_then(Address::of_url) {
                        return Ok(Some(address));
                    }
                }
                Err(Error::Absent { .. } | Error::Key { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Where a request goes that names a driver; `None`: it is this one.
    pub(super) async fn route(&self, vrouter_id: &str) -> Result<Option<Address>, Failed> {
        if vrouter_id.is_empty() || vrouter_id == self.vrouter_id {
            return Ok(None);
        }
        let unknown = || {
            Failed::Other(format!(
                "Unknown cluster node {vrouter_id}: no driver of the vPool says so of itself"
            ))
        };
        self.address_of(vrouter_id).await?.map(Some).ok_or_else(unknown)
    }

    /// What is said of a volume that is not here: who has it is asked, also if that is this driver.
    pub(super) async fn elsewhere(&self, volume: &str) -> Failed {
        match self.owner(volume).await {
            Ok(None) => Failed::not_found(volume),
            Ok(Some(owner)) if owner == self.vrouter_id => Failed::Redirect(self.address.clone()),
            Ok(Some(owner)) => match self.address_of(&owner).await {
                Ok(Some(address)) => Failed::Redirect(address),
                Ok(None) => Failed::Other(format!(
                    "the volume {volume} belongs to {owner}, whose address is not known: it publishes that in the \
                     configuration store when it starts"
                )),
                Err(failed) => failed,
            },
            Err(failed) => failed,
        }
    }

    /// Where a volume is that is halted here: another driver may own it by now.
    pub(super) async fn taken_over(&self, volume: &str) -> Option<Address> {
        let owner = self.owner(volume).await.ok()??;
        if owner == self.vrouter_id {
            return None;
        }
        self.address_of(&owner).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_urls() {
        let of = |url| Address::of_url(url).map(|address| (address.host, address.port));
        assert_eq!(of("http://10.0.0.2:26201/RPC2"), Some(("10.0.0.2".to_owned(), 26_201)));
        assert_eq!(of("https://[::1]:7/RPC2"), Some(("::1".to_owned(), 7)));
        for wrong in ["", "10.0.0.2:1", "http://host/RPC2", "http://host:99999/"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
