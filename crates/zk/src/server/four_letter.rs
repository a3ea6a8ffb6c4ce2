//! Administrators' commands of four letters, with the texts that scripts and dashboards read.

use std::fmt::Write;

use quorate_contracts::{Histogram, Room, Time};

use super::connection::Connection;
use super::statistics::{Statistics, operation_name};
use super::words::Word;
use super::{ConnectionId, Part, Server};
use crate::tree::{CONFIG, Tree};

/// The ZooKeeper version that this server stands in for; clients parse its digits.
pub(super) const VERSION: &str = concat!("3.9.3-quorate-", env!("CARGO_PKG_VERSION"));

/// What only the driver knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostFacts {
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// Open files.
    pub open_files: u64,
    /// How many may be open.
    pub open_files_max: u64,
    /// `key=value` pairs about the host, for `envi`.
    pub environment: Vec<(String, String)>,
    /// Members that vote.
    pub voters: usize,
    /// What room this server's disk has: if there is little and it leads, writes are refused; on its reserve it takes no
    /// entries, and new clients are sent away.
    pub room: Room,
    /// Bytes of the log ...
    pub log_bytes: u64,
    /// ... and of the snapshots.
    pub snapshot_bytes: u64,
    /// How long the log's fdatasyncs took.
    pub fsyncs: Histogram,
}

impl Server {
    /// What a client is told that asks a word. Where there is a read-only mode clients need `isro` to find a server.
    pub(super) fn answer_client(&mut self, now: Time, word: Word, tree: &Tree) -> String {
        let is_open =
            self.config.open_words.contains(word) || word == *b"isro" && self.config.read_only_mode;
        if is_open { self.answer_word(now, word, tree) } else { closed(word) }
    }

    /// The words that need a cluster say so while none is there, as ZooKeeper does.
    pub(super) fn answer_word(&mut self, now: Time, word: Word, tree: &Tree) -> String {
        let read_only = self.is_read_only(now);
        match &word {
            b"ruok" => "imok".to_string(),
            b"envi" => self.envi(),
            b"isro" if read_only => "ro".to_string(),
            b"isro" if self.leader.is_none() => "null".to_string(),
            b"isro" => "rw".to_string(),
            b"srvr" | b"stat" | b"mntr" | b"conf" | b"cons" | b"wchs" | b"wchc" | b"wchp"
            | b"dump" | b"dirs" | b"srst" | b"crst"
                if self.leader.is_none() && !read_only =>
            {
                "This ZooKeeper instance is not currently serving requests\n".to_string()
            }
            b"srvr" => self.srvr(tree, false),
            b"stat" => self.srvr(tree, true),
            b"mntr" => self.mntr(now, tree),
            b"conf" => lines(&self.config.conf, "=") + &self.membership(tree),
            b"cons" => format!("{}\n", self.clients(false)),
            b"wchs" => {
                let (connections, paths) = self.watches.summary();
                let total = self.watches.len();
                format!("{connections} connections watching {paths} paths\nTotal watches:{total}\n")
            }
            b"wchc" => self.watches_by_session(),
            b"wchp" => self.watches_by_path(),
            b"dump" => dump(tree),
            b"dirs" => {
                let HostFacts { snapshot_bytes, log_bytes, .. } = self.host;
                format!("datadir_size: {snapshot_bytes}\nlogdir_size: {log_bytes}\n")
            }
            b"srst" => {
                self.statistics = Statistics::default();
                "Server stats reset.\n".to_string()
            }
            b"crst" => {
                self.connections.values_mut().for_each(|c| c.statistics.reset());
                "Connection stats reset.\n".to_string()
            }
            _ => closed(word),
        }
    }

