//! Administrators' commands of four letters, with the texts that scripts and dashboards read.

use std::fmt::Write;

use quorate_contracts::Time;

use super::Server;
use crate::tree::Tree;

/// The ZooKeeper version that this server stands in for; clients parse its digits.
pub(super) const VERSION: &str = concat!("3.9.3-quorate-", env!("CARGO_PKG_VERSION"));

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Packets of clients.
    pub received: u64,
    /// Packets to clients.
    pub sent: u64,
    /// Requests answered, and their latencies in microseconds.
    answered: u64,
    latency_sum_us: u64,
    latency_min_us: u64,
    latency_max_us: u64,
}

impl Statistics {
    pub(super) fn answered(&mut self, now: Time, arrived: Time) {
        let us = now.since(arrived).as_micros() as u64;
        self.latency_min_us = if self.answered == 0 { us } else { self.latency_min_us.min(us) };
        self.latency_max_us = self.latency_max_us.max(us);
        self.latency_sum_us += us;
        self.answered += 1;
    }

    /// Least, mean and greatest latency, in milliseconds.
    fn latency_ms(&self) -> (u64, f64, u64) {
        let mean = self.latency_sum_us as f64 / 1_000.0 / self.answered.max(1) as f64;
        (self.latency_min_us / 1_000, mean, self.latency_max_us / 1_000)
    }
}

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
}

impl Server {
    pub(super) fn answer_word(&mut self, word: [u8; 4], tree: &Tree) -> String {
        match &word {
            b"ruok" => "imok".to_string(),
            b"isro" => "rw".to_string(),
            b"srvr" => self.srvr(tree, false),
            b"stat" => self.srvr(tree, true),
            b"mntr" => self.mntr(tree),
            b"conf" => lines(&self.config.conf, "="),
            b"envi" => self.envi(),
            b"cons" => self.clients(),
            b"wchs" => {
                let (connections, paths) = self.watches.summary();
                let total = self.watches.len();
                format!("{connections} connections watching {paths} paths\nTotal watches:{total}\n")
            }
            b"dump" => dump(tree),
            b"srst" | b"crst" => {
                self.statistics = super::Statistics::default();
                "Server stats reset.\n".to_string()
            }
            _ => {
                let word = String::from_utf8_lossy(&word).into_owned();
                format!("{word} is not executed because it is not in the whitelist.\n")
            }
        }
    }

    fn mode(&self) -> &'static str {
        match (self.host.voters, self.leader) {
            (1, Some(_)) => "standalone",
            (_, Some(leader)) if leader == self.config.node => "leader",
            _ => "follower",
        }
    }

    fn outstanding(&self) -> usize {
        self.connections.values().map(|connection| connection.waiting.len()).sum()
    }

    fn srvr(&self, tree: &Tree, with_clients: bool) -> String {
        let (min, mean, max) = self.statistics.latency_ms();
        let clients =
            if with_clients { format!("Clients:\n{}\n", self.clients()) } else { String::new() };
        format!(
            "Zookeeper version: {VERSION}, built on unknown\n{clients}\
             Latency min/avg/max: {min}/{mean:.4}/{max}\nReceived: {}\nSent: {}\n\
             Connections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\nNode count: {}\n",
            self.statistics.received,
            self.statistics.sent,
            self.connections.len(),
            self.outstanding(),
            tree.last_zxid().0,
            self.mode(),
            tree.znodes(),
        )
    }

    fn clients(&self) -> String {
        let mut text = String::new();
        for connection in self.connections.values() {
            let (peer, port) = (connection.peer, connection.port);
            let (queued, received) = (connection.waiting.len(), connection.received);
            let session = connection.session().map_or(0, |session| session.0);
            let _ = writeln!(
                text,
                " /{peer}:{port}[1](queued={queued},recved={received},sent={received},\
                 sid=0x{session:x},to={})",
                connection.timeout_ms
            );
        }
        text
    }

    fn mntr(&self, tree: &Tree) -> String {
        let (min, mean, max) = self.statistics.latency_ms();
        let sessions = tree.sessions().len();
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "zk_{key}\t{value}");
        };
        line("version", &format_args!("{VERSION}, built on unknown"));
        line("server_state", &self.mode());
        line("peer_state", &"broadcast");
        line("min_latency", &min);
        line("avg_latency", &format_args!("{mean:.4}"));
        line("max_latency", &max);
        line("packets_received", &self.statistics.received);
        line("packets_sent", &self.statistics.sent);
        line("num_alive_connections", &self.connections.len());
        line("outstanding_requests", &self.outstanding());
        line("znode_count", &tree.znodes());
        line("watch_count", &self.watches.len());
        line("ephemerals_count", &tree.ephemerals());
        line("approximate_data_size", &tree.data_bytes());
        line("global_sessions", &sessions);
        line("local_sessions", &0);
        line("uptime", &self.host.uptime_ms);
        line("open_file_descriptor_count", &self.host.open_files);
        line("max_file_descriptor_count", &self.host.open_files_max);
        line("quorum_size", &self.host.voters);
        if self.leads() {
            line("learners", &self.host.voters.saturating_sub(1));
            line("synced_followers", &self.host.voters.saturating_sub(1));
            line("synced_observers", &0);
            line("pending_syncs", &0);
        }
        text
    }

    fn envi(&self) -> String {
        let version = ("zookeeper.version".to_string(), format!("{VERSION}, built on unknown"));
        let all: Vec<_> =
            std::iter::once(version).chain(self.host.environment.iter().cloned()).collect();
        format!("Environment:\n{}", lines(&all, "="))
    }
}

fn lines(pairs: &[(String, String)], separator: &str) -> String {
    pairs.iter().map(|(key, value)| format!("{key}{separator}{value}\n")).collect()
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
