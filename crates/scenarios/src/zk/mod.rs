//! The coordination service under every fault: clients with requests in flight, watches, ephemeral znodes and the
//! ready-file protocol, whose connections break and whose servers crash, stop and lose touch.
//!
//! What clients are told is held against ZooKeeper's promises (`history`, `client`): one order of writes (ZK-5), a
//! client's own order (ZK-6), no reads backwards (ZK-7), sync and linearizable reads (ZK-8), sequence numbers (ZK-2),
//! versions (ZK-3), the event before its effect (ZK-12). In the end the checker judges the histories of the data (`seen`).
//! Raft's own properties are checked after every step as in the raft scenario. Then the faults
//! stop: everybody is served again, all trees are equal, no watch was lost, ephemeral znodes are there exactly if their
//! session is (ZK-11).

mod cables;
mod client;
mod history;
mod seen;

use std::time::Duration;

use quorate_contracts::{NodeId, Random, RequestId, StateMachine, Time};
use quorate_sim::{DiskFaults, NetworkOptions, StoreOptions, World, WorldOptions};
use quorate_zk::server::{Server, ServerConfig};
use quorate_zk::tree::Tree;

use crate::raft::STORM;
use crate::raft::plan::{self, Planned};
use crate::raft::weather::Weather;
use crate::{Failure, Report, RunOptions, Summary, guarded};
use cables::{Arrived, Cables};
use client::{COUNTER, Client, Diet, Wish};
use history::{ClientId, History};

/// The scenario's name.
pub const NAME: &str = "zk";
/// The name of the ready-file protocol alone (ZK-12).
pub const READY_FILE: &str = "ready-file";

/// How long recovery may take once faults have stopped.
const CALM_MAX: Duration = Duration::from_secs(150);
const CLIENTS: usize = 6;

/// Runs one seed.
pub fn run(seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
    run_with(NAME, Diet::All, seed, options)
}

/// Runs one seed of the ready-file protocol: who sees the ready file, is told nothing of it, and reads the configuration,
/// has read one configuration and not pieces of two (ZK-12).
pub fn run_ready_file(seed: u64, options: &RunOptions) -> Result<Summary, Box<Report>> {
    run_with(READY_FILE, Diet::ReadyFile, seed, options)
}

fn run_with(
    name: &str,
    diet: Diet,
    seed: u64,
    options: &RunOptions,
) -> Result<Summary, Box<Report>> {
    let random = Random::new(seed);
    let weather = Weather::draw(&mut random.derive("weather"));
    let plan = plan::draw(&weather, &random, Time::ZERO + STORM);
    let mut run = Run::new(seed, &random, (weather, diet), options.trace);
    let outcome = guarded(|| run.run(plan));
    let history = options.history.then(|| run.history.seen.lines());
    match outcome {
        Ok(()) => Ok(Summary { history, ..Summary::of(seed, &run.world) }),
        Err(failure) => {
            let setting = format!("{CLIENTS} clients; {weather}");
            let report = Report::of(name.to_string(), seed, setting, failure, &run.world);
            Err(Box::new(Report { history, ..report }))
        }
    }
}

struct Run {
    weather: Weather,
    world: World<Server>,
    cables: Cables,
    clients: Vec<Client>,
    /// When each client acts next.
    act_at: Vec<Time>,
    pace: Random,
    history: History,
}

impl Run {
    fn new(seed: u64, random: &Random, (weather, diet): (Weather, Diet), trace: bool) -> Self {
        let make = |node: NodeId, seed: u64| {
            (Tree::new(), Server::new(ServerConfig::new(node, RequestId(seed & !0xffff_ffff))))
        };
        let options = WorldOptions { wall_clock: true, ..weather.world(trace) };
        let world = World::new(seed, options, make);
        let mut cables = Cables::new(random.derive("cables"));
        let client =
            |id: usize| Client::new(ClientId(id), diet, random.derive(&format!("client {id}")));
        (0..CLIENTS).for_each(|id| cables.want(Time::ZERO, ClientId(id)));
        Self {
            weather,
            world,
            cables,
            clients: (0..CLIENTS).map(client).collect(),
            act_at: vec![Time::ZERO; CLIENTS],
            pace: random.derive("pace"),
            history: History::default(),
        }
    }

