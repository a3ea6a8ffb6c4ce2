//! A packet becomes a proposal, a read, or an answer at once (ZK-6).

use base64::Engine;
use bytes::Bytes;
use quorate_contracts::{RequestId, ServiceOutput, Time};
use sha1::{Digest, Sha1};

use super::connection::{Connection, Gate, PendingWrite, Stage, Waiting};
use super::sasl::Exchange;
use super::{ClientReply, ConnectionId, Outputs, Server};
use crate::command::{Body, ErrorCode, Identity, Op};
use crate::tree::Tree;
use crate::wire::{ReplyHeader, Request, RequestHeader, packet};

/// What a client may prove to be, in bytes: every write carries all of it.
const IDENTITY_BYTES_MAX: usize = 16 << 10;

impl Server {
    pub(super) fn packet(
        &mut self,
        now: Time,
        connection: ConnectionId,
        packet: Bytes,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        self.statistics.received += 1;
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.statistics.received += 1;
        known.heard = self.liveness.steady();
        match known.stage {
            Stage::Fresh => self.connect(now, connection, &packet, tree, out),
            Stage::Attached { session, .. } => {
                self.liveness.touched_here(session);
                self.request(now, connection, packet, tree, out);
            }
            Stage::ReadOnly => self.request_read_only(now, connection, &packet, tree, out),
            // A client speaks again only once it was answered.
            Stage::Ahead { .. } | Stage::Joining { .. } => self.close(connection, out),
        }
    }

    fn request(
        &mut self,
        now: Time,
        connection: ConnectionId,
        packet: Bytes,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Ok((header, request)) = Request::decode(&packet) else {
            return self.close(connection, out);
        };
        match request {
            Request::Ping | Request::Auth { .. } | Request::Sasl { .. } => {
                self.answer_at_once(connection, header, &request, tree, out);
            }
            Request::Write(op) => self.propose(now, connection, header, op, Vec::new(), out),
            Request::Multi(ops) => {
                let (opcodes, ops) = ops.into_iter().unzip();
                self.propose(now, connection, header, Op::Multi(ops), opcodes, out);
            }
            Request::Reconfig(_) => {
                self.read_in_turn(now, connection, (packet, Gate::Turn), tree, out);
            }
            _ => {
                let gate = self.gate(connection, out);
                self.read_in_turn(now, connection, (packet, gate), tree, out);
            }
        }
        self.hold_back(connection, out);
    }

