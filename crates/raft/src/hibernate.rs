//! Idle groups sleep (RAFT-23): many groups share a process, and one that has nothing to do costs no message and no wake-up.
//!
//! ```text
//!   leader, idle for `hibernate_after`        follower
//!      ──── Hibernate { last, round } ────▶   same log, all committed and durable: sleeps
//!      ◀─────── Hibernating { round } ─────
//!   all have answered: sleeps, no heartbeats   no election timer
//! ```
//!
//! **What the driver owes** when `Timing::hibernate_after` is set. A sleeping follower does not notice by itself that its
//! leader is gone: it relies on `Input::MemberLost`. So the driver reports `MemberLost` to every group not only when a
//! connection closes, but also when nothing was heard on it for `election_min`, on either end; and it sends something
//! small on each connection now and then (one for all groups; four times in `election_min` is plenty). A member that was
//! stopped and goes on has its connection reported as lost by the others; it need not do anything itself.
//!
//! Awake again: a leader that gets a proposal, a read, a transfer, a change of members, the loss of a member, a
//! question of a candidate, or the answer of one that lags, and it sends a heartbeat at once; a follower that hears its leader
//! again, or of a later term, or loses the connection to its leader, or wants something of it for its own clients. A sleeping
//! follower protects its leader from candidates as if it had heard it a moment ago.
//!
//! A `Hibernate` may be late, and put a follower to sleep whose leader has died since, after the loss was reported. So a
//! sleeping follower that another one asks for its vote does not only refuse: it is awake from there on, asks its leader whether
//! it is there (`Awake`), and if nothing is heard its own timeout ends as always. Nothing but speed rests on the driver.
//!
//! Members that are away do not keep a group awake: they are asked with a heartbeat every now and then, and wake the group
//! themselves when they are back, since they campaign, or lag.
//!
//! Why it is safe: nothing that decides depends on a timer. A lease is as old as the last round, so that it has ended, and
//! reads of a sleeping group begin a round.
//!
//! Not here: one heartbeat for all groups of two members. Sleeping makes it needless: groups that are awake are those
//! that have something to say.

use std::time::Duration;

use quorate_contracts::{EntryId, NodeId, Time, When};

use crate::Body;
use crate::leader::Leader;
use crate::node::{Outputs, Raft, Role};
use crate::progress::{Feed, Progress};

/// Those that are away hear a heartbeat of a sleeping group this many times more seldom than of one that is awake.
const SLOWER: u32 = 30;

/// How a leader sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleep {
    /// It does not.
    Awake {
        /// Since when there is nothing to do.
        idle_since: Time,
    },
    /// The others were asked, in this round.
    Asked {
        /// Its number.
        round: u64,
    },
    /// No heartbeats, but for those that are away.
    Asleep {
        /// Whether some are.
        some_away: bool,
    },
}

impl Leader {
    /// Something is to be done: the next wake-up, which is due, begins awake.
    pub(crate) fn stir(&mut self) {
        self.stirred = true;
        self.feed_due = true;
    }

    /// Everybody who is there has everything and knows it, and nobody waits for anything.
    fn is_quiet(&self, now: Time, last: EntryId, away_after: Duration) -> bool {
        let content = |p: &Progress| {
            p.is_away(now, away_after)
                || (p.feed == Feed::Replicate
                    && p.matched == last.index
                    && p.told_commit == last.index)
        };
        self.confirming.is_empty()
            && self.transfer.is_none()
            && !self.change_asked
            && self.progress.values().all(content)
    }
}

