//! The replicated log's words: positions, terms, entries, and what one step must make durable.

use std::fmt;

use bytes::Bytes;

use crate::NodeId;

/// A leader's period of office (Raft, section 5.1). Terms only grow; 0 is before the first election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// Position in a Raft log. The first entry is 1 (Raft, Figure 2); 0 means "before the log".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIndex(pub u64);

/// Numbers the writes of one group, so that "this is durable" has one meaning. It only grows and
/// is never a log index: after a truncation an old completion would vouch for a new entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WriteMark(pub u64);

/// An entry's identity: two logs that hold the same id hold the same entry, and the same
/// entries before it (Log Matching, Raft Figure 3). Prints as `17@3`: index 17, term 3.
///
/// The order is that of section 5.4.1: by term, then by index, so that `>=` means "at least as
/// up to date".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// The term in which a leader made the entry.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogIndex {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one, or `None` before the log.
    pub fn prev(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// How many positions lie in `(earlier, self]`; 0 if `earlier` is not earlier.
    pub fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl WriteMark {
    /// The mark after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl EntryId {
    /// Before the first entry.
    pub const ZERO: Self = Self { term: Term(0), index: LogIndex(0) };

    /// The entry at `index` made in `term`.
    pub const fn new(index: LogIndex, term: Term) -> Self {
        Self { term, index }
    }
}

/// What an entry means to Raft. The numbers are part of the disk and wire formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum EntryKind {
    /// The empty entry of a new leader, with which it commits what it inherited (section 8).
    Noop = 0,
    /// A command for the state machine.
    Command = 1,
    /// The members from here on (section 6).
    Membership = 2,
}

impl EntryKind {
    /// The kind with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Noop),
            1 => Some(Self::Command),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// One entry of the log. Its bytes are encoded once, where the command enters the cluster, and
/// the same reference-counted buffer goes to the disk, to every member and to `apply`.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, and in whose term it was made.
    pub id: EntryId,
    /// What it means.
    pub kind: EntryKind,
    /// CRC-32C of `data`, computed once in [`Entry::new`] and carried along.
    pub checksum: u32,
    /// The command, or the members; empty for a no-op.
    pub data: Bytes,
}

impl Entry {
    /// An entry with its checksum computed.
    pub fn new(id: EntryId, kind: EntryKind, data: Bytes) -> Self {
        let checksum = crc32c::crc32c(&data);
        Self { id, kind, checksum, data }
    }

    /// Whether the data still is what was checksummed.
    pub fn is_intact(&self) -> bool {
        crc32c::crc32c(&self.data) == self.checksum
    }
}

/// What a server must remember besides its log (Raft, Figure 2, persistent state).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// Latest term the server has seen (`currentTerm`).
    pub term: Term,
    /// Candidate that got this server's vote in `term` (`votedFor`).
    pub voted_for: Option<NodeId>,
}

/// What one step must make durable, as one atomic write. Its parts apply in the order of the
/// fields: first the hard state, then the new base, then the truncation, then the entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// The log begins after this entry: everything up to it is in a durable snapshot. Where the log
    /// did not hold exactly this entry, `truncate_from` removes what is behind it.
    pub base: Option<EntryId>,
    /// Entries from this index on are removed.
    pub truncate_from: Option<LogIndex>,
    /// Entries to append; contiguous, and the first follows the last one that is left. Or whole copies of
    /// some that the log holds already and that were damaged: then nothing else changes.
    pub entries: Vec<Entry>,
    /// What [`Recovered::lost`] spoke of is back, or was replaced: the log agrees with a leader's.
    pub confirmed: bool,
    /// Entries up to here turned out to be missing, though the disk said nothing of it: from here on as
    /// [`Recovered::lost`].
    pub lost: Option<LogIndex>,
}

impl Record {
    /// Whether nothing needs to be written.
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none()
            && self.base.is_none()
            && self.truncate_from.is_none()
            && self.entries.is_empty()
            && !self.confirmed
            && self.lost.is_none()
    }
}

/// How much room the disk has for more log. The order is that of size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Room {
    /// A reserve only, which is for what a server must write to go on at all: its term, its vote, where its log
    /// begins. It takes no entries.
    Reserve,
    /// Little: what is on its way fits, and so does what a cluster needs to go on (a leader's first entry). Nothing
    /// new is to be taken from clients.
    Little,
    /// Enough, as far as is known.
    #[default]
    Enough,
}

/// What a snapshot stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SnapshotMeta {
    /// The last entry it covers (`lastIncludedIndex`, `lastIncludedTerm`).
    pub last: EntryId,
    /// The members as of that entry, encoded by `raft`.
    pub membership: Bytes,
}

/// What the storage found of one group when it opened: the start of a process.
///
/// Invariants: `base <= last`; if there is a snapshot, `base <= snapshot.last` and the log holds the
/// entry `snapshot.last` or begins right after it; `tail` is contiguous, ends at `last` and holds nothing
/// that is damaged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The newest hard state.
    pub hard_state: HardState,
    /// The newest write mark that was used; new marks begin after it.
    pub mark: WriteMark,
    /// The newest finished snapshot, and the size of its content in bytes.
    pub snapshot: Option<(SnapshotMeta, u64)>,
    /// The log begins after this entry.
    pub base: EntryId,
    /// The first entry of each run of one term, in order: the term of every entry in the log.
    pub term_starts: Vec<EntryId>,
    /// The last entry of the log; `base` if it is empty.
    pub last: EntryId,
    /// The newest entries, as many as may be kept in memory.
    pub tail: Vec<Entry>,
    /// The newest membership entries of the log (index and data), oldest first: all of those after
    /// `base`.
    pub memberships: Vec<(LogIndex, Bytes)>,
    /// Entries whose data is damaged, ascending; all of them lie behind the snapshot. Their terms are known.
    pub damaged: Vec<LogIndex>,
    /// Entries behind `last` are lost with all that was known of them; some may have been acknowledged. None was
    /// beyond this index.
    pub lost: Option<LogIndex>,
}

impl Recovered {
    /// Whether everything that was ever vouched for is there.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_none()
    }
}

macro_rules! number {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
number!(Term LogIndex WriteMark);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `17@3 command 112 B`
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            EntryKind::Noop => return write!(f, "{} noop", self.id),
            EntryKind::Command => "command",
            EntryKind::Membership => "membership",
        };
        write!(f, "{} {kind} {} B", self.id, self.data.len())
    }
}
