//! What is between clients and servers: connections that keep the order of what they carry, like TCP, and that end when
//! either side does.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{NodeId, Random, Time};
use quorate_sim::{Violation, World};
use quorate_zk::server::{ClientReply, ClientRequest, ConnectionId, Server};

use super::history::ClientId;

/// What comes out at a client's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Arrived {
    /// The connection to this server is made.
    Made(NodeId),
    /// A packet, without its length.
    Packet(Bytes),
    /// The connection is gone.
    Gone,
    /// A pause is over: a connection is wanted.
    Wanted,
}

/// Something on its way.
enum Carried {
    /// To a client. One of an older connection is not delivered.
    ToClient { client: ClientId, connection: Option<ConnectionId>, what: Arrived },
    /// The first packet that waits at the client's end reaches the server.
    ToServer { connection: ConnectionId },
    /// The server learns that the client took everything.
    Taken { connection: ConnectionId },
}

struct Cable {
    client: ClientId,
    server: NodeId,
    /// The server's life when the connection was made.
    life: u64,
    /// Opened, packets, closed: what the server has not got yet, in order.
    up: VecDeque<ClientRequest>,
    /// When the newest thing on its way arrives: nothing overtakes it.
    up_at: Time,
    down_at: Time,
}

/// All connections.
pub(super) struct Cables {
    random: Random,
    cables: BTreeMap<ConnectionId, Cable>,
    current: BTreeMap<ClientId, ConnectionId>,
    events: BTreeMap<(Time, u64), Carried>,
    scheduled: u64,
    next: u64,
}

/// A server that is stopped takes nothing: its kernel keeps it.
const STOPPED_RETRY: Duration = Duration::from_millis(10);

