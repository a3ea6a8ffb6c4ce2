//! A disk in memory that can die in the middle of a write, fail, and rot.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Cursor, Read};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, Entry, EntryId, EntryKind, GroupId, HardState, Incarnation, LogIndex, NodeId,
    Record, Recovered, SnapshotInput, SnapshotMeta, SnapshotOutput, Term, Time, WriteMark,
};
use quorate_storage::{
    Completion, Disk, FileInfo, Identity, OpenError, Operation, Storage, StorageEvent,
    StorageOptions, Ticket,
};

pub(crate) const IDENTITY: Identity =
    Identity { cluster: ClusterId(1), node: NodeId(2), incarnation: Incarnation(3) };
pub(crate) const G1: GroupId = GroupId(1);
pub(crate) const G2: GroupId = GroupId(2);

/// Small enough that every few records begin a new segment.
pub(crate) const SMALL: StorageOptions = StorageOptions { segment_bytes: 1_200, ..LARGE };
pub(crate) const LARGE: StorageOptions = StorageOptions {
    segment_bytes: 1 << 16,
    batch_bytes: 1 << 20,
    tail_bytes: 1 << 20,
    idle: Duration::from_millis(100),
    snapshot_bytes_per_second: u64::MAX,
    reserve_bytes: 0,
    free_bytes_min: 0,
    alone: false,
};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Files, and the operations that were submitted and not carried out yet. Clones share both.
#[derive(Clone)]
pub(crate) struct TestDisk {
    pub(crate) files: Rc<RefCell<Files>>,
    /// What it says is free.
    pub(crate) free: Rc<Cell<u64>>,
    queue: Rc<RefCell<VecDeque<(Ticket, Operation)>>>,
}

impl TestDisk {
    pub(crate) fn with(files: Files) -> Self {
        let files = Rc::new(RefCell::new(files));
        Self { files, free: Rc::new(Cell::new(u64::MAX)), queue: Rc::default() }
    }

    /// What a restart would find.
    pub(crate) fn found(&self) -> Files {
        self.files.borrow().clone()
    }

    pub(crate) fn next(&self) -> Option<(Ticket, Operation)> {
        self.queue.borrow_mut().pop_front()
    }

    /// Carries out an operation; of a write, only the first `bytes_max` bytes.
    pub(crate) fn carry_out(&self, operation: &Operation, bytes_max: usize) -> io::Result<Bytes> {
        let files = &mut *self.files.borrow_mut();
        match operation {
            Operation::Create { name, bytes } => {
                files.insert(name.clone(), vec![0; *bytes as usize]);
            }
            Operation::Write { name, offset, data, .. } => {
                let file = files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
                let data = &data[..data.len().min(bytes_max)];
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                file.resize(file.len().max(end), 0);
                file[start..end].copy_from_slice(data);
            }
            Operation::Read { name, offset, length } => {
                let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
                let start = (*offset as usize).min(file.len());
                let end = start.saturating_add(*length).min(file.len());
                return Ok(Bytes::copy_from_slice(&file[start..end]));
            }
            Operation::Rename { from, to } => {
                let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
                files.insert(to.clone(), file);
            }
            Operation::Trim { name, bytes } => {
                let file = files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
                let unused = file.split_off(*bytes as usize);
                assert!(unused.iter().all(|byte| *byte == 0), "{name}, byte {bytes}: not unused");
            }
            Operation::Remove { name } => {
                files.remove(name);
            }
        }
        Ok(Bytes::new())
    }
}

impl Disk for TestDisk {
    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let files = self.files.borrow();
        let info = |(name, file): (&String, &Vec<u8>)| FileInfo {
            name: name.clone(),
            bytes: file.len() as u64,
        };
        Ok(files.iter().map(info).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free.get())
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let read = Operation::Read { name: name.to_string(), offset, length };
        self.carry_out(&read, usize::MAX).map(|bytes| bytes.to_vec())
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let bytes = self.read_at(name, offset, usize::MAX)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn submit(&mut self, ticket: Ticket, operation: Operation) {
        self.queue.borrow_mut().push_back((ticket, operation));
    }
}

/// A storage on a test disk.
pub(crate) struct Bench {
    pub(crate) disk: TestDisk,
    pub(crate) storage: Storage<TestDisk>,
    pub(crate) events: Vec<StorageEvent>,
}

pub(crate) type Groups = BTreeMap<GroupId, Recovered>;

