//! Situations worth having been in: a green simulator that never reached figure 8 proves little about it.
//!
//! They are seen from outside, by looking at servers, messages and disks; the protocol knows nothing of them.

use std::collections::BTreeMap;

use quorate_contracts::{EntryId, LogIndex, NodeId, Service, Term};
use quorate_raft::{Body, Raft, Replica, ReplicaMessage, RoleName};

macro_rules! situations {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// A situation that a run may reach.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Situation {
            $($(#[$doc])* $name,)*
        }

        impl Situation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it is, in words.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

situations! {
    /// Two candidates of one term, and no leader of it (section 5.2).
    SplitVote: "a split vote ended its term without a leader",
    /// Two servers lead, the older one not knowing that it is over.
    TwoLeaders: "two servers led different terms at once",
    /// CheckQuorum (thesis, 6.2).
    LeaderWithoutMajority: "a leader stepped down for want of a majority",
    /// Votes that came while a server was stopped.
    LateElection: "a server won a term that was over",
    /// Figure 8: an entry of an earlier term stands on a majority and is not committed.
    Figure8: "figure 8: an older entry on a majority, not committed",
    /// Figure 8, what saves it.
    InheritedCommitted: "entries of an earlier term were committed with a leader's own",
    /// Section 5.3.
    EntryReplaced: "uncommitted entries were replaced",
    /// RAFT-10.
    ConflictOfSeveralTerms: "a conflict of several terms",
    /// Thesis, 10.2.1.
    CommittedBeforeOwnDisk: "a leader committed before its own disk had the entry",
    /// Thesis, 9.6.
    PreVoteDenied: "a pre-vote was denied",
    /// Thesis, 3.10.
    TransferAsked: "a leader asked another server to take over",
    /// RAFT-7.
    TransferDone: "leadership was handed over on request",
    /// RAFT-7.
    TransferTimedOut: "a transfer did not come about in time",
    /// RAFT-7, RAFT-21.
    ReadDuringTransfer: "a read was answered during a transfer",
    /// RAFT-21.
    ReadElsewhere: "a follower asked the leader for an index to read at",
    /// RAFT-13: what a follower lacks is no longer in memory.
    EntriesFromDisk: "entries were read back from the disk",
    /// RAFT-18.
    SnapshotFinished: "a snapshot was taken or received",
    /// RAFT-20.
    SnapshotInPieces: "a snapshot travelled in several pieces",
    /// RAFT-20.
    SnapshotInstalled: "a received snapshot replaced a log",
    /// RAFT-20.
    StaleSnapshot: "a stale snapshot arrived",
    /// RAFT-17.
    StartedFromSnapshot: "a server started from a snapshot",
    /// RAFT-15: of a write in flight at a crash, nothing or not all made it.
    UnsyncedLost: "unsynced writes were lost in a crash",
    /// RAFT-15: it made it, though nobody was told.
    UnsyncedKept: "an unsynced write survived a crash",
    /// The network doubled a message.
    Doubled: "a message arrived twice",
    /// A message of a life that is over, or for one.
    ToTheDead: "a message came for a server that was down",
    /// A stopped server got what had waited for it.
    Resumed: "a stopped server went on with what had waited",
    /// RAFT-22.
    MembersChanged: "a change of members came about",
    /// RAFT-22.
    JointMembership: "two majorities had to agree (joint consensus)",
    /// RAFT-22.
    Learner: "a learner got the log",
    /// RAFT-22.
    LeaderOutside: "a leader was not part of the newest membership",
    /// RAFT-20, RAFT-22.
    SnapshotDuringChange: "a snapshot was finished during a membership change",
    /// RAFT-23.
    Slept: "an idle group fell asleep",
    /// RAFT-23.
    Woke: "a sleeping group woke up",
    /// RAFT-23.
    FellSilent: "a member fell silent and was taken for lost",
    /// RAFT-15, under the real storage.
    DiskFailed: "a disk failed, and its server stopped",
    /// RAFT-16, under the real storage.
    LogRotted: "a bit of a log rotted",
    /// RAFT-16, under the real storage.
    SnapshotLost: "a snapshot was lost",
    /// RAFT-16, RAFT-22, under the real storage.
    HarmedDuringChange: "a disk was harmed during a change of members",
    /// RAFT-16, under the real storage.
    StartedDamaged: "a server started with damaged entries",
    /// RAFT-16, under the real storage.
    StartedWithLoss: "a server started that may have lost what it acknowledged",
    /// RAFT-16, under the real storage.
    RefusedToStart: "a server refused to start from damage that others cannot mend",
    /// RAFT-16.
    Mended: "a server got back from the others what it lacked",
}

/// How often each situation was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Situations {
    counts: Vec<u64>,
    /// Who campaigned in each of the last terms that nobody led, and for how many.
    candidates: BTreeMap<Term, u32>,
}

impl Default for Situations {
    fn default() -> Self {
        Self { counts: vec![0; Situation::ALL.len()], candidates: BTreeMap::new() }
    }
}

/// The parts of a server that a situation is made of, before a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    role: RoleName,
    term: Term,
    commit: LogIndex,
    base: EntryId,
    asleep: bool,
    whole: bool,
}

