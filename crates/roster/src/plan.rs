//! The next step of one group towards the list.
//!
//! ```text
//!  newcomers learn ──▶ a majority of the new voters has caught up ──▶ joint consensus ──▶ laggards, one by one as they come
//! ```
//!
//! New voters begin as learners, so that no majority ever waits for a server that holds nothing. The old voters stay until a
//! majority of the new ones has caught up; then all changes in one joint step, but for new voters that still lack
//! something, which follow.

use std::collections::BTreeSet;

use quorate_contracts::NodeId;

use crate::Roster;

/// Who has which part in a group: what Raft calls its members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seats {
    /// Those whose majority decides.
    pub voters: BTreeSet<NodeId>,
    /// Those that get the log and do not vote.
    pub learners: BTreeSet<NodeId>,
}

/// How far a group has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Some still have a part that is not theirs, or no majority of the new voters votes.
    Unsettled,
    /// Only voters that lack something are not yet what they are to be.
    Settled,
    /// All is as the list says.
    Complete,
}

/// How far a group with these members has come.
pub fn standing(now: &Seats, wanted: &Roster) -> Standing {
    let (voters, observers) = (wanted.voters(), wanted.observers());
    let late: BTreeSet<NodeId> = voters.difference(&now.voters).copied().collect();
    if late.is_empty() && now.voters == voters && now.learners == observers {
        Standing::Complete
    } else if now.voters.is_subset(&voters)
        && now.voters.len() > voters.len() / 2
        && now.learners == &observers | &late
    {
        Standing::Settled
    } else {
        Standing::Unsettled
    }
}

/// The members that the leader of a group is to ask for next; `None` if there is nothing to do, or nothing but to wait.
pub fn next_step(
    now: &Seats,
    wanted: &Roster,
    has_caught_up: impl Fn(NodeId) -> bool,
) -> Option<Seats> {
    let (voters, observers) = (wanted.voters(), wanted.observers());
    let newcomers = &(&voters | &observers) - &(&now.voters | &now.learners);
    if !newcomers.is_empty() {
        let learners = &now.learners | &newcomers;
        return Some(Seats { voters: now.voters.clone(), learners });
    }
    let ready = |node: &&NodeId| now.voters.contains(node) || has_caught_up(**node);
    let ready: BTreeSet<NodeId> = voters.iter().filter(ready).copied().collect();
    if ready.len() <= voters.len() / 2 {
        return None;
    }
    let learners = &observers | &(&voters - &ready);
    let next = Seats { voters: ready, learners };
    (next != *now).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{List, Member, RosterVersion};

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn seats(voters: &[u64], learners: &[u64]) -> Seats {
        Seats { voters: set(voters), learners: set(learners) }
    }

    fn roster(voters: &[u64], observers: &[u64]) -> Roster {
        let member = |votes| move |id: &u64| (NodeId(*id), Member { votes, ..Member::default() });
        let members: List =
            voters.iter().map(member(true)).chain(observers.iter().map(member(false))).collect();
        Roster { version: RosterVersion(1), members }
    }

    /// A name, the members now and as they are to be, those who have caught up, and the next step.
    type Case = (&'static str, Seats, Roster, &'static [u64], Option<Seats>);

    /// ZK-18: what is asked for, step by step, when those in `ready` have caught up.
    #[test]
    fn newcomers_learn_first_and_leavers_go_last() {
        let cases: [Case; 9] = [
            ("nothing to do", seats(&[1, 2, 3], &[]), roster(&[1, 2, 3], &[]), &[], None),
            (
                "an observer is there at once, heard of or not",
                seats(&[1, 2, 3], &[]),
                roster(&[1, 2, 3], &[9]),
                &[],
                Some(seats(&[1, 2, 3], &[9])),
            ),
            (
                "newcomers learn",
                seats(&[1, 2, 3], &[]),
                roster(&[1, 2, 3, 4, 5], &[]),
                &[],
                Some(seats(&[1, 2, 3], &[4, 5])),
            ),
            (
                "they vote once they have caught up",
                seats(&[1, 2, 3], &[4, 5]),
                roster(&[1, 2, 3, 4, 5], &[]),
                &[4, 5],
                Some(seats(&[1, 2, 3, 4, 5], &[])),
            ),
            (
                "one that has not does not keep the other",
                seats(&[1, 2, 3], &[4, 5]),
                roster(&[1, 2, 3, 4, 5], &[]),
                &[4],
                Some(seats(&[1, 2, 3, 4], &[5])),
            ),
            (
                "the old ones stay while no majority of the new is ready",
                seats(&[1, 2, 3], &[4, 5, 6]),
                roster(&[4, 5, 6], &[]),
                &[4],
                None,
            ),
            (
                "then all at once",
                seats(&[1, 2, 3], &[4, 5, 6]),
                roster(&[4, 5, 6], &[]),
                &[4, 6],
                Some(seats(&[4, 6], &[5])),
            ),
            (
                "a voter becomes an observer, another leaves",
                seats(&[1, 2, 3, 4, 5], &[]),
                roster(&[1, 2, 3], &[4]),
                &[],
                Some(seats(&[1, 2, 3], &[4])),
            ),
            ("nothing but to wait", seats(&[1], &[2]), roster(&[1, 2], &[]), &[], None),
        ];
        for (name, now, wanted, ready, expected) in cases {
            let next = next_step(&now, &wanted, |node| set(ready).contains(&node));
            assert_eq!(next, expected, "{name}");
        }
    }

    #[test]
    fn how_far_a_group_has_come() {
        let wanted = roster(&[1, 2, 3, 4], &[9]);
        for (now, expected) in [
            (seats(&[1, 2, 3, 4], &[9]), Standing::Complete),
            (seats(&[1, 2, 3], &[4, 9]), Standing::Settled),
            (seats(&[1, 2], &[3, 4, 9]), Standing::Unsettled),
            (seats(&[1, 2, 3], &[4]), Standing::Unsettled),
            (seats(&[1, 2, 3, 4, 5], &[9]), Standing::Unsettled),
        ] {
            assert_eq!(standing(&now, &wanted), expected, "{now:?}");
        }
    }
}
