//! Who led a group, as this node heard of it: for people who want to know since when, and who before.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_contracts::{NodeId, Term, Time};
use quorate_raft::Raft;

/// The last leaders of a group, and when its replica was last stepped.
#[derive(Debug, Default)]
pub(crate) struct Reigns {
    /// Term, leader, and when it was heard of, in milliseconds since 1970; the newest last.
    last: VecDeque<(u64, u64, u64)>,
    /// When the replica was last stepped.
    pub(crate) seen: Time,
}

impl Reigns {
    /// So many are kept.
    const MOST: usize = 8;

    /// A replica was stepped.
    pub(crate) fn note(&mut self, now: Time, raft: &Raft) {
        self.seen = now;
        if let Some(leader) = raft.leader() {
            self.heard(raft.term(), leader);
        }
    }

    fn heard(&mut self, Term(term): Term, NodeId(leader): NodeId) {
        if self.last.back().is_some_and(|last| (last.0, last.1) == (term, leader)) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.push_back((term, leader, since.as_millis() as u64));
        if self.last.len() > Self::MOST {
            self.last.pop_front();
        }
    }

    /// The ones that are kept.
    pub(crate) fn told(&self) -> Vec<(u64, u64, u64)> {
        self.last.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_noted_once_a_term_and_the_oldest_go() {
        let mut reigns = Reigns::default();
        for term in 1..=10 {
            reigns.heard(Term(term), NodeId(term % 3 + 1));
            reigns.heard(Term(term), NodeId(term % 3 + 1));
        }
        let terms: Vec<u64> = reigns.told().iter().map(|reign| reign.0).collect();
        assert_eq!(terms, (3..=10).collect::<Vec<_>>());
    }
}
