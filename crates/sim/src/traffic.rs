//! What went over the network: counted where a scenario limits it (the labs' RPC counts and bytes; RAFT-14).

use std::collections::BTreeMap;

use quorate_contracts::{NodeId, Wire};
use quorate_raft::ReplicaMessage;

/// Messages and bytes of a run so far. The labs count a request when it reaches a server, and the bytes of
/// every request that is sent and of every answer that arrives.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    requests_received: BTreeMap<NodeId, u64>,
    sent: BTreeMap<&'static str, u64>,
    bytes: u64,
}

impl Traffic {
    /// Requests that reached this server (`rpcCount`).
    pub fn requests_received(&self, by: NodeId) -> u64 {
        self.requests_received.get(&by).copied().unwrap_or(0)
    }

    /// Messages sent under the paper's name for them (`Body::name`).
    pub fn sent(&self, name: &str) -> u64 {
        self.sent.get(name).copied().unwrap_or(0)
    }

    /// Bytes of all requests sent and all answers received (`bytesTotal`).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn leaves<M: Wire>(&mut self, message: &ReplicaMessage<M>) {
        *self.sent.entry(name(message)).or_default() += 1;
        if is_request(message) {
            self.bytes += message.to_bytes().len() as u64;
        }
    }

    pub(crate) fn arrives<M: Wire>(&mut self, at: NodeId, message: &ReplicaMessage<M>) {
        if is_request(message) {
            *self.requests_received.entry(at).or_default() += 1;
        } else {
            self.bytes += message.to_bytes().len() as u64;
        }
    }
}

/// Whether a message asks for something.
pub(crate) fn is_request<M>(message: &ReplicaMessage<M>) -> bool {
    match message {
        ReplicaMessage::Raft(message) => message.body.is_request(),
        ReplicaMessage::NotTaken { .. } => false,
        _ => true,
    }
}

fn name<M>(message: &ReplicaMessage<M>) -> &'static str {
    match message {
        ReplicaMessage::Raft(message) => message.body.name(),
        ReplicaMessage::Forward(_) => "Forward",
        ReplicaMessage::NotTaken { .. } => "NotTaken",
        _ => "Service",
    }
}

/// What a message says, for a trace: `AppendEntries term 3 after 16@3 +1 commit 15`.
pub(crate) fn describe<M>(message: &ReplicaMessage<M>) -> String {
    use quorate_raft::Body;
    let ReplicaMessage::Raft(raft) = message else { return name(message).to_string() };
    let head = format!("{} term {}", raft.body.name(), raft.term);
    match &raft.body {
        Body::RequestVote { last, .. } => format!("{head} last {last}"),
        Body::Vote { granted, .. } => {
            format!("{head} {}", if *granted { "granted" } else { "denied" })
        }
        Body::AppendEntries { prev, entries, commit, .. } => {
            format!("{head} after {prev} +{} commit {commit}", entries.len())
        }
        Body::Accepted { matched, .. } | Body::Full { matched, .. } => {
            format!("{head} up to {matched}")
        }
        Body::Rejected { prev, hint, .. } => format!("{head} of {prev}, perhaps {hint}"),
        Body::Damaged { hint, .. } => format!("{head} behind {hint}"),
        Body::Reverted { last, .. } => format!("{head} from {last}"),
        Body::InstallSnapshot { meta, offset, bytes, done, .. } => {
            let end = if *done { " done" } else { "" };
            format!("{head} {} at {offset} +{}{end}", meta.last, bytes.len())
        }
        Body::SnapshotProgress { last, next_offset } => {
            format!("{head} {last} next {next_offset}")
        }
        _ => head,
    }
}
