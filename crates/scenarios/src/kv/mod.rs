//! The key/value service under every fault: Clerks that append, read, compare and swap, move money and take leases, and
//! watchers that move between servers (KV-3 to KV-7, KV-10).
//!
//! What must hold: registers are linearizable (`checker`); each client's appends took effect once, in order; transfers are
//! seen whole, and are strictly serializable; watchers are told every revision once, whole, in order, the same everywhere; leased keys go; all replicas
//! are equal in the end.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `clients` | Clerks, and the way between them and the servers |
//! | `watchers` | watches that follow everything, through lost servers |
//! | `work` | what the Clerks are asked to do, and what they were told |
//! | `accounts` | transfers as transactions, for the checker |
//! | [`labs`] | the public tests of MIT 6.824 lab 3 |
//! | `run` | storm, calm, checks |

mod accounts;
mod clients;
pub mod labs;
mod run;
mod watchers;
mod work;

use std::time::Duration;

use quorate_contracts::{Random, Time};

use crate::raft::{plan, weather::Weather};
use crate::{Report, RunOptions, Summary, guarded};
use run::Run;

/// The scenario's name.
pub const NAME: &str = "kv";

/// How long faults last.
const STORM: Duration = Duration::from_secs(20);

/// Runs one seed.
pub fn run(seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
    run_planted(seed, options, Planted::Nothing)
}

/// A bug put in on purpose: a test of the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Planted {
    Nothing,
    /// Clerks repeat writes without their numbers.
    Unnumbered,
    /// Reads are answered from wherever they are asked.
    Stale,
}

fn run_planted(seed: u64, options: &RunOptions, planted: Planted) -> Result<Summary, Box<Report>> {
    let random = Random::new(seed);
    let weather = Weather::draw(&mut random.derive("weather")).without_ledger();
    let plan = plan::draw(&weather, &random, Time::ZERO + STORM);
    let mut run = Run::new(seed, weather, plan, &random, options.trace);
    run.plant(planted);
    let outcome = guarded(|| run.run());
    let history = options.history.then(|| run.history());
    match outcome {
        Ok(()) => Ok(Summary { history, ..run.summary() }),
        Err(failure) => Err(Box::new(Report { history, ..run.report(failure) })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KV-10, RPC-4: linearizable, exactly once, watched without a gap, under every kind of weather; the command line runs
    /// thousands.
    #[test]
    fn thirty_seeds_keep_every_promise() {
        for seed in 1..=30 {
            if let Err(report) = run(seed, &RunOptions::default()) {
                panic!("\n{report}");
            }
        }
    }

    /// KV-10: what is broken on purpose is found, and called by its name.
    #[test]
    fn planted_bugs_are_found() {
        let planted: [(Planted, &[&str]); 2] = [
            // A repeated transfer is refused the second time: somebody is told that nothing happened.
            (Planted::Unnumbered, &["exactly once", "strict-serializable"]),
            (Planted::Stale, &["linearizable"]),
        ];
        for (planted, names) in planted {
            let found =
                (1..=60).find_map(|seed| run_planted(seed, &RunOptions::default(), planted).err());
            let property = found.map(|report| report.failure.property).unwrap_or_default();
            assert!(names.contains(&property.as_str()), "{planted:?} is found as {property:?}");
        }
    }

    /// Seeds that found something once: a snapshot of one leader that went on with the pieces of another's, whose file
    /// of the same state has its versions in another order (1034).
    #[test]
    fn seeds_that_found_something_once() {
        for seed in [1034] {
            if let Err(report) = run(seed, &RunOptions::default()) {
                panic!("\n{report}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in [7, 8] {
            let hash = |trace| {
                let options = RunOptions { trace, ..Default::default() };
                run(seed, &options).map(|summary| summary.trace_hash)
            };
            assert_eq!(hash(false), hash(true), "seed {seed}");
        }
    }
}
