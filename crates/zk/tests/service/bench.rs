//! Servers, one replicated tree, and clients that speak bytes. The log between them is a list: a test decides
//! when what was proposed is applied, and what is lost.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use quorate_contracts::{
    EntryId, LogIndex, NodeId, Proposal, Refusal, RequestId, Service, ServiceInput, ServiceOutput,
    StateMachine, Term, Time,
};
use quorate_zk::command::{Body, Command, ErrorCode, Op, Stat, Zxid};
use quorate_zk::ensemble::Reconfiguration;
use quorate_zk::server::{
    ClientReply, ClientRequest, ConnectionId, Server, ServerConfig, ServerMessage,
};
use quorate_zk::tree::Tree;
use quorate_zk::wire::framing::{Frame, Framer};
use quorate_zk::wire::{
    ConnectRequest, ConnectResponse, JuteReader, JuteWriter, ReplyHeader, opcode,
};

/// A cluster without Raft.
pub(crate) struct Bench {
    servers: Vec<Site>,
    /// What was proposed and is not in the log yet.
    pub(crate) proposed: Vec<Proposal>,
    log: Vec<Proposal>,
    messages: Vec<(NodeId, NodeId, ServerMessage)>,
    pub(crate) now: Time,
    next_connection: u64,
    replies: BTreeMap<ConnectionId, Vec<u8>>,
    closed: Vec<ConnectionId>,
    paused: Vec<ConnectionId>,
    /// Clients that do not take what they are sent.
    stalled: Vec<ConnectionId>,
    /// Whose taking was asked about.
    asked: Vec<(usize, ConnectionId)>,
    /// Barriers that were asked for, and where.
    pub(crate) barriers: Vec<(usize, RequestId)>,
    /// Reconfigs for the driver to carry out, and whose.
    pub(crate) reconfigures: Vec<(usize, RequestId, Reconfiguration)>,
    /// Nothing gets into the log.
    pub(crate) keep_proposals: bool,
    /// Writes of clients do not get into the log.
    pub(crate) lossy: bool,
}

/// One server: its own copy of the tree.
struct Site {
    server: Server,
    tree: Tree,
    applied: usize,
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) connection: ConnectionId,
    pub(crate) server: usize,
}

/// What a client reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// xid, error, and the record.
    Reply(i32, i32, Bytes),
    /// Kind and path of an event.
    Event(i32, String),
}

impl Bench {
    /// Servers 0, 1, ... of which number 0 leads.
    pub(crate) fn new(servers: u64) -> Self {
        Self::without_leader(servers).led()
    }

    fn led(mut self) -> Self {
        self.elect(0, 1);
        self.settle();
        self
    }

    /// Servers with some settings of their own, of which number 0 leads.
    pub(crate) fn configured(servers: u64, change: impl Fn(&mut ServerConfig)) -> Self {
        Self::leaderless(servers, change).led()
    }

    /// The same without a leader.
    pub(crate) fn configured_without_leader(
        servers: u64,
        change: impl Fn(&mut ServerConfig),
    ) -> Self {
        Self::leaderless(servers, change)
    }

    /// Servers of which none leads.
    pub(crate) fn without_leader(servers: u64) -> Self {
        Self::leaderless(servers, |_| {})
    }

