//! The labs' tester: what its `config.go` does, with its limits, in virtual time.
//!
//! Every applied command is compared with what others applied there after every step, by the world's own checks, and the
//! replica asserts that none is left out; so the labs' appliers need no counterpart here.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::{EntryKind, LogIndex, NodeId, Random, Term, Time};
use quorate_sim::{NetworkOptions, World};

use super::service::{Ask, Command, Starter};
use crate::Failure;

/// The tester's allowance for an election; not the servers' own timer.
pub(crate) const ELECTION: Duration = Duration::from_millis(1_000);
/// What a test may take in all.
pub(crate) const TEST_MAX: Duration = Duration::from_secs(120);
/// What one agreement may take.
const ONE_MAX: Duration = Duration::from_secs(10);

/// What a step of a lab comes to.
pub(crate) type Checked<T = ()> = Result<T, Failure>;

/// An assertion of a lab that does not hold.
pub(crate) fn failed<T>(what: impl Into<String>) -> Checked<T> {
    Err(Failure::liveness("the lab's assertion", what.into()))
}

/// Asserts what a lab asserts.
pub(crate) fn check(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { failed(what()) }
}

/// A command that a leader took: its place, if that leader stays, and the leader's term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Started {
    pub(crate) index: u64,
    pub(crate) term: Term,
}

/// Something that acts beside the test: a client.
pub(crate) trait Actor {
    /// When it acts next; never again if it is done.
    fn at(&self) -> Option<Time>;
    /// What it does then.
    fn act(&mut self, lab: &mut Lab) -> Checked;
}

/// A cluster under the labs' tester.
pub(crate) struct Lab {
    pub(crate) world: World<Starter>,
    /// The test's own dice.
    pub(crate) random: Random,
    connected: BTreeSet<NodeId>,
    servers: u64,
}

impl Lab {
    pub(crate) fn new(world: World<Starter>, random: Random) -> Self {
        let ids = world.ids();
        let servers = ids.len() as u64;
        Self { world, random, connected: ids.into_iter().collect(), servers }
    }

    /// All servers.
    pub(crate) fn servers(&self) -> Vec<NodeId> {
        self.world.ids()
    }

    /// The server `by` places after another, around the circle.
    pub(crate) fn after(&self, node: NodeId, by: u64) -> NodeId {
        NodeId((node.0 - 1 + by) % self.servers + 1)
    }

    pub(crate) fn any_server(&mut self) -> NodeId {
        NodeId(1 + self.random.below(self.servers))
    }

    /// Any command (`rand.Int()`).
    pub(crate) fn any(&mut self) -> u64 {
        self.random.next_u64() >> 1
    }

    pub(crate) fn sleep(&mut self, duration: Duration) -> Checked {
        Ok(self.world.run_for(duration)?)
    }

    pub(crate) fn sleep_ms(&mut self, millis: u64) -> Checked {
        self.sleep(Duration::from_millis(millis))
    }

