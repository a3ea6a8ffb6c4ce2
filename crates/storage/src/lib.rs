//! What survives a crash: one durable log shared by all Raft groups of a node, and their snapshots.
//!
//! ```text
//!   persist ─▶ queue ─flush─▶ one batch ─▶ Disk: one write + one fdatasync ─▶ Persisted for all
//!                      ▲                                                        │
//!                      └── what queued meanwhile is the next batch ◀────────────┘
//! ```
//!
//! [`Storage`] is sans-IO: it submits [`Operation`]s to a [`Disk`] and is told their [`Completion`]s.
//! The disk format is drawn in `docs/storage.md`.
//!
//! Invariants: a batch is written only after the one before it is durable; so a batch that cannot be read
//! is a torn tail only if nothing follows it, and damage otherwise. Each segment begins with the
//! state (term, vote, base) of every group, so that any older one may go once its entries may.
//!
//! Not here: files, threads and clocks; repairing damage from other members.

mod batch;
mod disk;
mod index;
mod recovery;
mod segment;
mod snapshot;
mod storage;

pub use disk::{Completion, Disk, FileInfo, Operation, Ticket};
pub use recovery::OpenError;
pub use storage::{Counters, Identity, Storage, StorageEvent, StorageOptions};
