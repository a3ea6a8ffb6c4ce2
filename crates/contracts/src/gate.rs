//! Holds what must not leave before it is durable.

use std::collections::VecDeque;

use crate::{When, WriteMark};

/// Outputs that wait for their write, in the order in which they were made. Both drivers use it, so
/// that "durable before acknowledged" is the same code in the simulator and in production.
///
/// Invariant: marks in the queue never decrease.
#[derive(Debug)]
pub struct Gate<T> {
    durable: WriteMark,
    held: VecDeque<(WriteMark, T)>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { durable: WriteMark(0), held: VecDeque::new() }
    }
}

impl<T> Gate<T> {
    /// Gives the output back if it may leave at once; holds it otherwise.
    pub fn pass(&mut self, when: When, output: T) -> Option<T> {
        match when {
            When::Now => Some(output),
            When::Durable(mark) if mark <= self.durable && self.held.is_empty() => Some(output),
            When::Durable(mark) => {
                // An output behind one that waits for a later mark waits with it.
                let mark = self.held.back().map_or(mark, |(last, _)| mark.max(*last));
                self.held.push_back((mark, output));
                None
            }
        }
    }

    /// Everything up to `mark` is durable: `release` gets what waited for it, in order.
    pub fn open(&mut self, mark: WriteMark, mut release: impl FnMut(T)) {
        assert!(mark >= self.durable, "durability went back from {} to {mark}", self.durable);
        self.durable = mark;
        while self.held.front().is_some_and(|(held, _)| *held <= mark) {
            if let Some((_, output)) = self.held.pop_front() {
                release(output);
            }
        }
    }

    /// How many outputs wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(gate: &mut Gate<&'static str>, mark: u64) -> Vec<&'static str> {
        let mut out = Vec::new();
        gate.open(WriteMark(mark), |x| out.push(x));
        out
    }

    /// RAFT-15: a message that depends on a write leaves after it, and in order.
    #[test]
    fn outputs_leave_in_order_and_only_once_durable() {
        let mut gate = Gate::default();
        assert_eq!(gate.pass(When::Now, "heartbeat"), Some("heartbeat"));
        assert_eq!(gate.pass(When::Durable(WriteMark(1)), "vote"), None);
        assert_eq!(gate.pass(When::Durable(WriteMark(2)), "ack"), None);
        assert_eq!(gate.pass(When::Durable(WriteMark(1)), "late"), None);
        assert_eq!(opened(&mut gate, 1), ["vote"]);
        assert_eq!(opened(&mut gate, 2), ["ack", "late"]);
        assert_eq!(gate.pass(When::Durable(WriteMark(2)), "old"), Some("old"));
        assert_eq!(gate.held(), 0);
    }
}
