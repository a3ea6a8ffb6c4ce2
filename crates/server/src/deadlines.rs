//! When each of many groups wants to be woken, in one structure: finding who is due costs what is due,
//! however many groups there are.
//!
//! A deadline that moves away, as an election timeout does with each heartbeat, costs nothing: the old
//! alarm stays, and when it rings the group is only looked at again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use quorate_contracts::Time;

/// A group's place among those of its node.
pub(crate) type Slot = usize;

/// The deadlines of a node's groups.
///
/// Invariant: a group with a deadline has an alarm that is not later; `alarm` is the one that counts,
/// and any other in `queue` is stale.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    groups: Vec<Deadline>,
    queue: BinaryHeap<Reverse<(Time, Slot)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Deadline {
    wanted: Option<Time>,
    alarm: Option<Time>,
}

impl Deadlines {
    /// Sets a group's deadline anew.
    pub(crate) fn set(&mut self, slot: Slot, wanted: Option<Time>) {
        if self.groups.len() <= slot {
            self.groups.resize(slot + 1, Deadline::default());
        }
        let group = &mut self.groups[slot];
        group.wanted = wanted;
        if let Some(at) = wanted
            && group.alarm.is_none_or(|alarm| at < alarm)
        {
            group.alarm = Some(at);
            self.queue.push(Reverse((at, slot)));
        }
    }

    /// When to look again at the latest.
    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out the groups that are due, in the order of their deadlines. Each has no deadline until it
    /// is set again.
    pub(crate) fn take_due(&mut self, now: Time, due: &mut Vec<Slot>) {
        while let Some(Reverse((at, slot))) = self.queue.peek().copied()
            && at <= now
        {
            self.queue.pop();
            let group = &mut self.groups[slot];
            if group.alarm != Some(at) {
                continue;
            }
            group.alarm = None;
            match group.wanted {
                Some(wanted) if wanted <= now => {
                    group.wanted = None;
                    due.push(slot);
                }
                later => self.set(slot, later),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(deadlines: &mut Deadlines, now: u64) -> Vec<Slot> {
        let mut due = Vec::new();
        deadlines.take_due(Time::from_millis(now), &mut due);
        due
    }

    fn at(millis: u64) -> Option<Time> {
        Some(Time::from_millis(millis))
    }

    /// RAFT-23: the groups of a process share the timers.
    #[test]
    fn groups_are_due_in_the_order_of_their_deadlines_and_once() {
        let mut deadlines = Deadlines::default();
        for (slot, millis) in [(0, 30), (1, 10), (2, 20)] {
            deadlines.set(slot, at(millis));
        }
        assert_eq!(deadlines.next(), at(10));
        assert_eq!(due(&mut deadlines, 20), [1, 2]);
        assert_eq!(due(&mut deadlines, 20), [0; 0]);
        assert_eq!(due(&mut deadlines, 99), [0]);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_away_leaves_one_alarm_however_often_it_moves() {
        let mut deadlines = Deadlines::default();
        for millis in 100..1_000 {
            deadlines.set(0, at(millis));
        }
        assert_eq!(deadlines.queue.len(), 1);
        assert_eq!(due(&mut deadlines, 500), [0; 0]);
        assert_eq!(deadlines.next(), at(999));
        assert_eq!(due(&mut deadlines, 999), [0]);
    }

    #[test]
    fn a_deadline_that_comes_nearer_or_goes_is_obeyed() {
        let mut deadlines = Deadlines::default();
        deadlines.set(0, at(100));
        deadlines.set(0, at(50));
        deadlines.set(1, at(60));
        deadlines.set(1, None);
        assert_eq!(due(&mut deadlines, 50), [0]);
        deadlines.set(0, at(100));
        assert_eq!(due(&mut deadlines, 99), [0; 0]);
        assert_eq!(due(&mut deadlines, 200), [0]);
    }
}
