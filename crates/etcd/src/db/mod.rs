//! etcd's database file, the one that `etcdctl snapshot save` fetches and `snapshot restore` begins a member with.
//!
//! | file | what it does |
//! | --- | --- |
//! | `pages` | the file's pages and the trees in them, written from the first to the last |
//! | `read` | the same, read |
//! | `sorting` | brings versions into the order of their revisions, in little memory |
//! | `export` | a snapshot of ours becomes such a file |
//! | `import` | such a file becomes a store |
//!
//! ```text
//! page 0, 1   which root is in force: the newer one of the two that is whole
//! page 2      which pages are free: none
//! page 3...   the trees' leaves and branches, each after what is below it; last the root, which names the other trees
//! ```
//!
//! A tree is a bucket: `key` has all versions by revision, `meta`, `lease`, `alarm`, `auth`, `authUsers`, `authRoles`, `members` the rest.
//! The format of the pages is bbolt's, version 2; numbers are little-endian, as it writes them on every machine we run on.
//!
//! Not here: files; a database that is changed in place.

mod export;
mod import;
mod pages;
mod read;
mod sorting;

use thiserror::Error;

pub use export::{Exported, Origin, export};
pub use import::import;
pub use read::Database;

/// The trees of the file.
mod bucket {
    pub(super) const ALARM: &[u8] = b"alarm";
    pub(super) const AUTH: &[u8] = b"auth";
    pub(super) const ROLES: &[u8] = b"authRoles";
    pub(super) const USERS: &[u8] = b"authUsers";
    pub(super) const CLUSTER: &[u8] = b"cluster";
    pub(super) const KEY: &[u8] = b"key";
    pub(super) const LEASE: &[u8] = b"lease";
    pub(super) const MEMBERS: &[u8] = b"members";
    pub(super) const REMOVED: &[u8] = b"members_removed";
    pub(super) const META: &[u8] = b"meta";
}

/// Names in the trees `meta` and `auth`.
mod name {
    pub(super) const APPLIED: &[u8] = b"consistent_index";
    pub(super) const COMPACTING: &[u8] = b"scheduledCompactRev";
    pub(super) const COMPACTED: &[u8] = b"finishedCompactRev";
    pub(super) const ENABLED: &[u8] = b"authEnabled";
    pub(super) const REVISION: &[u8] = b"authRevision";
    pub(super) const TERM: &[u8] = b"term";
    pub(super) const VOTERS: &[u8] = b"confState";
}

/// Bytes of a revision as the name of a version: `main 8 | _ | sub 8`, big-endian, and a `t` behind a tombstone's.
const REVISION_BYTES: usize = 17;

fn revision_name(at: crate::store::Position) -> [u8; REVISION_BYTES] {
    let mut name = [b'_'; REVISION_BYTES];
    name[..8].copy_from_slice(&at.revision.0.to_be_bytes());
    name[9..].copy_from_slice(&i64::from(at.sub).to_be_bytes());
    name
}

/// A file is no database of etcd's, or not a whole one.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DbError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("this is no database of etcd's: neither of its first pages is whole")]
    NoDatabase,
    #[error("page {page}: {what}")]
    Damaged { page: u64, what: &'static str },
    #[error("the database says what this build cannot take over: {0}")]
    Content(String),
}
