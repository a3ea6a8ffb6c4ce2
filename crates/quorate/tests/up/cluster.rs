//! A cluster of real processes for tests: in a directory of its own, on free ports, gone when dropped.

use std::collections::BTreeMap;
use std::fs::{DirEntry, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Machines are shared and noisy.
const PATIENCE: Duration = Duration::from_secs(120);
/// The ports of node 1 (DESIGN, "Decisions already made"); node i adds i - 1.
const FIRST_PORTS: [u16; 4] = [2181, 2379, 8080, 7400];

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A directory that goes with the test.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
}

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-up-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    fn file(&self, name: &str) -> PathBuf {
        // Beside the directory: what `up` finds in it is only its own.
        self.path.with_extension(name)
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let output = quorate().args(words).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `quorate up` here.
    pub(crate) fn up(&self, nodes: u64, offset: u16) -> Up {
        self.up_with(nodes, offset, &[])
    }

    fn up_with(&self, nodes: u64, offset: u16, more: &[&str]) -> Up {
        let (stdout, stderr) = (self.file("stdout"), self.file("stderr"));
        let child = quorate()
            .args(["up", "--nodes", &nodes.to_string(), "--port-offset", &offset.to_string()])
            .arg("--dir")
            .arg(&self.path)
            .args(more)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Up { child, stdout, stderr }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
        for name in ["stdout", "stderr"] {
            let _ = std::fs::remove_file(self.file(name));
        }
    }
}

/// A running `quorate up`; killed when dropped, and its nodes with it.
pub(crate) struct Up {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Up {
    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Ran {
        let mut status: Option<ExitStatus> = None;
        until("`quorate up` ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Ran {
            code: status.and_then(|status| status.code()).unwrap_or(-1),
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster that serves.
pub(crate) struct Cluster {
    up: Up,
    pub(crate) directory: Directory,
    pub(crate) offset: u16,
    size: u64,
}

impl Cluster {
    /// Starts one and waits until it serves. Another test may take a port in between: then on other ports.
    pub(crate) fn start(size: u64) -> Self {
        Self::start_with(size, &[])
    }

    /// Likewise, with more words for `up`.
    pub(crate) fn start_with(size: u64, more: &[&str]) -> Self {
        for _ in 0..5 {
            let (directory, offset) = (Directory::new(), free_offset(size));
            let up = directory.up_with(size, offset, more);
            let mut cluster = Self { up, directory, offset, size };
            if cluster.comes_up() {
                return cluster;
            }
        }
        panic!("no cluster came up, five times");
    }

    /// The same directory and ports once more, after `up` ended.
    pub(crate) fn start_again(self) -> Self {
        let Self { up, directory, offset, size } = self;
        drop(up);
        let up = directory.up(size, offset);
        let mut cluster = Self { up, directory, offset, size };
        assert!(cluster.comes_up(), "{}", cluster.stderr());
        cluster
    }

    fn comes_up(&mut self) -> bool {
        let mut came = false;
        until("the cluster serves", || {
            came = read(&self.up.stdout).contains("nodes serve");
            came || self.up.child.try_wait().unwrap().is_some()
        });
        came
    }

    /// What `cluster.json` says of the nodes.
    pub(crate) fn nodes(&self) -> Vec<Value> {
        let text = std::fs::read(self.directory.path.join("cluster.json")).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        file["nodes"].as_array().unwrap().clone()
    }

    /// What `quorate status --json` says of them.
    pub(crate) fn status(&self) -> Vec<Value> {
        let directory = self.directory.path.display().to_string();
        let ran = self.directory.run(&["status", "--dir", &directory, "--json"]);
        let status: Value = serde_json::from_str(&ran.stdout).unwrap();
        status["nodes"].as_array().unwrap().clone()
    }

    /// Where ZooKeeper's clients connect.
    pub(crate) fn servers(&self) -> String {
        let nodes = self.nodes();
        let servers: Vec<&str> =
            nodes.iter().filter_map(|node| node["zookeeper"].as_str()).collect();
        servers.join(",")
    }

    /// What `up` said so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.up.stderr)
    }

    /// Ctrl-C, and the exit code.
    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        signal(u64::from(self.up.child.id()), rustix::process::Signal::INT);
        let mut status = None;
        until("`quorate up` ends", || {
            status = self.up.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// `kill -9` of `up` itself.
    pub(crate) fn kill(&mut self) {
        kill(u64::from(self.up.child.id()));
        let _ = self.up.child.wait();
    }
}

/// The files of a directory.
pub(crate) fn names_and_sizes(directory: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let file = |entry: DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len())
    };
    entries.map(file).collect()
}

/// `kill -9`.
pub(crate) fn kill(pid: u64) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Whether a process is gone, or waits only for its parent to look.
pub(crate) fn ended(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

/// Waits for a condition; says what did not come.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.stdin(Stdio::null());
    command
}

fn signal(pid: u64, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// An offset at which every port of a cluster is free just now. Tests of one process draw different ones.
fn free_offset(size: u64) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 1_000) as u16 * 30;
    for _ in 0..1_000 {
        let offset = start + NEXT.fetch_add(10, Ordering::Relaxed) % 12_000;
        let ports =
            FIRST_PORTS.iter().flat_map(|port| (0..size as u16).map(move |i| port + i + offset));
        if ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return offset;
        }
    }
    panic!("no free range of ports from offset {start} on");
}
