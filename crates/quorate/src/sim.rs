//! `quorate sim`: scenarios in the simulator.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_scenarios::{Summary, raft};
use serde_json::json;

use crate::failure::{Done, Failure, say, tell};

/// Run a scenario in the simulator; exits with 1 if a promise was broken
#[derive(Subcommand)]
pub(crate) enum Sim {
    /// Raft alone, under every fault: crashes, partitions, loss, slow disks, bad clocks
    Raft(Run),
}

/// Seeds to run
#[derive(Args)]
#[command(after_help = "Examples:
  quorate sim raft --seed 7
  quorate sim raft --seed 1 --seeds 1000 --json")]
pub(crate) struct Run {
    /// The first seed; the same seed gives the same run
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// How many seeds, counting up
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,

    /// Print JSON; the last line is the summary
    #[arg(long)]
    json: bool,

    /// On a failure, show what happened right before
    #[arg(long)]
    trace: bool,
}

impl Sim {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let Self::Raft(run) = self;
        Ok(run.run())
    }
}

/// What all seeds so far came to.
#[derive(Default)]
struct Total {
    events: u64,
    elections: u64,
    committed: u64,
    virtual_ms: u64,
    hash: quorate_scenarios::TraceHash,
    failures: u64,
}

impl Run {
    fn run(&self) -> Done {
        let start = Instant::now();
        let mut told = start;
        let mut total = Total::default();
        for (count, seed) in (self.seed..self.seed.saturating_add(self.seeds)).enumerate() {
            match raft::run(seed, self.trace) {
                Ok(summary) => total.add(&summary),
                Err(report) => {
                    total.failures += 1;
                    say(&report.to_string());
                    if self.json {
                        let (what, events) = (&report.failure.what, report.events);
                        tell(
                            &json!({"seed": seed, "passed": false, "what": what, "events": events})
                                .to_string(),
                        );
                    }
                }
            }
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                say(&format!("{} of {} seeds, {} failed", count + 1, self.seeds, total.failures));
            }
        }
        self.summarize(&total, start.elapsed());
        if total.failures == 0 { Done::Yes } else { Done::No }
    }

    fn summarize(&self, total: &Total, elapsed: Duration) {
        let passed = total.failures == 0;
        if self.json {
            let line = json!({
                "scenario": raft::NAME, "seed": self.seed, "seeds": self.seeds, "passed": passed,
                "events": total.events, "trace_hash": total.hash.to_string(),
            });
            return tell(&line.to_string());
        }
        let seconds = elapsed.as_secs_f64().max(1e-9);
        tell(&format!(
            "{} seeds from {}: {}\n{} events in {seconds:.1} s ({:.0} a second), {:.0} s of virtual time\n\
             {} elections, {} entries committed; trace {}",
            self.seeds,
            self.seed,
            if passed {
                "every promise kept".to_string()
            } else {
                format!("{} failed", total.failures)
            },
            total.events,
            total.events as f64 / seconds,
            total.virtual_ms as f64 / 1e3,
            total.elections,
            total.committed,
            total.hash,
        ));
    }
}

impl Total {
    fn add(&mut self, summary: &Summary) {
        self.events += summary.events;
        self.elections += summary.elections;
        self.committed += summary.committed;
        self.virtual_ms += summary.virtual_ms;
        self.hash.combine(summary.trace_hash);
    }
}
