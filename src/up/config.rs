//! The configuration that a node starts with: its documents in the store.

use std::fs;
use std::io;
use std::time::Duration;

use cfg_client::{Error, FileSource, KeyPath, Store, StoreUrl};
use cfg_schema::{Category, Documents, Problem};
use serde_json::{Map, Value as Json};
use volumedriver::parameters::Parameters;
use volumedriver::volume::address::BootId;

use super::chosen::{self, Choice, Chosen, check};
use super::directory_claim::claim_directory;
use super::other_store::{follow, other_cluster};
use super::store::Embedded;
use crate::agent::place::Place;
use crate::args::DriverArgs;
use crate::cluster_id::ClusterId;
use crate::config;
use crate::data_dir::DataDir;
use crate::endpoints::percent_encode;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// What a node starts with.
pub(super) struct Start {
    /// What it runs with.
    pub(super) chosen: Chosen,
    /// Who the node is.
    pub(super) identity: Identity,
    /// The URL of its documents.
    pub(super) url: String,
    /// The store that they are in.
    pub(super) store: Store,
    /// Where in it.
    pub(super) place: Place,
    /// Its cluster; `None`: it did not answer, and it is not recorded.
    pub(super) cluster: Option<ClusterId>,
    /// Where that is.
    pub(super) etcd: String,
}

/// Reads and checks the configuration, and the identity of the directory with it. A directory that is used for the
/// first time gets both; the documents of one that is older than the store are moved into it.
pub(super) async fn load(directory: &DataDir, embedded: &Embedded) -> Result<Start, Failure> {
    let known = Identity::read(&directory.identity())?;
    let old = old_documents(directory)?;
    let mut identity = match known {
        Some(identity) => identity,
        None => {
            let documents = old.clone().unwrap_or_else(immutable_defaults);
            let parameters =
                check(&documents, None).map_err(|problems| rejected_file(directory, &problems))?;
            Identity::new(random_uuid()?, &Parameters::declarations(), &parameters.documents())
        }
    };
    let place = format!("the store in {}", directory.cfg().display());
    let is_first = follow(directory, &mut identity, embedded.cluster(), &place)?;
    if identity.name_node(random_uuid)? || is_first {
        identity.write(&directory.identity())?;
    }
    let place = place_of(&identity)?;
    store_first(directory, embedded, &place.config, &mut identity, old).await?;

    let url = format!("etcd://{}{}", embedded.address, place.config);
    let choice = Choice { directory, identity: Some(&identity), url: &url, max_age: None };
    let chosen = choice.choose(chosen::read(&embedded.store, &place).await)?;
    settle_identity(directory, &mut identity, &chosen.parameters)?;
    claim_directory(&embedded.store, &place.directory, directory, &identity, false).await?;
    let (store, etcd) = (embedded.store.clone(), format!("http://{}", embedded.address));
    Ok(Start { chosen, cluster: embedded.cluster(), identity, url, store, place, etcd })
}

