//! How a verb ends: exit codes, and messages that name the thing, the cause and the next step.

use std::fmt::Display;
use std::process::ExitCode;

/// What a verb came to, if it could do its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    /// Yes, or done.
    Yes,
    /// No: unhealthy, a property violated.
    No,
    /// A limit was met before it was known.
    Undecided,
}

/// What stood in a verb's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The server said no: nothing happened.
    Refused,
    /// It may have happened.
    Unknown,
    /// It cannot be asked like that.
    Usage,
    /// What it was given makes no sense.
    BadInput,
    /// Nobody answers, or a port is taken.
    Unreachable,
    /// Files cannot be read or written, or are damaged.
    Data,
    /// The configuration is wrong.
    Config,
}

impl Kind {
    /// The exit code (DESIGN, "What people see"; the numbers are those of `sysexits.h`).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Unknown => 2,
            Self::Usage => 64,
            Self::BadInput => 65,
            Self::Unreachable => 69,
            Self::Data => 74,
            Self::Config => 78,
        }
    }
}

/// A verb that could not do its work.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: Kind,
    what: String,
    cause: String,
    help: String,
}

impl Failure {
    /// `what` completes "quorate: cannot ...".
    pub(crate) fn new(
        kind: Kind,
        what: impl Display,
        cause: impl Display,
        help: impl Display,
    ) -> Self {
        Self { kind, what: what.to_string(), cause: cause.to_string(), help: help.to_string() }
    }

    /// Why.
    pub(crate) fn cause(&self) -> &str {
        &self.cause
    }

    /// Tells it on stderr, and what the process is to exit with.
    pub(crate) fn report(&self) -> ExitCode {
        let Self { kind, what, cause, help } = self;
        say(&format!("quorate: cannot {what}\n  cause: {cause}\n  help:  {help}"));
        ExitCode::from(kind.code())
    }
}

/// Talk: to stderr. A reader that went away is no reason to fail.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Data: to stdout.
pub(crate) fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
