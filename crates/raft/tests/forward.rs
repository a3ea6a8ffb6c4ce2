//! Proposals on their way from one server to the leader, as the replica sends them.

use std::convert::Infallible;

use quorate_contracts::{
    EntryId, Input, LogIndex, NoState, NodeId, Output, Process, Proposal, Recovered, RequestId,
    Service, ServiceInput, ServiceOutput, Term, Time,
};
use quorate_raft::{Body, Config, Message, Replica, ReplicaMessage, ReplicaRequest};

/// Proposes a number on request, and all of them again to each new leader, as a service may.
#[derive(Debug, Default)]
struct Again(Vec<u64>);

impl Again {
    fn proposal(number: u64) -> ServiceOutput<Self> {
        ServiceOutput::Propose(Proposal::encode(ME, RequestId(number), |_| {}))
    }
}

impl Service for Again {
    type Machine = NoState;
    type Message = Infallible;
    type Request = u64;
    type Reply = Infallible;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    fn step(
        &mut self,
        _: Time,
        input: ServiceInput<'_, Self>,
        _: &NoState,
        out: &mut Vec<ServiceOutput<Self>>,
    ) {
        match input {
            ServiceInput::Requested(number) => {
                self.0.push(number);
                out.push(Self::proposal(number));
            }
            ServiceInput::Leader { leader: Some(_), .. } => {
                out.extend(self.0.iter().copied().map(Self::proposal));
            }
            _ => {}
        }
    }
}

const ME: NodeId = NodeId(2);

/// A heartbeat of a leader.
fn leads(leader: u64, term: u64) -> Input<Replica<Again>> {
    let body = Body::AppendEntries {
        prev: EntryId::ZERO,
        entries: Vec::new(),
        commit: LogIndex::ZERO,
        round: 1,
    };
    let message = ReplicaMessage::Raft(Message { term: Term(term), body });
    Input::Received { from: NodeId(leader), message }
}

/// What is forwarded to whom, by the proposals' ids.
fn forwarded(out: Vec<Output<Replica<Again>>>) -> Vec<(NodeId, Vec<u64>)> {
    let ids = |proposals: Vec<bytes::Bytes>| {
        proposals.into_iter().filter_map(Proposal::from_data).map(|p| p.id().0).collect()
    };
    out.into_iter()
        .filter_map(|output| match output {
            Output::Send { to, message: ReplicaMessage::Forward(proposals), .. } => {
                Some((to, ids(proposals)))
            }
            _ => None,
        })
        .collect()
}

/// ZK-6: what waits to be sent to a leader does not go to the next one ahead of what was sent before it: the
/// service proposes all of it again, in order.
#[test]
fn what_waited_for_the_old_leader_does_not_overtake() {
    let config = Config::new(ME, [NodeId(1), ME, NodeId(3)]);
    let mut replica = Replica::new(config, Recovered::default(), NoState, Again::default(), 1);
    let mut step = |input| {
        let mut out = Vec::new();
        replica.step(Time::ZERO, input, &mut out);
        forwarded(out)
    };
    step(leads(1, 1));
    step(Input::Requested(ReplicaRequest::Client(1)));
    assert_eq!(step(Input::Wake), [(NodeId(1), vec![1])]);
    step(Input::Requested(ReplicaRequest::Client(2)));
    step(leads(3, 2));
    assert_eq!(step(Input::Wake), [(NodeId(3), vec![1, 2])]);
}
