//! Outcomes become replies, events become notifications.
//!
//! Order (ZK-12): of one entry, notifications are written first, then the reply to the write that caused
//! them, then the reads that waited for it, which see exactly the state after it.

use quorate_contracts::{RequestId, Time};

use super::connection::PendingWrite;
use super::{ConnectionId, Outputs, Server};
use crate::command::{ErrorCode, Event, OpReply, Outcome};
use crate::tree::{Tree, permits, perms};
use crate::wire::{ReplyHeader, multi_reply, notification, opcode, packet, single_reply};

impl Server {
    /// Tells those who watch, and learns of sessions that moved or ended.
    pub(super) fn tell_events(
        &mut self,
        now: Time,
        events: &[Event],
        tree: &Tree,
        out: &mut Outputs,
    ) {
        for event in events {
            match event {
                Event::SessionEnded { session, expired } => {
                    self.liveness.ended(*session);
                    let here = self.sessions.get(session).copied();
                    if let (Some(connection), true) = (here, *expired) {
                        self.close(connection, out);
                    }
                }
                // A connection that the session has left stays, as in ZooKeeper, until it writes: then it
                // is told that the session has moved.
                Event::SessionAttached { session, .. } => {
                    self.liveness.attached(now, *session, tree);
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
            self.liveness.attached(now, session, tree);
        }
        let Some(id) = id else { return };
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
            // Something before it was lost: nothing later may take effect.
            Outcome::Gap => self.close(connection, out),
            // Its first copy was answered, or will be when its turn comes.
            Outcome::Duplicate | Outcome::Expired(_) => {}
        }
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
        let write = self.connections.get_mut(&connection).and_then(|c| c.take_write(id));
        let Some(write) = write else { return };
        let error = result.as_ref().map_or_else(|error| *error as i32, |_| 0);
        let header = ReplyHeader { xid: write.header.xid, zxid: tree.last_zxid(), error };
        let reply = packet(header, |body| match result {
            Ok(OpReply::Multi(result)) => multi_reply(result, &write.opcodes, body),
            Ok(reply) => single_reply(reply, write.header.opcode, body),
            Err(_) => {}
        });
        self.statistics.answered(now, write.arrived);
        self.write(connection, reply, out);
        if write.header.opcode == opcode::CLOSE_SESSION {
            return self.close(connection, out);
        }
        self.answer_waiting_reads(now, connection, tree, out);
        self.let_go_on(connection, out);
    }

    fn answer_waiting_reads(
        &mut self,
        now: Time,
        connection: ConnectionId,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        while let Some((packet, arrived)) =
            self.connections.get_mut(&connection).and_then(|c| c.take_read())
        {
            self.answer_read(now, connection, &packet, arrived, tree, out);
        }
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
        let write = self.connections.get_mut(&connection).and_then(|c| c.take_write(id));
        if let Some(PendingWrite { header, .. }) = write.as_deref() {
            self.reply_error(connection, *header, error as i32, tree, out);
        }
        self.pending.remove(&id);
        self.close(connection, out);
    }
}
