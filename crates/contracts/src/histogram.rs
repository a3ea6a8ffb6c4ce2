//! How long something took, counted: what percentiles are read from.
//!
//! Each doubling of the time has four buckets, so a value is known to a quarter. Counts only grow: who wants the
//! percentiles of the last minute subtracts what was counted a minute ago.
//!
//! Not here: a clock.

use std::time::Duration;

/// Buckets up to 2^26 microseconds, about a minute; what took longer is counted in the last one.
const BUCKETS: usize = 100;

/// Counts of durations, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_us: 0 }
    }
}

impl Histogram {
    /// One more took so long.
    pub fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// How long the given share of them (0 to 1) took at most, in microseconds, known to a quarter; 0 if nothing was counted.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |(end, _)| end)
    }

    /// The buckets that are not empty, shortest first: how long each took at most, in microseconds (exclusive), and
    /// how many did.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (end(bucket), *count))
    }
}

/// Below 4 us each microsecond has a bucket; above, the two bits after the leading one choose it.
fn bucket(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let doubling = us.ilog2() as usize;
    let quarter = (us >> (doubling - 2)) as usize & 3;
    ((doubling - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// The least duration that is too long for a bucket, in microseconds.
fn end(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64 + 1,
        _ => (bucket as u64 % 4 + 5) << (bucket / 4 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each duration lies below the end of its bucket, and not below the end of the one before.
    #[test]
    fn a_duration_is_known_to_a_quarter() {
        for us in (0..4_000).chain([65_535, 65_536, 1_000_000, 59_999_999]) {
            let at = bucket(us);
            assert!(us < end(at), "{us} us in bucket {at}, which ends at {}", end(at));
            assert!(at == 0 || us >= end(at - 1), "{us} us in bucket {at} is too short for it");
            assert!(end(at) <= us + us / 4 + 1, "bucket {at} is too wide for {us} us");
        }
    }

    #[test]
    fn what_takes_for_ever_is_counted_too() {
        let mut histogram = Histogram::default();
        for took in [Duration::from_micros(250), Duration::from_micros(255), Duration::MAX] {
            histogram.add(took);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [(256, 2), (1 << 26, 1)]);
    }

    #[test]
    fn quantiles_are_the_ends_of_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile_us(0.5), histogram.count()), (0, 0));
        (0..98).for_each(|_| histogram.add(Duration::from_micros(3)));
        (0..2).for_each(|_| histogram.add(Duration::from_micros(1_000)));
        assert_eq!((histogram.count(), histogram.sum_us()), (100, 2_294));
        let quantiles = [0.0, 0.5, 0.98, 0.99, 1.0].map(|share| histogram.quantile_us(share));
        assert_eq!(quantiles, [4, 4, 4, 1_024, 1_024]);
    }
}
