//! What a leader knows of one other server's log (`nextIndex`, `matchIndex`), and how much of it
//! may be on its way.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_contracts::{EntryId, LogIndex, NodeId, Room, Time};

/// A leader's view of another server.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Highest index known to be on that server durably (`matchIndex`): proven.
    pub(crate) matched: LogIndex,
    /// Next index to send (`nextIndex`): an optimistic guess.
    pub(crate) next: LogIndex,
    /// How it is being fed.
    pub(crate) feed: Feed,
    /// Commit index that it was told of.
    pub(crate) told_commit: LogIndex,
    /// When it was last heard of, in this term.
    pub(crate) heard: Time,
    /// The round in which it was last found to lack something: what was sent before tells no news.
    pub(crate) probing_since: u64,
    /// The newest round when `matched` was learnt: what is said in answer to later ones was said after it.
    pub(crate) proven_in: u64,
    /// What it says of its log in answer to earlier rounds vouches for nothing: it lost some of it since, or another
    /// server took its name.
    pub(crate) believed_since: u64,
    /// The newest round that it was told of, and the newest that it answered.
    pub(crate) told_round: u64,
    /// See `told_round`.
    pub(crate) answered_round: u64,
    /// It sleeps, as its leader asked.
    pub(crate) asleep: bool,
    /// What room its disk has, as it said last.
    pub(crate) disk: Room,
    /// It is no member any more, and is fed until then, so that it learns so.
    pub(crate) leaving: Option<Time>,
    /// Appends on their way: last index and bytes of each.
    in_flight: VecDeque<(LogIndex, usize)>,
    in_flight_bytes: usize,
}

/// What a leader knows of another server's log, for people to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerView {
    /// Which server.
    pub node: NodeId,
    /// Highest index known to be durable there (`matchIndex`).
    pub matched: LogIndex,
    /// Next index to send (`nextIndex`).
    pub next: LogIndex,
    /// When it was last heard of, in this term.
    pub heard: Time,
    /// How it is being fed: `probe` until it turned out where the logs agree, then `replicate`; `snapshot` while it
    /// lacks entries that are gone; `asleep` while there is nothing to feed it.
    pub feed: &'static str,
}

/// How a follower is being fed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Feed {
    /// Where the logs agree is not known: one append at a time.
    Probe {
        /// An append is on its way; the next heartbeat asks again.
        sent: bool,
    },
    /// Entries are streamed ahead of the acknowledgements, within the window.
    Replicate,
    /// It needs entries that are in the snapshot only.
    Snapshot {
        /// Which snapshot; none until its first piece was read.
        last: Option<EntryId>,
        /// Next piece to send.
        offset: u64,
        /// When the last piece or request for one was made.
        asked: Time,
    },
}

/// The window of unacknowledged appends to one server (RAFT-13).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Progress {
    /// A server of which a leader with this last entry knows nothing, and which it asks from `round` on.
    pub(crate) fn new(last: LogIndex, now: Time, round: u64) -> Self {
        Self {
            matched: LogIndex::ZERO,
            next: last.next(),
            feed: Feed::Probe { sent: false },
            told_commit: LogIndex::ZERO,
            heard: now,
            probing_since: 0,
            proven_in: round,
            believed_since: round,
            told_round: 0,
            answered_round: 0,
            asleep: false,
            disk: Room::Enough,
            leaving: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// This, for people to look at.
    pub(crate) fn view(&self, node: NodeId) -> FollowerView {
        let feed = match self.feed {
            Feed::Probe { .. } => "probe",
            Feed::Replicate if self.asleep => "asleep",
            Feed::Replicate => "replicate",
            Feed::Snapshot { .. } => "snapshot",
        };
        FollowerView { node, matched: self.matched, next: self.next, heard: self.heard, feed }
    }

    /// Whether another append with entries may leave.
    pub(crate) fn has_room(&self, window: Window) -> bool {
        if self.disk == Room::Reserve {
            return false;
        }
        match self.feed {
            Feed::Probe { sent } => !sent,
            Feed::Replicate => {
                self.in_flight.len() < window.messages && self.in_flight_bytes < window.bytes
            }
            Feed::Snapshot { .. } => false,
        }
    }

    /// Whether a commit index is to be told: only to who is streamed to; others hear it with a heartbeat.
    pub(crate) fn wants_commit(&self, commit: LogIndex) -> bool {
        self.feed == Feed::Replicate && self.told_commit < commit
    }

    /// Whether nothing was heard of it for so long.
    pub(crate) fn is_away(&self, now: Time, after: Duration) -> bool {
        self.heard + after <= now
    }

    /// Whether it turned out where the logs agree. Who needs a snapshot needs it until it has it, or has
    /// reached as far otherwise.
    pub(crate) fn may_stream(&self, matched: LogIndex) -> bool {
        match self.feed {
            Feed::Replicate => false,
            Feed::Probe { .. } => true,
            Feed::Snapshot { last: Some(end), .. } => matched >= end.index,
            Feed::Snapshot { last: None, .. } => false,
        }
    }

    /// Whether a rejection of what follows `prev` tells something.
    pub(crate) fn is_news(&self, prev: LogIndex) -> bool {
        match self.feed {
            Feed::Probe { .. } => prev.next() == self.next,
            Feed::Replicate => prev > self.matched,
            Feed::Snapshot { .. } => false,
        }
    }

    /// An append with entries up to `last` left.
    pub(crate) fn sent(&mut self, last: LogIndex, bytes: usize) {
        if let Feed::Probe { sent } = &mut self.feed {
            *sent = true;
            return;
        }
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
        self.next = last.next();
    }

    /// The server's log agrees up to `index`. Returns whether that is news.
    pub(crate) fn accepted(&mut self, index: LogIndex) -> bool {
        while self.in_flight.front().is_some_and(|(last, _)| *last <= index) {
            if let Some((_, bytes)) = self.in_flight.pop_front() {
                self.in_flight_bytes -= bytes;
            }
        }
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(index.next());
        news
    }

    /// It lost what it held from `next` on. Only what it says in answer to `round` and later ones counts: an older
    /// acknowledgement may speak of what is gone.
    pub(crate) fn lost(&mut self, next: LogIndex, round: u64) {
        self.matched = self.matched.min(next.prev().unwrap_or_default());
        (self.proven_in, self.believed_since) = (round, round);
    }

    /// Whether a rejection of what follows `prev` is proof that the server lost what it had acknowledged: it was asked after
    /// that was known.
    pub(crate) fn has_reverted(&self, prev: LogIndex, round: u64) -> bool {
        prev <= self.matched && round > self.proven_in
    }

    /// Falls back to asking where the logs agree, next at `next`.
    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.feed = Feed::Probe { sent: false };
        self.next = next.max(self.matched.next());
        self.clear_in_flight();
    }

    /// Where the logs agree is known: stream.
    pub(crate) fn replicate(&mut self) {
        self.feed = Feed::Replicate;
        self.next = self.matched.next();
        self.clear_in_flight();
    }

    /// It needs the snapshot.
    pub(crate) fn snapshot(&mut self, now: Time) {
        self.feed = Feed::Snapshot { last: None, offset: 0, asked: now };
        self.clear_in_flight();
    }

    fn clear_in_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }
}
