//! Room for the log: the next segment is made ready ahead of need, and a reserve is kept for when that fails.
//!
//! ```text
//!   current segment            next, made ready          reserve
//!   [....written....|  left  ] [      all of it      ]   [ for term and vote ]
//! ```
//!
//! Space is met where nothing was written yet, so that a full disk loses nothing and is no failure. While no next segment
//! can be made, what is left decides how much a server may do ([`Room`]); it is tried again, ever more patiently.
//!
//! The reserve is a file that becomes the next segment when nothing else can: after a restart, since a segment is written
//! to in one life only, or when the current one is used up by votes. Another one is made as soon as there is space for it. It
//! also lets the log move on once a snapshot has made older segments needless, which only the next segment's header
//! may let go.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{Room, Time};

use crate::{Disk, Operation, Storage, StorageEvent, StorageOptions, Ticket, segment};

/// The reserve's name.
pub(crate) const RESERVE: &str = "reserve";

const PATIENCE_MIN: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// The segment after the current one.
#[derive(Debug)]
pub(crate) enum NextSegment {
    /// There is none; perhaps there was no room for it.
    Missing,
    /// It is being made ready.
    Preparing { ticket: Ticket, bytes: u64 },
    /// It is ready.
    Ready { bytes: u64 },
}

/// The reserve.
#[derive(Debug)]
enum Reserve {
    Missing,
    Making(Ticket),
    There,
}

/// When to try again what failed.
#[derive(Debug)]
struct Patience {
    retry_at: Time,
    next: Duration,
}

impl Patience {
    const fn new() -> Self {
        Self { retry_at: Time::ZERO, next: PATIENCE_MIN }
    }

    fn failed(&mut self, now: Time) {
        self.retry_at = now + self.next;
        self.next = (self.next * 2).min(PATIENCE_MAX);
    }
}

/// What is known of the room on the disk.
#[derive(Debug)]
pub(crate) struct Space {
    reserve: Reserve,
    /// Why the next segment could not be made, the last time; nothing if it could.
    lack: Option<String>,
    segment_patience: Patience,
    reserve_patience: Patience,
    /// The least room that was told of since something was made: room grows when something is made, and not because a
    /// write took less than was set aside for it.
    least: Room,
    /// What was told last, and whether it was said that a segment could not be made.
    told: (Room, bool),
}

/// What room there is, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpaceReport {
    /// What a server may do with it.
    pub room: Room,
    /// Free space of the disk, in bytes, if that can be told.
    pub free_bytes: Option<u64>,
    /// Space that the log has reserved and not written to, in bytes; without the reserve.
    pub log_bytes: u64,
}

impl Space {
    /// `reserve_bytes` is the size of the file that was found, if one was.
    pub(crate) fn new(reserve_bytes: Option<u64>, options: &StorageOptions) -> Self {
        let there = reserve_bytes == Some(options.reserve_bytes);
        Self {
            reserve: if there { Reserve::There } else { Reserve::Missing },
            lack: None,
            least: Room::Enough,
            segment_patience: Patience::new(),
            reserve_patience: Patience::new(),
            told: (Room::Enough, false),
        }
    }

    fn wants_reserve(&self, options: &StorageOptions) -> bool {
        options.reserve_bytes > 0 && matches!(self.reserve, Reserve::Missing)
    }

    /// Whether the reserve is to become the next segment, which needs so many bytes.
    pub(crate) fn may_use_reserve(&self, needed: u64, options: &StorageOptions) -> bool {
        let there = matches!(self.reserve, Reserve::There);
        self.lack.is_some() && there && needed <= options.reserve_bytes
    }

    /// The reserve is none any more.
    pub(crate) fn use_reserve(&mut self) {
        self.reserve = Reserve::Missing;
    }

    /// Some space was just given back.
    pub(crate) fn try_again_soon(&mut self, now: Time) {
        if self.lack.is_none() {
            return;
        }
        for patience in [&mut self.segment_patience, &mut self.reserve_patience] {
            patience.next = PATIENCE_MIN;
            patience.failed(now);
        }
    }
}

impl<D: Disk> Storage<D> {
    /// What room there is.
    pub fn space(&self) -> SpaceReport {
        let free_bytes = self.disk.free_bytes().ok();
        SpaceReport { room: self.room(), free_bytes, log_bytes: self.log_bytes_left() }
    }

    /// Makes ready what is missing, unless that failed a moment ago. The files after a segment are made only once it
    /// has its name: that they are there proves that it was begun.
    pub(crate) fn look_for_room(&mut self) {
        if self.is_naming_segment() {
            return;
        }
        if self.space.wants_reserve(&self.options)
            && self.space.reserve_patience.retry_at <= self.now
        {
            let (name, bytes) = (RESERVE.to_string(), self.options.reserve_bytes);
            let ticket = self.submit(Operation::Create { name, bytes });
            self.space.reserve = Reserve::Making(ticket);
        }
        if matches!(self.next_segment, NextSegment::Missing)
            && self.space.segment_patience.retry_at <= self.now
        {
            self.prepare_segment(self.options.segment_bytes);
        }
    }

