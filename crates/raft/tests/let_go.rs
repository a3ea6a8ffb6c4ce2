//! A group that holds back the log that it shares with others lets go of it, by a snapshot if need be (RAFT-18, RAFT-23).

use std::convert::Infallible;
use std::time::Duration;

use quorate_contracts::{
    Input, LogIndex, NoState, NodeId, Output, Process, Proposal, Recovered, RequestId, Service,
    ServiceInput, ServiceOutput, SnapshotInput, SnapshotMeta, SnapshotOutput, Time,
};
use quorate_raft::{Config, Replica, ReplicaRequest};

/// Proposes on request.
struct Proposer;

impl Service for Proposer {
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
        if let ServiceInput::Requested(number) = input {
            let proposal = Proposal::encode(ME, RequestId(number), |out| out.u64(number));
            out.push(ServiceOutput::Propose(proposal));
        }
    }
}

const ME: NodeId = NodeId(1);

/// A group of one server, on a disk that does everything at once.
struct Alone {
    replica: Replica<Proposer>,
    now: Time,
    /// Snapshots that were begun.
    begun: Vec<SnapshotMeta>,
    /// Has no space for snapshots.
    full: bool,
}

impl Alone {
    /// With so many entries applied.
    fn with(entries: u64) -> Self {
        let config = Config::new(ME, [ME]);
        let replica = Replica::new(config, Recovered::default(), NoState, Proposer, 1);
        let mut alone = Self { replica, now: Time::ZERO, begun: Vec::new(), full: false };
        while !alone.replica.raft().is_leader() {
            alone.rest();
        }
        let first = alone.replica.applied().index.0;
        (first..entries)
            .for_each(|number| alone.step(Input::Requested(ReplicaRequest::Client(number))));
        alone.rest();
        assert_eq!(alone.replica.applied().index, LogIndex(entries));
        alone
    }

    fn rest(&mut self) {
        self.now += Duration::from_millis(50);
        self.step(Input::Wake);
    }

    fn let_go(&mut self, through: u64) {
        self.step(Input::LetGo { through: LogIndex(through) });
    }

    fn step(&mut self, input: Input<Replica<Proposer>>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.replica.step(self.now, input, &mut out);
            inputs.extend(out.into_iter().filter_map(|output| self.disk(output)));
            if inputs.is_empty() && self.replica.deadline().is_some_and(|(at, _)| at <= self.now) {
                inputs.push(Input::Wake);
            }
        }
    }

    fn disk(&mut self, output: Output<Replica<Proposer>>) -> Option<Input<Replica<Proposer>>> {
        let news = match output {
            Output::Persist { mark, .. } => return Some(Input::Persisted { mark }),
            Output::Snapshot(SnapshotOutput::Begin { meta }) => {
                self.begun.push(meta);
                return None;
            }
            Output::Snapshot(_) if self.full => {
                SnapshotInput::Cancelled { reason: "no space".to_string() }
            }
            Output::Snapshot(SnapshotOutput::Write { offset, bytes }) => {
                SnapshotInput::Written { end: offset + bytes.len() as u64 }
            }
            Output::Snapshot(SnapshotOutput::Finish) => {
                SnapshotInput::Finished { meta: self.begun.last()?.clone(), bytes: 0 }
            }
            _ => return None,
        };
        Some(Input::Snapshot(news))
    }

    fn base(&self) -> u64 {
        self.replica.raft().base().index.0
    }
}

/// RAFT-18: a quiet group is far from a snapshot by its own measure, and keeps thousands of entries behind one. Told that it
/// holds the log back, it takes one and keeps none of the entries that it should let go.
#[test]
fn a_quiet_group_takes_a_snapshot_and_lets_its_log_go() {
    let mut group = Alone::with(50);
    group.let_go(40);
    assert_eq!((group.begun.len(), group.base()), (1, 40));
    assert_eq!(group.begun[0].last, group.replica.applied(), "what follows stays for followers");
    group.let_go(40);
    assert_eq!(group.begun.len(), 1, "there is nothing more to let go");
}

/// A snapshot that is there already will do: no other one is taken, only what trails behind it goes.
#[test]
fn what_a_snapshot_covers_goes_without_another_one() {
    let mut group = Alone::with(50);
    group.step(Input::Requested(ReplicaRequest::TakeSnapshot));
    assert_eq!((group.begun.len(), group.base()), (1, 0), "all of it trails");
    group.let_go(45);
    assert_eq!((group.begun.len(), group.base()), (1, 45));
}

/// What is not applied yet can be in no snapshot: it is taken once it can. Nobody asks twice.
#[test]
fn a_snapshot_waits_until_it_can_cover_what_is_to_go() {
    let mut group = Alone::with(50);
    group.let_go(52);
    assert_eq!((group.begun.len(), group.base()), (0, 0));
    (0..2).for_each(|number| group.step(Input::Requested(ReplicaRequest::Client(number))));
    group.rest();
    assert_eq!((group.begun.len(), group.base()), (1, 52));
}

/// Without space for a snapshot nothing goes, and it is not tried again and again: the next word comes with the log's next
/// segment.
#[test]
fn without_space_it_is_tried_once_for_each_word() {
    let mut group = Alone::with(50);
    group.full = true;
    group.let_go(40);
    (0..9).for_each(|_| group.rest());
    assert_eq!((group.begun.len(), group.base()), (1, 0));
    group.full = false;
    group.let_go(40);
    assert_eq!((group.begun.len(), group.base()), (2, 40));
}
