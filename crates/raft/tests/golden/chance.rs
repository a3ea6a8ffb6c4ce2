//! Chance on the scripts' cluster: any message next, lost or doubled, any clock, crashes, slow disks, disks that lose what
//! was durable, snapshots, transfers, changes of members and reads, and after each step what must hold. The simulator (`sim`) does more, with replicas and
//! disks that tear; this is small, close to the core, and where a failing seed reads like a script.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{EntryId, Input, LogIndex, NodeId, Process, Random, RequestId, Term};
use quorate_raft::{Members, Request};

use crate::cluster::{Cluster, InFlight, Setting};

const SERVERS: u64 = 6;
const SEEDS: u64 = 300;
const STEPS: u64 = 2_500;

/// RAFT-2, RAFT-7, RAFT-12, RAFT-16, RAFT-21, RAFT-22, RAFT-23: one leader a term, what is committed stays, no read misses what
/// was committed before it, whatever happens, also to one disk at a time, and also to groups that sleep; and once nothing happens any more, a leader is found and all agree.
#[test]
fn chance_breaks_nothing() {
    let mut seen = Seen::default();
    for seed in 1..=SEEDS {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.act();
            run.check();
        }
        run.calm();
        seen.add(&run);
    }
    // A run in which nothing happens proves nothing.
    let few = Seen { elections: 2, entries: 30, reads: 10, changes: 2, spoilt: 0 };
    assert!(seen.at_least(&few, SEEDS), "too little happened: {seen:?}");
    assert!(seen.spoilt > SEEDS, "too little was spoilt: {seen:?}");
}

/// What happened in all runs.
#[derive(Debug, Default)]
struct Seen {
    elections: u64,
    entries: u64,
    reads: u64,
    changes: u64,
    spoilt: u64,
}

impl Seen {
    fn add(&mut self, run: &Run) {
        self.elections += run.leaders.len() as u64;
        self.entries += run.committed.len() as u64;
        self.reads += run.reads_answered;
        self.changes += run.cluster.changes_done;
        self.spoilt += run.spoilt;
    }

    fn at_least(&self, few: &Self, times: u64) -> bool {
        self.elections >= few.elections * times
            && self.entries >= few.entries * times
            && self.reads >= few.reads * times
            && self.changes >= few.changes * times
    }
}

