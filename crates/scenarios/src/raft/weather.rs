//! The faults that are on in one run, and how strong: each drawn on or off (swarm testing), since a run with all
//! faults at once reaches less than many runs with a few each. Rare paths are drawn the same way, through the
//! ordinary configuration: tiny batches, windows and memories, early snapshots, short timers.

use std::fmt;
use std::time::Duration;

use quorate_contracts::Random;
use quorate_raft::{Lease, Limits, Timing};
use quorate_sim::{DiskFaults, DiskOptions, NetworkOptions, Passage, StoreOptions, WorldOptions};

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
    pub(crate) aimed_ppm: u32,
    /// How late a late message may be.
    late_ms_max: u64,
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
    /// An idle group sleeps after so long.
    hibernate_ms: Option<u64>,
    /// The real storage is under the servers.
    real_storage: bool,
    /// Its syncs fail, in millionths.
    sync_failure_ppm: u32,
    /// Chance per tick that a bit of a log rots.
    rot_ppm: u32,
    /// Chance per tick that a snapshot is lost.
    loss_of_file_ppm: u32,
}

impl Weather {
    pub(crate) fn draw(random: &mut Random) -> Self {
        // What was added after the first storms has streams of its own: it moves nothing that was there.
        let [mut aimed, mut lateness, mut pieces, mut sleep, mut disks, mut files] =
            ["aimed", "lateness", "pieces", "sleep", "disks", "files"]
                .map(|part| random.derive(part));
        let mut some = |ppm_max| some_of(random, ppm_max);
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
            aimed_ppm: some_of(&mut aimed, 15_000),
            late_ms_max: if lateness.chance_ppm(300_000) {
                lateness.between(1_000, 10_000)
            } else {
                1_000
            },
            leases: random.chance_ppm(400_000),
            snapshot_log_bytes: if random.chance_ppm(600_000) {
                random.between(500, 20_000)
            } else {
                1 << 30
            },
            snapshot_piece_bytes: match random.between(32, 1_000) as usize {
                // A whole snapshot in one message: a late one is not found out by its place in the file.
                _ if pieces.chance_ppm(300_000) => 1 << 20,
                bytes => bytes,
            },
            trailing_entries: random.below(20),
            append_bytes: random.between(100, 4_000) as usize,
            window_messages: random.between(1, 10) as usize,
            promotion_lag: random.below(200),
            memory_bytes: random.between(1_000, 20_000) as usize,
            tail_entries: random.between(1, 200) as usize,
            short_timers: random.chance_ppm(300_000),
            hibernate_ms: sleep.chance_ppm(250_000).then(|| sleep.between(100, 1_500)),
            real_storage: disks.chance_ppm(150_000),
            sync_failure_ppm: some_of(&mut disks, 3_000),
            rot_ppm: some_of(&mut disks, 30_000),
            loss_of_file_ppm: some_of(&mut files, 10_000),
        }
    }

    /// The same weather over so many servers, if a number is given.
    pub(crate) fn over(self, nodes: Option<u64>) -> Self {
        Self { nodes: nodes.unwrap_or(self.nodes), ..self }
    }

    /// Weather in which everything is like this one but for one trouble that is left out: what
    /// shrinking tries.
    pub(crate) fn calmer(&self) -> Vec<Self> {
        let variants = [
            Self { slow_disks: false, ..*self },
            Self { drift_ppm_max: 0, ..*self },
            Self { leases: false, ..*self },
            Self { late_ms_max: 1_000, ..*self },
            Self { snapshot_log_bytes: 1 << 30, ..*self },
            Self { append_bytes: 1 << 20, window_messages: 128, ..*self },
            Self { memory_bytes: 1 << 20, tail_entries: 1_000, ..*self },
            Self { hibernate_ms: None, ..*self },
            Self { real_storage: false, ..*self },
            Self { sync_failure_ppm: 0, ..*self },
        ];
        variants.into_iter().filter(|variant| variant != self).collect()
    }

    pub(crate) fn world(&self, trace: bool) -> WorldOptions {
        let network = NetworkOptions::both(Passage {
            loss_ppm: self.loss_ppm,
            duplicate_ppm: self.duplicate_ppm,
            late_ppm: self.late_ppm,
            delay_max: Duration::from_millis(5),
            late_max: Duration::from_millis(self.late_ms_max),
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
        let mut timing = if self.short_timers { SHORT } else { Timing::default() };
        timing.hibernate_after = self.hibernate_ms.map(Duration::from_millis);
        let faults =
            DiskFaults { sync_failure_ppm: self.sync_failure_ppm, ..DiskFaults::default() };
        let disk = self.real_storage.then(|| DiskOptions { faults, ..DiskOptions::default() });
        let (nodes, drift_ppm_max) = (self.nodes, self.drift_ppm_max);
        // One clock may be that much fast while the other is that much slow; a little more, since rates multiply.
        let lease = Lease { drift_ppm: 2 * drift_ppm_max as u32 * 11 / 10 };
        let lease = self.leases.then_some(lease);
        WorldOptions {
            nodes,
            network,
            store,
            disk,
            limits,
            timing,
            lease,
            drift_ppm_max,
            trace,
            ..Default::default()
        }
    }

    /// Chance per tick that a bit of a log rots. Only where there are others that could mend it.
    pub(crate) fn rot_ppm(&self) -> u32 {
        if self.real_storage && self.nodes > 2 { self.rot_ppm } else { 0 }
    }

    /// Chance per tick that a snapshot is lost, likewise.
    pub(crate) fn loss_of_file_ppm(&self) -> u32 {
        if self.real_storage && self.nodes > 2 { self.loss_of_file_ppm } else { 0 }
    }

    /// Whether members are changed on the way.
    pub(crate) fn members_change(&self) -> bool {
        self.members_ppm > 0
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

/// Nothing, or up to so much, each as likely.
fn some_of(random: &mut Random, ppm_max: u32) -> u32 {
    if random.chance_ppm(500_000) { random.below(u64::from(ppm_max)) as u32 } else { 0 }
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
            "{} nodes; loss {:.1} %, doubled {:.1} %, late {:.1} % up to {} ms; per tick: crash {:.1} %, \
             stop {:.1} %, partition {:.1} %, slow disk {:.1} %, transfer {:.1} %, members {:.1} %, \
             aimed {:.1} %; {}{}{}{}{}drift {} ppm; snapshot every {} B of log",
            self.nodes,
            percent(self.loss_ppm),
            percent(self.duplicate_ppm),
            percent(self.late_ppm),
            self.late_ms_max,
            percent(self.crash_ppm),
            percent(self.stop_ppm),
            percent(self.partition_ppm),
            percent(self.slow_disk_ppm),
            percent(self.transfer_ppm),
            percent(self.members_ppm),
            percent(self.aimed_ppm),
            if self.leases { "leases; " } else { "" },
            if self.slow_disks { "slow disks; " } else { "" },
            if self.short_timers { "short timers; " } else { "" },
            if self.hibernate_ms.is_some() { "sleep; " } else { "" },
            if self.real_storage { "real storage; " } else { "" },
            self.drift_ppm_max,
            self.snapshot_log_bytes,
        )
    }
}
