//! Whom a command means: one host, or all of a vPool.

use std::collections::{BTreeMap, BTreeSet};

use cfg_client::{Content as ListContent, Error, KeyPath};
use cfg_engine::Status;

use crate::agent::place::Place;
use crate::config::{Session, failure_of};
use crate::failure::Failure;

/// The arguments that name hosts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// All hosts of this vPool [default: the node of the data directory]
    #[arg(long, value_name = "GUID")]
    pub(crate) vpool: Option<String>,
    /// Only this host of it
    #[arg(long, value_name = "ID", requires = "vpool")]
    pub(crate) host: Option<String>,
}

/// Hosts of one vPool.
#[derive(Clone, Debug)]
pub(in crate::config) struct Targets {
    /// The vPool.
    pub(in crate::config) vpool: String,
    /// `None`: all of it.
    pub(in crate::config) host: Option<String>,
}

/// What the store knows of one host.
#[derive(Clone, Debug)]
pub(in crate::config) struct Host {
    /// Its keys.
    pub(in crate::config) place: Place,
    /// The newest revision at which one of its documents was written; 0: it has none.
    pub(in crate::config) written: i64,
    /// What it says of itself, if it lives.
    pub(in crate::config) status: Option<Status>,
    /// What it said last.
    pub(in crate::config) last_status: Option<Status>,
    /// It takes no updates.
    pub(in crate::config) frozen: bool,
}

impl Targets {
    /// The host that a document belongs to.
    pub(in crate::config) fn of_document(key: &KeyPath) -> Result<Targets, Failure> {
        match crate::config::host::Host::of_document(key.as_str()) {
            Some((host, _)) => Ok(Targets { vpool: host.vpool, host: Some(host.id) }),
            None => Err(Failure::usage(format!(
                "--apply: {key} is no document of a host; `ovs config apply --vpool GUID` asks all that may use it"
            ))),
        }
    }

    /// In words.
    pub(in crate::config) fn name(&self) -> String {
        match &self.host {
            Some(host) => format!("the host {host} of the vPool {}", self.vpool),
            None => format!("the vPool {}", self.vpool),
        }
    }

    /// `/ovs/vpools/GUID/hosts`
    pub(in crate::config) fn hosts(&self) -> Result<KeyPath, Failure> {
        KeyPath::parse(&format!("/ovs/vpools/{}/hosts", self.vpool)).map_err(failure_of)
    }
}

impl Session {
    /// The hosts of the arguments; without any the node in whose directory the store was found.
    pub(in crate::config) fn targets(&self, target: &Target) -> Result<Targets, Failure> {
        match (&target.vpool, &self.identity) {
            (Some(vpool), _) => Ok(Targets { vpool: vpool.clone(), host: target.host.clone() }),
            (None, Some(identity)) => Ok(Targets {
                vpool: identity.vpool_guid().to_owned(),
                host: Some(identity.vrouter_id().to_owned()),
            }),
            (None, None) => Err(Failure::usage(
                "which host is meant? --endpoint names a store; give --vpool GUID, and --host ID for one host only",
            )),
        }
    }

    /// All hosts that are meant: those with documents or a status.
    pub(in crate::config) async fn hosts_of(
        &self,
        targets: &Targets,
    ) -> Result<BTreeMap<String, Host>, Failure> {
        let path = targets.hosts()?;
        let listing = self.store.list(&path.below(), ListContent::Keys, None).await.map_err(failure_of)?;
        let (folder, revision) = (path.folder(), listing.revision);
        let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
        let mut retired = BTreeSet::new();
        for pair in &listing.pairs {
            let key = str::from_utf8(&pair.key).ok().and_then(|key| key.strip_prefix(&folder));
            let Some((name, rest)) = key.and_then(|key| key.split_once('/')) else { continue };
            if rest == "retired" {
                retired.insert(name.to_owned());
            }
            if targets.host.as_deref().is_some_and(|host| host != name)
                || !(rest.starts_with("config/") || rest == "status" || rest == "last_status")
            {
                continue;
            }
            let place = Place::of(&targets.vpool, name).map_err(failure_of)?;
            let host = Host { place, written: 0, status: None, last_status: None, frozen: false };
            let host = hosts.entry(name.to_owned()).or_insert(host);
            if rest.starts_with("config/") {
                host.written = host.written.max(pair.mod_revision);
            }
        }
        // Of a host that is out of service the last status tells nothing that somebody has to do.
        hosts.retain(|name, host| host.written > 0 || !retired.contains(name));
        for host in hosts.values_mut() {
            host.status = self.status_at(&host.place.status, revision).await?;
            host.last_status = self.status_at(&host.place.last_status, revision).await?;
            host.frozen = self.value_at(&host.place.frozen, revision).await?.is_some();
        }
        if hosts.is_empty() {
            return Err(Failure::not_found(format!("{} has no configuration", targets.name())));
        }
        Ok(hosts)
    }

    /// A status; what is none is said and left out.
    async fn status_at(&self, key: &KeyPath, revision: i64) -> Result<Option<Status>, Failure> {
        let Some(value) = self.value_at(key, revision).await? else { return Ok(None) };
        match Status::read(&value) {
            Ok(status) => Ok(Some(status)),
            Err(problem) => {
                eprintln!("ovs: {key} {problem}; it is left out");
                Ok(None)
            }
        }
    }

    async fn value_at(&self, key: &KeyPath, revision: i64) -> Result<Option<bytes::Bytes>, Failure> {
        match self.store.get(key, Some(revision)).await {
            Ok(pair) => Ok(Some(pair.value)),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(failure_of(error)),
        }
    }
}
