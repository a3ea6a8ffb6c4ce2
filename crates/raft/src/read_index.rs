//! Reads without a log entry (thesis, 6.4; RAFT-21): the leader notes its commit index, makes sure that it still leads by a
//! heartbeat round that begins after the read arrived, and the read is answered where it was asked, once that much
//! is applied there.
//!
//! ```text
//!   Read(id) ──▶ Reads: batch, attempt ──ReadRequest──▶ leader: Confirming ──round──▶ majority
//!   ReadReady(ids, index) ◀── same attempt ──ReadAnswer── index ◀──── answers of the round
//! ```
//!
//! Why it is linearizable: the index is the commit index after the read arrived; a majority was in the leader's term
//! after that, so no later leader had committed anything by then. Each attempt has an id of its own: an answer to an earlier
//! one is never taken for reads that came later. A leader that has not committed an entry of its own term does not know its
//! commit index yet, and lets reads wait.
//!
//! No clock is asked, but for leases, if `Config::lease` allows them: within `election_min` after a round began
//! that a majority answered, less what clocks may differ, no voter helps to elect another leader (`candidate`), and reads
//! need no round of their own. `now` was read after the read arrived, also by a process that was stopped in between.
//!
//! Not here: waiting until the index is applied (`replica`).

use std::collections::VecDeque;
use std::time::Duration;

use quorate_contracts::{LogIndex, NodeId, Refusal, RequestId, Time, When};

use crate::node::{Outputs, Raft, Role};
use crate::{Attempt, Body, Reply};

/// Questions of servers that one leader holds; those beyond are asked again.
const HELD_MAX: usize = 10_000;

/// Reads of this server's own clients, whoever leads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Oldest first.
    batches: VecDeque<Batch>,
    /// How many reads the batches hold.
    count: usize,
    next: Attempt,
    /// Whom the attempts went to; with another leader or term they are over.
    asked: Option<(NodeId, quorate_contracts::Term)>,
    ask_again_at: Time,
}

#[derive(Debug)]
struct Batch {
    ids: Vec<RequestId>,
    since: Time,
    attempt: Option<Attempt>,
}

/// Reads that a leader holds.
#[derive(Debug, Default)]
pub(crate) struct Confirming {
    /// They arrived after the newest round had begun.
    new: Vec<(NodeId, Attempt)>,
    /// They wait for answers to their round.
    rounds: VecDeque<Round>,
}

#[derive(Debug)]
struct Round {
    round: u64,
    index: LogIndex,
    readers: Vec<(NodeId, Attempt)>,
}

impl Confirming {
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.rounds.is_empty()
    }
}

impl Reads {
    /// The first attempt of a life is drawn: answers to an earlier life's are nobody's.
    pub(crate) fn new(first: u64) -> Self {
        Self { next: Attempt(first), ..Self::default() }
    }

    fn add(&mut self, now: Time, id: RequestId) {
        self.count += 1;
        match self.batches.back_mut() {
            Some(batch) if batch.attempt.is_none() => batch.ids.push(id),
            _ => self.batches.push_back(Batch { ids: vec![id], since: now, attempt: None }),
        }
    }

    /// Takes out what that attempt asked for.
    fn take(&mut self, attempt: Attempt) -> Vec<RequestId> {
        let mut ids = Vec::new();
        self.batches.retain_mut(|batch| {
            let answered = batch.attempt == Some(attempt);
            if answered {
                ids.append(&mut batch.ids);
            }
            !answered
        });
        self.count -= ids.len();
        ids
    }

    /// Takes out what came before `since`.
    fn take_older(&mut self, since: Time) -> Vec<RequestId> {
        let mut ids = Vec::new();
        while self.batches.front().is_some_and(|batch| batch.since <= since) {
            ids.extend(self.batches.pop_front().into_iter().flat_map(|batch| batch.ids));
        }
        self.count -= ids.len();
        ids
    }
}

impl Raft {
    /// A client of this server reads.
    pub(crate) fn read(&mut self, now: Time, id: RequestId) {
        if self.reads.count >= self.config.limits.reads {
            let (ids, reason) = (vec![id], Refusal::Busy);
            self.answers.push(Reply::ReadRefused { ids, reason });
        } else {
            self.reads.add(now, id);
        }
    }

    /// How long reads wait for a leader before they are refused.
    fn read_patience(&self) -> Duration {
        2 * self.config.timing.election_max
    }

    /// When the reads of this server want to be looked at.
    pub(crate) fn reads_deadline(&self) -> Option<(Time, &'static str)> {
        let oldest = self.reads.batches.front()?;
        let to_ask = self.reads.batches.iter().any(|batch| batch.attempt.is_none());
        if self.leader.is_some() && (to_ask || self.asked_another()) {
            return Some((Time::ZERO, "reads to ask the leader for"));
        }
        let give_up = (oldest.since + self.read_patience(), "reads given up");
        let again = self.leader.map(|_| (self.reads.ask_again_at, "reads asked again"));
        [Some(give_up), again].into_iter().flatten().min()
    }

    fn asked_another(&self) -> bool {
        self.reads.asked != self.leader.map(|leader| (leader, self.term()))
    }