impl Before {
    pub(crate) fn of(raft: &Raft) -> Self {
        Self {
            role: raft.role(),
            term: raft.term(),
            commit: raft.commit(),
            base: raft.base(),
            asleep: raft.is_hibernating(),
            whole: raft.is_whole(),
        }
    }

    /// Whether it led this term.
    pub(crate) fn led(&self, term: Term) -> bool {
        self.role == RoleName::Leader && self.term == term
    }
}

impl Situations {
    /// It was reached once more.
    pub fn reach(&mut self, situation: Situation) {
        self.counts[situation as usize] += 1;
    }

    /// How often it was reached.
    pub fn count(&self, situation: Situation) -> u64 {
        self.counts[situation as usize]
    }

    /// Those that never were.
    pub fn never(&self) -> impl Iterator<Item = Situation> {
        Situation::ALL.iter().copied().filter(|situation| self.count(*situation) == 0)
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// A message arrived at a server that is up.
    pub(crate) fn arrives<S: Service>(&mut self, at: &Raft, message: &ReplicaMessage<S::Message>) {
        let ReplicaMessage::Raft(message) = message else { return };
        match &message.body {
            Body::Vote { pre_vote: true, granted: false } => self.reach(Situation::PreVoteDenied),
            Body::TimeoutNow => self.reach(Situation::TransferAsked),
            Body::ReadRequest { .. } => self.reach(Situation::ReadElsewhere),
            Body::InstallSnapshot { meta, offset, .. } => {
                if meta.last.index <= at.commit() {
                    self.reach(Situation::StaleSnapshot);
                }
                if *offset > 0 {
                    self.reach(Situation::SnapshotInPieces);
                }
            }
            _ => {}
        }
    }

    /// A server made a step.
    pub(crate) fn stepped<S: Service>(&mut self, before: Before, replica: &Replica<S>) {
        let raft = replica.raft();
        if raft.role() != before.role || raft.term() != before.term {
            self.role_changed(before, raft);
        }
        if raft.is_leader() && raft.commit() < raft.last().index {
            self.leads(raft);
        }
        if raft.is_leader() && raft.commit() > before.commit {
            self.committed(before, raft);
        }
        if raft.base() != before.base && raft.base().index > before.commit {
            self.reach(Situation::SnapshotInstalled);
        }
        if raft.is_leader() && raft.is_hibernating() != before.asleep {
            self.reach(if before.asleep { Situation::Woke } else { Situation::Slept });
        }
        if raft.is_whole() && !before.whole {
            self.reach(Situation::Mended);
        }
        self.membership(raft);
    }

    fn role_changed(&mut self, before: Before, raft: &Raft) {
        let (role, term) = (raft.role(), raft.term());
        if before.role == RoleName::Leader && role != RoleName::Leader && term == before.term {
            self.reach(Situation::LeaderWithoutMajority);
        }
        if role == RoleName::Leader {
            self.candidates.remove(&term);
        }
        if role == RoleName::Candidate && term > before.term {
            let earlier = self.candidates.range(..term).filter(|(_, count)| **count > 1).count();
            if earlier > 0 {
                self.reach(Situation::SplitVote);
            }
            self.candidates = self.candidates.split_off(&term);
            *self.candidates.entry(term).or_default() += 1;
        }
    }

    fn leads(&mut self, raft: &Raft) {
        let first = raft.commit().next();
        if raft.term_at(first).is_none_or(|term| term == raft.term()) {
            return;
        }
        let matched = raft.matched();
        let own = raft.durable_index();
        let reached = |n| matched.get(&n).copied().unwrap_or(own);
        if raft.membership().quorum_value(reached) >= first {
            self.reach(Situation::Figure8);
        }
    }

    fn committed(&mut self, before: Before, raft: &Raft) {
        if raft.term_at(before.commit.next()).is_some_and(|term| term < raft.term()) {
            self.reach(Situation::InheritedCommitted);
        }
        if raft.commit() > raft.durable_index() {
            self.reach(Situation::CommittedBeforeOwnDisk);
        }
    }

    fn membership(&mut self, raft: &Raft) {
        let membership = raft.membership();
        if !membership.outgoing.is_empty() {
            self.reach(Situation::JointMembership);
        }
        if raft.role() == RoleName::Learner {
            self.reach(Situation::Learner);
        }
        if raft.is_leader() && !membership.voters.contains(&raft.node()) {
            self.reach(Situation::LeaderOutside);
        }
    }

    /// Entries were removed from a server's log, from their first to their last.
    pub(crate) fn removed(&mut self, first: Term, last: Term) {
        self.reach(Situation::EntryReplaced);
        if first != last {
            self.reach(Situation::ConflictOfSeveralTerms);
        }
    }

    /// A server was elected, while these others lead.
    pub(crate) fn elected(&mut self, term: Term, others: impl Iterator<Item = (NodeId, Term)>) {
        for (_, other) in others {
            self.reach(Situation::TwoLeaders);
            if other > term {
                self.reach(Situation::LateElection);
            }
        }
    }
}
