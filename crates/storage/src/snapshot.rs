//! Snapshot files: written in pieces beside the log, each with its own checksum and its own sync; one
//! finished file a group.
//!
//! ```text
//! header   magic 8 | cluster 8 | group 8 | index 8 | term 8 | membership bytes 4 | membership | CRC 4
//! pieces   bytes 4 | CRC 4 | bytes ...
//! end      0 (4)   | CRC of the total 4 | total bytes 8
//! ```
//!
//! Not here: when to take one, and what is in it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, EntryId, GroupId, Incarnation, LogIndex, NodeId, SnapshotInput, SnapshotMeta,
    SnapshotOutput, Term, Time, WireReader, WireWriter,
};

use crate::disk::is_full;
use crate::{Disk, FileInfo, Identity, OpenError, Operation, Storage, StorageEvent, Ticket};

const MAGIC: &[u8; 8] = b"QRTESNP1";
pub(crate) const PIECE_HEADER_BYTES: u64 = 8;
const END_BYTES: u64 = 16;
/// More than any header takes; memberships are small.
const HEADER_BYTES_MAX: usize = 1 << 16;

/// The snapshot files of a node.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    finished: BTreeMap<GroupId, File>,
    /// Files that do not read, of groups that need a new one: kept until there is one.
    damaged: BTreeMap<GroupId, Vec<String>>,
    unfinished: BTreeMap<GroupId, File>,
    /// How many files were begun: each has a name of its own.
    begun: u64,
    pending: BTreeMap<Ticket, Pending>,
    /// Pieces that are written; told later, so that not more are written than may be in that time.
    paced: VecDeque<(Time, StorageEvent)>,
    /// When the next piece would be told at the earliest.
    free_at: Time,
}

/// A file: where its pieces are.
#[derive(Clone, Debug)]
struct File {
    meta: SnapshotMeta,
    name: String,
    /// For each piece, where it begins in the content and in the file, and its size.
    pieces: Vec<(u64, u64, u32)>,
    /// Bytes of content.
    bytes: u64,
    /// Where the next piece goes in the file.
    end: u64,
}

/// A finished file that does not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DamagedFile {
    pub(crate) group: GroupId,
    /// The last entry that it covered, as its name says.
    pub(crate) last: EntryId,
    pub(crate) file: String,
    pub(crate) byte: u64,
    pub(crate) what: String,
}

/// What to do when an operation completes.
#[derive(Debug)]
enum Pending {
    /// Something was done to this file, of which nobody needs to be told.
    Begun { group: GroupId, name: String },
    /// Tell that the file holds everything before `end`.
    Written { group: GroupId, name: String, end: u64, bytes: u32 },
    /// The file's end is durable; its name is next.
    Ended { group: GroupId, file: File },
    /// It has its name.
    Renamed { group: GroupId, file: File },
    /// A piece was read for a member.
    Piece { group: GroupId, meta: SnapshotMeta, offset: u64, last: bool, to: NodeId },
    /// A piece of a file that is to be loaded was read, to see that it is whole.
    Checked { group: GroupId, name: String, piece: usize },
}

/// `snapshot-1-4711-3.snap`: group, index and term.
pub fn finished_name(group: GroupId, last: EntryId) -> String {
    format!("snapshot-{}-{}-{}.snap", group.0, last.index, last.term)
}

/// What a finished snapshot's name says.
fn parse_finished_name(name: &str) -> Option<(GroupId, EntryId)> {
    let mut words = name.strip_prefix("snapshot-")?.strip_suffix(".snap")?.split('-');
    let mut number = || words.next()?.parse::<u64>().ok();
    let group = GroupId(number()?);
    let last = EntryId::new(LogIndex(number()?), Term(number()?));
    (finished_name(group, last) == name).then_some((group, last))
}

impl Snapshots {
    /// What the newest finished snapshot of a group stands for, and its size.
    pub(crate) fn newest(&self, group: GroupId) -> Option<(SnapshotMeta, u64)> {
        self.finished.get(&group).map(|file| (file.meta.clone(), file.bytes))
    }

