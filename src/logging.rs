//! Log lines on standard error, without tearing progress bars.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

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
    // A process starts its log once.
    let _ = RELOAD.set(reload);
    Ok(())
}

/// What passes: `text` is a level, or a list of levels and parts.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let silenced = if text.contains(SILENCED) { String::new() } else { format!(",{SILENCED}=off") };
    EnvFilter::try_new(format!("{text}{silenced}")).map_err(|error| error.to_string())
}

/// The filter of the section `logging`.
fn configured(logging: &Logging) -> Result<EnvFilter, Vec<Problem>> {
    let level = logging.log_level.write();
    let text = [level.as_str().unwrap_or_default(), logging.log_filters.as_str()].join(",");
    filter(text.trim_end_matches(',')).map_err(|error| {
        let problem = format!("{error}; use PART=LEVEL,PART=LEVEL");
        vec![Problem::new("logging", "log_filters", logging.log_filters.clone().into(), problem)]
    })
}

/// Logs from now on as configured.
///
/// # Errors
/// Filters that are none.
pub(crate) fn configure(logging: &Logging) -> Result<(), Vec<Problem>> {
    let filter = configured(logging)?;
    if let Some(Err(error)) = RELOAD.get().map(|reload| reload(filter)) {
        tracing::error!(error, "the log goes on as before");
    }
    Ok(())
}

/// The log as a component that takes the section `logging`.
pub(crate) struct Log;

/// A filter that waits to be used.
struct Next(EnvFilter);

impl Component for Log {
    fn prepare(&self, values: &Parameters, changes: &[Change]) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        match changes.iter().any(|change| change.section == "logging") {
            true => Ok(Box::new(Next(configured(&values.logging)?))),
            false => Ok(Box::new(Nothing)),
        }
    }
}

impl Prepared for Next {
    fn commit(self: Box<Self>) -> Vec<Broken> {
        let reloaded = RELOAD.get().map_or(Ok(()), |reload| reload(self.0));
        let broken = |problem| Broken { section: "logging".to_owned(), key: String::new(), problem };
        reloaded.err().map(broken).into_iter().collect()
    }
}
