//! What the storage asks of a disk.

use std::io::{self, Read};

use bytes::Bytes;

/// A directory of files. Blocking reads serve recovery, tools and the loading of a snapshot; everything
/// else that happens while the node runs is submitted, and completes later.
pub trait Disk {
    /// All files, in no particular order. Blocks.
    fn list(&self) -> io::Result<Vec<FileInfo>>;

    /// How many bytes more may be taken, as far as is known. Does not block.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file. Blocks.
    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Reads a file from `offset` on, as it is now, piece by piece: whether it is renamed or removed later makes
    /// no difference. Blocks.
    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>>;

    /// Begins an operation. Operations on one file are carried out in the order of submission, others
    /// in any.
    fn submit(&mut self, ticket: Ticket, operation: Operation);
}

/// A file of the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Names a submitted operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Something to be done to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Makes a new file of this size, of zeros, in place of one of that name. If it fails, no file of that
    /// name is left. With a size, its name is durable too; and one that was made like this before, and never written
    /// to, keeps its space.
    Create {
        /// The file.
        name: String,
        /// Its size; space for all of it is reserved.
        bytes: u64,
    },
    /// Writes; with `sync`, it completes only once the data (fdatasync) is durable.
    Write {
        /// The file.
        name: String,
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
        /// Whether to wait until it is durable.
        sync: bool,
    },
    /// Reads `length` bytes; fewer only at the end of the file.
    Read {
        /// The file.
        name: String,
        /// Where.
        offset: u64,
        /// How much.
        length: usize,
    },
    /// Gives a file another name, durably (the directory is synced), in place of one of that name.
    Rename {
        /// Its name.
        from: String,
        /// Its new one.
        to: String,
    },
    /// Gives back what a file has reserved behind its first `bytes`, where nothing was ever written. It is no error if
    /// that cannot be done; not durable: after a crash it may be as long as before.
    Trim {
        /// The file.
        name: String,
        /// What it is to keep.
        bytes: u64,
    },
    /// Removes a file; one that is not there is no error. Not durable: after a crash it may be back.
    Remove {
        /// The file.
        name: String,
    },
}

impl Operation {
    /// The file that it is about; of a rename, the one that is renamed.
    pub fn file(&self) -> &str {
        let (Self::Create { name, .. }
        | Self::Write { name, .. }
        | Self::Read { name, .. }
        | Self::Trim { name, .. }
        | Self::Rename { from: name, .. }
        | Self::Remove { name }) = self;
        name
    }

    /// Whether the log need not wait for it: work on snapshots, and making the next segment ready. A disk
    /// may carry these out beside the others.
    pub fn is_aside(&self) -> bool {
        matches!(self, Self::Create { .. }) || self.file().starts_with("snapshot-")
    }
}

/// What came of an operation.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub ticket: Ticket,
    /// The bytes of a read; else nothing.
    pub result: io::Result<Bytes>,
}

/// Whether an operation failed only because the disk, or this user's part of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
