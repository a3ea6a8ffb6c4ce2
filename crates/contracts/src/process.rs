//! One participant of a protocol: inputs in, outputs out, nothing else.
//!
//! The rules a driver keeps (the same in `server` and in `sim`):
//!
//! 1. Every message that has arrived is stepped before a timer fires, and `now` is read after the
//!    inbox was drained: a resumed server must not act on time it slept through.
//! 2. Work that pays when batched waits for a deadline that is already due. So the driver drains
//!    its inbox, then steps [`Input::Wake`] while [`Process::deadline`] is not after `now`, then
//!    carries out the outputs: one log write and one packet per member for the whole batch.
//! 3. Outputs marked [`When::Durable`] are held until the disk vouches for the mark, and leave in
//!    the order in which they were made ([`crate::Gate`]). Outputs marked [`When::Now`] never wait.
//! 4. Messages may be lost, doubled, delayed and reordered. Completions of the disk may not.

use std::fmt;
use std::io::Read;

use bytes::Bytes;

use crate::{Entry, LogIndex, NodeId, Record, Room, SnapshotMeta, Time, WriteMark};

/// One participant of a protocol. Owns no socket, file, clock, thread or random source.
pub trait Process: Sized {
    /// What members send each other.
    type Message;
    /// What this server's own clients ask.
    type Request;
    /// What they are told.
    type Reply;

    /// When to call [`step`](Self::step) with [`Input::Wake`] even if nothing arrives, and why.
    /// An instant that is not after `now` means: as soon as the inbox is empty.
    fn deadline(&self) -> Option<(Time, &'static str)>;

    /// Takes one input; appends what must be done to `out`, in order.
    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Vec<Output<Self>>);
}

/// What a process is told.
pub enum Input<P: Process> {
    /// The deadline has come, or the inbox is empty and the deadline is due.
    Wake,
    /// The time of day, in milliseconds since 1970: at the start and about every second. Only for
    /// stamps that people read; it may jump.
    WallClock {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: i64,
    },
    /// A message of another member arrived.
    Received {
        /// Its sender.
        from: NodeId,
        /// What it says.
        message: P::Message,
    },
    /// The connection to a member was lost (closed or reset). It may come back at any time.
    MemberLost {
        /// The other end.
        member: NodeId,
    },
    /// A client of this server asks for something.
    Requested(P::Request),
    /// Everything up to this mark is durable.
    Persisted {
        /// The newest durable mark.
        mark: WriteMark,
    },
    /// Answer to [`Output::ReadLog`]: the entries from the asked index on, as many as fit the asked size
    /// and at least one; none if the log does not hold the first one any more.
    Read {
        /// As asked.
        from: LogIndex,
        /// Contiguous entries.
        entries: Vec<Entry>,
    },
    /// News of a snapshot file.
    Snapshot(SnapshotInput),
    /// From here on the disk has so much room for the log. Before the first such word it has enough. What is handed to it
    /// beyond that may wait until there is more.
    Room(Room),
    /// More of the log is held on the disk for the sake of this process than it is worth: its entries up to `through` should
    /// go, if need be after a snapshot of its own.
    LetGo {
        /// The last of them.
        through: LogIndex,
    },
    /// The disk failed: nothing more will become durable. The process must say so and stop.
    DiskFailed {
        /// What happened, in words.
        reason: String,
    },
}

/// What must be done.
pub enum Output<P: Process> {
    /// Write this record; answer with [`Input::Persisted`] once it is durable.
    Persist {
        /// Greater than every mark before it.
        mark: WriteMark,
        /// One atomic write.
        record: Record,
    },
    /// Send a message to a member. It may be dropped.
    Send {
        /// When it may leave.
        when: When,
        /// Its receiver.
        to: NodeId,
        /// What it says.
        message: P::Message,
    },
    /// Answer a client of this server.
    Reply {
        /// When it may leave.
        when: When,
        /// The answer.
        reply: P::Reply,
    },
    /// Read entries that are no longer in memory; answer with [`Input::Read`].
    ReadLog {
        /// The first index wanted.
        from: LogIndex,
        /// The last index wanted, inclusive.
        to: LogIndex,
        /// Stop after the entry that passes this size. At least one entry is read.
        bytes_max: usize,
    },
    /// Work on a snapshot file.
    Snapshot(SnapshotOutput),
}

/// When an output may leave the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At once.
    Now,
    /// Once everything up to the mark is durable.
    Durable(WriteMark),
}

/// Work on a group's snapshot files. One file at a time is written (taken here, or received); the
/// newest finished one can be read meanwhile. Offsets count the content that the state machine
/// made; checksums and headers of the file are the storage's own affair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotOutput {
    /// Begin a file, discarding one that was not told to finish.
    Begin {
        /// What it will stand for.
        meta: SnapshotMeta,
    },
    /// Append a piece; answered with [`SnapshotInput::Written`]. One piece is in flight at a time.
    Write {
        /// Where it goes: the end of what was written before.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// Make the file durable under its name; answered with [`SnapshotInput::Finished`]. The one
    /// before it may then go. Or, as any work on the file being written, with [`SnapshotInput::Cancelled`].
    Finish,
    /// Read a piece of the newest finished file; answered with [`SnapshotInput::Piece`].
    Read {
        /// From where.
        offset: u64,
        /// At most this many bytes.
        bytes_max: usize,
        /// For whom; handed back.
        to: NodeId,
    },
    /// Open the newest finished file; answered with [`SnapshotInput::Loaded`].
    Load,
}

/// News of a group's snapshot files.
pub enum SnapshotInput {
    /// The file holds everything before `end`.
    Written {
        /// Where the next piece goes.
        end: u64,
    },
    /// The file is durable and is the newest.
    Finished {
        /// What it stands for.
        meta: SnapshotMeta,
        /// Size of its content in bytes.
        bytes: u64,
    },
    /// The file being written was given up: there is no space for it. Nothing else is affected.
    Cancelled {
        /// What happened, in words.
        reason: String,
    },
    /// A piece of the newest finished file.
    Piece {
        /// What the file stands for.
        meta: SnapshotMeta,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        bytes: Bytes,
        /// Whether the file ends with it.
        last: bool,
        /// Who it was read for.
        to: NodeId,
    },
    /// The newest finished file, whole; every byte read from it was checked.
    Loaded {
        /// What it stands for.
        meta: SnapshotMeta,
        /// Its content.
        reader: Box<dyn Read>,
    },
}

impl fmt::Debug for SnapshotInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written { end } => write!(f, "written to {end}"),
            Self::Cancelled { reason } => write!(f, "cancelled: {reason}"),
            Self::Finished { meta, bytes } => write!(f, "finished {} {bytes} B", meta.last),
            Self::Piece { meta, offset, bytes, last, to } => {
                let end = if *last { " (last)" } else { "" };
                write!(f, "piece of {} at {offset}, {} B for {to}{end}", meta.last, bytes.len())
            }
            Self::Loaded { meta, .. } => write!(f, "loaded {}", meta.last),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Durable(mark) => write!(f, "once {mark} is durable"),
        }
    }
}