    /// Lets actors act until a time, or until all are done.
    pub(crate) fn act(&mut self, actors: &mut [&mut dyn Actor], until: Time) -> Checked {
        loop {
            let next = actors.iter().filter_map(|actor| actor.at()).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.world.run_until(at)?;
            for actor in &mut *actors {
                if actor.at().is_some_and(|at| at <= self.world.now()) {
                    actor.act(self)?;
                }
            }
        }
        let busy = actors.iter().any(|actor| actor.at().is_some());
        if busy || actors.is_empty() { Ok(self.world.run_until(until)?) } else { Ok(()) }
    }

    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.connected.contains(&node)
    }

    pub(crate) fn disconnect(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            self.connected.remove(&node);
            self.world.isolate(node);
        }
    }

    pub(crate) fn connect(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            for other in self.connected.clone().into_iter().filter(|other| *other != node) {
                self.world.join(node, other);
            }
            self.connected.insert(node);
        }
    }

    pub(crate) fn crash(&mut self, node: NodeId) {
        self.disconnect([node]);
        self.world.crash(node, false);
    }

    /// Starts a server anew from what it had saved; it is not connected yet.
    pub(crate) fn start_anew(&mut self, node: NodeId) {
        self.crash(node);
        self.world.restart(node);
    }

    /// Starts a server anew and connects it.
    pub(crate) fn revive(&mut self, node: NodeId) {
        self.start_anew(node);
        self.connect([node]);
    }

    pub(crate) fn make_network(&mut self, options: NetworkOptions) {
        self.world.make_network(options);
    }

    /// The labs' `Start`: a leader appends the command and says where; others refuse.
    pub(crate) fn start(&mut self, node: NodeId, value: u64) -> Checked<Option<Started>> {
        self.start_command(node, Command { value, padding: 0 })
    }

    fn start_command(&mut self, node: NodeId, command: Command) -> Checked<Option<Started>> {
        let leads = self.world.replica(node).is_some_and(|r| r.raft().is_leader());
        if !leads || !self.world.request(node, Ask::Start(command))? {
            return Ok(None);
        }
        let Some(replica) = self.world.replica(node) else { return Ok(None) };
        let (raft, applied) = (replica.raft(), replica.applied().index);
        let unapplied = (applied.0 + 1..=raft.last().index.0).map(LogIndex);
        let is_command = |index| raft.entry(index).is_some_and(|e| e.kind == EntryKind::Command);
        let index = replica.machine().len() + unapplied.filter(|i| is_command(*i)).count() as u64;
        Ok(Some(Started { index, term: raft.term() }))
    }

    /// The leader among the connected servers, found within some five seconds (`checkOneLeader`).
    pub(crate) fn leader(&mut self) -> Checked<NodeId> {
        for _ in 0..10 {
            let millis = 450 + self.random.below(100);
            self.sleep_ms(millis)?;
            let leading = self.leading();
            for pair in leading.windows(2) {
                check(pair[0].0 != pair[1].0, || format!("two leaders of term {}", pair[0].0))?;
            }
            if let Some((_, node)) = leading.last() {
                return Ok(*node);
            }
        }
        failed("expected one leader, got none")
    }

    /// Terms led by connected servers, with their leaders, in order.
    fn leading(&self) -> Vec<(Term, NodeId)> {
        let up = self.world.up().map(|replica| replica.raft());
        let leading = up.filter(|raft| raft.is_leader() && self.is_connected(raft.node()));
        let mut leading: Vec<_> = leading.map(|raft| (raft.term(), raft.node())).collect();
        leading.sort_unstable();
        leading
    }

    pub(crate) fn check_no_leader(&self) -> Checked {
        let leading = self.leading();
        check(leading.is_empty(), || format!("expected no leader, but {leading:?} lead"))
    }

    /// The term on which all connected servers agree (`checkTerms`).
    pub(crate) fn term(&self) -> Checked<Term> {
        let up = self.world.up().map(|replica| replica.raft());
        let terms: BTreeSet<Term> =
            up.filter(|raft| self.is_connected(raft.node())).map(|raft| raft.term()).collect();
        match terms.iter().next() {
            Some(term) if terms.len() == 1 => Ok(*term),
            _ => failed(format!("servers disagree on the term: {terms:?}")),
        }
    }

    /// How many servers applied a command at this place, and which (`nCommitted`).
    pub(crate) fn committed(&self, index: u64) -> Checked<(usize, Option<u64>)> {
        let found = self.world.up().filter_map(|replica| replica.machine().at(index));
        let found: Vec<u64> = found.collect();
        let alike = found.windows(2).all(|pair| pair[0] == pair[1]);
        check(alike, || format!("index {index} holds different commands: {found:?}"))?;
        Ok((found.len(), found.first().copied()))
    }

    pub(crate) fn check_not_committed(&self, index: u64) -> Checked {
        let (count, _) = self.committed(index)?;
        check(count == 0, || format!("{count} committed {index}, but there is no majority"))
    }

    /// Waits until `count` servers have applied a place; none if, meanwhile, a server went beyond `term`.
    pub(crate) fn wait(
        &mut self,
        index: u64,
        count: usize,
        term: Option<Term>,
    ) -> Checked<Option<u64>> {
        let mut pause = Duration::from_millis(10);
        for _ in 0..30 {
            if self.committed(index)?.0 >= count {
                break;
            }
            self.sleep(pause)?;
            pause = (2 * pause).min(Duration::from_millis(1_280));
            let newest = self.world.up().map(|replica| replica.raft().term()).max();
            if term.is_some() && newest > term {
                return Ok(None);
            }
        }
        let (found, value) = self.committed(index)?;
        check(found >= count, || format!("only {found} committed {index}, wanted {count}"))?;
        Ok(value)
    }

    /// One agreement: proposes wherever there is a leader until `servers` have applied it. Returns its place.
    pub(crate) fn one(&mut self, value: u64, servers: usize, retry: bool) -> Checked<u64> {
        self.one_command(Command { value, padding: 0 }, servers, retry)
    }

    /// One agreement on any command, with retries.
    pub(crate) fn one_any(&mut self, servers: usize) -> Checked<u64> {
        let value = self.any();
        self.one(value, servers, true)
    }

    pub(crate) fn one_command(
        &mut self,
        command: Command,
        servers: usize,
        retry: bool,
    ) -> Checked<u64> {
        let mut one = One::new(self, command, servers, retry);
        let until = self.world.now() + 2 * ONE_MAX;
        self.act(&mut [&mut one], until)?;
        one.agreed.map_or_else(|| failed("no agreement, and no end to it"), Ok)
    }
}