    fn leaderless(servers: u64, change: impl Fn(&mut ServerConfig)) -> Self {
        let site = |id: u64| {
            let first = RequestId(id << 32);
            let mut config = ServerConfig::new(NodeId(id + 1), first);
            config.requests_in_flight_max = 10;
            config.bytes_in_flight_max = 100_000;
            config.watch_bytes_max = 10_000;
            change(&mut config);
            config.unread_bytes_quiet = 20_000;
            config.unread_bytes_max = 200_000;
            config.super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_string());
            Site { server: Server::new(config), tree: Tree::new(), applied: 0 }
        };
        Self {
            servers: (0..servers).map(site).collect(),
            proposed: Vec::new(),
            log: Vec::new(),
            messages: Vec::new(),
            now: Time::from_millis(1_000),
            next_connection: 1,
            replies: BTreeMap::new(),
            closed: Vec::new(),
            paused: Vec::new(),
            stalled: Vec::new(),
            asked: Vec::new(),
            barriers: Vec::new(),
            reconfigures: Vec::new(),
            keep_proposals: false,
            lossy: false,
        }
    }

    /// Everybody learns of a leader.
    pub(crate) fn elect(&mut self, leader: u64, term: u64) {
        for at in 0..self.servers.len() {
            let leader = Some(NodeId(leader + 1));
            self.step(at, ServiceInput::Leader { leader, term: Term(term) });
        }
    }

    /// The oldest barrier is passed, or refused.
    pub(crate) fn end_barrier(&mut self, passed: bool) {
        let (at, id) = self.barriers.remove(0);
        let reason = Refusal::NoLeader;
        self.step(
            at,
            if passed {
                ServiceInput::ReadReady { id }
            } else {
                ServiceInput::ReadRefused { id, reason }
            },
        );
    }

    /// The oldest reconfig comes to nothing.
    pub(crate) fn end_reconfig(&mut self) {
        if !self.reconfigures.is_empty() {
            let (at, id, _) = self.reconfigures.remove(0);
            let outcome = Err(ErrorCode::ReconfigInProgress);
            self.tell(at, ClientRequest::Reconfigured { id, outcome });
        }
    }

    /// The members are these from now on, by their ids.
    pub(crate) fn members(&mut self, voters: &[u64], learners: &[u64]) {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        for at in 0..self.servers.len() {
            let (voters, learners) = (ids(voters), ids(learners));
            self.step(at, ServiceInput::Members { since: LogIndex(1), voters, learners });
        }
    }

    /// The driver tells a server something.
    pub(crate) fn tell(&mut self, at: usize, request: ClientRequest) {
        self.step(at, ServiceInput::Requested(request));
    }

    pub(crate) fn step(&mut self, at: usize, input: ServiceInput<'_, Server>) {
        let mut out = Vec::new();
        let site = &mut self.servers[at];
        site.server.step(self.now, input, &site.tree, &mut out);
        for output in out {
            match output {
                ServiceOutput::ReadBarrier { id } => self.barriers.push((at, id)),
                ServiceOutput::Reply(ClientReply::Reconfigure { id, wanted }) => {
                    self.reconfigures.push((at, id, wanted));
                }
                ServiceOutput::Propose(proposal) => self.proposed.push(proposal),
                ServiceOutput::Tell { to, message } => {
                    self.messages.push((NodeId(at as u64 + 1), to, message));
                }
                ServiceOutput::Reply(ClientReply::Write { connection, bytes }) => {
                    self.replies.entry(connection).or_default().extend_from_slice(&bytes);
                }
                ServiceOutput::Reply(ClientReply::TellWhenOut { connection }) => {
                    self.asked.push((at, connection));
                }
                ServiceOutput::Reply(ClientReply::Close { connection }) => {
                    self.closed.push(connection)
                }
                ServiceOutput::Reply(ClientReply::Pause { connection }) => {
                    self.paused.push(connection)
                }
                ServiceOutput::Reply(ClientReply::Resume { connection }) => {
                    self.paused.retain(|paused| *paused != connection);
                }
            }
        }
    }

    /// What was proposed is in the log.
    pub(crate) fn commit(&mut self) {
        if self.keep_proposals {
            return;
        }
        let is_write = |proposal: &Proposal| {
            let command = Command::decode(proposal.command()).expect("it is a command");
            matches!(command.body, Body::Write { .. })
        };
        let lossy = self.lossy;
        self.log.extend(self.proposed.drain(..).filter(|proposal| !(lossy && is_write(proposal))));
    }

    /// The leader does not take a proposal, and says so.
    pub(crate) fn refuse(&mut self, nth: usize) {
        self.refuse_for(nth, Refusal::Busy);
    }

    /// ... for this reason.
    pub(crate) fn refuse_for(&mut self, nth: usize, reason: Refusal) {
        let proposal = self.proposed.remove(nth);
        let id = proposal.id();
        self.step(proposal.origin().0 as usize - 1, ServiceInput::Refused { id, reason });
    }

    /// The client takes nothing of what it is sent, or takes it again.
    pub(crate) fn stall(&mut self, client: Client, stalled: bool) {
        self.stalled.retain(|connection| *connection != client.connection);
        self.stalled.extend(stalled.then_some(client.connection));
    }

    /// Clients take what they were sent; returns whether somebody was asked about.
    fn take_all(&mut self) -> bool {
        let (kept, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut self.asked)
            .into_iter()
            .partition(|(_, connection)| self.stalled.contains(connection));
        self.asked = kept;
        for (at, connection) in &asked {
            let out = ClientRequest::Out { connection: *connection };
            self.step(*at, ServiceInput::Requested(out));
        }
        !asked.is_empty()
    }

    /// Bytes that wait for a client.
    pub(crate) fn unread(&self, client: Client) -> usize {
        self.replies.get(&client.connection).map_or(0, Vec::len)
    }

    /// A server applies what is in the log.
    pub(crate) fn apply(&mut self, at: usize) {
        while let Some(proposal) = self.log.get(self.servers[at].applied).cloned() {
            let site = &mut self.servers[at];
            site.applied += 1;
            let index = LogIndex(site.applied as u64);
            let mut events = Vec::new();
            let outcome = site.tree.apply(index, proposal.command(), &mut events);
            let own = proposal.origin() == NodeId(at as u64 + 1);
            let (at_entry, id) = (EntryId::new(index, Term(1)), own.then(|| proposal.id()));
            self.step(at, ServiceInput::Applied { at: at_entry, id, outcome, events: &events });
        }
    }

    /// Everything proposed is committed and applied everywhere, messages arrive, until all is quiet.
    pub(crate) fn settle(&mut self) {
        while (!self.proposed.is_empty() && !self.keep_proposals)
            || !self.messages.is_empty()
            || self.take_all()
        {
            self.commit();
            (0..self.servers.len()).for_each(|at| self.apply(at));
            for (from, to, message) in std::mem::take(&mut self.messages) {
                self.step(to.0 as usize - 1, ServiceInput::Received { from, message });
            }
        }
    }

    /// Time passes for everybody, a quarter of a second at a time.
    pub(crate) fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 250 {
            self.now += std::time::Duration::from_millis(250);
            let unix_ms = (self.now.as_nanos() / 1_000_000) as i64;
            for at in 0..self.servers.len() {
                self.step(at, ServiceInput::WallClock { unix_ms });
                self.step(at, ServiceInput::Wake);
            }
            self.settle();
        }
    }

    pub(crate) fn tree(&self, at: usize) -> &Tree {
        &self.servers[at].tree
    }

    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.closed.contains(&client.connection)
    }

    pub(crate) fn is_paused(&self, client: Client) -> bool {
        self.paused.contains(&client.connection)
    }

    /// A connection that says nothing yet.
    pub(crate) fn open(&mut self, server: usize) -> Client {
        self.open_as(server, None)
    }

    /// A client that proved to own a certificate with this subject, and has a session.
    pub(crate) fn client_with_certificate(&mut self, server: usize, subject: &str) -> Client {
        let client = self.open_as(server, Some(subject.to_string()));
        let request =
            ConnectRequest { timeout_ms: 6_000, password: vec![0; 16], ..Default::default() };
        self.join(client, &request).expect("a session is created");
        client
    }

    fn open_as(&mut self, server: usize, certificate: Option<String>) -> Client {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let (peer, port) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 4_000);
        let secret = [self.next_connection as u8; 16];
        let opened = ClientRequest::Opened { connection, peer, port, secret, certificate };
        self.step(server, ServiceInput::Requested(opened));
        Client { connection, server }
    }

    /// The client hangs up.
    pub(crate) fn hang_up(&mut self, client: Client) {
        let closed = ClientRequest::Closed { connection: client.connection };
        self.step(client.server, ServiceInput::Requested(closed));
    }

    /// The client sends a packet.
    pub(crate) fn send(&mut self, client: Client, packet: impl Into<Bytes>) {
        let connection = client.connection;
        let request = ClientRequest::Packet { connection, packet: packet.into() };
        self.step(client.server, ServiceInput::Requested(request));
    }

    pub(crate) fn word(&mut self, server: usize, word: [u8; 4]) -> String {
        self.ask_word(server, word, false)
    }

    /// The same, as an administrator asks it.
    pub(crate) fn administrators_word(&mut self, server: usize, word: [u8; 4]) -> String {
        self.ask_word(server, word, true)
    }

    fn ask_word(&mut self, server: usize, word: [u8; 4], by_administrator: bool) -> String {
        let client = self.open(server);
        let connection = client.connection;
        self.step(
            server,
            ServiceInput::Requested(ClientRequest::FourLetterWord {
                connection,
                word,
                by_administrator,
            }),
        );
        assert!(self.is_closed(client), "the connection ends with the answer");
        String::from_utf8(self.replies.remove(&connection).unwrap_or_default()).expect("it is text")
    }

    /// The handshake, to its answer.
    pub(crate) fn join(
        &mut self,
        client: Client,
        request: &ConnectRequest,
    ) -> Option<ConnectResponse> {
        self.send(client, request.encode().slice(4..));
        self.settle();
        let bytes = self.replies.remove(&client.connection)?;
        ConnectResponse::decode(&bytes[4..]).ok()
    }

    /// A client with a new session.
    pub(crate) fn client(&mut self, server: usize) -> (Client, ConnectResponse) {
        let client = self.open(server);
        let request =
            ConnectRequest { timeout_ms: 6_000, password: vec![0; 16], ..Default::default() };
        let response = self.join(client, &request).expect("a session is created");
        (client, response)
    }

    /// A request whose record `body` writes.
    pub(crate) fn ask(
        &mut self,
        client: Client,
        xid: i32,
        opcode: i32,
        body: impl FnOnce(&mut JuteWriter),
    ) {
        let mut out = JuteWriter::with_capacity(64);
        out.int(xid);
        out.int(opcode);
        body(&mut out);
        self.send(client, out.finish().slice(4..));
    }

    /// The client proves to be `user:password`.
    pub(crate) fn auth(&mut self, client: Client, user_and_password: &str) {
        self.ask(client, -4, opcode::AUTH, |out| {
            out.int(0);
            out.str("digest");
            out.buffer(Some(user_and_password.as_bytes()));
        });
        assert_eq!(self.story(client), ["-4 ok"]);
    }

    pub(crate) fn write(&mut self, client: Client, xid: i32, opcode: i32, op: &Op<'_>) {
        self.ask(client, xid, opcode, |out| op.encode_request(out));
    }

    /// A multi of operations with their opcodes.
    pub(crate) fn multi(&mut self, client: Client, xid: i32, ops: &[(i32, &Op<'_>)]) {
        self.ask(client, xid, opcode::MULTI, |out| {
            for (opcode, op) in ops {
                out.int(*opcode);
                out.bool(false);
                out.int(-1);
                op.encode_request(out);
            }
            out.int(-1);
            out.bool(true);
            out.int(-1);
        });
    }

    /// The errors of a failed multi, one for each operation.
    pub(crate) fn multi_errors(&mut self, client: Client) -> Vec<i32> {
        let heard = self.heard(client);
        let [Heard::Reply(_, 0, record)] = &heard[..] else { panic!("{heard:?}") };
        let mut reader = JuteReader::new(record);
        let mut errors = Vec::new();
        loop {
            let (kind, done) = (reader.int().expect("kind"), reader.bool().expect("done"));
            assert_eq!((kind, reader.int().is_ok()), (-1, true), "an error, or the end");
            if done {
                return errors;
            }
            errors.push(reader.int().expect("error"));
        }
    }

    pub(crate) fn set(&mut self, client: Client, xid: i32, path: &str, data: &str) {
        let op = Op::SetData { path, data: Some(data.as_bytes()), version: -1 };
        self.write(client, xid, opcode::SET_DATA, &op);
    }

    pub(crate) fn read(&mut self, client: Client, xid: i32, opcode: i32, path: &str, watch: bool) {
        self.ask(client, xid, opcode, |out| {
            out.str(path);
            out.bool(watch);
        });
    }

    /// What the client has read since the last time, in order.
    pub(crate) fn heard(&mut self, client: Client) -> Vec<Heard> {
        let bytes = self.replies.remove(&client.connection).unwrap_or_default();
        let mut input = BytesMut::from(&bytes[..]);
        let mut framer = Framer::new(1 << 20);
        let mut heard = Vec::new();
        while let Some(Frame::Packet(packet)) =
            framer.next(&mut input).expect("servers send packets")
        {
            let mut reader = JuteReader::new(&packet);
            let header = ReplyHeader::decode(&mut reader).expect("every reply has a header");
            heard.push(if header.xid == -1 {
                let (kind, _) = (reader.int().expect("kind"), reader.int().expect("state"));
                Heard::Event(kind, reader.str().expect("path").to_string())
            } else {
                Heard::Reply(header.xid, header.error, packet.slice(16..))
            });
        }
        heard
    }

    /// xid and error of each reply; `kind path` of each event.
    pub(crate) fn story(&mut self, client: Client) -> Vec<String> {
        let tell = |heard| match heard {
            Heard::Reply(xid, 0, _) => format!("{xid} ok"),
            Heard::Reply(xid, error, _) => format!("{xid} error {error}"),
            Heard::Event(kind, path) => format!("event {kind} {path}"),
        };
        self.heard(client).into_iter().map(tell).collect()
    }
}

/// Data and Stat of a getData's answer.
pub(crate) fn data_of(heard: &Heard) -> (String, Stat) {
    let Heard::Reply(_, 0, record) = heard else { panic!("{heard:?}") };
    let mut reader = JuteReader::new(record);
    let data = reader.buffer().expect("data").unwrap_or_default();
    (String::from_utf8_lossy(data).into_owned(), reader.stat().expect("stat"))
}

/// The zxid that a session asks a server to have reached.
pub(crate) fn beyond(zxid: Zxid) -> i64 {
    zxid.0 + 1
}