/// Reads and checks the configuration of a driver in a store that others run. While that cannot be reached the last
/// good one serves, for a time.
pub(super) async fn load_given(directory: &DataDir, arguments: &DriverArgs) -> Result<Start, Failure> {
    // The arguments are not taken without one.
    let url = arguments.config.clone().unwrap_or_default();
    let parsed = StoreUrl::parse(&url).map_err(|error| read_failure(&error))?;
    let (vpool_guid, vrouter_id) = host_of(&parsed.path).ok_or_else(|| {
        Failure::usage(format!("--config {url:?}: the path must be /ovs/vpools/GUID/hosts/ID/config"))
    })?;
    let known = Identity::read(&directory.identity())?;
    if let Some(identity) = &known
        && (identity.vpool_guid(), identity.vrouter_id()) != (vpool_guid, vrouter_id)
    {
        return Err(Failure::new(
            Kind::Conflict,
            format!(
                "{} belongs to the driver {} of the vPool {}; give its --config, or another --data-dir",
                directory.path().display(),
                identity.vrouter_id(),
                identity.vpool_guid()
            ),
        ));
    }
    let store = Store::open(&parsed, cfg_client::Options::default()).map_err(|error| read_failure(&error))?;
    let recorded = known.as_ref().and_then(|identity| identity.cluster(directory));
    if let Some(recorded) = recorded {
        store.expect_cluster(recorded.number());
    }
    let place = Place::of(vpool_guid, vrouter_id).map_err(|error| read_failure(&error))?;
    let read = match chosen::read(&store, &place).await {
        Err(Error::OtherCluster { expected, found }) => {
            let place = format!("the store at {}", parsed.endpoints.join(","));
            return Err(other_cluster(directory, expected, found, &place));
        }
        read => read,
    };
    if let Ok((stored, _)) = &read
        && stored.reading.snapshot.documents.is_empty()
    {
        refuse_if_retired(&store, &place, directory).await?;
    }
    let cluster = read.as_ref().ok().and_then(|(stored, _)| ClusterId::of(stored.cluster_id));
    let max_age = Duration::from_secs(arguments.last_good_max_age.saturating_mul(3600));
    let choice = Choice { directory, identity: known.as_ref(), url: &url, max_age: Some(max_age) };
    let chosen = choice.choose(read)?;
    let is_new = known.is_none();
    let mut identity = match known {
        Some(identity) => identity,
        None => {
            let (declarations, values) = (Parameters::declarations(), chosen.parameters.documents());
            let mut identity = Identity::new(random_uuid()?, &declarations, &values);
            identity.place(vpool_guid, vrouter_id);
            identity.write(&directory.identity())?;
            identity
        }
    };
    let replace = arguments.replace_directory;
    let claimed = claim_directory(&store, &place.directory, directory, &identity, replace).await;
    if claimed.is_err() && is_new {
        // Nothing was ever served from it.
        directory.forget_identity();
    }
    claimed?;
    if cluster.is_some_and(|cluster| identity.follow(cluster)) {
        identity.write(&directory.identity())?;
    }
    settle_identity(directory, &mut identity, &chosen.parameters)?;
    let etcd = format!("http://{}", parsed.endpoints.join(",http://"));
    Ok(Start { chosen, cluster: cluster.or(recorded), identity, url, store, place, etcd })
}

/// A host that was taken out of service does not serve, and not on its last good copy later. Its volumes stay: nothing
/// says that they are stored anywhere else.
async fn refuse_if_retired(store: &Store, place: &Place, directory: &DataDir) -> Result<(), Failure> {
    match store.get(&place.retired, None).await {
        Ok(_) => {}
        Err(Error::Absent { .. }) => return Ok(()),
        Err(error) => return Err(read_failure(&error)),
    }
    match fs::remove_file(directory.last_good()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the last good configuration cannot be removed");
        }
        _ => {}
    }
    Err(Failure::not_found(format!(
        "{} is set: this host does not serve any more. Its volumes stay in {}; to serve again delete that key and \
         put the configuration back with `ovs config import`, otherwise delete the directory",
        place.retired,
        directory.path().display()
    )))
}

/// GUID and ID of `/ovs/vpools/GUID/hosts/ID/config`.
fn host_of(path: &KeyPath) -> Option<(&str, &str)> {
    let (guid, rest) = path.as_str().strip_prefix("/ovs/vpools/")?.split_once('/')?;
    let id = rest.strip_prefix("hosts/")?.strip_suffix("/config")?;
    (!id.contains('/')).then_some((guid, id))
}

/// Where the node has its keys.
fn place_of(identity: &Identity) -> Result<Place, Failure> {
    Place::of(identity.vpool_guid(), identity.vrouter_id())
        .map_err(|error| Failure::failed(format!("identity.json: {error}")))
}

/// The documents in files that an older version left, if they are still to be moved.
fn old_documents(directory: &DataDir) -> Result<Option<Documents>, Failure> {
    if !directory.config().is_dir() {
        return Ok(None);
    }
    let url = format!("file://{}", percent_encode(&directory.config()));
    let snapshot =
        FileSource::open(&url).and_then(|source| source.read("")).map_err(|error| read_failure(&error))?;
    Ok((!snapshot.documents.is_empty()).then_some(snapshot.documents))
}

