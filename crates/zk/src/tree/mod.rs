//! The replicated state: the znode tree, its access control lists, and the sessions.
//!
//! Invariants: every znode but the root has a parent; a znode is ephemeral exactly if its session is
//! there and lists it; the digest is the sum of the hashes of all znodes, sessions and lists.
//!
//! Not here: who is connected and who watches what (`server`).

mod acl;
mod found;
mod node;
mod perform;
mod plan;
mod quota;
mod read;
mod reap;
mod sessions;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate_contracts::{BadSnapshot, LogIndex, NodeId, Progress, RequestId, StateMachine};

pub(crate) use acl::masked;
use acl::{AclId, AclTable};
pub use acl::{anyone, permits, perms};
pub use found::Founding;
use node::{Kind, Node, Nodes, Slot};
pub use read::Znode;
pub use sessions::Session;
use sessions::Sessions;
use snapshot::Snapshotting;

use crate::command::{
    AclEntry, AclList, Attachment, Body, Command, ErrorCode, Event, Identity, MultiFailure, Op,
    OpReply, Outcome, SessionId, Zxid,
};
use crate::ensemble::config_version;

/// Where clients read which servers there are; it can be neither deleted nor, but by a superuser, set.
pub const CONFIG: &str = "/zookeeper/config";

/// The coordination service's state.
#[derive(Debug)]
pub struct Tree {
    nodes: Nodes,
    acls: AclTable,
    sessions: Sessions,
    /// What created them.
    creations: BTreeSet<(NodeId, RequestId)>,
    last_zxid: Zxid,
    /// zxid = log index + this.
    zxid_offset: i64,
    digest: u64,
    bytes: u64,
    ephemerals: u64,
    snapshotting: Option<Snapshotting>,
    reapable: reap::Reapable,
    quotas: quota::Quotas,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// One command's place in the order, and when it was asked for.
#[derive(Clone, Copy, Debug)]
struct At {
    zxid: Zxid,
    unix_ms: i64,
}

impl Tree {
    /// The tree of a new cluster: the root, and what clients expect to find below it.
    pub fn new() -> Self {
        let mut tree = Self::empty();
        tree.add_system_znodes();
        tree
    }

    /// What is not there yet of the znodes that every tree has.
    fn add_system_znodes(&mut self) {
        let list = |perms| -> AclList { [AclEntry { perms, identity: anyone() }].into() };
        let (all, read) = (list(perms::ALL), list(perms::READ));
        for (path, list) in
            [("/", &all), ("/zookeeper", &all), ("/zookeeper/quota", &all), (CONFIG, &read)]
        {
            if self.nodes.find(path).is_some() {
                continue;
            }
            let acl = self.acls.intern(list);
            let mut node = Node::new(path, Some(b""), acl, Kind::Persistent, Zxid(0), 0);
            node.aversion = if path == CONFIG { -1 } else { 0 };
            self.add(node);
        }
    }

    fn empty() -> Self {
        Self {
            nodes: Nodes::default(),
            acls: AclTable::default(),
            sessions: Sessions::new(),
            creations: BTreeSet::new(),
            last_zxid: Zxid(0),
            zxid_offset: 0,
            digest: 0,
            bytes: 0,
            ephemerals: 0,
            snapshotting: None,
            reapable: reap::Reapable::default(),
            quotas: quota::Quotas::default(),
        }
    }

    fn apply_body(&mut self, at: At, body: &Body<'_>, events: &mut Vec<Event>) -> Outcome {
        match body {
            Body::CreateSession { server, nonce, .. }
                if self.creations.contains(&(*server, *nonce)) =>
            {
                Outcome::Duplicate
            }
            Body::CreateSession { server, nonce, password, timeout_ms } => {
                let id = (server.0 as i64 & 0x7f) << 56 | at.zxid.0 & 0x00ff_ffff_ffff_ffff;
                let session = Session {
                    password: *password,
                    timeout_ms: *timeout_ms,
                    attachment: Attachment(1),
                    next_sequence: 1,
                    server: *server,
                    creation: (*server, *nonce),
                    nonces: BTreeMap::new(),
                    ephemerals: Default::default(),
                };
                let session_id = SessionId(id);
                self.add_session(session_id, session);
                Outcome::SessionCreated { session: session_id }
            }
            Body::Attach { session, server, nonce, password, timeout_ms } => {
                let known = self.sessions.get(session).filter(|s| s.password == *password);
                let Some(known) = known else { return Outcome::AttachRefused };
                if known.nonces.get(server) == Some(nonce) {
                    let (here, attachment) = (known.server == *server, known.attachment);
                    return if here { Outcome::Attached { attachment } } else { Outcome::Moved };
                }
                self.change_session(*session, |s| {
                    s.attachment = Attachment(s.attachment.0 + 1);
                    (s.next_sequence, s.server, s.timeout_ms) = (1, *server, *timeout_ms);
                    s.nonces.insert(*server, *nonce);
                });
                let attachment = self.sessions[session].attachment;
                events.push(Event::SessionAttached {
                    session: *session,
                    server: *server,
                    attachment,
                });
                Outcome::Attached { attachment }
            }
            Body::Write { session, attachment, sequence, identities, op } => {
                self.write(at, (*session, *attachment, *sequence), identities, op, events)
            }
            Body::Publish { config } => {
                // An older configuration, of a leader that has not heard of the newer one, is no news.
                let version = config_version(Some(config.as_bytes()));
                let is_news = |node: &Node| {
                    node.data() != Some(config.as_bytes()) && config_version(node.data()) <= version
                };
                if self.nodes.get(CONFIG).is_some_and(is_news) {
                    let data = Some(config.as_bytes());
                    self.perform(at, plan::Planned::SetData { path: CONFIG, data }, events);
                }
                Outcome::Published
            }
            Body::Reap { path, czxid } => Outcome::Reaped(self.reap(at, path, *czxid, events)),
            Body::Expire { session, attachment } => {
                let due = self.sessions.get(session).is_some_and(|s| s.attachment == *attachment);
                if due {
                    self.end_session(at, *session, true, events);
                }
                Outcome::Expired(due)
            }
        }
    }

