//! Makes the data directories of a new cluster that begins with a state: what an import and a restored backup need (ZK-19, KV-8).
//!
//! Every directory gets the same snapshot of one group, as if entry 1 of term 1 had brought it about, and its members; the other
//! groups begin empty. A directory becomes
//! one only once the snapshots of all are durable: a founding that was cut off leaves nothing that a node would start on.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, EntryId, GroupId, HardState, LogIndex, NodeId, Progress, Record, SnapshotMeta,
    StateMachine, Term, Wire, WriteMark,
};
use quorate_raft::Membership;
use quorate_storage::{Identity, StorageOptions};
use thiserror::Error;

use crate::data_dir::{DataDir, DataDirError};
use crate::offline::{Offline, OfflineError};

/// Why no cluster was founded. Directories that were begun hold no node's data and can be removed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FoundError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Offline(#[from] OfflineError),
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
    offline: Offline,
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
        let (mut offline, _) = Offline::open(&log, identity, StorageOptions::default())?;
        offline.begin_snapshot(group, meta.clone());
        Ok(Self { path, group, identity, offline })
    }

    fn write(&mut self, piece: &Bytes) -> Result<(), OfflineError> {
        self.offline.write_snapshot(self.group, piece.clone())
    }

    fn finish(&mut self) -> Result<(), OfflineError> {
        self.offline.finish_snapshot(self.group)?;
        let hard_state = HardState { term: LAST.term, voted_for: None };
        let record = Record { hard_state: Some(hard_state), base: Some(LAST), ..Record::default() };
        self.offline.persist(self.group, WriteMark(1), record)
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::Storage;
    use quorate_zk::command::Zxid;
    use quorate_zk::import::ImportedTree;
    use quorate_zk::tree::{Founding, Tree};

    use super::*;
    use crate::disk::RealDisk;

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
