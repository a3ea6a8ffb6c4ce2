//! Who belongs to a group (section 6), and what a majority of it is.
//!
//! A server uses the newest membership in its log, committed or not. During a joint change both
//! the old and the new voters must agree.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_contracts::{LogIndex, Malformed, NodeId, Wire, WireReader, WireWriter};

/// The members of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Those whose majority decides.
    pub voters: BTreeSet<NodeId>,
    /// During a joint change: the voters before it, whose majority must agree too. Else empty.
    pub outgoing: BTreeSet<NodeId>,
    /// Those that get the log and do not vote.
    pub learners: BTreeSet<NodeId>,
}

impl Membership {
    /// A group of voters.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Whether the server's vote counts.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Everyone who gets the log, in order of id.
    pub fn everyone(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// Whether those for whom `agrees` holds are a majority of every set of voters (RAFT-1). An
    /// empty group has no majority.
    pub fn is_quorum(&self, mut agrees: impl FnMut(NodeId) -> bool) -> bool {
        let mut majority = |set: &BTreeSet<NodeId>| {
            set.iter().filter(|node| agrees(**node)).count() > set.len() / 2
        };
        majority(&self.voters) && (self.outgoing.is_empty() || majority(&self.outgoing))
    }

    /// The highest value (an index, a round, an instant) that a majority of every set of voters has reached;
    /// the least one for an empty group.
    pub fn quorum_value<T: Copy + Ord + Default>(&self, mut reached: impl FnMut(NodeId) -> T) -> T {
        let incoming = majority_value(&self.voters, &mut reached);
        if self.outgoing.is_empty() {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &mut reached))
    }
}

/// The highest value that a majority of `set` has reached.
fn majority_value<T: Copy + Ord + Default>(
    set: &BTreeSet<NodeId>,
    reached: &mut impl FnMut(NodeId) -> T,
) -> T {
    // Groups are small: a fixed buffer spares an allocation for every acknowledgement.
    const SMALL: usize = 9;
    let mut small = [T::default(); SMALL];
    let mut large = Vec::new();
    let values = if set.len() <= SMALL {
        &mut small[..set.len()]
    } else {
        large.resize(set.len(), T::default());
        &mut large[..]
    };
    for (value, node) in values.iter_mut().zip(set) {
        *value = reached(*node);
    }
    values.sort_unstable();
    // With n voters sorted upwards, a majority has reached the one at (n - 1) / 2.
    values.get((set.len().wrapping_sub(1)) / 2).copied().unwrap_or_default()
}

impl Wire for Membership {
    fn encode(&self, out: &mut WireWriter) {
        out.u8(1); // version
        for set in [&self.voters, &self.outgoing, &self.learners] {
            out.u32(set.len() as u32);
            set.iter().for_each(|node| out.u64(node.0));
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        if input.u8()? != 1 {
            return Err(Malformed("unknown version of a membership"));
        }
        let mut set = || -> Result<BTreeSet<NodeId>, Malformed> {
            (0..input.count(8)?).map(|_| input.u64().map(NodeId)).collect()
        };
        Ok(Self { voters: set()?, outgoing: set()?, learners: set()? })
    }
}

/// The memberships of a log: the one that its base stands for, and each later one with its place.
#[derive(Clone, Debug)]
pub(crate) struct Memberships {
    /// As of the log's base; then one for each membership entry after it, oldest first.
    history: Vec<(LogIndex, Membership)>,
}

impl Memberships {
    pub(crate) fn new(initial: Membership) -> Self {
        Self { history: vec![(LogIndex::ZERO, initial)] }
    }

    /// The one in force: the newest, committed or not (section 6).
    pub(crate) fn current(&self) -> &Membership {
        &self.history[self.history.len() - 1].1
    }

    /// The one in force, and the entry since which it is.
    pub(crate) fn newest(&self) -> (LogIndex, &Membership) {
        let (since, membership) = &self.history[self.history.len() - 1];
        (*since, membership)
    }

    /// The one before the one since `index`; the oldest one if there is none before.
    pub(crate) fn before(&self, index: LogIndex) -> &Membership {
        let earlier = self.history.partition_point(|(since, _)| *since < index);
        &self.history[earlier.saturating_sub(1)].1
    }