/// Brings the first documents into the store, once.
async fn store_first(
    directory: &DataDir,
    embedded: &Embedded,
    path: &KeyPath,
    identity: &mut Identity,
    old: Option<Documents>,
) -> Result<(), Failure> {
    let Some(documents) = old.clone().or_else(|| (!identity.is_configured()).then(immutable_defaults)) else {
        return Ok(());
    };
    if old.is_some() {
        let mut complete = documents.clone();
        identity.complete(&mut complete);
        check(&complete, Some(identity)).map_err(|problems| rejected_file(directory, &problems))?;
    }
    let action = if old.is_some() { "import" } else { "first start" };
    if !config::store_first(&embedded.store, path, &documents, action).await? && old.is_some() {
        tracing::warn!(
            directory = %directory.config().display(),
            "holds documents that are not read any more: the store has some; `ovs config import` or `set` changes them"
        );
    }
    if identity.set_configured() {
        identity.write(&directory.identity())?;
    }
    if old.is_some() {
        retire(directory)?;
    }
    Ok(())
}

/// Puts the files aside: they are in the store now.
fn retire(directory: &DataDir) -> Result<(), Failure> {
    let (from, to) = (directory.config(), directory.imported());
    if to.exists() {
        return Ok(());
    }
    let failed = |error| Failure::failed(format!("{} cannot be renamed: {error}", from.display()));
    fs::rename(&from, &to).map_err(failed)?;
    tracing::info!(kept = %to.display(), "the documents are in the configuration store now");
    Ok(())
}

/// Records immutable values of a newer version.
fn settle_identity(directory: &DataDir, identity: &mut Identity, values: &Parameters) -> Result<(), Failure> {
    if identity.extend(&Parameters::declarations(), &values.documents()) {
        identity.write(&directory.identity())?;
    }
    tracing::debug!(directory_id = identity.directory_id, "identity");
    Ok(())
}

/// The immutable parameters as documents: what cannot be changed later is there to be seen, and a configuration that
/// is empty by mistake can be told from one that is not there.
fn immutable_defaults() -> Documents {
    let mut documents = Documents::new();
    for section in Parameters::declarations() {
        let immutable = section.parameters.into_iter().filter(|p| p.category == Some(Category::Immutable));
        let values: Map<String, Json> =
            immutable.filter_map(|parameter| Some((parameter.key.to_owned(), parameter.default?))).collect();
        if !values.is_empty() {
            documents.insert(section.section.to_owned(), Json::Object(values));
        }
    }
    documents
}

pub(super) fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

fn rejected_file(directory: &DataDir, problems: &[Problem]) -> Failure {
    rejected(&directory.config().join("<section>.json").display().to_string(), problems)
}

pub(super) fn rejected(place: &str, problems: &[Problem]) -> Failure {
    Failure::new(
        Kind::Rejected,
        format!("the configuration is rejected: {}; correct {place}", list(problems)),
    )
}

pub(super) fn read_failure(error: &Error) -> Failure {
    if let Error::Absent { place } = error {
        let advice = "the node does not serve without it; `ovs cfg run` runs the store alone, `ovs config import` \
                      puts documents back";
        return Failure::not_found(format!("there is no configuration at {place}; {advice}"));
    }
    let (kind, advice) = match error {
        Error::Syntax { .. } | Error::TooLarge { .. } => (Kind::Rejected, "correct the document"),
        Error::Changing { .. } => (Kind::Unreachable, "wait until nobody writes there"),
        Error::Url { .. } => (Kind::Usage, "correct the URL"),
        _ => (Kind::Unreachable, "see that it can be read, then try again"),
    };
    Failure::new(kind, format!("{error}; {advice}"))
}

/// The id of this boot of the host: tells a crash of the process from one of the host.
pub(super) fn boot_id() -> Result<BootId, Failure> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(|error| Failure::failed(format!("{path}: {error}")))?;
    text.trim().parse().map_err(|()| Failure::failed(format!("{path} holds no UUID: {text:?}")))
}

fn random_uuid() -> Result<String, Failure> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(path).map_err(|error| Failure::failed(format!("{path}: {error}")))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_documents_are_valid() {
        let documents = immutable_defaults();
        assert!(documents.contains_key("scocache"));
        assert!(volumedriver::parameters::read(&documents).parameters.is_ok());
    }
}
