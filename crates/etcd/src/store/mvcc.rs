//! Keys through time: what each key was at each revision since the last compaction.
//!
//! `history` holds every version above `floor`, in the order in which they were written: it is what watchers read and what
//! compaction walks. A version may go when a newer one of its key is below the compacted revision; so each version
//! that leaves the history takes its predecessors along, and a tombstone goes itself. What was written at the compacted
//! revision itself stays: a watcher may begin there. That makes compaction a walk
//! over what was written, in slices, never over all keys.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::index::{Index, Order, Walk};
use super::versions::{Position, Version, VersionId, Versions};
use crate::messages::mvccpb::{Event, KeyValue, event::EventType};
use crate::{KeyRange, LeaseId, Refusal, Revision};

/// The keys and their versions.
#[derive(Debug)]
pub(crate) struct Mvcc {
    pub(super) versions: Versions,
    index: Index,
    history: VecDeque<VersionId>,
    /// Every version above is in the history, none at or below.
    pub(super) floor: Position,
    /// The newest revision.
    pub(super) current: Revision,
    /// Revisions below cannot be read any more; -1 before the first compaction.
    pub(super) compacted: Revision,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self {
            versions: Versions::default(),
            index: Index::default(),
            history: VecDeque::new(),
            floor: Position::default(),
            current: Revision::FIRST,
            compacted: Revision(-1),
        }
    }
}

impl Mvcc {
    /// Writes a value.
    pub(super) fn put(&mut self, at: Position, key: &[u8], value: &[u8], lease: LeaseId) {
        let before = self.newest(key).map(|id| self.versions.get(id));
        let (created, version) = before.map_or((at.revision, 1), |v| (v.created, v.version + 1));
        self.write(&Version { key, value, at, created, version, lease });
    }

    /// Deletes a key that is there.
    pub(super) fn delete(&mut self, at: Position, key: &[u8]) {
        self.write(&Version::tombstone(key, at));
    }

    fn write(&mut self, version: &Version<'_>) {
        let id = self.versions.add(version);
        self.make_newest(id);
        self.history.push_back(id);
    }

    fn make_newest(&mut self, id: VersionId) {
        if let Some(old) = self.index.set(&self.versions, id) {
            self.versions.supersede(old, id);
        }
    }

