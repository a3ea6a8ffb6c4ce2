//! How a node is, for `GET /status`, `quorate status` and the metrics.

use quorate_raft::{RoleName, Status};
use serde::{Deserialize, Serialize};

/// How a node is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// It has caught up with its cluster and takes clients.
    pub serving: bool,
    /// Last transaction applied, in hexadecimal.
    pub zxid: String,
    /// Sessions of the whole cluster.
    pub sessions: usize,
    /// Clients connected to this node.
    pub connections: usize,
    /// Watches set on this node.
    pub watches: usize,
    /// Znodes.
    pub znodes: usize,
    /// Hash of the state: equal on all nodes with the same applied index.
    pub digest: String,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// fdatasyncs of the log since the start.
    pub fdatasyncs: u64,
    /// Entries written to the log since the start.
    pub log_entries: u64,
    /// Bytes written to the log since the start.
    pub log_bytes: u64,
    /// Packets written to other members since the start.
    pub member_packets_sent: u64,
    /// Groups hosted only to be measured (`quorate bench groups`) ...
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_groups: usize,
    /// ... and those of them that have a leader.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_groups_with_leader: usize,
    /// Its key/value store.
    pub kv: KvStatus,
    /// Its Raft groups.
    pub groups: Vec<GroupStatus>,
}

/// How a node's key/value store is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KvStatus {
    /// It has caught up with its group and takes clients.
    pub serving: bool,
    /// The newest revision.
    pub revision: i64,
    /// Revisions below cannot be read; -1 if none was compacted.
    pub compacted: i64,
    /// Keys that exist.
    pub keys: u64,
    /// Bytes of all keys and values kept, older revisions included.
    pub bytes: u64,
    /// Leases of the whole cluster.
    pub leases: usize,
    /// Watches set on this node.
    pub watches: usize,
    /// Alarms that are raised: the member and the alarm's number in etcd's API.
    pub alarms: Vec<(u64, i32)>,
    /// Hash of the state: equal on all nodes with the same applied index.
    pub digest: String,
}

impl NodeStatus {
    /// Whether it takes the clients of every service.
    pub fn serves_all(&self) -> bool {
        self.serving && self.kv.serving
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// How a group of a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Highest index known to be committed.
    pub commit: u64,
    /// Highest index applied.
    pub applied: u64,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// The last index of the log.
    pub last: u64,
    /// What the disk lost of what this node had acknowledged, in words, until another member has sent it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Nobody has led for long who could send it again: no majority of the members seems to be up and whole.
    #[serde(default)]
    pub stranded: bool,
}

impl GroupStatus {
    pub(crate) fn new(name: &str, status: &Status) -> Self {
        let role = match status.role {
            RoleName::Leader => "leader",
            RoleName::Follower => "follower",
            RoleName::PreCandidate | RoleName::Candidate => "candidate",
            RoleName::Learner => "learner",
        };
        Self {
            name: name.to_string(),
            role: role.to_string(),
            term: status.term.0,
            commit: status.commit.0,
            applied: status.applied.0,
            leader: status.leader.map(|node| node.0),
            last: status.last.index.0,
            missing: status.missing.as_ref().map(ToString::to_string),
            stranded: status.stranded,
        }
    }
}
