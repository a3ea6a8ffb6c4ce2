//! The system group's front, and this node's way to change who belongs to the cluster. Everything that changes members
//! comes through [`Enrolment`]: ZooKeeper's reconfig, etcd's member calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_contracts::{GroupId, NodeId};
use quorate_raft::Replica;
use quorate_roster::{
    Change, Edit, NotChanged, Registrar, RegistrarReply, RegistrarRequest, Roster, RosterVersion,
    Standing, Ticket,
};
use tokio::sync::oneshot;

use crate::admin::{GroupStatus, NodeStatus};
use crate::group::Front;
use crate::inbox::{Door, Inbox, Incoming};

/// How long a change may take until a majority of the new voters has what it needs.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one that was promoted may take until it votes.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(3);

/// What reaches the group from its node.
pub(crate) enum Arrival {
    /// Change the list.
    Change { change: Change, answer: Option<oneshot::Sender<Result<Roster, NotChanged>>> },
    /// Tell the list as it is now everywhere.
    Confirm,
}

/// How far the node sees all groups to have come with which list.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) roster: Roster,
    pub(crate) standing: Standing,
    /// The other members to whom there is a connection.
    pub(crate) connected: BTreeSet<NodeId>,
}

/// When a change is done. One that does not come so far is taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// The new voters decide: a majority of them is there. Those who are late get some time.
    InForce,
    /// Nobody has a part any more that is not theirs: those who come may come when they like.
    Listed,
    /// Everybody has the part that is theirs.
    Complete,
}

impl Goal {
    /// How far it is waited for, and for how long; and how far is enough.
    fn terms(self) -> (Standing, Duration, Standing) {
        match self {
            Self::InForce => (Standing::Complete, PATIENCE, Standing::Settled),
            Self::Listed => (Standing::Waiting, PATIENCE, Standing::Waiting),
            Self::Complete => (Standing::Complete, PROMOTION_PATIENCE, Standing::Complete),
        }
    }
}

/// This node's way to change members.
#[derive(Clone)]
pub(crate) struct Enrolment {
    door: Door<Arrival>,
    inbox: Inbox,
}

impl Enrolment {
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self { door: Door::new(GroupId::SYSTEM, inbox.clone()), inbox }
    }

    pub(crate) fn door(&self) -> Door<Arrival> {
        self.door.clone()
    }

    /// How far this node sees all groups to be just now.
    pub(crate) async fn now(&self) -> Result<Progress, NotChanged> {
        self.progress(None, Standing::Complete, Duration::ZERO).await
    }

    /// Changes the list, and returns once every group has followed; what cannot come about is taken back.
    pub(crate) async fn change(&self, change: Change, goal: Goal) -> Result<Roster, NotChanged> {
        let Progress { roster: before, standing, .. } = self.now().await?;
        if standing == Standing::Unsettled {
            return Err(NotChanged::InProgress);
        }
        if change.from.is_some_and(|from| from != before.version) {
            return Err(NotChanged::OtherVersion);
        }
        let Change { edit, .. } = change;
        let roster = self.ask(before.version, edit).await?;
        let (far, patience, enough) = goal.terms();
        let reached = self.progress(Some(roster.version), far, patience).await?;
        if reached.roster.version != roster.version || reached.standing >= enough {
            return Ok(roster);
        }
        match self.ask(roster.version, Edit::Replace(before.members)).await {
            Ok(_) => Err(NotChanged::NoQuorum),
            Err(_) => Err(NotChanged::Unknown),
        }
    }

    async fn ask(&self, from: RosterVersion, edit: Edit) -> Result<Roster, NotChanged> {
        let (answer, changed) = oneshot::channel();
        let change = Change { from: Some(from), edit };
        self.door.push(Arrival::Change { change, answer: Some(answer) });
        changed.await.unwrap_or(Err(NotChanged::Unknown))
    }

    /// How far the node is with that list, once it is so far, or after a while.
    async fn progress(
        &self,
        version: Option<RosterVersion>,
        far: Standing,
        patience: Duration,
    ) -> Result<Progress, NotChanged> {
        let (answer, progress) = oneshot::channel();
        self.inbox.push(Incoming::Progress { version, far, patience, answer });
        progress.await.map_err(|_| NotChanged::Unknown)
    }
}

/// The front of the system group.
pub(crate) struct Registry {
    door: Door<Arrival>,
    inbox: Inbox,
    asked: BTreeMap<Ticket, oneshot::Sender<Result<Roster, NotChanged>>>,
    next: u64,
}

impl Registry {
    pub(crate) fn new(enrolment: &Enrolment) -> Self {
        let (door, inbox) = (enrolment.door(), enrolment.inbox.clone());
        Self { door, inbox, asked: BTreeMap::new(), next: 0 }
    }

    fn arrived(&mut self, arrival: Arrival) -> RegistrarRequest {
        match arrival {
            Arrival::Confirm => RegistrarRequest::Confirm,
            Arrival::Change { change, answer } => {
                let ticket = Ticket(self.next);
                self.next += 1;
                self.asked.extend(answer.map(|answer| (ticket, answer)));
                RegistrarRequest::Change { ticket, change }
            }
        }
    }
}

impl Front<Registrar> for Registry {
    fn requests(&mut self) -> VecDeque<RegistrarRequest> {
        self.door.take().into_iter().map(|arrival| self.arrived(arrival)).collect()
    }

    fn reply(&mut self, reply: RegistrarReply) {
        match reply {
            RegistrarReply::News(roster) => self.inbox.push(Incoming::Roster(roster)),
            RegistrarReply::Confirmed(Some(roster)) => {
                self.inbox.push(Incoming::Confirmed(roster));
            }
            RegistrarReply::Confirmed(None) => {}
            RegistrarReply::Changed { ticket, outcome } => {
                if let Some(answer) = self.asked.remove(&ticket) {
                    let _ = answer.send(outcome);
                }
            }
        }
    }

    fn flush(&mut self) {}

    fn open(&mut self) {}

    fn facts(&self, _: &Replica<Registrar>, _: Duration) -> Option<RegistrarRequest> {
        None
    }

    fn report(&self, replica: &Replica<Registrar>, status: &mut NodeStatus) {
        status.groups.push(GroupStatus::new("system", &replica.status()));
    }

    fn drain(&mut self) {}

    fn is_busy(&self, _: &Replica<Registrar>) -> bool {
        false
    }
}
