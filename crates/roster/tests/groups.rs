//! All groups of a cluster follow one list, whatever the order in which their leaders act, and whoever leads which: groups as
//! pieces on a board, without Raft. A leader acts only on a list that the group which holds it has confirmed, and that
//! confirms to its own members only.

use std::collections::BTreeSet;

use quorate_contracts::{NodeId, Random};
use quorate_roster::{
    Act, List, Member, Roster, RosterVersion, Seats, Standing, View, next_act, standing,
};

/// Who leads a group, and who belongs to it.
#[derive(Clone, Debug)]
struct Piece {
    leader: NodeId,
    seats: Seats,
}

/// The group that holds the list, and two others.
struct Board {
    groups: Vec<Piece>,
    wanted: Roster,
    random: Random,
    /// Whether those who leave the group that holds the list wait for the others.
    holder_waits: bool,
}

const HOLDER: usize = 0;

fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

impl Board {
    fn new(before: &[u64], after: &[u64], seed: u64) -> Self {
        let member = |id: &u64| (NodeId(*id), Member { votes: true, ..Member::default() });
        let members: List = after.iter().map(member).collect();
        let mut random = Random::new(seed);
        let mut piece = || Piece {
            leader: NodeId(before[random.between(0, before.len() as u64 - 1) as usize]),
            seats: Seats { voters: nodes(before), learners: BTreeSet::new() },
        };
        let groups = vec![piece(), piece(), piece()];
        Self {
            groups,
            wanted: Roster { version: RosterVersion(1), members },
            random,
            holder_waits: true,
        }
    }

    /// A number below this one.
    fn pick(&mut self, below: usize) -> usize {
        self.random.below(below as u64) as usize
    }

    fn elect(&mut self, group: usize) {
        let voters: Vec<NodeId> = self.groups[group].seats.voters.iter().copied().collect();
        self.groups[group].leader = voters[self.pick(voters.len())];
    }

    fn standing(&self, groups: impl Iterator<Item = usize>) -> Standing {
        groups.map(|group| standing(&self.groups[group].seats, &self.wanted)).min().expect("groups")
    }

    /// A leader takes a step, if it can; those whom it may let vote have caught up or have not.
    fn step(&mut self, group: usize) {
        let (holder, Piece { leader, seats }) =
            (&self.groups[HOLDER].seats, self.groups[group].clone());
        if !holder.voters.contains(&leader) && !holder.learners.contains(&leader) {
            return;
        }
        let others_are_through = self.standing(HOLDER + 1..self.groups.len()) > Standing::Unsettled;
        let may_part = group != HOLDER || others_are_through || !self.holder_waits;
        let late = NodeId(self.pick(10) as u64);
        let view = View { leader, now: &seats, wanted: &self.wanted, may_part };
        match next_act(view, |node| node != late) {
            None => {}
            Some(Act::HandOver(to)) => {
                assert!(seats.voters.contains(&to), "{to} leads, and is no voter");
                self.groups[group].leader = to;
            }
            Some(Act::Change(seats)) => {
                assert!(seats.voters.contains(&leader), "{leader} removed itself: {seats:?}");
                self.groups[group].seats = seats;
            }
        }
    }

    /// How far all have come after a good while. Now and then a group elects somebody else.
    fn play(&mut self) -> Standing {
        for _ in 0..400 {
            let group = self.pick(self.groups.len());
            match self.pick(8) {
                0 => self.elect(group),
                _ => self.step(group),
            }
        }
        self.standing(HOLDER..self.groups.len())
    }
}

/// Voters before and after: grown, shrunk without any two, replaced but for one, replaced.
const CHANGES: [(&[u64], &[u64]); 5] = [
    (&[1, 2, 3], &[1, 2, 3, 4, 5]),
    (&[1, 2, 3, 4, 5], &[3, 4, 5]),
    (&[1, 2, 3], &[3, 4, 5]),
    (&[1, 2, 3], &[4, 5, 6]),
    (&[1], &[2, 3, 4]),
];

/// ZK-18, RAFT-22: every group follows in the end, and no leader ever removes itself.
#[test]
fn every_group_follows_whoever_leads_it() {
    for (before, after) in CHANGES {
        for seed in 0..200 {
            let reached = Board::new(before, after, seed).play();
            assert_eq!(reached, Standing::Complete, "{before:?} to {after:?}, seed {seed}");
        }
    }
}

/// The contrast: where members leave the group that holds the list before the others are through, a leader of another group
/// may be cut off from the list, and its group never follows.
#[test]
fn a_holder_that_does_not_wait_strands_other_groups() {
    let stranded = (0..200).filter(|seed| {
        let mut board =
            Board { holder_waits: false, ..Board::new(&[1, 2, 3, 4, 5], &[3, 4, 5], *seed) };
        // Nobody else is elected meanwhile.
        (0..400).for_each(|i| board.step(if i < 20 { HOLDER } else { i % 3 }));
        board.standing(HOLDER..3) == Standing::Unsettled
    });
    assert!(stranded.count() > 0);
}
