//! The next act of one group's leader towards the list.
//!
//! ```text
//!  newcomers learn ──▶ a majority of the new voters has caught up ──▶ one that stays leads ──▶ joint consensus ──▶ laggards,
//!                                                                                                  one by one as they come
//! ```
//!
//! New voters begin as learners, so that no majority ever waits for a server that holds nothing. The old voters stay until a
//! majority of the new ones has caught up; then all changes in one joint step, but for new voters that still lack
//! something, which follow.
//!
//! A leader that leaves hands over first: whoever removes a member stays to tell it so, and to be asked. For the same reason
//! nobody leaves the group that holds the list before all others are through: a leader acts on a list only that this
//! group has confirmed to it, and could not go on without.

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
    /// Some still have a part that is not theirs.
    Unsettled,
    /// New voters lack something, and so many of them that those before them still decide.
    Waiting,
    /// Only voters that lack something are not yet what they are to be.
    Settled,
    /// All is as the list says.
    Complete,
}

/// How far a group with these members has come.
pub fn standing(now: &Seats, wanted: &Roster) -> Standing {
    let (voters, observers) = (wanted.voters(), wanted.observers());
    let late: BTreeSet<NodeId> = voters.difference(&now.voters).copied().collect();
    let parts_are_theirs = now.voters.is_subset(&voters) && now.learners == &observers | &late;
    if !parts_are_theirs {
        Standing::Unsettled
    } else if late.is_empty() {
        Standing::Complete
    } else if now.voters.len() > voters.len() / 2 {
        Standing::Settled
    } else {
        Standing::Waiting
    }
}

/// What the leader of a group is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Ask for these members.
    Change(Seats),
    /// Have that voter lead.
    HandOver(NodeId),
}

/// What the leader of a group sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Who leads.
    pub leader: NodeId,
    /// The members as they are.
    pub now: &'a Seats,
    /// The members as they are to be.
    pub wanted: &'a Roster,
    /// Whether members may leave the group yet.
    pub may_part: bool,
}

