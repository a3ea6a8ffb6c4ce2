//! A leader's heartbeat rounds: each append carries the newest one's number, each answer brings it back. Who answers a
//! round was in the leader's term after the round had begun: that is what reads and leases stand on (thesis, 6.4).

use std::collections::VecDeque;

use quorate_contracts::Time;

/// Rounds whose beginning is remembered; of older ones a lease knows nothing, and ends.
const REMEMBERED_MAX: usize = 256;

/// Numbers rounds, and remembers when they began.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    newest: u64,
    /// Oldest first.
    began: VecDeque<(u64, Time)>,
}

impl Rounds {
    /// The newest round; 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Begins a round: what is sent from here on belongs to it.
    pub(crate) fn begin(&mut self, now: Time) -> u64 {
        self.newest += 1;
        if self.began.len() == REMEMBERED_MAX {
            self.began.pop_front();
        }
        self.began.push_back((self.newest, now));
        self.newest
    }

    /// When the newest round began that is not after `round`; forgets those before it.
    pub(crate) fn began(&mut self, round: u64) -> Option<Time> {
        while self.began.get(1).is_some_and(|(number, _)| *number <= round) {
            self.began.pop_front();
        }
        self.began.front().filter(|(number, _)| *number <= round).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_began_when_it_did() {
        let mut rounds = Rounds::default();
        assert_eq!((rounds.newest(), rounds.began(0)), (0, None));
        for at in 1..=3 {
            rounds.begin(Time::from_millis(at * 10));
        }
        assert_eq!(rounds.began(1), Some(Time::from_millis(10)));
        assert_eq!(rounds.began(3), Some(Time::from_millis(30)));
        assert_eq!(rounds.began(2), None, "forgotten with the newer one asked for");
        (0..1_000).for_each(|_| {
            rounds.begin(Time::ZERO);
        });
        assert_eq!(rounds.began(3), None, "no more than a bounded number is remembered");
    }
}
