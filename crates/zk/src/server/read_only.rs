//! Read-only mode: while there is no quorum, clients that ask for it may read what is here. It may be old, but never older
//! than what they have seen; nothing is written, not even a session.

use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::Time;

use super::connection::Stage;
use super::{ConnectionId, Outputs, Server};
use crate::command::{ErrorCode, SessionId};
use crate::tree::Tree;
use crate::wire::{ConnectRequest, ConnectResponse, Request, opcode};

/// Without a leader for so long, there is no quorum: an election takes less.
const ELECTION_MAX: Duration = Duration::from_secs(2);

/// Whether there is a quorum to serve clients with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quorum {
    /// This server has once caught up with its cluster.
    serving: bool,
    /// Since when no leader is known.
    lost: Option<Time>,
}

impl Quorum {
    /// Where clients are let in early (`read_only_mode`), the driver tells later that this server has caught up.
    pub(super) fn new(early: bool) -> Self {
        Self { serving: !early, lost: Some(Time::ZERO) }
    }

    pub(super) fn is_serving(&mut self) {
        self.serving = true;
    }

    pub(super) fn leader_is(&mut self, now: Time, known: bool) {
        self.lost = if known { None } else { self.lost.or(Some(now)) };
    }

    /// Whether clients that write cannot be served.
    fn is_lost(&self, now: Time) -> bool {
        !self.serving || self.lost.is_some_and(|since| now >= since + ELECTION_MAX)
    }
}

impl Server {
    /// Whether this server is one for reading only, just now.
    pub(super) fn is_read_only(&self, now: Time) -> bool {
        self.config.read_only_mode && self.quorum.is_lost(now)
    }

    /// A client comes while there is no quorum. Its session, if it has one, goes on elsewhere, and nobody here keeps it.
    pub(super) fn join_read_only(
        &mut self,
        connection: ConnectionId,
        request: &ConnectRequest,
        timeout_ms: u32,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let known = tree.session(SessionId(request.session));
        let stranger = request.session != 0
            && known.is_none_or(|known| known.password[..] != request.password[..]);
        // Who does not ask for it finds another server; so does one that nobody here can vouch for.
        if request.read_only != Some(true) || stranger {
            return self.close(connection, out);
        }
        let session = match request.session {
            0 => (self.config.node.0 as i64 & 0x7f) << 56 | 1 << 55 | connection.0 as i64,
            known => known,
        };
        let password = request.password[..].try_into().unwrap_or_default();
        self.with(connection, |c| (c.stage, c.timeout_ms) = (Stage::ReadOnly, timeout_ms));
        let response = ConnectResponse {
            timeout_ms: timeout_ms as i32,
            session,
            password,
            read_only: Some(true),
        };
        self.write(connection, response.encode(), out);
    }

    pub(super) fn request_read_only(
        &mut self,
        now: Time,
        connection: ConnectionId,
        packet: &Bytes,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Ok((header, request)) = Request::decode(packet) else {
            return self.close(connection, out);
        };
        match request {
            Request::Ping | Request::Auth { .. } | Request::Sasl { .. } => {
                self.answer_at_once(connection, header, &request, tree, out);
            }
            Request::Write(_) if header.opcode == opcode::CLOSE_SESSION => {
                self.reply_error(connection, header, 0, tree, out);
                self.close(connection, out);
            }
            Request::Write(_) | Request::Multi(_) | Request::Reconfig(_) => {
                let error = ErrorCode::NotReadOnly as i32;
                self.reply_error(connection, header, error, tree, out);
            }
            _ => self.answer_read(now, connection, packet, now, tree, out),
        }
    }

    /// There is a leader again: who only reads finds a server for everything.
    pub(super) fn close_read_only(&mut self, out: &mut Outputs) {
        let is_one = |connection: &ConnectionId| {
            let known = self.connections.get(connection);
            known.is_some_and(|known| matches!(known.stage, Stage::ReadOnly))
        };
        let those: Vec<ConnectionId> = self.connections.keys().copied().filter(is_one).collect();
        those.into_iter().for_each(|connection| self.close(connection, out));
    }
}
