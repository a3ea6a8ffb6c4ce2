//! A disk in memory that does to files what disks do: forgets what was not synced, sector by sector and in any
//! order; tears sectors; fails syncs and keeps quiet about it afterwards; fills up; loses names; rots.
//!
//! Two lanes carry operations out, as the threads of `server` do, each in the order of submission; the driver
//! says when.
//!
//! What a reader sees is the *cache*. A sync makes a file's sectors durable; until then each sector may, at a crash, be
//! found with any content that it had since the last sync, or torn between two of them. Names are durable once a
//! rename was carried out, or a file of a size made; until then each change of a name may be lost, apart from the others.
//!
//! Not here: latency, which is the driver's; and lies (a disk that vouches for what it did not write).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};
use std::rc::Rc;

use bytes::Bytes;
use quorate_contracts::Random;
use quorate_storage::{Completion, Disk, FileInfo, Operation, Ticket};

/// What a disk writes as one.
pub const SECTOR_BYTES: usize = 512;

/// How a batch of the log begins (`docs/storage.md`), and at multiples of what.
const BATCH_MAGIC: &[u8] = b"QBCH";
const BATCH_BLOCK_BYTES: u64 = 64;

/// How bad a disk is. Rates are chances in a million.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskFaults {
    /// A sector that a crash caught is half old and half new.
    pub torn_ppm: u32,
    /// A sync, or a rename, fails: what it was to make durable may be or not, and no later sync will.
    pub sync_failure_ppm: u32,
    /// A read that was submitted fails.
    pub read_failure_ppm: u32,
    /// What all files together may take.
    pub capacity_bytes: u64,
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            torn_ppm: 200_000,
            sync_failure_ppm: 0,
            read_failure_ppm: 0,
            capacity_bytes: u64::MAX,
        }
    }
}

/// Who carries an operation out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Writes of the log.
    Log,
    /// What the log need not wait for.
    Aside,
}

/// A directory of files. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk(Rc<RefCell<State>>);

#[derive(Clone, Debug)]
struct State {
    faults: DiskFaults,
    random: Random,
    files: BTreeMap<FileId, File>,
    next_file: FileId,
    names: Names,
    durable_names: Names,
    /// Changes of names since the last sync of the directory.
    changes: Vec<NameChange>,
    lanes: BTreeMap<Lane, VecDeque<(Ticket, Operation)>>,
}

type FileId = u64;
type Names = BTreeMap<String, FileId>;
type Sector = [u8; SECTOR_BYTES];
type Sectors = BTreeMap<u64, Sector>;

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, FileId),
    Rename(String, String),
    Unlink(String),
}

/// A file; sectors that were never written are zeros.
#[derive(Clone, Debug, Default)]
struct File {
    bytes: u64,
    durable_bytes: u64,
    cache: Sectors,
    durable: Sectors,
    /// What each sector was written with since the last sync, oldest first.
    dirty: BTreeMap<u64, Vec<Sector>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(faults: DiskFaults, random: Random) -> Self {
        Self(Rc::new(RefCell::new(State {
            faults,
            random,
            files: BTreeMap::new(),
            next_file: 0,
            names: Names::new(),
            durable_names: Names::new(),
            changes: Vec::new(),
            lanes: BTreeMap::new(),
        })))
    }

