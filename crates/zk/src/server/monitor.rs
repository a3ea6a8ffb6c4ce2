//! The word `mntr`: what dashboards and scrapers read, under the names that they know.

use std::fmt::{Display, Write};

use quorate_contracts::{Histogram, Room, Time};

use super::Server;
use super::four_letter::VERSION;
use crate::tree::Tree;

/// Lines of a name and a value.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "zk_{name}\t{value}");
    }

    /// A distribution, in milliseconds, as ZooKeeper tells them. Quantiles, the least and the greatest are known to a quarter.
    fn distribution(&mut self, name: &str, of: &Histogram) {
        let (count, sum) = (of.count(), of.sum_us() as f64 / 1_000.0);
        let ms = |share| of.quantile_us(share) as f64 / 1_000.0;
        self.line(&format!("avg_{name}"), format_args!("{:.4}", sum / count.max(1) as f64));
        self.line(&format!("min_{name}"), ms(0.0));
        self.line(&format!("max_{name}"), ms(1.0));
        self.line(&format!("cnt_{name}"), count);
        self.line(&format!("sum_{name}"), sum);
        for (quantile, share) in [("50", 0.5), ("95", 0.95), ("99", 0.99), ("999", 0.999)] {
            self.line(&format!("p{quantile}_{name}"), ms(share));
        }
    }
}

impl Server {
    pub(super) fn mntr(&self, now: Time, tree: &Tree) -> String {
        let mut lines = Lines::default();
        lines.line("version", format_args!("{VERSION}, built on unknown"));
        lines.line("server_state", self.mode());
        lines.line("peer_state", "broadcast");
        self.traffic(&mut lines);
        self.holdings(&mut lines, tree);
        self.host_lines(&mut lines);
        if self.leads() {
            self.leader_lines(now, &mut lines);
        }
        lines.distribution("readlatency", &self.statistics.reads);
        lines.distribution("updatelatency", &self.statistics.writes);
        lines.distribution("fsynctime", &self.host.fsyncs);
        lines.0
    }

    fn traffic(&self, lines: &mut Lines) {
        let counted = &self.statistics;
        lines.line("min_latency", counted.latencies.least_ms());
        lines.line("avg_latency", format_args!("{:.4}", counted.latencies.mean_ms()));
        lines.line("max_latency", counted.latencies.greatest_ms());
        lines.line("packets_received", counted.received);
        lines.line("packets_sent", counted.sent);
        lines.line("num_alive_connections", self.connections.len());
        lines.line("outstanding_requests", self.outstanding());
    }

    fn holdings(&self, lines: &mut Lines, tree: &Tree) {
        lines.line("znode_count", tree.znodes());
        lines.line("watch_count", self.watches.len());
        lines.line("ephemerals_count", tree.ephemerals());
        lines.line("approximate_data_size", tree.data_bytes());
        lines.line("global_sessions", tree.sessions().len());
        lines.line("local_sessions", 0);
    }

    fn host_lines(&self, lines: &mut Lines) {
        lines.line("uptime", self.host.uptime_ms);
        lines.line("open_file_descriptor_count", self.host.open_files);
        lines.line("max_file_descriptor_count", self.host.open_files_max);
        lines.line("disk_full", u8::from(self.host.room != Room::Enough));
        lines.line("quorum_size", self.host.voters);
        let sizes = &self.statistics.proposals;
        lines.line("last_proposal_size", sizes.last);
        lines.line("min_proposal_size", sizes.least);
        lines.line("max_proposal_size", sizes.greatest);
    }

    fn leader_lines(&self, now: Time, lines: &mut Lines) {
        let followers = self.host.voters.saturating_sub(1);
        lines.line("learners", followers + self.observers);
        lines.line("synced_followers", followers);
        lines.line("synced_observers", self.observers);
        lines.line("pending_syncs", 0);
        let since = self.leads_since.map_or(0, |since| now.since(since).as_millis());
        lines.line("leader_uptime", since);
    }
}
