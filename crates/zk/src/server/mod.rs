//! What one server does for the ZooKeeper clients connected to it.
//!
//! | file | what it does |
//! | --- | --- |
//! | `connection` | what is known of one connection, and the requests that wait on it |
//! | `handshake` | sessions are created and attached |
//! | `requests` | a packet becomes a proposal, a read or an answer |
//! | `applied` | outcomes become replies, events become notifications |
//! | `reads` | answers from the local tree |
//! | `no_room` | what is refused while the leader's disk is full |
//! | `reconfig` | clients change the servers, by way of the driver |
//! | `read_only` | what is left for clients while there is no quorum |
//! | `watches` | who watches what |
//! | `liveness` | who is heard, and who has expired |
//! | `sasl` | how a client proves a password without sending it |
//! | `statistics` | what is counted |
//! | `four_letter` | administrators' commands |
//! | `words` | which of these are open to whom |
//! | `monitor` | the word `mntr`: figures under the names that dashboards know |
//! | `views` | clients and watches, for people to look at |
//!
//! Writes of one connection are proposed at once, many in flight; reads wait only for the connection's own
//! earlier writes, and are answered from the state right after them. Replies leave in the order of the
//! requests, but for pings and auth, which clients know by their xids.
//!
//! Not here: sockets, frames, the log.

mod applied;
mod connection;
mod four_letter;
mod handshake;
mod liveness;
mod messages;
mod monitor;
mod no_room;
mod read_only;
mod reads;
mod reconfig;
mod requests;
mod sasl;
mod statistics;
mod views;
mod watches;
mod words;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    NodeId, Proposal, Refusal, RequestId, Service, ServiceInput, ServiceOutput, Time,
};

use crate::command::{Body, Command, ErrorCode, Identity, SessionId};
use crate::ensemble::{Reconfiguration, config_version};
use crate::tree::{CONFIG, Tree};
use crate::wire::framing::PACKET_BYTES_MAX;
use connection::{Connection, Stage};
pub use four_letter::HostFacts;
use liveness::Liveness;
pub use messages::ServerMessage;
pub use statistics::Statistics;
pub use views::{ClientView, WatchView};
use watches::Watches;
pub use words::{OpenWords, Word};

