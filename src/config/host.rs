//! Hosts of vPools, and where in the store they are.

use std::fmt;

use cfg_client::KeyPath;

use super::failure_of;
use crate::failure::Failure;

/// Above all vPools.
pub(super) const VPOOLS: &str = "/ovs/vpools";

/// A host of a vPool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host {
    /// The vPool.
    pub(super) vpool: String,
    /// The host's id in it, its `vrouter_id`.
    pub(super) id: String,
}

impl Host {
    /// The host of `/ovs/vpools/GUID/hosts/ID/…`, and what stands in place of `…`.
    pub(super) fn of(key: &str) -> Option<(Host, &str)> {
        let (vpool, rest) = key.strip_prefix(VPOOLS)?.strip_prefix('/')?.split_once('/')?;
        let (id, rest) = rest.strip_prefix("hosts/")?.split_once('/')?;
        Some((Host { vpool: vpool.to_owned(), id: id.to_owned() }, rest))
    }

    /// The host of `/ovs/vpools/GUID/hosts/ID/config/SECTION`, and the section. What lies deeper belongs to others.
    pub(super) fn of_document(key: &str) -> Option<(Host, &str)> {
        let (host, rest) = Host::of(key)?;
        let section = rest.strip_prefix("config/")?;
        (!section.contains('/')).then_some((host, section))
    }

    /// The key `name` of the host.
    pub(super) fn key(&self, name: &str) -> Result<KeyPath, Failure> {
        KeyPath::parse(&format!("{VPOOLS}/{}/hosts/{}/{name}", self.vpool, self.id)).map_err(failure_of)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VPOOLS}/{}/hosts/{}", self.vpool, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_belong_to_hosts_and_what_lies_deeper_does_not() {
        let host = Host { vpool: "g".to_owned(), id: "h".to_owned() };
        assert_eq!(
            Host::of_document("/ovs/vpools/g/hosts/h/config/nbd"),
            Some((host.clone(), "nbd")),
            "a section"
        );
        assert_eq!(Host::of("/ovs/vpools/g/hosts/h/frozen"), Some((host.clone(), "frozen")));
        assert_eq!(host.key("config/nbd").expect("a key").as_str(), "/ovs/vpools/g/hosts/h/config/nbd");
        for other in [
            "/ovs/vpools/g/hosts/h/config",
            "/ovs/vpools/g/hosts/h/config/nbd/x",
            "/ovs/vpools/g/hosts/h/status",
            "/ovs/vpools/g/proxies/h/config/main",
            "/ovs/vpoolsx/g/hosts/h/config/nbd",
            "/a/ovs/vpools/g/hosts/h/config/nbd",
        ] {
            assert_eq!(Host::of_document(other), None, "{other}");
        }
    }
}
