//! Snapshots in slices: the state as it was when the snapshot began, while writes go on.
//!
//! Nodes are written slot by slot. The first change of a slot that was not written yet sets its old content
//! aside, encoded; so a write pays at most for the nodes that it touches, however large the tree is.
//! Sessions and access control lists are small and are encoded when the snapshot begins.
//!
//! ```text
//! version 4 | last zxid 8 | zxid offset 8
//! lists 4   | (id 4 | list) ...
//! sessions 4| (id 8 | password 16 | timeout 4 | attachment 8 | next sequence 8 | server 8 | created by 8 + 8
//!           |  nonces 4 | (server 8 | nonce 8) ...) ...
//! nodes     | (1 | node) ... | 0
//! ```

use std::collections::BTreeMap;
use std::io::Read;

use quorate_contracts::{
    BadSnapshot, Malformed, NodeId, Progress, RequestId, WireReader, WireWriter,
};

use super::acl::AclId;
use super::node::{Kind, Node, Slot};
use super::{Session, Tree};
use crate::codec::{decode_acl, encode_acl};
use crate::command::{Attachment, SessionId, Zxid};
use crate::path;

const VERSION: u32 = 1;
/// The highest number of a list that is believed: far more lists than fit into memory.
const LISTS_MAX: u32 = 1 << 28;

/// A snapshot being taken.
#[derive(Debug)]
pub(super) struct Snapshotting {
    /// Everything but the nodes, until it is written.
    head: Vec<u8>,
    /// The next slot to write.
    cursor: u32,
    /// Slots from here on did not exist when the snapshot began.
    end: u32,
    /// What changed slots held: empty if they were free.
    pub(super) aside: BTreeMap<Slot, Vec<u8>>,
}

impl Tree {
    pub(super) fn begin_snapshotting(&mut self) {
        let (cursor, end) = (0, self.nodes.slots());
        let head = encode_head(self);
        self.snapshotting = Some(Snapshotting { head, cursor, end, aside: BTreeMap::new() });
    }

    /// A slot is about to change.
    pub(super) fn set_aside(&mut self, slot: Slot) {
        let Some(snapshotting) = &mut self.snapshotting else { return };
        if slot.0 >= snapshotting.cursor && slot.0 < snapshotting.end {
            let nodes = &self.nodes;
            snapshotting
                .aside
                .entry(slot)
                .or_insert_with(|| nodes.at(slot).map_or(Vec::new(), encode_node));
        }
    }

    pub(super) fn next_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        let Some(snapshotting) = &mut self.snapshotting else { return Progress::Done };
        let end = out.len() + bytes;
        out.append(&mut snapshotting.head);
        while out.len() < end && snapshotting.cursor < snapshotting.end {
            let slot = Slot(snapshotting.cursor);
            snapshotting.cursor += 1;
            match snapshotting.aside.remove(&slot) {
                Some(node) => out.extend_from_slice(&node),
                None => {
                    self.nodes.at(slot).into_iter().for_each(|node| out.extend(encode_node(node)))
                }
            }
        }
        if snapshotting.cursor < snapshotting.end {
            return Progress::More;
        }
        out.push(0);
        self.snapshotting = None;
        Progress::Done
    }
}

fn encode_head(tree: &Tree) -> Vec<u8> {
    let mut out = WireWriter::default();
    out.u32(VERSION);
    out.u64(tree.last_zxid.0 as u64);
    out.u64(tree.zxid_offset as u64);
    out.u32(tree.acls.len() as u32);
    for (id, list) in tree.acls.iter() {
        out.u32(id.0);
        encode_acl(list, &mut out);
    }
    out.u32(tree.sessions.len() as u32);
    for (id, session) in &tree.sessions {
        out.u64(id.0 as u64);
        out.raw(&session.password);
        out.u32(session.timeout_ms);
        out.u64(session.attachment.0);
        out.u64(session.next_sequence);
        out.u64(session.server.0);
        out.u64(session.creation.0.0);
        out.u64(session.creation.1.0);
        out.u32(session.nonces.len() as u32);
        for (server, nonce) in &session.nonces {
            out.u64(server.0);
            out.u64(nonce.0);
        }
    }
    out.finish().to_vec()
}