    /// All groups that have one.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.finished.keys().copied()
    }

    /// When the next news is to be told.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.paced.front().map(|(at, _)| *at)
    }

    /// Finds the newest whole snapshot of each group, which is read and checked, and the damaged ones that are newer. The
    /// names of older and of unfinished ones come back.
    pub(crate) fn open<D: Disk>(
        disk: &D,
        identity: &Identity,
        files: &[FileInfo],
    ) -> Result<(Self, Vec<DamagedFile>, Vec<String>), OpenError> {
        let mut of_groups: BTreeMap<GroupId, Vec<EntryId>> = BTreeMap::new();
        for (group, last) in files.iter().filter_map(|file| parse_finished_name(&file.name)) {
            of_groups.entry(group).or_default().push(last);
        }
        let (mut snapshots, mut damaged) = (Self::default(), Vec::new());
        let mut unneeded: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        unneeded.retain(|name| name.ends_with(".unfinished"));
        for (group, mut lasts) in of_groups {
            lasts.sort_unstable();
            while let Some(last) = lasts.pop() {
                match scan(disk, identity, group, last) {
                    Ok(file) => {
                        snapshots.finished.insert(group, file);
                        break;
                    }
                    Err(OpenError::DamagedSnapshot { file, byte, what }) => {
                        damaged.push(DamagedFile { group, last, file, byte, what });
                    }
                    Err(error) => return Err(error),
                }
            }
            unneeded.extend(lasts.into_iter().map(|last| finished_name(group, last)));
        }
        Ok((snapshots, damaged, unneeded))
    }

    /// A damaged file of a group that cannot do without is kept until there is a new one.
    pub(crate) fn keep_damaged(&mut self, group: GroupId, name: String) {
        self.damaged.entry(group).or_default().push(name);
    }

    /// The name of this file may go with what is pending for it.
    fn is_current(&self, group: GroupId, name: &str) -> bool {
        self.unfinished.get(&group).is_some_and(|file| file.name == name)
    }
}

/// Reads the snapshot of a group, piece by piece, and checks every byte; tells where its pieces are.
fn scan<D: Disk>(
    disk: &D,
    identity: &Identity,
    group: GroupId,
    last: EntryId,
) -> Result<File, OpenError> {
    let name = finished_name(group, last);
    let damaged = |byte: u64, what: &str| OpenError::DamagedSnapshot {
        file: name.clone(),
        byte,
        what: what.to_string(),
    };
    let head = disk.read_at(&name, 0, HEADER_BYTES_MAX)?;
    let (found, meta, mut at) =
        read_header(&head, identity).ok_or_else(|| damaged(0, "its header does not read"))?;
    if (found, meta.last) != (group, last) {
        return Err(damaged(0, "its header says that it is another one than its name says"));
    }
    let (mut pieces, mut content) = (Vec::new(), 0);
    loop {
        let frame = disk.read_at(&name, at, END_BYTES as usize)?;
        if frame.len() < PIECE_HEADER_BYTES as usize {
            return Err(damaged(at, "it ends early"));
        }
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        if length == 0 {
            if frame != end_frame(content) {
                return Err(damaged(at, "its end does not fit its content"));
            }
            return Ok(File { meta, name, pieces, bytes: content, end: at });
        }
        let whole = disk.read_at(&name, at, (PIECE_HEADER_BYTES + u64::from(length)) as usize)?;
        if read_piece(&whole.into()).is_none() {
            return Err(damaged(at, "a piece fails its checksum"));
        }
        pieces.push((content, at, length));
        content += u64::from(length);
        at += PIECE_HEADER_BYTES + u64::from(length);
    }
}

fn header(identity: &Identity, group: GroupId, meta: &SnapshotMeta) -> Bytes {
    let mut out = WireWriter::default();
    out.raw(MAGIC);
    out.u64(identity.cluster.0);
    out.u64(group.0);
    out.entry_id(meta.last);
    out.bytes(&meta.membership);
    let body = out.finish();
    let checksum = crc32c::crc32c(&body);
    [&body[..], &checksum.to_be_bytes()].concat().into()
}

/// The group, what the file stands for, and where its pieces begin.
pub(crate) fn read_header(
    head: &[u8],
    identity: &Identity,
) -> Option<(GroupId, SnapshotMeta, u64)> {
    let mut input = WireReader::from_slice(head);
    let magic: [u8; 8] = input.array().ok()?;
    let cluster = input.u64().ok()?;
    let group = GroupId(input.u64().ok()?);
    let meta = SnapshotMeta { last: input.entry_id().ok()?, membership: input.shared().ok()? };
    let body = 8 + 8 + 8 + 16 + 4 + meta.membership.len();
    let checksum = input.u32().ok()?;
    let good = &magic == MAGIC
        && cluster == identity.cluster.0
        && checksum == crc32c::crc32c(&head[..body]);
    good.then_some((group, meta, body as u64 + 4))
}

pub(crate) fn end_frame(content: u64) -> [u8; END_BYTES as usize] {
    let total = content.to_be_bytes();
    let mut frame = [0; END_BYTES as usize];
    frame[4..8].copy_from_slice(&crc32c::crc32c(&total).to_be_bytes());
    frame[8..].copy_from_slice(&total);
    frame
}

