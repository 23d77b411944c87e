//! The configuration that a node starts with: its documents in the store.

use std::fs;
use std::time::{Duration, SystemTime};

use cfg_client::{Age, Error, EtcdSource, FileSource, KeyPath, LastGood, Snapshot, Store, StoreUrl};
use cfg_schema::{Category, Documents, Problem};
use serde_json::{Map, Value as Json};
use volumedriver::parameters::{self, Parameters};
use volumedriver::volume::address::BootId;

use super::store::Embedded;
use crate::args::DriverArgs;
use crate::config;
use crate::data_dir::DataDir;
use crate::endpoints::percent_encode;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// What a node starts with.
pub(super) struct Start {
    /// The checked values.
    pub(super) parameters: Parameters,
    /// Who the node is.
    pub(super) identity: Identity,
    /// The URL of its documents.
    pub(super) url: String,
    /// The store that they are in.
    pub(super) store: Store,
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
    if identity.name_node(random_uuid)? {
        identity.write(&directory.identity())?;
    }
    let path = config_path(&identity)?;
    store_first(directory, embedded, &path, &mut identity, old).await?;

    let url = format!("etcd://{}{path}", embedded.address);
    let source = StoreUrl::parse(&url)
        .and_then(|parsed| EtcdSource::new(&url, &parsed, cfg_client::Options::default()))
        .map_err(|error| read_failure(&error))?;
    let parameters = match source.read("").await {
        Ok(snapshot) => checked_or_last_good(directory, &identity, &url, &snapshot)?,
        Err(error @ (Error::Syntax { .. } | Error::TooLarge { .. })) => {
            last_good(directory, &identity, &read_failure(&error).to_string())?
                .ok_or_else(|| read_failure(&error))?
        }
        Err(error) => return Err(read_failure(&error)),
    };
    settle_identity(directory, &mut identity, &parameters)?;
    let (store, etcd) = (embedded.store.clone(), format!("http://{}", embedded.address));
    Ok(Start { parameters, identity, url, store, etcd })
}