    pub(super) fn mode(&self) -> &'static str {
        match (self.host.voters, self.leader, self.part) {
            (_, None, _) if self.config.read_only_mode => "read-only",
            (_, _, Part::Observer) => "observer",
            (1, Some(_), _) if self.observers == 0 => "standalone",
            (_, Some(leader), _) if leader == self.config.node => "leader",
            _ => "follower",
        }
    }

    /// What is published of the servers, or else what the configuration says of them.
    fn membership(&self, tree: &Tree) -> String {
        let published = tree.znode(CONFIG).and_then(|znode| znode.data()).unwrap_or_default();
        let text = String::from_utf8_lossy(published);
        let text = if text.is_empty() { &self.config.servers } else { &*text };
        let role = if self.part == Part::Observer { "observer" } else { "participant" };
        format!("peerType={role}\nmembership: \n{text}\n")
    }

    /// Requests of clients that are not answered yet.
    pub fn outstanding(&self) -> usize {
        self.connections.values().map(Connection::waiting).sum()
    }

    fn srvr(&self, tree: &Tree, with_clients: bool) -> String {
        let latencies = &self.statistics.latencies;
        let (min, mean, max) = (latencies.least_ms(), latencies.mean_ms(), latencies.greatest_ms());
        let clients = if with_clients {
            format!("Clients:\n{}\n", self.clients(true))
        } else {
            String::new()
        };
        let sizes = &self.statistics.proposals;
        let sizes = if self.mode() == "leader" {
            format!(
                "Proposal sizes last/min/max: {}/{}/{}\n",
                sizes.last, sizes.least, sizes.greatest
            )
        } else {
            String::new()
        };
        format!(
            "Zookeeper version: {VERSION}, built on unknown\n{clients}\
             Latency min/avg/max: {min}/{mean:.4}/{max}\nReceived: {}\nSent: {}\n\
             Connections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\n{sizes}Node count: {}\n",
            self.statistics.received,
            self.statistics.sent,
            self.connections.len(),
            self.outstanding(),
            tree.last_zxid().0,
            self.mode(),
            tree.znodes(),
        )
    }

    /// A line for each connection.
    fn clients(&self, brief: bool) -> String {
        self.connections.values().map(|connection| client_line(connection, brief)).collect()
    }

    /// Each session's paths below it.
    fn watches_by_session(&self) -> String {
        let mut text = String::new();
        for (connection, paths) in self.watches.by_connection() {
            let session = self.session_of(connection);
            let _ = writeln!(text, "0x{session:x}");
            for path in paths {
                let _ = writeln!(text, "\t{path}");
            }
        }
        text
    }

    /// Each path's sessions below it.
    fn watches_by_path(&self) -> String {
        let mut text = String::new();
        for (path, connections) in self.watches.by_path() {
            let _ = writeln!(text, "{path}");
            for connection in connections {
                let _ = writeln!(text, "\t0x{:x}", self.session_of(connection));
            }
        }
        text
    }

    fn session_of(&self, connection: ConnectionId) -> i64 {
        let session = self.connections.get(&connection).and_then(Connection::session);
        session.map_or(0, |session| session.0)
    }

    fn envi(&self) -> String {
        let version = ("zookeeper.version".to_string(), format!("{VERSION}, built on unknown"));
        let all: Vec<_> =
            std::iter::once(version).chain(self.host.environment.iter().cloned()).collect();
        format!("Environment:\n{}", lines(&all, "="))
    }
}

fn closed(word: Word) -> String {
    let word = String::from_utf8_lossy(&word);
    format!("{word} is not executed because it is not in the whitelist.\n")
}

fn lines(pairs: &[(String, String)], separator: &str) -> String {
    pairs.iter().map(|(key, value)| format!("{key}{separator}{value}\n")).collect()
}

/// One connection: in brief, or with its session and its last request.
fn client_line(connection: &Connection, brief: bool) -> String {
    let counted = &connection.statistics;
    let mut text = format!(
        " /{}:{}[1](queued={},recved={},sent={}",
        connection.peer,
        connection.port,
        connection.waiting(),
        counted.received,
        counted.sent
    );
    if let (Some(session), false) = (connection.session(), brief) {
        let (opcode, xid) =
            counted.last.map_or((0, -1), |last| (last.header.opcode, last.header.xid));
        let _ = write!(
            text,
            ",sid=0x{:x},lop={},est={},to={}",
            session.0,
            operation_name(opcode),
            counted.established_unix_ms,
            connection.timeout_ms
        );
        if xid >= 0 {
            let _ = write!(text, ",lcxid=0x{xid:x}");
        }
        let (zxid, at) = counted.last.map_or((-1, 0), |last| (last.zxid.0, last.unix_ms));
        let latencies = &counted.latencies;
        let _ = write!(
            text,
            ",lzxid=0x{zxid:x},lresp={at},llat={},minlat={},avglat={},maxlat={}",
            latencies.last_ms(),
            latencies.least_ms(),
            latencies.mean_ms() as u64,
            latencies.greatest_ms()
        );
    }
    text.push_str(")\n");
    text
}

/// Sessions and their ephemeral znodes.
fn dump(tree: &Tree) -> String {
    let mut text = String::from("SessionTracker dump:\nGlobal Sessions:\n");
    for (id, session) in tree.sessions() {
        let _ = writeln!(text, "0x{:x}\t{}ms", id.0, session.timeout_ms);
    }
    text.push_str("ephemeral nodes dump:\n");
    for (id, _) in tree.sessions() {
        let paths = tree.ephemerals_of(id, "");
        if !paths.is_empty() {
            let _ = writeln!(text, "0x{:x}:", id.0);
            paths.iter().for_each(|path| {
                let _ = writeln!(text, "\t{path}");
            });
        }
    }
    text
}
