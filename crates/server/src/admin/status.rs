//! How a node is, for `GET /status`, `quorate status` and the metrics.

use quorate_contracts::{GroupId, NodeId, Room, Time};
use quorate_raft::{FollowerView, Raft, RoleName, Status};
use serde::{Deserialize, Serialize};

use crate::tls::renewal::CertificateStatus;

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
    /// What the newest snapshot of the coordination state stands for, likewise.
    pub snapshot_zxid: Option<String>,
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
    /// What room there is for the log.
    pub room: RoomName,
    /// Free space of the log's disk in bytes, where the system tells.
    pub disk_free_bytes: Option<u64>,
    /// Space that the log has reserved and not written to.
    pub log_room_bytes: u64,
    /// Packets written to other members since the start.
    pub member_packets_sent: u64,
    /// Its time of day, in milliseconds since 1970; 0 from builds that did not tell.
    pub unix_ms: u64,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Which list of members it knows: each change makes a higher one, 0 is that of the configuration.
    pub roster_version: u64,
    /// Milliseconds for which its threads had a processor.
    pub cpu_ms: u64,
    /// How long its fdatasyncs took since the start: a bucket's end in microseconds, and how many fell into it.
    pub syncs_us: Vec<(u64, u64)>,
    /// How long its clients waited for their answers, likewise.
    pub answers_us: Vec<(u64, u64)>,
    /// Packets that its clients sent ...
    pub packets_received: u64,
    /// ... and were sent.
    pub packets_sent: u64,
    /// Requests of its clients that are not answered yet.
    pub outstanding: usize,
    /// Ephemeral znodes.
    pub ephemerals: u64,
    /// Bytes of all paths and data.
    pub data_bytes: u64,
    /// Files of the log, and their size.
    pub segments: usize,
    /// See `segments`.
    pub segment_bytes: u64,
    /// Files of snapshots, and their size.
    pub snapshots: usize,
    /// See `snapshots`.
    pub snapshot_bytes: u64,
    /// Groups hosted only to be measured (`quorate bench groups`) ...
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_groups: usize,
    /// ... and those of them that have a leader.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_groups_with_leader: usize,
    /// Its certificates, by what it uses them for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// Its key/value store.
    pub kv: KvStatus,
    /// Its Raft groups.
    pub groups: Vec<GroupStatus>,
}

/// What room there is for the log, in the words of `/status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomName {
    /// Enough.
    #[default]
    Enough,
    /// New writes are refused.
    Little,
    /// The node takes no entries; it votes.
    Reserve,
}

impl From<Room> for RoomName {
    fn from(room: Room) -> Self {
        match room {
            Room::Enough => Self::Enough,
            Room::Little => Self::Little,
            Room::Reserve => Self::Reserve,
        }
    }
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupStatus {
    /// Its number.
    pub id: u64,
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
    /// It has nothing to do, and sends no heartbeats until it has.
    #[serde(default)]
    pub asleep: bool,
    /// What the disk lost of what this node had acknowledged, in words, until another member has sent it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Nobody has led for long who could send it again: no majority of the members seems to be up and whole.
    #[serde(default)]
    pub stranded: bool,
    /// The log begins after this index.
    pub base: u64,
    /// Highest index that is durable on this node.
    pub durable: u64,
    /// The last index that the newest snapshot covers.
    pub snapshot: Option<u64>,
    /// The runs of one term in the log, the newest few: first index, term.
    pub terms: Vec<(u64, u64)>,
    /// Whose votes count.
    pub voters: Vec<u64>,
    /// Who gets the log without a vote.
    pub learners: Vec<u64>,
    /// What the leader knows of the others' logs; empty elsewhere.
    pub followers: Vec<FollowerStatus>,
    /// Who led, as this node heard of it, the newest last: term, leader, when in milliseconds since 1970.
    pub reigns: Vec<(u64, u64, u64)>,
}

/// What a leader knows of another member's log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowerStatus {
    /// The member.
    pub id: u64,
    /// `matchIndex`: so far its log is known to agree, durably.
    pub matched: u64,
    /// `nextIndex`: what it is to be sent next.
    pub next: u64,
    /// `probe`, `replicate`, `snapshot` or `asleep`.
    pub feed: String,
    /// Milliseconds since it was heard of.
    pub heard_ms: u64,
}

impl FollowerStatus {
    fn new(now: Time, view: &FollowerView) -> Self {
        Self {
            id: view.node.0,
            matched: view.matched.0,
            next: view.next.0,
            feed: view.feed.to_string(),
            heard_ms: now.since(view.heard).as_millis() as u64,
        }
    }
}

/// Runs of one term that are told of: more would be told every second, and nobody sees so many.
const TERMS_TOLD_MAX: usize = 12;

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
            asleep: status.asleep,
            missing: status.missing.as_ref().map(ToString::to_string),
            stranded: status.stranded,
            ..Self::default()
        }
    }

    /// Adds what there is to see of the group's log.
    pub(crate) fn add_log(&mut self, id: GroupId, now: Time, raft: &Raft, status: &Status) {
        let ids = |nodes: &std::collections::BTreeSet<_>| nodes.iter().map(id_of).collect();
        let starts = raft.term_starts();
        let untold = starts.len().saturating_sub(TERMS_TOLD_MAX);
        self.id = id.0;
        self.base = status.base.index.0;
        self.durable = status.durable.0;
        self.snapshot = raft.snapshot_index().map(|index| index.0);
        self.terms = starts.skip(untold).map(|start| (start.index.0, start.term.0)).collect();
        self.voters = ids(&status.membership.voters);
        self.learners = ids(&status.membership.learners);
        let followers = raft.followers();
        self.followers = followers.iter().map(|view| FollowerStatus::new(now, view)).collect();
    }
}

fn id_of(node: &NodeId) -> u64 {
    node.0
}
