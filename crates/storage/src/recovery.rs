//! Opening a directory: where each group stands, from the log and the snapshots beside it (RAFT-16, RAFT-17).
//!
//! What a crash tore is left out. Damaged data of entries whose headers are good is told, entry by entry; so is that
//! entries may have been lost with their headers (protocol-aware recovery, FAST '18): the other members
//! still hold them, as they do a snapshot that is damaged or gone. Refused, with file, byte and what is wrong, is what
//! nobody else can give back: whose data it is, term and vote, the members.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use quorate_contracts::{Entry, EntryId, GroupId, LogIndex, Recovered};
use thiserror::Error;

use crate::batch::{self, Decoded, GroupRecord, Header};
use crate::index::{GroupIndex, Location};
use crate::snapshot::{DamagedFile, Snapshots};
use crate::walk::{Damage, Step, walk};
use crate::{Disk, FileInfo, Identity, Storage, StorageOptions, segment};

/// Why a directory cannot be opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The files cannot be read.
    #[error("cannot read the data directory: {0}")]
    Io(#[source] io::Error),
    /// A segment that the log needs is not there.
    #[error("segment {file} is missing, though it was written")]
    MissingSegment {
        /// Its name.
        file: String,
    },
    /// A segment does not belong here, or its header is damaged.
    #[error("{file}: {what}")]
    BadSegment {
        /// Its name.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something that was durable does not read any more.
    #[error("{file}, byte {byte}: {what}; later writes say that it was durable")]
    Damaged {
        /// The segment.
        file: String,
        /// Where the batch begins.
        byte: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A snapshot under its finished name is not whole, and there is no other member to send it again.
    #[error("{file}, byte {byte}: {what}")]
    DamagedSnapshot {
        /// The file.
        file: String,
        /// Where.
        byte: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The log begins later than the newest snapshot ends, and there is no other member to send that again.
    #[error("{file}: {what}")]
    MissingSnapshot {
        /// The name that it must have had, as far as that is known.
        file: String,
        /// What is missing.
        what: String,
    },
    /// Entries that the log must hold are nowhere.
    #[error("group {group}: the log begins after entry {base}, but the next one found is {found}")]
    Gap {
        /// The group.
        group: GroupId,
        /// Where the log begins.
        base: LogIndex,
        /// What was found instead of the next entry.
        found: LogIndex,
    },
}

impl<D: Disk> Storage<D> {
    /// Opens a directory: reads all of the log once, checks every byte of it, and hands back where each
    /// group stands.
    pub fn open(
        disk: D,
        identity: Identity,
        options: StorageOptions,
    ) -> Result<(Self, BTreeMap<GroupId, Recovered>), OpenError> {
        let files = disk.list().map_err(OpenError::Io)?;
        let mut scan = Scan::default();
        let mut extent = walk(&disk, &identity, &files, &mut |step| scan.take(step))?;
        let (snapshots, unneeded) = scan.judge(&disk, &identity, &files)?;
        extent.leftovers.extend(unneeded);
        let mut recovered = BTreeMap::new();
        let (mut tail_bytes, mut left) = (options.tail_bytes, scan.groups.len());
        for (group, index) in &scan.groups {
            let fair = tail_bytes / left;
            let tail = read_tail(&disk, &identity, *group, index, fair)?;
            tail_bytes -= tail.iter().map(cost).sum::<usize>();
            left -= 1;
            recovered.insert(*group, describe(*group, index, tail, &snapshots));
        }
        if options.alone && !recovered.values().all(Recovered::is_whole) {
            scan.refuse_without_others()?;
        }
        let storage =
            Self::new(disk, identity, options, scan.groups, extent, snapshots, scan.damage);
        Ok((storage, recovered))
    }
}

impl DamagedFile {
    fn damage(&self) -> Damage {
        let Self { file, byte, what, .. } = self.clone();
        Damage { file, byte, what, headers_lost: true }
    }
}

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    pub(crate) groups: BTreeMap<GroupId, GroupIndex>,
    pub(crate) damage: Vec<Damage>,
    /// The headers of a batch were lost.
    headers_lost: bool,
    /// Groups of which no record since then shows whether they lost anything.
    unsure: BTreeSet<GroupId>,
    /// Groups of which no record since then tells term and vote.
    untold: BTreeSet<GroupId>,
}

impl Scan {
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Batch { location, decoded } => self.take_batch(decoded, location),
            Step::Mark { decoded, location, .. } => self.take_batch(decoded, location),
            Step::Damage(damage) => {
                if damage.headers_lost {
                    self.headers_lost = true;
                    self.unsure.extend(self.groups.keys());
                    self.untold.extend(self.groups.keys());
                }
                self.damage.push(damage);
            }
            Step::Segment(_) | Step::Unborn { .. } | Step::Torn { .. } => {}
        }
    }

    fn take_batch(&mut self, decoded: Decoded, location: Location) {
        for record in &decoded.records {
            self.take_record(record, location);
        }
        for (group, id) in decoded.bad_bodies {
            if let Some(index) = self.groups.get_mut(&group)
                && index.holds(id)
            {
                index.damaged.insert(id.index);
            }
        }
    }

    fn take_record(&mut self, record: &GroupRecord, location: Location) {
        let group = record.group;
        if self.headers_lost && !self.groups.contains_key(&group) {
            self.unsure.insert(group);
        }
        self.untold.remove(&group);
        let index = self.groups.entry(group).or_default();
        if !self.unsure.contains(&group) {
            return index.take(record, location);
        }
        if index.is_followed_by(record) {
            self.unsure.remove(&group);
            index.lost = None;
            index.take(record, location);
        } else {
            index.fall_behind(record);
        }
    }

    /// After the last step: refuses what nobody can mend, and brings log and snapshots together. The files that are not
    /// needed come back.
    pub(crate) fn judge<D: Disk>(
        &mut self,
        disk: &D,
        identity: &Identity,
        files: &[FileInfo],
    ) -> Result<(Snapshots, Vec<String>), OpenError> {
        self.finish();
        self.refuse_what_cannot_be_mended()?;
        let (mut snapshots, damaged, mut unneeded) = Snapshots::open(disk, identity, files)?;
        adopt_snapshots(&mut self.groups, &snapshots);
        for file in damaged {
            self.damage.push(file.damage());
            let index = self.groups.entry(file.group).or_default();
            if do_without(index, &file, &snapshots) {
                unneeded.push(file.file);
            } else {
                snapshots.keep_damaged(file.group, file.file);
            }
        }
        for (group, index) in &mut self.groups {
            let covered = snapshots.newest(*group).map_or(EntryId::ZERO, |(meta, _)| meta.last);
            if index.base.index > covered.index {
                self.damage.push(missing_snapshot(*group, index.base.index, covered.index));
                lose_state(index, covered);
            }
            check_beginning(*group, index)?;
        }
        Ok((snapshots, unneeded))
    }

    /// After the last step: whoever may have lost something has.
    fn finish(&mut self) {
        for group in &self.unsure {
            let index = self.groups.entry(*group).or_default();
            index.lost.get_or_insert(LogIndex(u64::MAX));
        }
    }

    /// What others could send again is lost where there are none.
    fn refuse_without_others(&self) -> Result<(), OpenError> {
        let Some(Damage { file, byte, what, .. }) = self.damage.first() else { return Ok(()) };
        let what = format!("{what}; there is no other member to send it again");
        let (file, byte) = (file.clone(), *byte);
        Err(match file.as_str() {
            missing if missing.ends_with(ANY_SNAPSHOT) => OpenError::MissingSnapshot { file, what },
            damaged if damaged.starts_with("snapshot-") => {
                OpenError::DamagedSnapshot { file, byte, what }
            }
            _ => OpenError::Damaged { file, byte, what },
        })
    }

    fn refuse_what_cannot_be_mended(&self) -> Result<(), OpenError> {
        let Some(Damage { file, byte, what, .. }) = self.damage.first() else { return Ok(()) };
        let refused = |why: String| {
            Err(OpenError::Damaged {
                file: file.clone(),
                byte: *byte,
                what: format!("{what}; {why}"),
            })
        };
        if let Some(group) = self.untold.first() {
            return refused(format!(
                "the newest term and vote of group {group} may have been there"
            ));
        }
        for (group, index) in &self.groups {
            if let Some(at) = index.damaged.iter().find(|at| index.memberships.contains_key(*at)) {
                return refused(format!("entry {at} of group {group} tells who its members are"));
            }
        }
        Ok(())
    }
}

