//! Who is heard, and who has expired (ZK-11).
//!
//! Every server tells the leader which sessions it heard; the leader proposes to expire those that nobody
//! heard for their timeout. A new leader grants every session a full timeout. A server that no leader
//! acknowledges lets its clients go while their sessions still have time to find another server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_contracts::{NodeId, ServiceOutput, Time};

use super::connection::{Connection, Stage};
use super::{ConnectionId, HELLO_MAX, Outputs, SILENCE_MARGIN, Server, ServerMessage};
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
    /// The leader's: when each session expires.
    expires: BTreeMap<SessionId, Expiry>,
    /// When to look at which session again. A session that was heard meanwhile is put back then, so that
    /// hearing one costs a single look-up.
    due: BTreeSet<(Time, SessionId)>,
}

/// In steady time.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    at: Time,
    /// Under which time it stands in `due`: not after `at`, or soon.
    due: Time,
}

impl Liveness {
    /// Time as it counts for sessions.
    pub(super) fn steady(&self) -> Time {
        self.steady
    }

    pub(super) fn advance(&mut self, now: Time) {
        self.steady += now.since(self.last).min(STEP_MAX);
        self.last = now;
    }

    /// The client of a session was heard here.
    pub(super) fn touched_here(&mut self, session: SessionId) {
        self.touched.insert(session);
    }

    /// Another server leads: it decides who expires.
    fn forget_expiries(&mut self) {
        self.expires.clear();
        self.due.clear();
    }

    fn ended(&mut self, session: SessionId) {
        self.touched.remove(&session);
        if let Some(expiry) = self.expires.remove(&session) {
            self.due.remove(&(expiry.due, session));
        }
    }

    /// A session has a full timeout from now on, which may be shorter than what it had.
    fn grant(&mut self, session: SessionId, timeout_ms: u32) {
        let at = self.steady + Duration::from_millis(timeout_ms.into());
        match self.expires.get_mut(&session) {
            Some(expiry) if expiry.due <= at => expiry.at = at,
            known => {
                if let Some(expiry) = known {
                    self.due.remove(&(expiry.due, session));
                }
                self.expires.insert(session, Expiry { at, due: at });
                self.due.insert((at, session));
            }
        }
    }