struct Run {
    seed: u64,
    random: Random,
    cluster: Cluster,
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<EntryId>,
    /// What was committed when a read was asked for.
    reads: BTreeMap<RequestId, LogIndex>,
    reads_answered: u64,
    /// How often a disk lost something.
    spoilt: u64,
    next: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut setting = Setting::default();
        let voters = [1, 2, 3, 3, 4, 5][random.below(6) as usize];
        setting.voters = (1..=voters).map(NodeId).collect();
        setting.limits.append_bytes = random.between(1, 500) as usize;
        setting.limits.window_messages = random.between(1, 6) as usize;
        setting.limits.memory_bytes = random.between(100, 2_000) as usize;
        setting.limits.trailing_entries = random.below(10);
        setting.limits.promotion_lag = random.between(1, 20);
        setting.tail_entries = random.between(1, 50) as usize;
        if random.chance_ppm(300_000) {
            setting.timing.hibernate_after = Some(Duration::from_millis(300));
        }
        let servers: Vec<NodeId> = (1..=SERVERS).map(NodeId).collect();
        let cluster = Cluster::start(setting, &servers);
        let (leaders, committed, reads) = Default::default();
        let (reads_answered, spoilt, next) = (0, 0, 1);
        Self { seed, random, cluster, leaders, committed, reads, reads_answered, spoilt, next }
    }

    fn any(&mut self) -> NodeId {
        NodeId(1 + self.random.below(SERVERS))
    }

    fn act(&mut self) {
        let (node, other, leader) = (self.any(), self.any(), self.a_leader());
        match self.random.below(1_000) {
            0..700 => self.one_arrives(),
            700..720 => self.one_is_lost_or_doubled(),
            720..800 => self.time_passes(node),
            800..870 => self.propose(leader),
            870..880 => self.propose(node),
            880..910 => self.read(node),
            910..920 => self.crash_or_restart(node),
            920..940 => self.hold_or_release(node),
            940..945 => drop(self.cluster.request(leader, Request::Transfer(None))),
            945..965 => self.change_members(leader),
            965..985 => self.snapshot(node),
            _ => self.lose(node, other),
        }
        self.cluster.work_locally();
    }

    /// One that leads, if any does.
    fn a_leader(&mut self) -> NodeId {
        let leads = |id: &NodeId| self.cluster.raft(*id).is_ok_and(quorate_raft::Raft::is_leader);
        let leaders: Vec<NodeId> = self.cluster.up().into_iter().filter(leads).collect();
        let at = self.random.below(leaders.len() as u64) as usize;
        leaders.get(at).copied().unwrap_or_else(|| self.any())
    }

    fn one_arrives(&mut self) {
        let at = self.random.below(self.cluster.in_flight.len() as u64) as usize;
        if let Some(message) = self.cluster.in_flight.remove(at) {
            self.cluster.arrive(message);
        }
    }

    fn one_is_lost_or_doubled(&mut self) {
        let at = self.random.below(self.cluster.in_flight.len() as u64) as usize;
        let Some(InFlight { from, to, message }) = self.cluster.in_flight.remove(at) else {
            return;
        };
        if self.random.chance_ppm(500_000) {
            for _ in 0..2 {
                let message = message.clone();
                self.cluster.in_flight.push_back(InFlight { from, to, message });
            }
        }
    }

    fn time_passes(&mut self, id: NodeId) {
        let most = [30, 30, 100, 100, 300, 2_500][self.random.below(6) as usize];
        let millis = self.random.between(1, most);
        if let Ok(node) = self.cluster.node_mut(id) {
            node.clock += Duration::from_millis(millis);
        }
    }

    fn propose(&mut self, id: NodeId) {
        self.next += 1;
        let command = Bytes::from(format!("v{}", self.next));
        drop(self.cluster.request(id, Request::Propose(vec![command])));
    }

    fn read(&mut self, id: NodeId) {
        self.next += 1;
        let read = RequestId(self.next);
        self.reads.insert(read, LogIndex(self.committed.len() as u64));
        drop(self.cluster.request(id, Request::Read(read)));
    }

    fn crash_or_restart(&mut self, id: NodeId) {
        if self.cluster.raft(id).is_ok() {
            drop(self.cluster.crash(id));
            if self.random.chance_ppm(400_000) {
                self.spoil(id);
            }
        } else {
            self.cluster.restart(id);
        }
    }

    /// The disk of a server that is down loses some of what was durable, if no other one lacks anything.
    fn spoil(&mut self, id: NodeId) {
        let disks = self.cluster.nodes.iter().filter(|(other, _)| **other != id);
        if !disks.into_iter().all(|(_, node)| node.disk.is_whole()) {
            return;
        }
        let Ok(node) = self.cluster.node_mut(id) else { return };
        let last = node.disk.last();
        let first = LogIndex(last.0.saturating_sub(self.random.below(10)).max(1));
        if self.random.chance_ppm(500_000) {
            let few = LogIndex(first.0 + self.random.below(5));
            node.disk.rot(first, few);
        } else {
            node.disk.forget(first);
        }
        self.spoilt += u64::from(!node.disk.is_whole());
    }

    fn hold_or_release(&mut self, id: NodeId) {
        if let Ok(node) = self.cluster.node_mut(id) {
            node.disk.held = !node.disk.held && self.random.chance_ppm(700_000);
        }
    }

    /// Somebody is added, promoted or removed, or all at once.
    fn change_members(&mut self, id: NodeId) {
        let Ok(raft) = self.cluster.raft(id) else { return };
        let current = raft.membership().clone();
        let mut members = Members { voters: current.voters, learners: current.learners };
        for node in (1..=SERVERS).map(NodeId) {
            match self.random.below(6) {
                0 => drop((members.learners.insert(node), members.voters.remove(&node))),
                1 => drop((members.voters.remove(&node), members.learners.remove(&node))),
                2 if members.learners.remove(&node) => drop(members.voters.insert(node)),
                _ => {}
            }
        }
        drop(self.cluster.request(id, Request::ChangeMembers(members)));
    }

    fn snapshot(&mut self, id: NodeId) {
        let Ok(raft) = self.cluster.raft(id) else { return };
        let (commit, base) = (raft.commit(), raft.base().index);
        let newer = raft.snapshot_index().is_none_or(|index| index < commit);
        if commit > base && newer && !raft.is_receiving_snapshot() {
            self.cluster.take_snapshot(id, commit, &"s".repeat(150)).expect("it is committed");
        }
    }

    fn lose(&mut self, id: NodeId, member: NodeId) {
        if self.cluster.raft(id).is_ok() {
            self.cluster.step(id, Input::MemberLost { member });
        }
    }

    fn check(&mut self) {
        for id in self.cluster.up() {
            self.check_server(id);
        }
        for (read, index) in std::mem::take(&mut self.cluster.reads_ready) {
            let floor = self.reads[&read];
            self.reads_answered += 1;
            assert!(
                index >= floor,
                "{}",
                self.story(&format!("{read} reads at {index}, before {floor}"))
            );
        }
        let excess = self.cluster.output.len().saturating_sub(80);
        self.cluster.output.drain(..excess);
    }

    fn check_server(&mut self, id: NodeId) {
        let raft = self.cluster.raft(id).expect("it is up");
        if raft.is_leader() {
            let (term, leader) = (raft.term(), *self.leaders.entry(raft.term()).or_insert(id));
            assert!(leader == id, "{}", self.story(&format!("{leader} and {id} lead {term}")));
        }
        let raft = self.cluster.raft(id).expect("it is up");
        let (commit, base) = (raft.commit().0, raft.base().index.0);
        let known = self.committed.len() as u64;
        for index in (known.min(base) + 1..=commit).map(LogIndex) {
            let Some(term) = raft.term_at(index) else { continue };
            let entry = EntryId::new(index, term);
            match self.committed.get(index.0 as usize - 1) {
                Some(was) => {
                    assert!(*was == entry, "{}", self.story(&format!("{id}: {entry}, was {was}")));
                }
                None => self.committed.push(entry),
            }
        }
        let covered = self.committed.len() as u64 >= commit;
        assert!(covered, "{}", self.story(&format!("{id} commits {commit} that nobody had seen")));
    }

    /// Nothing fails any more: a leader is found, and its members agree.
    fn calm(&mut self) {
        for id in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            self.cluster.node_mut(id).expect("it exists").disk.held = false;
            if self.cluster.raft(id).is_err() {
                self.cluster.restart(id);
            }
        }
        // Clocks differ by then; only what passes counts. Every connection was lost at some time.
        let all = self.cluster.up();
        for (id, member) in all.iter().flat_map(|id| all.iter().map(move |member| (*id, *member))) {
            self.cluster.step(id, Input::MemberLost { member });
        }
        for _ in 0..30 {
            self.cluster.wait(Duration::from_secs(2), &all).expect("the cluster comes to rest");
            self.check();
            if self.agree() {
                return;
            }
        }
        if self.cannot_be_mended() {
            return;
        }
        panic!("{}", self.story("no agreement after a minute of quiet"));
    }

    /// Somebody lacks something, and so few vote that they cannot do without.
    fn cannot_be_mended(&self) -> bool {
        let up = self.cluster.up();
        let rafts = || up.iter().filter_map(|id| self.cluster.raft(*id).ok());
        let few = |raft: &quorate_raft::Raft| {
            let members = raft.membership();
            members.voters.len() < 3 || (members.is_joint() && members.outgoing.len() < 3)
        };
        rafts().any(|raft| !raft.is_whole()) && rafts().any(few)
    }

    fn agree(&self) -> bool {
        let leads = |id: &NodeId| self.cluster.raft(*id).is_ok_and(quorate_raft::Raft::is_leader);
        let up = self.cluster.up();
        let term = |id: &NodeId| self.cluster.raft(*id).map_or(Term(0), quorate_raft::Raft::term);
        let Some(leader) = up.iter().filter(|id| leads(id)).max_by_key(|id| term(id)) else {
            return false;
        };
        let leader = self.cluster.raft(*leader).expect("it is up");
        let members = leader.membership();
        leader.commit() == leader.last().index
            && !members.is_joint()
            && members.everyone().iter().all(|id| {
                self.cluster.raft(*id).is_ok_and(|raft| {
                    (raft.commit(), raft.last()) == (leader.commit(), leader.last())
                })
            })
    }

    fn story(&self, what: &str) -> String {
        let deadlines = self.cluster.nodes.iter().map(|(id, node)| {
            let deadline = node.raft.as_ref().and_then(Process::deadline);
            format!("{id} at {} waits for {deadline:?}", node.clock)
        });
        let deadlines: Vec<_> = deadlines.collect();
        let lines = self.cluster.output.join("\n");
        format!("seed {}: {what}\n{lines}\n{}", self.seed, deadlines.join("\n"))
    }
}
