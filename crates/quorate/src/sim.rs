//! `quorate sim`: scenarios in the simulator.

mod campaign;
mod catalogue;

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_scenarios::{
    Report, RunOptions, Situation, Summary, TraceEvent, kv, labs, lessons, raft, zk,
};

use crate::failure::{Done, Failure, Kind, tell};
use crate::player::write_page;
use campaign::{Seeds, Total};
use catalogue::Catalogue;

/// Run a scenario in the simulator; exits with 1 if a promise was broken
#[derive(Subcommand)]
pub(crate) enum Sim {
    /// Raft alone, under every fault: crashes, partitions, loss, slow disks, bad clocks
    Raft(Members),
    /// The coordination service under the same faults, with clients that check ZooKeeper's promises
    Zk(Storm),
    /// ZooKeeper's ready-file protocol alone, under the same faults: nobody mixes two configurations
    ReadyFile(Storm),
    /// The key/value service under the same faults: linearizable, exactly once, watched without a gap
    Kv(Storm),
    /// The public tests of the MIT 6.824 Raft labs, 2A to 2D, with their limits
    Lab(Catalogue),
    /// The public tests of the MIT 6.824 key/value labs, 3A and 3B
    KvLab(Catalogue),
    /// What users of other implementations of Raft were hit by, each under the name of its issue
    Lesson(Catalogue),
}

/// Seeds to run
#[derive(Args)]
pub(crate) struct SeedArgs {
    /// The first seed; the same seed gives the same run
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// How many seeds, counting up
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,

    /// Worlds run at once; by default one for each core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Print JSON; the last line is the summary
    #[arg(long)]
    json: bool,
}

impl SeedArgs {
    fn seeds(&self) -> Seeds {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Seeds { first: self.seed, count: self.seeds, threads: self.threads.unwrap_or(cores) }
    }
}

/// A storm, and calm after it
#[derive(Args)]
#[command(after_help = "Examples:
  quorate sim raft --seed 7
  quorate sim raft --seed 7 --html storm.html      plays it in a browser
  quorate sim raft --seed 7 --trace storm.jsonl
  quorate sim zk --seeds 100
  quorate sim zk --seed 7 --history seen.jsonl && quorate check seen.jsonl --html seen.html
  quorate sim raft --nodes 5 --seeds 1000
  quorate sim raft --seed 1 --seeds 1000 --situations --json")]
pub(crate) struct Storm {
    #[command(flatten)]
    seeds: SeedArgs,

    /// Write everything that happened to this file, as JSON lines (docs/trace.md): of the first seed that fails, made
    /// smaller, or of the first seed
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write a page that plays the same run, to open in any browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write what clients asked and were told to this file, for `quorate check` (docs/histories.md): of the first seed that
    /// fails, or of the first seed
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// Runs that may be spent on making a failure smaller; 0 shows it as it is
    #[arg(long, value_name = "N", default_value_t = 400)]
    shrink: u32,

    /// Tell how often each situation was reached, not only which never were
    #[arg(long)]
    situations: bool,
}

impl Sim {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        match self {
            Self::Raft(Members { storm, nodes }) => {
                storm.run(raft::NAME, |seed, options| raft::run_over(nodes, seed, options))
            }
            Self::Zk(storm) => storm.run(zk::NAME, zk::run),
            Self::ReadyFile(storm) => storm.run(zk::READY_FILE, zk::run_ready_file),
            Self::Kv(storm) => storm.run(kv::NAME, kv::run),
            Self::KvLab(tests) => tests.run(kv::labs::NAME, kv::labs::CATALOGUE),
            Self::Lab(tests) => tests.run(labs::NAME, labs::CATALOGUE),
            Self::Lesson(tests) => tests.run(lessons::NAME, lessons::CATALOGUE),
        }
    }
}

/// A storm over a number of servers
#[derive(Args)]
pub(crate) struct Members {
    #[command(flatten)]
    storm: Storm,

    /// How many servers; without it each seed draws 3 to 7
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
}

/// What a seed comes to.
type Outcome = Result<Summary, Box<Report>>;

impl Storm {
    fn run(
        &self,
        name: &str,
        scenario: impl Fn(u64, &RunOptions) -> Outcome + Sync,
    ) -> Result<Done, Failure> {
        let history = self.history.is_some();
        let options = RunOptions { trace: false, history, shrink_runs: self.shrink };
        let first = self.seeds.seed;
        let wants_trace = self.trace.is_some() || self.html.is_some();
        let total = campaign::run(self.seeds.seeds(), self.seeds.json, |seed| {
            let trace = wants_trace && seed == first;
            // Of seeds that pass only the first one's history is wanted.
            let mut outcome = scenario(seed, &RunOptions { trace, ..options });
            if let (Ok(summary), true) = (&mut outcome, seed != first) {
                summary.history = None;
            }
            outcome
        });
        if let Some(file) = &self.trace {
            write_trace(file, &total.trace)?;
        }
        if let Some(page) = &self.html {
            let lines: String =
                total.trace.iter().map(|event| format!("{}\n", event.to_json())).collect();
            write_page(page, &format!("{name}, seed {}", total.failed.unwrap_or(first)), &lines)?;
        }
        if let Some(file) = &self.history {
            fs::write(file, total.history.as_deref().unwrap_or_default())
                .map_err(|error| unwritten("the history", file, &error))?;
        }
        if self.seeds.json {
            tell(&total.to_json(name, first).to_string());
        } else {
            self.tell(&total);
        }
        Ok(if total.passed() { Done::Yes } else { Done::No })
    }

    fn tell(&self, total: &Total) {
        tell(&format!(
            "{} seeds from {}: {}\n{} events in {:.1} s ({:.0} a second), {:.0} s of virtual time\n\
             {} elections, {} entries committed; trace {}",
            total.seeds,
            self.seeds.seed,
            total.verdict(),
            total.events,
            total.seconds,
            total.events_per_second(),
            total.virtual_ms as f64 / 1e3,
            total.elections,
            total.committed,
            total.hash,
        ));
        if self.situations {
            for situation in Situation::ALL {
                let count = total.situations.count(*situation);
                tell(&format!("{count:>12}  {}", situation.name()));
            }
        } else {
            for situation in total.situations.never() {
                tell(&format!("never reached: {}", situation.name()));
            }
        }
    }
}

fn write_trace(file: &Path, trace: &[TraceEvent]) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(fs::File::create(file)?);
        trace.iter().try_for_each(|event| writeln!(out, "{}", event.to_json()))?;
        out.flush()
    };
    write().map_err(|error| unwritten("the trace", file, &error))
}

fn unwritten(what: &str, file: &Path, error: &std::io::Error) -> Failure {
    let what = format!("write {what} to {}", file.display());
    Failure::new(Kind::Data, what, error, "name a file in a folder that can be written")
}
