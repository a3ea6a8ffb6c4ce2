//! The loop of a node: hosts its groups, which share one log, one connection to each member, and one
//! structure of deadlines (RAFT-23). It keeps the rules of `contracts::Process`.
//!
//! One round: let the sockets be read; take everything that arrived; read the clock; step; wake what is
//! due; then one log write, one packet a member, one flush a client. A round costs what happened in it,
//! however many groups there are.
//!
//! Not here: what a group's messages and requests mean (`group`).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_contracts::{GroupId, NodeId, Room, SnapshotInput, Time};
use quorate_roster::{Roster, Standing};
use quorate_storage::StorageEvent;
use tokio::sync::Notify;

use crate::admin::{NodeStatus, RoomName};
use crate::deadlines::{Deadlines, Slot};
use crate::following::Following;
use crate::group::{Event, Hosted, Shared};
use crate::inbox::{Completions, Inbox, Incoming};

/// Steps of one round after which sockets get their turn again.
const WAKES_MAX: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// The host of a node's groups.
pub(crate) struct Host {
    node: NodeId,
    groups: Vec<Box<dyn Hosted>>,
    slots: BTreeMap<GroupId, Slot>,
    deadlines: Deadlines,
    /// Groups that were stepped in this round, some of them several times ...
    touched: Vec<Slot>,
    /// ... and how many of those have had their deadlines noted since.
    noted: usize,
    due: Vec<Slot>,
    shared: Shared,
    following: Following,
    inbox: Inbox,
    completions: Completions,
    bell: Arc<Notify>,
    start: Instant,
    now: Time,
    second_at: Time,
    failure: Option<String>,
}

impl Host {
    pub(crate) fn new(
        node: NodeId,
        groups: Vec<Box<dyn Hosted>>,
        shared: Shared,
        following: Following,
        inbox: Inbox,
        completions: Completions,
        bell: Arc<Notify>,
    ) -> Self {
        Self {
            node,
            slots: groups.iter().enumerate().map(|(slot, group)| (group.id(), slot)).collect(),
            touched: (0..groups.len()).collect(),
            noted: 0,
            groups,
            deadlines: Deadlines::default(),
            due: Vec::new(),
            shared,
            following,
            inbox,
            completions,
            bell,
            start: Instant::now(),
            now: Time::ZERO,
            second_at: Time::ZERO,
            failure: None,
        }
    }

    /// Runs until the disk fails; the reason comes back. It may be given up at any time, and another one begun.
    pub(crate) async fn run(&mut self) -> String {
        loop {
            self.next_round().await;
            if let Some(failure) = self.failure.take() {
                return failure;
            }
        }
    }

    /// Makes ready for the end: other nodes lead what this one led, and what clients were promised an answer to is
    /// answered. Whoever waits for that gives it a limit.
    pub(crate) async fn wind_up(&mut self) {
        for event in [|| Event::HandOver, || Event::Drain] {
            self.tell_all(event);
            self.wake_at_once();
            while self.groups.iter().any(|group| group.is_busy()) && self.failure.is_none() {
                self.next_round().await;
            }
        }
    }

    async fn next_round(&mut self) {
        self.wait().await;
        // The driver of the sockets gets its turn, and their tasks after it: what has arrived is stepped
        // before any timer.
        tokio::task::yield_now().await;
        self.round();
    }

    /// The next round does not wait for anything to happen.
    fn wake_at_once(&self) {
        self.bell.notify_one();
    }

