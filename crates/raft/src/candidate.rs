//! Elections (sections 5.2 and 5.4.1; pre-vote from the thesis, 9.6): asking for votes and giving them.

use std::collections::BTreeMap;

use quorate_contracts::{EntryId, HardState, NodeId, Record, Term, Time, When, WriteMark};

use crate::node::{Outputs, Raft, Role};
use crate::{Body, Message};

/// A campaign.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Only asking: the term is still the old one.
    pub(crate) pre_vote: bool,
    /// Who said what.
    votes: BTreeMap<NodeId, bool>,
    /// The write that holds the vote for itself; it counts once durable.
    own_vote: WriteMark,
}

impl Raft {
    /// No leader was heard for a timeout, or a campaign came to nothing.
    pub(crate) fn election_timeout(&mut self, now: Time, out: &mut Outputs) {
        self.leader = None;
        self.pre_campaign(now, out);
    }

    /// With leases, a voter elects nobody, not even itself, before a leader that it heard has lost its lease; also
    /// if it knows that the leader is gone, since it may know wrongly.
    pub(crate) fn not_before_lease(&self, at: Time) -> Time {
        match self.config.lease {
            Some(_) => at.max(self.leader_heard + self.config.timing.election_min),
            None => at,
        }
    }

    /// Asks everyone whether an election could be won, without disturbing anybody's term.
    fn pre_campaign(&mut self, now: Time, out: &mut Outputs) {
        self.campaign_again_later(now);
        let votes = BTreeMap::from([(self.config.node, true)]);
        self.role = Role::Candidate(Candidate { pre_vote: true, votes, own_vote: WriteMark(0) });
        let body = Body::RequestVote { pre_vote: true, transfer: false, last: self.log.last() };
        let message = Message { term: self.term().next(), body };
        self.ask_voters(When::Now, &message, out);
        self.count_votes(now, out);
    }

    /// The old leader asked for an election: no pre-vote, which its own heartbeats would defeat.
    pub(crate) fn campaign_for_transfer(&mut self, now: Time, out: &mut Outputs) {
        if self.is_electable() && !self.is_leader() {
            self.campaign(now, true, out);
        }
    }

    /// Begins a term with a vote for itself (section 5.2).
    fn campaign(&mut self, now: Time, transfer: bool, out: &mut Outputs) {
        self.campaign_again_later(now);
        self.leader = None;
        self.sleeping = false;
        self.hard_state = HardState { term: self.term().next(), voted_for: Some(self.config.node) };
        self.durability.hard_state_changed();
        self.persist(Record::default(), out);
        let own_vote = self.durability.mark();
        self.role =
            Role::Candidate(Candidate { pre_vote: false, votes: BTreeMap::new(), own_vote });
        let body = Body::RequestVote { pre_vote: false, transfer, last: self.log.last() };
        let message = Message { term: self.term(), body };
        self.ask_voters(When::Durable(own_vote), &message, out);
    }

    fn ask_voters(&self, when: When, message: &Message, out: &mut Outputs) {
        for to in self.membership().everyone() {
            if to != self.config.node && self.membership().is_voter(to) {
                out.push(quorate_contracts::Output::Send { when, to, message: message.clone() });
            }
        }
    }

    /// The first tries follow soon on each other, since a split vote is over in a round trip; the
    /// later ones are as rare as elections, since nobody is there to vote.
    fn campaign_again_later(&mut self, now: Time) {
        let timing = self.config.timing;
        let low = timing.campaign * 2_u32.saturating_pow(self.campaigns.min(6));
        let low = low.min(timing.election_min);
        self.campaigns += 1;
        let wait = self.draw(low, (low * 2).min(timing.election_max));
        self.election_at = Some(now + wait);
    }

    /// Whether this server heard its leader lately, and so helps nobody to depose it (thesis,
    /// 6.4.1). A leader that campaigns itself has stopped leading.
    pub(crate) fn protects_leader(&self, now: Time, from: NodeId) -> bool {
        let lately = now < self.leader_heard + self.config.timing.election_min;
        match self.leader {
            Some(leader) if leader == from => false,
            Some(leader) if leader == self.config.node => true,
            Some(_) => lately || self.sleeping,
            // A lease that was promised is kept, although the leader is not known any more.
            None => self.config.lease.is_some() && lately && self.heard_leader != Some(from),
        }
    }

    /// Whether a log that ends with `last` is at least as up to date as this one (section 5.4.1).
    fn is_up_to_date(&self, last: EntryId) -> bool {
        last >= self.log.last()
    }

    pub(crate) fn pre_vote_requested(
        &mut self,
        now: Time,
        from: NodeId,
        campaign_term: Term,
        last: EntryId,
        out: &mut Outputs,
    ) {
        let granted = campaign_term > self.term()
            && self.mending.may_vote()
            && !self.protects_leader(now, from)
            && self.is_up_to_date(last);
        // An encouragement echoes the term that was asked about; a refusal tells this server's own.
        let term = if granted { campaign_term } else { self.term() };
        let when = self.when_term_is_durable(out);
        let body = Body::Vote { pre_vote: true, granted };
        out.push(quorate_contracts::Output::Send {
            when,
            to: from,
            message: Message { term, body },
        });
    }

    /// One vote per term, first come, first served, and durable before it is told (RAFT-4).
    pub(crate) fn vote_requested(
        &mut self,
        now: Time,
        from: NodeId,
        last: EntryId,
        transfer: bool,
        out: &mut Outputs,
    ) {
        let free = self.hard_state.voted_for.is_none_or(|voted_for| voted_for == from)
            && self.leader.is_none()
            && (transfer || !self.protects_leader(now, from));
        let granted = free && self.mending.may_vote() && self.is_up_to_date(last);
        if granted && self.hard_state.voted_for.is_none() {
            self.hard_state.voted_for = Some(from);
            self.durability.hard_state_changed();
        }
        if granted {
            self.reset_election(now);
        }
        let when = self.when_term_is_durable(out);
        self.send(out, when, from, Body::Vote { pre_vote: false, granted });
    }

    pub(crate) fn vote_received(
        &mut self,
        now: Time,
        from: NodeId,
        term: Term,
        pre_vote: bool,
        granted: bool,
        out: &mut Outputs,
    ) {
        // An encouragement carries the term of the campaign that it encourages.
        let expected = if pre_vote && granted { self.term().next() } else { self.term() };
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.pre_vote == pre_vote && term == expected {
            candidate.votes.insert(from, granted);
            self.count_votes(now, out);
        }
    }

    /// After the disk vouched for more: the vote for itself may count.
    pub(crate) fn own_vote_durable(&mut self, now: Time, out: &mut Outputs) {
        let node = self.config.node;
        let Role::Candidate(candidate) = &mut self.role else { return };
        if !candidate.pre_vote
            && self.durability.is_durable(candidate.own_vote)
            && candidate.votes.insert(node, true).is_none()
        {
            self.count_votes(now, out);
        }
    }

    fn count_votes(&mut self, now: Time, out: &mut Outputs) {
        let Role::Candidate(candidate) = &self.role else { return };
        let won = self.membership().is_quorum(|node| candidate.votes.get(&node) == Some(&true));
        match (won, candidate.pre_vote) {
            (true, true) => self.campaign(now, false, out),
            (true, false) => self.become_leader(now),
            (false, _) => {}
        }
    }
}
