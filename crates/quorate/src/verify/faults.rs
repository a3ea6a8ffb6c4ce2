//! Faults for a local cluster: `kill -9` and a new start, a pause and its end. One node at a time, so that a majority is well;
//! and whatever happens, all nodes run when this is over.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorate_contracts::Random;
use rustix::process::{Pid, Signal, kill_process};

use super::record::Recorder;
use crate::cluster::{ClusterFile, NodeEntry, ask_status, is_alive};
use crate::failure::{Failure, Kind, say};

/// A local cluster whose nodes may be hurt.
pub(crate) struct Faults {
    directory: PathBuf,
    random: Random,
}

/// Faults on their way.
pub(crate) struct Running {
    thread: JoinHandle<Result<u64, Failure>>,
    stop: mpsc::Sender<()>,
}

/// Quiet time between two faults, at least and at most.
const REST_MS: (u64, u64) = (300, 1500);
/// How long a node is dead or paused.
const HURT_MS: (u64, u64) = (200, 2500);

impl Faults {
    /// Checks that there is a cluster here, and that all of it runs.
    pub(crate) fn prepare(directory: &Path, seed: u64) -> Result<Self, Failure> {
        let cluster = ClusterFile::read(directory)?;
        if let Some(dead) = cluster.nodes.iter().find(|node| !is_alive(node.pid)) {
            return Err(Failure::new(
                Kind::Unreachable,
                "hurt the local cluster",
                format!("node {} does not run", dead.id),
                "start it first: quorate up, or quorate node start",
            ));
        }
        Ok(Self { directory: directory.to_owned(), random: Random::new(seed).derive("faults") })
    }

    /// Begins, in a thread of its own.
    pub(crate) fn begin(self, recorder: Recorder, duration: Duration) -> Running {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || self.run(&recorder, &stopped, duration));
        Running { thread, stop }
    }

    fn run(
        mut self,
        recorder: &Recorder,
        stopped: &mpsc::Receiver<()>,
        duration: Duration,
    ) -> Result<u64, Failure> {
        let end = Instant::now() + duration;
        let mut made = 0;
        while rest(stopped, self.between(REST_MS)) && Instant::now() < end {
            let nodes = ClusterFile::read(&self.directory)?.nodes;
            let node = &nodes[self.random.below(nodes.len() as u64) as usize];
            let hurt = self.between(HURT_MS);
            made += 1;
            if self.random.below(2) == 0 {
                self.kill(node, hurt, recorder, stopped)?;
            } else {
                self.pause(node, hurt, recorder, stopped)?;
            }
        }
        Ok(made)
    }

    fn kill(
        &self,
        node: &NodeEntry,
        hurt: Duration,
        recorder: &Recorder,
        stopped: &mpsc::Receiver<()>,
    ) -> Result<(), Failure> {
        send(node, Signal::KILL)?;
        recorder.note(&format!("kill -9 n{}", node.id));
        rest(stopped, hurt);
        self.start(node)?;
        recorder.note(&format!("n{} is back", node.id));
        Ok(())
    }

    fn pause(
        &self,
        node: &NodeEntry,
        hurt: Duration,
        recorder: &Recorder,
        stopped: &mpsc::Receiver<()>,
    ) -> Result<(), Failure> {
        send(node, Signal::STOP)?;
        recorder.note(&format!("pause n{}", node.id));
        rest(stopped, hurt);
        send(node, Signal::CONT)?;
        recorder.note(&format!("n{} goes on", node.id));
        Ok(())
    }

    /// By `quorate node start`, as a person would.
    fn start(&self, node: &NodeEntry) -> Result<(), Failure> {
        let what = format!("start node {} again", node.id);
        let failed = |cause: &dyn std::fmt::Display| {
            let help =
                format!("quorate node start --dir {} --id {}", self.directory.display(), node.id);
            Failure::new(Kind::Data, &what, cause, help)
        };
        while is_alive(node.pid) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let output = Command::new(program)
            .args(["node", "start", "--dir"])
            .arg(&self.directory)
            .args(["--id", &node.id.to_string()])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(&error))?;
        let serves = ask_status(node.admin).is_ok_and(|status| status.serving);
        if output.status.success() || serves {
            return Ok(());
        }
        Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn between(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(least + self.random.below(most - least))
    }
}

impl Running {
    /// Ends the fault that is going on; says how many there were.
    pub(crate) fn finish(self) -> Result<u64, Failure> {
        let _ = self.stop.send(());
        let made = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        say(&format!("{made} faults; all nodes run again"));
        Ok(made)
    }
}

/// Waits; false if told to stop.
fn rest(stopped: &mpsc::Receiver<()>, duration: Duration) -> bool {
    matches!(stopped.recv_timeout(duration), Err(mpsc::RecvTimeoutError::Timeout))
}

fn send(node: &NodeEntry, signal: Signal) -> Result<(), Failure> {
    let failed = |cause: &dyn std::fmt::Display| {
        let what = format!("send a signal to node {}", node.id);
        Failure::new(Kind::Data, what, cause, "does somebody else hurt this cluster, too?")
    };
    let pid = i32::try_from(node.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| failed(&"it has no process"))?;
    kill_process(pid, signal).map_err(|error| failed(&error))
}
