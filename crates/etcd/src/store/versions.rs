//! Versions of keys, as few bytes each as we could think of: one allocation for key, value and numbers.
//!
//! ```text
//! slot   data 16 | length of the key 4 | chain 4
//! data   key | mod revision, sub, version (0: a tombstone) | mod - create, lease | value       numbers: varints
//! ```
//!
//! A version never changes, so that a snapshot in slices needs to set aside only what is dropped meanwhile, and does that
//! by moving it. The older versions of a key that has any are in a chain, oldest first; most keys have none.
//!
//! Not here: which key has which version (`index`), and when a version may go (`mvcc`).

use std::collections::{BTreeMap, VecDeque};

use quorate_contracts::Progress;

use crate::{LeaseId, Revision};

/// A version's slot, and whether it says that the key was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VersionId(u32);

/// The order of changes: by revision, and within one transaction by its parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Position {
    pub(crate) revision: Revision,
    pub(crate) sub: u32,
}

/// What a version says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// When it was written: its mod revision, and which part of the transaction.
    pub(crate) at: Position,
    /// When the key was created.
    pub(crate) created: Revision,
    /// Puts since then; 0 for a tombstone.
    pub(crate) version: u64,
    pub(crate) lease: LeaseId,
}

impl<'a> Version<'a> {
    /// A key is deleted.
    pub(crate) fn tombstone(key: &'a [u8], at: Position) -> Self {
        Self { key, value: &[], at, created: Revision(0), version: 0, lease: LeaseId::NONE }
    }
}

#[derive(Debug)]
struct Slot {
    /// Empty if the slot is free.
    data: Box<[u8]>,
    key_bytes: u32,
    /// The newest version of a key knows where its older ones are.
    chain: u32,
}

const NO_CHAIN: u32 = u32::MAX;
/// Slots are added a chunk at a time: growing never moves those that are there.
const CHUNK: usize = 4096;

/// All versions that are kept.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    chains: Vec<VecDeque<VersionId>>,
    free_chains: Vec<u32>,
    bytes: u64,
    count: u64,
    digest: u64,
    snapshotting: Option<Snapshotting>,
}

/// A snapshot being taken.
#[derive(Debug)]
struct Snapshotting {
    /// The next slot to write.
    cursor: u32,
    /// Slots from here on did not exist when it began.
    end: u32,
    /// What changed slots held: `None` if they were free.
    aside: BTreeMap<u32, Option<Content>>,
}

/// What a slot holds: key, numbers and value, and the length of the key.
type Content = (Box<[u8]>, u32);

impl VersionId {
    pub(crate) fn is_tombstone(self) -> bool {
        self.0 & 1 == 1
    }

    pub(crate) fn is_live(self) -> bool {
        !self.is_tombstone()
    }

    fn slot(self) -> u32 {
        self.0 >> 1
    }
}

impl Versions {
    /// Keeps a version.
    pub(crate) fn add(&mut self, version: &Version<'_>) -> VersionId {
        self.add_encoded(encode(version), version.key.len() as u32, version.version == 0)
    }

    /// Keeps a version as a snapshot holds it, or `None` if its bytes mean nothing.
    pub(crate) fn add_from_snapshot(
        &mut self,
        data: Box<[u8]>,
        key_bytes: u32,
    ) -> Option<VersionId> {
        let version =
            decode(&data, key_bytes as usize).filter(|version| !version.key.is_empty())?;
        let tombstone = version.version == 0;
        Some(self.add_encoded(data, key_bytes, tombstone))
    }

