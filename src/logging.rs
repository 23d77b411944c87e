//! Log lines on standard error, without tearing progress bars.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cfg_engine::Broken;
use cfg_schema::{Change, Parameter, Problem};
use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use volumedriver::parameters::{Logging, Parameters};

use crate::agent::component::{Component, Nothing, Prepared};
use crate::args::{Global, LogFormat};
use crate::failure::Failure;

/// openraft tells of every step, and what matters of it the store says itself: it speaks only when it is asked to.
const SILENCED: &str = "openraft";

/// Standard error beside progress bars.
#[derive(Clone)]
struct LogWriter(MultiProgress);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A log that nobody can read must not stop the program.
        self.0.suspend(|| drop(io::stderr().write_all(line)));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        self.clone()
    }
}

/// How much something matters, in the words of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Every step.
    Trace,
    /// How things happen.
    Debug,
    /// What happens again and again; here as much as `Debug`.
    Periodic,
    /// What happens.
    Info,
    /// What may need a look.
    Warning,
    /// What somebody has to do something about.
    Error,
    /// What ends the process; here as much as `Error`.
    Fatal,
    /// What is always to be seen; here as much as `Error`.
    Notice,
}

/// Each severity, its name, and the level of this program's log that is the same.
const SEVERITIES: [(Severity, &str, &str); 8] = [
    (Severity::Trace, "trace", "trace"),
    (Severity::Debug, "debug", "debug"),
    (Severity::Periodic, "periodic", "debug"),
    (Severity::Info, "info", "info"),
    (Severity::Warning, "warning", "warn"),
    (Severity::Error, "error", "error"),
    (Severity::Fatal, "fatal", "error"),
    (Severity::Notice, "notice", "error"),
];

impl Severity {
    /// The one of a name.
    pub(crate) fn parse(name: &str) -> Option<Severity> {
        SEVERITIES.iter().find(|(_, known, _)| *known == name).map(|(severity, ..)| *severity)
    }

    /// The one that is the same as a level of this program's log.
    fn of_level(level: &str) -> Option<Severity> {
        SEVERITIES.iter().find(|(.., known)| *known == level).map(|(severity, ..)| *severity)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        SEVERITIES[self as usize].1
    }

    fn level(self) -> &'static str {
        SEVERITIES[self as usize].2
    }
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Of everything that no filter names.
    pub(crate) general: Severity,
    /// Of single parts.
    pub(crate) filters: BTreeMap<String, Severity>,
    /// Parts that say nothing at all; the original has no severity for that.
    off: BTreeSet<String>,
}

static LEVELS: Mutex<Levels> =
    Mutex::new(Levels { general: Severity::Info, filters: BTreeMap::new(), off: BTreeSet::new() });

/// The level of a part that says nothing.
const OFF: &str = "off";

/// Most parts that have a level of their own.
const FILTERS: usize = 256;

impl Levels {
    /// Those of a checked list of a level and of parts with levels, such as `info,cfg_client=debug,openraft=off`.
    fn of(text: &str) -> Levels {
        let mut levels = Levels { general: Severity::Info, filters: BTreeMap::new(), off: BTreeSet::new() };
        for piece in text.split(',').map(str::trim) {
            match piece.split_once('=') {
                None => levels.general = Severity::of_level(piece).unwrap_or(levels.general),
                Some((part, OFF)) => drop(levels.off.insert(part.to_owned())),
                Some((part, level)) => {
                    levels.filters.extend(Severity::of_level(level).map(|level| (part.to_owned(), level)));
                }
            }
        }
        levels
    }

    /// Gives a part a level, also one that was off.
    pub(crate) fn add(&mut self, part: String, level: Severity) {
        self.off.remove(&part);
        self.filters.insert(part, level);
    }

    /// Lets a part log as all others.
    pub(crate) fn remove(&mut self, part: &str) {
        self.off.remove(part);
        self.filters.remove(part);
    }

    /// Lets all parts log as one.
    pub(crate) fn remove_all(&mut self) {
        self.off.clear();
        self.filters.clear();
    }

    /// The filter that they are.
    fn filter(&self) -> Result<EnvFilter, String> {
        if self.filters.len() + self.off.len() > FILTERS {
            return Err(format!("more than {FILTERS} filters"));
        }
        let is_part = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'))
        };
        if let Some(odd) = self.filters.keys().chain(&self.off).find(|part| part.is_empty() || !is_part(part))
        {
            return Err(format!(
                "{odd:?} is no part of the program; such are cfg_client or volumedriver::pool"
            ));
        }
        let filters = self.filters.iter().map(|(part, severity)| format!(",{part}={}", severity.level()));
        let off = self.off.iter().map(|part| format!(",{part}={OFF}"));
        filter(&format!("{}{}", self.general.level(), filters.chain(off).collect::<String>()))
    }
}

fn remembered() -> MutexGuard<'static, Levels> {
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is logged now.
pub(crate) fn levels() -> Levels {
    remembered().clone()
}

/// Logs otherwise until the process ends or an update changes the section `logging`.
///
/// # Errors
/// What is wrong with the levels; then nothing changed.
pub(crate) fn change(change: impl FnOnce(&mut Levels)) -> Result<(), String> {
    let mut levels = remembered();
    let mut next = levels.clone();
    change(&mut next);
    let filter = next.filter()?;
    RELOAD.get().map_or(Ok(()), |reload| reload(filter))?;
    *levels = next;
    Ok(())
}

