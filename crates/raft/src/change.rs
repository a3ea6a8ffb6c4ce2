//! Changes of members by joint consensus (section 6; thesis, chapter 4; RAFT-22): any set of voters becomes any other, also
//! without the leader.
//!
//! ```text
//!   voters A, learners B ──── both majorities decide: joint A+B ────▶ voters B
//!                        append                     committed: append        committed: done
//! ```
//!
//! A server uses the newest membership in its log, committed or not. One change at a time: the next begins once the last
//! entry of the one before is committed, in the leader's own term. New voters come from the learners, once they have
//! caught up, so that a change never waits for a server that holds nothing. Learners alone change nobody's majority, and
//! need one entry only. Whoever is elected in the middle finishes the change. A leader that is no voter any more leads until
//! the last entry is committed, without counting itself; then it asks the best voter to campaign, and steps down.
//!
//! Those that are removed are fed until they know it, for a while; if they do not learn it, the pre-vote keeps them from
//! disturbing anybody.
//!
//! Not here: who may ask for a change, or where a new server listens: the driver knows.

use std::collections::BTreeSet;

use quorate_contracts::{EntryId, EntryKind, LogIndex, NodeId, Time, Wire};

use crate::node::{Outputs, Raft, Role};
use crate::progress::Progress;
use crate::{Membership, Reply};

/// Who is to belong to a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// Those whose majority decides.
    pub voters: BTreeSet<NodeId>,
    /// Those that get the log and do not vote.
    pub learners: BTreeSet<NodeId>,
}

/// What came of a request to change the members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeOutcome {
    /// The members are as wanted, and that is committed.
    Done {
        /// The entry since which it holds.
        at: LogIndex,
    },
    /// Nothing was done: this server does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// Nothing was done: another change or a transfer is under way, or the leader is new and has not committed
    /// anything yet. Try again a little later.
    Busy,
    /// Nothing was done: no voters are wanted, or somebody as voter and learner.
    Meaningless,
    /// Nothing was done: this new voter is no learner that has caught up. Add it as a learner, and wait.
    NotCaughtUp {
        /// Which.
        node: NodeId,
        /// How far its log is known to reach.
        matched: LogIndex,
        /// The leader's last entry.
        last: EntryId,
    },
    /// This server lost its leadership on the way: the change may come about or not.
    Unknown,
}

impl Members {
    /// These voters, and no learners.
    pub fn voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }
}

impl Membership {
    /// Whether two sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The first step towards `wanted`.
    fn towards(&self, wanted: Members) -> Self {
        let Members { voters, learners } = wanted;
        let same = voters == self.voters;
        let outgoing = if same { BTreeSet::new() } else { self.voters.clone() };
        Self { voters, outgoing, learners }
    }

    /// The end of a joint change.
    fn left(&self) -> Self {
        Self { outgoing: BTreeSet::new(), ..self.clone() }
    }
}

impl Raft {
    /// Begins a change of members; what comes of it is told once it is committed, or refused.
    pub(crate) fn change_members(&mut self, now: Time, wanted: Members) {
        let current = self.membership();
        let outcome = match self.refuses_change(now, &wanted) {
            Some(refused) => refused,
            None if (&current.voters, &current.learners) == (&wanted.voters, &wanted.learners) => {
                ChangeOutcome::Done { at: self.memberships.newest().0 }
            }
            None => {
                self.append_membership(now, current.towards(wanted));
                if let Role::Leader(leader) = &mut self.role {
                    leader.change_asked = true;
                }
                return;
            }
        };
        self.answers.push(Reply::Members(outcome));
    }

    fn refuses_change(&self, now: Time, wanted: &Members) -> Option<ChangeOutcome> {
        let Role::Leader(leader) = &self.role else {
            return Some(ChangeOutcome::NotLeader { leader: self.leader });
        };
        let (since, current) = self.memberships.newest();
        let under_way = since > self.commit || current.is_joint() || leader.transfer.is_some();
        if under_way || self.commit < leader.first {
            return Some(ChangeOutcome::Busy);
        }
        if wanted.voters.is_empty() || !wanted.voters.is_disjoint(&wanted.learners) {
            return Some(ChangeOutcome::Meaningless);
        }
        let mut new = wanted.voters.difference(&current.voters);
        let behind = new.find(|node| !self.has_caught_up(now, **node))?;
        let matched = leader.progress.get(behind).map_or(LogIndex::ZERO, |p| p.matched);
        Some(ChangeOutcome::NotCaughtUp { node: *behind, matched, last: self.log.last() })
    }

