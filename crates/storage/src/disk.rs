//! What the storage asks of a disk.

use std::io;

use bytes::Bytes;

/// A directory of files. Blocking reads serve recovery and tools; everything that happens while the node
/// runs is submitted, and completes later.
pub trait Disk {
    /// All files, in no particular order. Blocks.
    fn list(&self) -> io::Result<Vec<FileInfo>>;

    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file. Blocks.
    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Begins an operation. Operations on one file are carried out in the order of submission.
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
    /// Makes a new file of this size, of zeros, in place of one of that name.
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
    /// Removes a file; one that is not there is no error.
    Remove {
        /// The file.
        name: String,
    },
}

/// What came of an operation.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub ticket: Ticket,
    /// The bytes of a read; else nothing.
    pub result: io::Result<Bytes>,
}