/// One connection of one client, numbered by the driver, never twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What the driver tells of its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientRequest {
    /// A client connected.
    Opened {
        /// The connection.
        connection: ConnectionId,
        /// The client's address.
        peer: IpAddr,
        /// The client's port.
        port: u16,
        /// Random bytes of the system's source: the password of a session that may be created.
        secret: [u8; 16],
        /// The subject of the certificate that the client proved to own, as RFC 2253 writes it.
        certificate: Option<String>,
    },
    /// A packet, without its length.
    Packet {
        /// The connection.
        connection: ConnectionId,
        /// The packet.
        packet: Bytes,
    },
    /// An administrator's command; the connection may be unknown to the service.
    FourLetterWord {
        /// The connection.
        connection: ConnectionId,
        /// The word.
        word: Word,
        /// An administrator asks by HTTP, not a client: all words are open.
        by_administrator: bool,
    },
    /// The connection is gone.
    Closed {
        /// The connection.
        connection: ConnectionId,
    },
    /// All that was written before the driver was asked ([`ClientReply::TellWhenOut`]) has left.
    Out {
        /// The connection.
        connection: ConnectionId,
    },
    /// What only the driver knows, told about every second.
    HostFacts(Box<HostFacts>),
    /// The replica has caught up with its cluster: clients may come. Told once, where some were let in before.
    Serving,
    /// There is another ensemble.
    Ensemble {
        /// What `/zookeeper/config` is to hold from now on.
        config: String,
    },
    /// What came of a [`ClientReply::Reconfigure`].
    Reconfigured {
        /// Its id.
        id: RequestId,
        /// The version of the configuration that it made.
        outcome: Result<i64, ErrorCode>,
    },
}

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientReply {
    /// Send these bytes, whole packets with their lengths.
    Write {
        /// The connection.
        connection: ConnectionId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Answer with [`ClientRequest::Out`] as soon as the client's socket has taken all that was written so far:
    /// until then, reads are kept. One question at a time.
    TellWhenOut {
        /// The connection.
        connection: ConnectionId,
    },
    /// Close it, after what was sent.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// Read nothing more from it until told so.
    Pause {
        /// The connection.
        connection: ConnectionId,
    },
    /// Read again.
    Resume {
        /// The connection.
        connection: ConnectionId,
    },
    /// Change the servers. Answered with [`ClientRequest::Reconfigured`], always.
    Reconfigure {
        /// Comes back.
        id: RequestId,
        /// What is wanted, by somebody who may.
        wanted: Reconfiguration,
    },
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This server.
    pub node: NodeId,
    /// Shortest session timeout that is granted, in milliseconds.
    pub session_timeout_min_ms: u32,
    /// Longest.
    pub session_timeout_max_ms: u32,
    /// `user:hash` of the superuser, if there is one.
    pub super_digest: Option<String>,
    /// Passwords by user, for SASL DIGEST-MD5; without any, SASL proves nothing.
    pub sasl_passwords: BTreeMap<String, String>,
    /// The user that is the superuser once it has proven itself by SASL, if there is one.
    pub sasl_super_user: Option<String>,
    /// The subject of the certificate whose owner is the superuser, if there is one.
    pub x509_super_user: Option<String>,
    /// The four-letter words that clients may ask.
    pub open_words: OpenWords,
    /// Connections from one address; 0 is no limit.
    pub connections_per_address_max: usize,
    /// Requests of one connection that may wait; beyond, nothing more is read from it.
    pub requests_in_flight_max: usize,
    /// Bytes that such requests may take, of one connection...
    pub bytes_in_flight_max: usize,
    /// ... and of all: beyond, nothing more is read from connections whose requests wait.
    pub bytes_in_flight_total_max: usize,
    /// Bytes written to a client that it has not taken, before its reads are kept until it does...
    pub unread_bytes_quiet: usize,
    /// ... and before it is given up.
    pub unread_bytes_max: usize,
    /// Answers to a client that lists something stay below this, in bytes, packet length included: whose buffer is smaller
    /// would lose its connection, ask again and lose it again. 0 is no limit.
    pub listing_bytes_max: usize,
    /// Bytes that the watches of one connection may take; beyond, a watch is refused.
    pub watch_bytes_max: usize,
    /// How often the leader looks for containers that are empty again, and for znodes whose time to live is over.
    pub reap_interval: Duration,
    /// What `/zookeeper/config` is to hold: a line for each server, as ZooKeeper writes them. Some clients connect
    /// to the addresses in it and to no others, so it stays empty where those may not be reachable.
    pub ensemble: String,
    /// The same for the word `conf`, also where it is not published.
    pub servers: String,
    /// Whether clients may change the servers (ZooKeeper's `reconfigEnabled`).
    pub reconfig_enabled: bool,
    /// Whether all reads are linearizable; else those of clients that ask for it (ZK-8).
    pub linearizable_reads: bool,
    /// Whether clients that ask for it may read what is here while there is no quorum.
    pub read_only_mode: bool,
    /// `key=value` lines for the word `conf`.
    pub conf: Vec<(String, String)>,
    /// Where request ids begin; the upper 32 bits are random.
    pub first_request: RequestId,
}

impl ServerConfig {
    /// ZooKeeper's defaults, with a tick of two seconds.
    pub fn new(node: NodeId, first_request: RequestId) -> Self {
        Self {
            node,
            session_timeout_min_ms: 4_000,
            session_timeout_max_ms: 40_000,
            super_digest: None,
            sasl_passwords: BTreeMap::new(),
            sasl_super_user: None,
            x509_super_user: None,
            open_words: OpenWords::default(),
            connections_per_address_max: 0,
            requests_in_flight_max: 1_000,
            bytes_in_flight_max: 4 << 20,
            bytes_in_flight_total_max: 256 << 20,
            unread_bytes_quiet: 1 << 20,
            unread_bytes_max: 16 << 20,
            listing_bytes_max: PACKET_BYTES_MAX,
            watch_bytes_max: 64 << 20,
            reap_interval: Duration::from_secs(60),
            ensemble: String::new(),
            servers: String::new(),
            reconfig_enabled: false,
            linearizable_reads: false,
            read_only_mode: false,
            conf: Vec::new(),
            first_request,
        }
    }
}

type Outputs = Vec<ServiceOutput<Server>>;

/// The service of one server.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Sessions attached here.
    sessions: BTreeMap<SessionId, ConnectionId>,
    /// Proposals whose outcome somebody waits for.
    pending: BTreeMap<RequestId, ConnectionId>,
    watches: Watches,
    liveness: Liveness,
    statistics: Statistics,
    host: HostFacts,
    next_request: RequestId,
    unix_ms: i64,
    leader: Option<NodeId>,
    /// Since when this server leads.
    leads_since: Option<Time>,
    /// Clients that have seen a newer state than there is here, by what they have seen.
    ahead: BTreeSet<(i64, ConnectionId)>,
    /// Connections from each address.
    per_address: BTreeMap<IpAddr, usize>,
    /// Bytes of all requests that wait.
    waiting_bytes: usize,
    /// When to look at what is overdue.
    tick_at: Time,
    /// When to look for znodes that go by themselves.
    reap_at: Time,
    /// When to propose again what `/zookeeper/config` is to hold.
    publish_at: Time,
    /// Barriers that linearizable reads wait for.
    barriers: BTreeMap<RequestId, ConnectionId>,
    /// Those of them that no leader answered: they are asked for again.
    refused_barriers: Vec<RequestId>,
    /// Reconfigs that the driver carries out.
    reconfiguring: BTreeMap<RequestId, ConnectionId>,
    /// How many members vote.
    voters: usize,
    /// How many members do not.
    observers: usize,
    /// The part of this server.
    part: Part,
    quorum: read_only::Quorum,
}

