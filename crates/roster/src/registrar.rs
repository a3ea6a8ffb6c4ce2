//! The service in front of the list: proposes changes, and tells the node of each new list.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_contracts::{
    Malformed, NodeId, Proposal, RequestId, Service, ServiceInput, ServiceOutput, Time, Wire,
    WireReader, WireWriter,
};

use crate::change::{Change, Command, NotChanged, Registry};
use crate::list::{List, Roster};

/// Names a question of this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What this node asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistrarRequest {
    /// Change the list.
    Change {
        /// Comes back.
        ticket: Ticket,
        /// What to change.
        change: Change,
    },
    /// Tell the list as it is now everywhere: a leader that acts on an older one could undo what was done.
    Confirm,
}

/// What it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistrarReply {
    /// What came of a change.
    Changed {
        /// As asked.
        ticket: Ticket,
        /// The list that it made, or why there is none.
        outcome: Result<Roster, NotChanged>,
    },
    /// There is another list.
    News(Roster),
    /// The list, and no change was acknowledged to anybody before [`RegistrarRequest::Confirm`] that it lacks; none
    /// if nothing was ever changed.
    Confirmed(Option<Roster>),
}

/// A proposal that nobody answered is made again after this ...
const AGAIN: Duration = Duration::from_millis(500);
/// ... and is given up after this: it may still take effect.
const PATIENCE: Duration = Duration::from_secs(10);

/// A change that was proposed.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    change: Change,
    again_at: Time,
    until: Time,
}

/// Registrars of two nodes tell each other nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {}

impl Wire for Silence {
    fn encode(&self, _: &mut WireWriter) {
        match *self {}
    }

    fn decode(_: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Err(Malformed("registrars tell each other nothing"))
    }
}

/// The service of one node.
#[derive(Debug)]
pub struct Registrar {
    node: NodeId,
    /// The members by this node's configuration.
    base: List,
    next: RequestId,
    pending: BTreeMap<RequestId, Pending>,
    told: Option<Roster>,
}

type Outputs = Vec<ServiceOutput<Registrar>>;

impl Registrar {
    /// `first` is where request ids begin; its upper 32 bits are random.
    pub fn new(node: NodeId, base: List, first: RequestId) -> Self {
        Self { node, base, next: first, pending: BTreeMap::new(), told: None }
    }

    fn next_id(&mut self) -> RequestId {
        let id = self.next;
        self.next = id.next();
        id
    }

    fn requested(&mut self, now: Time, request: RegistrarRequest, out: &mut Outputs) {
        let id = self.next_id();
        match request {
            RegistrarRequest::Confirm => out.push(ServiceOutput::ReadBarrier { id }),
            RegistrarRequest::Change { ticket, change } => {
                let pending =
                    Pending { ticket, change, again_at: now + AGAIN, until: now + PATIENCE };
                out.push(self.proposal(id, &pending.change));
                self.pending.insert(id, pending);
            }
        }
    }

    fn proposal(&self, id: RequestId, change: &Change) -> ServiceOutput<Self> {
        let (by, base) = (self.node, self.base.clone());
        let command = Command { by, nonce: id, base, change: change.clone() };
        ServiceOutput::Propose(Proposal::encode(by, id, |out| command.encode(out)))
    }

    fn wake(&mut self, now: Time, out: &mut Outputs) {
        for (_, late) in self.pending.extract_if(.., |_, pending| pending.until <= now) {
            let outcome = Err(NotChanged::Unknown);
            let reply = RegistrarReply::Changed { ticket: late.ticket, outcome };
            out.push(ServiceOutput::Reply(reply));
        }
        for pending in self.pending.values_mut().filter(|pending| pending.again_at <= now) {
            pending.again_at = now + AGAIN;
        }
        let due = self.pending.iter().filter(|(_, pending)| pending.again_at == now + AGAIN);
        out.extend(due.map(|(id, pending)| self.proposal(*id, &pending.change)));
    }

    fn applied(
        &mut self,
        id: Option<RequestId>,
        outcome: Result<Roster, NotChanged>,
        out: &mut Outputs,
    ) {
        if let Some(Pending { ticket, .. }) = id.and_then(|id| self.pending.remove(&id)) {
            out.push(ServiceOutput::Reply(RegistrarReply::Changed { ticket, outcome }));
        }
    }

    fn tell_news(&mut self, registry: &Registry, out: &mut Outputs) {
        if registry.roster() != self.told.as_ref() {
            self.told = registry.roster().cloned();
            let news = self.told.clone().map(RegistrarReply::News);
            out.extend(news.map(ServiceOutput::Reply));
        }
    }
}

