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
//! Invariants: a batch is begun only after the one before it is durable, and says so; a batch that does not
//! read is a torn tail only if nothing written later says that it was durable, and damage otherwise. Each
//! segment begins with the state (term, vote, base, last entry) of every group, so that any older one may go
//! once its entries may. Nothing is written to space that was not reserved, and nothing that failed is tried again. A segment
//! is written to in one life of the process only; then the space in it that was never used is given back.
//!
//! Not here: files, threads and clocks; repairing damage from other members.

mod batch;
mod content;
mod disk;
mod held;
mod index;
mod inspect;
mod recovery;
mod segment;
mod snapshot;
mod space;
mod storage;
mod walk;

pub use content::SnapshotContent;
pub use disk::{Completion, Disk, FileInfo, Operation, Ticket};
pub use inspect::{
    GroupReport, Inspection, Problem, SegmentReport, SnapshotReport, Start, TornReport, inspect,
};
pub use recovery::OpenError;
pub use snapshot::{SnapshotFile, finished_name};
pub use space::SpaceReport;
pub use storage::{Counters, Identity, Storage, StorageEvent, StorageOptions};
pub use walk::Damage;
