//! The public MIT 6.824 Raft labs, 2A to 2D, as scenarios under their own names, with their parameters and their
//! limits on calls, bytes and time (RAFT-24). A test of minutes takes milliseconds here, so that each is run with many
//! seeds rather than once.
//!
//! The labs' network is `NetworkOptions::LABRPC` and its worse sisters; a disk writes at once, as their persister does.
//! What differs: our calls are pairs of messages, of which either may be lost, and no caller is told; our logs hold a
//! no-op for each leader, so that a lab's index is the command's place among the commands.

mod a;
mod b;
mod c;
mod d;
pub(crate) mod service;
pub(crate) mod tester;

use std::time::Duration;

use quorate_contracts::{Random, Time};
use quorate_raft::{Limits, Timing};
use quorate_sim::{NetworkOptions, StoreOptions, World, WorldOptions};

use crate::{Failure, Report, RunOptions, Summary, guarded};
use service::{Commands, Starter};
use tester::{Checked, Lab, TEST_MAX};

/// The scenario's name.
pub const NAME: &str = "lab";

/// One test under the labs' tester.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The catalogue that it is in, as on the command line.
    pub(crate) catalogue: &'static str,
    pub(crate) servers: u64,
    pub(crate) network: NetworkOptions,
    /// What differs from the ordinary world of the labs.
    pub(crate) tweak: fn(&mut WorldOptions),
    pub(crate) test: fn(&mut Lab) -> Checked,
}

const RELIABLE: NetworkOptions = NetworkOptions::LABRPC;
const UNRELIABLE: NetworkOptions = NetworkOptions::LABRPC_UNRELIABLE;

const fn row(
    name: &'static str,
    servers: u64,
    network: NetworkOptions,
    test: fn(&mut Lab) -> Checked,
) -> Row {
    Row { name, catalogue: NAME, servers, network, tweak: |_| {}, test }
}

/// A test of lab 2D: the service asks for a snapshot after every tenth command.
const fn snapshots(
    name: &'static str,
    network: NetworkOptions,
    test: fn(&mut Lab) -> Checked,
) -> Row {
    let tweak = |options: &mut WorldOptions| options.limits.snapshot_entries = 10;
    Row { name, catalogue: NAME, servers: 3, network, tweak, test }
}

/// All of them, in the labs' order.
pub const CATALOGUE: &[Row] = &[
    row("TestInitialElection2A", 3, RELIABLE, a::initial_election),
    row("TestReElection2A", 3, RELIABLE, a::re_election),
    row("TestManyElections2A", 7, RELIABLE, a::many_elections),
    row("TestBasicAgree2B", 3, RELIABLE, b::basic_agree),
    row("TestRPCBytes2B", 3, RELIABLE, b::rpc_bytes),
    row("TestFollowerFailure2B", 3, RELIABLE, b::follower_failure),
    row("TestLeaderFailure2B", 3, RELIABLE, b::leader_failure),
    row("TestFailAgree2B", 3, RELIABLE, b::fail_agree),
    row("TestFailNoAgree2B", 5, RELIABLE, b::fail_no_agree),
    row("TestConcurrentStarts2B", 3, RELIABLE, b::concurrent_starts),
    row("TestRejoin2B", 3, RELIABLE, b::rejoin),
    row("TestBackup2B", 5, RELIABLE, b::backup),
    row("TestCount2B", 3, RELIABLE, b::count),
    row("TestPersist12C", 3, RELIABLE, c::persist1),
    row("TestPersist22C", 5, RELIABLE, c::persist2),
    row("TestPersist32C", 3, RELIABLE, c::persist3),
    row("TestFigure82C", 5, RELIABLE, c::figure8),
    row("TestUnreliableAgree2C", 5, UNRELIABLE, c::unreliable_agree),
    row("TestFigure8Unreliable2C", 5, UNRELIABLE, c::figure8_unreliable),
    row("TestReliableChurn2C", 5, RELIABLE, c::churn),
    row("TestUnreliableChurn2C", 5, UNRELIABLE, c::churn),
    snapshots("TestSnapshotBasic2D", RELIABLE, d::snapshot_basic),
    snapshots("TestSnapshotInstall2D", RELIABLE, d::snapshot_install),
    snapshots("TestSnapshotInstallUnreliable2D", UNRELIABLE, d::snapshot_install),
    snapshots("TestSnapshotInstallCrash2D", RELIABLE, d::snapshot_install_crash),
    snapshots("TestSnapshotInstallUnCrash2D", UNRELIABLE, d::snapshot_install_crash),
    snapshots("TestSnapshotAllCrash2D", RELIABLE, d::snapshot_all_crash),
    snapshots("TestSnapshotInit2D", RELIABLE, d::snapshot_init),
];

