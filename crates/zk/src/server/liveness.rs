//! Who is heard, and who has expired (ZK-11).
//!
//! Every server tells the leader which sessions it heard; the leader proposes to expire those that nobody
//! heard for their timeout. A new leader grants every session a full timeout. A server that no leader
//! acknowledges lets its clients go while their sessions still have time to find another server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_contracts::{NodeId, ServiceOutput, Time};

use super::{ConnectionId, Outputs, Server, ServerMessage};
use crate::command::{Body, SessionId};
use crate::tree::Tree;

/// However long a server slept, no more than this passes for sessions in one step: pings that arrived
/// meanwhile are heard first.
const STEP_MAX: Duration = Duration::from_secs(1);

/// What a server knows of sessions' lives.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Heard here since the leader was told last.
    touched: BTreeSet<SessionId>,
    /// When a leader last acknowledged this server.
    acknowledged: Time,
    /// Time as it counts for sessions.
    steady: Time,
    last: Time,
    /// The leader's: when each session expires, in steady time.
    expires: BTreeMap<SessionId, Time>,
    /// When to look at which session again. A session that was heard meanwhile is put back then, so that
    /// hearing one costs a single look-up.
    due: BTreeSet<(Time, SessionId)>,
}

impl Liveness {
    pub(super) fn advance(&mut self, now: Time) {
        self.steady += now.since(self.last).min(STEP_MAX);
        self.last = now;
    }

    /// A client of this server was heard.
    pub(super) fn touched_here(&mut self, session: SessionId) {
        self.touched.insert(session);
    }

    /// Every session gets a full timeout.
    pub(super) fn restored(&mut self, tree: &Tree) {
        self.expires.clear();
        self.due.clear();
        for (id, session) in tree.sessions() {
            self.grant(id, session.timeout_ms);
        }
    }

    /// A session was created or attached somewhere.
    pub(super) fn attached(&mut self, _now: Time, session: SessionId, tree: &Tree) {
        if let Some(timeout_ms) = tree.session(session).map(|s| s.timeout_ms) {
            self.grant(session, timeout_ms);
        }
    }

    pub(super) fn ended(&mut self, session: SessionId) {
        self.expires.remove(&session);
        self.touched.remove(&session);
    }

    fn grant(&mut self, session: SessionId, timeout_ms: u32) {
        let at = self.steady + Duration::from_millis(timeout_ms.into());
        if self.expires.insert(session, at).is_none() {
            self.due.insert((at, session));
        }
    }

    /// Sessions that nobody heard for their timeout. They are looked at again a little later, in
    /// case the proposal to expire them is lost.
    fn silent(&mut self) -> Vec<SessionId> {
        let mut silent = Vec::new();
        while let Some((at, session)) = self.due.first().copied() {
            if at > self.steady {
                break;
            }
            self.due.remove(&(at, session));
            match self.expires.get(&session) {
                Some(expires) if *expires > self.steady => {
                    self.due.insert((*expires, session));
                }
                Some(_) => {
                    self.due.insert((self.steady + STEP_MAX, session));
                    silent.push(session);
                }
                None => {}
            }
        }
        silent
    }
}

impl Server {
    pub(super) fn leader_changed(
        &mut self,
        now: Time,
        leader: Option<NodeId>,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        self.leader = leader;
        if leader.is_none() {
            return;
        }
        self.liveness.advance(now);
        if self.leads() {
            self.liveness.restored(tree);
        }
        self.report_touched(out);
        self.propose_all_again(now, Duration::ZERO, out);
    }

    /// Tells the leader who was heard. It is told even if nobody was, since its answer is what this
    /// server's clients live on.
    pub(super) fn report_touched(&mut self, out: &mut Outputs) {
        if let Some(to) = self.leader {
            let sessions = std::mem::take(&mut self.liveness.touched).into_iter().collect();
            out.push(ServiceOutput::Tell { to, message: ServerMessage::Touched { sessions } });
        }
    }

    pub(super) fn told(
        &mut self,
        now: Time,
        from: NodeId,
        message: ServerMessage,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        match message {
            ServerMessage::Touched { sessions } if self.leads() => {
                for id in sessions {
                    if let Some(session) = tree.session(id) {
                        self.liveness.grant(id, session.timeout_ms);
                    }
                }
                let message = ServerMessage::Acknowledged;
                out.push(ServiceOutput::Tell { to: from, message });
            }
            ServerMessage::Touched { .. } => {}
            ServerMessage::Acknowledged => self.liveness.acknowledged = now,
        }
    }

    /// Lets clients go whose sessions this server may soon be unable to keep.
    pub(super) fn close_unsustained(&mut self, now: Time, out: &mut Outputs) {
        let silence = now.since(self.liveness.acknowledged);
        let unsustained: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| c.session().is_some())
            .filter(|(_, c)| silence > Duration::from_millis(u64::from(c.timeout_ms) / 2))
            .map(|(id, _)| *id)
            .collect();
        unsustained.into_iter().for_each(|connection| self.close(connection, out));
    }

    pub(super) fn expire_silent(&mut self, tree: &Tree, out: &mut Outputs) {
        for id in self.liveness.silent() {
            if let Some(session) = tree.session(id) {
                let attachment = session.attachment;
                let proposal = self.proposal(|_| Body::Expire { session: id, attachment });
                out.push(ServiceOutput::Propose(proposal));
            }
        }
    }
}
