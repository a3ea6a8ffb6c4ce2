//! `quorate up`: a cluster on this machine, one child process a node.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use quorate_contracts::{ClusterId, NodeId};
use quorate_server::{DataDir, LockError, ServeConfig, lock_file, random_u64};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{
    ClusterFile, NodeEntry, ask_status, is_alive, local_config, local_entry, node_config,
    node_directory, playground_address, relayed,
};
use crate::failure::{Done, Failure, Kind, say, tell};
use crate::playground::{Nodes, Order, Playground, delay_file};
use crate::serve::{explain_data_dir, read_config};

/// Start a cluster on this machine and keep it running until Ctrl-C
#[derive(Args)]
#[command(after_help = "Examples:
  quorate up
  quorate up --dir /tmp/demo --nodes 5 --port-offset 1000
  quorate up --dir /tmp/play --playground    to kill nodes and cut links from a page")]
pub(crate) struct Up {
    /// Where the cluster keeps its data; an existing one goes on
    #[arg(long, value_name = "DIR", default_value = "quorate-data")]
    dir: PathBuf,

    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = nodes)]
    nodes: u64,

    /// Added to every port
    #[arg(long, value_name = "K", default_value_t = 0)]
    port_offset: u16,

    /// Settings for every node (TOML, the keys of `serve`)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Also serve a page on which nodes are stopped, links cut and disks slowed while clients work and are checked
    #[arg(long)]
    playground: bool,
}

fn nodes(text: &str) -> Result<u64, String> {
    match text {
        "1" | "3" | "5" => Ok(text.parse().unwrap_or(3)),
        _ => Err("a cluster has 1, 3 or 5 nodes".to_string()),
    }
}

use NotStarted::{Ended, Late};

/// How long nodes may take until they serve.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

