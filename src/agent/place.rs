//! Where a process has what concerns its configuration in the store.

use cfg_client::{Error, KeyPath};

/// The keys of one host of a vPool.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `…/config`: its documents lie below.
    pub(crate) config: KeyPath,
    /// `…/update`: written by whoever wants it to take them.
    pub(crate) update: KeyPath,
    /// `/ovs/vpools/GUID/update`: the same for all hosts of the vPool.
    pub(crate) vpool_update: KeyPath,
    /// `…/frozen`: while it is there no update is taken.
    pub(crate) frozen: KeyPath,
    /// `…/feedback`: its answers lie below.
    pub(crate) feedback: KeyPath,
    /// `…/status`: what it says of itself while it lives.
    pub(crate) status: KeyPath,
    /// `…/last_status`: the same, for when it does not.
    pub(crate) last_status: KeyPath,
    /// `…/directory`: the data directory that it works in.
    pub(crate) directory: KeyPath,
    /// `…/retired`: while it is there the host is not to serve any more.
    pub(crate) retired: KeyPath,
    /// `/ovs/vpools/GUID/rollouts`: staged changes.
    pub(crate) rollouts: KeyPath,
}

impl Place {
    /// Of a host.
    ///
    /// # Errors
    /// [`Error::Key`] when they cannot be part of a key.
    pub(crate) fn of(vpool_guid: &str, vrouter_id: &str) -> Result<Place, Error> {
        for name in [vpool_guid, vrouter_id] {
            if name.is_empty() || name.contains('/') {
                let problem = "must be one part of a path".to_owned();
                return Err(Error::Key { key: name.to_owned(), problem });
            }
        }
        let vpool = KeyPath::parse(&format!("/ovs/vpools/{vpool_guid}"))?;
        let host = vpool.join("hosts")?.join(vrouter_id)?;
        Ok(Place {
            config: host.join("config")?,
            update: host.join("update")?,
            vpool_update: vpool.join("update")?,
            frozen: host.join("frozen")?,
            feedback: host.join("feedback")?,
            status: host.join("status")?,
            last_status: host.join("last_status")?,
            directory: host.join("directory")?,
            retired: host.join("retired")?,
            rollouts: vpool.join("rollouts")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_contract_has_them() {
        let place = Place::of("g", "h").expect("names");
        assert_eq!(place.config.as_str(), "/ovs/vpools/g/hosts/h/config");
        assert_eq!(place.vpool_update.as_str(), "/ovs/vpools/g/update");
        assert_eq!(place.last_status.as_str(), "/ovs/vpools/g/hosts/h/last_status");
        assert!(Place::of("g", "a/b").is_err() && Place::of("", "h").is_err());
    }
}
