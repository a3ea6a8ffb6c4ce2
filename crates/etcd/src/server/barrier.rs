//! Reads that must be as new as the moment they were asked (KV-2, KV-5).
//!
//! A read waits until the state here holds everything that was acknowledged anywhere before it was asked: Raft says when
//! ([`ServiceOutput::ReadBarrier`](quorate_contracts::ServiceOutput)). All reads that come while one barrier is under way share the next.

use std::collections::BTreeMap;

use quorate_contracts::{NodeId, RequestId, Time};

use super::call::{CallId, Request};
use crate::LeaseId;
use crate::command::Caller;

/// Barriers that may be under way at once.
const IN_FLIGHT_MAX: usize = 2;

/// Work that waits for a barrier.
#[derive(Debug)]
pub(super) enum Work {
    /// A read of a client.
    Read { call: CallId, caller: Option<Caller>, request: Box<Request> },
    /// What a server wants to know of a lease; for leaders only.
    Lease { from: NodeId, ticket: u64, lease: LeaseId, renew: bool },
}

/// Work, and when it is given up.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) until: Time,
    pub(super) work: Work,
}

/// Who waits for which barrier.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    next: Vec<Waiting>,
    in_flight: BTreeMap<RequestId, Vec<Waiting>>,
    /// Its barrier was refused: another one is worth asking for only a little later.
    refused: Vec<Waiting>,
}

impl Barriers {
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.next.push(waiting);
    }

    /// Whether a barrier should be sent on its way.
    pub(super) fn wants_one(&self) -> bool {
        !self.next.is_empty() && self.in_flight.len() < IN_FLIGHT_MAX
    }

    /// A barrier was sent: all that wait for the next one wait for it.
    pub(super) fn sent(&mut self, id: RequestId) {
        self.in_flight.insert(id, std::mem::take(&mut self.next));
    }

    /// The state is as new as this barrier. What waited for it is given back.
    pub(super) fn passed(&mut self, id: RequestId) -> Vec<Waiting> {
        self.in_flight.remove(&id).unwrap_or_default()
    }

    /// No leader answered for a barrier.
    pub(super) fn refused(&mut self, id: RequestId) {
        let waiting = self.passed(id);
        self.refused.extend(waiting);
    }

    /// Time has passed, or there is a leader: those whose barrier was refused wait for the next one.
    pub(super) fn try_again(&mut self) {
        self.next.append(&mut self.refused);
    }

    /// What has waited too long.
    pub(super) fn overdue(&mut self, now: Time) -> Vec<Waiting> {
        let all = self.in_flight.values_mut().chain([&mut self.next, &mut self.refused]);
        all.flat_map(|waiting| waiting.extract_if(.., |waiting| waiting.until <= now)).collect()
    }
}