    fn look_again(&mut self, session: SessionId, due: Time) {
        if let Some(expiry) = self.expires.get_mut(&session) {
            expiry.due = due;
            self.due.insert((due, session));
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
            match self.expires.get(&session).map(|expiry| expiry.at) {
                Some(at) if at > self.steady => self.look_again(session, at),
                Some(_) => {
                    self.look_again(session, self.steady + STEP_MAX);
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
        self.leads_since = self.leads().then(|| self.leads_since.unwrap_or(now));
        self.quorum.leader_is(now, leader.is_some());
        self.liveness.advance(now);
        self.watch_over_sessions(tree);
        self.reap_at = now + self.config.reap_interval;
        if leader.is_none() {
            return;
        }
        self.close_read_only(out);
        self.report_touched(out);
        self.propose_all_again(now, out);
    }

    /// A leader grants every session a full timeout; the others leave expiry to it.
    pub(super) fn watch_over_sessions(&mut self, tree: &Tree) {
        self.liveness.forget_expiries();
        if self.leads() {
            tree.sessions().for_each(|(id, session)| self.liveness.grant(id, session.timeout_ms));
        }
    }

    /// A session was created or attached somewhere.
    pub(super) fn session_attached(&mut self, session: SessionId, tree: &Tree) {
        if let (true, Some(known)) = (self.leads(), tree.session(session)) {
            self.liveness.grant(session, known.timeout_ms);
        }
    }

    pub(super) fn session_ended(&mut self, session: SessionId) {
        self.liveness.ended(session);
    }

    /// Tells the leader who was heard. It is told even if nobody was, since its answer is what this
    /// server's clients live on.
    pub(super) fn report_touched(&mut self, out: &mut Outputs) {
        // A client that is not read from cannot be heard, and is not to blame.
        let paused = self.connections.values().filter(|c| c.is_unheard());
        let paused = paused.filter_map(Connection::session);
        self.liveness.touched.extend(paused);
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

    /// Ends connections that never said who they are, and those whose session is elsewhere or gone and that
    /// have fallen silent: nobody else would.
    pub(super) fn close_silent(&mut self, out: &mut Outputs) {
        let steady = self.liveness.steady;
        let is_silent = |c: &Connection| match c.stage {
            Stage::Attached { .. } | Stage::ReadOnly => {
                let patience = Duration::from_millis(c.timeout_ms.into()) + SILENCE_MARGIN;
                !c.is_unheard() && steady > c.heard + patience
            }
            _ => steady > c.heard + HELLO_MAX,
        };
        let silent = self.connections.iter().filter(|(_, c)| is_silent(c)).map(|(id, _)| *id);
        let silent: Vec<ConnectionId> = silent.collect();
        silent.into_iter().for_each(|connection| self.close(connection, out));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_contracts::{
        LogIndex, RequestId, Service, ServiceInput, StateMachine, Term, WireWriter,
    };

    use super::*;
    use crate::command::{Command, Event};
    use crate::server::ServerConfig;

    /// A session comes to be, elsewhere; the service is told.
    fn created(server: &mut Server, tree: &mut Tree, index: u64) -> SessionId {
        let body = Body::CreateSession {
            server: NodeId(2),
            nonce: RequestId(index),
            password: [0; 16],
            timeout_ms: 4_000,
        };
        let mut command = WireWriter::default();
        Command { unix_ms: 0, body }.encode(&mut command);
        let outcome = tree.apply(LogIndex(index), &command.finish(), &mut Vec::new());
        let at = quorate_contracts::EntryId::new(LogIndex(index), Term(1));
        let applied = ServiceInput::Applied { at, id: None, outcome, events: &[] };
        server.step(Time::ZERO, applied, tree, &mut Vec::new());
        tree.sessions().last().map(|(id, _)| id).expect("it was created")
    }

    /// ZK-11: expiry is the leader's business: others remember nothing of sessions that come and go, and the leader
    /// nothing of those that are gone.
    #[test]
    fn only_the_leader_remembers_when_sessions_expire() {
        let mut tree = Tree::new();
        let mut server = Server::new(ServerConfig::new(NodeId(1), RequestId(0)));
        let known = |server: &Server| (server.liveness.expires.len(), server.liveness.due.len());
        let mut out = Vec::new();
        for (term, (leader, expected)) in (1..).zip([(2, (0, 0)), (1, (2, 2)), (2, (0, 0))]) {
            let leader = Some(NodeId(leader));
            let news = ServiceInput::Leader { leader, term: Term(term) };
            server.step(Time::ZERO, news, &tree, &mut out);
            let session = created(&mut server, &mut tree, term);
            assert_eq!(known(&server), expected, "term {term}");
            let ended = Event::SessionEnded { session, expired: true };
            server.tell_events(&[ended], &tree, &mut out);
            let left = expected.0.min(1);
            assert_eq!(known(&server), (left, left), "term {term}");
        }
    }

    /// A session that is heard is put back when it is looked at; a shorter timeout counts at once.
    #[test]
    fn when_a_session_is_silent() {
        let mut liveness = Liveness::default();
        let session = SessionId(1);
        let pass = |liveness: &mut Liveness, ms| liveness.steady += Duration::from_millis(ms);
        liveness.grant(session, 40_000);
        pass(&mut liveness, 10_000);
        liveness.grant(session, 4_000);
        pass(&mut liveness, 3_000);
        liveness.grant(session, 4_000);
        pass(&mut liveness, 3_000);
        assert_eq!(liveness.silent(), []);
        pass(&mut liveness, 1_000);
        assert_eq!(liveness.silent(), [session]);
        assert_eq!(liveness.silent(), [], "it is proposed again only after a while");
        pass(&mut liveness, 1_000);
        assert_eq!(liveness.silent(), [session]);
        liveness.ended(session);
        assert_eq!((liveness.expires.len(), liveness.due.len()), (0, 0));
    }
}