impl Raft {
    /// Whether this group sleeps here.
    pub fn is_hibernating(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => matches!(leader.sleep, Sleep::Asleep { .. }),
            _ => self.sleeping,
        }
    }

    /// Something disturbs a leader's sleep.
    pub(crate) fn stir(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.stir();
        }
    }

    /// Begins a wake-up of a leader: one that was stirred is awake, and says so if it slept.
    pub(crate) fn rise(&mut self, now: Time) {
        let timing = self.config.timing;
        let Role::Leader(leader) = &mut self.role else { return };
        if !std::mem::take(&mut leader.stirred) {
            return;
        }
        if let Sleep::Asleep { .. } = leader.sleep {
            leader.heartbeat_at = now;
            leader.quorum_check_at = now + timing.election_max;
            let asleep = leader.progress.values_mut().filter(|p| p.asleep);
            asleep.for_each(|progress| progress.heard = now);
        }
        leader.progress.values_mut().for_each(|progress| progress.asleep = false);
        leader.sleep = Sleep::Awake { idle_since: now };
    }

    /// A follower that slept has an election timer again, as if it had just heard its leader.
    pub(crate) fn waken(&mut self, now: Time) {
        if std::mem::take(&mut self.sleeping) {
            self.leader_heard = now;
            self.reset_election(now);
        }
    }

    /// Another server wants to be elected, and this one sleeps: somebody may know more. Whether the leader is there is to be seen.
    pub(crate) fn roused_by(&mut self, now: Time, from: NodeId, body: &Body, out: &mut Outputs) {
        let asks = matches!(body, Body::RequestVote { .. });
        if self.sleeping
            && asks
            && self.membership().is_voter(from)
            && let Some(leader) = self.leader.filter(|leader| *leader != from)
        {
            self.waken(now);
            let when = self.when_term_is_durable(out);
            self.send(out, when, leader, Body::Awake);
        }
    }

    /// A leader's heartbeat is due: whether the others are asked to sleep instead, or only those that are away
    /// hear it. Says who is to get one.
    pub(crate) fn heartbeat_for(&mut self, now: Time, out: &mut Outputs) -> Vec<NodeId> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let everyone = self.others();
        match (leader.sleep, self.config.timing.hibernate_after) {
            (Sleep::Awake { idle_since }, Some(after))
                if now >= idle_since + after && self.may_sleep(now) =>
            {
                self.ask_to_sleep(now, out);
                Vec::new()
            }
            (Sleep::Asked { .. }, _) => {
                // Somebody did not agree, or was not heard: on with it, and later again.
                self.set_sleep(Sleep::Awake { idle_since: now });
                everyone
            }
            (Sleep::Asleep { .. }, _) => {
                let away = leader.progress.iter().filter(|(_, progress)| !progress.asleep);
                away.map(|(node, _)| *node).collect()
            }
            (Sleep::Awake { .. }, _) => everyone,
        }
    }

    fn set_sleep(&mut self, sleep: Sleep) {
        if let Role::Leader(leader) = &mut self.role {
            leader.sleep = sleep;
        }
    }

    fn may_sleep(&self, now: Time) -> bool {
        let (last, away_after) = (self.log.last(), self.config.timing.election_max);
        let Role::Leader(leader) = &self.role else { return false };
        self.commit == last.index
            && self.durability.index() == last.index
            && !self.membership().is_joint()
            && leader.is_quiet(now, last, away_after)
    }

    fn ask_to_sleep(&mut self, now: Time, out: &mut Outputs) {
        let last = self.log.last();
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.begin(now);
        leader.sleep = Sleep::Asked { round };
        for to in self.others() {
            self.send(out, When::Now, to, Body::Hibernate { last, round });
        }
        self.sleep_if_all_do(now);
    }

    /// A leader wants to sleep. One that has the same log, whole, sleeps too; for another it is a heartbeat, and the leader
    /// will see that it did not agree.
    pub(crate) fn hibernate(
        &mut self,
        now: Time,
        from: NodeId,
        last: EntryId,
        round: u64,
        out: &mut Outputs,
    ) {
        self.hear_leader(now, from);
        if self.log.last() != last || self.durability.index() < last.index || !self.is_whole() {
            return;
        }
        self.leader_commit = last.index;
        self.commit_up_to(last.index);
        self.sleeping = true;
        let when = self.when_term_is_durable(out);
        self.send(out, when, from, Body::Hibernating { round });
    }

    /// A follower sleeps.
    pub(crate) fn hibernating(&mut self, now: Time, from: NodeId, round: u64, out: &mut Outputs) {
        if let Role::Leader(leader) = &mut self.role
            && leader.sleep == (Sleep::Asked { round })
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            progress.asleep = true;
        }
        self.answered(now, from, round, out);
        self.sleep_if_all_do(now);
    }

    fn sleep_if_all_do(&mut self, now: Time) {
        let timing = self.config.timing;
        let Role::Leader(leader) = &mut self.role else { return };
        let awake = |p: &Progress| !p.asleep && !p.is_away(now, timing.election_max);
        let Sleep::Asked { .. } = leader.sleep else { return };
        if !leader.stirred && !leader.progress.values().any(awake) {
            let some_away = leader.progress.values().any(|progress| !progress.asleep);
            leader.sleep = Sleep::Asleep { some_away };
            leader.heartbeat_at = now + SLOWER * timing.heartbeat;
        }
    }

    /// How long until the next heartbeat.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        let interval = self.config.timing.heartbeat;
        if self.is_hibernating() { SLOWER * interval } else { interval }
    }

    /// An answer, or something that a member asks (strangers do not matter), disturbs a leader's sleep if it tells that not all is well.
    pub(crate) fn disturbed_by(&mut self, from: NodeId, body: &Body) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.progress.contains_key(&from) {
            return;
        }
        let disturbs = match body {
            Body::Accepted { matched, .. } => {
                // One that was away is back, or one that slept is awake.
                let asleep = leader.progress.get(&from).is_some_and(|progress| progress.asleep);
                matches!(leader.sleep, Sleep::Asleep { .. }) && !(asleep && *matched == last)
            }
            Body::RequestVote { .. }
            | Body::Awake
            | Body::ReadRequest { .. }
            | Body::Rejected { .. }
            | Body::Damaged { .. }
            | Body::SnapshotProgress { .. } => true,
            _ => false,
        };
        if disturbs {
            leader.stir();
        }
    }
}
