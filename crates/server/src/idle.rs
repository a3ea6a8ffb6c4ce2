//! Groups that hold nothing and are asked nothing: what a group costs before anybody uses it (RAFT-23).
//! `quorate bench groups` starts nodes with many of them; nothing else does.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

use quorate_contracts::{
    BadSnapshot, LogIndex, Malformed, Progress, Service, ServiceInput, ServiceOutput, StateMachine,
    Time, Wire, WireReader, WireWriter,
};
use quorate_raft::Replica;

use crate::admin::NodeStatus;
use crate::group::Front;

/// The first idle group's number; far from those of services.
pub(crate) const FIRST_GROUP: u64 = 1_000;

/// No state.
pub(crate) struct Nothing;

impl StateMachine for Nothing {
    type Outcome = ();
    type Event = ();

    fn apply(&mut self, _: LogIndex, _: &[u8], _: &mut Vec<()>) {}

    fn digest(&self) -> u64 {
        0
    }

    fn begin_snapshot(&mut self) {}

    fn snapshot_slice(&mut self, _: usize, _: &mut Vec<u8>) -> Progress {
        Progress::Done
    }

    fn restore(_: &mut dyn Read) -> Result<Self, BadSnapshot> {
        Ok(Self)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        0
    }
}

/// What the services of idle groups tell each other: nothing can be said.
pub(crate) enum Silence {}

impl Wire for Silence {
    fn encode(&self, _: &mut WireWriter) {
        match *self {}
    }

    fn decode(_: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Err(Malformed("an idle group's service says nothing"))
    }
}

/// A service without clients.
pub(crate) struct Idle;

impl Service for Idle {
    type Machine = Nothing;
    type Message = Silence;
    type Request = ();
    type Reply = ();

    fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    fn step(
        &mut self,
        _: Time,
        _: ServiceInput<'_, Self>,
        _: &Nothing,
        _: &mut Vec<ServiceOutput<Self>>,
    ) {
    }
}

/// A front that nobody stands before.
pub(crate) struct Closed;

impl Front<Idle> for Closed {
    fn requests(&mut self) -> VecDeque<()> {
        VecDeque::new()
    }

    fn reply(&mut self, (): ()) {}

    fn flush(&mut self) {}

    fn open(&mut self) {}

    fn facts(&self, _: &Replica<Idle>, _: Duration) -> Option<()> {
        None
    }

    fn report(&self, replica: &Replica<Idle>, status: &mut NodeStatus) {
        status.idle_groups += 1;
        status.idle_groups_with_leader += usize::from(replica.raft().leader().is_some());
    }

    fn drain(&mut self) {}

    fn is_busy(&self, _: &Replica<Idle>) -> bool {
        false
    }
}