    fn add_encoded(&mut self, data: Box<[u8]>, key_bytes: u32, tombstone: bool) -> VersionId {
        self.bytes += data.len() as u64;
        self.count += 1;
        self.digest = self.digest.wrapping_add(digest(&data));
        let new = Slot { data, key_bytes, chain: NO_CHAIN };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.set_aside(slot, None);
                *self.slot_mut(slot) = new;
                slot
            }
            None => self.push(new),
        };
        VersionId(slot << 1 | u32::from(tombstone))
    }

    fn push(&mut self, new: Slot) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(if self.chunks.is_empty() { 16 } else { CHUNK }));
        }
        let slot = self.slots();
        assert!(slot < u32::MAX >> 1, "2^31 versions are kept: compaction was forgotten");
        self.chunks.last_mut().expect("a chunk was just made sure of").push(new);
        slot
    }

    /// Forgets a version, which has no chain any more.
    pub(crate) fn drop_version(&mut self, id: VersionId) {
        let slot = self.slot_mut(id.slot());
        assert_eq!(slot.chain, NO_CHAIN, "the older versions of a key outlive it");
        let (data, key_bytes) = (std::mem::take(&mut slot.data), slot.key_bytes);
        self.bytes -= data.len() as u64;
        self.count -= 1;
        self.digest = self.digest.wrapping_sub(digest(&data));
        self.set_aside(id.slot(), Some((data, key_bytes)));
        self.free.push(id.slot());
    }

    pub(crate) fn get(&self, id: VersionId) -> Version<'_> {
        let slot = self.slot(id.slot());
        decode(&slot.data, slot.key_bytes as usize).expect("a version's bytes are our own")
    }

    pub(crate) fn key(&self, id: VersionId) -> &[u8] {
        let slot = self.slot(id.slot());
        &slot.data[..slot.key_bytes as usize]
    }

    pub(crate) fn position(&self, id: VersionId) -> Position {
        let slot = self.slot(id.slot());
        position(&slot.data[slot.key_bytes as usize..]).expect("a version's bytes are our own").0
    }

    /// `new` takes the place of `old` as the newest version of their key.
    pub(crate) fn supersede(&mut self, old: VersionId, new: VersionId) {
        let mut chain = std::mem::replace(&mut self.slot_mut(old.slot()).chain, NO_CHAIN);
        if chain == NO_CHAIN {
            chain = self.free_chains.pop().unwrap_or_else(|| {
                self.chains.push(VecDeque::new());
                self.chains.len() as u32 - 1
            });
        }
        self.chains[chain as usize].push_back(old);
        self.slot_mut(new.slot()).chain = chain;
    }

    /// The version of a key as of `revision`, given its newest one.
    pub(crate) fn as_of(&self, newest: VersionId, revision: Revision) -> Option<VersionId> {
        if self.position(newest).revision <= revision {
            return Some(newest);
        }
        let older = self.older(newest)?;
        let after = older.partition_point(|id| self.position(*id).revision <= revision);
        after.checked_sub(1).map(|at| older[at])
    }

    /// Forgets the versions of a key before `position`, given its newest one.
    pub(crate) fn drop_before(&mut self, newest: VersionId, position: Position) {
        let chain = self.slot(newest.slot()).chain;
        if chain == NO_CHAIN {
            return;
        }
        while let Some(oldest) = self.chains[chain as usize].front().copied() {
            if self.position(oldest) >= position {
                return;
            }
            self.chains[chain as usize].pop_front();
            self.drop_version(oldest);
        }
        self.chains[chain as usize] = VecDeque::new();
        self.free_chains.push(chain);
        self.slot_mut(newest.slot()).chain = NO_CHAIN;
    }

    fn older(&self, newest: VersionId) -> Option<&VecDeque<VersionId>> {
        self.chains.get(self.slot(newest.slot()).chain as usize)
    }

    /// Bytes of all versions, and of what keeps them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.count * (size_of::<Slot>() as u64 + 16)
    }

    /// A hash of all versions, in whichever slots they are.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The hash of one version: what it adds to [`digest`](Self::digest).
    pub(crate) fn digest_of(&self, id: VersionId) -> u64 {
        digest(&self.slot(id.slot()).data)
    }

    fn slots(&self) -> u32 {
        match self.chunks.split_last() {
            Some((last, full)) => (full.len() * CHUNK + last.len()) as u32,
            None => 0,
        }
    }

    fn slot(&self, slot: u32) -> &Slot {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

/// Snapshots: versions in the order of their slots.
impl Versions {
    pub(crate) fn begin_snapshot(&mut self) {
        let end = self.slots();
        self.snapshotting = Some(Snapshotting { cursor: 0, end, aside: BTreeMap::new() });
    }

    /// A slot has changed: what it held is kept, if that was its first change since the snapshot began.
    fn set_aside(&mut self, slot: u32, old: Option<Content>) {
        if let Some(snapshotting) = &mut self.snapshotting
            && (snapshotting.cursor..snapshotting.end).contains(&slot)
        {
            snapshotting.aside.entry(slot).or_insert(old);
        }
    }

    /// Gives `write` the next versions, about `bytes` of them.
    pub(crate) fn snapshot_slice(
        &mut self,
        bytes: usize,
        mut write: impl FnMut(&[u8], u32),
    ) -> Progress {
        let Some(mut snapshotting) = self.snapshotting.take() else { return Progress::Done };
        let mut written = 0;
        while written < bytes && snapshotting.cursor < snapshotting.end {
            let slot = snapshotting.cursor;
            snapshotting.cursor += 1;
            // Free slots cost a little, so that a slice ends even if there is nothing else.
            written += 8;
            match snapshotting.aside.remove(&slot) {
                Some(None) => {}
                Some(Some((data, key_bytes))) => {
                    written += data.len();
                    write(&data, key_bytes);
                }
                None => {
                    let Slot { data, key_bytes, .. } = self.slot(slot);
                    written += data.len();
                    if !data.is_empty() {
                        write(data, *key_bytes);
                    }
                }
            }
        }
        if snapshotting.cursor == snapshotting.end {
            return Progress::Done;
        }
        self.snapshotting = Some(snapshotting);
        Progress::More
    }
}

fn encode(version: &Version<'_>) -> Box<[u8]> {
    let mut data = Vec::with_capacity(version.key.len() + version.value.len() + 24);
    data.extend_from_slice(version.key);
    put_varint(&mut data, version.at.revision.0 as u64);
    put_varint(&mut data, version.at.sub.into());
    put_varint(&mut data, version.version);
    if version.version > 0 {
        put_varint(&mut data, (version.at.revision.0 - version.created.0) as u64);
        put_varint(&mut data, version.lease.0 as u64);
        data.extend_from_slice(version.value);
    }
    data.into_boxed_slice()
}

/// A version as a snapshot has it, with the bytes of its key; `None` if it means nothing.
pub(crate) fn decode(data: &[u8], key_bytes: usize) -> Option<Version<'_>> {
    let (key, rest) = data.split_at_checked(key_bytes)?;
    let (at, rest) = position(rest)?;
    let (version, rest) = varint(rest)?;
    if version == 0 {
        return Some(Version::tombstone(key, at));
    }
    let (age, rest) = varint(rest)?;
    let (lease, value) = varint(rest)?;
    let created = Revision(at.revision.0.checked_sub(age as i64)?);
    Some(Version { key, value, at, created, version, lease: LeaseId(lease as i64) })
}

