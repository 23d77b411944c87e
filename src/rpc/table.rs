//! The table of all methods. Each file of this folder has its part of it beside the functions that do the work.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use dxr::Value;

use super::failed::Failed;
use super::values::Arguments;
use super::{Server, cluster, configuration, diagnostics, logs, settings, snapshots, statistics, volumes};

/// A call at work.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Value, Failed>> + Send>>;

/// Does what a method does.
pub(super) type Handler = fn(Arc<Server>, Arguments) -> Work;

/// Whether a request that names another driver is redirected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routing {
    /// It is, by `vrouter_id`.
    Redirected,
    /// `vrouter_id`, if there is one, has another meaning or none.
    Local,
}

/// What a method waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// Snapshots, rollback.
    Snapshots,
    /// Clones and templates.
    Clones,
    /// The scrubber.
    Scrubbing,
    /// An object store behind the local log.
    Backend,
    /// The mirrored write log.
    Dtl,
    /// Metadata servers.
    Mds,
    /// The read cache.
    ReadCache,
    /// Stopping, starting and moving single volumes.
    Moving,
    /// Comparing a volume's map with its log.
    Checking,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Snapshots => "snapshots",
            Feature::Clones => "clones and templates",
            Feature::Scrubbing => "scrubbing",
            Feature::Backend => "an object store as backend",
            Feature::Dtl => "the DTL",
            Feature::Mds => "metadata servers",
            Feature::ReadCache => "the read cache",
            Feature::Moving => "stopping and moving single volumes",
            Feature::Checking => "a check of single volumes",
        })
    }
}

/// Whether a method does something.
#[derive(Clone, Copy)]
pub(super) enum Standing {
    /// It does.
    Here(Handler),
    /// What it is for does not exist yet.
    Later(Feature),
    /// It does not, and will not.
    Never(&'static str),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Here(_) => f.write_str("here"),
            Standing::Later(feature) => write!(f, "later: {feature}"),
            Standing::Never(reason) => write!(f, "never: {reason}"),
        }
    }
}

/// A method.
#[derive(Clone, Copy)]
pub(super) struct Method {
    /// Its name on the wire.
    pub(super) name: &'static str,
    /// See [`Routing`].
    pub(super) routing: Routing,
    /// See [`Standing`].
    pub(super) standing: Standing,
    /// What it does, what it takes, what it gives.
    pub(super) help: &'static str,
}

/// A method that does something.
pub(super) const fn here(
    name: &'static str,
    routing: Routing,
    handler: Handler,
    help: &'static str,
) -> Method {
    Method { name, routing, standing: Standing::Here(handler), help }
}

/// A method that waits for a feature.
pub(super) const fn later(
    name: &'static str,
    routing: Routing,
    feature: Feature,
    help: &'static str,
) -> Method {
    Method { name, routing, standing: Standing::Later(feature), help }
}

/// A method that is known and not provided.
pub(super) const fn never(
    name: &'static str,
    routing: Routing,
    reason: &'static str,
    help: &'static str,
) -> Method {
    Method { name, routing, standing: Standing::Never(reason), help }
}

/// All methods, section by section.
pub(super) const SECTIONS: &[(&str, &[Method])] = &[
    ("Volumes", volumes::METHODS),
    ("Snapshots and the backend", snapshots::METHODS),
    ("Scrubbing", snapshots::SCRUBBING),
    ("Settings of a volume", settings::METHODS),
    ("Statistics", statistics::METHODS),
    ("Caches and diagnostics", diagnostics::METHODS),
    ("Drivers of the vPool", cluster::METHODS),
    ("Configuration", configuration::METHODS),
    ("Log", logs::METHODS),
];

/// All methods but those of `system.`.
pub(super) fn all() -> impl Iterator<Item = &'static Method> {
    SECTIONS.iter().flat_map(|(_, methods)| methods.iter())
}

/// The method of a name.
pub(super) fn find(name: &str) -> Option<&'static Method> {
    all().find(|method| method.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rpc::system;

    /// The tables of the page, as they follow from the code.
    fn page() -> String {
        let mut page = String::new();
        let row = |name: &str, routed: &str, standing: &str, help: &str| {
            format!("| `{name}` | {routed} | {standing} | {help} |\n")
        };
        for (section, methods) in SECTIONS {
            page += &format!("\n### {section}\n\n| method | redirected | | |\n|---|---|---|---|\n");
            for Method { name, routing, standing, help } in *methods {
                let routed = if *routing == Routing::Redirected { "yes" } else { "" };
                page += &row(name, routed, &standing.to_string(), help);
            }
        }
        page += "\n### About the methods\n\n| method | redirected | | |\n|---|---|---|---|\n";
        for (name, help) in system::METHODS {
            page += &row(name, "", "here", help);
        }
        page
    }

    #[test]
    fn the_page_has_the_methods_of_the_code() {
        let expected = page();
        let shown = include_str!("../../docs/admin-rpc.md");
        assert!(shown.contains(&expected), "docs/admin-rpc.md must contain\n{expected}");
    }

    #[test]
    fn every_method_of_the_original_is_there_once() {
        let original: BTreeSet<&str> = include_str!("../../tests/clients/methods.txt").lines().collect();
        let names: BTreeSet<&str> = all().map(|method| method.name).collect();
        assert_eq!(names, original);
        assert_eq!((all().count(), names.len()), (91, 91));
        assert!(all().all(|method| method.help.ends_with('.') && !method.help.contains('|')));
    }
}
