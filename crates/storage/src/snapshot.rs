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

use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use quorate_contracts::{
    EntryId, GroupId, NodeId, SnapshotInput, SnapshotMeta, SnapshotOutput, WireReader, WireWriter,
};

use crate::{Disk, FileInfo, Identity, OpenError, Operation, Storage, StorageEvent, Ticket};

const MAGIC: &[u8; 8] = b"QRTESNP1";
const PIECE_HEADER_BYTES: u64 = 8;
const END_BYTES: u64 = 16;
/// More than any header takes; memberships are small.
const HEADER_BYTES_MAX: usize = 1 << 16;

/// The snapshot files of a node.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    finished: BTreeMap<GroupId, File>,
    unfinished: BTreeMap<GroupId, File>,
    pending: BTreeMap<Ticket, Pending>,
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

/// What to do when an operation completes.
#[derive(Debug)]
enum Pending {
    /// Tell that the file holds everything before `end`.
    Written { group: GroupId, end: u64 },
    /// The file's end is durable; its name is next.
    Ended { group: GroupId },
    /// It has its name.
    Renamed { group: GroupId, file: File },
    /// A piece was read for a member.
    Piece { group: GroupId, meta: SnapshotMeta, offset: u64, last: bool, to: NodeId },
    /// The whole file was read.
    Loaded { group: GroupId, file: File },
    /// Nothing follows.
    Nothing,
}

/// `snapshot-1-4711-3.snap`: group, index and term.
fn finished_name(group: GroupId, last: EntryId) -> String {
    format!("snapshot-{}-{}-{}.snap", group.0, last.index, last.term)
}

/// The one name under which a group's snapshot is written.
fn unfinished_name(group: GroupId) -> String {
    format!("snapshot-{}.unfinished", group.0)
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

    /// Finds the newest whole snapshot of each group. Older ones and unfinished ones are removed;
    /// one that is not whole under a finished name is damage.
    pub(crate) fn open<D: Disk>(
        disk: &mut D,
        identity: &Identity,
        files: &[FileInfo],
    ) -> Result<Self, OpenError> {
        let mut snapshots = Self::default();
        let mut unneeded = Vec::new();
        for info in files {
            if info.name.ends_with(".unfinished") {
                unneeded.push(info.name.clone());
            }
            if !info.name.ends_with(".snap") {
                continue;
            }
            let (group, file) = scan(disk, identity, info)?;
            let older = match snapshots.finished.remove(&group) {
                Some(other) if other.meta.last.index > file.meta.last.index => {
                    snapshots.finished.insert(group, other);
                    Some(file)
                }
                other => {
                    snapshots.finished.insert(group, file);
                    other
                }
            };
            unneeded.extend(older.map(|file| file.name));
        }
        for name in unneeded {
            disk.submit(Ticket(0), Operation::Remove { name });
        }
        Ok(snapshots)
    }
}