    async fn wait(&self) {
        let storage = self.shared.storage.deadline();
        let others = [self.deadlines.next(), storage, self.following.deadline()];
        let until = others.into_iter().flatten().fold(self.second_at, Time::min);
        let wait = until.since(self.now());
        if !wait.is_zero() {
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn round(&mut self) {
        let arrived = self.inbox.take();
        let completed = self.completions.take();
        self.now = self.now();
        if self.second_at <= self.now {
            self.second();
        }
        for completion in completed {
            self.shared.storage.complete(completion, &mut self.shared.news);
        }
        self.tell_news();
        for incoming in arrived {
            self.take(incoming);
        }
        self.follow();
        self.wake_due();
        self.shared.storage.flush(self.now, &mut self.shared.news);
        self.tell_news();
        self.shared.members.flush();
        self.flush_clients();
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Requests(group) => self.tell(group, Event::Requests),
            Incoming::Message { line, group, body } => {
                let Some(slot) = self.slots.get(&group).copied() else {
                    tracing::debug!(%group, "a message for a group that is not here");
                    return;
                };
                self.touch(slot);
                let from = line.member();
                let read = self.groups[slot].received(self.now, from, &body, &mut self.shared);
                if let Err(reason) = read {
                    line.refuse(reason);
                }
            }
            Incoming::MemberLost(member) => {
                tracing::info!(%member, "lost the connection to a member");
                self.tell_all(|| Event::MemberLost(member));
            }
            Incoming::Look(group, looking) => self.tell(group, Event::Look(looking)),
            Incoming::TakeSnapshot(group, taken) => self.tell(group, Event::TakeSnapshot(taken)),
            Incoming::Lead { group, to, answer } => self.tell(group, Event::Lead { to, answer }),
            Incoming::Roster(roster) => {
                self.following.take(self.now, roster, &self.shared.members);
            }
            Incoming::Confirmed(roster) => self.take_step(&roster),
            Incoming::Progress { version, far, patience, answer } => {
                self.following.wait(self.now, (version, far), patience, answer);
            }
            Incoming::Status(answer) => {
                let _ = answer.send(self.status());
            }
        }
    }

    /// How far the groups are with the list of members.
    fn follow(&mut self) {
        if !self.following.is_busy() {
            return;
        }
        let standing = self.standing(|_| true);
        let is_led = self.groups.iter().any(|group| group.is_led());
        if self.following.reached(self.now, standing, is_led, &self.shared.members) {
            let roster = Rc::new(self.following.roster().clone());
            self.tell_all(|| Event::Members(roster.clone()));
        }
    }

    /// How far all these groups are.
    fn standing(&self, which: impl Fn(GroupId) -> bool) -> Standing {
        let roster = self.following.roster();
        let groups = self.groups.iter().filter(|group| which(group.id()));
        groups.map(|group| group.standing(roster)).min().unwrap_or(Standing::Complete)
    }

    /// Whoever leads here takes the next step towards a list that is the newest.
    fn take_step(&mut self, roster: &Roster) {
        self.following.take(self.now, roster.clone(), &self.shared.members);
        // Members leave the group that holds the list last.
        let others_are_through = self.standing(|id| id != GroupId::SYSTEM) > Standing::Unsettled;
        for slot in 0..self.groups.len() {
            self.touch(slot);
            let group = &mut self.groups[slot];
            let may_part = group.id() != GroupId::SYSTEM || others_are_through;
            group.follow(self.now, roster, may_part, &mut self.shared);
        }
    }

    fn tell(&mut self, group: GroupId, event: Event) {
        if let Some(slot) = self.slots.get(&group).copied() {
            self.step(slot, event);
        }
    }

    fn tell_all(&mut self, event: impl Fn() -> Event) {
        (0..self.groups.len()).for_each(|slot| self.step(slot, event()));
    }

    fn step(&mut self, slot: Slot, event: Event) {
        self.touch(slot);
        self.groups[slot].step(self.now, event, &mut self.shared);
    }

    /// Wakes who is due, until nobody is: work that waited for the end of the batch is due at once.
    fn wake_due(&mut self) {
        for _ in 0..WAKES_MAX {
            self.note_deadlines();
            let mut due = std::mem::take(&mut self.due);
            self.deadlines.take_due(self.now, &mut due);
            let any = !due.is_empty();
            due.drain(..).for_each(|slot| self.step(slot, Event::Wake));
            self.due = due;
            if !any {
                break;
            }
        }
    }

    fn touch(&mut self, slot: Slot) {
        if self.touched[self.noted..].last() != Some(&slot) {
            self.touched.push(slot);
        }
    }

    fn note_deadlines(&mut self) {
        for slot in &self.touched[self.noted..] {
            self.deadlines.set(*slot, self.groups[*slot].deadline());
        }
        self.noted = self.touched.len();
    }

    /// What was said to clients leaves.
    fn flush_clients(&mut self) {
        self.note_deadlines();
        self.noted = 0;
        self.touched.drain(..).for_each(|slot| self.groups[slot].flush());
    }

    /// What the storage has to tell; telling it may give it more to tell.
    fn tell_news(&mut self) {
        while !self.shared.news.is_empty() {
            for event in std::mem::take(&mut self.shared.news) {
                match event {
                    StorageEvent::Persisted { group, mark } => {
                        self.tell(group, Event::Persisted(mark));
                    }
                    StorageEvent::Read { group, from, entries } => {
                        self.tell(group, Event::Read { from, entries });
                    }
                    StorageEvent::Snapshot { group, news } => {
                        if let SnapshotInput::Cancelled { reason } = &news {
                            tracing::warn!(%group, %reason, "a snapshot was given up");
                        }
                        self.tell(group, Event::Snapshot(news));
                    }
                    StorageEvent::Room { room, lack } => {
                        say_room(room, lack.as_deref());
                        self.tell_all(|| Event::Room(room));
                    }
                    StorageEvent::LetGo { group, through } => {
                        self.tell(group, Event::LetGo { through });
                    }
                    StorageEvent::Failed { reason } => {
                        self.tell_all(|| Event::DiskFailed(reason.clone()));
                        self.failure = Some(reason);
                    }
                }
            }
        }
    }

    fn second(&mut self) {
        self.second_at = self.now + SECOND;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let uptime = self.start.elapsed();
        self.tell_all(|| Event::Second { unix_ms, uptime });
        self.following.second(&self.shared.members);
    }

    fn status(&self) -> NodeStatus {
        let counters = self.shared.storage.counters();
        let gauge = self.shared.storage.disk().gauge();
        let (segments, snapshots) = (gauge.files(".log"), gauge.files(".snap"));
        let space = self.shared.storage.space();
        let mut status = NodeStatus {
            id: self.node.0,
            pid: std::process::id(),
            unix_ms: unix_ms(),
            uptime_ms: self.start.elapsed().as_millis() as u64,
            roster_version: self.following.roster().version.0,
            cpu_ms: cpu_ms(),
            resident_bytes: resident_bytes(),
            syncs_us: gauge.syncs().counts().collect(),
            segments: segments.count,
            segment_bytes: segments.bytes,
            snapshots: snapshots.count,
            snapshot_bytes: snapshots.bytes,
            fdatasyncs: counters.syncs,
            log_entries: counters.entries,
            log_bytes: counters.bytes,
            room: RoomName::from(space.room),
            disk_free_bytes: space.free_bytes,
            log_room_bytes: space.log_bytes,
            member_packets_sent: self.shared.members.packets_sent(),
            ..NodeStatus::default()
        };
        self.groups.iter().for_each(|group| group.report(&mut status));
        status
    }
}

/// The time of day; 0 before 1970.
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Time that all threads of this process had a processor, in milliseconds; 0 where the kernel does not tell.
fn cpu_ms() -> u64 {
    // A tick of the kernel's accounts; a hundred a second wherever Linux runs on ordinary machines.
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: utime and stime are the 12th and 13th.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_MS
}

/// An operator is to make room before writes are refused, and to know when they are.
fn say_room(room: Room, lack: Option<&str>) {
    let Some(lack) = lack else {
        return tracing::info!("there is room for the log again: writes go on");
    };
    match room {
        Room::Enough => {
            tracing::warn!(%lack, "no room for the next segment of the log: make room, or writes will be refused");
        }
        Room::Little => {
            tracing::error!(%lack, "no room for the log: new writes are refused, reads go on; make room");
        }
        Room::Reserve => {
            tracing::error!(%lack, "no room for the log: this node takes no entries; it votes, and reads go on; make room");
        }
    }
}

/// Resident memory of this process, as the kernel counts it; 0 where it does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
