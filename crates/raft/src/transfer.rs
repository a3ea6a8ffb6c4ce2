//! Leadership on request (thesis, 3.10; RAFT-7): the leader takes no more proposals, brings the target's log up to its
//! own, and asks it to campaign at once.
//!
//! The target skips the pre-vote, which the leader's own heartbeats would defeat, and voters do not protect the leader
//! from it. If that does not come about within an election timeout, the leader goes on; its lease stays given up for the
//! rest of the term, since the target may still campaign. A transfer is part of the leader's state and ends with it.

use quorate_contracts::{NodeId, Refusal, Room, Time, When};

use crate::node::{Outputs, Raft, Role};
use crate::{Body, Reply};

/// A transfer under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    to: NodeId,
    /// When the leader goes on instead.
    pub(crate) give_up_at: Time,
    /// The target was asked to campaign.
    asked: bool,
}

impl Transfer {
    /// Who is to lead.
    pub(crate) fn to(&self) -> NodeId {
        self.to
    }
}

/// What came of a request to hand over leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransferOutcome {
    /// This server leads no more. Most likely the target does.
    SteppedDown {
        /// Who was to lead.
        to: NodeId,
    },
    /// The target did not take over in time; this server leads on.
    TimedOut {
        /// Who was to lead.
        to: NodeId,
    },
    /// Nothing was done: this server does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// Nothing was done: another transfer, or a change of members, is under way.
    Busy,
    /// Nothing was done: the target is no other voter, or there is none that is heard of.
    NoSuchVoter,
}

impl Raft {
    /// Hands over leadership to that voter, or to the one whose log is the longest.
    pub(crate) fn transfer(&mut self, now: Time, to: Option<NodeId>) {
        if let Err(refused) = self.begin_transfer(now, to) {
            self.answers.push(Reply::Transfer(refused));
        }
    }

    pub(crate) fn begin_transfer(
        &mut self,
        now: Time,
        to: Option<NodeId>,
    ) -> Result<(), TransferOutcome> {
        let best = self.best_successor(now);
        let give_up_at = now + self.config.timing.election_max;
        let voters = &self.memberships.current().voters;
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferOutcome::NotLeader { leader: self.leader });
        };
        if leader.transfer.is_some() {
            return Err(TransferOutcome::Busy);
        }
        let to = to.or(best).filter(|to| *to != self.config.node && voters.contains(to));
        let to = to.ok_or(TransferOutcome::NoSuchVoter)?;
        leader.transfer = Some(Transfer { to, give_up_at, asked: false });
        leader.stir();
        Ok(())
    }

    /// The voter with the longest log among those heard lately.
    pub(crate) fn best_successor(&self, now: Time) -> Option<NodeId> {
        let patience = self.config.timing.election_min;
        let Role::Leader(leader) = &self.role else { return None };
        let voters = &self.memberships.current().voters;
        let alive = leader
            .progress
            .iter()
            .filter(|(node, progress)| voters.contains(node) && now < progress.heard + patience);
        alive.max_by_key(|(_, progress)| progress.matched).map(|(node, _)| *node)
    }

    /// Goes on with a transfer: asks the target once its log is whole, and again with each heartbeat, since
    /// the question may be lost.
    pub(crate) fn push_transfer(&mut self, now: Time, beat: bool, out: &mut Outputs) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let to = transfer.to;
        if transfer.give_up_at <= now {
            leader.transfer = None;
            self.answers.push(Reply::Transfer(TransferOutcome::TimedOut { to }));
            return;
        }
        let whole = leader.progress.get(&to).is_some_and(|progress| progress.matched == last);
        if whole && (beat || !transfer.asked) {
            transfer.asked = true;
            self.ask_to_campaign(to, out);
        }
    }

    /// From here on the lease means nothing.
    pub(crate) fn ask_to_campaign(&mut self, to: NodeId, out: &mut Outputs) {
        if let Role::Leader(leader) = &mut self.role {
            leader.lease_given_up = true;
        }
        self.send(out, When::Now, to, Body::TimeoutNow);
    }

    /// The target may wait for its last entry only.
    pub(crate) fn transfer_heard(&mut self, from: NodeId) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let ready = leader.progress.get(&from).is_some_and(|progress| progress.matched == last);
        if let Some(transfer) = &leader.transfer
            && (transfer.to, transfer.asked, ready) == (from, false, true)
        {
            leader.feed_due = true;
        }
    }

    /// Why this leader takes no proposals at the moment.
    pub(crate) fn refuses_proposals(&self) -> Option<Refusal> {
        match &self.role {
            Role::Leader(leader) if leader.transfer.is_some() => Some(Refusal::Transferring),
            Role::Leader(_) if self.room_to_commit() < Room::Enough => Some(Refusal::NoRoom),
            Role::Leader(_) if self.uncommitted_bytes() > self.config.limits.uncommitted_bytes => {
                Some(Refusal::Busy)
            }
            Role::Leader(_) => None,
            _ => Some(Refusal::NoLeader),
        }
    }
}