/// Reads the frame of a file: its header, where its pieces are, and that its end is there.
fn scan<D: Disk>(
    disk: &D,
    identity: &Identity,
    info: &FileInfo,
) -> Result<(GroupId, File), OpenError> {
    let damaged = |byte: u64, what: &str| OpenError::DamagedSnapshot {
        file: info.name.clone(),
        byte,
        what: what.to_string(),
    };
    let head = disk.read_at(&info.name, 0, HEADER_BYTES_MAX).map_err(OpenError::Io)?;
    let (group, meta, mut at) =
        read_header(&head, identity).ok_or_else(|| damaged(0, "its header does not read"))?;
    let (mut pieces, mut content) = (Vec::new(), 0);
    loop {
        let frame = disk.read_at(&info.name, at, END_BYTES as usize).map_err(OpenError::Io)?;
        if frame.len() < PIECE_HEADER_BYTES as usize {
            return Err(damaged(at, "it ends early"));
        }
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
        if length == 0 {
            let end = end_frame(content);
            if frame != end {
                return Err(damaged(at, "its end does not fit its content"));
            }
            break;
        }
        pieces.push((content, at, length));
        content += u64::from(length);
        at += PIECE_HEADER_BYTES + u64::from(length);
    }
    let name = info.name.clone();
    Ok((group, File { meta, name, pieces, bytes: content, end: at }))
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
fn read_header(head: &[u8], identity: &Identity) -> Option<(GroupId, SnapshotMeta, u64)> {
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

fn end_frame(content: u64) -> [u8; END_BYTES as usize] {
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
fn read_piece(frame: &Bytes) -> Option<Bytes> {
    let length = u32::from_be_bytes(frame.get(..4)?.try_into().ok()?) as usize;
    let checksum = u32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
    let bytes = frame.get(8..8 + length)?;
    (crc32c::crc32c(bytes) == checksum).then(|| frame.slice(8..8 + length))
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
            SnapshotOutput::Read { offset, to, .. } => self.read_snapshot(group, offset, to),
            SnapshotOutput::Load => self.load_snapshot(group),
        }
    }

    fn begin_snapshot(&mut self, group: GroupId, meta: SnapshotMeta) {
        let name = unfinished_name(group);
        let header = header(&self.identity, group, &meta);
        let end = header.len() as u64;
        self.then(Operation::Create { name: name.clone(), bytes: 0 }, Pending::Nothing);
        let write = Operation::Write { name: name.clone(), offset: 0, data: header, sync: false };
        self.then(write, Pending::Nothing);
        let file = File { meta, name, pieces: Vec::new(), bytes: 0, end };
        self.snapshots.unfinished.insert(group, file);
    }

    fn write_piece(
        &mut self,
        group: GroupId,
        offset: u64,
        bytes: &[u8],
        out: &mut Vec<StorageEvent>,
    ) {
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
        let write = Operation::Write { name, offset: at, data: piece_frame(bytes), sync: true };
        self.then(write, Pending::Written { group, end });
    }

    fn finish_snapshot(&mut self, group: GroupId) {
        let Some(file) = self.snapshots.unfinished.get(&group) else { return };
        let (name, offset) = (file.name.clone(), file.end);
        let data = Bytes::copy_from_slice(&end_frame(file.bytes));
        self.then(Operation::Write { name, offset, data, sync: true }, Pending::Ended { group });
    }

    fn read_snapshot(&mut self, group: GroupId, offset: u64, to: NodeId) {
        let Some(file) = self.snapshots.finished.get(&group) else { return };
        let at = file.pieces.partition_point(|(start, _, _)| *start <= offset).saturating_sub(1);
        // An offset inside a piece is one of an older snapshot: its reader begins anew.
        let Some((start, at, length)) = file.pieces.get(at).copied() else { return };
        let meta = file.meta.clone();
        let last = start + u64::from(length) == file.bytes;
        let read = Operation::Read {
            name: file.name.clone(),
            offset: at,
            length: (PIECE_HEADER_BYTES + u64::from(length)) as usize,
        };
        self.then(read, Pending::Piece { group, meta, offset: start, last, to });
    }

    fn load_snapshot(&mut self, group: GroupId) {
        let Some(file) = self.snapshots.finished.get(&group).cloned() else { return };
        let length = (file.end + END_BYTES) as usize;
        let read = Operation::Read { name: file.name.clone(), offset: 0, length };
        self.then(read, Pending::Loaded { group, file });
    }

    fn then(&mut self, operation: Operation, pending: Pending) {
        let ticket = self.submit(operation);
        self.snapshots.pending.insert(ticket, pending);
    }

    pub(crate) fn snapshot_completed(
        &mut self,
        ticket: Ticket,
        bytes: Bytes,
        out: &mut Vec<StorageEvent>,
    ) {
        let mut tell = |group, news| out.push(StorageEvent::Snapshot { group, news });
        match self.snapshots.pending.remove(&ticket) {
            Some(Pending::Written { group, end }) => tell(group, SnapshotInput::Written { end }),
            Some(Pending::Ended { group }) => self.name_snapshot(group),
            Some(Pending::Renamed { group, file }) => {
                let news = SnapshotInput::Finished { meta: file.meta.clone(), bytes: file.bytes };
                tell(group, news);
                self.replace_snapshot(group, file);
            }
            Some(Pending::Piece { group, meta, offset, last, to }) => match read_piece(&bytes) {
                Some(bytes) => {
                    tell(group, SnapshotInput::Piece { meta, offset, bytes, last, to });
                }
                None => self.fail(format!("snapshot {} fails its checksum", meta.last), out),
            },
            Some(Pending::Loaded { group, file }) => match content(&file, &bytes) {
                Some(content) => {
                    let reader = Box::new(Cursor::new(content));
                    tell(group, SnapshotInput::Loaded { meta: file.meta, reader });
                }
                None => self.fail(format!("{} fails its checksum", file.name), out),
            },
            Some(Pending::Nothing) | None => {}
        }
    }

    fn name_snapshot(&mut self, group: GroupId) {
        let Some(mut file) = self.snapshots.unfinished.remove(&group) else { return };
        let from = std::mem::replace(&mut file.name, finished_name(group, file.meta.last));
        let rename = Operation::Rename { from, to: file.name.clone() };
        self.then(rename, Pending::Renamed { group, file });
    }

    /// The new one is durable; only now the one before it goes.
    fn replace_snapshot(&mut self, group: GroupId, file: File) {
        let name = file.name.clone();
        if let Some(old) = self.snapshots.finished.insert(group, file)
            && old.name != name
        {
            self.then(Operation::Remove { name: old.name }, Pending::Nothing);
        }
    }
}

/// The whole content of a file that was read whole, each piece checked.
fn content(file: &File, bytes: &Bytes) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(file.bytes as usize);
    for (_, at, length) in &file.pieces {
        let start = usize::try_from(*at).ok()?;
        let end = start + PIECE_HEADER_BYTES as usize + *length as usize;
        if bytes.len() < end {
            return None;
        }
        content.extend_from_slice(&read_piece(&bytes.slice(start..end))?);
    }
    Some(content)
}
