//! Proposals on their way from one server to the leader, as the replica sends them.

use std::convert::Infallible;
use std::time::Duration;

use quorate_contracts::{
    EntryId, Input, LogIndex, NoState, NodeId, Output, Process, Proposal, Recovered, Refusal,
    RequestId, Room, Service, ServiceInput, ServiceOutput, Term, Time,
};
use quorate_raft::{Body, Config, Message, Replica, ReplicaMessage, ReplicaRequest};

/// Proposes a number on request, and all of them again to each new leader, as a service may. Even numbers are vital.
/// Remembers what was refused.
#[derive(Debug, Default)]
struct Again(Vec<u64>, Vec<(u64, Refusal)>);

impl Again {
    fn proposal(number: u64) -> ServiceOutput<Self> {
        ServiceOutput::Propose(Proposal::encode(ME, RequestId(number), |out| out.u64(number)))
    }
}

impl Service for Again {
    type Machine = NoState;
    type Message = Infallible;
    type Request = u64;
    type Reply = Infallible;

    fn is_vital(command: &[u8]) -> bool {
        command.last().is_some_and(|byte| byte % 2 == 0)
    }

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
            ServiceInput::Refused { id, reason } => self.1.push((id.0, reason)),
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

fn request(number: u64) -> Input<Replica<Again>> {
    Input::Requested(ReplicaRequest::Client(number))
}

/// A leader refuses what was forwarded for want of room: the next write is refused where it came in, what clients need to go
/// on reading still goes to the leader, and now and then it is asked whether it has room again.
#[test]
fn what_a_full_leader_would_refuse_does_not_leave() {
    let config = Config::new(ME, [NodeId(1), ME, NodeId(3)]);
    let mut replica = Replica::new(config, Recovered::default(), NoState, Again::default(), 1);
    let mut now = Time::ZERO;
    let step = |replica: &mut Replica<Again>, now, input| {
        let mut out = Vec::new();
        replica.step(now, input, &mut out);
        forwarded(out)
    };
    step(&mut replica, now, leads(1, 1));
    step(&mut replica, now, request(1));
    assert_eq!(step(&mut replica, now, Input::Wake), [(NodeId(1), vec![1])]);
    let refusal = || ReplicaMessage::NotTaken { ids: vec![RequestId(1)], reason: Refusal::NoRoom };
    let refused = |message| Input::Received { from: NodeId(1), message };
    step(&mut replica, now, refused(refusal()));
    step(&mut replica, now, request(3));
    step(&mut replica, now, request(4));
    assert_eq!(step(&mut replica, now, Input::Wake), [(NodeId(1), vec![4])]);
    let told = [(1, Refusal::Busy), (3, Refusal::NoRoom)];
    assert_eq!(replica.service().1, told, "the first one had left, the second one not");
    now += Duration::from_millis(250);
    let question = [(NodeId(1), vec![])];
    assert_eq!(step(&mut replica, now, Input::Wake), question);
    // It says no again: asked again, in a while. It says nothing: it takes proposals.
    let no = ReplicaMessage::NotTaken { ids: Vec::new(), reason: Refusal::NoRoom };
    step(&mut replica, now, refused(no));
    now += Duration::from_millis(250);
    assert_eq!(step(&mut replica, now, Input::Wake), question);
    now += Duration::from_millis(250);
    step(&mut replica, now, Input::Wake);
    step(&mut replica, now, request(5));
    assert_eq!(step(&mut replica, now, Input::Wake), [(NodeId(1), vec![5])]);
}

/// A leader with little room takes what is vital, of its own clients and of others', and refuses the rest; on its
/// reserve it refuses all.
#[test]
fn a_full_leader_takes_only_what_is_vital() {
    let config = Config::new(ME, [ME]);
    let mut replica = Replica::new(config, Recovered::default(), NoState, Again::default(), 1);
    let (mut now, mut out) = (Time::ZERO, Vec::new());
    for _ in 0..100 {
        now += Duration::from_millis(50);
        replica.step(now, Input::Wake, &mut out);
        let mark = out.iter().rev().find_map(|output| match output {
            Output::Persist { mark, .. } => Some(*mark),
            _ => None,
        });
        if let Some(mark) = mark {
            replica.step(now, Input::Persisted { mark }, &mut out);
        }
    }
    assert!(replica.raft().is_leader(), "it is alone");
    let last = |replica: &Replica<Again>| replica.raft().last().index.0;
    let before = last(&replica);
    replica.step(now, Input::Room(Room::Little), &mut out);
    replica.step(now, request(7), &mut out);
    replica.step(now, request(8), &mut out);
    let data = |id| Proposal::encode(NodeId(3), RequestId(id), |out| out.u64(id)).into_data();
    let message = ReplicaMessage::Forward(vec![data(20), data(21)]);
    out.clear();
    replica.step(now, Input::Received { from: NodeId(3), message }, &mut out);
    assert_eq!(last(&replica), before + 2, "8 and 20");
    let refused = out.iter().find_map(|output| match output {
        Output::Send { message: ReplicaMessage::NotTaken { ids, reason }, .. } => {
            Some((ids.clone(), *reason))
        }
        _ => None,
    });
    assert_eq!(refused, Some((vec![RequestId(21)], Refusal::NoRoom)));
    replica.step(now, Input::Room(Room::Reserve), &mut out);
    replica.step(now, request(10), &mut out);
    assert_eq!(last(&replica), before + 2);
    let told = [(7, Refusal::NoRoom), (10, Refusal::NoRoom)];
    assert_eq!(replica.service().1, told);
}
