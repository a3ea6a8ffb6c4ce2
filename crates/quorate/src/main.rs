//! The one binary: arguments in, messages and an exit code out. What it does is in the libraries.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the real world")]

mod backup;
mod bench;
mod certs;
mod check;
mod cluster;
mod doctor;
#[cfg(test)]
mod documents;
mod failure;
mod import;
mod kv;
mod log;
mod member;
mod node;
mod player;
mod playground;
mod recover;
mod serve;
mod servers;
mod shell;
mod sim;
mod status;
mod turns;
mod up;
mod verify;
mod zk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Done, Failure, Kind};

/// Coordination that does not stop: replicated services that ZooKeeper's and etcd's clients use unchanged.
#[derive(Parser)]
#[command(name = "quorate", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,

    /// How events are written to the log, which goes to stderr
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// For programs: one JSON object a line
    Json,
}

const EXAMPLES: &str = "Examples:
  quorate up                 three nodes on this machine; try them with any ZooKeeper client
  quorate status             how they are
  quorate sim raft --seed 7  one simulated storm; the same seed gives the same storm";

#[derive(Subcommand)]
enum Verb {
    /// Start a cluster on this machine and keep it running until Ctrl-C
    Up(up::Up),
    /// Run one node (production)
    Serve(serve::Serve),
    /// Make a data directory for one node, once
    Format(serve::Format),
    /// Look into a node's log without changing it
    #[command(subcommand)]
    Log(log::Log),
    /// Start a node of a local cluster that was killed
    #[command(subcommand)]
    Node(node::Node),
    /// Show and change who belongs to a running cluster
    Member(member::Member),
    /// Show how each node is
    Status(status::Status),
    /// Say what is wrong with a configuration and its machine, and how to mend it
    Doctor(doctor::Doctor),
    /// Read and change znodes, on any server that speaks ZooKeeper's protocol
    Zk(zk::Zk),
    /// Read and change keys; each change takes effect once
    Kv(kv::Kv),
    /// Make an authority for development, and certificates for nodes and clients
    Certs(certs::Certs),
    /// Save the state of a running cluster, as it is at one zxid
    Backup(backup::Backup),
    /// Begin a new cluster with a backup
    Restore(backup::Restore),
    /// Go on with what one member has, after a majority was lost for good
    Recover(recover::Recover),
    /// Begin a new cluster with what ZooKeeper holds
    #[command(subcommand)]
    Import(import::Import),
    /// Measure a running cluster
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run a scenario in the simulator
    #[command(subcommand)]
    Sim(sim::Sim),
    /// Make a page that plays the trace of a simulated run
    Trace(player::Trace),
    /// Check whether a recorded history is linearizable
    Check(check::Check),
    /// Check what clients of a running cluster see, while its nodes are killed if you like
    Verify(verify::Verify),
    /// Print a script that completes quorate's words in a shell
    Completions(shell::Completions),
    /// Write a manual page for every verb
    Man(shell::Man),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(Kind::Usage.code())
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    start_log(arguments.log_format);
    let done: Result<Done, Failure> = match arguments.verb {
        Verb::Up(up) => up.run(),
        Verb::Serve(serve) => serve.run(),
        Verb::Format(format) => format.run(),
        Verb::Log(log) => log.run(),
        Verb::Node(node) => node.run(),
        Verb::Member(member) => member.run(),
        Verb::Status(status) => status.run(),
        Verb::Doctor(doctor) => doctor.run(),
        Verb::Zk(zk) => zk.run(),
        Verb::Kv(kv) => kv.run(),
        Verb::Backup(backup) => backup.run(),
        Verb::Restore(restore) => restore.run(),
        Verb::Recover(recover) => recover.run(),
        Verb::Import(import) => import.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Sim(sim) => sim.run(),
        Verb::Trace(trace) => trace.run(),
        Verb::Check(check) => check.run(),
        Verb::Verify(verify) => verify.run(),
        Verb::Certs(certs) => certs.run(),
        Verb::Completions(completions) => completions.run(),
        Verb::Man(man) => man.run(),
    };
    match done {
        Ok(Done::Yes) => ExitCode::SUCCESS,
        Ok(Done::No) => ExitCode::from(1),
        Ok(Done::Undecided) => ExitCode::from(2),
        Err(failure) => failure.report(),
    }
}

/// Talk goes to stderr, so that data on stdout stays data. `QUORATE_LOG` chooses how much.
fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match format {
        LogFormat::Text => events.init(),
        LogFormat::Json => events.json().flatten_event(true).init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    /// Names that clash are found here rather than when somebody types them.
    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    /// RAFT-25: the line that a report names replays a storm over as many servers as it had.
    #[test]
    fn a_storm_over_a_number_of_servers_is_understood() {
        let understood = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        assert!(understood("quorate sim raft --nodes 5 --seed 7"));
        assert!(understood("quorate sim raft --seed 7"));
        assert!(!understood("quorate sim raft --nodes 0"), "nobody is no cluster");
        assert!(!understood("quorate sim zk --nodes 5"), "its clients know three servers");
    }
}