/// A snapshot that the log does not lead up to replaces it: the node crashed between the two.
fn adopt_snapshots(groups: &mut BTreeMap<GroupId, GroupIndex>, snapshots: &Snapshots) {
    for group in snapshots.groups() {
        let index = groups.entry(group).or_default();
        let Some((meta, _)) = snapshots.newest(group) else { continue };
        if !index.holds(meta.last) && index.base.index <= meta.last.index {
            index.restart_after(meta.last);
        } else if index.damaged.first().is_some_and(|at| *at <= meta.last.index) {
            // Nobody needs to mend what the snapshot stands for.
            index.rebase(meta.last);
        }
        index.lost = index.lost.filter(|lost| *lost > meta.last.index);
    }
}

/// How the name of a snapshot ends of which only the group is known.
pub(crate) const ANY_SNAPSHOT: &str = "-*.snap";

fn missing_snapshot(group: GroupId, base: LogIndex, covered: LogIndex) -> Damage {
    let newest = match covered {
        LogIndex::ZERO => "there is no snapshot".to_string(),
        covered => format!("the newest snapshot ends with {covered}"),
    };
    let what =
        format!("it is missing: the log of group {group} begins after entry {base}, and {newest}");
    let file = format!("snapshot-{}{ANY_SNAPSHOT}", group.0);
    Damage { file, byte: 0, what, headers_lost: true }
}

