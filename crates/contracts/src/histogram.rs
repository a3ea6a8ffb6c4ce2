//! How long something took, counted: what percentiles are read from.
//!
//! Each doubling of the time has four buckets, so a value is known to a quarter. Counts only grow: who wants the
//! percentiles of the last minute subtracts what was counted a minute ago.
//!
//! Not here: a clock, and percentiles themselves, which belong to whoever shows them.

use std::time::Duration;

/// Buckets up to 2^26 microseconds, about a minute; what took longer is counted in the last one.
const BUCKETS: usize = 100;

/// Counts of durations, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Histogram([u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// One more took so long.
    pub fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(us)] += 1;
    }

    /// The buckets that are not empty, shortest first: how long each took at most, in microseconds (exclusive), and
    /// how many did.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
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
}
