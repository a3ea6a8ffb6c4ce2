//! What will happen, in order of virtual time; what is due at the same instant happens in the order
//! in which it was scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use quorate_contracts::Time;

#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Item<E>>,
    scheduled: u64,
}

#[derive(Debug)]
struct Item<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), scheduled: 0 }
    }

    pub(crate) fn push(&mut self, at: Time, event: E) {
        self.scheduled += 1;
        self.heap.push(Item { at, order: self.scheduled, event });
    }

    /// The next event, if it is due by `until`.
    pub(crate) fn pop_until(&mut self, until: Time) -> Option<(Time, E)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|item| (item.at, item.event))
    }
}

impl<E> PartialEq for Item<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<E> Eq for Item<E> {}
impl<E> PartialOrd for Item<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Item<E> {
    /// The heap gives the greatest first: the earliest must be the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