fn piece_frame(bytes: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(bytes.len() + PIECE_HEADER_BYTES as usize);
    frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32c::crc32c(bytes).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame.into()
}

/// The content of a piece's frame, checked.
pub(crate) fn read_piece(frame: &Bytes) -> Option<Bytes> {
    let length = u32::from_be_bytes(frame.get(..4)?.try_into().ok()?) as usize;
    let checksum = u32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
    let bytes = frame.get(8..length.checked_add(8)?)?;
    (crc32c::crc32c(bytes) == checksum).then(|| frame.slice(8..8 + length))
}

/// A finished snapshot file that is whole: whose it is, what it stands for, and its size.
pub(crate) fn inspect<D: Disk>(
    disk: &D,
    identity: &Identity,
    name: &str,
) -> Option<Result<(GroupId, SnapshotMeta, u64), OpenError>> {
    let (group, last) = parse_finished_name(name)?;
    Some(scan(disk, identity, group, last).map(|file| (group, file.meta, file.bytes)))
}

/// A snapshot file, whole, of whichever cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotFile {
    /// Whose state.
    pub group: GroupId,
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// What the state machine wrote.
    pub content: Vec<u8>,
}

impl SnapshotFile {
    /// Reads a file's bytes and checks every one of them; an error tells the byte and what is wrong there.
    pub fn read(bytes: &Bytes) -> Result<Self, (u64, &'static str)> {
        let cluster = bytes.get(8..16).and_then(|cluster| cluster.try_into().ok());
        let cluster = ClusterId(cluster.map_or(0, u64::from_be_bytes));
        let identity = Identity { cluster, node: NodeId(0), incarnation: Incarnation(0) };
        let (group, meta, mut at) =
            read_header(bytes, &identity).ok_or((0, "no snapshot begins here"))?;
        let mut content = Vec::new();
        loop {
            let rest = bytes.slice((at as usize).min(bytes.len())..);
            if rest.starts_with(&[0; 4]) {
                let whole = rest[..] == end_frame(content.len() as u64);
                return whole
                    .then_some(Self { group, meta, content })
                    .ok_or((at, "it has no whole end"));
            }
            let piece = read_piece(&rest).ok_or((at, "a piece is cut or fails its checksum"))?;
            content.extend_from_slice(&piece);
            at += PIECE_HEADER_BYTES + piece.len() as u64;
        }
    }
}

impl<D: Disk> Storage<D> {
    pub(crate) fn snapshot_work(
        &mut self,
        group: GroupId,
        work: SnapshotOutput,
        out: &mut Vec<StorageEvent>,
    ) {
        match work {
            SnapshotOutput::Begin { meta } => self.begin_snapshot(group, meta),
            SnapshotOutput::Write { offset, bytes } => self.write_piece(group, offset, &bytes, out),
            SnapshotOutput::Finish => self.finish_snapshot(group),
            SnapshotOutput::Read { offset, to, .. } => self.read_snapshot(group, offset, to, out),
            SnapshotOutput::Load => self.check_piece(group, 0, out),
        }
    }

    fn begin_snapshot(&mut self, group: GroupId, meta: SnapshotMeta) {
        self.discard_unfinished(group);
        self.snapshots.begun += 1;
        let name = format!("snapshot-{}-{}.unfinished", group.0, self.snapshots.begun);
        let data = header(&self.identity, group, &meta);
        let end = data.len() as u64;
        let file = File { meta, name: name.clone(), pieces: Vec::new(), bytes: 0, end };
        self.snapshots.unfinished.insert(group, file);
        let begun = || Pending::Begun { group, name: name.clone() };
        self.then(Operation::Create { name: name.clone(), bytes: 0 }, begun());
        let write = Operation::Write { name: name.clone(), offset: 0, data, sync: false };
        self.then(write, begun());
    }

    /// What is still pending for the file is of no interest any more, whatever comes of it.
    fn discard_unfinished(&mut self, group: GroupId) {
        let Some(File { name, .. }) = self.snapshots.unfinished.remove(&group) else { return };
        self.submit(Operation::Remove { name });
        self.snapshots.paced.retain(
            |(_, event)| !matches!(event, StorageEvent::Snapshot { group: of, .. } if *of == group),
        );
    }

