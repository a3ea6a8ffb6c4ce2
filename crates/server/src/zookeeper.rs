//! The coordination group's clients: between the service of `zk` and their sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use quorate_contracts::StateMachine;
use quorate_raft::Replica;
use quorate_zk::server::{ClientReply, ClientRequest, ConnectionId, HostFacts, Server};
use tokio::sync::{Notify, oneshot};

use crate::admin::{GroupStatus, NodeStatus};
use crate::clients::Client;
use crate::dashboard::Looking;
use crate::group::Front;
use crate::inbox::Door;

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
    clients: BTreeMap<ConnectionId, Client>,
    /// Clients that were written to in this round.
    written: BTreeSet<ConnectionId>,
    questions: BTreeMap<ConnectionId, oneshot::Sender<String>>,
    next_question: u64,
    /// The node is about to stop: clients are not read from any more.
    draining: bool,
}

impl ZooKeeper {
    pub(crate) fn new(door: Door<Arrival>, serving: Rc<Notify>) -> Self {
        Self {
            door,
            serving,
            clients: BTreeMap::new(),
            written: BTreeSet::new(),
            questions: BTreeMap::new(),
            next_question: QUESTIONS_FROM,
            draining: false,
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
                Some(ClientRequest::FourLetterWord { connection, word })
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
        self.serving.notify_one();
    }

    fn facts(&self, replica: &Replica<Server>, uptime: Duration) -> Option<ClientRequest> {
        let voters = replica.raft().membership().voters.len();
        Some(ClientRequest::HostFacts(host_facts(uptime, voters)))
    }

    fn report(&self, replica: &Replica<Server>, status: &mut NodeStatus) {
        let group = replica.status();
        let (tree, service) = (replica.machine(), replica.service());
        status.serving = group.serving;
        status.zxid = format!("0x{:x}", tree.last_zxid().0);
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

fn host_facts(uptime: Duration, voters: usize) -> HostFacts {
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
    }
}