    /// A learner that is there, and so little behind that the group would not wait for it; known to its leader only.
    pub fn has_caught_up(&self, now: Time, node: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let (lag, patience) = (self.config.limits.promotion_lag, self.config.timing.election_min);
        leader.progress.get(&node).is_some_and(|progress| {
            // It has to have said something: a short log lets one that was never there look as if it lacked little.
            let behind = self.log.last().index.distance_from(progress.matched);
            let known = progress.matched != LogIndex::ZERO;
            known && behind <= lag && now < progress.heard + patience
        })
    }

    /// A new membership is in force from here on (section 6).
    fn append_membership(&mut self, now: Time, membership: Membership) {
        let (last, node) = (self.log.last().index, self.config.node);
        let stays_until = now + self.config.timing.election_max;
        let everyone = membership.everyone();
        self.append_own(EntryKind::Membership, membership.to_bytes());
        let Role::Leader(leader) = &mut self.role else { return };
        // Who was away and is back may be another server under the same name, with another log.
        leader.progress.retain(|member, progress| {
            let leaves = !everyone.contains(member);
            let stays = leaves || progress.leaving.is_none();
            progress.leaving = leaves.then_some(stays_until);
            stays
        });
        let round = leader.rounds.begin(now);
        for member in everyone.into_iter().filter(|member| *member != node) {
            leader.progress.entry(member).or_insert_with(|| Progress::new(last, now, round));
        }
    }

    /// Voters campaign. So does one that leaves with an entry that it does not know to be committed: it may be the
    /// only one that has it, and then nobody else can be elected (thesis, 4.2.2).
    pub(crate) fn may_campaign(&self) -> bool {
        let (since, newest) = self.memberships.newest();
        let leaving = || self.memberships.before(since).is_voter(self.config.node);
        newest.is_voter(self.config.node) || (since > self.commit && leaving())
    }

    /// Whether the newest membership was committed, and something follows from it.
    pub(crate) fn change_is_due(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let (since, membership) = self.memberships.newest();
        since <= self.commit
            && leader.first <= self.commit
            && (membership.is_joint()
                || leader.change_asked
                || !membership.voters.contains(&self.config.node))
    }

    /// Leaves a joint membership once it is committed; tells of one that is done; hands the office over if
    /// this server is no voter any more.
    pub(crate) fn go_on_with_change(&mut self, now: Time, out: &mut Outputs) {
        if !self.change_is_due() {
            return;
        }
        let (at, membership) = self.memberships.newest();
        if membership.is_joint() {
            self.append_membership(now, membership.left());
            return;
        }
        let removed = !membership.voters.contains(&self.config.node);
        if let Role::Leader(leader) = &mut self.role
            && std::mem::take(&mut leader.change_asked)
        {
            self.answers.push(Reply::Members(ChangeOutcome::Done { at }));
        }
        if removed {
            self.resign(now, out);
        }
    }

    /// The last act of a leader that removed itself: everybody is told what is committed, and the best voter
    /// campaigns at once.
    fn resign(&mut self, now: Time, out: &mut Outputs) {
        self.feed_everyone(now, out);
        if let Some(successor) = self.best_successor(now) {
            self.ask_to_campaign(successor, out);
        }
        self.step_down(now);
    }

    /// Those that left are fed no more once they were told so, or after a while.
    pub(crate) fn forget_those_that_left(&mut self, now: Time) {
        let (since, _) = self.memberships.newest();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress.retain(|_, progress| match progress.leaving {
            Some(until) => {
                now < until && (progress.matched < since || progress.told_commit < since)
            }
            None => true,
        });
    }
}
