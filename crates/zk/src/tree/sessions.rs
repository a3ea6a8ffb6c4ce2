//! Sessions as all servers agree on them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate_contracts::{NodeId, RequestId};

use crate::command::{Attachment, SessionId};

/// A session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// What a client must show to attach.
    pub password: [u8; 16],
    /// It expires after this silence.
    pub timeout_ms: u32,
    /// How often it was attached.
    pub attachment: Attachment,
    /// The next write of this attachment.
    pub next_sequence: u64,
    /// The server that it is attached to.
    pub server: NodeId,
    /// The proposal that created it, and its server: it is recognised when it comes again.
    pub(crate) creation: (NodeId, RequestId),
    /// The last proposal of each server that attached it: it is recognised when it comes again, also after
    /// the session was attached elsewhere.
    pub(crate) nonces: BTreeMap<NodeId, RequestId>,
    /// The znodes that go with it, by path: the order in which they do.
    pub(crate) ephemerals: BTreeSet<Rc<str>>,
}

/// All sessions.
pub(crate) type Sessions = BTreeMap<SessionId, Session>;

impl Session {
    /// How many znodes go with it.
    pub fn ephemerals(&self) -> usize {
        self.ephemerals.len()
    }

    /// A hash of everything that is the same on all replicas; the znodes have their own.
    pub(crate) fn digest(&self, id: SessionId) -> u64 {
        let mut hash = id.0 as u64 ^ u64::from(crc32c::crc32c(&self.password));
        let (creator, creation) = self.creation;
        let words = [
            u64::from(self.timeout_ms),
            self.attachment.0,
            self.next_sequence,
            self.server.0,
            creator.0,
            creation.0,
        ];
        let nonces = self.nonces.iter().flat_map(|(server, nonce)| [server.0, nonce.0]);
        for word in words.into_iter().chain(nonces) {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        hash
    }
}
