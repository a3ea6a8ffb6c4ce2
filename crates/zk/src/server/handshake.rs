//! The first packet of a connection: a session is created, or attached to this server (ZK-11).

use std::time::Duration;

use quorate_contracts::{ServiceOutput, Time};

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
                let stage = Stage::Ahead { request, until: now + AHEAD_MAX };
                self.ahead += 1;
                self.with(connection, |c| c.stage = stage);
            }
            Ok(request) => self.join(now, connection, request, out),
            Err(_) => self.close(connection, out),
        }
    }

    /// This server may have caught up with those who were ahead of it.
    pub(super) fn admit_late_comers(&mut self, now: Time, tree: &Tree, out: &mut Outputs) {
        if self.ahead == 0 {
            return;
        }
        let zxid = tree.last_zxid().0;
        let ready = self.late_comers(|request, _| request.last_zxid_seen <= zxid);
        for (connection, request) in ready {
            self.ahead -= 1;
            self.join(now, connection, request, out);
        }
    }

    /// Those who waited long enough are sent away without a word: another server may serve them.
    pub(super) fn give_up_on_late_comers(&mut self, now: Time, out: &mut Outputs) {
        let late = self.late_comers(|_, until| until <= now);
        late.into_iter().for_each(|(connection, _)| self.close(connection, out));
    }

    fn late_comers(
        &self,
        chosen: impl Fn(&ConnectRequest, Time) -> bool,
    ) -> Vec<(ConnectionId, ConnectRequest)> {
        let ahead = |(id, connection): (&ConnectionId, &Connection)| match &connection.stage {
            Stage::Ahead { request, until } if chosen(request, *until) => {
                Some((*id, request.clone()))
            }
            _ => None,
        };
        self.connections.iter().filter_map(ahead).collect()
    }

    fn join(
        &mut self,
        now: Time,
        connection: ConnectionId,
        request: ConnectRequest,
        out: &mut Outputs,
    ) {
        let Some(secret) = self.connections.get(&connection).map(|c| c.secret) else { return };
        let timeout_ms = u32::try_from(request.timeout_ms)
            .unwrap_or(0)
            .clamp(self.config.session_timeout_min_ms, self.config.session_timeout_max_ms);
        let (server, session) = (self.config.node, SessionId(request.session));
        let proposal = if request.session == 0 {
            self.proposal(|_| Body::CreateSession { server, password: secret, timeout_ms })
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
        self.with(connection, |c| {
            c.stage = Stage::Attached { session, attachment };
            (c.timeout_ms, c.next_sequence) = (timeout_ms, 1);
        });
        let response = ConnectResponse {
            timeout_ms: timeout_ms as i32,
            session: session.0,
            password,
            read_only: request.read_only.map(|_| false),
        };
        self.write(connection, response.encode(), out);
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
