//! What is worth telling of one step: what changed in a server, and what it sends.

use std::fmt;

use quorate_contracts::{
    Entry, EntryId, EntryKind, LogIndex, NodeId, Record, RequestId, Term, Wire,
};
use quorate_raft::{Body, Membership, Message, Raft, RoleName};

/// Longer batches are told by their first and last entry.
const ENTRIES_TOLD: usize = 8;

/// What a server looks like from outside.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) role: RoleName,
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    pub(crate) commit: LogIndex,
}

impl View {
    pub(crate) fn of(raft: &Raft) -> Self {
        let (role, term) = (raft.role(), raft.term());
        // A leader that names itself says nothing new.
        let leader = raft.leader().filter(|leader| *leader != raft.node());
        Self { role, term, leader, commit: raft.commit() }
    }

    /// Whether both have the same office.
    pub(crate) fn same_office(&self, other: &Self) -> bool {
        (self.role, self.term, self.leader) == (other.role, other.term, other.leader)
    }
}

/// `follower 3 (n2)`
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
            RoleName::Learner => "learner",
        };
        write!(f, "{role} {}", self.term)?;
        self.leader.map_or(Ok(()), |leader| write!(f, " ({leader})"))
    }
}

/// `removes 2 and after, appends 2@2 noop`, or nothing, if a record is only of term and vote.
pub(crate) fn of_record(record: &Record) -> Option<String> {
    let base = record.base.map(|base| format!("log begins after {base}"));
    let truncated = record.truncate_from.map(|from| format!("removes {from} and after"));
    let appended = match &record.entries[..] {
        [] => None,
        [first, .., last] if record.entries.len() > ENTRIES_TOLD => {
            Some(format!("appends {}..{}", first.id, last.id))
        }
        few => {
            let few: Vec<_> = few.iter().map(entry).collect();
            Some(format!("appends {}", few.join(", ")))
        }
    };
    let confirmed = record.confirmed.then(|| "lacks nothing any more".to_string());
    let lost = record.lost.map(|index| format!("lacks some up to {index}"));
    let parts: Vec<_> =
        [base, truncated, appended, confirmed, lost].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn entry(entry: &Entry) -> String {
    let what = match entry.kind {
        EntryKind::Noop => "noop".to_string(),
        EntryKind::Command => String::from_utf8_lossy(&entry.data).into_owned(),
        EntryKind::Membership => {
            Membership::from_bytes(&entry.data).map_or("?".into(), |group| membership(&group))
        }
    };
    format!("{} {what}", entry.id)
}

/// `voters n1 n2, outgoing n3, learners n4`
pub(crate) fn membership(group: &Membership) -> String {
    let sets =
        [("voters", &group.voters), ("outgoing", &group.outgoing), ("learners", &group.learners)];
    let parts = sets.iter().filter(|(_, set)| !set.is_empty()).map(|(name, set)| {
        let nodes: Vec<_> = set.iter().map(NodeId::to_string).collect();
        format!("{name} {}", nodes.join(" "))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// A vote is told when it is given.
pub(crate) fn of_vote(to: NodeId, message: &Message) -> Option<String> {
    let Body::Vote { pre_vote, granted } = message.body else { return None };
    let (what, answer) =
        (if pre_vote { "pre-vote" } else { "vote" }, if granted { "yes" } else { "no" });
    Some(format!("{what} for {to}: {answer}"))
}

/// `AppendEntries 3 after 2@1: 3@3, commit 2`
pub(crate) fn of_message(message: &Message) -> String {
    let what = match &message.body {
        Body::RequestVote { last, transfer, .. } => {
            format!(" last {last}{}", if *transfer { ", for a transfer" } else { "" })
        }
        Body::Vote { granted, .. } => if *granted { " yes" } else { " no" }.to_string(),
        Body::AppendEntries { prev, entries, commit, .. } => {
            format!(" after {prev}{}, commit {commit}", ids(entries))
        }
        Body::Accepted { matched, .. } => format!(" up to {matched}"),
        Body::Damaged { hint, .. } => format!(" behind {hint}"),
        Body::Reverted { last, .. } => format!(": {last} was acknowledged"),
        Body::Full { matched, takes, .. } => {
            format!(" up to {matched}{}", if *takes { "" } else { ", takes none" })
        }
        Body::Rejected { prev, hint, .. } => format!(" {prev}, hint {hint}"),
        Body::InstallSnapshot { meta, offset, bytes, done, .. } => {
            let end = if *done { ", done" } else { "" };
            format!(" {} at {offset}, {} B{end}", meta.last, bytes.len())
        }
        Body::SnapshotProgress { last, next_offset } => format!(" {last} wants {next_offset}"),
        Body::ReadAnswer { index, .. } => format!(" at {index}"),
        _ => String::new(),
    };
    format!("{} {}{what}", message.body.name(), message.term)
}

/// `r1 r2`
pub(crate) fn reads(ids: &[RequestId]) -> String {
    ids.iter().map(RequestId::to_string).collect::<Vec<_>>().join(" ")
}

/// `: 3@1..5@2`
fn ids(entries: &[Entry]) -> String {
    match entries {
        [] => String::new(),
        [one] => format!(": {}", one.id),
        [first, .., last] => format!(": {}..{}", first.id, last.id),
    }
}

/// `1..2@1 3@2`, or with the base in front: `after 5@2: 6@3`.
pub(crate) fn log(raft: &Raft) -> String {
    let base = raft.base();
    let mut runs: Vec<(EntryId, LogIndex)> = Vec::new();
    for index in (base.index.0 + 1..=raft.last().index.0).map(LogIndex) {
        let term = raft.term_at(index).expect("the log knows its terms");
        match runs.last_mut().filter(|(first, _)| first.term == term) {
            Some((_, end)) => *end = index,
            None => runs.push((EntryId::new(index, term), index)),
        }
    }
    let after = if base == EntryId::ZERO { String::new() } else { format!("after {base}: ") };
    let runs: Vec<_> = runs.into_iter().map(run).collect();
    format!("{after}{}", if runs.is_empty() { "-".to_string() } else { runs.join(" ") })
}

fn run((first, end): (EntryId, LogIndex)) -> String {
    if first.index == end {
        first.to_string()
    } else {
        format!("{}..{end}@{}", first.index, first.term)
    }
}
