//! The leader's clock: when which lease and which client expires (KV-1, KV-4).
//!
//! Only the leader keeps it, and only from the moment its [`Body::Reign`] is applied: then everything that is in the
//! state gets its full time. What it says about time is a command, and counts only while it reigns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_contracts::{ServiceOutput, Term, Time};

use super::{Outputs, Server};
use crate::command::{Body, Event};
use crate::store::Store;
use crate::{ClientId, LeaseId};

/// However long a server slept, no more than this passes in one step: keep-alives that arrived meanwhile are heard first.
const STEP_MAX: Duration = Duration::from_secs(1);
/// What is due and still there is said again after this time: the word may have been lost.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// A new leader gives leases this much more: clients must find it first.
const GRACE: Duration = Duration::from_secs(2);

/// When each of many things expires. Moving one costs a look-up; it is put in order only when it would be due.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    at: BTreeMap<K, Time>,
    due: BTreeSet<(Time, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), due: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    pub(super) fn set(&mut self, key: K, at: Time) {
        if self.at.insert(key, at).is_none() {
            self.due.insert((at, key));
        }
    }

    pub(super) fn get(&self, key: K) -> Option<Time> {
        self.at.get(&key).copied()
    }

    pub(super) fn remove(&mut self, key: K) {
        self.at.remove(&key);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is due; it is due again a little later, unless it was removed by then.
    fn expired(&mut self, now: Time) -> Vec<K> {
        let mut expired = Vec::new();
        while let Some((due, key)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, key));
            match self.at.get(&key) {
                Some(at) if *at > now => drop(self.due.insert((*at, key))),
                Some(_) => {
                    self.due.insert((now + SAY_AGAIN, key));
                    expired.push(key);
                }
                None => {}
            }
        }
        expired
    }
}

/// The clock of a leader.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Time as it counts for leases.
    steady: Time,
    last: Time,
    /// The term in which this server reigns, if it does.
    reign: Option<Term>,
    pub(super) leases: Deadlines<LeaseId>,
    clients: Deadlines<ClientId>,
}

impl Clock {
    pub(super) fn advance(&mut self, now: Time) {
        self.steady += now.since(self.last).min(STEP_MAX);
        self.last = now;
    }

    /// There is another leader, or none.
    pub(super) fn stop(&mut self) {
        self.reign = None;
        self.leases.clear();
        self.clients.clear();
    }

    pub(super) fn reigns(&self) -> bool {
        self.reign.is_some()
    }

    /// Seconds until a lease expires, rounded up; `None` if nobody keeps its time here.
    pub(super) fn remaining(&self, lease: LeaseId) -> Option<i64> {
        let left = self.leases.get(lease)?.since(self.steady);
        Some(i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX))
    }

    /// A lease lives on for its full time, unless its end was said already.
    pub(super) fn renew(&mut self, lease: LeaseId, ttl: i64) -> bool {
        let alive = self.leases.get(lease).is_some_and(|at| at > self.steady);
        if alive {
            self.leases.set(lease, self.steady + seconds(ttl));
        }
        alive
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Server {
    /// Learns from what was applied who lives and who does not.
    pub(super) fn keep_time(&mut self, event: &Event, store: &Store) {
        match event {
            Event::Reign(term) if self.leads() && *term == self.term => {
                self.begin_reign(*term, store)
            }
            Event::Reign(_) => self.clock.stop(),
            _ if !self.clock.reigns() => {}
            Event::LeaseGranted(lease) => {
                if let Some(granted) = store.lease(*lease) {
                    self.clock.leases.set(*lease, self.clock.steady + seconds(granted.ttl));
                }
            }
            Event::LeaseEnded(lease) => self.clock.leases.remove(*lease),
            Event::ClientUsed(client) => {
                self.clock.clients.set(*client, self.clock.steady + self.client_idle());
            }
            Event::ClientEnded(client) => self.clock.clients.remove(*client),
            _ => {}
        }
    }

    fn begin_reign(&mut self, term: Term, store: &Store) {
        self.clock.stop();
        self.clock.reign = Some(term);
        let steady = self.clock.steady;
        for (lease, ttl) in store.leases() {
            self.clock.leases.set(lease, steady + seconds(ttl) + GRACE);
        }
        let idle = steady + self.client_idle();
        store.clients().ids().for_each(|client| self.clock.clients.set(client, idle));
    }

    fn client_idle(&self) -> Duration {
        Duration::from_millis(self.config.client_idle_ms)
    }

    /// A leader that does not reign yet says that it does; one that does says what has expired.
    pub(super) fn say_time(&mut self, store: &Store, out: &mut Outputs) {
        if !self.leads() {
            return;
        }
        let Some(reign) = self.clock.reign.filter(|_| store.reign() == self.term) else {
            self.propose_own(Body::Reign(self.term), out);
            return;
        };
        for lease in self.clock.leases.expired(self.clock.steady) {
            self.propose_own(Body::ExpireLease { lease, reign }, out);
        }
        for client in self.clock.clients.expired(self.clock.steady) {
            if let Some(last_used) = store.clients().last_used(client) {
                self.propose_own(Body::ExpireClient { client, last_used, reign }, out);
            }
        }
        if store.mvcc().has_garbage() {
            self.propose_own(Body::CollectGarbage, out);
        }
    }

    pub(super) fn propose_own(&mut self, body: Body, out: &mut Outputs) {
        let (_, proposal) = self.proposal(&crate::command::Command::of_server(body));
        out.push(ServiceOutput::Propose(proposal));
    }
}
