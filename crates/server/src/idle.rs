//! Groups that hold nothing and are asked nothing: what a group costs before anybody uses it (RAFT-23).
//! `quorate bench groups` starts nodes with many of them; nothing else does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use quorate_contracts::{NoState, Service, ServiceInput, ServiceOutput, Time};
use quorate_raft::Replica;

use crate::admin::NodeStatus;
use crate::group::Front;

/// The first idle group's number; far from those of services.
pub(crate) const FIRST_GROUP: u64 = 1_000;

/// A service without clients.
pub(crate) struct Idle;

impl Service for Idle {
    type Machine = NoState;
    type Message = Infallible;
    type Request = ();
    type Reply = ();

    fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    fn step(
        &mut self,
        _: Time,
        _: ServiceInput<'_, Self>,
        _: &NoState,
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