    fn write_piece(
        &mut self,
        group: GroupId,
        offset: u64,
        bytes: &[u8],
        out: &mut Vec<StorageEvent>,
    ) {
        // It may have been given up for lack of space; that was told.
        let Some(file) = self.snapshots.unfinished.get_mut(&group) else { return };
        assert_eq!(offset, file.bytes, "the pieces of a snapshot come in order");
        if bytes.is_empty() {
            let news = SnapshotInput::Written { end: offset };
            return out.push(StorageEvent::Snapshot { group, news });
        }
        let (at, length) = (file.end, bytes.len());
        file.pieces.push((offset, at, length as u32));
        file.bytes += length as u64;
        file.end += PIECE_HEADER_BYTES + length as u64;
        let (name, end) = (file.name.clone(), file.bytes);
        let data = piece_frame(bytes);
        let write = Operation::Write { name: name.clone(), offset: at, data, sync: true };
        self.then(write, Pending::Written { group, name, end, bytes: length as u32 });
    }

    /// From here on the file is no longer the one that a `Begin` would discard.
    fn finish_snapshot(&mut self, group: GroupId) {
        let Some(file) = self.snapshots.unfinished.remove(&group) else { return };
        let (name, offset) = (file.name.clone(), file.end);
        let data = Bytes::copy_from_slice(&end_frame(file.bytes));
        let write = Operation::Write { name, offset, data, sync: true };
        self.then(write, Pending::Ended { group, file });
    }

    fn read_snapshot(
        &mut self,
        group: GroupId,
        offset: u64,
        to: NodeId,
        out: &mut Vec<StorageEvent>,
    ) {
        let Some(file) = self.snapshots.finished.get(&group) else { return };
        let meta = file.meta.clone();
        let at = file.pieces.partition_point(|(start, _, _)| *start <= offset).saturating_sub(1);
        // An offset inside a piece is one of an older snapshot: its reader begins anew.
        let Some((start, at, length)) = file.pieces.get(at).copied() else {
            let bytes = Bytes::new();
            let news = SnapshotInput::Piece { meta, offset: 0, bytes, last: true, to };
            return out.push(StorageEvent::Snapshot { group, news });
        };
        let last = start + u64::from(length) == file.bytes;
        let read = read_of_piece(&file.name, at, length);
        self.then(read, Pending::Piece { group, meta, offset: start, last, to });
    }

    /// Reads a file through before it is loaded: damage is met here, and not in the midst of the new state.
    /// If a newer one has taken its place meanwhile, begins anew.
    fn check_piece(&mut self, group: GroupId, piece: usize, out: &mut Vec<StorageEvent>) {
        let Some(file) = self.snapshots.finished.get(&group) else { return };
        let name = file.name.clone();
        match file.pieces.get(piece) {
            Some((_, at, length)) => {
                let read = read_of_piece(&name, *at, *length);
                self.then(read, Pending::Checked { group, name, piece });
            }
            None => self.load_snapshot(group, out),
        }
    }

    fn load_snapshot(&mut self, group: GroupId, out: &mut Vec<StorageEvent>) {
        let Some(file) = self.snapshots.finished.get(&group) else { return };
        let start = file.pieces.first().map_or(file.end, |(_, at, _)| *at);
        match self.disk.open_at(&file.name, start) {
            Ok(input) => {
                let reader = Box::new(Content { input, piece: Bytes::new(), ended: false });
                let news = SnapshotInput::Loaded { meta: file.meta.clone(), reader };
                out.push(StorageEvent::Snapshot { group, news });
            }
            Err(error) => {
                let reason = format!("{}: {error}", file.name);
                self.fail(reason, out);
            }
        }
    }

    fn then(&mut self, operation: Operation, pending: Pending) {
        let ticket = self.submit(operation);
        self.snapshots.pending.insert(ticket, pending);
    }

    pub(crate) fn snapshot_completed(
        &mut self,
        ticket: Ticket,
        bytes: &Bytes,
        out: &mut Vec<StorageEvent>,
    ) {
        match self.snapshots.pending.remove(&ticket) {
            Some(Pending::Written { group, name, end, bytes }) => {
                self.piece_written(group, &name, end, bytes, out);
            }
            Some(Pending::Ended { group, file }) => self.name_snapshot(group, file),
            Some(Pending::Renamed { group, file }) => {
                let news = SnapshotInput::Finished { meta: file.meta.clone(), bytes: file.bytes };
                out.push(StorageEvent::Snapshot { group, news });
                self.replace_snapshot(group, file);
            }
            Some(Pending::Piece { group, meta, offset, last, to }) => match read_piece(bytes) {
                Some(bytes) => {
                    let news = SnapshotInput::Piece { meta, offset, bytes, last, to };
                    out.push(StorageEvent::Snapshot { group, news });
                }
                None => self.fail(format!("snapshot {} fails its checksum", meta.last), out),
            },
            Some(Pending::Checked { group, name, piece }) => {
                if self.snapshots.finished.get(&group).is_none_or(|file| file.name != name) {
                    self.check_piece(group, 0, out);
                } else if read_piece(bytes).is_some() {
                    self.check_piece(group, piece + 1, out);
                } else {
                    self.fail(format!("{name}: piece {piece} fails its checksum"), out);
                }
            }
            Some(Pending::Begun { .. }) | None => {}
        }
    }

