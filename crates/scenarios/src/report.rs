//! What a run came to: a summary for programs, a report for a tired person.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_contracts::Service;
use quorate_sim::{Happening, Situations, TraceEvent, TraceHash, Violation, World};

/// How to run a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunOptions {
    /// Keep everything that happens, for a trace file.
    pub trace: bool,
    /// Keep what clients asked and were told, for the checker.
    pub history: bool,
    /// How many runs may be spent on making a failure smaller; 0 to report it as it is.
    pub shrink_runs: u32,
}

/// One test of a catalogue.
pub trait Test: Sync {
    /// Its name, as on the command line.
    fn name(&self) -> &'static str;
    /// Runs one seed.
    fn run(&self, seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>>;
}

/// A run that found nothing wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The seed that made all its choices.
    pub seed: u64,
    /// Steps of all servers.
    pub events: u64,
    /// A hash of everything that happened.
    pub trace_hash: TraceHash,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Entries committed.
    pub committed: u64,
    /// Situations that were reached.
    pub situations: Situations,
    /// Everything that happened, if it was kept.
    pub trace: Vec<TraceEvent>,
    /// What clients asked and were told, if it was kept: JSON lines, as `quorate check` reads them.
    pub history: Option<String>,
}

impl Summary {
    /// What a world came to.
    pub(crate) fn of<S: Service>(seed: u64, world: &World<S>) -> Self
    where
        S::Message: Clone,
    {
        Self {
            seed,
            events: world.events(),
            trace_hash: world.trace_hash(),
            virtual_ms: world.now().as_nanos() / 1_000_000,
            elections: world.safety().elections,
            committed: world.safety().committed().0,
            situations: world.situations().clone(),
            trace: world.trace().to_vec(),
            history: None,
        }
    }
}

/// What kind of promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// Something happened that must never happen.
    Safety,
    /// Something did not happen that must happen in the end.
    Liveness,
    /// An assertion of the code itself failed.
    Panic,
}

/// What was wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which kind of promise.
    pub kind: FailureKind,
    /// Which promise, by the paper's name where it has one.
    pub property: String,
    /// How it was broken.
    pub what: String,
}

impl Failure {
    /// Something that must never happen.
    pub(crate) fn safety(property: &str, what: String) -> Self {
        Self { kind: FailureKind::Safety, property: property.to_string(), what }
    }

    /// Something that must happen in the end.
    pub(crate) fn liveness(property: &str, what: String) -> Self {
        Self { kind: FailureKind::Liveness, property: property.to_string(), what }
    }

    /// Whether another failure broke the same promise: what shrinking keeps.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        self.kind == other.kind && self.property == other.property
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::safety(violation.property, violation.what)
    }
}

/// Runs something whose own assertions may fail: a panic is a failure like any other.
pub(crate) fn guarded(run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        // What `assert_eq` puts around the message is left out.
        let text = text.strip_prefix("assertion `left == right` failed: ").unwrap_or(text);
        let text = text.lines().next().unwrap_or(text);
        // `Leader Completeness: entry 7 is committed ...`: the assertion names its property first.
        let property = text.split_once(": ").map_or("assertion", |(property, _)| property);
        let what = text.strip_prefix(property).map_or(text, |rest| rest.trim_start_matches(": "));
        Err(Failure {
            kind: FailureKind::Panic,
            property: property.chars().filter(|c| !c.is_ascii_digit()).take(40).collect(),
            what: what.to_string(),
        })
    })
}

/// What is left of a failed run once it was made smaller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// Deeds and mishaps before.
    pub before: usize,
    /// Runs that it took.
    pub runs: u32,
    /// Those that are left, in words.
    pub deeds: Vec<String>,
}

/// A run that failed: what a person needs to look into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The scenario, as on the command line.
    pub scenario: String,
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
    /// What is left of it, if it was made smaller: time, events and trace are then those of the smaller run.
    pub shrunk: Option<Shrunk>,
    /// Everything that happened, if it was kept.
    pub trace: Vec<TraceEvent>,
    /// What clients asked and were told, if it was kept, of the run before it was made smaller.
    pub history: Option<String>,
    /// Files that were written, filled in by who writes them.
    pub files: Vec<String>,
}

impl Report {
    /// A report on a world in which something was wrong.
    pub(crate) fn of<S: Service>(
        scenario: String,
        seed: u64,
        setting: String,
        failure: Failure,
        world: &World<S>,
    ) -> Self
    where
        S::Message: Clone,
    {
        let mut trace = world.trace().to_vec();
        let told = trace.last().is_some_and(|e| matches!(e.what, Happening::Violated { .. }));
        if world.keeps_trace() && !told {
            let text = format!("{}: {}", failure.property, failure.what);
            trace.push(TraceEvent { at: world.now(), what: Happening::Violated { text } });
        }
        Self {
            scenario,
            seed,
            failure,
            setting,
            at_ms: world.now().as_nanos() / 1_000_000,
            events: world.events(),
            shrunk: None,
            trace,
            history: None,
            files: Vec::new(),
        }
    }
}

/// Lines of the trace that a report shows, and deeds.
const LINES_MAX: usize = 40;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { kind, property, what } = &self.failure;
        let kind = match kind {
            FailureKind::Safety => "safety",
            FailureKind::Liveness => "liveness",
            FailureKind::Panic => "panic",
        };
        writeln!(f, "FAIL   {}  seed {}", self.scenario, self.seed)?;
        writeln!(f, "kind   {kind} · {property}: {what}")?;
        writeln!(f, "replay quorate sim {} --seed {}", self.scenario, self.seed)?;
        let (seconds, millis) = (self.at_ms / 1_000, self.at_ms % 1_000);
        writeln!(f, "at     {seconds}.{millis:03} s, {} events", self.events)?;
        writeln!(f, "world  {}", self.setting)?;
        if let Some(shrunk) = &self.shrunk {
            let (before, after, runs) = (shrunk.before, shrunk.deeds.len(), shrunk.runs);
            writeln!(f, "shrunk {before} → {after} deeds and mishaps, in {runs} runs:")?;
            for deed in shrunk.deeds.iter().take(LINES_MAX) {
                writeln!(f, "  {deed}")?;
            }
        }
        for file in &self.files {
            writeln!(f, "file   {file}")?;
        }
        let headlines: Vec<_> = self.trace.iter().filter(|e| e.what.is_headline()).collect();
        for event in &headlines[headlines.len().saturating_sub(LINES_MAX)..] {
            writeln!(f, "  {event}")?;
        }
        Ok(())
    }
}
