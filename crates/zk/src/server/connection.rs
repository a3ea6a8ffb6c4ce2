//! What is known of one connection, and the requests that wait on it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{Proposal, RequestId, Time};

use crate::command::{Attachment, Identity, SessionId};
use crate::wire::{ConnectRequest, RequestHeader};

/// How far a connection has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The client has not said who it is.
    Fresh,
    /// It has seen a newer state than there is here: it waits a little.
    Ahead { request: ConnectRequest, until: Time },
    /// Its session is being created or attached.
    Joining { request: ConnectRequest, proposal: Proposal, proposed: Time, timeout_ms: u32 },
    /// It has a session.
    Attached { session: SessionId, attachment: Attachment },
}

/// A connection.
///
/// Invariant: the first request that waits is a write; a read waits only behind a write.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    pub(super) port: u16,
    /// Random bytes for a session's password.
    pub(super) secret: [u8; 16],
    pub(super) stage: Stage,
    pub(super) timeout_ms: u32,
    /// Who the client has proven to be.
    pub(super) identities: Vec<Identity>,
    /// Requests that are not answered yet, in order.
    pub(super) waiting: VecDeque<Waiting>,
    /// Number of the next write of this attachment.
    pub(super) next_sequence: u64,
    /// The driver was told to read no more.
    pub(super) paused: bool,
    pub(super) received: u64,
    /// How often its proposals were made again since one of them was answered.
    retries: u32,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// A write, until it is applied here.
    Write(Box<PendingWrite>),
    /// A read, until the writes before it are answered.
    Read { packet: Bytes, arrived: Time },
}

/// A write on its way through the log.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    pub(super) header: RequestHeader,
    /// Opcodes of a multi's operations.
    pub(super) opcodes: Vec<i32>,
    pub(super) proposal: Proposal,
    pub(super) proposed: Time,
    pub(super) arrived: Time,
}

impl Connection {
    pub(super) fn new(peer: IpAddr, port: u16, secret: [u8; 16]) -> Self {
        let ip = Identity { scheme: "ip".into(), id: peer.to_string() };
        Self {
            peer,
            port,
            secret,
            stage: Stage::Fresh,
            timeout_ms: 0,
            identities: vec![ip],
            waiting: VecDeque::new(),
            next_sequence: 1,
            paused: false,
            received: 0,
            retries: 0,
        }
    }

    /// Its session, if it has one.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Attached { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Everything that was proposed for it and is not answered, in order.
    pub(super) fn proposals(&self) -> impl Iterator<Item = &Proposal> {
        let joining = match &self.stage {
            Stage::Joining { proposal, .. } => Some(proposal),
            _ => None,
        };
        let writes = self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Write(write) => Some(&write.proposal),
            Waiting::Read { .. } => None,
        });
        joining.into_iter().chain(writes)
    }

    /// Whether its proposals have waited so long that they may be lost. The wait doubles each time: a
    /// cluster that is only slow must not drown in what it has already.
    pub(super) fn is_overdue(&self, now: Time, patience: Duration) -> bool {
        let patience = patience * 2_u32.pow(self.retries.min(5));
        self.oldest_proposed().is_some_and(|at| now >= at + patience)
    }

    /// When the oldest of them was proposed last.
    fn oldest_proposed(&self) -> Option<Time> {
        match (&self.stage, self.waiting.front()) {
            (Stage::Joining { proposed, .. }, _) => Some(*proposed),
            (_, Some(Waiting::Write(write))) => Some(write.proposed),
            _ => None,
        }
    }

    /// All of them were proposed again.
    pub(super) fn proposed_again(&mut self, now: Time) {
        self.retries += 1;
        if let Stage::Joining { proposed, .. } = &mut self.stage {
            *proposed = now;
        }
        for waiting in &mut self.waiting {
            if let Waiting::Write(write) = waiting {
                write.proposed = now;
            }
        }
    }

    /// What was said so far went to a leader that is gone.
    pub(super) fn forget_retries(&mut self) {
        self.retries = 0;
    }

    /// The write at the head, if it is this one.
    pub(super) fn take_write(&mut self, id: RequestId) -> Option<Box<PendingWrite>> {
        self.retries = 0;
        match self.waiting.pop_front() {
            Some(Waiting::Write(write)) if write.proposal.id() == id => Some(write),
            Some(other) => {
                self.waiting.push_front(other);
                None
            }
            None => None,
        }
    }

    /// The read at the head, if there is one.
    pub(super) fn take_read(&mut self) -> Option<(Bytes, Time)> {
        match self.waiting.pop_front() {
            Some(Waiting::Read { packet, arrived }) => Some((packet, arrived)),
            Some(other) => {
                self.waiting.push_front(other);
                None
            }
            None => None,
        }
    }
}