/// Reads and checks the configuration of a driver in a store that others run. While that cannot be reached the last
/// good one serves, for a time.
pub(super) async fn load_given(directory: &DataDir, arguments: &DriverArgs) -> Result<Start, Failure> {
    // The arguments are not taken without one.
    let url = arguments.config.clone().unwrap_or_default();
    let parsed = StoreUrl::parse(&url).map_err(|error| read_failure(&error))?;
    let (vpool_guid, vrouter_id) = place_of(&parsed.path).ok_or_else(|| {
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
    let source = EtcdSource::new(&url, &parsed, cfg_client::Options::default());
    let source = source.map_err(|error| read_failure(&error))?;
    let (parameters, known) = match (source.read("").await, known) {
        (Ok(snapshot), Some(identity)) => {
            (checked_or_last_good(directory, &identity, &url, &snapshot)?, Some(identity))
        }
        (Ok(snapshot), None) => (checked_first(directory, &url, &snapshot)?, None),
        (Err(error @ (Error::Unreachable { .. } | Error::Denied { .. })), Some(identity)) => {
            let age = Duration::from_secs(arguments.last_good_max_age.saturating_mul(3600));
            (stale(directory, &identity, &error, age)?, Some(identity))
        }
        (Err(error), _) => return Err(read_failure(&error)),
    };
    let mut identity = match known {
        Some(identity) => identity,
        None => {
            let (declarations, values) = (Parameters::declarations(), parameters.documents());
            let mut identity = Identity::new(random_uuid()?, &declarations, &values);
            identity.place(vpool_guid, vrouter_id);
            identity.write(&directory.identity())?;
            identity
        }
    };
    settle_identity(directory, &mut identity, &parameters)?;
    let etcd = format!("http://{}", parsed.endpoints.join(",http://"));
    let store = source.store().clone();
    Ok(Start { parameters, identity, url, store, etcd })
}

/// GUID and ID of `/ovs/vpools/GUID/hosts/ID/config`.
fn place_of(path: &KeyPath) -> Option<(&str, &str)> {
    let (guid, rest) = path.as_str().strip_prefix("/ovs/vpools/")?.split_once('/')?;
    let id = rest.strip_prefix("hosts/")?.strip_suffix("/config")?;
    (!id.contains('/')).then_some((guid, id))
}

/// The first configuration of a directory: there is nothing to fall back on.
fn checked_first(directory: &DataDir, url: &str, snapshot: &Snapshot) -> Result<Parameters, Failure> {
    warn_of(&snapshot.documents);
    let parameters = check(&snapshot.documents, None).map_err(|problems| rejected(url, &problems))?;
    keep(directory, url, snapshot);
    Ok(parameters)
}

/// The last good configuration, if it is not older than `max_age`, while the store cannot be read because of `error`.
fn stale(
    directory: &DataDir,
    identity: &Identity,
    error: &Error,
    max_age: Duration,
) -> Result<Parameters, Failure> {
    let age = LastGood::read(&directory.last_good()).map(|copy| copy.age(SystemTime::now()));
    match age {
        Ok(Age::Of(age)) if age > max_age => {
            let (hours, limit) = (age.as_secs() / 3600, max_age.as_secs() / 3600);
            return Err(Failure::new(
                Kind::Unreachable,
                format!(
                    "{error}; the last good configuration is {hours} h old, more than --last-good-max-age {limit}"
                ),
            ));
        }
        Ok(Age::ClockWentBack(by)) => {
            tracing::warn!(?by, "the clock went back since the last good configuration")
        }
        Ok(Age::Of(_)) | Err(_) => {}
    }
    last_good(directory, identity, &error.to_string())?.ok_or_else(|| read_failure(error))
}

/// Where the documents of the node are.
fn config_path(identity: &Identity) -> Result<KeyPath, Failure> {
    let (vpool, vrouter) = (identity.vpool_guid(), identity.vrouter_id());
    let path = format!("/ovs/vpools/{vpool}/hosts/{vrouter}/config");
    KeyPath::parse(&path).map_err(|error| Failure::failed(format!("identity.json: {error}")))
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

/// Checks what was read, and keeps it for the day when the next one is wrong.
fn checked_or_last_good(
    directory: &DataDir,
    identity: &Identity,
    url: &str,
    snapshot: &Snapshot,
) -> Result<Parameters, Failure> {
    if snapshot.documents.is_empty() {
        return Err(read_failure(&Error::Absent { place: url.to_owned() }));
    }
    let mut documents = snapshot.documents.clone();
    identity.complete(&mut documents);
    warn_of(&documents);
    match check(&documents, Some(identity)) {
        Ok(parameters) => {
            keep(directory, url, snapshot);
            Ok(parameters)
        }
        Err(problems) => {
            let failure = rejected(url, &problems);
            last_good(directory, identity, &failure.to_string())?.ok_or(failure)
        }
    }
}

/// Keeps what works, for the day when the next one does not.
fn keep(directory: &DataDir, url: &str, snapshot: &Snapshot) {
    if let Err(error) = LastGood::new(url, snapshot, SystemTime::now()).write(&directory.last_good()) {
        tracing::warn!(%error, "no copy of the configuration is kept");
    }
}

/// The configuration of the last start, when that of now cannot be used because of `reason`.
fn last_good(directory: &DataDir, identity: &Identity, reason: &str) -> Result<Option<Parameters>, Failure> {
    let copy = match LastGood::read(&directory.last_good()) {
        Ok(copy) => copy,
        Err(Error::Absent { .. }) => return Ok(None),
        Err(error) => {
            tracing::error!(%error, "the last good configuration cannot be used");
            return Ok(None);
        }
    };
    let mut documents = copy.documents;
    identity.complete(&mut documents);
    match check(&documents, Some(identity)) {
        Ok(parameters) => {
            tracing::error!(
                reason,
                revision = copy.revision,
                "degraded: running on the last good configuration"
            );
            Ok(Some(parameters))
        }
        Err(problems) => {
            tracing::error!(
                problems = list(&problems),
                "the last good configuration is not good for this version"
            );
            Ok(None)
        }
    }
}

/// Names the keys that do nothing.
fn warn_of(documents: &Documents) {
    let reading = parameters::read(documents);
    for key in &reading.unknown {
        tracing::warn!(key, "unknown configuration key; it is kept and has no effect");
    }
    for key in &reading.no_effect {
        tracing::warn!(key, "this configuration key has no effect in this program");
    }
}

/// Reads parameters out of documents; what is immutable must be what `identity` says.
fn check(documents: &Documents, identity: Option<&Identity>) -> Result<Parameters, Vec<Problem>> {
    let parameters = parameters::read(documents).parameters?;
    let differences =
        identity.map(|identity| identity.differences(&parameters.documents())).unwrap_or_default();
    if differences.is_empty() { Ok(parameters) } else { Err(differences) }
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

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

fn rejected_file(directory: &DataDir, problems: &[Problem]) -> Failure {
    rejected(&directory.config().join("<section>.json").display().to_string(), problems)
}

fn rejected(place: &str, problems: &[Problem]) -> Failure {
    Failure::new(
        Kind::Rejected,
        format!("the configuration is rejected: {}; correct {place}", list(problems)),
    )
}

fn read_failure(error: &Error) -> Failure {
    if let Error::Absent { place } = error {
        let advice = "the node does not serve without it; `ovs cfg run` runs the store alone, `ovs config import` \
                      puts documents back";
        return Failure::not_found(format!("there is no configuration at {place}; {advice}"));
    }
    let (kind, advice) = match error {
        Error::Syntax { .. } | Error::TooLarge { .. } => (Kind::Rejected, "correct the document"),
        Error::Changing { .. } => (Kind::Unreachable, "wait until nobody writes there"),
        Error::Url { .. } | Error::Unavailable { .. } => (Kind::Usage, "correct the URL"),
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
        assert!(parameters::read(&documents).parameters.is_ok());
    }
}