    /// A disk of its own with the same content and the same operations waiting.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// From here on it is this bad.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.0.borrow_mut().faults = faults;
    }

    /// From here on its files may take so many bytes together. What they take already they keep.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.borrow_mut().faults.capacity_bytes = bytes;
    }

    /// What its files take together.
    pub fn used_bytes(&self) -> u64 {
        self.0.borrow().used_bytes()
    }

    /// The operation that a lane carries out next.
    pub fn next(&self, lane: Lane) -> Option<Operation> {
        let state = self.0.borrow();
        state.lanes.get(&lane)?.front().map(|(_, operation)| operation.clone())
    }

    /// Carries out what a lane has next.
    pub fn carry_out(&self, lane: Lane) -> Option<Completion> {
        let state = &mut *self.0.borrow_mut();
        let (ticket, operation) = state.lanes.get_mut(&lane)?.pop_front()?;
        Some(Completion { ticket, result: state.carry_out(&operation) })
    }

    /// The power goes. Each lane may have begun what it had next; what was not synced is there or not, sector
    /// by sector.
    pub fn crash(&self) {
        let state = &mut *self.0.borrow_mut();
        for (_, mut lane) in std::mem::take(&mut state.lanes) {
            if let Some((_, operation)) = lane.pop_front()
                && state.random.chance_ppm(500_000)
            {
                state.begin(&operation);
            }
        }
        state.forget_names();
        let State { files, random, faults, .. } = state;
        files.values_mut().for_each(|file| file.crash(random, faults.torn_ppm));
    }

    /// The power goes while the log's next write is under way: of its sectors, exactly these made it, counted
    /// from its first. Everything else that was not synced is lost.
    pub fn crash_within_write(&self, survives: impl Fn(usize) -> bool) {
        let state = &mut *self.0.borrow_mut();
        let next = state.lanes.get_mut(&Lane::Log).and_then(VecDeque::pop_front);
        state.lanes.clear();
        state.changes.clear();
        state.forget_names();
        state.files.values_mut().for_each(File::lose);
        if let Some((_, Operation::Write { name, offset, data, .. })) = next
            && let Some(file) = state.file(&name)
        {
            file.write(offset, &data);
            file.keep(offset / SECTOR_BYTES as u64, survives);
        }
    }

    /// A bit rots. Returns whether the file is that long.
    pub fn rot(&self, name: &str, byte: u64, bit: u8) -> bool {
        let state = &mut *self.0.borrow_mut();
        state.file(name).is_some_and(|file| file.rot(byte, bit))
    }

    /// Where each batch of the log begins, by file, in order: what may rot.
    pub fn batches(&self) -> Vec<(String, Vec<u64>)> {
        let state = &mut *self.0.borrow_mut();
        let names = state.names.keys().filter(|name| name.ends_with(".log")).cloned();
        let files: Vec<String> = names.collect();
        let begins = |bytes: &[u8]| {
            let blocks = bytes.chunks(BATCH_BLOCK_BYTES as usize).zip(0_u64..);
            let heads = blocks.filter(|(block, _)| block.starts_with(BATCH_MAGIC));
            heads.map(|(_, nth)| nth * BATCH_BLOCK_BYTES).collect()
        };
        let read = |name: String| {
            let bytes = state.file(&name).map(|file| file.read(0, usize::MAX));
            let found = begins(&bytes.unwrap_or_default());
            (name, found)
        };
        files.into_iter().map(read).collect()
    }

    /// Two files change their names.
    pub fn swap(&self, one: &str, other: &str) {
        let state = &mut *self.0.borrow_mut();
        for names in [&mut state.names, &mut state.durable_names] {
            if let (Some(a), Some(b)) = (names.get(one).copied(), names.get(other).copied()) {
                names.insert(one.to_string(), b);
                names.insert(other.to_string(), a);
            }
        }
    }

    /// A file is gone.
    pub fn lose_file(&self, name: &str) {
        let state = &mut *self.0.borrow_mut();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let state = self.0.borrow();
        let info = |(name, id): (&String, &FileId)| FileInfo {
            name: name.clone(),
            bytes: state.files.get(id).map_or(0, |file| file.bytes),
        };
        Ok(state.names.iter().map(info).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.0.borrow();
        Ok(state.faults.capacity_bytes.saturating_sub(state.used_bytes()))
    }

    fn read_at(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let state = &mut *self.0.borrow_mut();
        Ok(state.file(name).ok_or(io::ErrorKind::NotFound)?.read(offset, length))
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(Cursor::new(self.read_at(name, offset, usize::MAX)?)))
    }

    fn submit(&mut self, ticket: Ticket, operation: Operation) {
        let lane = if operation.is_aside() { Lane::Aside } else { Lane::Log };
        self.0.borrow_mut().lanes.entry(lane).or_default().push_back((ticket, operation));
    }
}

impl State {
    fn file(&mut self, name: &str) -> Option<&mut File> {
        self.files.get_mut(self.names.get(name)?)
    }

