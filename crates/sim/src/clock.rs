//! A server's own idea of time.

use quorate_contracts::{Random, Time};

/// A monotonic clock with an offset and a drift. Cores see only this time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset_nanos: u64,
    /// How much faster than true time it runs, in millionths; negative is slower.
    drift_ppm: i64,
}

impl Clock {
    /// A clock with any offset up to an hour and a drift of at most `drift_ppm_max` either way.
    pub fn draw(random: &mut Random, drift_ppm_max: u64) -> Self {
        let drift_ppm = random.below(2 * drift_ppm_max + 1) as i64 - drift_ppm_max as i64;
        Self { offset_nanos: random.below(3_600_000_000_000), drift_ppm }
    }

    /// What this clock shows at a true time.
    pub fn local(&self, at: Time) -> Time {
        let nanos = i128::from(at.as_nanos());
        let shown = nanos + nanos * i128::from(self.drift_ppm) / 1_000_000;
        Time::from_nanos(self.offset_nanos + shown as u64)
    }

    /// The first true time at which this clock shows at least `local`.
    pub fn global(&self, local: Time) -> Time {
        let shown = i128::from(local.as_nanos().saturating_sub(self.offset_nanos));
        let nanos = shown * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        // The division may come out a little early or late.
        let mut at = nanos as u64;
        while self.local(Time::from_nanos(at)) < local {
            at += 1;
        }
        Time::from_nanos(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_when_the_true_time_comes() {
        let mut random = Random::new(1);
        for _ in 0..1_000 {
            let clock = Clock::draw(&mut random, 100_000);
            let at = Time::from_nanos(random.below(1 << 50));
            let local = clock.local(at);
            let due = clock.global(local);
            assert!(clock.local(due) >= local, "{clock:?} {at}");
            assert!(due.since(at).as_nanos() < 10, "{clock:?} {at} {due}");
        }
    }
}
