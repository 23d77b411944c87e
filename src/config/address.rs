//! Which store the arguments mean.

use std::path::Path;

use cfg_client::StoreUrl;

use crate::admin::client::endpoints_of_file;
use crate::args::Global;
use crate::data_dir::DataDir;
use crate::endpoints::ADMIN_SCHEME;
use crate::failure::{Failure, Kind};
use crate::identity::Identity;

/// The forms of `--endpoint` that name a store.
const FORMS: &str = "give etcd://HOST:PORT,HOST:PORT, or the path of an endpoints.json";

/// The store of `--endpoint`, or of the node in the data directory.
pub(crate) fn find(global: &Global) -> Result<StoreUrl, Failure> {
    let Some(endpoint) = global.endpoint.as_deref() else {
        let directory = DataDir::locate(global.data_dir.as_deref())?;
        let advice = "start the node with `ovs up`, or name a store by --endpoint etcd://HOST:PORT";
        return of_file(&directory.endpoints(), advice);
    };
    if endpoint.starts_with("etcd://") {
        return of_url(endpoint);
    }
    if endpoint.starts_with("http://") {
        return of_http(endpoint);
    }
    let path = endpoint.strip_prefix("file://").unwrap_or(endpoint);
    let path = match endpoint.strip_prefix(ADMIN_SCHEME) {
        // Beside the admin socket stands the file that names the store.
        Some(socket) => Path::new(socket).parent().unwrap_or(Path::new("/")),
        None if path.is_empty() || path.contains("://") => {
            return Err(Failure::usage(format!("--endpoint {endpoint:?} names no store; {FORMS}")));
        }
        None => Path::new(path),
    };
    let file = if path.is_dir() { path.join("endpoints.json") } else { path.to_path_buf() };
    of_file(&file, "start the node with `ovs up`, or correct --endpoint")
}

/// Who the node is in whose directory the arguments find the store; nobody, if that cannot be read.
pub(crate) fn identity(global: &Global) -> Option<Identity> {
    let directory = match (global.endpoint.as_deref(), &global.data_dir) {
        (None, directory) => DataDir::locate(directory.as_deref()).ok()?,
        (Some(_), Some(directory)) => DataDir::locate(Some(directory)).ok()?,
        (Some(endpoint), None) => {
            let path = endpoint.strip_prefix(ADMIN_SCHEME).or_else(|| endpoint.strip_prefix("file://"));
            let path = Path::new(path.unwrap_or(endpoint));
            if path.to_string_lossy().contains("://") {
                return None;
            }
            let directory = if path.is_dir() { path } else { path.parent()? };
            DataDir::locate(Some(directory)).ok()?
        }
    };
    Identity::read(&directory.identity()).ok().flatten()
}

fn of_file(file: &Path, advice: &str) -> Result<StoreUrl, Failure> {
    match endpoints_of_file(file, advice)?.etcd {
        Some(address) if address.starts_with("http://") => of_http(&address),
        Some(address) => of_url(&address),
        None => Err(Failure::new(
            Kind::Unreachable,
            format!(
                "the node of {} has no configuration store, it reads the files of config/ in its data directory; \
                 name a store by --endpoint etcd://HOST:PORT",
                file.display()
            ),
        )),
    }
}

/// Addresses as etcd's own tools take them.
fn of_http(address: &str) -> Result<StoreUrl, Failure> {
    of_url(&address.replace("http://", "etcd://").replacen(",etcd://", ",", usize::MAX))
}

fn of_url(url: &str) -> Result<StoreUrl, Failure> {
    let parsed = StoreUrl::parse(url).map_err(|error| Failure::usage(format!("{error}; {FORMS}")))?;
    if !parsed.path.is_root() {
        let path = &parsed.path;
        return Err(Failure::usage(format!(
            "--endpoint {url:?} has the path {path}; name the store without a path, and give whole keys"
        )));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_in_the_ways_of_their_users() {
        let endpoints =
            |url: &str| of_url(url).map(|url| url.endpoints).map_err(|failure| failure.to_string());
        assert_eq!(endpoints("etcd://a:1,b"), Ok(vec!["a:1".to_owned(), "b:2379".to_owned()]));
        assert!(endpoints("etcd://a/ovs").is_err_and(|error| error.contains("without a path")));
        let http =
            of_http("http://a:1,http://b:2").map(|url| url.endpoints).map_err(|failure| failure.to_string());
        assert_eq!(http, Ok(vec!["a:1".to_owned(), "b:2".to_owned()]));
    }
}
