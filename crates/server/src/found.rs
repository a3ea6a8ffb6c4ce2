//! Makes the data directories of a new cluster that begins with a state: what an import and a restored backup need (ZK-19, KV-8).
//!
//! Every directory gets the same snapshot of one group, as if entry 1 of term 1 had brought it about, and its members; the other
//! groups begin empty. A directory becomes
//! one only once the snapshots of all are durable: a founding that was cut off leaves nothing that a node would start on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, EntryId, GroupId, HardState, LogIndex, NodeId, Progress, Record, SnapshotInput,
    SnapshotMeta, SnapshotOutput, StateMachine, Term, Time, Wire, WriteMark,
};
use quorate_raft::Membership;
use quorate_storage::{Completion, Identity, OpenError, Storage, StorageEvent, StorageOptions};
use thiserror::Error;

use crate::data_dir::{DataDir, DataDirError};
use crate::disk::RealDisk;

/// Why no cluster was founded. Directories that were begun hold no node's data and can be removed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FoundError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{path}: {error}")]
    Open { path: PathBuf, error: OpenError },
    #[error("{path}: {reason}")]
    Disk { path: PathBuf, reason: String },
}

/// Bytes of a piece of the snapshot: as large as those that nodes write.
const PIECE_BYTES: usize = 256 << 10;

/// Where a group begins: everything before is in its first snapshot.
const LAST: EntryId = EntryId { term: Term(1), index: LogIndex(1) };

/// Makes one data directory for each node of a new cluster, where `group` begins with what `state` holds.
pub fn found(
    cluster: ClusterId,
    directories: &[(NodeId, PathBuf)],
    group: GroupId,
    state: &mut impl StateMachine,
) -> Result<(), FoundError> {
    let voters = Membership::of_voters(directories.iter().map(|(node, _)| *node));
    let meta = SnapshotMeta { last: LAST, membership: voters.to_bytes() };
    let mut seeds = Vec::new();
    for (node, path) in directories {
        seeds.push(Seed::begin(path, cluster, *node, group, &meta)?);
    }
    state.begin_snapshot();
    let mut done = false;
    while !done {
        let mut piece = Vec::new();
        done = state.snapshot_slice(PIECE_BYTES, &mut piece) == Progress::Done;
        let piece = Bytes::from(piece);
        seeds.iter_mut().try_for_each(|seed| seed.write(&piece))?;
    }
    seeds.iter_mut().try_for_each(Seed::finish)?;
    for seed in &seeds {
        DataDir::seal(&seed.path, seed.identity)?;
    }
    Ok(())
}

/// A directory that is being made.
struct Seed {
    path: PathBuf,
    group: GroupId,
    identity: Identity,
    storage: Storage<RealDisk>,
    completions: Receiver<Completion>,
    /// Bytes of the snapshot so far.
    offset: u64,
    now: Time,
}

