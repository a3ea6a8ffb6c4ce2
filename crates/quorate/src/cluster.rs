//! A cluster on this machine: one directory, one subdirectory a node, and `cluster.json`, which says who
//! runs and where.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_server::{ClusterStatus, MemberAddress, NodeStatus, ServeConfig, write_aside};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};

/// `cluster.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ClusterFile {
    pub(crate) nodes: Vec<NodeEntry>,
    /// The process of `quorate up`, while it runs.
    #[serde(default)]
    pub(crate) up_pid: Option<u32>,
}

/// One node of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeEntry {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) zookeeper: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zookeeper_tls: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etcd: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) member: SocketAddr,
    /// Where it listens for the others, if a relay of `quorate up --playground` is at `member`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) member_listen: Option<SocketAddr>,
}

/// Default ports; node i adds i - 1, and the offset is added to all.
const ZOOKEEPER_PORT: u16 = 2181;
const ZOOKEEPER_TLS_PORT: u16 = 2281;
const ETCD_PORT: u16 = 2379;
const ADMIN_PORT: u16 = 8080;
const MEMBER_PORT: u16 = 7400;
/// Where members listen whose own port is a relay's.
const RELAYED_PORT: u16 = 7450;
/// The page of `quorate up --playground`.
const PLAYGROUND_PORT: u16 = 8070;

impl ClusterFile {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("cluster.json")
    }

    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = Self::path(directory);
        let what = format!("read {}", path.display());
        let text = std::fs::read(&path).map_err(|error| {
            Failure::new(
                Kind::Data,
                &what,
                error,
                "start a cluster with `quorate up --dir DIR` first",
            )
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            Failure::new(
                Kind::BadInput,
                &what,
                error,
                "`quorate up` writes it anew at its next start",
            )
        })
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), Failure> {
        let path = Self::path(directory);
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_aside(&path, &text).map_err(|error| {
            let what = format!("write {}", path.display());
            Failure::new(Kind::Data, what, error, "is the directory writable, and is there space?")
        })
    }
}

/// Where node `id` of a local cluster listens; `None` if a port does not exist.
pub(crate) fn local_entry(id: u64, offset: u16, with_tls: bool) -> Option<NodeEntry> {
    let add = u16::try_from(id - 1).ok()?.checked_add(offset)?;
    let address = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port.checked_add(add)?)));
    Some(NodeEntry {
        id,
        pid: 0,
        zookeeper: address(ZOOKEEPER_PORT)?,
        zookeeper_tls: if with_tls { Some(address(ZOOKEEPER_TLS_PORT)?) } else { None },
        etcd: Some(address(ETCD_PORT)?),
        admin: address(ADMIN_PORT)?,
        member: address(MEMBER_PORT)?,
        member_listen: None,
    })
}

/// The same node behind a relay.
pub(crate) fn relayed(entry: NodeEntry, offset: u16) -> Option<NodeEntry> {
    let add = u16::try_from(entry.id - 1).ok()?.checked_add(offset)?;
    let port = RELAYED_PORT.checked_add(add)?;
    Some(NodeEntry { member_listen: Some(([127, 0, 0, 1], port).into()), ..entry })
}

/// Where the page of a playground is; `None` if the port does not exist.
pub(crate) fn playground_address(offset: u16) -> Option<SocketAddr> {
    Some(([127, 0, 0, 1], PLAYGROUND_PORT.checked_add(offset)?).into())
}

/// Where a node keeps its data.
pub(crate) fn node_directory(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("n{id}"))
}

/// Where a node's configuration is.
pub(crate) fn node_config(directory: &Path, id: u64) -> PathBuf {
    node_directory(directory, id).join("serve.toml")
}

/// The configuration of one node of a local cluster: what was given, and who and where it is.
pub(crate) fn local_config(
    base: &ServeConfig,
    directory: &Path,
    entry: &NodeEntry,
    all: &[NodeEntry],
) -> ServeConfig {
    let member = |entry: &NodeEntry| MemberAddress {
        id: entry.id,
        member: entry.member.to_string(),
        member_listen: entry.member_listen.map(|at| at.to_string()),
        zookeeper: entry.zookeeper,
        zookeeper_tls: entry.zookeeper_tls,
        etcd: entry.etcd,
        admin: entry.admin,
        observer: false,
    };
    ServeConfig {
        node: entry.id,
        data_dir: node_directory(directory, entry.id),
        members: all.iter().map(member).collect(),
        ..base.clone()
    }
}

/// Asks a node how it is.
pub(crate) fn ask_status(admin: SocketAddr) -> std::io::Result<NodeStatus> {
    ask_status_within(admin, Duration::from_secs(2))
}

/// The same, for who cannot wait so long.
pub(crate) fn ask_status_within(
    admin: SocketAddr,
    patience: Duration,
) -> std::io::Result<NodeStatus> {
    let (_, body) = ask_admin(admin, "GET /status", patience)?;
    serde_json::from_str(&body).map_err(std::io::Error::other)
}

/// Asks a node how it and all the others are.
pub(crate) fn ask_cluster(admin: SocketAddr) -> std::io::Result<ClusterStatus> {
    let (_, body) = ask_admin(admin, "GET /cluster", Duration::from_secs(4))?;
    serde_json::from_str(&body).map_err(std::io::Error::other)
}

/// One request at an admin port: whether the answer is a good one, and its body.
pub(crate) fn ask_admin(
    admin: SocketAddr,
    request: &str,
    patience: Duration,
) -> std::io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let good = response.starts_with("HTTP/1.1 2");
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((good, body.to_string()))
}

/// Whether a process is there.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(process) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    // A zombie is there for the kernel only.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
    rustix::process::test_kill_process(process).is_ok() && !is_zombie
}
