//! One run: the plan's deeds while Clerks work and watchers watch; then calm; then what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_checker::formats::json_lines;
use quorate_checker::models::Kv;
use quorate_contracts::{NodeId, Random, RequestId, StateMachine, Time};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::prefix_end;
use quorate_etcd::server::{Server, ServerConfig};
use quorate_etcd::store::Store;
use quorate_sim::{DiskFaults, NetworkOptions, StoreOptions, World};

use super::clients::Clients;
use super::watchers::Watchers;
use super::work::{Work, log_key};
use super::{NAME, Planted, STORM};
use crate::raft::plan::{self, Deed, Planned};
use crate::raft::weather::Weather;
use crate::{Failure, Report, Summary, judged};

/// How long recovery may take once faults have stopped.
const CALM_MAX: Duration = Duration::from_secs(200);
/// How finely the clients' side is driven.
const LOOK: Duration = Duration::from_millis(2);
/// Longer than any run: no client is silent for so long.
const QUIET_MS_MAX: u64 = 3_600_000;

pub(super) struct Run {
    seed: u64,
    weather: Weather,
    plan: Vec<Planned>,
    world: World<Server>,
    clients: Clients,
    watchers: Watchers,
    work: Work,
    /// Servers that were up when the clients looked last.
    up: BTreeSet<NodeId>,
}

impl Run {
    pub(super) fn new(
        seed: u64,
        weather: Weather,
        plan: Vec<Planned>,
        random: &Random,
        trace: bool,
    ) -> Self {
        // A server that gives clients up early meets retries of writes whose client is gone.
        let mut idle = random.derive("idle clients");
        let client_idle_ms =
            if idle.chance_ppm(300_000) { idle.between(500, 4_000) } else { QUIET_MS_MAX };
        let make = move |node, seed: u64| {
            let mut config = ServerConfig::new(node, RequestId(seed & !0xffff_ffff));
            config.client_idle_ms = client_idle_ms;
            (Store::default(), Server::new(config, seed))
        };
        let world = World::new(seed, weather.world(trace), make);
        let mut draws = random.derive("clients");
        let count = draws.between(2, 8) as usize;
        let loss_ppm = if draws.chance_ppm(500_000) { draws.below(100_000) as u32 } else { 0 };
        let clients = Clients::new(count, &world.ids(), random.derive("clerks"), loss_ppm);
        let watchers = Watchers::new(3, weather.nodes, random.derive("watchers"));
        let mut work = Work::new(random.derive("work"));
        work.clients_expire = client_idle_ms < QUIET_MS_MAX;
        Self { seed, weather, plan, world, clients, watchers, work, up: BTreeSet::new() }
    }

    pub(super) fn plant(&mut self, planted: Planted) {
        self.clients.untagged = planted == Planted::Unnumbered;
        self.clients.scattered = planted == Planted::Stale;
        self.work.serializable = planted == Planted::Stale;
    }

    pub(super) fn run(&mut self) -> Result<(), Failure> {
        for Planned { at, deed } in std::mem::take(&mut self.plan) {
            self.run_until(at, true)?;
            self.perform(&deed)?;
        }
        self.run_until(Time::ZERO + STORM, true)?;
        self.calm()?;
        self.check()
    }

    fn perform(&mut self, deed: &Deed) -> Result<(), Failure> {
        if let Deed::Crash { node, noticed } = deed {
            self.lost(*node, *noticed);
        }
        Ok(deed.harm(&mut self.world, &self.weather)?)
    }

    /// Clients lose a server that dies, if it lives.
    fn lost(&mut self, node: NodeId, noticed: bool) {
        if self.up.remove(&node) {
            self.clients.crashed(self.world.now(), node, noticed);
            self.watchers.crashed(node);
        }
    }

    /// Servers also die in the middle of a write, and come back.
    fn see_who_is_up(&mut self) {
        for node in self.world.ids() {
            if self.world.is_up(node) {
                self.up.insert(node);
            } else {
                self.lost(node, true);
            }
        }
    }

    fn run_until(&mut self, end: Time, working: bool) -> Result<(), Failure> {
        while self.world.now() < end {
            self.look(working)?;
            let next = (self.world.now() + LOOK).min(end);
            self.world.run_until(next)?;
        }
        Ok(())
    }

    /// The clients' side does what is due.
    fn look(&mut self, working: bool) -> Result<(), Failure> {
        let now = self.world.now();
        self.see_who_is_up();
        self.clients.run(&mut self.world)?;
        self.watchers.run(&mut self.world)?;
        for (node, reply) in self.world.take_replies() {
            if !self.clients.replied(now, node, &reply) {
                self.watchers.replied(&reply)?;
            }
        }
        for (who, told) in self.clients.take_told() {
            self.work.told(now, who, told, &mut self.clients)?;
        }
        if working {
            self.work.begin(now, &mut self.clients);
        }
        Ok(())
    }