/// What a server is in its ensemble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Voter,
    Observer,
    /// It was removed, or not added yet: it has nothing to say to clients.
    Stranger,
}

/// How often a server looks at what is overdue.
const TICK: Duration = Duration::from_millis(250);
/// Proposals are made again after this silence, at first.
const PROPOSE_AGAIN: Duration = Duration::from_millis(1_000);
/// A refused proposal is made again after this, at first.
const PROBE_AGAIN: Duration = Duration::from_millis(200);
/// So many znodes that go by themselves are proposed to be removed at once.
const REAP_MAX: usize = 1_000;
/// A connection without a session ends after this.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// A connection whose session is elsewhere, or gone, ends after its timeout and this.
const SILENCE_MARGIN: Duration = Duration::from_secs(2);

impl Server {
    /// A server without clients.
    pub fn new(config: ServerConfig) -> Self {
        let quorum = read_only::Quorum::new(config.read_only_mode);
        Self {
            next_request: config.first_request,
            config,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            pending: BTreeMap::new(),
            watches: Watches::default(),
            liveness: Liveness::default(),
            statistics: Statistics::default(),
            host: HostFacts::default(),
            unix_ms: 0,
            leader: None,
            leads_since: None,
            ahead: BTreeSet::new(),
            per_address: BTreeMap::new(),
            waiting_bytes: 0,
            tick_at: Time::ZERO,
            reap_at: Time::ZERO,
            publish_at: Time::ZERO,
            barriers: BTreeMap::new(),
            refused_barriers: Vec::new(),
            reconfiguring: BTreeMap::new(),
            voters: 0,
            observers: 0,
            part: Part::Voter,
            quorum,
        }
    }

    /// What was counted so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How many watches are set here.
    pub fn watches(&self) -> usize {
        self.watches.len()
    }

    fn leads(&self) -> bool {
        self.leader == Some(self.config.node)
    }

