//! What the process logs.

use cfg_schema::{Problem, sections, words};

words! {
    /// What is logged: this, and everything above it.
    pub enum LogLevel {
        /// What somebody has to do something about.
        Error = "error",
        /// What may need a look.
        Warn = "warn",
        /// What happens.
        Info = "info",
        /// How it happens.
        Debug = "debug",
        /// Every step.
        Trace = "trace",
    }
}

sections! {
    /// The log of the process, on standard error.
    section logging: Logging {
        /// What is logged. `--log-level` decides in its place from the start until an update changes this section.
        log_level: LogLevel = LogLevel::Info, Dynamic;
        /// Levels of single parts beside it, such as `cfg_client=debug,volumedriver=trace`; empty: none.
        log_filters: String = String::new(), Dynamic;
    }
}

/// Levels that a part can have.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is no list of parts with levels.
pub(super) fn problem(logging: &Logging) -> Option<Problem> {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'))
    };
    let is_filter = |filter: &str| {
        filter.split_once('=').is_some_and(|(part, level)| is_part(part) && LEVELS.contains(&level))
    };
    let filters = &logging.log_filters;
    let wrong = filters.split(',').find(|filter| !filters.is_empty() && !is_filter(filter))?;
    let problem = format!("{wrong:?} must be PART=LEVEL with a level of {}", LEVELS.join(", "));
    Some(Problem::new("logging", "log_filters", filters.clone().into(), problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parts_with_levels() {
        let refused = |filters: &str| {
            problem(&Logging { log_filters: filters.to_owned(), ..Logging::default() })
                .map(|found| found.problem)
        };
        assert_eq!(refused(""), None);
        assert_eq!(refused("cfg_client=debug,volumedriver::pool=off"), None);
        for wrong in ["debug", "a=loud", "=info", "a=info,", "a[x]=info", "a=info b=warn"] {
            assert!(refused(wrong).is_some_and(|problem| problem.contains("must be PART=LEVEL")), "{wrong}");
        }
    }
}
