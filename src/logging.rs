//! Log lines on standard error, without tearing progress bars.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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

/// Starts logging as the arguments say, at `default_level` if they do not.
pub(crate) fn start(global: &Global, default_level: &str, bars: &MultiProgress) -> Result<(), Failure> {
    let level = global.log_level.as_deref().unwrap_or(default_level);
    let silenced = if level.contains(SILENCED) { String::new() } else { format!(",{SILENCED}=off") };
    let filter = EnvFilter::try_new(format!("{level}{silenced}")).map_err(|error| {
        Failure::usage(format!("--log-level {level:?}: {error}; use error, warn, info, debug or trace"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogWriter(bars.clone()));
    match global.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}