    /// Makes a proposal of a command, under a new id.
    fn proposal<'a>(&mut self, body: impl FnOnce(RequestId) -> Body<'a>) -> Proposal {
        let id = self.next_request;
        self.next_request = id.next();
        let command = Command { unix_ms: self.unix_ms, body: body(id) };
        let proposal = Proposal::encode(self.config.node, id, |out| command.encode(out));
        self.statistics.proposals.add(proposal.len());
        proposal
    }

    /// Sends a packet. A client that takes nothing of what it is sent is given up before that grows without
    /// bound.
    fn write(&mut self, connection: ConnectionId, bytes: Bytes, out: &mut Outputs) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        self.statistics.sent += 1;
        known.statistics.sent += 1;
        // One reply may be larger than the limit, and is sent; nothing comes on top of it.
        if known.unread_bytes > self.config.unread_bytes_max {
            return self.close(connection, out);
        }
        known.unread_bytes += bytes.len();
        let unread = known.unread_bytes;
        out.push(ServiceOutput::Reply(ClientReply::Write { connection, bytes }));
        if unread > self.config.unread_bytes_quiet && known.asked_about.is_none() {
            known.asked_about = Some(unread);
            out.push(ServiceOutput::Reply(ClientReply::TellWhenOut { connection }));
        }
    }

    /// A client has taken what the driver was asked about: it is answered again.
    fn taken(&mut self, now: Time, connection: ConnectionId, tree: &Tree, out: &mut Outputs) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.unread_bytes -= known.asked_about.take().unwrap_or(0);
        known.heard = self.liveness.steady();
        if let Some(session) = known.session() {
            self.liveness.touched_here(session);
        }
        self.answer_waiting_reads(now, connection, tree, out);
        self.let_go_on(connection, out);
    }

    /// Closes a connection, after what was written to it.
    fn close(&mut self, connection: ConnectionId, out: &mut Outputs) {
        if self.connections.contains_key(&connection) {
            self.forget(connection);
            out.push(ServiceOutput::Reply(ClientReply::Close { connection }));
        }
    }

    /// A connection is gone: nobody waits for its replies, and its watches end with it. Its session
    /// lives on until it expires.
    fn forget(&mut self, connection: ConnectionId) {
        let Some(gone) = self.connections.remove(&connection) else { return };
        self.watches.forget(connection);
        self.waiting_bytes -= gone.waiting_bytes;
        if let Stage::Ahead { request, .. } = &gone.stage {
            self.ahead.remove(&(request.last_zxid_seen, connection));
        }
        if let Entry::Occupied(mut count) = self.per_address.entry(gone.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        for id in gone.proposals().map(Proposal::id) {
            self.pending.remove(&id);
        }
        for id in gone.barriers() {
            self.barriers.remove(&id);
        }
        if let Stage::Attached { session, .. } = gone.stage
            && self.sessions.get(&session) == Some(&connection)
        {
            self.sessions.remove(&session);
        }
    }

    fn close_all(&mut self, out: &mut Outputs) {
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        all.into_iter().for_each(|connection| self.close(connection, out));
    }

    /// There is a new leader, which may not know what was proposed: everything is proposed again, in order. What
    /// was applied already is recognised by its sequence number.
    fn propose_all_again(&mut self, now: Time, out: &mut Outputs) {
        for connection in self.connections.values_mut() {
            connection.forget_retries();
            out.extend(connection.propose_again(now).cloned().map(ServiceOutput::Propose));
        }
    }

    /// What nobody answered may be lost. Where a proposal was refused, the first one shows when the
    /// others may follow.
    fn propose_overdue_again(&mut self, now: Time, out: &mut Outputs) {
        for connection in self.connections.values_mut() {
            let patience = if connection.held { PROBE_AGAIN } else { PROPOSE_AGAIN };
            if !connection.is_overdue(now, patience) {
                continue;
            }
            connection.wait_longer();
            if connection.held {
                out.extend(connection.probe(now).cloned().map(ServiceOutput::Propose));
            } else {
                out.extend(connection.propose_again(now).cloned().map(ServiceOutput::Propose));
            }
        }
    }

    /// A proposal did not get into the log: those that would follow it wait, so that no gap arises (ZK-6).
    fn refused(
        &mut self,
        now: Time,
        id: RequestId,
        reason: Refusal,
        tree: &Tree,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.pending.get(&id).copied() else { return };
        if reason == Refusal::NoRoom {
            return self.no_room(now, connection, id, tree, out);
        }
        self.with(connection, |c| c.held = true);
    }

    /// Proposes to remove what goes by itself. What is left over has its turn with the next tick.
    fn reap(&mut self, now: Time, tree: &Tree, out: &mut Outputs) {
        if now < self.reap_at {
            return;
        }
        let reapable = tree.reapable(self.unix_ms, REAP_MAX);
        self.reap_at =
            now + if reapable.len() < REAP_MAX { self.config.reap_interval } else { TICK };
        for (path, czxid) in reapable {
            let proposal = self.proposal(|_| Body::Reap { path, czxid });
            out.push(ServiceOutput::Propose(proposal));
        }
    }

    fn publish(&mut self, now: Time, tree: &Tree, out: &mut Outputs) {
        let published = tree.znode(CONFIG).and_then(|znode| znode.data()).unwrap_or_default();
        let wanted = self.config.ensemble.as_bytes();
        let is_news =
            published != wanted && config_version(Some(published)) <= config_version(Some(wanted));
        if now >= self.publish_at && is_news {
            self.publish_at = now + PROPOSE_AGAIN;
            let config = self.config.ensemble.clone();
            let proposal = self.proposal(|_| Body::Publish { config: &config });
            out.push(ServiceOutput::Propose(proposal));
        }
    }

    /// Barriers that no leader answered are asked for again, as long as somebody waits for them.
    fn ask_barriers_again(&mut self, out: &mut Outputs) {
        let refused = std::mem::take(&mut self.refused_barriers).into_iter();
        let wanted = refused.filter(|id| self.barriers.contains_key(id));
        out.extend(wanted.map(|id| ServiceOutput::ReadBarrier { id }));
    }

    /// Who belongs to the ensemble. A server that does not has no clients.
    fn members_changed(&mut self, voters: &[NodeId], learners: &[NodeId], out: &mut Outputs) {
        (self.voters, self.observers) = (voters.len(), learners.len());
        let node = self.config.node;
        self.part = if voters.contains(&node) {
            Part::Voter
        } else if learners.contains(&node) {
            Part::Observer
        } else {
            Part::Stranger
        };
        if self.part == Part::Stranger {
            self.close_all(out);
        }
    }

    fn tick(&mut self, now: Time, tree: &Tree, out: &mut Outputs) {
        self.tick_at = now + TICK;
        self.liveness.advance(now);
        self.give_up_on_late_comers(now, out);
        self.report_touched(out);
        self.close_unsustained(now, out);
        self.close_silent(out);
        if self.leads() {
            self.expire_silent(tree, out);
            self.reap(now, tree, out);
            self.publish(now, tree, out);
        }
        if self.leader.is_some() {
            self.propose_overdue_again(now, out);
            self.ask_barriers_again(out);
        }
    }
}

