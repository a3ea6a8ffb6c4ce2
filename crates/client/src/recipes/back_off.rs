//! How long to wait after a collision: twice as long at most as the time before, drawn at random, so that those who collided do
//! not collide again.

use std::time::Duration;

use quorate_contracts::Random;

const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(256);

/// The waits of one contender.
#[derive(Clone, Debug)]
pub(super) struct BackOff {
    random: Random,
    window: Duration,
}

impl BackOff {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), window: FIRST }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let micros = self.random.below(self.window.as_micros() as u64);
        self.window = (2 * self.window).min(LONGEST);
        Duration::from_micros(micros)
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.window = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_at_random_up_to_a_limit() {
        let mut back_off = BackOff::new(7);
        let mut window = FIRST;
        for _ in 0..40 {
            assert!(back_off.next() < window);
            window = (2 * window).min(LONGEST);
        }
        let late: Vec<_> = (0..100).map(|_| back_off.next()).collect();
        assert!(
            late.iter().any(|wait| *wait > LONGEST / 2)
                && late.iter().any(|wait| *wait < LONGEST / 4)
        );
        back_off.reset();
        assert!(back_off.next() < FIRST);
    }
}