    /// What touches no znode has no turn to wait for: pings, and proofs of who the client is.
    pub(super) fn answer_at_once(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        request: &Request<'_>,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        match request {
            Request::Auth { scheme, data } => {
                self.authenticate(connection, header, scheme, data, tree, out);
            }
            Request::Sasl { token } => self.sasl(connection, header, token, tree, out),
            _ => self.reply_error(connection, header, 0, tree, out),
        }
    }

    /// Where reads are to be linearizable, each waits for a barrier that begins after it came (ZK-8).
    fn gate(&mut self, connection: ConnectionId, out: &mut Outputs) -> Gate {
        if !self.connections.get(&connection).is_some_and(|known| known.linearizable) {
            return Gate::Open;
        }
        let id = self.next_request;
        self.next_request = id.next();
        self.barriers.insert(id, connection);
        out.push(ServiceOutput::ReadBarrier { id });
        Gate::Barrier(id)
    }

    /// A barrier was passed: what waited for it alone is answered.
    pub(super) fn read_ready(&mut self, now: Time, id: RequestId, tree: &Tree, out: &mut Outputs) {
        let Some(connection) = self.barriers.remove(&id) else { return };
        self.with(connection, |c| c.passed(id));
        self.answer_waiting_reads(now, connection, tree, out);
        self.let_go_on(connection, out);
    }

    /// A read waits for the connection's own writes before it, and for its gate.
    fn read_in_turn(
        &mut self,
        now: Time,
        connection: ConnectionId,
        (packet, gate): (Bytes, Gate),
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if known.may_read() && !matches!(gate, Gate::Barrier(_)) {
            return self.answer_read(now, connection, &packet, now, tree, out);
        }
        // A copy: the packet is a piece of a larger buffer, which must not wait with it.
        let packet = Bytes::copy_from_slice(&packet);
        self.wait(connection, Waiting::Read { packet, arrived: now, gate });
    }

    /// A write is numbered, and leaves at once; others may be on their way.
    fn propose(
        &mut self,
        now: Time,
        connection: ConnectionId,
        header: RequestHeader,
        op: Op<'_>,
        opcodes: Vec<i32>,
        out: &mut Outputs,
    ) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let Stage::Attached { session, attachment } = known.stage else { return };
        let sequence = known.next_sequence;
        known.next_sequence += 1;
        let identities = known.identities.clone();
        let proposal =
            self.proposal(|_| Body::Write { session, attachment, sequence, identities, op });
        self.pending.insert(proposal.id(), connection);
        if self.connections.get_mut(&connection).is_some_and(Connection::may_propose) {
            out.push(ServiceOutput::Propose(proposal.clone()));
        }
        let write =
            PendingWrite { header, opcodes, proposal, proposed: now, again: false, arrived: now };
        self.wait(connection, Waiting::Write(Box::new(write)));
    }

    fn wait(&mut self, connection: ConnectionId, waiting: Waiting) {
        if let Some(known) = self.connections.get_mut(&connection) {
            let before = known.waiting_bytes;
            known.wait(waiting);
            self.waiting_bytes += known.waiting_bytes - before;
        }
    }

    /// A client that sends faster than its requests are answered is not read from for a while (ZK-20).
    fn hold_back(&mut self, connection: ConnectionId, out: &mut Outputs) {
        let config = &self.config;
        if let Some(known) = self.connections.get_mut(&connection)
            && !known.paused
            && (known.waiting() >= config.requests_in_flight_max
                || known.waiting_bytes >= config.bytes_in_flight_max
                || known.waiting() > 0 && self.waiting_bytes >= config.bytes_in_flight_total_max)
        {
            known.paused = true;
            out.push(ServiceOutput::Reply(ClientReply::Pause { connection }));
        }
    }

    pub(super) fn let_go_on(&mut self, connection: ConnectionId, out: &mut Outputs) {
        let config = &self.config;
        if let Some(known) = self.connections.get_mut(&connection)
            && known.paused
            && known.waiting() <= config.requests_in_flight_max / 2
            && known.waiting_bytes <= config.bytes_in_flight_max / 2
            && (known.waiting() == 0 || self.waiting_bytes < config.bytes_in_flight_total_max)
        {
            known.paused = false;
            known.heard = self.liveness.steady();
            out.push(ServiceOutput::Reply(ClientReply::Resume { connection }));
        }
    }

    /// Only `digest` (and `ip`, which proves nothing new) are known; several add up.
    fn authenticate(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        scheme: &str,
        data: &[u8],
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let proven = match scheme {
            "digest" => std::str::from_utf8(data).ok().map(digest_identity).map(Some),
            "ip" => Some(None),
            // No identity, but a wish: that this session's reads are linearizable (ZK-8), or as others' again.
            "quorate" => self.wished(connection, data).then_some(None),
            _ => None,
        };
        let held: usize = self.identities(connection).iter().map(|known| known.id.len()).sum();
        let Some(identity) = proven.filter(|_| held + data.len() <= IDENTITY_BYTES_MAX) else {
            self.reply_error(connection, header, ErrorCode::AuthFailed as i32, tree, out);
            return self.close(connection, out);
        };
        let is_super = identity.is_some()
            && identity.as_ref().map(|known| &known.id) == self.config.super_digest.as_ref();
        self.has_proven(connection, identity, is_super);
        // ZooKeeper answers auth with zxid 0.
        let header = ReplyHeader { xid: header.xid, zxid: crate::command::Zxid(0), error: 0 };
        self.write(connection, packet(header, |_| {}), out);
    }

    /// What a client wishes of its reads; says whether that means anything.
    fn wished(&mut self, connection: ConnectionId, wish: &[u8]) -> bool {
        let linearizable = match wish {
            b"linearizable" => true,
            b"local" => self.config.linearizable_reads,
            _ => return false,
        };
        self.with(connection, |c| c.linearizable = linearizable);
        true
    }

    fn has_proven(&mut self, connection: ConnectionId, identity: Option<Identity>, is_super: bool) {
        let superuser = is_super.then(Identity::superuser);
        if let Some(known) = self.connections.get_mut(&connection) {
            for identity in identity.into_iter().chain(superuser) {
                if !known.identities.contains(&identity) {
                    known.identities.push(identity);
                }
            }
        }
    }

    /// An empty token asks for a challenge, any other one answers it. Who does not prove what it says is sent away.
    fn sasl(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        token: &[u8],
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let answer = if token.is_empty() {
            self.sasl_challenge(connection)
        } else {
            self.sasl_response(connection, token)
        };
        let Some(answer) = answer else {
            self.reply_error(connection, header, ErrorCode::AuthFailed as i32, tree, out);
            return self.close(connection, out);
        };
        let header = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error: 0 };
        self.write(connection, packet(header, |body| body.buffer(Some(&answer))), out);
    }

    fn sasl_challenge(&mut self, connection: ConnectionId) -> Option<Vec<u8>> {
        let known = self.connections.get_mut(&connection)?;
        // The connection's random bytes name nothing else; those that prove a session cannot be told from this.
        let nonce = Sha1::new().chain_update(known.secret).chain_update("sasl").finalize();
        let nonce = base64::engine::general_purpose::STANDARD.encode(nonce);
        Some(known.sasl.insert(Exchange::new(nonce)).challenge())
    }

    fn sasl_response(&mut self, connection: ConnectionId, token: &[u8]) -> Option<Vec<u8>> {
        let exchange = self.connections.get_mut(&connection)?.sasl.take()?;
        let proven = exchange.judge(token, &self.config.sasl_passwords).ok()?;
        let is_super = self.config.sasl_super_user.as_ref() == Some(&proven.user);
        let identity = Identity { scheme: "sasl".into(), id: proven.user };
        self.has_proven(connection, Some(identity), is_super);
        Some(proven.answer)
    }

    /// A reply without a record.
    pub(super) fn reply_error(
        &mut self,
        connection: ConnectionId,
        header: RequestHeader,
        error: i32,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let header = ReplyHeader { xid: header.xid, zxid: tree.last_zxid(), error };
        self.write(connection, packet(header, |_| {}), out);
    }
}

/// `user:password` as the scheme knows it: `user:base64(sha1(user:password))`. Without a colon all of it is the user.
pub(crate) fn digest_identity(user_and_password: &str) -> Identity {
    let user = user_and_password.split(':').next().unwrap_or_default();
    let hash = Sha1::digest(user_and_password.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    Identity { scheme: "digest".into(), id: format!("{user}:{hash}") }
}

#[cfg(test)]
mod tests {
    /// ZooKeeper's documentation gives this digest for `super:test`.
    #[test]
    fn digests_are_zookeepers() {
        let identity = super::digest_identity("super:test");
        assert_eq!(identity.id, "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert!(super::digest_identity("nobody").id.starts_with("nobody:"));
    }
}