    fn carry_out(&mut self, operation: &Operation) -> io::Result<Bytes> {
        match operation {
            Operation::Create { name, bytes } => {
                self.create(name, *bytes)?;
                if *bytes > 0 {
                    self.sync_names();
                }
            }
            Operation::Write { name, offset, data, sync } => {
                self.write(name, *offset, data)?;
                if *sync {
                    self.sync(name)?;
                }
            }
            Operation::Read { name, offset, length } => {
                if self.random.chance_ppm(self.faults.read_failure_ppm) {
                    return Err(io::Error::other("a sector cannot be read"));
                }
                let file = self.file(name).ok_or(io::ErrorKind::NotFound)?;
                return Ok(file.read(*offset, *length).into());
            }
            Operation::Rename { from, to } => {
                self.rename(from, to)?;
                self.fail_now_and_then()?;
                self.sync_names();
            }
            Operation::Trim { name, bytes } => self.trim(name, *bytes),
            Operation::Remove { name } => self.remove(name),
        }
        Ok(Bytes::new())
    }

    /// An operation that a crash catches: nothing of it is synced.
    fn begin(&mut self, operation: &Operation) {
        // What comes of it is told to nobody.
        let _ = match operation {
            Operation::Create { name, bytes } => self.create(name, *bytes),
            Operation::Write { name, offset, data, .. } => self.write(name, *offset, data),
            Operation::Rename { from, to } => self.rename(from, to),
            Operation::Trim { name, bytes } => {
                self.trim(name, *bytes);
                Ok(())
            }
            Operation::Remove { name } => {
                self.remove(name);
                Ok(())
            }
            Operation::Read { .. } => Ok(()),
        };
    }

    fn create(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        if self.names.contains_key(name) {
            self.remove(name);
        }
        self.take_space(bytes)?;
        self.next_file += 1;
        let file = File { bytes, durable_bytes: bytes, ..File::default() };
        self.files.insert(self.next_file, file);
        self.names.insert(name.to_string(), self.next_file);
        self.changes.push(NameChange::Link(name.to_string(), self.next_file));
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let file = self.file(name).ok_or(io::ErrorKind::NotFound)?;
        let grows = (offset + data.len() as u64).saturating_sub(file.bytes);
        self.take_space(grows)?;
        if let Some(file) = self.file(name) {
            file.write(offset, data);
        }
        Ok(())
    }

    fn trim(&mut self, name: &str, bytes: u64) {
        if let Some(file) = self.file(name) {
            file.trim(bytes);
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.bytes).sum()
    }

    fn take_space(&self, bytes: u64) -> io::Result<()> {
        let fits =
            self.used_bytes().saturating_add(bytes) <= self.faults.capacity_bytes || bytes == 0;
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let failed = self.fail_now_and_then();
        let torn_ppm = self.faults.torn_ppm;
        let mut random = Random::new(self.random.next_u64());
        let Some(file) = self.file(name) else { return failed };
        match failed {
            Ok(()) => file.sync(),
            // The kernel keeps the new content in its cache, and calls it clean.
            Err(_) => file.settle(&mut random, torn_ppm),
        }
        failed
    }

    fn fail_now_and_then(&mut self) -> io::Result<()> {
        if self.random.chance_ppm(self.faults.sync_failure_ppm) {
            return Err(io::Error::other("the disk did not take it"));
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_string(), file);
        self.changes.push(NameChange::Rename(from.to_string(), to.to_string()));
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        if self.names.remove(name).is_some() {
            self.changes.push(NameChange::Unlink(name.to_string()));
        }
    }

    fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
        self.changes.clear();
        self.drop_nameless();
    }

    /// Each change of a name since the last sync of the directory made it or did not.
    fn forget_names(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            if self.random.chance_ppm(500_000) {
                continue;
            }
            let names = &mut self.durable_names;
            match change {
                NameChange::Link(name, file) => {
                    names.insert(name, file);
                }
                NameChange::Rename(from, to) => {
                    if let Some(file) = names.remove(&from) {
                        names.insert(to, file);
                    }
                }
                NameChange::Unlink(name) => {
                    names.remove(&name);
                }
            }
        }
        self.names = self.durable_names.clone();
        self.drop_nameless();
    }

    fn drop_nameless(&mut self) {
        let named: BTreeSet<FileId> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        self.files.retain(|id, _| named.contains(id));
    }
}

