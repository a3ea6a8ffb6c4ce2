//! One node's storage on a simulated disk, and a model of what it was given.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, Entry, EntryId, EntryKind, GroupId, HardState, Incarnation, LogIndex, NodeId,
    Random, Record, Recovered, Room, SnapshotInput, SnapshotMeta, SnapshotOutput, Term, Time,
    WriteMark,
};
use quorate_sim::{DiskFaults, Lane, SimDisk};
use quorate_storage::{Identity, OpenError, Storage, StorageEvent, StorageOptions};

pub(crate) const IDENTITY: Identity =
    Identity { cluster: ClusterId(1), node: NodeId(2), incarnation: Incarnation(3) };
pub(crate) const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

/// Small, so that segments follow each other quickly.
pub(crate) const OPTIONS: StorageOptions = StorageOptions {
    segment_bytes: 16 << 10,
    batch_bytes: 8 << 10,
    tail_bytes: 1 << 20,
    idle: Duration::from_millis(100),
    snapshot_bytes_per_second: u64::MAX,
    reserve_bytes: 0,
    free_bytes_min: 0,
    alone: false,
};

/// One group as the storage was told of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Model {
    pub(crate) hard_state: HardState,
    pub(crate) base: EntryId,
    pub(crate) entries: BTreeMap<LogIndex, Entry>,
}

impl Model {
    pub(crate) fn last(&self) -> EntryId {
        self.entries.values().next_back().map_or(self.base, |entry| entry.id)
    }

    fn take(&mut self, record: &Record) {
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        if let Some(base) = record.base {
            self.entries = self.entries.split_off(&base.index.next());
            self.base = base;
        }
        if let Some(from) = record.truncate_from {
            self.entries.split_off(&from);
        }
        self.entries.extend(record.entries.iter().map(|entry| (entry.id.index, entry.clone())));
    }

    /// What recovery hands back, as a model again.
    fn of(found: &Recovered) -> Self {
        let entries = found.tail.iter().map(|entry| (entry.id.index, entry.clone())).collect();
        Self { hard_state: found.hard_state, base: found.base, entries }
    }
}

/// One group: how it stood after each record, and how far that was vouched for.
#[derive(Clone, Default)]
pub(crate) struct History {
    after: BTreeMap<WriteMark, Model>,
    pub(crate) now: Model,
    pub(crate) mark: WriteMark,
    pub(crate) vouched: WriteMark,
    /// The newest snapshot that was finished, and what is in it.
    snapshot: EntryId,
}

/// A node.
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) storage: Storage<SimDisk>,
    pub(crate) histories: BTreeMap<GroupId, History>,
    pub(crate) events: Vec<StorageEvent>,
    pub(crate) now: Time,
    /// What room it was told of.
    pub(crate) room: Room,
    options: StorageOptions,
    /// Snapshots that wait for their next step, by group.
    taking: BTreeMap<GroupId, EntryId>,
}

impl Node {
    pub(crate) fn new(faults: DiskFaults, seed: u64) -> Self {
        Self::with(faults, seed, OPTIONS)
    }

    pub(crate) fn with(faults: DiskFaults, seed: u64, options: StorageOptions) -> Self {
        let disk = SimDisk::new(faults, Random::new(seed));
        let (storage, found) =
            Storage::open(disk.clone(), IDENTITY, options).expect("an empty disk opens");
        assert!(found.is_empty());
        let histories = GROUPS.into_iter().map(|group| (group, History::default())).collect();
        let (events, taking) = (Vec::new(), BTreeMap::new());
        let (now, room) = (Time::ZERO, Room::Enough);
        Self { disk, storage, options, histories, events, now, room, taking }
    }

    /// Gives the storage a record.
    pub(crate) fn persist(&mut self, group: GroupId, record: Record) {
        let history = self.histories.get_mut(&group).expect("the group is one of ours");
        history.mark = history.mark.next();
        history.now.take(&record);
        history.after.insert(history.mark, history.now.clone());
        self.storage.persist(group, history.mark, record);
    }

    /// A record of whatever kind.
    pub(crate) fn persist_anything(&mut self, group: GroupId, random: &mut Random) {
        let history = &self.histories[&group];
        let (mut model, snapshot) = (history.now.clone(), history.snapshot);
        let covered = self.taking.get(&group).copied().unwrap_or(snapshot);
        let mut record = Record::default();
        if random.chance_ppm(200_000) {
            model.hard_state.term = model.hard_state.term.next();
            model.hard_state.voted_for = Some(NodeId(random.between(1, 3)));
            record.hard_state = Some(model.hard_state);
        }
        let index = LogIndex(snapshot.index.0.saturating_sub(random.below(3)));
        if index > model.base.index && random.chance_ppm(300_000) {
            record.base = model.entries.get(&index).map(|entry| entry.id);
        }
        let begins_after = record.base.unwrap_or(model.base).index;
        let mut last = model.last();
        if last.index > begins_after && random.chance_ppm(150_000) {
            let from = LogIndex(random.between(begins_after.0 + 1, last.index.0));
            let before = from.prev().and_then(|index| model.entries.get(&index));
            // What the snapshot covers is committed.
            if from > covered.index {
                last = before.map_or(record.base.unwrap_or(model.base), |entry| entry.id);
                record.truncate_from = Some(from);
            }
        }
        let term = model.hard_state.term.max(last.term);
        for i in 1..=random.below(4) {
            let size = [3, 40, 700, 2_500][random.below(4) as usize];
            let id = EntryId::new(LogIndex(last.index.0 + i), term);
            let data = vec![random.next_u64() as u8; size];
            record.entries.push(Entry::new(id, EntryKind::Command, data.into()));
        }
        if record.is_empty() {
            record.hard_state = Some(model.hard_state);
        }
        self.persist(group, record);
    }

