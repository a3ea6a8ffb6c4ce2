//! How a node follows the list of members: it dials who is on it, lets in whom it knows, and has the groups that it
//! leads take the next step. What the next step is, `roster` decides.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use quorate_contracts::{NodeId, Time};
use quorate_roster::{Change, Edit, Member, Roster, RosterVersion, Standing};
use tokio::sync::oneshot;

use crate::config::MemberAddress;
use crate::data_dir::DataDir;
use crate::inbox::Door;
use crate::members::{Known, Members};
use crate::registry::{Arrival, Progress};
use crate::zookeeper;

/// While something is left to do, the list is confirmed this often, and each leader takes a step.
const STEP: Duration = Duration::from_millis(50);
/// The same, while it waits for somebody who was added and does not come.
const LATE_STEP: Duration = Duration::from_secs(1);
/// After this time with a list it is no matter of moments any more.
const SOON: Duration = Duration::from_secs(10);
/// A node that is to leave, and hears of no leader of any group any more, takes itself for one that has left after this time:
/// the others may have finished and forgotten it, and it cannot ask.
const PARTING: Duration = Duration::from_secs(5);
/// Seconds after which those who left are not known any more: until then they may still be told that they have.
const FAREWELL_S: u32 = 3;

/// Who waits to hear that all is as a list says.
struct Waiting {
    version: Option<RosterVersion>,
    far: Standing,
    until: Time,
    answer: oneshot::Sender<Progress>,
}

/// The list, and how far this node is with it.
pub(crate) struct Following {
    node: NodeId,
    /// What is to be published of this node, by service.
    own: BTreeMap<String, String>,
    roster: Roster,
    /// Since when.
    taken_at: Time,
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
        (node, own): (NodeId, Member),
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
            own: own.published,
            told: RosterVersion(0),
            taken_at: Time::ZERO,
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
        self.known.list(&self.roster);
        self.known.let_in(addresses.keys().copied());
        members.dial(addresses);
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// There is another list: its members are dialled, and remembered for the next start.
    pub(crate) fn take(&mut self, now: Time, roster: Roster, members: &Members) {
        if roster.version < self.roster.version || roster == self.roster {
            return;
        }
        if let Err(error) = self.data_dir.remember_roster(&roster) {
            tracing::warn!(%error, "cannot remember the list of members for the next start");
        }
        if roster.version == self.roster.version {
            // A little more is known of a member.
            self.roster = roster;
            self.known.list(&self.roster);
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
        // Who left and was added again at once may have begun another life.
        let joining = |id: &&NodeId| !self.roster.members.contains_key(id);
        let joining: Vec<NodeId> = roster.members.keys().filter(joining).copied().collect();
        self.forget(&joining);
        (self.roster, self.taken_at) = (roster, now);
        (self.standing, self.quiet_s) = (Standing::Unsettled, 0);
        self.step_at = Some(Time::ZERO);
        let mut addresses = members.addresses();
        addresses.extend(self.addresses());
        self.known.list(&self.roster);
        self.known.let_in(addresses.keys().copied());
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
        (version, far): (Option<RosterVersion>, Standing),
        patience: Duration,
        answer: oneshot::Sender<Progress>,
    ) {
        self.waiting.push(Waiting { version, far, until: now + patience, answer });
    }

    /// The groups have come so far, and there are leaders of any of them or there are none. Says whether their fronts are to be told of
    /// the list.
    pub(crate) fn reached(
        &mut self,
        now: Time,
        standing: Standing,
        is_led: bool,
        members: &Members,
    ) -> bool {
        let parted = !is_led && !self.belongs() && self.taken_at + PARTING <= now;
        let standing = if parted { Standing::Complete } else { standing };
        self.standing = standing;
        if standing == Standing::Complete {
            self.step_at = None;
        } else if self.step_at.is_none_or(|at| at <= now) {
            let soon = now < self.taken_at + SOON;
            self.step_at = Some(now + if soon { STEP } else { LATE_STEP });
            self.registry.push(Arrival::Confirm);
        }
        self.answer(now, members);
        let news = standing >= Standing::Settled && self.told < self.roster.version;
        if news {
            self.told = self.roster.version;
        }
        news
    }

    /// Whether this node is on the list.
    fn belongs(&self) -> bool {
        self.roster.members.contains_key(&self.node)
    }

    fn answer(&mut self, now: Time, members: &Members) {
        let (version, standing) = (self.roster.version, self.standing);
        let is_over = |waiting: &mut Waiting| {
            let done = waiting.version.is_none_or(|wanted| wanted < version)
                || waiting.version == Some(version) && standing >= waiting.far;
            done || waiting.until <= now
        };
        for waiting in self.waiting.extract_if(.., is_over) {
            let (roster, connected) = (self.roster.clone(), members.connected());
            let _ = waiting.answer.send(Progress { roster, standing, connected });
        }
    }

    /// Who was added under an address tells the others where its clients find it.
    fn publish(&self) {
        let Some(known) = self.roster.members.get(&self.node) else { return };
        let lacks = |(service, text): &(&String, &String)| match known.published.get(*service) {
            None => true,
            // What ZooKeeper's clients wrote of a server stays as they wrote it.
            Some(known) => known != *text && *service != zookeeper::PUBLISHED,
        };
        let published: BTreeMap<String, String> =
            self.own.iter().filter(lacks).map(|(at, text)| (at.clone(), text.clone())).collect();
        if published.is_empty() || self.roster.version == RosterVersion(0) {
            return;
        }
        // The list has a version of its own for ZooKeeper's clients, who read what it says of them.
        let another = published.contains_key(zookeeper::PUBLISHED);
        let edit = Edit::Publish { member: self.node, published, another };
        let change = Change { from: Some(self.roster.version), edit };
        self.registry.push(Arrival::Change { change, answer: None });
    }

    /// Another second has passed: those who left are forgotten after a while. Who left itself dials nobody any more.
    pub(crate) fn second(&mut self, members: &Members) {
        if self.standing > Standing::Unsettled {
            self.publish();
        }
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
        self.known.let_in(addresses.keys().copied());
        members.dial(addresses);
        self.forget(&gone);
    }

    /// Forgets which life of these was met.
    fn forget(&self, members: &[NodeId]) {
        if let Err(error) = self.data_dir.forget_peers(members) {
            tracing::warn!(%error, "cannot forget members that left");
        }
    }
}

/// The list by the configuration.
pub(crate) fn configured(members: &[MemberAddress]) -> Roster {
    let members = members.iter().map(|member| (NodeId(member.id), member.into())).collect();
    Roster { version: RosterVersion(0), members }
}
