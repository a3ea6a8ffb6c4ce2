//! What a server is told at construction: who it is, how patient, and how much it may hold.

use std::time::Duration;

use quorate_contracts::NodeId;

/// Timers. All servers of a group should use the same.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A leader sends a heartbeat this often.
    pub heartbeat: Duration,
    /// A follower campaigns after a silence drawn from `[election_min, election_max)`. A voter protects
    /// a leader that it heard within `election_min`, and a leader that cannot reach a majority
    /// for `election_max` steps down.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
    /// How long a candidate waits for votes before it tries again, at first; doubled on each
    /// failure up to the election timeout.
    pub campaign: Duration,
    /// When the leader's connection closes, voters campaign one after the other, this far apart, so
    /// that they don't split the vote.
    pub stagger: Duration,
    /// A piece of a snapshot is sent again after this silence.
    pub snapshot_retry: Duration,
    /// A group that had nothing to do for so long sleeps: no heartbeats, no election timers. The driver then owes what
    /// `hibernate` says. `None`: never.
    pub hibernate_after: Option<Duration>,
}

impl Default for Timing {
    /// The paper's 150-300 ms suits a quiet LAN. Ten heartbeats of silence cost little here, since a
    /// dead process is noticed by its closed connection within milliseconds, and they keep a busy
    /// machine from electing nervously.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(1_000),
            election_max: Duration::from_millis(2_000),
            campaign: Duration::from_millis(150),
            stagger: Duration::from_millis(40),
            snapshot_retry: Duration::from_millis(1_000),
            hibernate_after: None,
        }
    }
}

/// Bounds on memory and messages (RAFT-13).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries in one message, in bytes; one entry may be larger.
    pub append_bytes: usize,
    /// Unacknowledged appends to one server.
    pub window_messages: usize,
    /// Unacknowledged bytes to one server.
    pub window_bytes: usize,
    /// Entries kept in memory.
    pub memory_bytes: usize,
    /// Entries of a leader that are not committed yet; beyond, proposals are refused.
    pub uncommitted_bytes: usize,
    /// One piece of a snapshot.
    pub snapshot_piece_bytes: usize,
    /// A snapshot is due once the log since the last one exceeds this, or the last one's size.
    pub snapshot_log_bytes: u64,
    /// A snapshot is also due once this many entries were applied since the last one.
    pub snapshot_entries: u64,
    /// Entries left in the log behind a snapshot, for followers that are a little behind.
    pub trailing_entries: u64,
    /// Commands applied in one step, in bytes: other work gets its turn in between.
    pub apply_bytes: usize,
    /// A learner that lacks at most so many entries may become a voter.
    pub promotion_lag: u64,
    /// Reads of this server's clients that wait for a leader; beyond, they are refused.
    pub reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            append_bytes: 1 << 20,
            window_messages: 128,
            window_bytes: 8 << 20,
            memory_bytes: 32 << 20,
            uncommitted_bytes: 64 << 20,
            snapshot_piece_bytes: 256 << 10,
            snapshot_log_bytes: 64 << 20,
            snapshot_entries: u64::MAX,
            trailing_entries: 10_000,
            apply_bytes: 1 << 20,
            promotion_lag: 4_096,
            reads: 1 << 16,
        }
    }
}

/// Reads by lease (thesis, 6.4.1): a leader answers reads without a round of their own, as long as no voter may have
/// helped to elect another one. That rests on clocks, so nothing turns it on by default. All servers of a
/// group must use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// By how much the rates of any two servers' clocks may differ, in millionths. Beyond, reads may be stale.
    pub drift_ppm: u32,
}

impl Lease {
    /// How long a leader's lease lasts by its own clock, from the beginning of a round that a majority answered: what
    /// is `election_min` by a voter's clock may be shorter by the leader's.
    pub fn length(self, election_min: Duration) -> Duration {
        let nanos = election_min.as_nanos() * 1_000_000 / (1_000_000 + u128::from(self.drift_ppm));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Who a server is and how it behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its id.
    pub node: NodeId,
    /// The voters of a new group. What the log or a snapshot says wins.
    pub voters: Vec<NodeId>,
    /// Those of a new group that get the log and do not vote.
    pub learners: Vec<NodeId>,
    /// Timers.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
    /// Whether reads may rest on clocks.
    pub lease: Option<Lease>,
}

impl Config {
    /// Defaults for a server of a group.
    pub fn new(node: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            node,
            voters: voters.into_iter().collect(),
            learners: Vec::new(),
            timing: Timing::default(),
            limits: Limits::default(),
            lease: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RAFT-21: the faster a voter's clock may run, the shorter the lease.
    #[test]
    fn a_lease_is_shorter_than_what_voters_wait() {
        let length = |ppm| Lease { drift_ppm: ppm }.length(Duration::from_secs(1));
        assert_eq!(length(0), Duration::from_secs(1));
        assert_eq!(length(250_000), Duration::from_millis(800));
        assert!(length(500) < Duration::from_nanos(999_500_250));
    }
}