impl File {
    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let end = offset.saturating_add(length as u64).min(self.bytes);
        let mut out = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (sector, from) = (at / SECTOR_BYTES as u64, (at % SECTOR_BYTES as u64) as usize);
            let bytes = ((end - at) as usize).min(SECTOR_BYTES - from);
            match self.cache.get(&sector) {
                Some(content) => out.extend_from_slice(&content[from..from + bytes]),
                None => out.resize(out.len() + bytes, 0),
            }
            at += bytes as u64;
        }
        out
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (mut at, mut left) = (offset, data);
        while !left.is_empty() {
            let (sector, from) = (at / SECTOR_BYTES as u64, (at % SECTOR_BYTES as u64) as usize);
            let (now, later) = left.split_at(left.len().min(SECTOR_BYTES - from));
            let content = self.cache.entry(sector).or_insert([0; SECTOR_BYTES]);
            content[from..from + now.len()].copy_from_slice(now);
            self.dirty.entry(sector).or_default().push(*content);
            at += now.len() as u64;
            left = later;
        }
        self.bytes = self.bytes.max(at);
    }

    /// # Panics
    ///
    /// If something was written there: that is never given back.
    fn trim(&mut self, bytes: u64) {
        let unused = self.read(bytes, usize::MAX);
        assert!(unused.iter().all(|byte| *byte == 0), "something was written behind byte {bytes}");
        self.bytes = self.bytes.min(bytes);
    }

    fn sync(&mut self) {
        for (sector, mut contents) in std::mem::take(&mut self.dirty) {
            self.durable.extend(contents.pop().map(|content| (sector, content)));
        }
        self.durable_bytes = self.bytes;
    }

    /// Each dirty sector ends up with some content that it had, or torn between two of them.
    fn settle(&mut self, random: &mut Random, torn_ppm: u32) {
        for (sector, mut contents) in std::mem::take(&mut self.dirty) {
            let old = self.durable.get(&sector).copied().unwrap_or([0; SECTOR_BYTES]);
            contents.insert(0, old);
            let mut found = contents[random.below(contents.len() as u64) as usize];
            if random.chance_ppm(torn_ppm) {
                let from = random.below(SECTOR_BYTES as u64) as usize;
                let other = contents[random.below(contents.len() as u64) as usize];
                found[from..].copy_from_slice(&other[from..]);
            }
            self.durable.insert(sector, found);
        }
        if random.chance_ppm(500_000) {
            self.durable_bytes = self.bytes;
        }
    }

    fn crash(&mut self, random: &mut Random, torn_ppm: u32) {
        self.settle(random, torn_ppm);
        self.lose();
    }

    /// What was not synced is gone.
    fn lose(&mut self) {
        self.dirty.clear();
        self.bytes = self.durable_bytes;
        let end = self.bytes.div_ceil(SECTOR_BYTES as u64);
        self.durable.retain(|sector, _| *sector < end);
        self.cache = self.durable.clone();
    }

    /// Of what was written since the last sync, these sectors are kept, counted from `first`.
    fn keep(&mut self, first: u64, survives: impl Fn(usize) -> bool) {
        for (sector, mut contents) in std::mem::take(&mut self.dirty) {
            if survives((sector - first) as usize) {
                self.durable.extend(contents.pop().map(|content| (sector, content)));
            }
        }
        self.lose();
    }

    fn rot(&mut self, byte: u64, bit: u8) -> bool {
        let (sector, at) = (byte / SECTOR_BYTES as u64, (byte % SECTOR_BYTES as u64) as usize);
        for sectors in [&mut self.cache, &mut self.durable] {
            sectors.entry(sector).or_insert([0; SECTOR_BYTES])[at] ^= 1 << (bit % 8);
        }
        byte < self.bytes
    }
}
