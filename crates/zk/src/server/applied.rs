//! Outcomes become replies, events become notifications.
//!
//! Order (ZK-12): of one entry, notifications are written first, then the reply to the write that caused
//! them, then the reads that waited for it, which see exactly the state after it.

use bytes::Bytes;
use quorate_contracts::{RequestId, ServiceOutput, Time};

use super::connection::{Connection, PendingWrite};
use super::statistics::LastRequest;
use super::{ConnectionId, Outputs, PROBE_AGAIN, Server};
use crate::command::{ErrorCode, Event, OpReply, Outcome};
use crate::tree::{Tree, permits, perms};
use crate::wire::{
    ReplyHeader, RequestHeader, multi_reply, notification, opcode, packet, single_reply,
};

impl Server {
    /// Tells those who watch, and learns of sessions that moved or ended.
    pub(super) fn tell_events(&mut self, events: &[Event], tree: &Tree, out: &mut Outputs) {
        for event in events {
            match event {
                Event::SessionEnded { session, expired } => {
                    self.session_ended(*session);
                    let here = self.sessions.get(session).copied();
                    if let (Some(connection), true) = (here, *expired) {
                        self.close(connection, out);
                    }
                }
                // A connection that the session has left stays, as in ZooKeeper, until it writes: then it
                // is told that the session has moved.
                Event::SessionAttached { session, .. } => {
                    self.session_attached(*session, tree);
                }
                event => self.notify(event, out),
            }
        }
    }

    fn notify(&mut self, event: &Event, out: &mut Outputs) {
        let (kind, path, acl) = match event {
            Event::Created { path, acl } => (1, path, acl),
            Event::Deleted { path, acl } => (2, path, acl),
            Event::DataChanged { path, acl } => (3, path, acl),
            Event::ChildrenChanged { path, acl } => (4, path, acl),
            Event::SessionEnded { .. } | Event::SessionAttached { .. } => return,
        };
        for connection in self.watches.fire(kind, path) {
            let may_read = self
                .connections
                .get(&connection)
                .is_some_and(|known| permits(acl, &known.identities, perms::READ));
            if may_read {
                self.write(connection, notification(kind, path), out);
            }
        }
    }

    /// An entry was applied: whoever waits for it is answered.
    pub(super) fn applied(
        &mut self,
        now: Time,
        id: Option<RequestId>,
        outcome: Outcome,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        if let Outcome::SessionCreated { session } = outcome {
            self.session_attached(session, tree);
        }
        let Some(id) = id else { return };
        if let Outcome::SessionCreated { session } = outcome {
            self.end_orphan(id, session, out);
        }
        let Some(connection) = self.pending.get(&id).copied() else { return };
        match outcome {
            Outcome::SessionCreated { .. } | Outcome::Attached { .. } | Outcome::AttachRefused => {
                self.pending.remove(&id);
                self.joined(connection, &outcome, out);
            }
            Outcome::Done(result) => {
                self.pending.remove(&id);
                self.written(now, connection, id, &result, tree, out);
            }
            Outcome::Moved => self.dismiss(connection, id, ErrorCode::SessionMoved, tree, out),
            Outcome::SessionExpired => {
                self.dismiss(connection, id, ErrorCode::SessionExpired, tree, out);
            }
            Outcome::Gap => self.fill_gap(now, connection, out),
            // Its first copy was answered, or will be when its turn comes.
            Outcome::Duplicate | Outcome::Expired(_) | Outcome::Reaped(_) | Outcome::Published => {}
        }
    }

    /// Something before it was lost on its way, and nothing later took effect: all that waits is proposed again,
    /// in order. Copies from before that may make the same complaint for a while.
    fn fill_gap(&mut self, now: Time, connection: ConnectionId, out: &mut Outputs) {
        if let Some(known) = self.connections.get_mut(&connection)
            && !known.held
            && !known.was_repeated(now, PROBE_AGAIN)
        {
            out.extend(known.propose_again(now).cloned().map(ServiceOutput::Propose));
        }
    }

    /// What was refused has got through, or reads that were kept are answered: the writes behind may go.
    fn release_held(&mut self, now: Time, connection: ConnectionId, out: &mut Outputs) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if known.has_caught_up() | std::mem::take(&mut known.held) {
            out.extend(known.propose_again(now).cloned().map(ServiceOutput::Propose));
        }
    }

    fn take_write(&mut self, connection: ConnectionId, id: RequestId) -> Option<Box<PendingWrite>> {
        self.take_waiting(connection, |known| known.take_write(id))
    }

    /// Takes something of what waits on a connection.
    pub(super) fn take_waiting<T>(
        &mut self,
        connection: ConnectionId,
        take: impl FnOnce(&mut Connection) -> Option<T>,
    ) -> Option<T> {
        let known = self.connections.get_mut(&connection)?;
        let before = known.waiting_bytes;
        let taken = take(known);
        self.waiting_bytes -= before - known.waiting_bytes;
        taken
    }

    /// Counts a request that is answered.
    pub(super) fn account(
        &mut self,
        now: Time,
        connection: ConnectionId,
        header: RequestHeader,
        arrived: Time,
        tree: &Tree,
    ) {
        let last = LastRequest { header, zxid: tree.last_zxid(), unix_ms: self.unix_ms };
        self.statistics.answered(now, arrived, header.opcode);
        self.with(connection, |c| c.statistics.answered(now, arrived, last));
    }

    /// A write took effect, or was refused: the reply, and the reads that waited for it.
    fn written(
        &mut self,
        now: Time,
        connection: ConnectionId,
        id: RequestId,
        result: &Result<OpReply, ErrorCode>,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Some(write) = self.take_write(connection, id) else { return };
        let error = result.as_ref().map_or_else(|error| *error as i32, |_| 0);
        let header = ReplyHeader { xid: write.header.xid, zxid: tree.last_zxid(), error };
        let reply = packet(header, |body| match result {
            Ok(OpReply::Multi(result)) => multi_reply(result, &write.opcodes, body),
            Ok(reply) => single_reply(reply, write.header.opcode, body),
            Err(_) => {}
        });
        self.account(now, connection, write.header, write.arrived, tree);
        self.write(connection, reply, out);
        if write.header.opcode == opcode::CLOSE_SESSION {
            return self.close(connection, out);
        }
        self.with(connection, |c| c.held &= c.waiting() > 0);
        self.answer_waiting_reads(now, connection, tree, out);
        self.let_go_on(connection, out);
    }

    /// Answers the reads that no write is before any more.
    pub(super) fn answer_waiting_reads(
        &mut self,
        now: Time,
        connection: ConnectionId,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        while let Some((packet, arrived)) = self.take_read(connection) {
            self.answer_read(now, connection, &packet, arrived, tree, out);
        }
        self.release_held(now, connection, out);
    }

    fn take_read(&mut self, connection: ConnectionId) -> Option<(Bytes, Time)> {
        self.take_waiting(connection, Connection::take_read)
    }

    /// The session is not this connection's any more.
    fn dismiss(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        error: ErrorCode,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let write = self.take_write(connection, id);
        if let Some(PendingWrite { header, .. }) = write.as_deref() {
            self.reply_error(connection, *header, error as i32, tree, out);
        }
        self.pending.remove(&id);
        self.close(connection, out);
    }
}