/// Timers that the labs' budgets suit: a leader within five seconds of a failure, some tens of heartbeats a second at
/// most, elections that repeat often enough where two of three answers come too late.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(400),
    election_max: Duration::from_millis(800),
    campaign: Duration::from_millis(150),
    stagger: Duration::from_millis(20),
    snapshot_retry: Duration::from_millis(300),
    hibernate_after: None,
};

impl Row {
    fn world(&self, trace: bool) -> WorldOptions {
        let instant = StoreOptions {
            sync_min: Duration::ZERO,
            sync_max: Duration::ZERO,
            tail_entries: usize::MAX,
        };
        let mut options = WorldOptions {
            nodes: self.servers,
            network: self.network,
            store: instant,
            timing: TIMING,
            limits: Limits { trailing_entries: 0, ..Limits::default() },
            trace,
            measure: true,
            ..Default::default()
        };
        (self.tweak)(&mut options);
        options
    }

    /// Runs one seed.
    pub fn run(&self, seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
        let random = Random::new(seed).derive(self.name);
        let make = |node, seed| (Commands::default(), Starter::new(node, seed));
        let world = World::new(seed, self.world(options.trace), make);
        let mut lab = Lab::new(world, random);
        match guarded(|| self.tested(&mut lab)) {
            Ok(()) => Ok(Summary::of(seed, &lab.world)),
            Err(failure) => {
                let name = format!("{} --name {}", self.catalogue, self.name);
                let setting = self.setting();
                Err(Box::new(Report::of(name, seed, setting, failure, &lab.world)))
            }
        }
    }

    fn tested(&self, lab: &mut Lab) -> Checked {
        (self.test)(lab)?;
        let took = lab.world.now().since(Time::ZERO);
        if took <= TEST_MAX {
            return Ok(());
        }
        Err(Failure::liveness("the lab's time limit", format!("the test took {took:?}")))
    }

    fn setting(&self) -> String {
        let network = if self.network == RELIABLE { "reliable" } else { "unreliable" };
        format!("{} servers, {network} network", self.servers)
    }
}

impl crate::Test for Row {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
        self.run(seed, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RAFT-24: every public scenario of the labs; `quorate sim lab --seeds 100` runs more seeds of each.
    #[test]
    fn the_whole_catalogue() {
        for row in CATALOGUE {
            for seed in 1..=3 {
                if let Err(report) =
                    row.run(seed, &RunOptions { trace: true, ..Default::default() })
                {
                    panic!("\n{report}");
                }
            }
        }
    }

    /// RAFT-24: what cannot pass does not: the tester's own assertions have teeth.
    #[test]
    fn without_a_majority_no_lab_passes() {
        let broken = row("TestBasicAgree2B", 3, RELIABLE, |lab| {
            let cut = lab.servers().into_iter().skip(1);
            lab.disconnect(cut);
            b::basic_agree(lab)
        });
        let report = broken.run(1, &RunOptions::default()).expect_err("there is no majority");
        assert_eq!(report.failure.property, "the lab's assertion");
    }
}
