//! Clients and watches, for people to look at. Nothing here changes anything.

use std::net::IpAddr;
use std::time::Duration;

use super::statistics::operation_name;
use super::watches::Table;
use super::{ConnectionId, Server};
use crate::command::SessionId;

/// A client that is connected to this server.
#[derive(Clone, Debug)]
pub struct ClientView {
    /// Its address.
    pub peer: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its session, once it has one.
    pub session: Option<SessionId>,
    /// The session expires after this silence.
    pub timeout_ms: u32,
    /// How long nothing was heard of it.
    pub idle: Duration,
    /// Requests that are not answered yet.
    pub outstanding: usize,
    /// Packets that it sent.
    pub received: u64,
    /// Packets that it was sent.
    pub sent: u64,
    /// Watches that it has set here.
    pub watches: usize,
    /// What it asked last, in the four letters of the word `cons`.
    pub last_operation: &'static str,
    /// How long it waited for its answers on average, in milliseconds.
    pub mean_latency_ms: f64,
}

/// A watch on a path.
#[derive(Clone, Copy, Debug)]
pub struct WatchView {
    /// `data`, `children`, `persistent` or `recursive`.
    pub kind: &'static str,
    /// Whose it is, if the client has a session.
    pub session: Option<SessionId>,
}

impl Server {
    /// The clients that are connected here, in the order in which they came.
    pub fn clients_view(&self) -> impl Iterator<Item = ClientView> {
        self.connections.keys().filter_map(|connection| self.client_view(*connection))
    }

    /// Who on this server watches a path itself.
    pub fn watches_at(&self, path: &str) -> impl Iterator<Item = WatchView> {
        self.watches.at(path).map(|(table, connection)| WatchView {
            kind: kind(table),
            session: self.connections.get(&connection).and_then(|known| known.session()),
        })
    }

    fn client_view(&self, connection: ConnectionId) -> Option<ClientView> {
        let known = self.connections.get(&connection)?;
        let counted = &known.statistics;
        Some(ClientView {
            peer: known.peer,
            port: known.port,
            session: known.session(),
            timeout_ms: known.timeout_ms,
            idle: self.liveness.steady().since(known.heard),
            outstanding: known.waiting(),
            received: counted.received,
            sent: counted.sent,
            watches: self.watches.count_of(connection),
            last_operation: counted.last.map_or("NA", |last| operation_name(last.header.opcode)),
            mean_latency_ms: counted.latencies.mean_ms(),
        })
    }
}

fn kind(table: Table) -> &'static str {
    match table {
        Table::Data => "data",
        Table::Child => "children",
        Table::Persistent => "persistent",
        Table::Recursive => "recursive",
    }
}