    /// The newest version of a key, if it is there.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<VersionId> {
        self.index.get(&self.versions, key).filter(|id| id.is_live())
    }

    /// The newest revision.
    pub(crate) fn current(&self) -> Revision {
        self.current
    }

    pub(crate) fn get(&self, id: VersionId) -> Version<'_> {
        self.versions.get(id)
    }

    /// Whether a revision can be read: `None` is the newest.
    pub(super) fn check_readable(&self, revision: Option<Revision>) -> Result<(), Refusal> {
        match revision {
            Some(revision) if revision > self.current => Err(Refusal::FutureRevision),
            Some(revision) if revision < self.compacted => Err(Refusal::Compacted),
            _ => Ok(()),
        }
    }

    /// Visits the keys of a range as they were at a revision, until `visit` breaks.
    pub(crate) fn walk(
        &self,
        range: KeyRange<'_>,
        revision: Option<Revision>,
        order: Order,
        mut visit: impl FnMut(VersionId) -> ControlFlow<()>,
    ) {
        let walk = Walk { range, order, live_only: revision.is_none() };
        let mut visit = |newest| match revision {
            None => visit(newest),
            Some(revision) => match self.versions.as_of(newest, revision) {
                Some(id) if id.is_live() => visit(id),
                _ => ControlFlow::Continue(()),
            },
        };
        let _ = self.index.walk(&self.versions, walk, &mut visit);
    }

    /// How many keys of a range were there at a revision.
    ///
    /// For an older revision the count of now is corrected by what has changed since; the range is walked only if that
    /// is more than there are keys.
    pub(crate) fn count(&self, range: KeyRange<'_>, revision: Option<Revision>) -> u64 {
        let now = self.index.count(&self.versions, range);
        let Some(revision) = revision.filter(|revision| *revision < self.current) else {
            return now;
        };
        let since = self.written_since(revision.next());
        if since.len() as u64 > now {
            let mut count = 0;
            self.walk(range, Some(revision), Order::Ascending, |_| {
                count += 1;
                ControlFlow::Continue(())
            });
            return count;
        }
        let changed = since.filter(|id| range.contains(self.versions.key(*id)));
        changed.fold(now, |count, id| self.uncount(count, id, revision))
    }

    /// If `id` is the first change of its key after `revision`: the count as if the key had not changed since.
    fn uncount(&self, count: u64, id: VersionId, revision: Revision) -> u64 {
        let before = self.before(id);
        if before.is_some_and(|before| self.versions.position(before).revision > revision) {
            return count;
        }
        let was = u64::from(before.is_some_and(VersionId::is_live));
        let is = u64::from(self.newest(self.versions.key(id)).is_some());
        count + was - is
    }

    /// The version of the same key before this one: it may be a tombstone.
    fn before(&self, id: VersionId) -> Option<VersionId> {
        let Version { key, at, .. } = self.versions.get(id);
        let newest = self.index.get(&self.versions, key)?;
        self.versions.as_of(newest, Revision(at.revision.0 - 1))
    }

    /// All versions written at or after a revision that is not compacted, in order.
    pub(crate) fn written_since(&self, from: Revision) -> impl ExactSizeIterator<Item = VersionId> {
        let skip = self.history.partition_point(|id| self.versions.position(*id).revision < from);
        self.history.range(skip..).copied()
    }

    /// A version as the API tells it.
    pub(crate) fn key_value(&self, id: VersionId) -> KeyValue {
        let version = self.versions.get(id);
        KeyValue {
            key: Bytes::copy_from_slice(version.key),
            create_revision: version.created.0,
            mod_revision: version.at.revision.0,
            version: version.version as i64,
            value: Bytes::copy_from_slice(version.value),
            lease: version.lease.0,
        }
    }

    /// What a watcher is told of a version.
    pub(crate) fn event(&self, id: VersionId) -> Event {
        let kind = if id.is_live() { EventType::Put } else { EventType::Delete };
        Event { r#type: kind.into(), kv: Some(self.key_value(id)), prev_kv: None }
    }

    /// What was there before a version, unless that is compacted.
    pub(crate) fn previous(&self, id: VersionId) -> Option<KeyValue> {
        let before = Revision(self.versions.position(id).revision.0 - 1);
        let known = before >= self.compacted;
        self.before(id).filter(|id| id.is_live() && known).map(|id| self.key_value(id))
    }

    /// From here on, revisions below cannot be read.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.current {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = revision;
        Ok(())
    }

    /// Whether versions are kept that nobody can read.
    pub(crate) fn has_garbage(&self) -> bool {
        self.history.front().is_some_and(|id| self.versions.position(*id).revision < self.compacted)
    }

    /// Drops what nobody can read, as far as it follows from the next `count` versions of the history.
    pub(super) fn collect_garbage(&mut self, count: usize) {
        for _ in 0..count {
            if !self.has_garbage() {
                return;
            }
            if let Some(id) = self.history.pop_front() {
                self.leave_history(id);
            }
        }
    }

    fn leave_history(&mut self, id: VersionId) {
        let Version { key, at, version, .. } = self.versions.get(id);
        self.floor = at;
        // The first version of a key has nothing before it but a tombstone, and that has left already.
        if version == 1 {
            return;
        }
        let key = key.to_vec();
        let Some(newest) = self.index.get(&self.versions, &key) else { return };
        self.versions.drop_before(newest, at);
        if id.is_live() {
            return;
        }
        if newest == id {
            self.index.remove(&self.versions, &key);
            self.versions.drop_version(id);
        } else {
            self.versions.drop_before(newest, Position { sub: at.sub + 1, ..at });
        }
    }

    /// A hash of what can be read at a revision and was not compacted, the same on all members (HashKV).
    pub(crate) fn hash(&self, revision: Revision) -> u64 {
        let newer = self.written_since(revision.next()).map(|id| self.versions.digest_of(id));
        let sum = |digests: &mut dyn Iterator<Item = u64>| digests.fold(0, u64::wrapping_add);
        let newer = sum(&mut { newer });
        let garbage = sum(&mut self.garbage().map(|id| self.versions.digest_of(id)));
        self.versions.digest().wrapping_sub(newer).wrapping_sub(garbage)
    }

    /// Versions that nobody can read and that are still here.
    fn garbage(&self) -> impl Iterator<Item = VersionId> {
        let end = self
            .history
            .partition_point(|id| self.versions.position(*id).revision < self.compacted);
        self.history.range(..end).flat_map(|id| {
            let tombstone = Some(*id).filter(|id| id.is_tombstone());
            // What is before a tombstone below went with it, or is counted there.
            [self.before(*id).filter(|before| before.is_live()), tombstone].into_iter().flatten()
        })
    }

    /// Takes in a version of a snapshot; [`rebuild`](Self::rebuild) must follow.
    pub(super) fn restore(&mut self, data: Box<[u8]>, key_bytes: u32) -> bool {
        match self.versions.add_from_snapshot(data, key_bytes) {
            Some(id) => {
                self.history.push_back(id);
                true
            }
            None => false,
        }
    }

    /// Takes in a version of another store; [`rebuild`](Self::rebuild) must follow.
    pub(super) fn take_in(&mut self, version: &Version<'_>) {
        let id = self.versions.add(version);
        self.history.push_back(id);
    }

    /// Makes index and history from the versions.
    pub(super) fn rebuild(&mut self) {
        let mut all: Vec<VersionId> = std::mem::take(&mut self.history).into();
        self.sort_by_key(&mut all);
        let mut newest: Vec<VersionId> = Vec::with_capacity(all.len());
        for id in &all {
            match newest
                .last_mut()
                .filter(|last| self.versions.key(**last) == self.versions.key(*id))
            {
                Some(last) => {
                    self.versions.supersede(*last, *id);
                    *last = *id;
                }
                None => newest.push(*id),
            }
        }
        self.index = Index::build(&self.versions, &newest);
        all.retain(|id| self.versions.position(*id) > self.floor);
        all.sort_by_cached_key(|id| self.versions.position(*id));
        self.history = all.into();
    }

    /// Sorts versions by key, and those of one key by age. Keys are looked at in memory once each for most: sixteen
    /// bytes behind what all keys begin with tell nearly all of them apart.
    fn sort_by_key(&self, ids: &mut Vec<VersionId>) {
        let key = |id: &VersionId| self.versions.key(*id);
        let common = ids.first().map_or(0, |first| {
            ids.iter().fold(key(first).len(), |common, id| {
                let same = key(first).iter().zip(key(id)).take_while(|(a, b)| a == b).count();
                common.min(same)
            })
        });
        let mut sorted: Vec<(u128, VersionId)> =
            ids.iter().map(|id| (head(&key(id)[common..]), *id)).collect();
        sorted.sort_unstable_by(|(a_head, a), (b_head, b)| {
            let by_key = || self.versions.key(*a).cmp(self.versions.key(*b));
            let by_age = || self.versions.position(*a).cmp(&self.versions.position(*b));
            a_head.cmp(b_head).then_with(by_key).then_with(by_age)
        });
        ids.clear();
        ids.extend(sorted.into_iter().map(|(_, id)| id));
    }

    /// The live keys of now that are attached to a lease.
    pub(super) fn leased(&self, mut visit: impl FnMut(LeaseId, &[u8])) {
        self.walk(KeyRange::ALL, None, Order::Ascending, |id| {
            let version = self.versions.get(id);
            if version.lease != LeaseId::NONE {
                visit(version.lease, version.key);
            }
            ControlFlow::Continue(())
        });
    }
}

/// The first sixteen bytes as a number that sorts as they do, but for what follows them.
fn head(key: &[u8]) -> u128 {
    let mut head = [0; 16];
    let length = key.len().min(16);
    head[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(head)
}
