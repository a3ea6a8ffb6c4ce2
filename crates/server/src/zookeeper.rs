//! The coordination group's clients: between the service of `zk` and their sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use quorate_contracts::{NodeId, RequestId, Room, StateMachine};
use quorate_raft::Replica;
use quorate_roster::{Change, Edit, List, Member, NotChanged, Roster, RosterVersion};
use quorate_zk::command::ErrorCode;
use quorate_zk::ensemble::{EnsembleEdit, Reconfiguration, ServerLine, config_text};
use quorate_zk::server::{ClientReply, ClientRequest, ConnectionId, HostFacts, Server};
use tokio::sync::{Notify, oneshot};

use crate::admin::{GroupStatus, NodeStatus};
use crate::clients::Client;
use crate::dashboard::Looking;
use crate::disk::DiskGauge;
use crate::group::Front;
use crate::inbox::Door;
use crate::registry::{Enrolment, Goal};

/// What reaches the group from its clients and administrators.
pub(crate) enum Arrival {
    /// A client connected; its requests follow.
    Connected { connection: ConnectionId, client: Client },
    /// Something that a client asks.
    Request(ClientRequest),
    /// A four-letter word that an administrator asks by HTTP.
    Word { word: [u8; 4], answer: oneshot::Sender<String> },
}

/// Numbers of connections that are none: questions of administrators, from here on.
const QUESTIONS_FROM: u64 = 1 << 63;

/// The front of the coordination group.
pub(crate) struct ZooKeeper {
    door: Door<Arrival>,
    /// Rings once clients may come.
    serving: Rc<Notify>,
    enrolment: Enrolment,
    clients: BTreeMap<ConnectionId, Client>,
    /// Clients that were written to in this round.
    written: BTreeSet<ConnectionId>,
    questions: BTreeMap<ConnectionId, oneshot::Sender<String>>,
    next_question: u64,
    /// The node is about to stop: clients are not read from any more.
    draining: bool,
    disk: DiskGauge,
}

impl ZooKeeper {
    pub(crate) fn new(
        door: Door<Arrival>,
        serving: Rc<Notify>,
        enrolment: Enrolment,
        disk: DiskGauge,
    ) -> Self {
        Self {
            door,
            serving,
            enrolment,
            clients: BTreeMap::new(),
            written: BTreeSet::new(),
            questions: BTreeMap::new(),
            next_question: QUESTIONS_FROM,
            draining: false,
            disk,
        }
    }

    /// Notes who came and who went; what is left is for the service.
    fn arrived(&mut self, arrival: Arrival) -> Option<ClientRequest> {
        match arrival {
            Arrival::Connected { connection, client } => {
                self.clients.insert(connection, client);
                None
            }
            Arrival::Request(request) => {
                if let ClientRequest::Closed { connection } = &request {
                    self.end(*connection);
                }
                Some(request)
            }
            Arrival::Word { word, answer } => {
                let connection = ConnectionId(self.next_question);
                self.next_question += 1;
                self.questions.insert(connection, answer);
                Some(ClientRequest::FourLetterWord { connection, word, by_administrator: true })
            }
        }
    }

    fn end(&mut self, connection: ConnectionId) {
        if let Some(client) = self.clients.remove(&connection) {
            client.end();
        }
    }

    fn write(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(client) = self.clients.get(&connection) {
            client.push(bytes);
            self.written.insert(connection);
        } else if let Some(answer) = self.questions.remove(&connection) {
            let _ = answer.send(String::from_utf8_lossy(bytes).into_owned());
        }
    }

    fn tell_when_out(&self, connection: ConnectionId) {
        let door = self.door.clone();
        let tell = move || door.push(Arrival::Request(ClientRequest::Out { connection }));
        if let Some(client) = self.clients.get(&connection) {
            client.when_out(tell);
        }
    }

    /// Members belong to the node: it changes them, and tells.
    fn reconfigure(&self, id: RequestId, wanted: Reconfiguration) {
        let (door, enrolment) = (self.door.clone(), self.enrolment.clone());
        tokio::task::spawn_local(async move {
            let changed = enrolment.change(change(wanted), Goal::InForce).await;
            let outcome = changed.map(|roster| roster.version.0 as i64).map_err(error_code);
            door.push(Arrival::Request(ClientRequest::Reconfigured { id, outcome }));
        });
    }

