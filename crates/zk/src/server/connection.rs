//! What is known of one connection, and the requests that wait on it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{Proposal, RequestId, Time};

use super::reconfig::Reconfiguring;
use super::sasl::Exchange;
use super::statistics::ConnectionStatistics;
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
    /// It reads what is here while there is no quorum; nobody else knows of it.
    ReadOnly,
}

/// A connection.
///
/// Invariant: the first request that waits is a write, and a read waits only behind a write; but for a
/// `slow` client, one that does not take its replies: its reads wait at the front, and no write behind
/// them is proposed before they are answered.
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
    /// It was sent a challenge, which it may answer once.
    pub(super) sasl: Option<Exchange>,
    /// Requests that are not answered yet, in order.
    waiting: VecDeque<Waiting>,
    /// How many bytes they take.
    pub(super) waiting_bytes: usize,
    waiting_writes: usize,
    /// Number of the next write of this attachment.
    pub(super) next_sequence: u64,
    /// The driver was told to read no more.
    pub(super) paused: bool,
    /// When it was heard last, in the steady time of sessions.
    pub(super) heard: Time,
    /// Bytes that were written and that the driver has not said to be out.
    pub(super) unread_bytes: usize,
    /// How many of them the driver was asked about.
    pub(super) asked_about: Option<usize>,
    /// Reads are kept until it has taken what it was sent, or until its reconfig is done.
    slow: bool,
    /// Requests that wait and let no write behind them go.
    gates: usize,
    /// A write waits that was not proposed yet, for what waits before it.
    kept_writes: bool,
    /// A reconfig that the driver carries out.
    pub(super) reconfiguring: Option<Reconfiguring>,
    /// Its reads see everything that was acknowledged to anybody before they came (ZK-8).
    pub(super) linearizable: bool,
    /// One of its proposals was refused: those after it would leave a gap, and wait.
    pub(super) held: bool,
    /// How often its proposals were made again since one of them was answered.
    retries: u32,
    /// When all of them were made again last.
    repeated: Option<Time>,
    pub(super) statistics: ConnectionStatistics,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// A write, until it is applied here.
    Write(Box<PendingWrite>),
    /// A read, until the writes before it are answered.
    Read { packet: Bytes, arrived: Time, gate: Gate },
}

/// Whether a request that waits lets others go before it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    /// It does: it is answered as soon as those before it are.
    Open,
    /// A linearizable read: it is answered after this barrier, and writes behind it must not come first.
    Barrier(RequestId),
    /// The same, whose barrier is behind it; or a reconfig, which takes a while once its turn has come.
    Turn,
}

/// A write on its way through the log.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    pub(super) header: RequestHeader,
    /// Opcodes of a multi's operations.
    pub(super) opcodes: Vec<i32>,
    pub(super) proposal: Proposal,
    pub(super) proposed: Time,
    /// It was proposed more than once: a refusal of one copy says nothing of the others.
    pub(super) again: bool,
    pub(super) arrived: Time,
}

impl Waiting {
    /// The memory that it takes, about.
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 100;
        match self {
            Self::Write(write) => OVERHEAD + write.proposal.len() + 4 * write.opcodes.len(),
            Self::Read { packet, .. } => OVERHEAD + packet.len(),
        }
    }

    fn proposal(&self) -> Option<&Proposal> {
        match self {
            Self::Write(write) => Some(&write.proposal),
            Self::Read { .. } => None,
        }
    }

    fn is_gate(&self) -> bool {
        matches!(self, Self::Read { gate: Gate::Barrier(_) | Gate::Turn, .. })
    }
}

