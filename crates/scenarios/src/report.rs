//! What a run came to: a summary for programs, a report for a tired person.

use std::fmt;

use quorate_sim::TraceLine;

/// A run that found nothing wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The seed that made all its choices.
    pub seed: u64,
    /// Steps of all servers.
    pub events: u64,
    /// A hash of everything that happened.
    pub trace_hash: quorate_sim::TraceHash,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Entries committed.
    pub committed: u64,
}

/// What kind of promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// Something happened that must never happen.
    Safety,
    /// Something did not happen that must happen in the end.
    Liveness,
}

/// What was wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which kind of promise.
    pub kind: FailureKind,
    /// Which promise, and how it was broken.
    pub what: String,
}

/// A run that failed: what a person needs to look into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The scenario's name, as on the command line.
    pub scenario: &'static str,
    /// The seed that made all its choices.
    pub seed: u64,
    /// What was wrong.
    pub failure: Failure,
    /// The world's faults in words.
    pub setting: String,
    /// True time at which it was seen, in milliseconds.
    pub at_ms: u64,
    /// Steps of all servers until then.
    pub events: u64,
    /// What happened right before, if it was recorded.
    pub trace: Vec<TraceLine>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.failure.kind {
            FailureKind::Safety => "safety",
            FailureKind::Liveness => "liveness",
        };
        writeln!(f, "FAIL   {}  seed {}", self.scenario, self.seed)?;
        writeln!(f, "kind   {kind} · {}", self.failure.what)?;
        writeln!(f, "replay quorate sim {} --seed {} --trace", self.scenario, self.seed)?;
        writeln!(
            f,
            "at     {}.{:03} s, {} events",
            self.at_ms / 1000,
            self.at_ms % 1000,
            self.events
        )?;
        writeln!(f, "world  {}", self.setting)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
