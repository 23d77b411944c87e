//! The log while the process runs. What is set here holds until the process ends, or an update changes the section
//! `logging`; nothing is stored.

use std::sync::Arc;

use dxr::Value;

use super::Server;
use super::failed::Failed;
use super::table::Routing::Local;
use super::table::{Method, here};
use super::values::{Arguments, nothing, record, text};
use crate::logging::{self, Severity};

/// See the module.
pub(super) const METHODS: &[Method] = &[
    here(
        "setGeneralLoggingLevel",
        Local,
        |s, a| Box::pin(set_general(s, a)),
        "What is logged: `trace`, `debug`, \
        `periodic`, `info`, `warning`, `error`, `fatal`, `notice`. `log_filter_level`.",
    ),
    here("getGeneralLoggingLevel", Local, |s, a| Box::pin(general(s, a)), "What is logged."),
    here(
        "showLoggingFilters",
        Local,
        |s, a| Box::pin(filters(s, a)),
        "Levels of single parts: `log_filter_name`, \
        `log_filter_level`.",
    ),
    here(
        "addLoggingFilter",
        Local,
        |s, a| Box::pin(add(s, a)),
        "Gives a part of the program a level. \
        `log_filter_name`, `log_filter_level`.",
    ),
    here("removeLoggingFilter", Local, |s, a| Box::pin(remove(s, a)), "Takes it away. `log_filter_name`."),
    here("removeAllLoggingFilters", Local, |s, a| Box::pin(remove_all(s, a)), "Takes all of them away."),
];

fn level(arguments: &Arguments) -> Result<Severity, Failed> {
    let given = arguments.text("log_filter_level")?;
    Severity::parse(given).ok_or_else(|| Failed::Argument(format!("bad log level {given:?}")))
}

fn changed(change: impl FnOnce(&mut logging::Levels)) -> Result<Value, Failed> {
    logging::change(change).map_err(Failed::Argument)?;
    Ok(nothing())
}

async fn set_general(_: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let level = level(&arguments)?;
    changed(|levels| levels.general = level)
}

async fn general(_: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    Ok(text(logging::levels().general.name()))
}

async fn filters(_: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    let shown = |(name, level): (String, Severity)| {
        record([("log_filter_name", text(&name)), ("log_filter_level", text(level.name()))])
    };
    Ok(Value::Array(logging::levels().filters.into_iter().map(shown).collect()))
}

async fn add(_: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let (name, level) = (arguments.text("log_filter_name")?.to_owned(), level(&arguments)?);
    changed(|levels| levels.add(name, level))
}

async fn remove(_: Arc<Server>, arguments: Arguments) -> Result<Value, Failed> {
    let name = arguments.text("log_filter_name")?;
    changed(|levels| levels.remove(name))
}

async fn remove_all(_: Arc<Server>, _: Arguments) -> Result<Value, Failed> {
    changed(logging::Levels::remove_all)
}
