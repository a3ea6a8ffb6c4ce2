//! What a directory holds, for people: reads everything, changes nothing, and goes on where it can when something
//! is damaged.

use quorate_contracts::{EntryId, GroupId, HardState, LogIndex, WriteMark};

use crate::index::GroupIndex;
use crate::recovery::{ANY_SNAPSHOT, Scan};
use crate::walk::{Damage, Extent, Step, walk};
use crate::{Disk, FileInfo, Identity, OpenError, segment, snapshot};

/// What a directory holds.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The segments that the log needs, oldest first.
    pub segments: Vec<SegmentReport>,
    /// How each group stands by the log.
    pub groups: Vec<GroupReport>,
    /// The finished snapshots.
    pub snapshots: Vec<SnapshotReport>,
    /// Files that the next start removes or takes over.
    pub leftovers: Vec<String>,
    /// What is damaged or missing.
    pub problems: Vec<Problem>,
    /// What a node that starts with it would do.
    pub start: Start,
}

/// What a node that starts with a directory would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// Everything that it ever vouched for is there.
    #[default]
    Whole,
    /// It starts, and gets from the other members what is lost; alone, it refuses.
    Mends,
    /// It refuses to start.
    Refuses(String),
}

/// A segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// Its file.
    pub file: String,
    /// Number of its first batch.
    pub first_batch: u64,
    /// The oldest segment that was needed when it was begun.
    pub oldest_needed: u64,
    /// Batches that read.
    pub batches: u64,
    /// Entries in them, of all groups.
    pub entries: u64,
    /// Where the last of them ends.
    pub used_bytes: u64,
    /// The log was idle, and noted up to which batch it is durable.
    pub durable_batch: Option<u64>,
    /// What a crash tore at its end. It was acknowledged to nobody.
    pub torn: Option<TornReport>,
}

/// A write that a crash cut short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornReport {
    /// Where it begins.
    pub byte: u64,
    /// What is wrong with it.
    pub what: String,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupReport {
    /// Which one.
    pub group: GroupId,
    /// Its newest term and vote.
    pub hard_state: HardState,
    /// Its newest write mark.
    pub mark: WriteMark,
    /// The log begins after this entry.
    pub base: EntryId,
    /// Its last entry.
    pub last: EntryId,
    /// Where members change.
    pub memberships: Vec<LogIndex>,
    /// Entries whose headers are good and whose data is not.
    pub damaged: Vec<EntryId>,
    /// Up to where entries may have been lost with their headers.
    pub lost: Option<LogIndex>,
}

/// A finished snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotReport {
    /// Its file.
    pub file: String,
    /// Of which group.
    pub group: GroupId,
    /// The last entry it covers.
    pub last: EntryId,
    /// Size of its content.
    pub bytes: u64,
}

/// Something damaged or missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file, if it is about one.
    pub file: Option<String>,
    /// Where in it, if that is known.
    pub byte: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Reads all of a directory.
pub fn inspect<D: Disk>(disk: &D, identity: &Identity) -> Result<Inspection, OpenError> {
    let files = disk.list()?;
    let (mut found, mut scan) = (Inspection::default(), Scan::default());
    let walked = walk(disk, identity, &files, &mut |step| {
        found.meet(&step);
        scan.take(step);
    });
    let mut judged = scan.clone();
    found.start = start(disk, identity, &files, &walked, &mut judged);
    // Damaged snapshots are looked at one by one below; those that are missing are not among the files.
    let missing = judged.damage.into_iter().filter(|damage| damage.file.ends_with(ANY_SNAPSHOT));
    found.problems.extend(missing.map(Problem::from));
    match walked {
        Ok(extent) => found.leftovers.extend(extent.leftovers),
        Err(error) => found.problems.push(error.into()),
    }
    found.groups = groups(&scan);
    found.problems.extend(scan.damage.into_iter().map(Problem::from));
    found.snapshots(disk, identity, &files);
    Ok(found)
}

/// What recovery makes of what was read.
fn start<D: Disk>(
    disk: &D,
    identity: &Identity,
    files: &[FileInfo],
    walked: &Result<Extent, OpenError>,
    scan: &mut Scan,
) -> Start {
    if let Err(error) = walked {
        return Start::Refuses(error.to_string());
    }
    match scan.judge(disk, identity, files) {
        Err(error) => Start::Refuses(error.to_string()),
        Ok(_) if scan.groups.values().all(GroupIndex::is_whole) => Start::Whole,
        Ok(_) => Start::Mends,
    }
}

impl Inspection {
    fn meet(&mut self, step: &Step) {
        if let Step::Segment(header) = step {
            self.segments.push(SegmentReport {
                file: segment::name(header.number),
                first_batch: header.first_batch,
                oldest_needed: header.oldest,
                batches: 0,
                entries: 0,
                used_bytes: segment::HEADER_BYTES,
                durable_batch: None,
                torn: None,
            });
        }
        if let Step::Unborn { number } = step {
            self.leftovers.push(segment::name(*number));
        }
        let Some(segment) = self.segments.last_mut() else { return };
        match step {
            Step::Batch { location, decoded } => {
                segment.batches += 1;
                let entries = decoded.records.iter().map(|record| record.entries.len() as u64);
                segment.entries += entries.sum::<u64>();
                segment.used_bytes = location.offset + location.bytes;
            }
            Step::Mark { durable, .. } => segment.durable_batch = Some(*durable),
            // A tear is told once the next segment, or the end, shows that it was one.
            Step::Torn { offset, what } => {
                segment.torn = Some(TornReport { byte: *offset, what: what.clone() });
            }
            Step::Segment(_) | Step::Unborn { .. } | Step::Damage(_) => {}
        }
    }

    fn snapshots<D: Disk>(&mut self, disk: &D, identity: &Identity, files: &[FileInfo]) {
        for info in files {
            match snapshot::inspect(disk, identity, &info.name) {
                Some(Ok((group, meta, bytes))) => {
                    let (file, last) = (info.name.clone(), meta.last);
                    self.snapshots.push(SnapshotReport { file, group, last, bytes });
                }
                Some(Err(error)) => self.problems.push(error.into()),
                None if info.name.ends_with(".unfinished") => {
                    self.leftovers.push(info.name.clone());
                }
                None => {}
            }
        }
    }
}

fn groups(scan: &Scan) -> Vec<GroupReport> {
    let report = |(group, index): (&GroupId, &GroupIndex)| GroupReport {
        group: *group,
        hard_state: index.hard_state,
        mark: index.mark,
        base: index.base,
        last: index.last,
        memberships: index.memberships.keys().copied().collect(),
        damaged: index.damaged.iter().filter_map(|at| index.id_at(*at)).collect(),
        lost: index.lost,
    };
    scan.groups.iter().map(report).collect()
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Self {
        Self { file: Some(damage.file), byte: Some(damage.byte), what: damage.what }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::MissingSegment { file } => {
                Self { file: Some(file), byte: None, what: "it is missing".to_string() }
            }
            OpenError::MissingSnapshot { file, what } => {
                Self { file: Some(file), byte: None, what }
            }
            OpenError::BadSegment { file, what } => {
                Self { file: Some(file), byte: Some(0), what: what.to_string() }
            }
            OpenError::Damaged { file, byte, what }
            | OpenError::DamagedSnapshot { file, byte, what } => {
                Self { file: Some(file), byte: Some(byte), what }
            }
            other => Self { file: None, byte: None, what: other.to_string() },
        }
    }
}