    fn pause(&self, connection: ConnectionId, paused: bool) {
        if let Some(client) = self.clients.get(&connection) {
            client.pause(paused || self.draining);
        }
    }
}

impl Front<Server> for ZooKeeper {
    fn requests(&mut self) -> VecDeque<ClientRequest> {
        self.door.take().into_iter().filter_map(|arrival| self.arrived(arrival)).collect()
    }

    fn reply(&mut self, reply: ClientReply) {
        match reply {
            ClientReply::Write { connection, bytes } => self.write(connection, &bytes),
            ClientReply::TellWhenOut { connection } => self.tell_when_out(connection),
            ClientReply::Close { connection } => self.end(connection),
            ClientReply::Pause { connection } => self.pause(connection, true),
            ClientReply::Resume { connection } => self.pause(connection, false),
            ClientReply::Reconfigure { id, wanted } => self.reconfigure(id, wanted),
        }
    }

    fn flush(&mut self) {
        for connection in std::mem::take(&mut self.written) {
            if let Some(client) = self.clients.get(&connection) {
                client.flush();
            }
        }
    }

    fn open(&mut self) {
        self.door.push(Arrival::Request(ClientRequest::Serving));
        self.serving.notify_one();
    }

    fn members(&mut self, roster: &Roster) {
        let config = ensemble(roster);
        self.door.push(Arrival::Request(ClientRequest::Ensemble { config }));
    }

    fn facts(&self, replica: &Replica<Server>, uptime: Duration) -> Option<ClientRequest> {
        let voters = replica.raft().membership().voters.len();
        let room = replica.raft().room();
        Some(ClientRequest::HostFacts(Box::new(host_facts(uptime, voters, room, &self.disk))))
    }

    fn report(&self, replica: &Replica<Server>, status: &mut NodeStatus) {
        let group = replica.status();
        let (tree, service) = (replica.machine(), replica.service());
        status.serving = group.serving;
        status.zxid = format!("0x{:x}", tree.last_zxid().0);
        let snapshot = replica.raft().snapshot_index();
        status.snapshot_zxid = snapshot.map(|index| format!("0x{:x}", tree.zxid_at(index).0));
        status.sessions = tree.sessions().len();
        let counted = service.statistics();
        status.answers_us = counted.answers.counts().collect();
        status.packets_received = counted.received;
        status.packets_sent = counted.sent;
        status.outstanding = service.outstanding();
        status.ephemerals = tree.ephemerals();
        status.data_bytes = tree.data_bytes();
        status.connections = service.connections();
        status.watches = service.watches();
        status.znodes = tree.znodes();
        status.digest = format!("{:016x}", tree.digest());
        status.groups.push(GroupStatus::new("coordination", &group));
    }

    fn look(&self, replica: &Replica<Server>, looking: Looking) {
        looking.show(replica.machine(), replica.service());
    }

    fn drain(&mut self) {
        self.draining = true;
        self.clients.values().for_each(|client| client.pause(true));
    }

    fn is_busy(&self, replica: &Replica<Server>) -> bool {
        replica.service().outstanding() > 0 || self.clients.values().any(Client::is_waited_for)
    }
}

/// What is published of a member for ZooKeeper's clients stands under this name.
pub(crate) const PUBLISHED: &str = "zookeeper";

/// What `/zookeeper/config` is to hold. A member that publishes nothing for these clients is named without a port for
/// them.
pub(crate) fn ensemble(roster: &Roster) -> String {
    let line = |(id, member): (&NodeId, &Member)| {
        let published = member.published.get(PUBLISHED).map(|text| in_its_role(*id, member, text));
        let role = if member.votes { "participant" } else { "observer" };
        let bare = || {
            let election = election_port(&member.address);
            format!("{}:{election}:{role}", member.address)
        };
        (id.0, published.unwrap_or_else(bare))
    };
    let lines: Vec<(u64, String)> = roster.members.iter().map(line).collect();
    config_text(lines.iter().map(|(id, value)| (*id, &**value)), roster.version.0)
}

/// The text of a server with the part that it has by now, whatever it had when it was written.
fn in_its_role(id: NodeId, member: &Member, text: &str) -> String {
    match ServerLine::parse(&format!("server.{}={text}", id.0)) {
        Some(line) => ServerLine { observer: !member.votes, ..line }.value(),
        None => text.to_string(),
    }
}

