//! Many seeds on all cores: independent worlds, whose results are put together in the order of their seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use quorate_scenarios::{Report, Situations, Summary, TraceEvent, TraceHash};
use serde_json::{Value, json};

use crate::failure::{say, tell};

/// What a seed came to.
type Outcome = Result<Summary, Box<Report>>;

/// Seeds to run, and on how many threads.
#[derive(Clone, Copy)]
pub(super) struct Seeds {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) threads: usize,
}

/// What all seeds came to.
#[derive(Default)]
pub(super) struct Total {
    pub(super) seeds: u64,
    pub(super) events: u64,
    pub(super) elections: u64,
    pub(super) committed: u64,
    pub(super) virtual_ms: u64,
    pub(super) hash: TraceHash,
    pub(super) situations: Situations,
    pub(super) failures: u64,
    /// The first seed that failed.
    pub(super) failed: Option<u64>,
    pub(super) seconds: f64,
    /// The trace of the first failure, or of the first seed if none failed.
    pub(super) trace: Vec<TraceEvent>,
    /// The history of the same seed.
    pub(super) history: Option<String>,
}

/// Runs the seeds; tells how it goes, and of each failure at once.
pub(super) fn run(seeds: Seeds, json: bool, one: impl Fn(u64) -> Outcome + Sync) -> Total {
    // A failed assertion of the code is reported like every other failure.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let mut total = Total::default();
    std::thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..seeds.threads.max(1) {
            let (sender, next, one) = (sender.clone(), &next, &one);
            scope.spawn(move || {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= seeds.count || sender.send((nth, one(seeds.first + nth))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        total.take_all(outcomes, seeds.count, json);
    });
    let _ = std::panic::take_hook();
    total.seconds = start.elapsed().as_secs_f64();
    total
}

impl Total {
    /// Takes the outcomes in the order of their seeds, so that the hash does not depend on the threads.
    fn take_all(&mut self, outcomes: mpsc::Receiver<(u64, Outcome)>, count: u64, json: bool) {
        let mut early = BTreeMap::new();
        let mut told = Instant::now();
        for (nth, outcome) in outcomes {
            early.insert(nth, outcome);
            while let Some(outcome) = early.remove(&self.seeds) {
                self.seeds += 1;
                self.take(outcome, json);
            }
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                say(&format!("{} of {count} seeds, {} failed", self.seeds, self.failures));
            }
        }
    }

    fn take(&mut self, outcome: Outcome, json: bool) {
        match outcome {
            Ok(summary) => self.add(summary),
            Err(report) => {
                say(&report.to_string());
                if json {
                    tell(&failure(&report).to_string());
                }
                if self.failures == 0 {
                    (self.trace, self.history) = (report.trace, report.history);
                    self.failed = Some(report.seed);
                }
                self.failures += 1;
            }
        }
    }

    fn add(&mut self, summary: Summary) {
        self.events += summary.events;
        self.elections += summary.elections;
        self.committed += summary.committed;
        self.virtual_ms += summary.virtual_ms;
        self.hash.combine(summary.trace_hash);
        self.situations.add(&summary.situations);
        if self.trace.is_empty() && self.failures == 0 {
            self.trace = summary.trace;
        }
        if self.failures == 0 {
            self.history = self.history.take().or(summary.history);
        }
    }

    /// Adds what other seeds came to.
    pub(super) fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.elections += other.elections;
        self.committed += other.committed;
        self.virtual_ms += other.virtual_ms;
        self.hash.combine(other.hash);
        self.situations.add(&other.situations);
        self.failures += other.failures;
        self.seconds += other.seconds;
    }

    pub(super) fn passed(&self) -> bool {
        self.failures == 0
    }

    /// `every promise kept`, or how many seeds failed.
    pub(super) fn verdict(&self) -> String {
        if self.passed() {
            "every promise kept".to_string()
        } else {
            format!("{} failed", self.failures)
        }
    }

    pub(super) fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds.max(1e-9)
    }

    pub(super) fn to_json(&self, scenario: &str, first: u64) -> Value {
        let never: Vec<_> = self.situations.never().map(|situation| situation.name()).collect();
        json!({
            "scenario": scenario, "seed": first, "seeds": self.seeds, "passed": self.passed(),
            "failed": self.failures, "events": self.events, "trace_hash": self.hash.to_string(),
            "never_reached": never,
        })
    }
}

fn failure(report: &Report) -> Value {
    json!({
        "seed": report.seed, "passed": false, "property": report.failure.property,
        "what": report.failure.what, "events": report.events,
    })
}