    /// When to look for room again.
    pub(crate) fn room_deadline(&self) -> Option<Time> {
        if self.is_naming_segment() {
            return None;
        }
        let missing = matches!(self.next_segment, NextSegment::Missing);
        let segment = missing.then_some(self.space.segment_patience.retry_at);
        let wants_reserve = self.space.wants_reserve(&self.options);
        let reserve = wants_reserve.then_some(self.space.reserve_patience.retry_at);
        [segment, reserve].into_iter().flatten().min()
    }

    pub(crate) fn prepare_segment(&mut self, bytes: u64) {
        let name = segment::prepared_name(self.segment + 1);
        let bytes = bytes.max(self.options.segment_bytes);
        if let Some(lack) = self.too_little_free(&name, bytes) {
            return self.lacks_room(lack);
        }
        let ticket = self.submit(Operation::Create { name, bytes });
        self.next_segment = NextSegment::Preparing { ticket, bytes };
    }

    /// Whether a file of this size would leave less free than is to be left, in words. What a file of this name has
    /// taken already it takes no more.
    fn too_little_free(&self, name: &str, bytes: u64) -> Option<String> {
        let least = self.options.free_bytes_min;
        let free = self.disk.free_bytes().ok().filter(|_| least > 0)?;
        if free >= bytes.saturating_add(least) {
            return None;
        }
        let files = self.disk.list().unwrap_or_default();
        let taken = files.iter().find(|file| file.name == name).map_or(0, |file| file.bytes);
        let enough = free.saturating_add(taken) >= bytes.saturating_add(least);
        let what = format!("{free} bytes are free, {bytes} are needed and {least} are to be left");
        (!enough).then_some(what)
    }

    /// Nothing was written yet: without space nothing is lost, and space may come back.
    fn lacks_room(&mut self, lack: String) {
        self.next_segment = NextSegment::Missing;
        self.space.lack = Some(lack);
        self.space.segment_patience.failed(self.now);
    }

    /// Whether an operation is about room.
    pub(crate) fn is_for_room(&self, ticket: Ticket) -> bool {
        let segment =
            matches!(self.next_segment, NextSegment::Preparing { ticket: t, .. } if t == ticket);
        segment || matches!(self.space.reserve, Reserve::Making(making) if making == ticket)
    }

    pub(crate) fn room_completed(
        &mut self,
        ticket: Ticket,
        result: io::Result<Bytes>,
        out: &mut Vec<StorageEvent>,
    ) {
        match (&self.next_segment, result) {
            (NextSegment::Preparing { ticket: preparing, bytes }, result)
                if *preparing == ticket =>
            {
                match result {
                    Ok(_) => {
                        self.next_segment = NextSegment::Ready { bytes: *bytes };
                        (self.space.lack, self.space.least) = (None, Room::Enough);
                        self.space.segment_patience = Patience::new();
                    }
                    Err(error) => self.lacks_room(error.to_string()),
                }
            }
            (_, Ok(_)) => {
                (self.space.reserve, self.space.least) = (Reserve::There, Room::Enough);
                self.space.reserve_patience = Patience::new();
            }
            (_, Err(_)) => {
                self.space.reserve = Reserve::Missing;
                self.space.reserve_patience.failed(self.now);
            }
        }
        self.write();
        self.tell_room(out);
    }

    /// Whether the log should go on to the reserve although it has nothing to write: a whole segment or more goes then.
    pub(crate) fn frees_by_moving_on(&self) -> bool {
        matches!(self.next_segment, NextSegment::Missing)
            && self.space.may_use_reserve(self.segment_bytes_needed(0), &self.options)
            && self.options.reserve_bytes < self.options.segment_bytes
            && self.holds_back_segments()
    }

    fn log_bytes_left(&self) -> u64 {
        let ready = match self.next_segment {
            NextSegment::Ready { bytes } => bytes,
            NextSegment::Missing | NextSegment::Preparing { .. } => 0,
        };
        self.segment_bytes_left() + ready
    }

    fn room(&self) -> Room {
        let reserve = self.options.reserve_bytes;
        if self.space.lack.is_none() {
            return Room::Enough;
        }
        let kept = if matches!(self.space.reserve, Reserve::There) { reserve } else { 0 };
        let room = match self.log_bytes_left() + kept {
            left if left < reserve / 2 => Room::Reserve,
            left if left < reserve + reserve / 2 => Room::Little,
            _ => Room::Enough,
        };
        room.min(self.space.least)
    }

    /// Tells what room there is, if that has changed.
    pub(crate) fn tell_room(&mut self, out: &mut Vec<StorageEvent>) {
        let now = (self.room(), self.space.lack.is_some());
        if now != self.space.told {
            (self.space.told, self.space.least) = (now, now.0);
            out.push(StorageEvent::Room { room: now.0, lack: self.space.lack.clone() });
        }
    }
}