impl Service for Registrar {
    type Machine = Registry;
    type Message = Silence;
    type Request = RegistrarRequest;
    type Reply = RegistrarReply;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        let first = self.pending.values().map(|pending| pending.again_at.min(pending.until)).min();
        first.map(|at| (at, "a change of members is not answered"))
    }

    fn step(
        &mut self,
        now: Time,
        input: ServiceInput<'_, Self>,
        registry: &Registry,
        out: &mut Outputs,
    ) {
        match input {
            ServiceInput::Wake => self.wake(now, out),
            ServiceInput::Requested(request) => self.requested(now, request, out),
            // The list first: who hears what came of a change finds it in force.
            ServiceInput::Applied { id, outcome, .. } => {
                self.tell_news(registry, out);
                self.applied(id, outcome, out);
            }
            ServiceInput::Restored => self.tell_news(registry, out),
            ServiceInput::ReadReady { .. } => {
                let confirmed = RegistrarReply::Confirmed(registry.roster().cloned());
                out.push(ServiceOutput::Reply(confirmed));
            }
            // It is proposed again, or asked again, by itself.
            ServiceInput::Refused { .. }
            | ServiceInput::ReadRefused { .. }
            | ServiceInput::WallClock { .. }
            | ServiceInput::Leader { .. }
            | ServiceInput::Members { .. } => {}
            ServiceInput::Received { message, .. } => match message {},
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_contracts::{EntryId, LogIndex, StateMachine, Term};

    use super::*;
    use crate::{Edit, Member, RosterVersion};

    fn joins(id: u64) -> Change {
        let member = Member { votes: false, address: format!("h{id}:1"), ..Member::default() };
        let joining = List::from([(NodeId(id), member)]);
        Change { from: None, edit: Edit::Merge { joining, leaving: [].into() } }
    }

    /// One node, and what it proposed and said.
    struct Scene {
        registrar: Registrar,
        registry: Registry,
        now: Time,
        index: u64,
    }

    impl Scene {
        fn new() -> Self {
            let founder = Member { votes: true, address: "h1:1".into(), ..Member::default() };
            let base = List::from([(NodeId(1), founder)]);
            let registrar = Registrar::new(NodeId(1), base, RequestId(0));
            Self { registrar, registry: Registry::default(), now: Time::ZERO, index: 0 }
        }

        fn step(
            &mut self,
            input: ServiceInput<'_, Registrar>,
        ) -> (Vec<Proposal>, Vec<RegistrarReply>) {
            let mut out = Vec::new();
            self.registrar.step(self.now, input, &self.registry, &mut out);
            let (mut proposals, mut replies) = (Vec::new(), Vec::new());
            for output in out {
                match output {
                    ServiceOutput::Propose(proposal) => proposals.push(proposal),
                    ServiceOutput::Reply(reply) => replies.push(reply),
                    ServiceOutput::ReadBarrier { .. } | ServiceOutput::Tell { .. } => {}
                }
            }
            (proposals, replies)
        }

        fn ask(&mut self, ticket: u64, change: Change) -> Vec<Proposal> {
            let request = RegistrarRequest::Change { ticket: Ticket(ticket), change };
            self.step(ServiceInput::Requested(request)).0
        }

        fn commit(&mut self, proposal: &Proposal) -> Vec<RegistrarReply> {
            self.index += 1;
            let (index, mut events) = (LogIndex(self.index), Vec::new());
            let outcome = self.registry.apply(index, proposal.command(), &mut events);
            let (at, id) = (EntryId::new(index, Term(1)), Some(proposal.id()));
            self.step(ServiceInput::Applied { at, id, outcome, events: &events }).1
        }

        fn pass(&mut self, duration: Duration) -> (Vec<Proposal>, Vec<RegistrarReply>) {
            self.now += duration;
            self.step(ServiceInput::Wake)
        }
    }

    /// The new list is told before what came of the change; a lost proposal is made again, and counts once.
    #[test]
    fn a_change_is_told_when_it_is_in_force() {
        let mut scene = Scene::new();
        assert_eq!(scene.ask(7, joins(4)).len(), 1, "proposed, and lost");
        let (again, replies) = scene.pass(AGAIN);
        assert_eq!((again.len(), replies.len()), (1, 0));
        let told = scene.commit(&again[0]);
        let [RegistrarReply::News(news), RegistrarReply::Changed { ticket, outcome }] = &told[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!((ticket, outcome), (&Ticket(7), &Ok(news.clone())));
        assert_eq!((news.version, news.members.len()), (RosterVersion(1), 2));
        assert_eq!(scene.commit(&again[0]), [], "the lost one arrives late");
        assert_eq!(scene.pass(PATIENCE), (vec![], vec![]));
    }

    /// Where nobody answers, the node hears that it may have happened.
    #[test]
    fn without_a_majority_the_outcome_is_unknown() {
        let mut scene = Scene::new();
        scene.ask(7, joins(4));
        let (proposals, replies) = scene.pass(PATIENCE);
        let outcome = Err(NotChanged::Unknown);
        assert_eq!(replies, [RegistrarReply::Changed { ticket: Ticket(7), outcome }]);
        assert_eq!(proposals, []);
    }
}
