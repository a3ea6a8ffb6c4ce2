//! A node's log without its node: for whoever makes or mends a data directory while nothing runs on it. One thing is done
//! after the other, and each is durable when it returns.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use quorate_contracts::{
    Entry, GroupId, LogIndex, Record, Recovered, SnapshotInput, SnapshotMeta, SnapshotOutput, Time,
    WriteMark,
};
use quorate_storage::{Completion, Identity, OpenError, Storage, StorageEvent, StorageOptions};
use thiserror::Error;

use crate::disk::RealDisk;

/// Why a log cannot be worked on.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OfflineError {
    #[error("{path}: {error}")]
    Open { path: PathBuf, error: OpenError },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: {reason}")]
    Disk { path: PathBuf, reason: String },
}

/// A log that no node runs on.
#[derive(Debug)]
pub(crate) struct Offline {
    path: PathBuf,
    storage: Storage<RealDisk>,
    completions: Receiver<Completion>,
    /// Bytes of the snapshot that is being written.
    offset: u64,
    now: Time,
}

impl Offline {
    /// Opens the log in `path`, and tells where each group stands.
    pub(crate) fn open(
        path: &Path,
        identity: Identity,
        options: StorageOptions,
    ) -> Result<(Self, BTreeMap<GroupId, Recovered>), OfflineError> {
        let path = path.to_path_buf();
        let (completed, completions) = channel();
        let disk = RealDisk::new(&path, move |completion| {
            let _ = completed.send(completion); // nobody waits any more once something failed
        })
        .map_err(|error| OfflineError::Io { path: path.clone(), error })?;
        let (storage, recovered) = Storage::open(disk, identity, options)
            .map_err(|error| OfflineError::Open { path: path.clone(), error })?;
        Ok((Self { path, storage, completions, offset: 0, now: Time::ZERO }, recovered))
    }

    /// Makes a record durable.
    pub(crate) fn persist(
        &mut self,
        group: GroupId,
        mark: WriteMark,
        record: Record,
    ) -> Result<(), OfflineError> {
        self.storage.persist(group, mark, record);
        self.wait(|event| matches!(event, StorageEvent::Persisted { .. }).then_some(()))
    }

    /// Some entries from `from` on, at least one and none behind `to`; none where the log holds no entry `from`.
    pub(crate) fn read(
        &mut self,
        group: GroupId,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, OfflineError> {
        let mut news = Vec::new();
        self.storage.read_log(group, from, to, bytes_max, &mut news);
        let entries = |event| match event {
            StorageEvent::Read { entries, .. } => Some(entries),
            _ => None,
        };
        match news.pop().and_then(entries) {
            Some(entries) => Ok(entries),
            None => self.wait(entries),
        }
    }

    /// Begins a snapshot of a group; one at a time is written.
    pub(crate) fn begin_snapshot(&mut self, group: GroupId, meta: SnapshotMeta) {
        self.offset = 0;
        self.work(group, SnapshotOutput::Begin { meta });
    }

    /// Writes what comes next in it.
    pub(crate) fn write_snapshot(
        &mut self,
        group: GroupId,
        bytes: Bytes,
    ) -> Result<(), OfflineError> {
        let (offset, length) = (self.offset, bytes.len() as u64);
        self.work(group, SnapshotOutput::Write { offset, bytes });
        self.offset += length;
        self.wait(|event| match event {
            StorageEvent::Snapshot { news: SnapshotInput::Written { .. }, .. } => Some(()),
            _ => None,
        })
    }

    /// It is whole: it becomes the group's snapshot.
    pub(crate) fn finish_snapshot(&mut self, group: GroupId) -> Result<(), OfflineError> {
        self.work(group, SnapshotOutput::Finish);
        self.wait(|event| match event {
            StorageEvent::Snapshot { news: SnapshotInput::Finished { .. }, .. } => Some(()),
            _ => None,
        })
    }

    /// Begins work, whose news come through completions.
    fn work(&mut self, group: GroupId, work: SnapshotOutput) {
        self.storage.snapshot(group, work, &mut Vec::new());
    }

    /// Works until that has happened. Nobody waits for this disk, so what is paced is due at once: the clock leaps.
    fn wait<T>(
        &mut self,
        mut wanted: impl FnMut(StorageEvent) -> Option<T>,
    ) -> Result<T, OfflineError> {
        let failed = |path: &Path, reason| OfflineError::Disk { path: path.to_path_buf(), reason };
        let mut news = Vec::new();
        loop {
            self.now = self.storage.deadline().map_or(self.now, |due| due.max(self.now));
            self.storage.flush(self.now, &mut news);
            for event in news.drain(..) {
                if let Some(reason) = failure(&event) {
                    return Err(failed(&self.path, reason));
                }
                if let Some(happened) = wanted(event) {
                    return Ok(happened);
                }
            }
            let Ok(completion) = self.completions.recv() else {
                return Err(failed(&self.path, "its disk thread ended".to_owned()));
            };
            self.storage.complete(completion, &mut news);
        }
    }
}

/// Why nothing more comes of it.
fn failure(event: &StorageEvent) -> Option<String> {
    match event {
        StorageEvent::Failed { reason }
        | StorageEvent::Room { lack: Some(reason), .. }
        | StorageEvent::Snapshot { news: SnapshotInput::Cancelled { reason }, .. } => {
            Some(reason.clone())
        }
        _ => None,
    }
}