impl Cables {
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            cables: BTreeMap::new(),
            current: BTreeMap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            next: 1,
        }
    }

    /// When the next thing arrives somewhere.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    fn schedule(&mut self, at: Time, what: Carried) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), what);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.random.between(50, 1_500))
    }

    /// A client wants a connection, after a pause.
    pub(super) fn want(&mut self, now: Time, client: ClientId) {
        let at = now + Duration::from_millis(self.random.between(5, 200));
        let what = Arrived::Wanted;
        self.schedule(at, Carried::ToClient { client, connection: None, what });
    }

    /// Makes a connection to a server, if it is up.
    pub(super) fn connect(&mut self, world: &World<Server>, client: ClientId) {
        let now = world.now();
        let ids = world.ids();
        let server = ids[self.random.below(ids.len() as u64) as usize];
        if !world.is_up(server) {
            return self.want(now, client);
        }
        let connection = ConnectionId(self.next);
        self.next += 1;
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&self.random.next_u64().to_be_bytes());
        let (peer, port, certificate) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 4_000, None);
        let life = world.life(server);
        let up = VecDeque::new();
        let cable = Cable { client, server, life, up, up_at: now, down_at: now };
        self.cables.insert(connection, cable);
        self.current.insert(client, connection);
        self.carry_up(
            now,
            connection,
            ClientRequest::Opened { connection, peer, port, certificate, secret },
        );
        self.carry_down(now, connection, Arrived::Made(server));
    }

    /// A client sends a packet.
    pub(super) fn send(&mut self, now: Time, client: ClientId, packet: Bytes) {
        if let Some(connection) = self.current.get(&client).copied() {
            self.carry_up(now, connection, ClientRequest::Packet { connection, packet });
        }
    }

    /// A client closes its connection; what was on its way to it is lost.
    pub(super) fn hang_up(&mut self, now: Time, client: ClientId) {
        if let Some(connection) = self.current.remove(&client) {
            self.carry_up(now, connection, ClientRequest::Closed { connection });
        }
    }

    fn carry_up(&mut self, now: Time, connection: ConnectionId, request: ClientRequest) {
        let delay = self.delay();
        let Some(cable) = self.cables.get_mut(&connection) else { return };
        cable.up.push_back(request);
        cable.up_at = cable.up_at.max(now + delay);
        let at = cable.up_at;
        self.schedule(at, Carried::ToServer { connection });
    }

    fn carry_down(&mut self, now: Time, connection: ConnectionId, what: Arrived) {
        let delay = self.delay();
        let Some(cable) = self.cables.get_mut(&connection) else { return };
        cable.down_at = cable.down_at.max(now + delay);
        let (at, client) = (cable.down_at, cable.client);
        self.schedule(at, Carried::ToClient { client, connection: Some(connection), what });
    }

    /// A server tells its clients something.
    pub(super) fn reply(&mut self, now: Time, reply: ClientReply) {
        match reply {
            ClientReply::Write { connection, bytes } => {
                for packet in packets(&bytes) {
                    self.carry_down(now, connection, Arrived::Packet(packet));
                }
            }
            ClientReply::TellWhenOut { connection } => {
                let at = now + self.delay();
                self.schedule(at, Carried::Taken { connection });
            }
            ClientReply::Close { connection } => self.carry_down(now, connection, Arrived::Gone),
            ClientReply::Pause { .. }
            | ClientReply::Resume { .. }
            | ClientReply::Reconfigure { .. } => {}
        }
    }

    /// Servers may have died: the connections of their earlier lives are gone, and the clients' kernels say so.
    pub(super) fn notice_deaths(&mut self, world: &World<Server>) {
        let is_dead = |c: &Cable| !world.is_up(c.server) || world.life(c.server) != c.life;
        let dead: Vec<ConnectionId> =
            self.cables.iter().filter(|(_, c)| is_dead(c)).map(|(id, _)| *id).collect();
        for connection in dead {
            self.carry_down(world.now(), connection, Arrived::Gone);
            self.cables.remove(&connection);
        }
    }

    /// The next thing arrives. Returns what a client gets.
    pub(super) fn arrive(
        &mut self,
        world: &mut World<Server>,
    ) -> Result<Option<(ClientId, Arrived)>, Violation> {
        let Some((_, carried)) = self.events.pop_first() else { return Ok(None) };
        match carried {
            Carried::ToClient { client, connection, what } => {
                Ok(self.reaches_client(client, connection, &what).then_some((client, what)))
            }
            Carried::Taken { connection } => {
                if let Some(cable) = self.cables.get(&connection) {
                    world.request(cable.server, ClientRequest::Out { connection })?;
                }
                Ok(None)
            }
            Carried::ToServer { connection } => {
                self.reaches_server(world, connection)?;
                Ok(None)
            }
        }
    }

    fn reaches_client(
        &mut self,
        client: ClientId,
        connection: Option<ConnectionId>,
        what: &Arrived,
    ) -> bool {
        let current = self.current.get(&client).copied();
        if connection.is_some() && connection != current {
            return false;
        }
        if *what == Arrived::Gone {
            self.current.remove(&client);
        }
        *what != Arrived::Wanted || current.is_none()
    }

    fn reaches_server(
        &mut self,
        world: &mut World<Server>,
        connection: ConnectionId,
    ) -> Result<(), Violation> {
        let Some(cable) = self.cables.get_mut(&connection) else { return Ok(()) };
        let Some(request) = cable.up.front().cloned() else { return Ok(()) };
        let last = matches!(request, ClientRequest::Closed { .. });
        if !world.request(cable.server, request)? {
            let at = world.now() + STOPPED_RETRY;
            self.schedule(at, Carried::ToServer { connection });
            return Ok(());
        }
        cable.up.pop_front();
        if last {
            self.cables.remove(&connection);
        }
        Ok(())
    }
}

/// Cuts bytes into packets, without their lengths.
fn packets(bytes: &Bytes) -> Vec<Bytes> {
    let mut packets = Vec::new();
    let mut rest = bytes.clone();
    while let Some(head) = rest.first_chunk::<4>() {
        let end = 4 + u32::from_be_bytes(*head) as usize;
        packets.push(rest.slice(4..end));
        rest = rest.slice(end..);
    }
    packets
}