/// Puts another filter in the place of the one that is used.
type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Set once, by [`start`].
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Starts logging as the arguments say, at `default_level` if they do not.
pub(crate) fn start(global: &Global, default_level: &str, bars: &MultiProgress) -> Result<(), Failure> {
    let level = global.log_level.as_deref().unwrap_or(default_level);
    let filter = filter(level).map_err(|error| {
        Failure::usage(format!("--log-level {level:?}: {error}; use error, warn, info, debug or trace"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogWriter(bars.clone()));
    let reload: Reload = match global.log_format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        LogFormat::Text => {
            let builder =
                builder.with_ansi(io::stderr().is_terminal()).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    *remembered() = Levels::of(level);
    // A process starts its log once.
    let _ = RELOAD.set(reload);
    Ok(())
}

/// What passes: `text` is a level, or a list of levels and parts.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let silenced = if text.contains(SILENCED) { String::new() } else { format!(",{SILENCED}=off") };
    EnvFilter::try_new(format!("{text}{silenced}")).map_err(|error| error.to_string())
}

/// The filter of the section `logging`, and the levels that it is.
fn configured(logging: &Logging) -> Result<Next, Vec<Problem>> {
    let level = logging.log_level.write();
    let text = [level.as_str().unwrap_or_default(), logging.log_filters.as_str()].join(",");
    let text = text.trim_end_matches(',');
    let filter = filter(text).map_err(|error| {
        let problem = format!("{error}; use PART=LEVEL,PART=LEVEL");
        vec![Problem::new("logging", "log_filters", logging.log_filters.clone().into(), problem)]
    })?;
    Ok(Next(filter, Levels::of(text)))
}

/// Logs from now on as configured.
///
/// # Errors
/// Filters that are none.
pub(crate) fn configure(logging: &Logging) -> Result<(), Vec<Problem>> {
    let Next(filter, levels) = configured(logging)?;
    if let Some(Err(error)) = RELOAD.get().map(|reload| reload(filter)) {
        tracing::error!(error, "the log goes on as before");
        return Ok(());
    }
    *remembered() = levels;
    Ok(())
}

/// The log as a component that takes the section `logging`.
pub(crate) struct Log;

/// A filter that waits to be used.
struct Next(EnvFilter, Levels);

impl Component for Log {
    fn prepare(&self, values: &Parameters, changes: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        match changes.iter().any(|change| change.section == "logging") {
            true => Ok(Box::new(configured(&values.logging)?)),
            false => Ok(Box::new(Nothing)),
        }
    }
}

impl Prepared for Next {
    fn commit(self: Box<Self>) -> Vec<Broken> {
        let Next(filter, levels) = *self;
        let reloaded = RELOAD.get().map_or(Ok(()), |reload| reload(filter));
        if reloaded.is_ok() {
            *remembered() = levels;
        }
        let broken = |problem| Broken { section: "logging".to_owned(), key: String::new(), problem };
        reloaded.err().map(broken).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_levels_and_names_the_same_both_ways() {
        for (at, (severity, name, level)) in SEVERITIES.into_iter().enumerate() {
            assert_eq!((severity as usize, severity.name(), severity.level()), (at, name, level));
            assert_eq!(Severity::parse(name), Some(severity));
        }
        assert_eq!((Severity::parse("warn"), Severity::of_level("warn")), (None, Some(Severity::Warning)));
    }

    #[test]
    fn levels_are_those_of_the_section_and_odd_filters_are_refused() {
        let logging = Logging {
            log_filters: "cfg_client=debug,volumedriver::pool=off".to_owned(),
            ..Logging::default()
        };
        let Next(_, levels) = configured(&logging).expect("a filter");
        assert_eq!(levels.filters, BTreeMap::from([("cfg_client".to_owned(), Severity::Debug)]));
        assert!(levels.filter().is_ok());
        for odd in ["", "a,b", "a=b", "a[x]"] {
            let mut levels = levels.clone();
            levels.filters.insert(odd.to_owned(), Severity::Info);
            assert!(levels.filter().is_err(), "{odd}");
        }
        let mut levels = levels.clone();
        levels.filters = (0..FILTERS).map(|number| (format!("part{number}"), Severity::Info)).collect();
        assert!(levels.filter().is_err(), "one more is off");
    }

    #[test]
    fn a_part_that_is_off_stays_so_until_it_is_named() {
        let mut levels = Levels::of("debug,volumedriver::pool=off,cfg_client=warn");
        let shown = |levels: &Levels| levels.filter().expect("a filter").to_string();
        levels.general = Severity::Error;
        levels.add("cfg_store".to_owned(), Severity::Trace);
        levels.remove("cfg_client");
        assert!(shown(&levels).contains("volumedriver::pool=off"), "{}", shown(&levels));
        assert!(!shown(&levels).contains("cfg_client"), "{}", shown(&levels));
        let mut named = levels.clone();
        named.add("volumedriver::pool".to_owned(), Severity::Info);
        assert!(shown(&named).contains("volumedriver::pool=info"), "{}", shown(&named));
        for take_away in [|levels: &mut Levels| levels.remove("volumedriver::pool"), Levels::remove_all] {
            let mut levels = levels.clone();
            take_away(&mut levels);
            assert!(!shown(&levels).contains("volumedriver::pool"), "{}", shown(&levels));
        }
    }
}