impl Connection {
    pub(super) fn new(peer: IpAddr, port: u16, secret: [u8; 16], steady: Time) -> Self {
        let ip = Identity { scheme: "ip".into(), id: peer.to_string() };
        Self {
            peer,
            port,
            secret,
            stage: Stage::Fresh,
            timeout_ms: 0,
            identities: vec![ip],
            sasl: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_writes: 0,
            next_sequence: 1,
            paused: false,
            heard: steady,
            unread_bytes: 0,
            asked_about: None,
            slow: false,
            gates: 0,
            kept_writes: false,
            reconfiguring: None,
            linearizable: false,
            held: false,
            retries: 0,
            repeated: None,
            statistics: ConnectionStatistics::default(),
        }
    }

    /// Its session, if it has one.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Attached { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Whether it is not read from for a reason that is not its own: one that does not take its replies is.
    pub(super) fn is_unheard(&self) -> bool {
        self.paused && self.asked_about.is_none()
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a read may be answered at once: nothing waits before it, and the client takes what it is sent.
    pub(super) fn may_read(&mut self) -> bool {
        self.slow |= self.waiting.is_empty() && self.is_kept();
        self.waiting.is_empty() && !self.slow
    }

    /// Whether what is next in turn must not be answered yet.
    fn is_kept(&self) -> bool {
        self.asked_about.is_some() || self.reconfiguring.is_some()
    }

    /// Whether a write may be proposed at once. If not, it is kept until those before it are answered.
    pub(super) fn may_propose(&mut self) -> bool {
        let may = !self.held && !self.slow && self.gates == 0;
        self.kept_writes |= !may;
        may
    }

    /// The driver carries out its reconfig.
    pub(super) fn begin_reconfiguring(&mut self, reconfiguring: Reconfiguring) {
        (self.reconfiguring, self.slow) = (Some(reconfiguring), true);
    }

    /// A barrier was passed.
    pub(super) fn passed(&mut self, barrier: RequestId) {
        for waiting in &mut self.waiting {
            if let Waiting::Read { gate, .. } = waiting
                && *gate == Gate::Barrier(barrier)
            {
                *gate = Gate::Turn;
            }
        }
    }

    /// The barriers that it waits for.
    pub(super) fn barriers(&self) -> impl Iterator<Item = RequestId> {
        self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Read { gate: Gate::Barrier(id), .. } => Some(*id),
            _ => None,
        })
    }

    /// One more request waits.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes();
        self.waiting_writes += usize::from(matches!(waiting, Waiting::Write(_)));
        self.gates += usize::from(waiting.is_gate());
        self.waiting.push_back(waiting);
    }

    /// Everything that was made for the log and is not answered, in order.
    pub(super) fn proposals(&self) -> impl Iterator<Item = &Proposal> {
        self.joining().into_iter().chain(self.waiting.iter().filter_map(Waiting::proposal))
    }

    /// What of it may be in the log by now, in order.
    fn sendable(&self) -> impl Iterator<Item = &Proposal> {
        let before = self.waiting.iter().take_while(|waiting| !waiting.is_gate());
        self.joining().into_iter().chain(before.filter_map(Waiting::proposal))
    }

    fn joining(&self) -> Option<&Proposal> {
        match &self.stage {
            Stage::Joining { proposal, .. } => Some(proposal),
            _ => None,
        }
    }

    /// Whether its proposals have waited so long that they may be lost. The wait doubles each time: a
    /// cluster that is only slow must not drown in what it has already.
    pub(super) fn is_overdue(&self, now: Time, patience: Duration) -> bool {
        let patience = patience * 2_u32.pow(self.retries.min(5));
        self.oldest_proposed().is_some_and(|at| now >= at + patience)
    }

    /// Nobody answered: the next wait is longer.
    pub(super) fn wait_longer(&mut self) {
        self.retries += 1;
    }

    /// When the oldest of them was proposed last.
    fn oldest_proposed(&self) -> Option<Time> {
        match (&self.stage, self.waiting.front()) {
            (Stage::Joining { proposed, .. }, _) => Some(*proposed),
            (_, Some(Waiting::Write(write))) => Some(write.proposed),
            _ => None,
        }
    }

    /// All that it waits for is to be proposed again, in order.
    pub(super) fn propose_again(&mut self, now: Time) -> impl Iterator<Item = &Proposal> {
        self.repeated = Some(now);
        self.proposed_at(now);
        let may = !self.held && !self.slow;
        self.sendable().filter(move |_| may)
    }

    /// The first one is to be proposed again, to see whether it is refused again.
    pub(super) fn probe(&mut self, now: Time) -> Option<&Proposal> {
        self.proposed_at(now);
        self.sendable().next()
    }

    fn proposed_at(&mut self, now: Time) {
        if let Stage::Joining { proposed, .. } = &mut self.stage {
            *proposed = now;
        }
        for waiting in &mut self.waiting {
            if let Waiting::Write(write) = waiting {
                (write.proposed, write.again) = (now, true);
            }
        }
    }

    /// Whether all was proposed again a moment ago: copies made before that may still complain of a gap.
    pub(super) fn was_repeated(&self, now: Time, moment: Duration) -> bool {
        self.repeated.is_some_and(|at| now < at + moment)
    }

    /// What was said so far went to a leader that is gone.
    pub(super) fn forget_retries(&mut self) {
        (self.retries, self.held) = (0, false);
    }

    /// The write at the head, if it is this one.
    pub(super) fn take_write(&mut self, id: RequestId) -> Option<Box<PendingWrite>> {
        self.retries = 0;
        match self.take() {
            Some(Waiting::Write(write)) if write.proposal.id() == id => Some(write),
            other => {
                self.put_back(other);
                None
            }
        }
    }

    /// Takes back a write that no other server ever saw, and its number; if nothing else waits.
    pub(super) fn take_back(&mut self, id: RequestId) -> Option<Box<PendingWrite>> {
        let alone = self.waiting.len() == 1 && !self.held;
        let Some(Waiting::Write(write)) = self.waiting.front().filter(|_| alone) else {
            return None;
        };
        if write.again || write.proposal.id() != id {
            return None;
        }
        self.next_sequence -= 1;
        self.take_write(id)
    }

    /// When the oldest write that waits came.
    pub(super) fn waits_since(&self) -> Option<Time> {
        match self.waiting.front() {
            Some(Waiting::Write(write)) => Some(write.arrived),
            _ => None,
        }
    }

    /// The read at the head, if there is one. It is kept for later if the client does not take its replies; but
    /// one before a write that was proposed must be answered from the state as it is now.
    pub(super) fn take_read(&mut self) -> Option<(Bytes, Time)> {
        self.slow |= self.is_kept() && self.waiting_writes == 0;
        let kept = self.slow && self.is_kept();
        match self.take() {
            Some(Waiting::Read { packet, arrived, gate: Gate::Open | Gate::Turn }) if !kept => {
                Some((packet, arrived))
            }
            other => {
                self.put_back(other);
                None
            }
        }
    }

    /// Whether the reads that were kept are all answered now, so that the writes behind them may go.
    pub(super) fn has_caught_up(&mut self) -> bool {
        let kept = self.is_kept() || matches!(self.waiting.front(), Some(Waiting::Read { .. }));
        let caught_up = (self.slow || self.kept_writes) && !kept;
        self.slow &= kept;
        self.kept_writes &= kept || self.gates > 0;
        caught_up
    }

    fn take(&mut self) -> Option<Waiting> {
        let taken = self.waiting.pop_front()?;
        self.waiting_bytes -= taken.bytes();
        self.gates -= usize::from(taken.is_gate());
        self.waiting_writes -= usize::from(matches!(taken, Waiting::Write(_)));
        Some(taken)
    }

    fn put_back(&mut self, taken: Option<Waiting>) {
        if let Some(taken) = taken {
            self.waiting_bytes += taken.bytes();
            self.gates += usize::from(taken.is_gate());
            self.waiting_writes += usize::from(matches!(taken, Waiting::Write(_)));
            self.waiting.push_front(taken);
        }
    }
}