impl Up {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let directory = self.make_directory()?;
        let _lock = lock(&directory)?;
        let base = match &self.config {
            Some(path) => read_config(path)?,
            None => ServeConfig::default(),
        };
        let mut cluster = self.prepare(&directory, &base)?;
        let playground = self.open_playground(&directory, &cluster)?;
        let mut children = Children::default();
        for entry in &mut cluster.nodes {
            let child = start(&directory, entry.id, None)?;
            entry.pid = child.id();
            children.0.push((entry.id, child));
        }
        cluster.up_pid = Some(std::process::id());
        cluster.write(&directory)?;
        children.wait_until_serving(&directory, &cluster)?;
        announce(&directory, &cluster);
        if let Some(playground) = &playground {
            playground.begin()?;
            tell(&format!("Playground: {}", playground.url));
        }
        watch_over(&directory, children, playground)?;
        Ok(Done::Yes)
    }

    fn make_directory(&self) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| {
            let what = format!("use the directory {}", self.dir.display());
            Failure::new(Kind::Data, what, error, "choose a writable directory with --dir")
        };
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        self.dir.canonicalize().map_err(failed)
    }

    /// The page and the relays, which must be there before the nodes are; without them, nothing that would slow a disk.
    fn open_playground(
        &self,
        directory: &Path,
        cluster: &ClusterFile,
    ) -> Result<Option<Playground>, Failure> {
        for node in &cluster.nodes {
            let file = delay_file(directory, node.id);
            let done = match self.playground {
                true => std::fs::write(&file, "0"),
                false => match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                },
            };
            done.map_err(|error| {
                let what = format!("change {}", file.display());
                Failure::new(Kind::Data, what, error, "is the directory writable?")
            })?;
        }
        match playground_address(self.port_offset) {
            Some(page) if self.playground => {
                Playground::open(directory, &cluster.nodes, page).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A node of the cluster, behind a relay if there is a playground.
    fn entry(&self, id: u64, with_tls: bool) -> Option<NodeEntry> {
        let entry = local_entry(id, self.port_offset, with_tls)?;
        if self.playground { relayed(entry, self.port_offset) } else { Some(entry) }
    }

    /// Makes the data directories of a new cluster, and writes every node's configuration.
    fn prepare(&self, directory: &Path, base: &ServeConfig) -> Result<ClusterFile, Failure> {
        let what = format!("make a cluster in {}", directory.display());
        let with_tls = base.client_tls.is_some();
        if self.playground && (base.member_tls.is_some() || base.etcd_tls.is_some()) {
            let cause =
                "with `member_tls` nobody can tell who dials, and its clients do not speak TLS";
            let help = "leave out `member_tls` and `etcd_tls`, or --playground";
            return Err(Failure::new(Kind::Usage, "open the playground", cause, help));
        }
        let entries: Option<Vec<NodeEntry>> =
            (1..=self.nodes).map(|id| self.entry(id, with_tls)).collect();
        let entries = entries.ok_or_else(|| {
            let cause = format!("--port-offset {} leads beyond port 65535", self.port_offset);
            Failure::new(Kind::Usage, &what, cause, "choose a smaller one")
        })?;
        let there =
            (1..=9).filter(|id| DataDir::is_formatted(&node_directory(directory, *id))).count();
        if there != 0 && there as u64 != self.nodes {
            let cause = format!("it holds a cluster of {there} nodes, not {}", self.nodes);
            let help = format!(
                "start it with --nodes {there}, or begin another one with another --dir; \
                 `quorate member add` and `remove` change the members of a running cluster"
            );
            return Err(Failure::new(Kind::Usage, &what, cause, help));
        }
        let id = random_u64()
            .map_err(|error| Failure::new(Kind::Data, &what, error, "is /dev/urandom there?"))?;
        for entry in &entries {
            let node = node_directory(directory, entry.id);
            if there == 0 {
                DataDir::format(&node, ClusterId(id), NodeId(entry.id))
                    .map_err(|error| explain_data_dir(&what, error))?;
            }
            let config = local_config(base, directory, entry, &entries);
            config.check().map_err(|error| {
                Failure::new(Kind::Config, &what, error, "docs/configuration.md lists the keys")
            })?;
            let text = toml::to_string(&config).unwrap_or_default();
            std::fs::write(node_config(directory, entry.id), text).map_err(|error| {
                Failure::new(Kind::Data, &what, error, "is the directory writable?")
            })?;
        }
        Ok(ClusterFile { nodes: entries, up_pid: None })
    }
}

/// One `up` a directory.
fn lock(directory: &Path) -> Result<File, Failure> {
    let what = format!("start a cluster in {}", directory.display());
    lock_file(&directory.join("up.lock")).map_err(|error| match error {
        LockError::Held(pid) => {
            let cause = format!("`quorate up` runs there already, as process {pid}");
            Failure::new(Kind::Data, what, cause, "stop it first, or use another --dir")
        }
        LockError::Io(error) => {
            Failure::new(Kind::Data, what, error, "choose a writable directory with --dir")
        }
    })
}

/// Starts a node's process. Without a process that it lives for, it is a child of this one and dies with
/// it; its log goes to a file beside its data.
pub(crate) fn start(directory: &Path, id: u64, lives_for: Option<u32>) -> Result<Child, Failure> {
    let what = format!("start node {id}");
    let failed = |error: io::Error| {
        Failure::new(Kind::Data, &what, error, "is the directory writable, and is there memory?")
    };
    let log = File::options()
        .create(true)
        .append(true)
        .open(node_directory(directory, id).join("node.log"))
        .map_err(failed)?;
    let parent = lives_for.unwrap_or_else(std::process::id);
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .arg("serve")
        .arg("--config")
        .arg(node_config(directory, id))
        // Ctrl-C is for `up`, which then tells its nodes.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // A node that `up` did not start outlives the shell that did.
    match lives_for {
        Some(0) => {}
        _ => {
            command.arg("--die-with").arg(parent.to_string());
        }
    }
    let delay = delay_file(directory, id);
    if delay.exists() {
        command.arg("--disk-delay-file").arg(delay);
    }
    command.spawn().map_err(failed)
}

/// The nodes that `up` started.
#[derive(Default)]
struct Children(Vec<(u64, Child)>);

impl Children {
    fn wait_until_serving(
        &mut self,
        directory: &Path,
        cluster: &ClusterFile,
    ) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        for entry in &cluster.nodes {
            // Another cluster may answer on this port: only the child's own word counts.
            while !ask_status(entry.admin)
                .is_ok_and(|status| status.serves_all() && status.pid == entry.pid)
            {
                if let Some((id, status)) = self.ended() {
                    return Err(did_not_start(directory, id, Ended(status)));
                }
                if Instant::now() > end {
                    return Err(did_not_start(directory, entry.id, Late));
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// Starts a node again; says which process it is.
    fn start(&mut self, directory: &Path, id: u64) -> Result<u32, String> {
        let in_words = |failure: Failure| failure.cause().to_owned();
        let child = start(directory, id, None).map_err(in_words)?;
        let pid = child.id();
        self.0.push((id, child));
        let mut cluster = ClusterFile::read(directory).map_err(in_words)?;
        cluster.nodes.iter_mut().filter(|node| node.id == id).for_each(|node| node.pid = pid);
        cluster.write(directory).map_err(in_words)?;
        Ok(pid)
    }

    /// A node that has ended since the last look.
    fn ended(&mut self) -> Option<(u64, ExitStatus)> {
        let found = self.0.iter_mut().enumerate().find_map(|(at, (id, child))| {
            child.try_wait().ok().flatten().map(|status| (at, *id, status))
        });
        let (at, id, status) = found?;
        self.0.remove(at);
        Some((id, status))
    }
}

/// Whatever ends `up`, its nodes end too, in order where there is time for it.
impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &self.0 {
            interrupt(child.id());
            // Who is paused would not hear of it.
            send(child.id(), Signal::CONT);
        }
        let end = Instant::now() + Duration::from_secs(5);
        for (_, child) in &mut self.0 {
            while child.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > end {
                    let _ = child.kill();
                }
                std::thread::sleep(POLL);
            }
        }
    }
}

/// Nodes that `quorate node start` started again: watched over like the others.
#[derive(Default)]
struct Adopted(BTreeMap<u64, u32>);

impl Adopted {
    fn look(&mut self, directory: &Path, children: &Children) {
        let Ok(cluster) = ClusterFile::read(directory) else { return };
        for node in &cluster.nodes {
            let own = children.0.iter().any(|(_, child)| child.id() == node.pid);
            if !own && is_alive(node.pid) && self.0.insert(node.id, node.pid) != Some(node.pid) {
                say(&format!("node {} is back, as process {}", node.id, node.pid));
            }
        }
        self.0.retain(|id, pid| {
            let alive = is_alive(*pid);
            if !alive {
                say(&format!("node {id} ended"));
            }
            alive
        });
    }
}

/// Asks a process to stop, without handing anything over: where all nodes stop there is nobody to take it.
pub(crate) fn interrupt(pid: u32) {
    send(pid, Signal::INT);
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Why a node did not come up.
pub(crate) enum NotStarted {
    /// Its process ended.
    Ended(ExitStatus),
    /// It does not serve.
    Late,
}

/// The last words of a node that did not come up; the exit code is its own, where it has one of ours.
pub(crate) fn did_not_start(directory: &Path, id: u64, why: NotStarted) -> Failure {
    let (kind, cause) = match why {
        Ended(status) => {
            let kind = match status.code() {
                Some(74) => Kind::Data,
                Some(78) => Kind::Config,
                _ => Kind::Unreachable,
            };
            (kind, format!("it ended with {status}"))
        }
        Late => (Kind::Unreachable, "it does not serve after 60 s".to_string()),
    };
    let log = node_directory(directory, id).join("node.log");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(4).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let cause = format!("{cause}; its last words:\n    {}", last.join("\n    "));
    let help = format!("the whole log is {}", log.display());
    Failure::new(kind, format!("start node {id}"), cause, help)
}

fn announce(directory: &Path, cluster: &ClusterFile) {
    let hosts: Vec<String> = cluster.nodes.iter().map(|node| node.zookeeper.to_string()).collect();
    let mut text = format!(
        "{} nodes serve, with their data in {}\n",
        cluster.nodes.len(),
        directory.display()
    );
    for node in &cluster.nodes {
        text += &format!(
            "  n{}  pid {:<8} zookeeper {}   etcd {}   dashboard http://{}/\n",
            node.id,
            node.pid,
            node.zookeeper,
            node.etcd.map_or("-".to_string(), |etcd| etcd.to_string()),
            node.admin
        );
    }
    let etcd: Vec<String> =
        cluster.nodes.iter().filter_map(|node| node.etcd).map(|etcd| etcd.to_string()).collect();
    text += &format!("\nConnect any ZooKeeper client to {}\n", hosts.join(","));
    text += &format!("and any etcd client to {}\n", etcd.join(","));
    text += &format!(
        "Try next:\n  quorate status --dir {0}\n  kill -9 {1}   # a node dies; the others go on\n  \
         quorate node start --dir {0} --id {2}\nCtrl-C stops the cluster; its data stays.",
        directory.display(),
        cluster.nodes[0].pid,
        cluster.nodes[0].id
    );
    tell(&text);
}

/// What somebody wants done in the playground; for ever nothing if there is none.
async fn next(playground: &mut Option<Playground>) -> Option<Order> {
    match playground {
        Some(playground) => playground.order().await,
        None => std::future::pending().await,
    }
}

/// Reports nodes that die, until told to stop. Nodes started again by `quorate node start` are ended with
/// the others.
fn watch_over(
    directory: &Path,
    mut children: Children,
    mut playground: Option<Playground>,
) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Failure::new(
                Kind::Data,
                "watch over the nodes",
                error,
                "look at the limits of open files",
            )
        })?;
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut adopted = Adopted::default();
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                Some(order) = next(&mut playground) => {
                    let nodes = Nodes { directory };
                    let done = nodes.act(order.act, |id| children.start(directory, id));
                    let _ = order.answer.send(done);
                }
                _ = tick.tick() => {
                    while let Some((id, status)) = children.ended() {
                        say(&format!("node {id} ended with {status}; start it again with\n  \
                            quorate node start --dir {} --id {id}", directory.display()));
                    }
                    adopted.look(directory, &children);
                }
            }
        }
    });
    say("stopping");
    let own: Vec<u32> = children.0.iter().map(|(_, child)| child.id()).collect();
    drop(children);
    let cluster = ClusterFile::read(directory)?;
    let adopted = cluster.nodes.iter().map(|node| node.pid).filter(|pid| !own.contains(pid));
    for pid in adopted.filter(|pid| is_alive(*pid)) {
        interrupt(pid);
    }
    ClusterFile { up_pid: None, ..cluster }.write(directory)
}