/// What the leader of a group is to do next; `None` if there is nothing to do, or nothing but to wait. `has_caught_up` says
/// of another member whether it is there and lacks little.
pub fn next_act(view: View<'_>, has_caught_up: impl Fn(NodeId) -> bool) -> Option<Act> {
    let View { leader, now, wanted, may_part } = view;
    let (voters, observers) = (wanted.voters(), wanted.observers());
    let newcomers = &(&voters | &observers) - &(&now.voters | &now.learners);
    if !newcomers.is_empty() {
        let learners = &now.learners | &newcomers;
        return Some(Act::Change(Seats { voters: now.voters.clone(), learners }));
    }
    let ready = |node: &&NodeId| now.voters.contains(node) || has_caught_up(**node);
    let ready: BTreeSet<NodeId> = voters.iter().filter(ready).copied().collect();
    if ready.len() <= voters.len() / 2 {
        return None;
    }
    let staying = &voters & &now.voters;
    let leaves = now.voters.contains(&leader) && !voters.contains(&leader);
    if leaves && !staying.is_empty() {
        let heard = staying.iter().find(|node| has_caught_up(**node));
        return heard.or(staying.first()).copied().map(Act::HandOver);
    }
    let next = if may_part && !leaves {
        let learners = &observers | &(&voters - &ready);
        Seats { voters: ready, learners }
    } else {
        let voters = &now.voters | &ready;
        let learners = &(&now.learners | &observers) - &voters;
        Seats { voters, learners }
    };
    (next != *now).then_some(Act::Change(next))
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

    /// A name, who leads, the members now and as they are to be, those who have caught up, whether members may leave, and
    /// what is to be done.
    type Case = (&'static str, u64, Seats, Roster, &'static [u64], bool, Option<Act>);

    fn change(voters: &[u64], learners: &[u64]) -> Option<Act> {
        Some(Act::Change(seats(voters, learners)))
    }

    fn check(cases: &[Case]) {
        for (name, leader, now, wanted, ready, may_part, expected) in cases {
            let view = View { leader: NodeId(*leader), now, wanted, may_part: *may_part };
            let act = next_act(view, |node| set(ready).contains(&node));
            assert_eq!(&act, expected, "{name}");
        }
    }

    /// ZK-18: what is asked for, step by step, when those in `ready` have caught up.
    #[test]
    fn newcomers_learn_first_and_leavers_go_last() {
        let three = || seats(&[1, 2, 3], &[]);
        let growing = || seats(&[1, 2, 3], &[4, 5]);
        let five = || roster(&[1, 2, 3, 4, 5], &[]);
        check(&[
            ("nothing to do", 1, three(), roster(&[1, 2, 3], &[]), &[], true, None),
            (
                "an observer is there at once, heard of or not",
                1,
                three(),
                roster(&[1, 2, 3], &[9]),
                &[],
                true,
                change(&[1, 2, 3], &[9]),
            ),
            ("newcomers learn", 1, three(), five(), &[], true, change(&[1, 2, 3], &[4, 5])),
            (
                "they vote once they have caught up",
                1,
                growing(),
                five(),
                &[4, 5],
                false,
                change(&[1, 2, 3, 4, 5], &[]),
            ),
            (
                "one that has not does not keep the other",
                1,
                growing(),
                five(),
                &[4],
                true,
                change(&[1, 2, 3, 4], &[5]),
            ),
            (
                "a voter becomes an observer, another leaves",
                1,
                seats(&[1, 2, 3, 4, 5], &[]),
                roster(&[1, 2, 3], &[4]),
                &[],
                true,
                change(&[1, 2, 3], &[4]),
            ),
            ("nothing but to wait", 1, seats(&[1], &[2]), roster(&[1, 2], &[]), &[], true, None),
        ]);
    }

    /// ZK-18, RAFT-22: whoever removes a member stays: a leader that leaves hands over, and lets others in before it does
    /// where nobody who stays votes yet.
    #[test]
    fn a_leader_that_leaves_hands_over_first() {
        let replaced = || seats(&[1, 2, 3], &[4, 5, 6]);
        let six = || seats(&[1, 2, 3, 4, 6], &[5]);
        let new = || roster(&[4, 5, 6], &[]);
        let hand_over = |to| Some(Act::HandOver(NodeId(to)));
        check(&[
            (
                "to one that is there",
                1,
                seats(&[1, 2, 3], &[]),
                roster(&[2, 3], &[]),
                &[3],
                true,
                hand_over(3),
            ),
            (
                "to one of which it has not heard",
                1,
                seats(&[1, 2, 3], &[]),
                roster(&[2, 3], &[]),
                &[],
                true,
                hand_over(2),
            ),
            (
                "to be an observer",
                1,
                seats(&[1, 2, 3], &[]),
                roster(&[2, 3], &[1]),
                &[2, 3],
                true,
                hand_over(2),
            ),
            (
                "the old ones stay while no majority of the new is ready",
                1,
                replaced(),
                new(),
                &[4],
                true,
                None,
            ),
            (
                "the new ones first",
                1,
                replaced(),
                new(),
                &[4, 6],
                true,
                change(&[1, 2, 3, 4, 6], &[5]),
            ),
            ("then one of them leads", 1, six(), new(), &[2, 6], true, hand_over(6)),
            ("and removes the old ones", 6, six(), new(), &[4], true, change(&[4, 6], &[5])),
        ]);
    }

    /// ZK-18: as long as members may not leave a group, others join it, and those who are to leave stay.
    #[test]
    fn nobody_leaves_before_the_other_groups_are_through() {
        let now = || seats(&[1, 2, 3], &[4, 9]);
        let wanted = || roster(&[2, 3, 4], &[]);
        check(&[
            ("who is ready votes", 2, now(), wanted(), &[4], false, change(&[1, 2, 3, 4], &[9])),
            ("the rest waits", 2, seats(&[1, 2, 3, 4], &[9]), wanted(), &[4], false, None),
            (
                "until it may go",
                2,
                seats(&[1, 2, 3, 4], &[9]),
                wanted(),
                &[4],
                true,
                change(&[2, 3, 4], &[]),
            ),
        ]);
    }

    #[test]
    fn how_far_a_group_has_come() {
        let wanted = roster(&[1, 2, 3, 4], &[9]);
        for (now, expected) in [
            (seats(&[1, 2, 3, 4], &[9]), Standing::Complete),
            (seats(&[1, 2, 3], &[4, 9]), Standing::Settled),
            (seats(&[1, 2], &[3, 4, 9]), Standing::Waiting),
            (seats(&[1, 2, 3], &[4]), Standing::Unsettled),
            (seats(&[1, 2, 3, 4, 5], &[9]), Standing::Unsettled),
        ] {
            assert_eq!(standing(&now, &wanted), expected, "{now:?}");
        }
    }
}
