//! One run: the deeds of the plan, then calm, then what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_contracts::{NodeId, StateMachine, Time};
use quorate_sim::{DiskFaults, MessageFault, NetworkOptions, StoreOptions, World};

use super::STORM;
use super::plan::{self, Deed, Planned, TICK};
use super::seen::Seen;
use super::weather::Weather;
use crate::ledger::{Ask, Clerk, Ledger, Told};
use crate::{Failure, Report, Summary};

/// How long recovery may take once faults have stopped.
const CALM_MAX: Duration = Duration::from_secs(150);

/// What a run is made of.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// The scenario, as on the command line.
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) weather: Weather,
    pub(super) plan: Vec<Planned>,
    /// If set, only these mishaps befall messages.
    pub(super) mishaps: Option<BTreeSet<MessageFault>>,
}

pub(super) struct Run {
    script: Script,
    world: World<Clerk>,
    acknowledged: BTreeSet<u64>,
    /// Values that somebody asked for: nothing else may ever be in the ledger.
    asked: BTreeSet<u64>,
    /// The longest ledger that anybody was told of.
    told_length: usize,
    /// Reads under way, with what had been told when they began: they may find no less.
    reads: BTreeMap<u64, usize>,
    /// Values that a clerk did not take.
    refused: BTreeSet<u64>,
    /// For the checker.
    seen: Seen,
}

