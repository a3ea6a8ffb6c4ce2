//! Seeds of a scenario without the rest of the binary: what `.ci/mutants` builds for each planted bug, in a fraction of
//! the time that `quorate` takes.
//!
//! `seeds SCENARIO FIRST COUNT [SERVERS]`: runs until a seed fails; prints its report, without making it smaller, and exits
//! with 1. The last argument is for `raft` only.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::process::ExitCode;

use quorate_scenarios::{
    Report, RunOptions, Situations, Summary, TraceHash, kv, labs, lessons, raft, zk,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, first, count, rest @ ..] = &args[..] else {
        println!("usage: seeds SCENARIO FIRST COUNT [SERVERS]");
        return ExitCode::from(64);
    };
    let nodes = rest.first().and_then(|nodes| nodes.parse().ok());
    let (Ok(first), Ok(count)) = (first.parse::<u64>(), count.parse::<u64>()) else {
        println!("seeds: FIRST and COUNT are numbers");
        return ExitCode::from(64);
    };
    // A failed assertion is reported like every other failure.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut events, mut hash) = (0, TraceHash::default());
    let mut situations = Situations::default();
    for seed in first..first + count {
        match run(scenario, seed, nodes) {
            Ok(summary) => {
                events += summary.events;
                hash.combine(summary.trace_hash);
                situations.add(&summary.situations);
            }
            Err(report) => {
                println!(
                    "caught by {} after {} seeds\n{report}",
                    report.failure.property,
                    seed - first + 1
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} seeds passed: {events} events; trace {hash}");
    for situation in situations.never() {
        println!("never reached: {}", situation.name());
    }
    ExitCode::SUCCESS
}

fn run(scenario: &str, seed: u64, nodes: Option<u64>) -> Result<Summary, Box<Report>> {
    let options = RunOptions::default();
    match scenario {
        kv::NAME => kv::run(seed, &options),
        raft::NAME => raft::run_over(nodes, seed, &options),
        zk::NAME => zk::run(seed, &options),
        zk::READY_FILE => zk::run_ready_file(seed, &options),
        name => match labs::CATALOGUE.iter().chain(lessons::CATALOGUE).find(|row| row.name == name)
        {
            Some(row) => row.run(seed, &options),
            None => panic!("no scenario {name}"),
        },
    }
}