fn encode_node(node: &Node) -> Vec<u8> {
    let mut out = WireWriter::with_capacity(128 + node.bytes() as usize);
    out.u8(1);
    out.bytes(node.path.as_bytes());
    out.bool(node.data().is_some());
    out.bytes(node.data().unwrap_or_default());
    out.u32(node.acl.0);
    let (kind, owner) = match node.kind {
        Kind::Persistent => (0, 0),
        Kind::Ephemeral(session) => (1, session.0),
        Kind::Container => (2, 0),
        Kind::Ttl(ttl) => (3, ttl),
    };
    out.u8(kind);
    out.u64(owner as u64);
    for word in [node.czxid.0, node.mzxid.0, node.pzxid.0, node.ctime, node.mtime] {
        out.u64(word as u64);
    }
    out.u32(node.version as u32);
    out.u32(node.aversion as u32);
    out.u64(node.created);
    out.finish().to_vec()
}

fn decode_node(input: &mut WireReader<'_>) -> Result<Node, Malformed> {
    let path = input.str()?;
    let has_data = input.bool()?;
    let data = Some(input.bytes()?).filter(|_| has_data);
    let acl = AclId(input.u32()?);
    let kind = match (input.u8()?, input.u64()?) {
        (0, _) => Kind::Persistent,
        (1, session) => Kind::Ephemeral(SessionId(session as i64)),
        (2, _) => Kind::Container,
        (3, ttl) => Kind::Ttl(ttl as i64),
        _ => return Err(Malformed("a znode of an unknown kind")),
    };
    let mut node = Node::new(path, data, acl, kind, Zxid(0), 0);
    node.czxid = Zxid(input.u64()? as i64);
    node.mzxid = Zxid(input.u64()? as i64);
    node.pzxid = Zxid(input.u64()? as i64);
    node.ctime = input.u64()? as i64;
    node.mtime = input.u64()? as i64;
    node.version = input.u32()? as i32;
    node.aversion = input.u32()? as i32;
    node.created = input.u64()?;
    Ok(node)
}

pub(super) fn restore(reader: &mut dyn Read) -> Result<Tree, BadSnapshot> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    let mut input = WireReader::from_slice(&bytes);
    decode(&mut input).map_err(|malformed| match malformed {
        Refused::Version(found) => BadSnapshot::Version { found, known: VERSION },
        Refused::Malformed(Malformed(what)) => BadSnapshot::Malformed(what),
    })
}

enum Refused {
    Version(u32),
    Malformed(Malformed),
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

fn decode(input: &mut WireReader<'_>) -> Result<Tree, Refused> {
    let version = input.u32()?;
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let mut tree = Tree::empty();
    tree.last_zxid = Zxid(input.u64()? as i64);
    tree.zxid_offset = input.u64()? as i64;
    for _ in 0..input.count(8)? {
        let id = input.u32()?;
        if id > LISTS_MAX {
            return Err(Malformed("the number of an access control list is too high").into());
        }
        tree.acls.put(AclId(id), decode_acl(input)?.into());
    }
    for _ in 0..input.count(60)? {
        let (id, session) = decode_session(input)?;
        tree.add_session(id, session);
    }
    add_nodes(&mut tree, input)?;
    if !input.is_empty() {
        return Err(Malformed("bytes left over").into());
    }
    Ok(tree)
}

fn decode_session(input: &mut WireReader<'_>) -> Result<(SessionId, Session), Malformed> {
    let id = SessionId(input.u64()? as i64);
    let session = Session {
        password: input.array()?,
        timeout_ms: input.u32()?,
        attachment: Attachment(input.u64()?),
        next_sequence: input.u64()?,
        server: NodeId(input.u64()?),
        creation: (NodeId(input.u64()?), RequestId(input.u64()?)),
        nonces: {
            let count = input.count(16)?;
            let nonce = |_| Ok((NodeId(input.u64()?), RequestId(input.u64()?)));
            (0..count).map(nonce).collect::<Result<_, Malformed>>()?
        },
        ephemerals: Default::default(),
    };
    Ok((id, session))
}

/// Slots are reused, so that a child may come before its parent: those wait.
fn add_nodes(tree: &mut Tree, input: &mut WireReader<'_>) -> Result<(), Malformed> {
    let mut waiting: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    while input.bool()? {
        let node = decode_node(input)?;
        if !tree.acls.use_again(node.acl) {
            return Err(Malformed("a znode without an access control list"));
        }
        match path::parent(&node.path) {
            Some(parent) if tree.nodes.find(parent).is_none() => {
                waiting.entry(parent.to_string()).or_default().push(node);
            }
            _ => add_with_waiting(tree, node, &mut waiting),
        }
    }
    if waiting.is_empty() { Ok(()) } else { Err(Malformed("a znode without a parent")) }
}

fn add_with_waiting(tree: &mut Tree, node: Node, waiting: &mut BTreeMap<String, Vec<Node>>) {
    let mut ready = vec![node];
    while let Some(node) = ready.pop() {
        ready.extend(waiting.remove(&*node.path).unwrap_or_default());
        tree.add(node);
    }
}