impl Bench {
    pub(crate) fn open(files: Files, options: StorageOptions) -> Result<(Self, Groups), OpenError> {
        let disk = TestDisk::with(files);
        let (storage, groups) = Storage::open(disk.clone(), IDENTITY, options)?;
        Ok((Self { disk, storage, events: Vec::new() }, groups))
    }

    pub(crate) fn new(options: StorageOptions) -> Self {
        Self::open(Files::new(), options).expect("an empty directory opens").0
    }

    /// Carries out everything that was submitted, and what follows from it.
    pub(crate) fn settle(&mut self) {
        while let Some((ticket, operation)) = self.disk.next() {
            let result = self.disk.carry_out(&operation, usize::MAX);
            self.storage.complete(Completion { ticket, result }, &mut self.events);
        }
    }

    /// Carries out at most so many operations; returns how many are left to carry out.
    pub(crate) fn settle_at_most(&mut self, mut operations: usize) -> usize {
        while operations > 0
            && let Some((ticket, operation)) = self.disk.next()
        {
            operations -= 1;
            let result = self.disk.carry_out(&operation, usize::MAX);
            self.storage.complete(Completion { ticket, result }, &mut self.events);
        }
        operations
    }

    /// Queues a record.
    pub(crate) fn persist(&mut self, group: GroupId, mark: u64, record: Record) {
        self.storage.persist(group, WriteMark(mark), record);
    }

    /// Begins to write what is queued.
    pub(crate) fn flush(&mut self) {
        self.flush_at(Time::ZERO);
    }

    /// The same, at some time.
    pub(crate) fn flush_at(&mut self, now: Time) {
        self.storage.flush(now, &mut self.events);
    }

    /// Writes a record durably.
    pub(crate) fn write(&mut self, group: GroupId, mark: u64, record: Record) {
        self.persist(group, mark, record);
        self.flush();
        self.settle();
    }

    /// The newest mark of a group that the storage vouched for.
    pub(crate) fn durable(&self, of: GroupId) -> u64 {
        let marks = self.events.iter().filter_map(|event| match event {
            StorageEvent::Persisted { group, mark } if *group == of => Some(mark.0),
            _ => None,
        });
        marks.max().unwrap_or(0)
    }

    /// A restart on what is on the disk.
    pub(crate) fn reopen(&self, options: StorageOptions) -> Result<(Self, Groups), OpenError> {
        Self::open(self.disk.found(), options)
    }
}

pub(crate) fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(LogIndex(index), Term(term))
}

pub(crate) fn entry(index: u64, term: u64) -> Entry {
    let data = Bytes::from(format!("set x={index} in {term}"));
    Entry::new(id(index, term), EntryKind::Command, data)
}

pub(crate) fn vote(term: u64, node: u64) -> Record {
    let hard_state = Some(HardState { term: Term(term), voted_for: Some(NodeId(node)) });
    Record { hard_state, ..Record::default() }
}

pub(crate) fn append(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Record {
    Record { entries: indexes.map(|index| entry(index, term)).collect(), ..Record::default() }
}

pub(crate) fn replace(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Record {
    Record { truncate_from: Some(LogIndex(*indexes.start())), ..append(indexes, term) }
}

/// `1@1 2@1 3@2`
pub(crate) fn shape(recovered: &Recovered) -> String {
    let ids: Vec<String> = recovered.tail.iter().map(|entry| entry.id.to_string()).collect();
    ids.join(" ")
}

pub(crate) fn meta(last: EntryId) -> SnapshotMeta {
    SnapshotMeta { last, membership: Bytes::from_static(b"members") }
}

/// Gives a group a finished snapshot that ends with this entry.
pub(crate) fn snapshot(bench: &mut Bench, group: GroupId, last: EntryId, pieces: &[&'static str]) {
    let mut work = vec![SnapshotOutput::Begin { meta: meta(last) }];
    let mut offset = 0;
    for piece in pieces {
        work.push(SnapshotOutput::Write { offset, bytes: Bytes::from_static(piece.as_bytes()) });
        offset += piece.len() as u64;
    }
    work.push(SnapshotOutput::Finish);
    for work in work {
        bench.storage.snapshot(group, work, &mut bench.events);
        bench.settle();
    }
}

/// What the newest snapshot of group 1 holds.
pub(crate) fn load(bench: &mut Bench) -> String {
    bench.events.clear();
    bench.storage.snapshot(G1, SnapshotOutput::Load, &mut bench.events);
    bench.settle();
    for event in bench.events.drain(..) {
        if let StorageEvent::Snapshot { news: SnapshotInput::Loaded { mut reader, .. }, .. } = event
        {
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("it reads");
            return text;
        }
    }
    panic!("nothing was loaded")
}
