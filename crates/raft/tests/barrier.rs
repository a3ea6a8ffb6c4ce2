//! What a replica tells its service beside what was applied: when it may read, and who the members are.

use std::convert::Infallible;

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, Input, LogIndex, NoState, NodeId, Output, Process, Recovered,
    RequestId, Service, ServiceInput, ServiceOutput, SnapshotInput, SnapshotMeta, Term, Time, Wire,
};
use quorate_raft::{
    Attempt, Body, Config, Membership, Message, Replica, ReplicaMessage, ReplicaReply,
    ReplicaRequest,
};

/// Asks for a barrier on request, and says what it is told.
#[derive(Debug)]
struct Reader;

impl Service for Reader {
    type Machine = NoState;
    type Message = Infallible;
    type Request = u64;
    type Reply = String;

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
        let told = match input {
            ServiceInput::Requested(number) => {
                return out.push(ServiceOutput::ReadBarrier { id: RequestId(number) });
            }
            ServiceInput::ReadReady { id } => format!("{id} may read"),
            ServiceInput::ReadRefused { id, reason } => format!("{id} refused: {reason:?}"),
            ServiceInput::Members { since, voters, learners } => {
                format!("since {since}: voters {voters:?}, learners {learners:?}")
            }
            _ => return,
        };
        out.push(ServiceOutput::Reply(told));
    }
}

const ME: NodeId = NodeId(2);
const LEADER: NodeId = NodeId(1);

/// A follower, and what came out of its last step.
struct Follower {
    replica: Replica<Reader>,
    told: Vec<String>,
    asked: Option<Attempt>,
}

impl Follower {
    fn new() -> Self {
        let config = Config::new(ME, [LEADER, ME, NodeId(3)]);
        let replica = Replica::new(config, Recovered::default(), NoState, Reader, 1);
        Self { replica, told: Vec::new(), asked: None }
    }

    /// A step, and the end of its batch. What it wrote is durable at once.
    fn step(&mut self, now_ms: u64, input: Input<Replica<Reader>>) -> &[String] {
        self.told.clear();
        let now = Time::from_millis(now_ms);
        let mut out = Vec::new();
        self.replica.step(now, input, &mut out);
        if self.replica.deadline().is_some_and(|(at, _)| at <= now) {
            self.replica.step(now, Input::Wake, &mut out);
        }
        for output in out {
            self.take(output);
        }
        &self.told
    }

    fn take(&mut self, output: Output<Replica<Reader>>) {
        match output {
            Output::Reply { reply: ReplicaReply::Client(told), .. } => self.told.push(told),
            Output::Send { to: LEADER, message: ReplicaMessage::Raft(message), .. } => {
                if let Body::ReadRequest { attempt } = message.body {
                    self.asked = Some(attempt);
                }
            }
            _ => {}
        }
    }

    fn hear(&mut self, now_ms: u64, body: Body) -> &[String] {
        let message = ReplicaMessage::Raft(Message { term: Term(1), body });
        self.step(now_ms, Input::Received { from: LEADER, message })
    }
}

fn append(prev: u64, entries: Vec<Entry>, commit: u64) -> Body {
    let term = Term(u64::from(prev > 0));
    let prev = EntryId::new(LogIndex(prev), term);
    Body::AppendEntries { prev, entries, commit: LogIndex(commit), round: 1 }
}

fn entry(index: u64, kind: EntryKind, data: Bytes) -> Entry {
    Entry::new(EntryId::new(LogIndex(index), Term(1)), kind, data)
}

/// RAFT-21: the leader's index is not enough: a barrier is passed once that much is applied here.
#[test]
fn a_follower_reads_once_it_has_applied_what_the_leader_had_committed() {
    let mut follower = Follower::new();
    let noop = |index| entry(index, EntryKind::Noop, Bytes::new());
    follower.hear(1, append(0, vec![noop(1), noop(2), noop(3)], 1));
    assert!(follower.step(2, Input::Requested(ReplicaRequest::Client(7))).is_empty());
    let attempt = follower.asked.expect("the leader is asked for an index");
    assert!(follower.hear(3, Body::ReadAnswer { attempt, index: LogIndex(3) }).is_empty());
    assert!(follower.hear(4, append(3, Vec::new(), 2)).is_empty(), "only 2 is applied");
    assert_eq!(follower.hear(5, append(3, Vec::new(), 3)), ["r7 may read"]);
}

/// RAFT-21: an answer to another attempt is nobody's; without an answer the barrier is refused in the end.
#[test]
fn a_barrier_without_an_answer_is_refused() {
    let mut follower = Follower::new();
    follower.hear(1, append(0, Vec::new(), 0));
    follower.step(2, Input::Requested(ReplicaRequest::Client(7)));
    let attempt = follower.asked.expect("the leader is asked for an index");
    let other = Attempt(attempt.0.wrapping_add(1));
    assert!(follower.hear(3, Body::ReadAnswer { attempt: other, index: LogIndex(0) }).is_empty());
    assert_eq!(follower.step(10_000, Input::Wake), ["r7 refused: NoLeader"]);
}

/// RAFT-22: services hear of the members at the start, and of each change once it is done; not of its middle.
#[test]
fn a_service_is_told_of_the_members() {
    let mut follower = Follower::new();
    let first = "since 0: voters [n1, n2, n3], learners []";
    assert_eq!(follower.step(1, Input::WallClock { unix_ms: 0 }), [first]);
    let old = Membership::of_voters([LEADER, ME, NodeId(3)]);
    let joint = Membership {
        voters: [LEADER, ME].into(),
        outgoing: old.voters,
        learners: [NodeId(3)].into(),
    };
    let end = Membership { outgoing: [].into(), ..joint.clone() };
    let members =
        |index, membership: &Membership| entry(index, EntryKind::Membership, membership.to_bytes());
    assert!(follower.hear(2, append(0, vec![members(1, &joint)], 1)).is_empty());
    assert!(follower.hear(3, append(1, vec![members(2, &end)], 1)).is_empty());
    let done = "since 2: voters [n1, n2], learners [n3]";
    assert_eq!(follower.hear(4, append(2, Vec::new(), 2)), [done]);
}

/// RAFT-20: a snapshot is received while an older one is still being read. Whichever comes first from the disk, the state
/// is that of the newer one, and never goes back.
#[test]
fn of_two_snapshots_that_are_read_the_newer_one_counts() {
    let snapshot = |index| SnapshotMeta {
        last: EntryId::new(LogIndex(index), Term(1)),
        membership: Membership::of_voters([LEADER, ME, NodeId(3)]).to_bytes(),
    };
    for order in [[10, 20], [20, 10]] {
        let mut follower = Follower::new();
        for index in [10, 20] {
            let (offset, done, round) = (0, true, 1);
            let bytes = Bytes::from_static(b"state");
            let meta = snapshot(index);
            follower.hear(1, Body::InstallSnapshot { meta, offset, bytes, done, round });
            follower.step(2, Input::Snapshot(SnapshotInput::Written { end: 5 }));
            let finished = SnapshotInput::Finished { meta: snapshot(index), bytes: 5 };
            follower.step(3, Input::Snapshot(finished));
        }
        for index in order {
            let reader = Box::new(&b"state"[..]);
            let loaded = SnapshotInput::Loaded { meta: snapshot(index), reader };
            follower.step(4, Input::Snapshot(loaded));
        }
        assert_eq!(follower.replica.applied().index, LogIndex(20), "read in order {order:?}");
    }
}
