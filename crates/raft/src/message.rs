//! What servers send each other (Raft, Figures 2 and 13, as one-way messages).
//!
//! The paper's RPCs are pairs of messages here: a reply is a message of its own, and any of them
//! may be lost, doubled, delayed or reordered.

use bytes::Bytes;
use quorate_contracts::{Entry, EntryId, LogIndex, SnapshotMeta, Term};

/// One message. Every message carries its sender's term (section 5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sender's term; for a pre-vote, the term that it would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// Names one question for an index to read at; each question has a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Attempt(pub u64);

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A candidate asks for a vote (section 5.2).
    RequestVote {
        /// Only asks whether it would get it (thesis, 9.6): nobody's term changes.
        pre_vote: bool,
        /// The leader asked for this election (thesis, 3.10): voters do not protect it.
        transfer: bool,
        /// The candidate's last entry (section 5.4.1).
        last: EntryId,
    },
    /// Answer to `RequestVote`.
    Vote {
        /// Answers a pre-vote.
        pre_vote: bool,
        /// Whether the sender votes for the receiver.
        granted: bool,
    },
    /// A leader replicates entries; without entries it is a heartbeat (section 5.3).
    AppendEntries {
        /// The entry right before the new ones (`prevLogIndex`, `prevLogTerm`).
        prev: EntryId,
        /// Entries to store, contiguous after `prev`.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
        /// Grows with each heartbeat round; comes back, and so proves that the sender was heard after the
        /// round began.
        round: u64,
    },
    /// Answer to `AppendEntries`: the log agrees with the leader's up to here, durably.
    Accepted {
        /// Highest index known to agree.
        matched: LogIndex,
        /// As asked.
        round: u64,
    },
    /// Answer to `AppendEntries` that says what `Accepted` says, of a server whose disk is full, or nearly so: it should
    /// not lead.
    Full {
        /// As in `Accepted`.
        matched: LogIndex,
        /// As asked.
        round: u64,
        /// Whether it takes entries all the same. If not, those that were sent are to be sent again once it does.
        takes: bool,
    },
    /// Answer to `AppendEntries`: the log has no such `prev`.
    Rejected {
        /// Index of the `prev` that was asked about.
        prev: LogIndex,
        /// Where the logs may agree: the last entry not after `prev` whose term is not above
        /// `prev`'s. It lets the leader skip a whole term in one round trip.
        hint: EntryId,
        /// As asked.
        round: u64,
    },
    /// Answer to `AppendEntries` or `Reverted`: the log may agree, but behind `hint` some of what was acknowledged is damaged or
    /// lost. It is not to be counted any more, and to be sent again.
    Damaged {
        /// The log is whole up to this entry at least.
        hint: EntryId,
        /// As asked.
        round: u64,
    },
    /// The leader has proof that the receiver acknowledged everything up to `last`, and that it lacks some of it now. It is to
    /// know so itself: it must give no vote, and be mended.
    Reverted {
        /// What it acknowledged.
        last: EntryId,
        /// Comes back.
        round: u64,
    },
    /// A piece of the leader's snapshot (section 7, Figure 13).
    InstallSnapshot {
        /// What the snapshot stands for.
        meta: SnapshotMeta,
        /// Where the piece goes.
        offset: u64,
        /// The piece.
        bytes: Bytes,
        /// Whether it is the last one (`done`).
        done: bool,
        /// The leader's newest round; comes back once the snapshot is there.
        round: u64,
    },
    /// Answer to `InstallSnapshot` as long as the snapshot is not whole.
    SnapshotProgress {
        /// Which snapshot.
        last: EntryId,
        /// The piece wanted next begins here.
        next_offset: u64,
    },
    /// The leader asks the receiver to campaign at once (thesis, 3.10).
    TimeoutNow,
    /// The sender is of a later term than the message that it got.
    Stale,
    /// A server asks the leader for an index to read at (thesis, 6.4).
    ReadRequest {
        /// Comes back with the answer.
        attempt: Attempt,
    },
    /// Answer to `ReadRequest`: the sender led after it got the request.
    ReadAnswer {
        /// As asked.
        attempt: Attempt,
        /// Its commit index then.
        index: LogIndex,
    },
    /// The leader is about to send no more heartbeats, until something happens; everything up to `last` is committed.
    Hibernate {
        /// The last entry of its log.
        last: EntryId,
        /// Comes back.
        round: u64,
    },
    /// Answer to `Hibernate`: the sender has the same log, and waits for the leader without a timer.
    Hibernating {
        /// As asked.
        round: u64,
    },
    /// The sender slept and does not any more: another server asks for its vote. Is the leader there?
    Awake,
}

impl Body {
    /// The paper's name, for traces and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RequestVote { pre_vote: true, .. } => "RequestPreVote",
            Self::RequestVote { .. } => "RequestVote",
            Self::Vote { pre_vote: true, .. } => "PreVote",
            Self::Vote { .. } => "Vote",
            Self::AppendEntries { entries, .. } if entries.is_empty() => "Heartbeat",
            Self::AppendEntries { .. } => "AppendEntries",
            Self::Accepted { .. } => "Accepted",
            Self::Full { .. } => "Full",
            Self::Rejected { .. } => "Rejected",
            Self::Damaged { .. } => "Damaged",
            Self::Reverted { .. } => "Reverted",
            Self::InstallSnapshot { .. } => "InstallSnapshot",
            Self::SnapshotProgress { .. } => "SnapshotProgress",
            Self::TimeoutNow => "TimeoutNow",
            Self::Stale => "Stale",
            Self::ReadRequest { .. } => "ReadRequest",
            Self::ReadAnswer { .. } => "ReadAnswer",
            Self::Hibernate { .. } => "Hibernate",
            Self::Hibernating { .. } => "Hibernating",
            Self::Awake => "Awake",
        }
    }

    /// Whether it asks for something (the paper's "RPC"), rather than answering.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::RequestVote { .. }
                | Self::AppendEntries { .. }
                | Self::Reverted { .. }
                | Self::InstallSnapshot { .. }
                | Self::TimeoutNow
                | Self::ReadRequest { .. }
                | Self::Hibernate { .. }
                | Self::Awake
        )
    }
}
