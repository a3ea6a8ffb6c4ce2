//! `quorate bench create`: many small entries, and what each costs in time and memory.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::channel::Channel;
use super::load::resident_bytes;
use super::{block_on, kv, zk};
use crate::failure::{Done, Failure, tell};
use crate::servers::Servers;

/// How many connections create keys.
const CONNECTIONS: usize = 6;
/// What was just allocated for requests on their way is given back before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Creates many znodes or keys: how fast, and the memory that each takes
#[derive(Subcommand)]
pub(crate) enum Create {
    /// Znodes, on any server that speaks ZooKeeper's protocol
    Zk(Count),
    /// Keys, on any server that speaks etcd's API
    Kv(Count),
}

/// How many of what
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench create zk --count 1000000
  quorate bench create kv --count 100000 --size 1024 --pids 4711,4712,4713 --json")]
pub(crate) struct Count {
    #[command(flatten)]
    servers: Servers,

    /// How many
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,

    /// Bytes of data in each
    #[arg(long, value_name = "B", default_value_t = 100)]
    size: usize,

    /// Processes of the servers, with commas between them, whose memory is told before and after
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pids: Vec<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Create {
    pub(super) fn run(&self) -> Result<Done, Failure> {
        let (Self::Zk(count) | Self::Kv(count)) = self;
        let before = count.resident();
        let began = Instant::now();
        match self {
            Self::Zk(_) => {
                block_on(zk::fill(&count.servers.zookeeper(), count.count, count.size))?;
            }
            Self::Kv(_) => block_on(count.keys())?,
        }
        let took = began.elapsed();
        if !count.pids.is_empty() {
            std::thread::sleep(SETTLE);
        }
        count.report(took, before, count.resident());
        Ok(Done::Yes)
    }
}

impl Count {
    async fn keys(&self) -> std::io::Result<()> {
        let servers = self.servers.etcd();
        let mut channels = Vec::new();
        for number in 0..CONNECTIONS {
            channels.push(Channel::connect(&servers[number % servers.len()]).await?);
        }
        kv::fill(&mut channels, self.count, self.size).await
    }

    /// Of the largest of the servers, in bytes.
    fn resident(&self) -> u64 {
        self.pids.iter().map(|pid| resident_bytes(*pid)).max().unwrap_or_default()
    }

    fn report(&self, took: Duration, before: u64, after: u64) {
        let per_second = self.count as f64 / took.as_secs_f64();
        let each = after.saturating_sub(before) / self.count;
        if self.json {
            let line = json!({
                "count": self.count, "size": self.size, "seconds": took.as_secs_f64(), "per_second": per_second,
                "resident_before": before, "resident_after": after, "bytes_each": each,
            });
            return tell(&line.to_string());
        }
        tell(&format!("{} in {:.1} s: {per_second:.0} a second", self.count, took.as_secs_f64()));
        if !self.pids.is_empty() {
            let (before, after) = (before >> 20, after >> 20);
            tell(&format!(
                "the largest server grew from {before} to {after} MiB: {each} B for each"
            ));
        }
    }
}
