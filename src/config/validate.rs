//! `ovs config validate`: everything that is wrong with what is stored, or with the documents of a directory.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use cfg_client::{Content as ListContent, DOCUMENT_LIMIT, KeyPath};
use serde_json::{Value as Json, json};

use super::host::{Host, VPOOLS};
use super::whole::{Examined, Whole};
use super::{Session, check, failure_of};
use crate::args::Global;
use crate::failure::Failure;
use crate::output;

/// What was found in one configuration.
struct Finding {
    /// Where it is: a folder of the store, or a directory.
    place: String,
    /// Whose it is.
    host: Option<Host>,
    examined: Examined,
}

/// `ovs config validate DIR`. A store is asked only for what references lead to.
pub(super) fn directory(global: &Global, directory: &Path) -> Result<(), Failure> {
    let mut whole = read(directory)?;
    if !whole.missing().is_empty() {
        read_targets(global, &mut whole).map_err(|failure| {
            let message = format!("the documents refer to a store: {failure}");
            Failure::new(failure.kind(), message)
        })?;
    }
    let place = directory.display().to_string();
    print(global.json, &[Finding { place, host: None, examined: whole.examine(None) }])
}

/// Reads what references in `whole` lead to, as it is now.
fn read_targets(global: &Global, whole: &mut Whole) -> Result<(), Failure> {
    let (runtime, session) = super::open(global, super::ROUNDS)?;
    runtime.block_on(async {
        let anything = KeyPath::root();
        let now = session.store.list(&(&anything).into(), ListContent::Keys, None).await;
        session.read_targets(whole, &[], now.map_err(failure_of)?.revision).await
    })
}

/// The documents `DIR/<section>.json`; hidden files and other names hold none.
fn read(directory: &Path) -> Result<Whole, Failure> {
    let failed = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::not_found(format!("there is no {}", path.display())),
        _ => Failure::failed(format!("{} cannot be read: {error}", path.display())),
    };
    let mut documents = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(section) = name.and_then(|name| name.strip_suffix(".json")) else { continue };
        if section.is_empty() || section.starts_with('.') {
            continue;
        }
        let mut text = Vec::new();
        let file = fs::File::open(&path).map_err(|error| failed(&path, error))?;
        file.take(DOCUMENT_LIMIT as u64 + 1).read_to_end(&mut text).map_err(|error| failed(&path, error))?;
        if text.len() > DOCUMENT_LIMIT {
            let limit = DOCUMENT_LIMIT >> 10;
            let message = format!("{} is larger than {limit} KiB, the limit of a document", path.display());
            return Err(Failure::rejected(message));
        }
        documents.push((section.to_owned(), text));
    }
    if documents.is_empty() {
        let message = format!("there is no document in {}: files named <section>.json", directory.display());
        return Err(Failure::not_found(message));
    }
    Ok(Whole::new("", documents))
}

impl Session {
    /// All hosts of the store, or those of a vPool, or one.
    pub(super) async fn validate(&self, vpool: Option<&str>, id: Option<&str>) -> Result<(), Failure> {
        let mut hosts = self.all_hosts(vpool).await?;
        hosts.retain(|host| id.is_none_or(|id| host.id == id));
        if hosts.is_empty() {
            let place = vpool.map_or(VPOOLS.to_owned(), |vpool| format!("{VPOOLS}/{vpool}"));
            let name = id.map_or(String::new(), |id| format!(" {id:?}"));
            return Err(Failure::not_found(format!(
                "there is no host{name} with a configuration in {place}"
            )));
        }
        let mut findings = Vec::new();
        let mut revision = None;
        for host in hosts {
            let folder = host.key("config")?;
            let listing =
                self.store.list(&folder.below(), ListContent::Values, revision).await.map_err(failure_of)?;
            revision = Some(listing.revision);
            let mut whole = Whole::of_pairs(&folder, listing.pairs.iter());
            // Gone since the hosts were listed.
            if whole.is_empty() {
                continue;
            }
            self.read_targets(&mut whole, &[], listing.revision).await?;
            let examined = whole.examine(self.identity_of(&host));
            findings.push(Finding { place: folder.to_string(), host: Some(host), examined });
        }
        print(self.json, &findings)
    }
}

/// Prints everything; fails if there is a problem.
fn print(json: bool, findings: &[Finding]) -> Result<(), Failure> {
    if json {
        output::json(&findings.iter().map(as_json).collect::<Vec<_>>())?;
    } else {
        output::line(&findings.iter().flat_map(lines).collect::<Vec<_>>().join("\n"))?;
    }
    let problems: usize = findings.iter().map(|finding| finding.examined.problems.len()).sum();
    let refused = findings.iter().filter(|finding| !finding.examined.problems.is_empty()).count();
    match problems {
        0 => Ok(()),
        problems => Err(Failure::rejected(format!(
            "{problems} problem{} in {refused} of {} configuration{}; correct the values",
            if problems == 1 { "" } else { "s" },
            findings.len(),
            if findings.len() == 1 { "" } else { "s" },
        ))),
    }
}

fn lines(finding: &Finding) -> Vec<String> {
    let Finding { place, examined, .. } = finding;
    let problems = examined.problems.iter().map(|problem| format!("{place}: refused: {problem}"));
    let unknown = examined.unknown.iter().map(|key| format!("{place}: unknown: {key}"));
    let no_effect = examined.no_effect.iter().map(|key| format!("{place}: without effect: {key}"));
    let mut lines: Vec<String> = problems.chain(unknown).chain(no_effect).collect();
    if examined.problems.is_empty() {
        lines.push(format!("{place}: valid"));
    }
    lines
}

fn as_json(finding: &Finding) -> Json {
    let Finding { place, host, examined } = finding;
    let problems: Vec<Json> =
        examined.problems.iter().map(|problem| check::as_json(host.as_ref(), problem)).collect();
    json!({
        "place": place, "vpool": host.as_ref().map(|host| &host.vpool), "host": host.as_ref().map(|host| &host.id),
        "valid": problems.is_empty(), "problems": problems, "unknown": examined.unknown,
        "no_effect": examined.no_effect,
    })
}