/// Members have one port for everything, but Java clients refuse a line whose two ports are the same, and Curator then
/// follows no change of the ensemble: so the port beside it is named, at which nobody listens.
pub(crate) fn election_port(member: &str) -> u16 {
    let port = member.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    port.map_or(0, |port| port.checked_add(1).unwrap_or(port - 1))
}

/// What ZooKeeper's reconfig asks for, in the node's words.
fn change(wanted: Reconfiguration) -> Change {
    let edit = match wanted.edit {
        EnsembleEdit::Replace(lines) => Edit::Replace(list(lines)),
        EnsembleEdit::Merge { joining, leaving } => Edit::Merge {
            joining: list(joining),
            leaving: leaving.into_iter().map(NodeId).collect(),
        },
    };
    let from = wanted.from_version.map(|version| RosterVersion(version as u64));
    Change { from, edit }
}

fn list(lines: Vec<ServerLine>) -> List {
    let member = |line: ServerLine| {
        let published = BTreeMap::from([(PUBLISHED.to_string(), line.value())]);
        let address = format!("{}:{}", line.host, line.port);
        (NodeId(line.id), Member { votes: !line.observer, address, published })
    };
    lines.into_iter().map(member).collect()
}

fn error_code(reason: NotChanged) -> ErrorCode {
    match reason {
        NotChanged::OtherVersion => ErrorCode::BadVersion,
        NotChanged::Meaningless => ErrorCode::BadArguments,
        NotChanged::NoQuorum => ErrorCode::NewConfigNoQuorum,
        NotChanged::InProgress => ErrorCode::ReconfigInProgress,
        NotChanged::Unknown => ErrorCode::OperationTimeout,
    }
}

fn host_facts(uptime: Duration, voters: usize, room: Room, disk: &DiskGauge) -> HostFacts {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let environment = [
        ("host.name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ("os.name", rustix::system::uname().sysname().to_string_lossy().into_owned()),
        ("os.version", rustix::system::uname().release().to_string_lossy().into_owned()),
        ("os.arch", std::env::consts::ARCH.to_string()),
    ];
    HostFacts {
        uptime_ms: uptime.as_millis() as u64,
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        open_files_max: limit.unwrap_or(u64::MAX),
        environment: environment.map(|(key, value)| (key.to_string(), value)).into(),
        voters,
        room,
        log_bytes: disk.files(".log").bytes,
        snapshot_bytes: disk.files(".snap").bytes,
        fsyncs: disk.syncs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ZK-17: Java's QuorumServer wants two ports that differ.
    #[test]
    fn the_two_ports_of_a_server_line_differ() {
        let ports = ["10.0.0.1:7400", "[fd00::2]:65535"].map(election_port);
        assert_eq!(ports, [7401, 65534]);
    }

    /// ZK-18: whoever is promoted is told as a participant.
    #[test]
    fn a_server_is_published_in_its_role() {
        let line = ServerLine::parse("server.4=h4:1:2:observer;c4:3").expect("it reads");
        let mut members = list(vec![line]);
        members.entry(NodeId(4)).and_modify(|member| member.votes = true);
        let text = ensemble(&Roster { version: RosterVersion(1), members });
        assert_eq!(text, "server.4=h4:1:2:participant;c4:3\nversion=1");
    }

    /// ZK-18: what a client wrote of a server is what clients read of it, under the version of the list.
    #[test]
    fn a_server_is_published_as_it_was_given() {
        let lines = ["server.4=h4:1:2:observer;c4:3", "server.1=h1:1:2:participant;0.0.0.0:3"];
        let lines = lines.map(|line| ServerLine::parse(line).expect("it reads"));
        let mut members = list(lines.to_vec());
        members.insert(NodeId(7), Member { address: "h7:7400".into(), ..Member::default() });
        let roster = Roster { version: RosterVersion(0x2c), members };
        let text = "server.1=h1:1:2:participant;0.0.0.0:3\nserver.4=h4:1:2:observer;c4:3\n\
                    server.7=h7:7400:7401:observer\nversion=2c";
        assert_eq!(ensemble(&roster), text);
        assert_eq!(roster.observers(), [NodeId(4), NodeId(7)].into());
    }
}
