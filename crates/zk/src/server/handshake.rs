//! The first packet of a connection: a session is created, or attached to this server (ZK-11), unless its disk is full.

use std::time::Duration;

use quorate_contracts::{RequestId, ServiceOutput, Time};

use super::connection::{Connection, Stage};
use super::{ConnectionId, Outputs, Server};
use crate::command::{Attachment, Body, Outcome, SessionId};
use crate::tree::Tree;
use crate::wire::{ConnectRequest, ConnectResponse};

/// How long a client that has seen a newer state may wait for this server to catch up.
const AHEAD_MAX: Duration = Duration::from_millis(1_000);

impl Server {
    /// A client says who it is. It is never shown a state older than what it has seen (ZK-7).
    pub(super) fn connect(
        &mut self,
        now: Time,
        connection: ConnectionId,
        packet: &[u8],
        tree: &Tree,
        out: &mut Outputs,
    ) {
        match ConnectRequest::decode(packet) {
            Ok(request) if request.last_zxid_seen > tree.last_zxid().0 => {
                self.ahead.insert((request.last_zxid_seen, connection));
                let stage = Stage::Ahead { request, until: now + AHEAD_MAX };
                self.with(connection, |c| c.stage = stage);
            }
            Ok(request) => self.join(now, connection, request, tree, out),
            Err(_) => self.close(connection, out),
        }
    }

    /// This server may have caught up with those who were ahead of it.
    pub(super) fn admit_late_comers(&mut self, now: Time, tree: &Tree, out: &mut Outputs) {
        let zxid = tree.last_zxid().0;
        while let Some((_, connection)) =
            self.ahead.first().copied().filter(|(seen, _)| *seen <= zxid)
        {
            self.ahead.pop_first();
            let stage = self.connections.get(&connection).map(|known| known.stage.clone());
            if let Some(Stage::Ahead { request, .. }) = stage {
                self.join(now, connection, request, tree, out);
            }
        }
    }

    /// Those who waited long enough are sent away without a word: another server may serve them.
    pub(super) fn give_up_on_late_comers(&mut self, now: Time, out: &mut Outputs) {
        let is_late = |connection: &ConnectionId| {
            let stage = self.connections.get(connection).map(|known| &known.stage);
            matches!(stage, Some(Stage::Ahead { until, .. }) if *until <= now)
        };
        let late: Vec<ConnectionId> =
            self.ahead.iter().map(|(_, connection)| *connection).filter(is_late).collect();
        late.into_iter().for_each(|connection| self.close(connection, out));
    }

    fn join(
        &mut self,
        now: Time,
        connection: ConnectionId,
        request: ConnectRequest,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Some(secret) = self.connections.get(&connection).map(|c| c.secret) else { return };
        let timeout_ms = u32::try_from(request.timeout_ms)
            .unwrap_or(0)
            .clamp(self.config.session_timeout_min_ms, self.config.session_timeout_max_ms);
        if self.is_read_only(now) {
            return self.join_read_only(connection, &request, timeout_ms, tree, out);
        }
        if self.is_on_reserve() {
            return self.close(connection, out);
        }
        let (server, session) = (self.config.node, SessionId(request.session));
        let proposal = if request.session == 0 {
            self.proposal(|nonce| Body::CreateSession {
                server,
                nonce,
                password: secret,
                timeout_ms,
            })
        } else if let Ok(password) = request.password[..].try_into() {
            self.proposal(|nonce| Body::Attach { session, server, nonce, password, timeout_ms })
        } else {
            return self.refuse(connection, &request, out);
        };
        self.pending.insert(proposal.id(), connection);
        out.push(ServiceOutput::Propose(proposal.clone()));
        let stage = Stage::Joining { request, proposal, proposed: now, timeout_ms };
        self.with(connection, |c| c.stage = stage);
    }

    /// The outcome of creating or attaching a session.
    pub(super) fn joined(
        &mut self,
        connection: ConnectionId,
        outcome: &Outcome,
        out: &mut Outputs,
    ) {
        let Some(joining) = self.connections.get(&connection) else { return };
        let Stage::Joining { request, timeout_ms, .. } = joining.stage.clone() else { return };
        let (session, attachment, password) = match outcome {
            Outcome::SessionCreated { session } => (*session, Attachment(1), joining.secret),
            Outcome::Attached { attachment } => {
                let password = request.password[..].try_into().unwrap_or_default();
                (SessionId(request.session), *attachment, password)
            }
            _ => return self.refuse(connection, &request, out),
        };
        if let Some(older) = self.sessions.insert(session, connection) {
            self.close(older, out);
            self.sessions.insert(session, connection);
        }
        self.liveness.touched_here(session);
        let (steady, unix_ms) = (self.liveness.steady(), self.unix_ms);
        self.with(connection, |c| {
            c.stage = Stage::Attached { session, attachment };
            (c.timeout_ms, c.next_sequence) = (timeout_ms, 1);
            (c.heard, c.statistics.established_unix_ms) = (steady, unix_ms);
            c.forget_retries();
        });
        let response = ConnectResponse {
            timeout_ms: timeout_ms as i32,
            session: session.0,
            password,
            read_only: request.read_only.map(|_| false),
        };
        self.write(connection, response.encode(), out);
    }

    /// A session was created for a client that is gone: nobody knows its password, and it ends at once.
    pub(super) fn end_orphan(&mut self, id: RequestId, session: SessionId, out: &mut Outputs) {
        let first = self.config.first_request.0;
        // An id of an earlier life says nothing: that life's client may well have had its answer.
        let of_this_life = id.0.wrapping_sub(first) < self.next_request.0.wrapping_sub(first);
        if of_this_life && !self.pending.contains_key(&id) {
            let proposal = self.proposal(|_| Body::Expire { session, attachment: Attachment(1) });
            out.push(ServiceOutput::Propose(proposal));
        }
    }

    /// What a client takes for the end of its session.
    fn refuse(&mut self, connection: ConnectionId, request: &ConnectRequest, out: &mut Outputs) {
        let read_only = request.read_only.map(|_| false);
        let response = ConnectResponse { read_only, ..ConnectResponse::default() };
        self.write(connection, response.encode(), out);
        self.close(connection, out);
    }

    pub(super) fn with(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            change(connection);
        }
    }
}