    /// Gives up old reads, and asks the leader for the others: new ones, and all of them if there is another
    /// leader or no answer came.
    pub(crate) fn ask_for_reads(&mut self, now: Time, out: &mut Outputs) {
        let patience = self.read_patience();
        if now.since(Time::ZERO) >= patience {
            let since = Time::from_nanos(now.as_nanos() - patience.as_nanos() as u64);
            let ids = self.reads.take_older(since);
            if !ids.is_empty() {
                self.answers.push(Reply::ReadRefused { ids, reason: Refusal::NoLeader });
            }
        }
        let Some(leader) = self.leader.filter(|_| !self.reads.batches.is_empty()) else { return };
        let anew = self.asked_another() || self.reads.ask_again_at <= now;
        let attempt = self.reads.next;
        let mut any = false;
        for batch in self.reads.batches.iter_mut().filter(|b| anew || b.attempt.is_none()) {
            batch.attempt = Some(attempt);
            any = true;
        }
        if any {
            self.reads.next = Attempt(attempt.0.wrapping_add(1));
            self.reads.asked = Some((leader, self.term()));
            self.reads.ask_again_at = now + self.config.timing.election_min / 2;
            self.ask_for_index(now, leader, attempt, out);
        }
    }

    fn ask_for_index(&mut self, now: Time, leader: NodeId, attempt: Attempt, out: &mut Outputs) {
        if leader == self.config.node {
            self.index_asked(leader, attempt);
        } else {
            self.waken(now);
            let when = self.when_term_is_durable(out);
            self.send(out, when, leader, Body::ReadRequest { attempt });
        }
    }

    /// A server asks the leader for an index to read at. Who does not lead says nothing: it is asked no more once
    /// the other knows better.
    pub(crate) fn index_asked(&mut self, from: NodeId, attempt: Attempt) {
        if let Role::Leader(leader) = &mut self.role
            && leader.confirming.new.len() < HELD_MAX
        {
            leader.confirming.new.push((from, attempt));
            leader.stir();
        }
    }

    /// Everything that is read after a committed entry of this term is up to date from here on; a lease answers
    /// at once, otherwise a round begins.
    pub(crate) fn begin_read_round(&mut self, now: Time, out: &mut Outputs) {
        let index = self.commit;
        let lease = self.has_lease(now);
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.confirming.has_new() || index < leader.first {
            return;
        }
        let readers = std::mem::take(&mut leader.confirming.new);
        if lease {
            return self.answer_readers(&readers, index, out);
        }
        let round = leader.rounds.begin(now);
        leader.confirming.rounds.push_back(Round { round, index, readers });
    }

    /// Tells of the round whoever was sent nothing since it began.
    pub(crate) fn announce_read_round(&mut self, out: &mut Outputs) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(Round { round, .. }) = leader.confirming.rounds.back() else { return };
        let untold = leader.progress.iter().filter(|(_, progress)| progress.told_round < *round);
        for to in untold.map(|(node, _)| *node).collect::<Vec<_>>() {
            if self.membership().is_voter(to) {
                self.send_heartbeat(to, out);
            }
        }
        self.confirm_reads(out);
    }

    /// Answers the reads whose round a majority has answered.
    pub(crate) fn confirm_reads(&mut self, out: &mut Outputs) {
        let answered = self.answered_round();
        while let Role::Leader(leader) = &mut self.role
            && leader.confirming.rounds.front().is_some_and(|first| first.round <= answered)
            && let Some(Round { index, readers, .. }) = leader.confirming.rounds.pop_front()
        {
            self.answer_readers(&readers, index, out);
        }
    }

    /// The newest round that a majority has answered.
    fn answered_round(&self) -> u64 {
        let node = self.config.node;
        let Role::Leader(leader) = &self.role else { return 0 };
        self.membership().quorum_value(|n| match leader.progress.get(&n) {
            Some(progress) => progress.answered_round,
            None if n == node => leader.rounds.newest(),
            None => 0,
        })
    }

    fn answer_readers(
        &mut self,
        readers: &[(NodeId, Attempt)],
        index: LogIndex,
        out: &mut Outputs,
    ) {
        for (to, attempt) in readers {
            if *to == self.config.node {
                self.index_known(*attempt, index);
            } else {
                let body = Body::ReadAnswer { attempt: *attempt, index };
                self.send(out, When::Now, *to, body);
            }
        }
    }

    /// The leader's answer to an attempt: its reads are up to date once `index` is applied.
    pub(crate) fn index_known(&mut self, attempt: Attempt, index: LogIndex) {
        let ids = self.reads.take(attempt);
        if !ids.is_empty() {
            self.answers.push(Reply::ReadReady { ids, index });
        }
    }

    /// Whether no other leader can have been elected yet (thesis, 6.4.1). Never without an explicit bound on
    /// the clocks.
    fn has_lease(&mut self, now: Time) -> bool {
        let Some(lease) = self.config.lease else { return false };
        let length = lease.length(self.config.timing.election_min);
        let answered = self.answered_round();
        let Role::Leader(leader) = &mut self.role else { return false };
        let began = leader.rounds.began(answered).filter(|_| !leader.lease_given_up);
        began.is_some_and(|began| now < began + length)
    }
}
