//! The faults that are on in one run, and how strong: each drawn on or off (swarm testing), since a run with all
//! faults at once reaches less than many runs with a few each. Rare paths are drawn the same way, through the
//! ordinary configuration: tiny batches, windows and memories, early snapshots, short timers.

use std::fmt;
use std::time::Duration;

use quorate_contracts::Random;
use quorate_raft::{Lease, Limits, Timing};
use quorate_sim::{NetworkOptions, Passage, StoreOptions, WorldOptions};

/// The faults of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Weather {
    pub(crate) nodes: u64,
    loss_ppm: u32,
    duplicate_ppm: u32,
    late_ppm: u32,
    /// All disks are slow, all the time.
    slow_disks: bool,
    drift_ppm_max: u64,
    /// Chances per tick, in millionths.
    pub(crate) crash_ppm: u32,
    pub(crate) stop_ppm: u32,
    pub(crate) partition_ppm: u32,
    pub(crate) slow_disk_ppm: u32,
    pub(crate) heal_ppm: u32,
    pub(crate) restart_ppm: u32,
    pub(crate) write_ppm: u32,
    pub(crate) read_ppm: u32,
    pub(crate) transfer_ppm: u32,
    pub(crate) members_ppm: u32,
    /// Reads may rest on leases.
    leases: bool,
    /// Snapshots after this many bytes of log.
    snapshot_log_bytes: u64,
    snapshot_piece_bytes: usize,
    trailing_entries: u64,
    append_bytes: usize,
    window_messages: usize,
    promotion_lag: u64,
    memory_bytes: usize,
    tail_entries: usize,
    /// Timers of a LAN rather than of a busy machine.
    short_timers: bool,
}

impl Weather {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut some = |ppm_max: u32| {
            if random.chance_ppm(500_000) { random.below(u64::from(ppm_max)) as u32 } else { 0 }
        };
        let (loss_ppm, duplicate_ppm, late_ppm) = (some(200_000), some(100_000), some(50_000));
        let (crash_ppm, stop_ppm, partition_ppm) = (some(20_000), some(10_000), some(20_000));
        let (slow_disk_ppm, transfer_ppm, read_ppm) = (some(10_000), some(20_000), some(800_000));
        let members_ppm = some(30_000);
        Self {
            nodes: [3, 3, 5, 5, 4, 7][random.below(6) as usize],
            loss_ppm,
            duplicate_ppm,
            late_ppm,
            slow_disks: random.chance_ppm(200_000),
            drift_ppm_max: if random.chance_ppm(300_000) { random.below(50_000) } else { 200 },
            crash_ppm,
            stop_ppm,
            partition_ppm,
            slow_disk_ppm,
            heal_ppm: random.between(5_000, 60_000) as u32,
            restart_ppm: random.between(10_000, 100_000) as u32,
            write_ppm: random.between(50_000, 900_000) as u32,
            read_ppm,
            transfer_ppm,
            members_ppm,
            leases: random.chance_ppm(400_000),
            snapshot_log_bytes: if random.chance_ppm(600_000) {
                random.between(500, 20_000)
            } else {
                1 << 30
            },
            snapshot_piece_bytes: random.between(32, 1_000) as usize,
            trailing_entries: random.below(20),
            append_bytes: random.between(100, 4_000) as usize,
            window_messages: random.between(1, 10) as usize,
            promotion_lag: random.below(200),
            memory_bytes: random.between(1_000, 20_000) as usize,
            tail_entries: random.between(1, 200) as usize,
            short_timers: random.chance_ppm(300_000),
        }
    }

    /// Weather in which everything is like this one but for one trouble that is left out: what
    /// shrinking tries.
    pub(crate) fn calmer(&self) -> Vec<Self> {
        let variants = [
            Self { slow_disks: false, ..*self },
            Self { drift_ppm_max: 0, ..*self },
            Self { leases: false, ..*self },
            Self { snapshot_log_bytes: 1 << 30, ..*self },
            Self { append_bytes: 1 << 20, window_messages: 128, ..*self },
            Self { memory_bytes: 1 << 20, tail_entries: 1_000, ..*self },
        ];
        variants.into_iter().filter(|variant| variant != self).collect()
    }

    pub(crate) fn world(&self, trace: bool) -> WorldOptions {
        let network = NetworkOptions::both(Passage {
            loss_ppm: self.loss_ppm,
            duplicate_ppm: self.duplicate_ppm,
            late_ppm: self.late_ppm,
            delay_max: Duration::from_millis(5),
            ..Passage::default()
        });
        let store = self.disk(self.slow_disks);
        let limits = Limits {
            append_bytes: self.append_bytes,
            window_messages: self.window_messages,
            memory_bytes: self.memory_bytes,
            snapshot_log_bytes: self.snapshot_log_bytes,
            trailing_entries: self.trailing_entries,
            snapshot_piece_bytes: self.snapshot_piece_bytes,
            apply_bytes: 2_000,
            promotion_lag: self.promotion_lag,
            ..Limits::default()
        };
        let timing = if self.short_timers { SHORT } else { Timing::default() };
        let (nodes, drift_ppm_max) = (self.nodes, self.drift_ppm_max);
        // One clock may be that much fast while the other is that much slow; a little more, since rates multiply.
        let lease = Lease { drift_ppm: 2 * drift_ppm_max as u32 * 11 / 10 };
        let lease = self.leases.then_some(lease);
        WorldOptions {
            nodes,
            network,
            store,
            limits,
            timing,
            lease,
            drift_ppm_max,
            trace,
            ..Default::default()
        }
    }

    /// The same weather, and nobody who writes or reads a ledger.
    pub(crate) fn without_ledger(self) -> Self {
        Self { write_ppm: 0, read_ppm: 0, ..self }
    }

    /// A disk of this weather.
    pub(crate) fn disk(&self, slow: bool) -> StoreOptions {
        let sync_max = Duration::from_millis(if slow { 100 } else { 4 });
        StoreOptions { sync_max, tail_entries: self.tail_entries, ..StoreOptions::default() }
    }
}

/// The paper's timers, for a LAN.
const SHORT: Timing = Timing {
    heartbeat: Duration::from_millis(40),
    election_min: Duration::from_millis(150),
    election_max: Duration::from_millis(300),
    campaign: Duration::from_millis(60),
    stagger: Duration::from_millis(10),
    snapshot_retry: Duration::from_millis(200),
    hibernate_after: None,
};

/// `5 nodes, loss 12 %, ...`
impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
        write!(
            f,
            "{} nodes; loss {:.1} %, doubled {:.1} %, late {:.1} %; per tick: crash {:.1} %, \
             stop {:.1} %, partition {:.1} %, slow disk {:.1} %, transfer {:.1} %, members {:.1} %; {}{}{}drift {} ppm; snapshot every {} B of log",
            self.nodes,
            percent(self.loss_ppm),
            percent(self.duplicate_ppm),
            percent(self.late_ppm),
            percent(self.crash_ppm),
            percent(self.stop_ppm),
            percent(self.partition_ppm),
            percent(self.slow_disk_ppm),
            percent(self.transfer_ppm),
            percent(self.members_ppm),
            if self.leases { "leases; " } else { "" },
            if self.slow_disks { "slow disks; " } else { "" },
            if self.short_timers { "short timers; " } else { "" },
            self.drift_ppm_max,
            self.snapshot_log_bytes,
        )
    }
}