/// One agreement on its way (`one()`).
pub(crate) struct One {
    command: Command,
    servers: usize,
    retry: bool,
    /// The server to ask next.
    ask: NodeId,
    until: Time,
    /// Where a leader put it, and until when that is waited for.
    started: Option<(u64, Time)>,
    at: Option<Time>,
    agreed: Option<u64>,
}

impl One {
    pub(crate) fn new(lab: &Lab, command: Command, servers: usize, retry: bool) -> Self {
        let now = lab.world.now();
        let (ask, until) = (NodeId(1), now + ONE_MAX);
        Self { command, servers, retry, ask, until, started: None, at: Some(now), agreed: None }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.agreed.is_some()
    }

    /// Asks every connected server once, until one takes it.
    fn propose(&mut self, lab: &mut Lab) -> Checked {
        let now = lab.world.now();
        for _ in lab.servers() {
            self.ask = lab.after(self.ask, 1);
            if lab.is_connected(self.ask)
                && let Some(started) = lab.start_command(self.ask, self.command)?
            {
                self.started = Some((started.index, now + Duration::from_secs(2)));
                self.at = Some(now);
                return Ok(());
            }
        }
        self.at = Some(now + Duration::from_millis(50));
        Ok(())
    }

    fn poll(&mut self, lab: &Lab, index: u64, until: Time) -> Checked {
        let now = lab.world.now();
        let (count, value) = lab.committed(index)?;
        if count >= self.servers && value == Some(self.command.value) {
            (self.agreed, self.at) = (Some(index), None);
        } else if now >= until {
            check(self.retry, || self.what())?;
            self.started = None;
        } else {
            self.at = Some(now + Duration::from_millis(20));
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("{} did not reach agreement on {} servers", self.command.value, self.servers)
    }
}

impl Actor for One {
    fn at(&self) -> Option<Time> {
        self.at
    }

    fn act(&mut self, lab: &mut Lab) -> Checked {
        if let Some((index, until)) = self.started {
            return self.poll(lab, index, until);
        }
        check(lab.world.now() < self.until, || self.what())?;
        self.propose(lab)
    }
}
