//! What is replicated: a deterministic state machine.

use std::convert::Infallible;
use std::io::{self, Read};

use thiserror::Error;

use crate::LogIndex;

/// State that every replica computes alike from the same commands.
///
/// `apply` cannot fail. A refusal (`NoNode`, `BadVersion`) is an outcome, the same on every
/// replica; anything else is a bug. Time, random bytes, password hashes and the caller's identity
/// reach it only inside commands. No iteration order of a hash map may reach an outcome, an event,
/// the digest or a snapshot's meaning.
pub trait StateMachine: Sized {
    /// What a command came to.
    type Outcome;
    /// What those who watch the state are told, in the order in which it happened.
    type Event;

    /// Applies the command of the entry at `at`. Indexes only grow; some are missing (no-ops,
    /// membership). `command` is what the service proposed, without the proposal's header.
    fn apply(
        &mut self,
        at: LogIndex,
        command: &[u8],
        events: &mut Vec<Self::Event>,
    ) -> Self::Outcome;

    /// A hash of the whole state, kept up to date by each change: equal states have equal digests,
    /// on whichever replica and by whichever way they came about.
    fn digest(&self) -> u64;

    /// Starts a snapshot of the state as it is now. From here on the first change of an item sets
    /// its old value aside, until the last slice was taken. Discards an unfinished snapshot.
    fn begin_snapshot(&mut self);

    /// Appends about `bytes` more of the snapshot to `out`: a bounded piece of work, however large
    /// the state is.
    fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress;

    /// The state that a snapshot holds. `reader` gives its slices one after the other.
    fn restore(reader: &mut dyn Read) -> Result<Self, BadSnapshot>;

    /// About how many bytes a snapshot would take: decides when one is due.
    fn snapshot_bytes_estimate(&self) -> u64;
}

/// The least that can be replicated: no state at all, whatever is applied. For groups that hold nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoState;

impl StateMachine for NoState {
    type Outcome = ();
    type Event = Infallible;

    fn apply(&mut self, _: LogIndex, _: &[u8], _: &mut Vec<Infallible>) {}

    fn digest(&self) -> u64 {
        0
    }

    fn begin_snapshot(&mut self) {}

    fn snapshot_slice(&mut self, _: usize, _: &mut Vec<u8>) -> Progress {
        Progress::Done
    }

    fn restore(_: &mut dyn Read) -> Result<Self, BadSnapshot> {
        Ok(Self)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        0
    }
}

/// Whether a piecewise work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Call again.
    More,
    /// That was the last piece.
    Done,
}

/// A snapshot could not be read.
#[derive(Debug, Error)]
pub enum BadSnapshot {
    /// The file could not be read, or ended early.
    #[error("cannot read the snapshot: {0}")]
    Io(#[from] io::Error),
    /// It is of a format that this build does not know.
    #[error("the snapshot has format {found}; this build reads up to {known}")]
    Version {
        /// The format of the file.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// Its bytes do not mean anything.
    #[error("the snapshot is damaged: {0}")]
    Malformed(&'static str),
}
