//! `quorate bench failover`: how long a cluster takes no writes while its servers die, and whether it keeps what it
//! acknowledged. It kills nothing itself: do that meanwhile, by `kill -9`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_client::{Acl, Client, CreateMode, ErrorCode, Failure as Refused, Options};
use serde_json::json;

use super::kv_writer::KvWriter;
use crate::failure::{Done, Failure, Kind, say, tell};
use crate::servers::Servers;

/// One client that writes in a loop; the longest time without an acknowledgement, and what was lost
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench failover --seconds 20        kill -9 a node meanwhile
  quorate bench failover --servers 127.0.0.1:2182,127.0.0.1:2183 --json
  quorate bench failover --kv                the same on a server that speaks etcd's API")]
pub(crate) struct Failover {
    #[command(flatten)]
    servers: Servers,

    /// Write keys through etcd's API instead of znodes; a call that takes 250 ms is given up, and another server asked
    #[arg(long)]
    kv: bool,

    /// How long to write
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the writer saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<u64>,
    unknown: u64,
    refused: u64,
    longest_gap: Duration,
    /// When the longest gap began, since the start.
    gap_at: Duration,
}

impl Failover {
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let (seen, lost) = if self.kv {
            runtime.block_on(self.measure_kv()).map_err(|error| failed(&error))?
        } else {
            runtime.block_on(self.measure())?
        };
        self.report(&seen, &lost);
        Ok(if lost.is_empty() && !seen.acknowledged.is_empty() { Done::Yes } else { Done::No })
    }

    async fn measure(&self) -> Result<(Seen, Vec<u64>), Failure> {
        let client = Client::connect(&self.servers.zookeeper(), Options::default())
            .await
            .map_err(|error| failed(&error))?;
        let root = format!("/quorate-failover-{}", std::process::id());
        create(&client, &root).await.map_err(|error| failed(&error))?;
        let seen = self.write(&client, &root).await;
        let lost = lost(&client, &root, &seen).await.map_err(|error| failed(&error))?;
        if lost.is_empty() {
            remove(&client, &root).await.map_err(|error| failed(&error))?;
        }
        client.close().await.map_err(|error| failed(&error))?;
        Ok((seen, lost))
    }

    async fn write(&self, client: &Client, root: &str) -> Seen {
        let mut seen = Seen::default();
        let start = Instant::now();
        let mut last = start;
        for number in 0.. {
            if start.elapsed() > Duration::from_secs(self.seconds) {
                break;
            }
            match create(client, &format!("{root}/{number}")).await {
                Ok(()) => {
                    seen.acknowledge(number, start, last);
                    last = Instant::now();
                }
                Err(Refused::Unknown(_)) => seen.unknown += 1,
                Err(Refused::Refused(_)) => {
                    seen.refused += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        seen.close_gap(start, last);
        seen
    }

    async fn measure_kv(&self) -> std::io::Result<(Seen, Vec<u64>)> {
        let (mut writer, mut seen) = (KvWriter::new(self.servers.etcd()), Seen::default());
        let start = Instant::now();
        let mut last = start;
        for number in 0.. {
            if start.elapsed() > Duration::from_secs(self.seconds) {
                break;
            }
            if writer.put(number).await.is_ok() {
                seen.acknowledge(number, start, last);
                last = Instant::now();
            } else {
                seen.unknown += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        seen.close_gap(start, last);
        let lost = seen.lost(&writer.written().await?);
        if lost.is_empty() {
            writer.remove().await?;
        }
        Ok((seen, lost))
    }

    fn report(&self, seen: &Seen, lost: &[u64]) {
        let gap_ms = seen.longest_gap.as_secs_f64() * 1000.0;
        if self.json {
            let report = json!({
                "acknowledged": seen.acknowledged.len(),
                "unknown": seen.unknown,
                "refused": seen.refused,
                "lost": lost,
                "longest_gap_ms": gap_ms,
                "gap_at_s": seen.gap_at.as_secs_f64(),
                "seconds": self.seconds,
            });
            return tell(&report.to_string());
        }
        tell(&format!(
            "{} writes acknowledged, {} of unknown outcome, {} refused\nlongest time without one: {gap_ms:.0} ms, from {:.1} s on",
            seen.acknowledged.len(),
            seen.unknown,
            seen.refused,
            seen.gap_at.as_secs_f64(),
        ));
        if lost.is_empty() {
            tell("nothing acknowledged is lost");
        } else {
            say(&format!(
                "LOST: {} acknowledged writes, the first is number {}",
                lost.len(),
                lost[0]
            ));
        }
    }
}

impl Seen {
    /// What was acknowledged and is not there.
    fn lost(&self, there: &BTreeSet<u64>) -> Vec<u64> {
        self.acknowledged.iter().copied().filter(|number| !there.contains(number)).collect()
    }

    fn acknowledge(&mut self, number: u64, start: Instant, last: Instant) {
        self.acknowledged.push(number);
        self.close_gap(start, last);
    }

    fn close_gap(&mut self, start: Instant, last: Instant) {
        if last.elapsed() > self.longest_gap {
            self.longest_gap = last.elapsed();
            self.gap_at = last.duration_since(start);
        }
    }
}

async fn create(client: &Client, path: &str) -> Result<(), Refused> {
    client.create(path, b"", CreateMode::Persistent, Acl::open()).await.map(drop)
}

/// Acknowledged writes that are not there.
async fn lost(client: &Client, root: &str, seen: &Seen) -> Result<Vec<u64>, Refused> {
    client.sync(root).await?;
    let (names, _) = client.children(root).await?;
    let there: BTreeSet<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    Ok(seen.lost(&there))
}

/// Deletes what was written, many at once.
async fn remove(client: &Client, root: &str) -> Result<(), Refused> {
    let (names, _) = client.children(root).await?;
    for some in names.chunks(500) {
        let pending: Vec<_> =
            some.iter().map(|name| client.delete(&format!("{root}/{name}"), -1)).collect();
        for deleted in pending {
            match deleted.await {
                Err(error) if !error.is(ErrorCode::NoNode) => return Err(error),
                _ => {}
            }
        }
    }
    client.delete(root, -1).await
}

fn failed(cause: &impl std::fmt::Display) -> Failure {
    Failure::new(
        Kind::Unreachable,
        "measure failover",
        cause,
        "are the servers running? --servers names them",
    )
}
