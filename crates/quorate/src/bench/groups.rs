//! `quorate bench groups`: what Raft groups cost that nobody uses. Starts a cluster of its own, in a directory
//! that is removed again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use quorate_server::{NodeStatus, ServeConfig};
use serde_json::json;

use crate::cluster::{ClusterFile, NodeEntry, ask_status};
use crate::failure::{Done, Failure, Kind, say, tell};

/// Processor time and packets of a cluster that hosts many groups without work
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench groups --groups 500
  quorate bench groups --groups 0     what the cluster costs without them")]
pub(crate) struct Groups {
    /// How many groups without work each node hosts, besides the coordination service's
    #[arg(long, value_name = "N", default_value_t = 500)]
    groups: u64,

    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u64,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,

    /// How long to wait between the last election and the measurement
    #[arg(long, value_name = "S", default_value_t = 5)]
    settle: u64,

    /// Added to every port of the cluster
    #[arg(long, value_name = "K", default_value_t = 3_000)]
    port_offset: u16,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a node had used up at one time.
struct Used {
    cpu: Duration,
    packets: u64,
    resident_bytes: u64,
}

const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

impl Groups {
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        let cluster = OwnCluster::start(self)?;
        let nodes = cluster.wait_for_leaders(self.groups)?;
        std::thread::sleep(Duration::from_secs(self.settle));
        let before = nodes.iter().map(used).collect::<Result<Vec<_>, _>>()?;
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs(self.seconds));
        let took = began.elapsed().as_secs_f64();
        let after = nodes.iter().map(used).collect::<Result<Vec<_>, _>>()?;
        self.report(&nodes, &before, &after, took);
        Ok(Done::Yes)
    }

    fn report(&self, nodes: &[NodeEntry], before: &[Used], after: &[Used], took: f64) {
        let links = (nodes.len() as f64 - 1.0).max(1.0);
        let mut rows = Vec::new();
        for ((node, before), after) in nodes.iter().zip(before).zip(after) {
            let cpu = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / took * 100.0;
            let packets = after.packets.saturating_sub(before.packets) as f64 / took / links;
            rows.push((node.id, cpu, packets, after.resident_bytes));
        }
        if self.json {
            let nodes: Vec<_> = rows.iter().map(|(id, cpu, packets, resident)| {
                json!({"id": id, "core_percent": cpu, "packets_per_second_per_link": packets, "resident_bytes": resident})
            }).collect();
            return tell(
                &json!({"groups": self.groups, "seconds": took, "nodes": nodes}).to_string(),
            );
        }
        tell(&format!("{} groups without work on {} nodes, {took:.1} s", self.groups, nodes.len()));
        for (id, cpu, packets, resident) in rows {
            tell(&format!(
                "n{id}: {cpu:.1} % of a core, {packets:.1} packets a second to each other member, {} MiB",
                resident >> 20
            ));
        }
    }
}

/// A cluster that this command started, and ends.
struct OwnCluster {
    directory: PathBuf,
    up: Child,
}

impl OwnCluster {
    fn start(groups: &Groups) -> Result<Self, Failure> {
        let name = format!("quorate-bench-groups-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let failed = |error: std::io::Error| {
            Failure::new(
                Kind::Data,
                "start a cluster to measure",
                error,
                "is there space in the temporary directory?",
            )
        };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let config = directory.join("groups.toml");
        let settings = ServeConfig { idle_groups: groups.groups, ..ServeConfig::default() };
        std::fs::write(&config, toml::to_string(&settings).unwrap_or_default()).map_err(failed)?;
        let up = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["up", "--dir"])
            .arg(directory.join("data"))
            .args(["--nodes", &groups.nodes.to_string()])
            .args(["--port-offset", &groups.port_offset.to_string()])
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self { directory, up })
    }

    /// Waits until every group has a leader, at every node.
    fn wait_for_leaders(&self, groups: u64) -> Result<Vec<NodeEntry>, Failure> {
        let data = self.directory.join("data");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(nodes) = nodes_with_leaders(&data, groups) {
                return Ok(nodes);
            }
            std::thread::sleep(POLL);
        }
        let cause = format!("not every group has a leader after {} s", PATIENCE.as_secs());
        let help = "look at what the cluster says above; --port-offset chooses other ports";
        Err(Failure::new(Kind::Unreachable, "measure idle groups", cause, help))
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        crate::up::interrupt(self.up.id());
        if let Err(error) = self.up.wait() {
            say(&format!("the cluster that was measured: {error}"));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn nodes_with_leaders(data: &Path, groups: u64) -> Option<Vec<NodeEntry>> {
    let nodes = ClusterFile::read(data).ok()?.nodes;
    let complete =
        |status: &NodeStatus| status.serving && status.idle_groups_with_leader as u64 == groups;
    let all = nodes.iter().all(|node| ask_status(node.admin).is_ok_and(|status| complete(&status)));
    (all && !nodes.is_empty()).then_some(nodes)
}

fn used(node: &NodeEntry) -> Result<Used, Failure> {
    let failed = |error: std::io::Error| {
        let help = "it ended while it was measured; start again";
        Failure::new(Kind::Unreachable, format!("ask node {}", node.id), error, help)
    };
    let status = ask_status(node.admin).map_err(failed)?;
    let cpu = cpu_time(status.pid).map_err(failed)?;
    Ok(Used { cpu, packets: status.member_packets_sent, resident_bytes: status.resident_bytes })
}

/// Processor time that a process has used, in user and kernel mode.
fn cpu_time(pid: u32) -> std::io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; fields 14 and 15 of the line are behind it.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