fn position(data: &[u8]) -> Option<(Position, &[u8])> {
    let (revision, rest) = varint(data)?;
    let (sub, rest) = varint(rest)?;
    Some((Position { revision: Revision(revision as i64), sub: sub as u32 }, rest))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in data.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &data[at + 1..]));
        }
    }
    None
}

/// The finisher of splitmix64 spreads the checksum, so that the sum of many says something.
fn digest(data: &[u8]) -> u64 {
    crate::store::mix(u64::from(crc32c::crc32c(data)) | (data.len() as u64) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(key: &'static [u8], revision: i64, version: u64) -> Version<'static> {
        let created =
            if version == 0 { Revision(0) } else { Revision(revision - version as i64 + 1) };
        let at = Position { revision: Revision(revision), sub: 3 };
        let value: &[u8] = if version == 0 { b"" } else { b"value" };
        Version { key, value, at, created, version, lease: LeaseId(0) }
    }

    #[test]
    fn a_version_comes_back_as_it_went() {
        let mut versions = Versions::default();
        for original in [version(b"k", 300, 2), version(b"k", 301, 0)] {
            let id = versions.add(&original);
            assert_eq!(versions.get(id), original);
            assert_eq!(id.is_tombstone(), original.version == 0);
        }
    }

    #[test]
    fn a_small_version_costs_few_bytes_beside_its_content() {
        let mut versions = Versions::default();
        versions.add(&version(b"k", 1_000_000, 1));
        assert_eq!(
            versions.bytes,
            1 + 5 + 3 + 1 + 1 + 1 + 1,
            "key, value; revision, sub, version, age, lease"
        );
        assert_eq!(size_of::<Slot>(), 24);
    }

    #[test]
    fn a_snapshot_holds_what_was_there_when_it_began() {
        let mut versions = Versions::default();
        let ids: Vec<_> = (1..=4).map(|r| versions.add(&version(b"k", r, 1))).collect();
        versions.drop_version(ids[1]);
        versions.begin_snapshot();
        versions.add(&version(b"late", 9, 1));
        versions.drop_version(ids[2]);
        versions.add(&version(b"later", 10, 1));
        let mut found = Vec::new();
        let mut write =
            |data: &[u8], key: u32| found.push(decode(data, key as usize).map(|v| v.at.revision.0));
        while versions.snapshot_slice(1, &mut write) == Progress::More {}
        assert_eq!(found, [Some(1), Some(3), Some(4)]);
    }
}