    /// Faults stop; everything must come good.
    fn calm(&mut self) -> Result<(), Failure> {
        self.world.pardon();
        self.world.heal();
        self.world.make_network(NetworkOptions::default());
        self.world.make_disks(StoreOptions::default());
        self.world.make_disks_fail(DiskFaults::default());
        self.clients.loss_ppm = 0;
        self.watchers.leaves_ppm = 0;
        let end = self.world.now() + CALM_MAX;
        loop {
            self.world.restore_refused();
            self.world.ids().into_iter().for_each(|id| self.world.restart(id));
            self.run_until(self.world.now() + Duration::from_millis(100), false)?;
            let all_vote = plan::everybody_votes(&mut self.world)?;
            let unchanged = || "the members are not what was asked for".to_string();
            match self.unsettled().or_else(|| (!all_vote).then(unchanged)) {
                None => return Ok(()),
                Some(what) if self.world.now() >= end => {
                    return Err(Failure::liveness("calm", what));
                }
                Some(_) => {}
            }
        }
    }

    /// What has not come good yet.
    fn unsettled(&self) -> Option<String> {
        let open = self.clients.open_questions();
        if open > 0 {
            return Some(format!("{open} questions are not answered"));
        }
        let Some(leader) = self.world.leader().and_then(|id| self.world.replica(id)) else {
            return Some("nobody leads".to_string());
        };
        let store = leader.machine();
        let up = self.world.up().count();
        let equal =
            self.world.up().filter(|replica| replica.machine().digest() == store.digest()).count();
        if equal < up || up < self.world.ids().len() {
            return Some(format!("{equal} of {up} replicas are equal"));
        }
        if store.leases().len() > 0 {
            return Some(format!("{} leases have not expired", store.leases().len()));
        }
        let behind = self.watchers.behind(store.revision().0);
        behind.map(|index| format!("watcher {index} is behind revision {}", store.revision()))
    }

    fn check(&self) -> Result<(), Failure> {
        let Some(store) = self.world.up().next().map(|replica| replica.machine()) else {
            return Ok(());
        };
        self.check_appends(store)?;
        self.check_leased(store)?;
        self.check_chronicle(store)?;
        judged::linearizable(&Kv::default(), &self.work.history)?;
        self.work.accounts.judge()
    }

    /// Each append is there once, in order: a key's version counts its writes, and its value is the last one's number. Of
    /// those whose client was given up, each is there once or not at all.
    fn check_appends(&self, store: &Store) -> Result<(), Failure> {
        for (who, appended) in &self.work.appended {
            let found = read(store, &log_key(*who), None);
            let found = found.first().map_or((0, String::new()), |kv| (kv.0, kv.1.clone()));
            let writes = u64::try_from(found.0).unwrap_or(0);
            let last = found.1.parse().unwrap_or(0);
            if !appended.fits(writes, last) {
                let what = format!(
                    "clerk {who} appended {appended}; there are {writes} writes, the last is {last}"
                );
                return Err(Failure::safety("exactly once", what));
            }
            let key = log_key(*who).into_bytes();
            let told =
                self.watchers.chronicle.values().flatten().filter(|(found, _)| *found == key);
            let numbers: Vec<u64> = told
                .filter_map(|(_, value)| String::from_utf8_lossy(value.as_ref()?).parse().ok())
                .collect();
            if !numbers.is_sorted_by(|a, b| a < b) {
                return Err(Failure::safety(
                    "exactly once",
                    format!("clerk {who}'s appends came as {numbers:?}"),
                ));
            }
        }
        Ok(())
    }

    fn check_leased(&self, store: &Store) -> Result<(), Failure> {
        let left = read(store, "leased/", Some("leased/"));
        if left.is_empty() {
            Ok(())
        } else {
            Err(Failure::safety("leased keys go", format!("{left:?}")))
        }
    }

    /// Who was told everything knows what is there.
    fn check_chronicle(&self, store: &Store) -> Result<(), Failure> {
        let chronicle = &self.watchers.chronicle;
        let is_whole = chronicle.len() as i64 == store.revision().0 - 1;
        if !is_whole {
            return Ok(());
        }
        let mut told = BTreeMap::new();
        for (key, value) in chronicle.values().flatten() {
            match value {
                Some(value) => told.insert(key.clone(), value.clone()),
                None => told.remove(key),
            };
        }
        let all = pb::RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..Default::default()
        };
        let found = store.range(&all).expect("the newest revision is there").kvs;
        let found: BTreeMap<Vec<u8>, Vec<u8>> =
            found.iter().map(|kv| (kv.key.to_vec(), kv.value.to_vec())).collect();
        if told == found {
            return Ok(());
        }
        Err(Failure::safety("watch, complete", format!("told {told:?}, found {found:?}")))
    }

    /// What Clerks asked of registers and were told.
    pub(super) fn history(&self) -> String {
        json_lines::write(&Kv::default(), &self.work.history)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary::of(self.seed, &self.world)
    }

    pub(super) fn report(&self, failure: Failure) -> Report {
        let setting = format!("{}; {} clerks", self.weather, self.clients.count());
        Report::of(NAME.to_string(), self.seed, setting, failure, &self.world)
    }
}

/// Versions and values in a range.
fn read(store: &Store, key: &str, prefix: Option<&str>) -> Vec<(i64, String)> {
    let range_end = prefix.map_or(Vec::new(), |prefix| prefix_end(prefix.as_bytes())).into();
    let request = pb::RangeRequest { key: key.to_string().into(), range_end, ..Default::default() };
    let found = store.range(&request).expect("the newest revision is there").kvs;
    found.iter().map(|kv| (kv.version, String::from_utf8_lossy(&kv.value).into_owned())).collect()
}