    fn write(
        &mut self,
        at: At,
        (id, attachment, sequence): (SessionId, Attachment, u64),
        identities: &[Identity],
        op: &Op<'_>,
        events: &mut Vec<Event>,
    ) -> Outcome {
        let Some(session) = self.sessions.get(&id) else { return Outcome::SessionExpired };
        if session.attachment != attachment {
            return Outcome::Moved;
        }
        match sequence.cmp(&session.next_sequence) {
            std::cmp::Ordering::Less => return Outcome::Duplicate,
            std::cmp::Ordering::Greater => return Outcome::Gap,
            std::cmp::Ordering::Equal => {}
        }
        self.change_session(id, |session| session.next_sequence += 1);
        Outcome::Done(match op {
            Op::Sync { path } => Ok(OpReply::Synced((*path).to_string())),
            Op::CloseSession => {
                self.end_session(at, id, false, events);
                Ok(OpReply::Nothing)
            }
            Op::Multi(ops) => Ok(OpReply::Multi(self.multi(at, id, identities, ops, events))),
            op => {
                let planned = plan::Planner::new(self, id, identities, false).plan(op);
                planned.map(|planned| self.perform(at, planned, events))
            }
        })
    }

    fn multi(
        &mut self,
        at: At,
        id: SessionId,
        identities: &[Identity],
        ops: &[Op<'_>],
        events: &mut Vec<Event>,
    ) -> Result<Vec<OpReply>, MultiFailure> {
        let mut planner = plan::Planner::new(self, id, identities, true);
        let mut planned = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let failed = |error: ErrorCode| MultiFailure { at: index, ops: ops.len(), error };
            planned.push(planner.plan(op).map_err(failed)?);
        }
        Ok(planned.into_iter().map(|planned| self.perform(at, planned, events)).collect())
    }

    fn add_session(&mut self, id: SessionId, session: Session) {
        self.digest = self.digest.wrapping_add(session.digest(id));
        self.creations.insert(session.creation);
        self.sessions.insert(id, session);
    }

    fn change_session(&mut self, id: SessionId, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.digest = self.digest.wrapping_sub(session.digest(id));
            change(session);
            self.digest = self.digest.wrapping_add(session.digest(id));
        }
    }

    /// Ends a session; its ephemerals go in the same transaction, in order of their paths.
    fn end_session(&mut self, at: At, id: SessionId, expired: bool, events: &mut Vec<Event>) {
        let ephemerals: Vec<Rc<str>> =
            self.sessions.get(&id).map_or(Vec::new(), |s| s.ephemerals.iter().cloned().collect());
        for path in ephemerals {
            self.perform_delete(at, &path, events);
        }
        if let Some(session) = self.sessions.remove(&id) {
            self.creations.remove(&session.creation);
            self.digest = self.digest.wrapping_sub(session.digest(id));
        }
        events.push(Event::SessionEnded { session: id, expired });
    }

    fn slot(&self, path: &str) -> Slot {
        self.nodes.find(path).unwrap_or_else(|| panic!("{path} was planned with, and is not there"))
    }

    fn acl(&self, id: AclId) -> &AclList {
        self.acls.list(id)
    }
}

impl StateMachine for Tree {
    type Outcome = Outcome;
    type Event = Event;

    fn apply(&mut self, at: LogIndex, command: &[u8], events: &mut Vec<Event>) -> Outcome {
        let command = Command::decode(command)
            .unwrap_or_else(|error| panic!("entry {at} is no command of ours: {error}"));
        self.last_zxid = self.zxid_at(at);
        let at = At { zxid: self.last_zxid, unix_ms: command.unix_ms };
        self.apply_body(at, &command.body, events)
    }

    fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.acls.digest())
    }

    fn begin_snapshot(&mut self) {
        self.begin_snapshotting();
    }

    fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        self.next_slice(bytes, out)
    }

    fn restore(reader: &mut dyn std::io::Read) -> Result<Self, BadSnapshot> {
        snapshot::restore(reader)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        self.bytes + 100 * self.nodes.len() as u64 + 80 * self.sessions.len() as u64
    }
}
