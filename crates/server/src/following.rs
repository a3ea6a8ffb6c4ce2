//! How a node follows the list of members: it dials who is on it, lets in whom it knows, and has the groups that it
//! leads take the next step. What the next step is, `roster` decides.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use quorate_contracts::{NodeId, Time};
use quorate_roster::{Roster, RosterVersion, Standing};
use tokio::sync::oneshot;

use crate::config::MemberAddress;
use crate::data_dir::DataDir;
use crate::inbox::Door;
use crate::members::{Known, Members};
use crate::registry::{Arrival, Progress};

/// While something is left to do, the list is confirmed this often, and each leader takes a step.
const STEP: Duration = Duration::from_millis(50);
/// Seconds after which those who left are not known any more: until then they may still be told that they have.
const FAREWELL_S: u32 = 3;

/// Who waits to hear that all is as a list says.
struct Waiting {
    version: Option<RosterVersion>,
    until: Time,
    answer: oneshot::Sender<Progress>,
}

/// The list, and how far this node is with it.
pub(crate) struct Following {
    node: NodeId,
    roster: Roster,
    standing: Standing,
    /// The list that the groups' fronts were told of.
    told: RosterVersion,
    /// Seconds since all has been as the list says.
    quiet_s: u32,
    step_at: Option<Time>,
    waiting: Vec<Waiting>,
    registry: Door<Arrival>,
    data_dir: Rc<DataDir>,
    known: Known,
}

impl Following {
    /// Begins with the list of the configuration, or with a later one that was remembered.
    pub(crate) fn new(
        node: NodeId,
        roster: Roster,
        registry: Door<Arrival>,
        data_dir: Rc<DataDir>,
        known: Known,
    ) -> Self {
        // Who stopped in the middle of a change looks how far it came, and goes on.
        let (standing, step_at) = match roster.version {
            RosterVersion(0) => (Standing::Complete, None),
            _ => (Standing::Unsettled, Some(Time::ZERO)),
        };
        Self {
            node,
            told: RosterVersion(0),
            roster,
            standing,
            quiet_s: 0,
            step_at,
            waiting: Vec::new(),
            registry,
            data_dir,
            known,
        }
    }

    /// The members of the list that this node begins with are dialled.
    pub(crate) fn begin(&self, members: &Members) {
        let addresses = self.addresses();
        self.known.set(addresses.keys().copied());
        members.dial(addresses);
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// There is another list: its members are dialled, and remembered for the next start.
    pub(crate) fn take(&mut self, roster: Roster, members: &Members) {
        if roster.version <= self.roster.version {
            return;
        }
        tracing::info!(
            version = roster.version.0,
            members = roster.members.len(),
            "another list of members"
        );
        if !roster.members.contains_key(&self.node) {
            tracing::warn!("this node does not belong to the cluster any more; stop it");
        }
        if let Err(error) = self.data_dir.remember_roster(&roster) {
            tracing::warn!(%error, "cannot remember the list of members for the next start");
        }
        self.roster = roster;
        (self.standing, self.quiet_s) = (Standing::Unsettled, 0);
        self.step_at = Some(Time::ZERO);
        let mut addresses = members.addresses();
        addresses.extend(self.addresses());
        self.known.set(addresses.keys().copied());
        members.dial(addresses);
    }

    fn addresses(&self) -> BTreeMap<NodeId, String> {
        let listed = self.roster.members.iter();
        listed.map(|(id, member)| (*id, member.address.clone())).collect()
    }

    /// Whether anything is left to do or to tell.
    pub(crate) fn is_busy(&self) -> bool {
        self.step_at.is_some() || !self.waiting.is_empty()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.waiting.iter().map(|waiting| waiting.until).chain(self.step_at).min()
    }

    pub(crate) fn wait(
        &mut self,
        now: Time,
        version: Option<RosterVersion>,
        patience: Duration,
        answer: oneshot::Sender<Progress>,
    ) {
        self.waiting.push(Waiting { version, until: now + patience, answer });
    }

    /// The groups have come so far. Says whether their fronts are to be told of the list.
    pub(crate) fn reached(&mut self, now: Time, standing: Standing) -> bool {
        self.standing = standing;
        if standing == Standing::Complete {
            self.step_at = None;
        } else if self.step_at.is_none_or(|at| at <= now) {
            self.step_at = Some(now + STEP);
            self.registry.push(Arrival::Confirm);
        }
        self.answer(now);
        let news = standing != Standing::Unsettled && self.told < self.roster.version;
        if news {
            self.told = self.roster.version;
        }
        news
    }

    fn answer(&mut self, now: Time) {
        let (version, standing) = (self.roster.version, self.standing);
        let is_over = |waiting: &mut Waiting| {
            let done = waiting.version.is_none_or(|wanted| wanted < version)
                || waiting.version == Some(version) && standing == Standing::Complete;
            done || waiting.until <= now
        };
        for waiting in self.waiting.extract_if(.., is_over) {
            let _ = waiting.answer.send(Progress { roster: self.roster.clone(), standing });
        }
    }

    /// Another second has passed: those who left are forgotten after a while. Who left itself dials nobody any more.
    pub(crate) fn second(&mut self, members: &Members) {
        if self.standing != Standing::Complete || self.roster.version == RosterVersion(0) {
            return;
        }
        self.quiet_s += 1;
        if self.quiet_s != FAREWELL_S {
            return;
        }
        let mut addresses = self.addresses();
        let gone: Vec<NodeId> =
            members.addresses().into_keys().filter(|id| !addresses.contains_key(id)).collect();
        if !addresses.contains_key(&self.node) {
            addresses.clear();
        }
        self.known.set(addresses.keys().copied());
        members.dial(addresses);
        if let Err(error) = self.data_dir.forget_peers(&gone) {
            tracing::warn!(%error, "cannot forget members that left");
        }
    }
}

/// The list by the configuration.
pub(crate) fn configured(members: &[MemberAddress]) -> Roster {
    let members = members.iter().map(|member| (NodeId(member.id), member.into())).collect();
    Roster { version: RosterVersion(0), members }
}
