//! The configuration that a node starts with.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;

use cfg_client::{Error, FileSource};
use cfg_schema::{Category, Documents, Problem};
use serde_json::{Map, Value as Json};
use volumedriver::parameters::{self, Parameters};
use volumedriver::volume::address::BootId;

use crate::data_dir::{DataDir, write_json};
use crate::endpoints::percent_encode;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// Reads and checks the configuration, and the identity of the directory with it. A directory that is used for the
/// first time gets both.
pub(super) fn load(directory: &DataDir) -> Result<Parameters, Failure> {
    let identity = Identity::read(&directory.identity())?;
    if identity.is_none() {
        create_documents(directory)?;
    }
    let url = format!("file://{}", percent_encode(&directory.config()));
    let snapshot =
        FileSource::open(&url).and_then(|source| source.read("")).map_err(|error| read_failure(&error))?;
    if snapshot.documents.is_empty() {
        let place = directory.config().display().to_string();
        return Err(read_failure(&Error::Absent { place }));
    }
    let mut documents = snapshot.documents;
    if let Some(identity) = &identity {
        identity.complete(&mut documents);
    }
    let reading = parameters::read(&documents);
    for key in &reading.unknown {
        tracing::warn!(key, "unknown configuration key; it is kept and has no effect");
    }
    for key in &reading.no_effect {
        tracing::warn!(key, "this configuration key has no effect in this program");
    }
    let parameters = reading.parameters.map_err(|problems| rejected(directory, &problems))?;
    settle_identity(directory, identity, &parameters)?;
    Ok(parameters)
}

/// Records immutable values, or finds that one was changed.
fn settle_identity(
    directory: &DataDir,
    identity: Option<Identity>,
    values: &Parameters,
) -> Result<(), Failure> {
    let (declarations, values) = (Parameters::declarations(), values.documents());
    let Some(mut identity) = identity else {
        return Identity::new(random_uuid()?, &declarations, &values).write(&directory.identity());
    };
    let differences = identity.differences(&values);
    if !differences.is_empty() {
        return Err(rejected(directory, &differences));
    }
    if identity.extend(&declarations, &values) {
        identity.write(&directory.identity())?;
    }
    tracing::debug!(directory_id = identity.directory_id, "identity");
    Ok(())
}

/// Writes the immutable parameters as documents, unless there are documents already: what cannot be changed later is
/// there to be seen, and a configuration that is empty by mistake can be told from one that is not there.
fn create_documents(directory: &DataDir) -> Result<(), Failure> {
    let config = directory.config();
    let failed = |error| Failure::failed(format!("{} cannot be created: {error}", config.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(&config).map_err(failed)?;
    let entries: Vec<_> = fs::read_dir(&config).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if entries.iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".json")) {
        return Ok(());
    }
    for (section, document) in immutable_defaults() {
        write_json(&config.join(format!("{section}.json")), &document)?;
    }
    Ok(())
}

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

fn rejected(directory: &DataDir, problems: &[Problem]) -> Failure {
    let list = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
    let place = directory.config().join("<section>.json");
    Failure::new(
        Kind::Rejected,
        format!("the configuration is rejected: {list}; correct {}", place.display()),
    )
}

fn read_failure(error: &Error) -> Failure {
    if let Error::Absent { place } = error {
        let advice = "the node does not serve without it; put its documents back";
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
