//! What of this server's log is damaged or lost, and how it comes back from a leader (protocol-aware recovery: Alagappan
//! and others, "Protocol-Aware Recovery for Consensus-Based Storage", FAST '18).
//!
//! - *Damaged*: an entry's id is known, its data is not. The server votes by ids, as ever. It never leads, vouches and
//!   commits only up to before the first such entry, and asks its leader for whole copies.
//! - *Lost*: entries behind the last one are gone, with all that was known of them; it may have acknowledged some. It gives
//!   no vote, for its log looks shorter than it promised, until a leader's log stands for what it acknowledged.
//!
//! Not here: finding damage (`storage`), and a cluster whose members all lack an entry: that one waits for
//! its operators.

use std::collections::BTreeSet;

use quorate_contracts::{Entry, EntryId, LogIndex, NodeId, Record, Recovered, Term};

use crate::Body;
use crate::node::{Outputs, Raft};

/// What is missing of a log that this server once vouched for.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    damaged: BTreeSet<LogIndex>,
    /// Entries may be lost up to this index.
    lost: Option<LogIndex>,
    /// The term as of the start: nothing was acknowledged to a leader of a later one before.
    started_in: Term,
}

impl Mending {
    pub(crate) fn new(recovered: &Recovered) -> Self {
        Self {
            damaged: recovered.damaged.iter().copied().collect(),
            lost: recovered.lost,
            started_in: recovered.hard_state.term,
        }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_none()
    }

    /// Whether the log's end is what this server promised, so that it can compare it with a candidate's.
    pub(crate) fn may_vote(&self) -> bool {
        self.lost.is_none()
    }

    /// The log is whole up to here, and to `index` at most.
    pub(crate) fn whole_up_to(&self, index: LogIndex) -> LogIndex {
        let before = self.damaged.first().and_then(|first| first.prev());
        before.map_or(index, |before| before.min(index))
    }

    /// The log ends before `index`.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        self.damaged.split_off(&index);
    }

    /// A snapshot stands for everything up to `index`.
    pub(crate) fn installed(&mut self, index: LogIndex) {
        self.damaged = self.damaged.split_off(&index.next());
    }
}

impl Raft {
    /// Whether this server may lead: it may campaign, and has everything that it vouched for.
    pub(crate) fn is_electable(&self) -> bool {
        self.may_campaign() && self.mending.is_whole()
    }

    /// Whether everything that this server ever vouched for is here.
    pub fn is_whole(&self) -> bool {
        self.mending.is_whole()
    }

    /// An append that goes on behind a damaged entry is answered with where to begin. Returns whether it was.
    pub(crate) fn asks_to_mend(
        &mut self,
        from: NodeId,
        prev: EntryId,
        round: u64,
        out: &mut Outputs,
    ) -> bool {
        let whole = self.mending.whole_up_to(prev.index);
        let damaged = whole < prev.index;
        // What is lost was acknowledged: the leader believes that it is here.
        let lost = self.mending.lost.is_some()
            && prev.index >= self.log.base().index
            && !self.log.holds(prev);
        if !damaged && !lost {
            return false;
        }
        let hint = match self.log.term_at(whole) {
            Some(term) if damaged => EntryId::new(whole, term),
            _ => self.log.last_not_above(prev.index, prev.term),
        };
        let when = self.when_term_is_durable(out);
        self.send(out, when, from, Body::Damaged { hint, round });
        true
    }

    /// Entries that the log holds came again: those that were damaged are written anew.
    pub(crate) fn mend(&mut self, known: &[Entry], out: &mut Outputs) {
        let is_damaged = |entry: &Entry| self.mending.damaged.contains(&entry.id.index);
        let same = |a: &Entry, b: &Entry| is_damaged(a) == is_damaged(b);
        let runs = known.chunk_by(same).filter(|run| is_damaged(&run[0]));
        let runs: Vec<Vec<Entry>> = runs.map(<[Entry]>::to_vec).collect();
        for run in runs {
            let first = run[0].id.index;
            run.iter().for_each(|entry| {
                self.mending.damaged.remove(&entry.id.index);
            });
            self.persist(Record { entries: run, ..Record::default() }, out);
            let whole = self.mending.whole_up_to(self.log.last().index);
            self.durability.mended(first, whole);
        }
    }

    /// The log agrees with the leader's up to `agreed`. If the leader made that entry itself, all that was
    /// committed before its term is here; and nothing of its term is missing, if that term is later than the loss or the log
    /// is as long as it was.
    pub(crate) fn confirm(&mut self, agreed: LogIndex, out: &mut Outputs) {
        let Some(lost) = self.mending.lost else { return };
        let long_enough = agreed >= lost || self.term() > self.mending.started_in;
        if long_enough && self.log.term_at(agreed) == Some(self.term()) {
            self.mending.lost = None;
            self.persist(Record { confirmed: true, ..Record::default() }, out);
        }
    }
}
