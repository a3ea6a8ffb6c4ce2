//! What of this server's log is damaged or lost, and how it comes back from a leader (protocol-aware recovery: Alagappan
//! and others, "Protocol-Aware Recovery for Consensus-Based Storage", FAST '18).
//!
//! - *Damaged*: an entry's id is known, its data is not. The server votes by ids, as ever. It never leads, vouches and
//!   commits only up to before the first such entry, and asks its leader for whole copies.
//! - *Lost*: entries behind the last one are gone, with all that was known of them; it may have acknowledged some. It gives
//!   no vote, for its log looks shorter than it promised, until a leader's log stands for what it acknowledged.
//!
//! A disk may lose what was durable and not know it. The leader of the term in which it was acknowledged finds out, since the
//! server rejects what it had accepted, and tells it (`Reverted`): from then on it is as if the disk had known.
//!
//! Where no majority is up and whole, nobody leads who could send it again, and nothing can be done without risking what was
//! acknowledged. After some patience the server is *stranded*: it goes on refusing votes and answers as before, and says so, for
//! its operators to see. Once somebody leads, it mends.
//!
//! Not here: finding damage (`storage`).

use std::collections::BTreeSet;
use std::fmt;

use quorate_contracts::{Entry, EntryId, LogIndex, NodeId, Record, Recovered, Term, Time, When};

use crate::Body;
use crate::node::{Outputs, Raft};

/// A server that lacks something is stranded if it hears no leader for this many of the longest election timeouts.
const STRANDED_AFTER: u32 = 5;

/// What a server lacks of what it once vouched for, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The first and the last entry whose data is damaged, and how many there are.
    pub damaged: Option<(LogIndex, LogIndex, usize)>,
    /// Behind the log's last entry, which is given, others are lost with all that was known of them.
    pub lost_behind: Option<LogIndex>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.damaged {
            Some((first, _, 1)) => write!(f, "entry {first} is damaged")?,
            Some((first, last, count)) => {
                write!(f, "{count} entries are damaged, from {first} to {last}")?;
            }
            None => {}
        }
        let and = if self.damaged.is_some() { "; " } else { "" };
        self.lost_behind.map_or(Ok(()), |last| write!(f, "{and}entries behind {last} are lost"))
    }
}

/// What is missing of a log that this server once vouched for.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    /// When it is stranded, unless a leader is heard. `None`: it is.
    stranded_at: Option<Time>,
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
            stranded_at: Some(Time::ZERO),
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

    /// What is missing here, if anything.
    pub fn missing(&self) -> Option<Missing> {
        let Mending { damaged, lost, .. } = &self.mending;
        let ends = damaged.first().zip(damaged.last());
        let damaged = ends.map(|(first, last)| (*first, *last, damaged.len()));
        let lost_behind = lost.map(|_| self.log.last().index);
        (!self.is_whole()).then_some(Missing { damaged, lost_behind })
    }

    /// Whether something is missing here and nobody has led for long who could send it again: most likely no majority of the
    /// members is up and whole.
    pub fn is_stranded(&self) -> bool {
        !self.is_whole() && self.mending.stranded_at.is_none()
    }

    /// When this server is stranded unless it hears a leader.
    pub(crate) fn mending_deadline(&self) -> Option<(Time, &'static str)> {
        let at = self.mending.stranded_at.filter(|_| !self.is_whole())?;
        Some((at, "nobody to mend what is damaged"))
    }

    /// There is a leader, or time for one to come.
    pub(crate) fn hope(&mut self, now: Time) {
        if !self.is_whole() {
            self.mending.stranded_at = Some(now + STRANDED_AFTER * self.config.timing.election_max);
        }
    }

    /// Nobody came.
    pub(crate) fn give_up_hope(&mut self, now: Time) {
        if self.mending_deadline().is_some_and(|(at, _)| at <= now) {
            self.mending.stranded_at = None;
        }
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

    /// The leader has proof that this server acknowledged more than it has.
    pub(crate) fn reverted(
        &mut self,
        now: Time,
        from: NodeId,
        last: EntryId,
        round: u64,
        out: &mut Outputs,
    ) {
        self.hear_leader(now, from);
        if last.index <= self.log.base().index || self.log.holds(last) {
            return;
        }
        self.mending.lost = self.mending.lost.max(Some(last.index));
        self.mending.started_in = self.term();
        self.hope(now);
        // A vote of this term may be forgotten as well: none but for its leader can be right.
        if self.hard_state.voted_for.is_none() {
            self.hard_state.voted_for = Some(from);
            self.durability.hard_state_changed();
        }
        self.persist(Record { lost: self.mending.lost, ..Record::default() }, out);
        let hint = self.log.last_not_above(last.index, last.term);
        let when = When::Durable(self.durability.mark());
        self.send(out, when, from, Body::Damaged { hint, round });
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