    fn run(&mut self, plan: Vec<Planned>) -> Result<(), Failure> {
        for Planned { at, deed } in plan {
            self.live_until(at)?;
            deed.harm(&mut self.world, &self.weather)?;
            self.cables.notice_deaths(&self.world);
            self.ephemerals_have_owners()?;
        }
        self.live_until(Time::ZERO + STORM)?;
        self.calm()?;
        self.history.adds_up()
    }

    /// Servers, cables and clients, each in their turn.
    fn live_until(&mut self, until: Time) -> Result<(), Failure> {
        loop {
            let acts = self.act_at.iter().copied().min();
            let next = [self.cables.next_at(), acts].into_iter().flatten().min();
            let next = next.map_or(until, |next| next.min(until)).max(self.world.now());
            self.world.run_until_told(next)?;
            let replies = self.world.take_replies();
            let now = self.world.now();
            if !replies.is_empty() {
                replies.into_iter().for_each(|(_, reply)| self.cables.reply(now, reply));
                continue;
            }
            if self.cables.next_at().is_some_and(|at| at <= now) {
                if let Some((client, arrived)) = self.cables.arrive(&mut self.world)? {
                    self.arrived(client, arrived)?;
                }
            } else if acts.is_some_and(|at| at <= now) {
                self.act(now);
            } else if now >= until {
                return Ok(());
            }
        }
    }

    fn act(&mut self, now: Time) {
        self.history.seen.clock(now);
        for nth in 0..CLIENTS {
            if self.act_at[nth] <= now {
                self.act_at[nth] = now + Duration::from_millis(self.pace.between(1, 40));
                self.clients[nth].act(now, &mut self.history);
                self.grant(nth);
            }
        }
    }

    fn arrived(&mut self, id: ClientId, arrived: Arrived) -> Result<(), Failure> {
        let now = self.world.now();
        self.history.seen.clock(now);
        let client = &mut self.clients[id.0];
        match arrived {
            Arrived::Wanted => self.cables.connect(&self.world, id),
            Arrived::Made(server) => client.connected(now, server),
            Arrived::Gone => client.lost(&mut self.history),
            Arrived::Packet(packet) => client.received(now, &packet, &mut self.history)?,
        }
        self.grant(id.0);
        Ok(())
    }

    /// Does what a client wants done.
    fn grant(&mut self, nth: usize) {
        let (now, id) = (self.world.now(), ClientId(nth));
        for wish in std::mem::take(&mut self.clients[nth].wishes) {
            match wish {
                Wish::Connect => self.cables.want(now, id),
                Wish::Send(packet) => self.cables.send(now, id, packet),
                Wish::HangUp => self.cables.hang_up(now, id),
            }
        }
    }

    /// ZK-11: no ephemeral znode without its session, on any server, at any time.
    fn ephemerals_have_owners(&self) -> Result<(), Failure> {
        for replica in self.world.up() {
            let tree = replica.machine();
            let owned: usize =
                tree.sessions().map(|(id, _)| tree.ephemerals_of(id, "/").len()).sum();
            if owned as u64 != tree.ephemerals() {
                let (node, all) = (replica.raft().node(), tree.ephemerals());
                let what =
                    format!("{node} has {all} ephemeral znodes, of which sessions own {owned}");
                return Err(Failure::safety("ZK-11: ephemeral znodes have owners", what));
            }
        }
        Ok(())
    }

    /// Faults stop; clients are served until they owe nothing, then everything must agree.
    fn calm(&mut self) -> Result<(), Failure> {
        self.world.pardon();
        self.world.heal();
        self.world.make_network(NetworkOptions::default());
        self.world.make_disks(StoreOptions::default());
        self.world.make_disks_fail(DiskFaults::default());
        self.world.ids().into_iter().for_each(|id| self.world.restart(id));
        let end = self.world.now() + CALM_MAX;
        let answered = self.history.answers;
        // Everybody is served again, and not only what was asked before.
        let some_time = self.world.now() + Duration::from_secs(12);
        self.live_until(some_time)?;
        self.clients.iter_mut().for_each(|client| client.quiet = true);
        loop {
            let soon = self.world.now() + Duration::from_millis(100);
            self.live_until(soon)?;
            self.world.restore_refused();
            self.world.ids().into_iter().for_each(|id| self.world.restart(id));
            let all_vote = plan::everybody_votes(&mut self.world)?;
            let unrest = self.unrest().or_else(|| {
                (self.history.answers == answered).then(|| "nothing was answered".to_string())
            });
            match unrest {
                None if all_vote => break,
                None if self.world.now() >= end => {
                    let what = "the members are not what was asked for".to_string();
                    return Err(Failure::liveness("changes of members come about", what));
                }
                Some(what) if self.world.now() >= end => {
                    return Err(Failure::liveness("everybody is served again", what));
                }
                _ => {}
            }
        }
        self.sessions_and_ephemerals()?;
        self.watches_told()?;
        self.counter_adds_up()
    }