    /// Since which entry the one at `index` is in force.
    pub(crate) fn since(&self, index: LogIndex) -> LogIndex {
        let after = self.history.partition_point(|(since, _)| *since <= index);
        self.history[after.saturating_sub(1)].0
    }

    /// The one in force at `index`.
    pub(crate) fn at(&self, index: LogIndex) -> &Membership {
        let after = self.history.partition_point(|(since, _)| *since <= index);
        &self.history[after.saturating_sub(1)].1
    }

    /// An entry holds a new one. An unreadable one is a bug of the leader that made it.
    pub(crate) fn append(&mut self, index: LogIndex, data: &Bytes) {
        let membership = Membership::from_bytes(data)
            .unwrap_or_else(|error| panic!("membership entry {index}: {error}"));
        self.history.push((index, membership));
    }

    /// Entries from `index` on were removed.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        let keep = self.history.partition_point(|(since, _)| *since < index);
        self.history.truncate(keep.max(1));
    }

    /// The log begins after `base`.
    pub(crate) fn compact(&mut self, base: LogIndex) {
        let after = self.history.partition_point(|(since, _)| *since <= base);
        self.history.drain(..after.saturating_sub(1));
    }

    /// A snapshot replaced everything.
    pub(crate) fn restore(&mut self, index: LogIndex, membership: Membership) {
        self.history = vec![(index, membership)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// RAFT-1: a quorum is a majority of all voters, up or down; even counts work.
    #[test]
    fn the_majority_of_each_size() {
        for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            let group = Membership::of_voters((1..=voters).map(NodeId));
            assert!(group.is_quorum(|n| n.0 <= needed), "{needed} of {voters}");
            assert!(!group.is_quorum(|n| n.0 < needed), "{} of {voters}", needed - 1);
            let reached = group.quorum_value(|n| LogIndex(if n.0 <= needed { 7 } else { 0 }));
            assert_eq!(reached, LogIndex(7), "{voters} voters");
        }
        assert!(!Membership::default().is_quorum(|_| true));
        assert_eq!(Membership::default().quorum_value(|_| LogIndex(5)), LogIndex::ZERO);
    }

    /// RAFT-2: any two quorums of one membership share a server; a joint one overlaps with both.
    #[test]
    fn any_two_quorums_intersect() {
        let groups = [
            Membership::of_voters((1..=4).map(NodeId)),
            Membership::of_voters((1..=5).map(NodeId)),
            Membership {
                voters: nodes(&[3, 4, 5]),
                outgoing: nodes(&[1, 2, 3]),
                ..Default::default()
            },
        ];
        for group in groups {
            let quorums: Vec<u32> =
                (0..32).filter(|bits| group.is_quorum(|n| bits >> (n.0 - 1) & 1 == 1)).collect();
            for a in &quorums {
                assert!(quorums.iter().all(|b| a & b != 0), "{group:?}: {a:b}");
            }
        }
    }

    /// RAFT-22: in a joint change both majorities must agree.
    #[test]
    fn joint_majorities() {
        let joint = Membership {
            voters: nodes(&[3, 4, 5]),
            outgoing: nodes(&[1, 2, 3]),
            learners: nodes(&[6]),
        };
        assert!(joint.is_quorum(|n| [1, 3, 4].contains(&n.0)));
        assert!(!joint.is_quorum(|n| [3, 4, 5].contains(&n.0)));
        assert_eq!(joint.quorum_value(|n| LogIndex(n.0 * 10)), LogIndex(20));
        assert_eq!(Membership::from_bytes(&joint.to_bytes()), Ok(joint));
    }

    #[test]
    fn the_newest_one_in_the_log_is_in_force() {
        let (a, b) = (Membership::of_voters([NodeId(1)]), Membership::of_voters([NodeId(2)]));
        let mut log = Memberships::new(a.clone());
        log.append(LogIndex(5), &b.to_bytes());
        assert_eq!((log.current(), log.at(LogIndex(4)), log.at(LogIndex(5))), (&b, &a, &b));
        log.truncate_from(LogIndex(5));
        assert_eq!(log.current(), &a);
        log.append(LogIndex(7), &b.to_bytes());
        log.compact(LogIndex(9));
        assert_eq!(log.current(), &b);
    }
}