impl Service for Server {
    type Machine = Tree;
    type Message = ServerMessage;
    type Request = ClientRequest;
    type Reply = ClientReply;

    fn is_vital(command: &[u8]) -> bool {
        no_room::is_vital(command)
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        Some((self.tick_at, "who has gone silent?"))
    }

    fn step(&mut self, now: Time, input: ServiceInput<'_, Self>, tree: &Tree, out: &mut Outputs) {
        match input {
            ServiceInput::Wake if self.tick_at <= now => self.tick(now, tree, out),
            ServiceInput::Wake => {}
            ServiceInput::WallClock { unix_ms } => self.unix_ms = unix_ms,
            ServiceInput::Requested(request) => self.requested(now, request, tree, out),
            ServiceInput::Applied { id, outcome, events, .. } => {
                self.tell_events(events, tree, out);
                self.applied(now, id, outcome, tree, out);
                self.admit_late_comers(now, tree, out);
                self.answer_reconfigured(now, tree, out);
            }
            ServiceInput::Restored => {
                self.close_all(out);
                self.watch_over_sessions(tree);
            }
            ServiceInput::Refused { id, reason } => self.refused(now, id, reason, tree, out),
            ServiceInput::ReadReady { id } => self.read_ready(now, id, tree, out),
            ServiceInput::ReadRefused { id, .. } => self.refused_barriers.push(id),
            ServiceInput::Members { voters, learners, .. } => {
                self.members_changed(&voters, &learners, out);
            }
            ServiceInput::Leader { leader, .. } => self.leader_changed(now, leader, tree, out),
            ServiceInput::Received { from, message } => self.told(now, from, message, tree, out),
        }
    }
}

impl Server {
    fn requested(&mut self, now: Time, request: ClientRequest, tree: &Tree, out: &mut Outputs) {
        match request {
            ClientRequest::Opened { connection, peer, port, secret, certificate } => {
                let like = self.per_address.entry(peer).or_default();
                let limit = self.config.connections_per_address_max;
                if limit > 0 && *like >= limit || self.part == Part::Stranger {
                    out.push(ServiceOutput::Reply(ClientReply::Close { connection }));
                    return;
                }
                *like += 1;
                let mut opened = Connection::new(peer, port, secret, self.liveness.steady());
                let proven = certificate.map(|id| Identity { scheme: "x509".into(), id });
                let is_super = proven.is_some()
                    && proven.as_ref().map(|own| &own.id) == self.config.x509_super_user.as_ref();
                opened.identities.extend(proven);
                opened.identities.extend(is_super.then(Identity::superuser));
                opened.linearizable = self.config.linearizable_reads;
                self.connections.insert(connection, opened);
            }
            ClientRequest::Packet { connection, packet } => {
                self.packet(now, connection, packet, tree, out);
            }
            ClientRequest::FourLetterWord { connection, word, by_administrator } => {
                let answer = if by_administrator {
                    self.answer_word(now, word, tree)
                } else {
                    self.answer_client(now, word, tree)
                };
                let bytes = answer.into();
                self.statistics.sent += 1;
                out.push(ServiceOutput::Reply(ClientReply::Write { connection, bytes }));
                self.close(connection, out);
            }
            ClientRequest::Closed { connection } => self.forget(connection),
            ClientRequest::Out { connection } => self.taken(now, connection, tree, out),
            ClientRequest::HostFacts(facts) => self.host = *facts,
            ClientRequest::Serving => self.quorum.is_serving(),
            ClientRequest::Ensemble { config } => {
                (self.config.ensemble, self.publish_at) = (config, now);
                if self.leads() {
                    self.publish(now, tree, out);
                }
            }
            ClientRequest::Reconfigured { id, outcome } => {
                self.reconfigured(now, id, outcome, tree, out);
            }
        }
    }
}