    fn unrest(&self) -> Option<String> {
        if let Some(client) = self.clients.iter().find(|client| !client.is_at_rest()) {
            return Some(format!("{:?} is not at rest", client.id));
        }
        let Some(leader) = self.world.leader() else { return Some("nobody leads".to_string()) };
        let expected = self.world.replica(leader).map(|r| (r.applied(), r.machine().digest()));
        let differs =
            self.world.up().find(|r| Some((r.applied(), r.machine().digest())) != expected);
        differs.map(|replica| format!("{} has another state than {leader}", replica.raft().node()))
    }

    fn tree(&self) -> Option<&Tree> {
        self.world.up().next().map(|replica| replica.machine())
    }

    /// ZK-11: what a living session was told that it has is there; what belonged to one that is over is not.
    fn sessions_and_ephemerals(&self) -> Result<(), Failure> {
        let Some(tree) = self.tree() else { return Ok(()) };
        let broken = |what: String| {
            Err(Failure::safety("ZK-11: ephemeral znodes live as long as their session", what))
        };
        for client in &self.clients {
            if let Some(lost) = client.ephemerals.iter().find(|path| tree.znode(path).is_none()) {
                return broken(format!("{:?} lives, and {lost} is gone", client.id));
            }
            if let Some(left) = client.gone.iter().find(|path| tree.znode(path).is_some()) {
                return broken(format!(
                    "a session of {:?} is over, and {left} is there",
                    client.id
                ));
            }
        }
        Ok(())
    }

    /// ZK-12: whoever watches, and is served by a server that is up to date, was told.
    fn watches_told(&self) -> Result<(), Failure> {
        for client in self.clients.iter().filter(|client| client.session().is_some()) {
            for (path, watch) in client.watches() {
                if let Some(change) = self.history.written_between(path, watch.set_at, i64::MAX) {
                    let what = format!(
                        "{:?} watches {path} since {:#x} and was never told of {change:#x}",
                        client.id, watch.set_at
                    );
                    return Err(Failure::safety("ZK-12: no watch is lost", what));
                }
            }
        }
        Ok(())
    }

    /// ZK-3: conditional writes lose nothing, and nothing is done twice.
    fn counter_adds_up(&self) -> Result<(), Failure> {
        let Some(counter) = self.tree().and_then(|tree| tree.znode(COUNTER)) else { return Ok(()) };
        let (version, sure) = (counter.stat().version, self.history.incremented);
        let at_most = sure + self.history.perhaps_incremented;
        if (sure..=at_most).contains(&version) {
            return Ok(());
        }
        let what = format!("{sure} to {at_most} increments were told of; the version is {version}");
        Err(Failure::safety("ZK-3: conditional writes lose nothing", what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-12: the ready-file protocol, alone and thus much more often; the storms do not keep everybody from reading.
    #[test]
    fn ten_storms_over_the_ready_file() {
        for seed in 1..=10 {
            let options = RunOptions { trace: true, ..Default::default() };
            if let Err(report) = run_ready_file(seed, &options) {
                panic!("\n{report}");
            }
        }
        let random = Random::new(1);
        let drawn = (Weather::draw(&mut random.derive("weather")), Diet::ReadyFile);
        let mut run = Run::new(1, &random, drawn, false);
        run.run(Vec::new()).expect("without faults it goes well");
        let read = run.history.configurations;
        assert!(read > 100, "{read} configurations were read whole");
    }

    /// ZK-2, ZK-3, ZK-5 to ZK-8, ZK-11, ZK-12: a few storms; the command line runs thousands.
    #[test]
    fn twenty_storms_keep_every_promise() {
        for seed in 1..=20 {
            if let Err(report) = run(seed, &RunOptions { trace: true, ..Default::default() }) {
                panic!("\n{report}");
            }
        }
    }
}