impl Run {
    pub(super) fn new(script: Script, trace: bool, record: bool) -> Self {
        let make = |node, seed| (Ledger::default(), Clerk::new(node, seed));
        let mut world = World::new(script.seed, script.weather.world(trace), make);
        if let Some(mishaps) = &script.mishaps {
            world.network().only(mishaps.clone());
        }
        if record {
            world.network().record();
        }
        Self {
            script,
            world,
            acknowledged: BTreeSet::new(),
            asked: BTreeSet::new(),
            told_length: 0,
            reads: BTreeMap::new(),
            refused: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn run(&mut self) -> Result<(), Failure> {
        self.storm()?;
        self.calm()?;
        self.seen.judge()
    }

    /// The mishaps that befell messages, if they were recorded.
    pub(super) fn mishaps(&mut self) -> Vec<MessageFault> {
        self.world.network().recorded().to_vec()
    }

    pub(super) fn now(&self) -> Time {
        self.world.now()
    }

    /// Faults and writes.
    fn storm(&mut self) -> Result<(), Failure> {
        for Planned { at, deed } in std::mem::take(&mut self.script.plan) {
            self.world.run_until(at)?;
            self.collect()?;
            self.perform(&deed)?;
        }
        self.world.run_until(Time::ZERO + STORM)?;
        self.collect()
    }

    fn perform(&mut self, deed: &Deed) -> Result<(), Failure> {
        match deed {
            Deed::Write { node, value } => self.write(*node, *value),
            Deed::Read { node, read } => self.read(*node, *read),
            harm => Ok(harm.harm(&mut self.world, &self.script.weather)?),
        }
    }

    fn write(&mut self, node: NodeId, value: u64) -> Result<(), Failure> {
        self.world.say(Some(node), || format!("is asked to write {value}"));
        self.asked.insert(value);
        self.seen.writes(self.world.now(), node, value);
        self.world.request(node, Ask::Write(value))?;
        Ok(())
    }

    fn read(&mut self, node: NodeId, read: u64) -> Result<(), Failure> {
        self.world.say(Some(node), || format!("is asked for read {read}"));
        self.reads.insert(read, self.told_length);
        self.seen.reads(self.world.now(), node, read);
        self.world.request(node, Ask::Read(read))?;
        Ok(())
    }

    fn collect(&mut self) -> Result<(), Failure> {
        for (node, told) in self.world.take_replies() {
            self.world.say(Some(node), || format!("tells {told:?}"));
            let now = self.world.now();
            match told {
                Told::Written { value, length } => {
                    self.seen.written(now, value);
                    self.acknowledged.insert(value);
                    self.told_length = self.told_length.max(length);
                }
                Told::Read { read, length, newest } => {
                    self.seen.read(now, read, newest);
                    self.read_found(node, read, length)?;
                }
                Told::WriteRefused { value } => {
                    self.seen.write_refused(now, value);
                    self.refused.insert(value);
                }
                Told::ReadRefused { read } => {
                    self.seen.read_refused(now, read);
                    self.reads.remove(&read);
                }
            }
        }
        Ok(())
    }

    /// Linearizable reads (RAFT-21), at the moment and in O(1) (`seen` has the whole history judged in the end): the ledger only grows, so a read must find at least as much as anybody
    /// had been told of when it began, by a write or by a read.
    fn read_found(&mut self, node: NodeId, read: u64, length: usize) -> Result<(), Failure> {
        let floor = self.reads.remove(&read).unwrap_or(0);
        self.told_length = self.told_length.max(length);
        if length >= floor {
            return Ok(());
        }
        let what = format!(
            "read {read} at {node} found {length} values, though {floor} had been told of before it began"
        );
        Err(Failure::safety("reads are up to date", what))
    }

    /// Faults stop; everything must come good.
    fn calm(&mut self) -> Result<(), Failure> {
        self.world.say(None, || "the faults stop".to_string());
        self.world.pardon();
        self.world.heal();
        self.world.make_network(NetworkOptions::default());
        self.world.make_disks(StoreOptions::default());
        self.world.make_disks_fail(DiskFaults::default());
        self.world.restore_refused();
        self.world.ids().into_iter().for_each(|id| self.world.restart(id));
        // The damage may be one that a server refuses to start with.
        self.world.restore_refused();
        self.world.ids().into_iter().for_each(|id| self.world.restart(id));
        let end = self.world.now() + CALM_MAX;
        let first = self.asked.last().copied().unwrap_or(0) + 1;
        // Servers that were stopped may still be: the last writes go in once all can take them.
        self.world.run_for(Duration::from_secs(5))?;
        for value in first..first + 3 {
            self.write(NodeId(1 + value % self.script.weather.nodes), value)?;
        }
        let mut all_vote = false;
        loop {
            self.world.run_for(TICK)?;
            self.collect()?;
            for value in std::mem::take(&mut self.refused).range(first..) {
                self.write(NodeId(1 + value % self.script.weather.nodes), *value)?;
            }
            let written = (first..first + 3).all(|value| self.acknowledged.contains(&value));
            // As often as an operator would ask.
            if self.world.now().as_nanos() % 200_000_000 < TICK.as_nanos() as u64 {
                all_vote = plan::everybody_votes(&mut self.world)?;
            }
            if !all_vote && self.world.now() < end {
                continue;
            }
            match self.disagreement() {
                _ if !all_vote => {
                    let what = "the members are not what was asked for".to_string();
                    return Err(Failure::liveness("changes of members come about", what));
                }
                None if written => return self.nothing_is_lost(),
                _ if self.world.now() < end => {}
                Some(what) => return Err(Failure::liveness("agreement", what)),
                None => {
                    let what = "the last values were never written".to_string();
                    return Err(Failure::liveness("progress", what));
                }
            }
        }
    }

    /// What still differs between the servers.
    fn disagreement(&self) -> Option<String> {
        let leader = self.world.leader().and_then(|id| self.world.replica(id));
        let Some(leader) = leader else { return Some("nobody leads".to_string()) };
        let expected = (leader.raft().last(), leader.raft().commit(), leader.machine().digest());
        for replica in self.world.up() {
            let raft = replica.raft();
            let found = (raft.last(), raft.commit(), replica.machine().digest());
            if found != expected || replica.applied().index != raft.commit() {
                return Some(format!(
                    "{} has last {}, commit {}, applied {}; the leader {} {} {}",
                    raft.node(),
                    found.0,
                    found.1,
                    replica.applied(),
                    leader.raft().node(),
                    expected.0,
                    expected.1
                ));
            }
        }
        None
    }

    /// Every acknowledged value is there, once; nothing is there that nobody wrote.
    fn nothing_is_lost(&self) -> Result<(), Failure> {
        let Some(replica) = self.world.up().next() else { return Ok(()) };
        let mut times = BTreeMap::new();
        for value in replica.machine().values() {
            *times.entry(*value).or_insert(0) += 1;
        }
        let acknowledged = &self.acknowledged;
        if let Some(lost) = acknowledged.iter().find(|value| !times.contains_key(value)) {
            let what = format!("value {lost} was acknowledged and is lost");
            return Err(Failure::safety("nothing acknowledged is lost", what));
        }
        if let Some((value, times)) = times.iter().find(|(_, times)| **times > 1) {
            let what = format!("value {value} was written {times} times");
            return Err(Failure::safety("exactly once", what));
        }
        if let Some(phantom) = times.keys().find(|value| !self.asked.contains(value)) {
            let what = format!("value {phantom} was never asked for");
            return Err(Failure::safety("nothing out of the air", what));
        }
        Ok(())
    }

    /// What clients asked and were told.
    pub(super) fn history(&self) -> String {
        self.seen.lines()
    }

    pub(super) fn summary(&self) -> Summary {
        Summary::of(self.script.seed, &self.world)
    }

    pub(super) fn report(&self, failure: Failure) -> Report {
        let setting = self.script.weather.to_string();
        Report::of(self.script.name.clone(), self.script.seed, setting, failure, &self.world)
    }
}