impl Seed {
    fn begin(
        path: &Path,
        cluster: ClusterId,
        node: NodeId,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> Result<Self, FoundError> {
        let path = path.to_path_buf();
        let identity = DataDir::prepare(&path, cluster, node)?;
        let io = |error| DataDirError::Io { path: path.clone(), error };
        let log = path.join("log");
        if log.read_dir().map_err(io)?.next().is_some() {
            let error =
                io::Error::other("it holds files, and is no data directory; remove it first");
            return Err(DataDirError::Io { path: log, error }.into());
        }
        let (completed, completions) = channel();
        let disk = RealDisk::new(&log, move |completion| {
            let _ = completed.send(completion); // nobody waits any more once the founding failed
        })
        .map_err(io)?;
        let (storage, _) = Storage::open(disk, identity, StorageOptions::default())
            .map_err(|error| FoundError::Open { path: path.clone(), error })?;
        let mut seed =
            Self { path, group, identity, storage, completions, offset: 0, now: Time::ZERO };
        seed.work(SnapshotOutput::Begin { meta: meta.clone() });
        Ok(seed)
    }

    fn write(&mut self, piece: &Bytes) -> Result<(), FoundError> {
        self.work(SnapshotOutput::Write { offset: self.offset, bytes: piece.clone() });
        self.offset += piece.len() as u64;
        self.wait(|event| {
            matches!(event, StorageEvent::Snapshot { news: SnapshotInput::Written { .. }, .. })
        })
    }

    fn finish(&mut self) -> Result<(), FoundError> {
        self.work(SnapshotOutput::Finish);
        self.wait(|event| {
            matches!(event, StorageEvent::Snapshot { news: SnapshotInput::Finished { .. }, .. })
        })?;
        let hard_state = HardState { term: LAST.term, voted_for: None };
        let record = Record { hard_state: Some(hard_state), base: Some(LAST), ..Record::default() };
        self.storage.persist(self.group, WriteMark(1), record);
        self.wait(|event| matches!(event, StorageEvent::Persisted { .. }))
    }

    /// Begins work, whose news come through completions.
    fn work(&mut self, work: SnapshotOutput) {
        self.storage.snapshot(self.group, work, &mut Vec::new());
    }

    /// Works until that has happened. Nobody waits for this disk, so what is paced is due at once: the clock leaps.
    fn wait(&mut self, wanted: impl Fn(&StorageEvent) -> bool) -> Result<(), FoundError> {
        let mut news = Vec::new();
        loop {
            self.now = self.storage.deadline().map_or(self.now, |due| due.max(self.now));
            self.storage.flush(self.now, &mut news);
            if news.iter().any(&wanted) {
                return Ok(());
            }
            if let Some(reason) = news.drain(..).find_map(failure) {
                return Err(FoundError::Disk { path: self.path.clone(), reason });
            }
            let Ok(completion) = self.completions.recv() else {
                let reason = "its disk thread ended".to_owned();
                return Err(FoundError::Disk { path: self.path.clone(), reason });
            };
            self.storage.complete(completion, &mut news);
        }
    }
}

/// Why nothing more comes of it.
fn failure(event: StorageEvent) -> Option<String> {
    match event {
        StorageEvent::Failed { reason } | StorageEvent::Room { lack: Some(reason), .. } => {
            Some(reason)
        }
        StorageEvent::Snapshot { news: SnapshotInput::Cancelled { reason }, .. } => Some(reason),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use quorate_zk::command::Zxid;
    use quorate_zk::import::ImportedTree;
    use quorate_zk::tree::{Founding, Tree};

    use super::*;

    /// ZK-19: what was founded is what a node's own recovery finds, in every directory; a second founding is refused.
    #[test]
    fn every_directory_holds_the_state_and_its_members() {
        let root = std::env::temp_dir().join(format!("quorate-found-{}", std::process::id()));
        let directories: Vec<_> =
            (1..=3).map(|id| (NodeId(id), root.join(format!("n{id}")))).collect();
        let founding = Founding::above(Zxid(0x3_0000_0007));
        let imported = ImportedTree::default();
        let mut tree = Tree::found(&imported, founding).unwrap();
        found(ClusterId(7), &directories, GroupId::COORDINATION, &mut tree).unwrap();
        for (node, path) in &directories {
            let data_dir = DataDir::open(path, *node).unwrap();
            let disk = RealDisk::new(&data_dir.log(), |_| {}).unwrap();
            let opened = Storage::open(disk, data_dir.identity(), StorageOptions::default());
            let (_, mut recovered) = opened.unwrap();
            let group = recovered.remove(&GroupId::COORDINATION).unwrap();
            let (meta, _) = group.snapshot.unwrap();
            assert_eq!(founding.index, LAST.index, "zxids follow from it");
            assert_eq!((meta.last, group.last), (LAST, LAST));
            let members = Membership::from_bytes(&meta.membership).unwrap();
            assert_eq!(members, Membership::of_voters([1, 2, 3].map(NodeId)));
            assert_eq!(group.hard_state.term, Term(1));
        }
        let again = found(ClusterId(7), &directories, GroupId::COORDINATION, &mut tree);
        assert!(
            matches!(again, Err(FoundError::DataDir(DataDirError::Exists { .. }))),
            "{again:?}"
        );
        std::fs::remove_dir_all(&root).unwrap();
    }
}