/// A group's state is lost, but for what a snapshot up to `covered` holds, and with it the sense of a log that begins
/// later: the server is as one that lost all of it. It gives no vote, and gets a snapshot from a leader. What is on the
/// disk stays there until then.
fn lose_state(index: &mut GroupIndex, covered: EntryId) {
    let last = index.last.index;
    index.restart_after(covered);
    index.lost = index.lost.max(Some(last));
}

/// The newest snapshot of a group is damaged. Returns whether the log and an older one hold everything that it stood for.
fn do_without(index: &mut GroupIndex, damaged: &DamagedFile, snapshots: &Snapshots) -> bool {
    let older = snapshots.newest(damaged.group).map_or(EntryId::ZERO, |(meta, _)| meta.last);
    let last = index.last.index;
    let leads_up = index.base.index <= older.index;
    if leads_up && last >= damaged.last.index {
        return true;
    }
    if !leads_up {
        lose_state(index, older);
    }
    index.lost = index.lost.max(Some(last.max(damaged.last.index)));
    false
}

/// A log begins with a snapshot, or with its first entry: what is between there and the first entry that was found is
/// nowhere.
fn check_beginning(group: GroupId, index: &GroupIndex) -> Result<(), OpenError> {
    let (base, anchor) = (index.base, index.anchor());
    if anchor.index > base.index {
        let found = anchor.index.next();
        return Err(OpenError::Gap { group, base: base.index, found });
    }
    Ok(())
}

fn describe(
    group: GroupId,
    index: &GroupIndex,
    tail: Vec<Entry>,
    snapshots: &Snapshots,
) -> Recovered {
    let snapshot = snapshots.newest(group);
    Recovered {
        hard_state: index.hard_state,
        mark: index.mark,
        snapshot,
        base: index.base,
        term_starts: index.term_starts.clone(),
        last: index.last,
        tail,
        memberships: index.memberships.iter().map(|(at, data)| (*at, data.clone())).collect(),
        damaged: index.damaged.iter().copied().collect(),
        lost: index.lost,
    }
}

/// What an entry of the tail takes in memory, roughly.
fn cost(entry: &Entry) -> usize {
    entry.data.len() + 64
}

/// The newest entries of a group, as many as fit, without a gap.
fn read_tail<D: Disk>(
    disk: &D,
    identity: &Identity,
    group: GroupId,
    index: &GroupIndex,
    bytes_max: usize,
) -> Result<Vec<Entry>, OpenError> {
    let (mut tail, mut bytes) = (Vec::new(), 0);
    let mut last = index.last.index;
    'runs: while let Some((first, location)) = index.run_before(last) {
        for entry in read_run(disk, identity, group, first, location)?.into_iter().rev() {
            if entry.id.index > last {
                continue;
            }
            bytes += cost(&entry);
            if bytes > bytes_max || entry.id.index != last || entry.id.index < first {
                break 'runs;
            }
            // The whole batch is not to be kept for the sake of a few entries.
            tail.push(Entry { data: Bytes::copy_from_slice(&entry.data), ..entry });
            last = last.prev().unwrap_or_default();
        }
        if last >= first {
            break;
        }
    }
    tail.reverse();
    Ok(tail)
}

/// The entries of the record that covers `first`, whose bodies are whole.
fn read_run<D: Disk>(
    disk: &D,
    identity: &Identity,
    group: GroupId,
    first: LogIndex,
    location: Location,
) -> Result<Vec<Entry>, OpenError> {
    let (file, byte) = (segment::name(location.segment), location.offset);
    let bytes = disk.read_at(&file, byte, location.bytes as usize)?;
    let seed = segment::seed(identity, location.segment);
    entries_in(&bytes.into(), seed, group, first).ok_or_else(|| {
        let what = "it read well a moment ago".to_string();
        OpenError::Damaged { file, byte, what }
    })
}

/// The entries with whole bodies of the record of a group that covers `index`: the last one of the batch to do
/// so. `None` if the batch does not read.
pub(crate) fn entries_in(
    bytes: &Bytes,
    seed: u32,
    group: GroupId,
    index: LogIndex,
) -> Option<Vec<Entry>> {
    let decoded = batch::decode(bytes, &Header::read(bytes, seed)?, seed).ok()?;
    let covering = decoded.records.into_iter().rev().find(|record| {
        record.group == group && record.entries.iter().any(|entry| entry.id.index == index)
    });
    let whole = |entry: &Entry| !decoded.bad_bodies.contains(&(group, entry.id));
    Some(covering.map_or(Vec::new(), |record| record.entries.into_iter().filter(whole).collect()))
}