    /// Begins a snapshot up to what was vouched for.
    pub(crate) fn begin_snapshot(&mut self, group: GroupId) {
        let history = &self.histories[&group];
        let Some(durable) = history.after.get(&history.vouched) else { return };
        // What is covered must stay: nothing that is committed is truncated later.
        let last = durable.last();
        let held = history.now.entries.get(&last.index).is_some_and(|entry| entry.id == last);
        if last.index <= history.snapshot.index || !held || self.taking.contains_key(&group) {
            return;
        }
        self.taking.insert(group, last);
        let meta = SnapshotMeta { last, membership: Bytes::new() };
        let bytes = content(last);
        for work in [
            SnapshotOutput::Begin { meta },
            SnapshotOutput::Write { offset: 0, bytes },
            SnapshotOutput::Finish,
        ] {
            self.storage.snapshot(group, work, &mut self.events);
        }
        self.take_events();
    }

    pub(crate) fn flush(&mut self) {
        self.storage.flush(self.now, &mut self.events);
        self.take_events();
    }

    /// Lets a lane carry out its next operation; false if there is none.
    pub(crate) fn carry_out(&mut self, lane: Lane) -> bool {
        let Some(completion) = self.disk.carry_out(lane) else { return false };
        self.storage.complete(completion, &mut self.events);
        self.take_events();
        true
    }

    /// Lets everything be carried out, and what follows from it.
    pub(crate) fn settle(&mut self) {
        self.flush();
        while self.carry_out(Lane::Aside) || self.carry_out(Lane::Log) {}
    }

    /// A log that is idle for long enough says so.
    pub(crate) fn rest(&mut self) {
        self.settle();
        self.now += OPTIONS.idle;
        self.settle();
    }

    fn take_events(&mut self) {
        for event in self.events.drain(..) {
            match event {
                StorageEvent::Persisted { group, mark } => {
                    self.histories.entry(group).or_default().vouched = mark;
                }
                StorageEvent::Room { room, .. } => self.room = room,
                StorageEvent::Snapshot { group, news: SnapshotInput::Finished { meta, .. } } => {
                    self.taking.remove(&group);
                    self.histories.entry(group).or_default().snapshot = meta.last;
                }
                StorageEvent::Snapshot { group, news: SnapshotInput::Cancelled { .. } } => {
                    self.taking.remove(&group);
                }
                _ => {}
            }
        }
    }

    /// The node starts on this disk: everything that was vouched for must be there, as part of what it was
    /// given.
    pub(crate) fn start(self, disk: SimDisk) -> Result<Self, OpenError> {
        self.twin(disk)
    }

    /// The same node, to be started on several disks.
    pub(crate) fn twin(&self, disk: SimDisk) -> Result<Self, OpenError> {
        let (storage, found) = Storage::open(disk.clone(), IDENTITY, self.options)?;
        let mut histories = self.histories.clone();
        for (group, history) in &mut histories {
            history.check(*group, &found.get(group).cloned().unwrap_or_default());
        }
        let (events, taking) = (Vec::new(), BTreeMap::new());
        let (now, room, options) = (self.now, Room::Enough, self.options);
        Ok(Self { disk, storage, options, histories, events, now, room, taking })
    }
}

/// What a snapshot up to an entry holds.
fn content(last: EntryId) -> Bytes {
    format!("everything up to {last} ").repeat(40).into()
}

impl History {
    /// What was found is how the group stood at some time, and not before it was vouched for.
    fn check(&mut self, group: GroupId, found: &Recovered) {
        assert!(
            found.mark >= self.vouched,
            "group {group}: {} was vouched for, only {} is there",
            self.vouched,
            found.mark
        );
        let model = Model::of(found);
        let mut expected = self.after.get(&found.mark).cloned().unwrap_or_default();
        if let Some((meta, _)) = &found.snapshot
            && found.base != expected.base
        {
            // Nothing that a snapshot covers is needed from the log.
            assert_eq!(found.base, meta.last, "group {group}");
            expected.take(&Record { base: Some(meta.last), ..Record::default() });
        }
        assert_eq!(model.hard_state, expected.hard_state, "group {group}, {}", found.mark);
        assert_eq!(model.base, expected.base, "group {group}, {}", found.mark);
        assert_eq!(model.entries, expected.entries, "group {group}, {}", found.mark);
        assert_eq!(found.last, expected.last(), "group {group}, {}", found.mark);
        self.snapshot = found.snapshot.as_ref().map_or(EntryId::ZERO, |(meta, _)| meta.last);
        (self.mark, self.vouched, self.now) = (found.mark, found.mark, expected);
        self.after.retain(|mark, _| *mark <= found.mark);
    }
}

/// A leader's first words in a term: for scripts.
pub(crate) fn append(from: u64, to: u64, term: u64, size: usize) -> Record {
    let entry = |index| {
        let data = Bytes::from(format!("{index:>size$}"));
        Entry::new(EntryId::new(LogIndex(index), Term(term)), EntryKind::Command, data)
    };
    Record { entries: (from..=to).map(entry).collect(), ..Record::default() }
}
