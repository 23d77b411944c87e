//! How a command ends when it does not succeed.

use std::fmt;
use std::process::ExitCode;

/// The kinds of failure that scripts tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing more precise applies.
    Failed,
    /// The arguments are wrong.
    Usage,
    /// What was named is not there.
    NotFound,
    /// Something else stands in the way.
    Conflict,
    /// A value is not allowed.
    Rejected,
    /// Nobody answers.
    Unreachable,
    /// Processes run with something else than what is stored for them.
    NotInSync,
}

/// A failure with its one line for people, which says what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

impl Failure {
    /// A failure of `kind`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    /// [`Kind::Failed`].
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Failed, message)
    }

    /// [`Kind::Usage`].
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Usage, message)
    }

    /// [`Kind::NotFound`].
    pub(crate) fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Kind::NotFound, message)
    }

    /// [`Kind::Rejected`].
    pub(crate) fn rejected(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Rejected, message)
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code that belongs to the kind.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Conflict => 4,
            Kind::Rejected => 5,
            Kind::Unreachable => 6,
            Kind::NotInSync => 7,
        })
    }
}

impl fmt::Display for Failure {
    /// One line, whatever the causes contained.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = "";
        for line in self.message.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match previous {
                "" => {}
                previous if previous.ends_with([':', ',', ';']) => f.write_str(" ")?,
                _ => f.write_str("; ")?,
            }
            f.write_str(line)?;
            previous = line;
        }
        Ok(())
    }
}
