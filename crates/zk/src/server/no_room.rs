//! What clients are told while the leader's disk is full.
//!
//! A write is refused at once, with `THROTTLEDOP` (-127, "the operation was throttled and not executed at all"): nothing
//! happened, the session goes on, and it may be tried again later. Reads go on, and so does everything that clients need to
//! go on reading: sessions are made, moved, closed and expired as long as the leader has a little room left for that.
//!
//! A write that had left for the leader when the disk filled up may be in a log, or not. It waits a moment; if there is no
//! room by then its connection is closed, which clients take for what it is: an unknown outcome.
//!
//! A server whose own disk is down to its reserve takes no entries: what is decided elsewhere does not reach it. It goes on
//! answering reads of the sessions that it has, from what it has. A session that begins or moves here would wait for ever
//! to be let in, so its connection is closed at once, and the client tries another server.

use std::time::Duration;

use quorate_contracts::{RequestId, Room, Time};

use super::{ConnectionId, Outputs, Server};
use crate::command::{Body, Command, ErrorCode, Op};
use crate::tree::Tree;

/// How long a write of unknown outcome waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether clients need this command to go on reading.
pub(super) fn is_vital(command: &[u8]) -> bool {
    matches!(
        Command::decode(command).map(|command| command.body),
        Ok(Body::CreateSession { .. }
            | Body::Attach { .. }
            | Body::Expire { .. }
            | Body::Write { op: Op::CloseSession, .. })
    )
}

impl Server {
    /// Whether nothing that is decided reaches this server, so that nobody new may come.
    pub(super) fn is_on_reserve(&self) -> bool {
        self.host.room == Room::Reserve
    }

    /// There is no room for a proposal, which was refused right here.
    pub(super) fn no_room(
        &mut self,
        now: Time,
        connection: ConnectionId,
        id: RequestId,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        if let Some(write) = self.take_waiting(connection, |known| known.take_back(id)) {
            self.pending.remove(&id);
            self.account(now, connection, write.header, write.arrived, tree);
            let error = ErrorCode::Throttled as i32;
            return self.reply_error(connection, write.header, error, tree, out);
        }
        let since = self.connections.get(&connection).and_then(|known| known.waits_since());
        if since.is_some_and(|since| since + PATIENCE <= now) {
            return self.close(connection, out);
        }
        self.with(connection, |c| c.held = true);
    }
}
