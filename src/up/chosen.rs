//! What a process starts with: what is stored for it if that is valid, else what it ran with last.

use std::time::{Duration, SystemTime};

use cfg_client::{Age, Error, LastGood, Store};
use cfg_engine::{Limits, Source, Standing};
use cfg_schema::{Documents, Problem};
use volumedriver::parameters::{self, Parameters};

use super::config::{list, read_failure, rejected};
use crate::agent::place::Place;
use crate::agent::reading::{self, Stored};
use crate::data_dir::DataDir;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// Longest update key that is looked at during a start.
const UPDATE_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Chosen {
    /// The checked values.
    pub(super) parameters: Parameters,
    /// The documents that say so, references resolved.
    pub(super) documents: Documents,
    /// Their revision.
    pub(super) revision: i64,
    /// Where they are from.
    pub(super) source: Source,
    /// What ran before, if that was something else.
    pub(super) previous: Option<Parameters>,
    /// Whether the process takes no updates.
    pub(super) frozen: bool,
    /// The update keys that stand there.
    pub(super) standing: Vec<Standing>,
}

/// What is there to choose from.
pub(super) struct Choice<'a> {
    /// The data directory, for its last good copy.
    pub(super) directory: &'a DataDir,
    /// Who it is; `None`: it is used for the first time, and there is nothing to fall back on.
    pub(super) identity: Option<&'a Identity>,
    /// The URL of the documents, for messages.
    pub(super) url: &'a str,
    /// How old the last good copy may be when the store does not answer; `None`: then nothing is started.
    pub(super) max_age: Option<Duration>,
}

/// Reads what is stored.
pub(super) async fn read(store: &Store, place: &Place) -> Result<(Stored, Vec<Standing>), Error> {
    let stored = reading::read(store, place, None, None, &Limits::default()).await?;
    let standing = reading::standing(store, place, Some(stored.reading.revision), UPDATE_BYTES).await?;
    Ok((stored, standing))
}

impl Choice<'_> {
    /// Chooses.
    ///
    /// # Errors
    /// Nothing that can be served.
    pub(super) fn choose(&self, read: Result<(Stored, Vec<Standing>), Error>) -> Result<Chosen, Failure> {
        let (stored, standing) = match read {
            Ok(read) => read,
            Err(error @ (Error::Unreachable { .. } | Error::Denied { .. })) => return self.stale(&error),
            Err(error) => return Err(read_failure(&error)),
        };
        let reading = stored.reading;
        let frozen = reading.frozen;
        if reading.snapshot.documents.is_empty() && reading.snapshot.problems.is_empty() {
            return Err(read_failure(&Error::Absent { place: self.url.to_owned() }));
        }
        let observed = Some(reading.revision);
        let checked = reading.snapshot.resolve(&Limits::default()).and_then(|documents| {
            warn_of(&documents);
            self.check(&documents).map(|parameters| (parameters, documents))
        });
        if frozen && let Some((parameters, copy)) = self.last_good() {
            tracing::warn!(revision = copy.revision, "frozen: running on the last good configuration");
            let source = Source::LastGood { observed, problems: Vec::new() };
            return Ok(chosen(parameters, copy, source, true, standing));
        }
        match checked {
            Ok((parameters, documents)) => Ok(Chosen {
                previous: self.last_good().map(|(previous, _)| previous).filter(|was| *was != parameters),
                parameters,
                documents,
                revision: reading.revision,
                source: Source::Store,
                frozen,
                standing,
            }),
            Err(problems) => {
                let failure = rejected(self.url, &problems);
                self.fall_back(failure, observed, problems, frozen, standing)
            }
        }
    }

    /// The configuration of the last start, when that of now cannot be used because of `failure`.
    fn fall_back(
        &self,
        failure: Failure,
        observed: Option<i64>,
        problems: Vec<Problem>,
        frozen: bool,
        standing: Vec<Standing>,
    ) -> Result<Chosen, Failure> {
        let Some((parameters, copy)) = self.last_good() else { return Err(failure) };
        let reason = failure.to_string();
        tracing::error!(reason, revision = copy.revision, "degraded: running on the last good configuration");
        Ok(chosen(parameters, copy, Source::LastGood { observed, problems }, frozen, standing))
    }

    /// The last good configuration, if it is not too old, while the store cannot be read because of `error`.
    fn stale(&self, error: &Error) -> Result<Chosen, Failure> {
        let Some(max_age) = self.max_age else { return Err(read_failure(error)) };
        let age = LastGood::read(&self.directory.last_good()).map(|copy| copy.age(SystemTime::now()));
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
                tracing::warn!(?by, "the clock went back since the last good configuration");
            }
            Ok(Age::Of(_)) | Err(_) => {}
        }
        self.fall_back(read_failure(error), None, Vec::new(), false, Vec::new())
    }

    /// The last good copy with its values, if there is one that is good for this program.
    fn last_good(&self) -> Option<(Parameters, LastGood)> {
        self.identity?;
        let copy = match LastGood::read(&self.directory.last_good()) {
            Ok(copy) => copy,
            Err(Error::Absent { .. }) => return None,
            Err(error) => {
                tracing::error!(%error, "the last good configuration cannot be used");
                return None;
            }
        };
        match self.check(&copy.documents) {
            Ok(parameters) => Some((parameters, copy)),
            Err(problems) => {
                let problems = list(&problems);
                tracing::error!(problems, "the last good configuration is not good for this version");
                None
            }
        }
    }

    /// Reads parameters out of documents; what is immutable must be what the identity says.
    fn check(&self, documents: &Documents) -> Result<Parameters, Vec<Problem>> {
        let mut complete = documents.clone();
        if let Some(identity) = self.identity {
            identity.complete(&mut complete);
        }
        check(&complete, self.identity)
    }
}

fn chosen(
    parameters: Parameters,
    copy: LastGood,
    source: Source,
    frozen: bool,
    standing: Vec<Standing>,
) -> Chosen {
    let revision = i64::try_from(copy.revision).unwrap_or(0);
    Chosen { parameters, documents: copy.documents, revision, source, previous: None, frozen, standing }
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
pub(super) fn check(documents: &Documents, identity: Option<&Identity>) -> Result<Parameters, Vec<Problem>> {
    let parameters = parameters::read(documents).parameters?;
    let differences =
        identity.map(|identity| identity.differences(&parameters.documents())).unwrap_or_default();
    if differences.is_empty() { Ok(parameters) } else { Err(differences) }
}