    /// A piece is told of no sooner than the pace allows.
    fn piece_written(
        &mut self,
        group: GroupId,
        name: &str,
        end: u64,
        bytes: u32,
        out: &mut Vec<StorageEvent>,
    ) {
        if !self.snapshots.is_current(group, name) {
            return;
        }
        let event = StorageEvent::Snapshot { group, news: SnapshotInput::Written { end } };
        let rate = self.options.snapshot_bytes_per_second.max(1) as f64;
        let at = self.snapshots.free_at.max(self.now);
        self.snapshots.free_at = at + Duration::from_secs_f64(f64::from(bytes) / rate);
        if at <= self.now {
            out.push(event);
        } else {
            self.snapshots.paced.push_back((at, event));
        }
    }

    pub(crate) fn release_snapshot_news(&mut self, out: &mut Vec<StorageEvent>) {
        while self.snapshots.paced.front().is_some_and(|(at, _)| *at <= self.now) {
            out.extend(self.snapshots.paced.pop_front().map(|(_, event)| event));
        }
    }

    /// An operation failed. Without space a snapshot is given up, and everything else goes on. Returns
    /// whether that is all.
    pub(crate) fn snapshot_failed(
        &mut self,
        ticket: Ticket,
        error: &io::Error,
        out: &mut Vec<StorageEvent>,
    ) -> bool {
        let Some(pending) = self.snapshots.pending.remove(&ticket) else { return false };
        let (group, file) = match pending {
            Pending::Begun { group, name } | Pending::Written { group, name, .. } => {
                if !self.snapshots.is_current(group, &name) {
                    // It was discarded before.
                    return true;
                }
                (group, name)
            }
            Pending::Ended { group, file } => (group, file.name),
            _ => return false,
        };
        if !is_full(error) {
            return false;
        }
        if self.snapshots.is_current(group, &file) {
            self.discard_unfinished(group);
        } else {
            self.submit(Operation::Remove { name: file });
        }
        let news = SnapshotInput::Cancelled { reason: error.to_string() };
        out.push(StorageEvent::Snapshot { group, news });
        true
    }

    fn name_snapshot(&mut self, group: GroupId, mut file: File) {
        let from = std::mem::replace(&mut file.name, finished_name(group, file.meta.last));
        let rename = Operation::Rename { from, to: file.name.clone() };
        self.then(rename, Pending::Renamed { group, file });
    }

    /// The new one is durable; only now the one before it goes, and those that were damaged.
    fn replace_snapshot(&mut self, group: GroupId, file: File) {
        let name = file.name.clone();
        for damaged in self.snapshots.damaged.remove(&group).unwrap_or_default() {
            if damaged != name {
                self.submit(Operation::Remove { name: damaged });
            }
        }
        if let Some(old) = self.snapshots.finished.insert(group, file)
            && old.name != name
        {
            self.submit(Operation::Remove { name: old.name });
        }
    }
}

fn read_of_piece(name: &str, at: u64, length: u32) -> Operation {
    let length = (PIECE_HEADER_BYTES + u64::from(length)) as usize;
    Operation::Read { name: name.to_string(), offset: at, length }
}

/// The content of a file, piece by piece, each checked before a byte of it is handed out.
struct Content {
    input: Box<dyn Read>,
    /// What is left of the current piece.
    piece: Bytes,
    ended: bool,
}

impl Content {
    fn next_piece(&mut self) -> io::Result<()> {
        let mut frame = vec![0; PIECE_HEADER_BYTES as usize];
        self.input.read_exact(&mut frame)?;
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        if length == 0 {
            self.ended = true;
            return Ok(());
        }
        let whole = (&mut self.input).take(u64::from(length)).read_to_end(&mut frame)?;
        let piece = read_piece(&frame.into()).filter(|_| whole == length as usize);
        self.piece = piece.ok_or_else(|| io::Error::other("a piece fails its checksum"))?;
        Ok(())
    }
}

impl Read for Content {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            self.next_piece()?;
        }
        let bytes = out.len().min(self.piece.len());
        out[..bytes].copy_from_slice(&self.piece.split_to(bytes));
        Ok(bytes)
    }
}
