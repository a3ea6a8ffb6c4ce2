//! A batch: what one write carries, of all groups.
//!
//! ```text
//! header   magic 4 | meta bytes 4 | data bytes 8 | number 8 | durable 8 | zeros 24 | CRC of meta 4 | CRC 4
//! meta     records: group 8 | mark 8 | flags 1 | term 8 | vote 8 | [base 16] | [after 16] | [lost 8]
//!                   | entries 4 | entries x (index 8 | term 8 | kind 1 | bytes 4 | CRC of the data 4)
//! data     the entries' data, one after the other; zeros to a multiple of 64
//! ```
//!
//! `durable` is the newest batch that was durable when this one was written: proof, if that one does not
//! read, that it once did. A *mark* (a header of its own kind, with the state of every group) gives the same
//! proof for the last batch of an idle log; the next batch is written over it.
//!
//! Each record repeats term and vote, and names the entry that it follows: after a batch whose
//! headers are lost, the next record of a group tells whether it lost anything.
//!
//! Headers begin at multiples of 64, so that no sector boundary cuts one. The entries' headers are checked apart
//! from their data: a bad body with a good header is known for what it is. An entry's checksum is the one it
//! was born with; nothing is computed twice.

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryId, EntryKind, GroupId, HardState, LogIndex, Malformed, NodeId, Term, WireReader,
    WireWriter, WriteMark,
};

/// The header's size, and what batches are padded to.
pub(crate) const HEADER_BYTES: usize = 64;
const BATCH_MAGIC: u32 = 0x5142_4348;
const MARK_MAGIC: u32 = 0x514d_524b;
/// Header fields before the checksums.
const FIELDS_BYTES: usize = 32;

/// Flags of a record.
const HAS_BASE: u8 = 1;
const HAS_AFTER: u8 = 2;
const HAS_LOST: u8 = 4;

/// A record of one group, as it is on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GroupRecord {
    pub(crate) group: GroupId,
    pub(crate) mark: WriteMark,
    /// The group's term and vote, changed or not.
    pub(crate) hard_state: HardState,
    /// The log begins after this entry from here on.
    pub(crate) base: Option<EntryId>,
    /// The log goes on after this entry: what is behind it is removed, then `entries` follow. Without it,
    /// `entries` are whole copies of some that the log holds already.
    pub(crate) after: Option<EntryId>,
    /// Up to where entries may have been lost with their headers; `Some(None)`: they are back.
    pub(crate) lost: Option<Option<LogIndex>>,
    pub(crate) entries: Vec<Entry>,
}

impl GroupRecord {
    /// Size of the entries' data.
    fn data_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.data.len()).sum()
    }
}

/// What stands at the head of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Records.
    Batch,
    /// Nothing new: how far the log is durable, and how every group stands.
    Mark,
}

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    meta_bytes: u32,
    data_bytes: u64,
    /// The batch's number; a mark has that of the batch that comes next.
    pub(crate) number: u64,
    /// The newest batch that was durable when this was written.
    pub(crate) durable: u64,
    meta_checksum: u32,
}

impl Header {
    /// Size of the whole batch, padding included.
    pub(crate) fn batch_bytes(&self) -> u64 {
        padded((HEADER_BYTES as u64 + u64::from(self.meta_bytes)).saturating_add(self.data_bytes))
    }

    /// Reads a header; `None` if there is none here.
    pub(crate) fn read(bytes: &[u8], seed: u32) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let mut input = WireReader::from_slice(bytes);
        let kind = match input.u32().ok()? {
            BATCH_MAGIC => Kind::Batch,
            MARK_MAGIC => Kind::Mark,
            _ => return None,
        };
        let end = HEADER_BYTES - 4;
        if bytes[end..] != crc32c::crc32c_append(seed, &bytes[..end]).to_be_bytes() {
            return None;
        }
        let (meta_bytes, data_bytes) = (input.u32().ok()?, input.u64().ok()?);
        let (number, durable) = (input.u64().ok()?, input.u64().ok()?);
        let meta_checksum = WireReader::from_slice(&bytes[end - 4..]).u32().ok()?;
        Some(Self { kind, meta_bytes, data_bytes, number, durable, meta_checksum })
    }

    fn write(&self, seed: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let magic = if self.kind == Kind::Batch { BATCH_MAGIC } else { MARK_MAGIC };
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&self.meta_bytes.to_be_bytes());
        for word in [self.data_bytes, self.number, self.durable] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.resize(out.len() + HEADER_BYTES - FIELDS_BYTES - 8, 0);
        out.extend_from_slice(&self.meta_checksum.to_be_bytes());
        let checksum = crc32c::crc32c_append(seed, &out[start..]);
        out.extend_from_slice(&checksum.to_be_bytes());
    }
}

/// The next multiple of a header's size.
pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(HEADER_BYTES as u64).unwrap_or(u64::MAX)
}

/// Whether a header could begin here: a cheap look before the checksum.
pub(crate) fn begins_like_one(bytes: &[u8]) -> bool {
    bytes.starts_with(&BATCH_MAGIC.to_be_bytes()) || bytes.starts_with(&MARK_MAGIC.to_be_bytes())
}

/// Encodes a batch, or a mark. All batches before `number` are durable when it is written.
pub(crate) fn encode(kind: Kind, records: &[GroupRecord], number: u64, seed: u32) -> Bytes {
    let mut meta = WireWriter::with_capacity(96 * records.len());
    records.iter().for_each(|record| encode_meta(record, &mut meta));
    let meta = meta.finish();
    let data_bytes: usize = records.iter().map(GroupRecord::data_bytes).sum();
    let header = Header {
        kind,
        meta_bytes: meta.len() as u32,
        data_bytes: data_bytes as u64,
        number,
        durable: number - 1,
        meta_checksum: meta_checksum(seed, number, &meta),
    };
    let bytes = header.batch_bytes() as usize;
    let mut out = Vec::with_capacity(bytes);
    header.write(seed, &mut out);
    out.extend_from_slice(&meta);
    for entry in records.iter().flat_map(|record| &record.entries) {
        out.extend_from_slice(&entry.data);
    }
    out.resize(bytes, 0);
    out.into()
}

fn meta_checksum(seed: u32, number: u64, meta: &[u8]) -> u32 {
    crc32c::crc32c_append(seed ^ number as u32, meta)
}

fn encode_meta(record: &GroupRecord, out: &mut WireWriter) {
    out.u64(record.group.0);
    out.u64(record.mark.0);
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    out.u8(flag(record.base.is_some(), HAS_BASE)
        | flag(record.after.is_some(), HAS_AFTER)
        | flag(record.lost.is_some(), HAS_LOST));
    out.u64(record.hard_state.term.0);
    out.u64(record.hard_state.voted_for.map_or(0, |node| node.0));
    record.base.into_iter().chain(record.after).for_each(|id| out.entry_id(id));
    if let Some(lost) = record.lost {
        out.u64(lost.map_or(0, |index| index.0));
    }
    out.u32(record.entries.len() as u32);
    for entry in &record.entries {
        out.entry_id(entry.id);
        out.u8(entry.kind as u8);
        out.u32(entry.data.len() as u32);
        out.u32(entry.checksum);
    }
}

/// What is in a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decoded {
    pub(crate) records: Vec<GroupRecord>,
    /// Entries whose headers are good and whose data is not.
    pub(crate) bad_bodies: Vec<(GroupId, EntryId)>,
}

/// Reads a whole batch, whose header was read before. Every byte is checked.
pub(crate) fn decode(batch: &Bytes, header: &Header, seed: u32) -> Result<Decoded, Malformed> {
    if (batch.len() as u64) < header.batch_bytes() {
        return Err(Malformed("it is cut short"));
    }
    let meta_end = HEADER_BYTES + header.meta_bytes as usize;
    let data_end = meta_end + header.data_bytes as usize;
    let meta = batch.slice(HEADER_BYTES..meta_end);
    if meta_checksum(seed, header.number, &meta) != header.meta_checksum {
        return Err(Malformed("its headers fail their checksum"));
    }
    if batch[data_end..header.batch_bytes() as usize].iter().any(|byte| *byte != 0) {
        return Err(Malformed("its padding is not zero"));
    }
    let mut input = WireReader::new(&meta);
    let mut data = batch.slice(meta_end..data_end);
    let mut decoded = Decoded { records: Vec::new(), bad_bodies: Vec::new() };
    while !input.is_empty() {
        decode_record(&mut input, &mut data, &mut decoded)?;
    }
    Ok(decoded)
}

fn decode_record(
    input: &mut WireReader<'_>,
    data: &mut Bytes,
    decoded: &mut Decoded,
) -> Result<(), Malformed> {
    let (group, mark) = (GroupId(input.u64()?), WriteMark(input.u64()?));
    let flags = input.u8()?;
    let term = Term(input.u64()?);
    let voted_for = Some(input.u64()?).filter(|id| *id != 0).map(NodeId);
    let mut id_if = |flag: u8| (flags & flag != 0).then(|| input.entry_id()).transpose();
    let (base, after) = (id_if(HAS_BASE)?, id_if(HAS_AFTER)?);
    let lost = (flags & HAS_LOST != 0).then(|| input.u64()).transpose()?;
    let lost = lost.map(|index| Some(LogIndex(index)).filter(|index| index.0 != 0));
    let mut entries = Vec::new();
    for _ in 0..input.count(25)? {
        let entry = decode_entry(input, data)?;
        if !entry.is_intact() {
            decoded.bad_bodies.push((group, entry.id));
        }
        entries.push(entry);
    }
    let hard_state = HardState { term, voted_for };
    decoded.records.push(GroupRecord { group, mark, hard_state, base, after, lost, entries });
    Ok(())
}

fn decode_entry(input: &mut WireReader<'_>, data: &mut Bytes) -> Result<Entry, Malformed> {
    let id = input.entry_id()?;
    let kind = EntryKind::from_u8(input.u8()?).ok_or(Malformed("an unknown kind of entry"))?;
    let bytes = input.u32()? as usize;
    let checksum = input.u32()?;
    if bytes > data.len() {
        return Err(Malformed("an entry is longer than the batch"));
    }
    Ok(Entry { id, kind, checksum, data: data.split_to(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<GroupRecord> {
        let entry = |index, text: &'static str| {
            let id = EntryId::new(LogIndex(index), Term(3));
            Entry::new(id, EntryKind::Command, Bytes::from_static(text.as_bytes()))
        };
        let hard_state = HardState { term: Term(3), voted_for: Some(NodeId(2)) };
        let (group, mark) = (GroupId(1), WriteMark(9));
        let at = |index, term| Some(EntryId::new(LogIndex(index), Term(term)));
        let entries = vec![entry(5, "set x=1"), entry(6, ""), entry(7, "set y=2")];
        let (base, after, lost) = (at(3, 1), at(4, 1), Some(Some(LogIndex(12))));
        let full = GroupRecord { group, mark, hard_state, base, after, lost, entries };
        let idle = GroupRecord {
            group: GroupId(2),
            mark: WriteMark(4),
            hard_state: HardState::default(),
            base: None,
            after: None,
            lost: Some(None),
            entries: Vec::new(),
        };
        vec![full, idle]
    }

    fn encoded() -> Bytes {
        encode(Kind::Batch, &sample(), 12, 77)
    }

    /// What a reader takes for good.
    fn read(bytes: &Bytes) -> Option<Vec<GroupRecord>> {
        let header = Header::read(bytes, 77)?;
        let decoded = decode(bytes, &header, 77).ok()?;
        decoded.bad_bodies.is_empty().then_some(decoded.records)
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        assert_eq!(read(&encoded()), Some(sample()));
        let header = Header::read(&encoded(), 77).expect("it has one");
        assert_eq!((header.number, header.durable, header.kind), (12, 11, Kind::Batch));
    }

    /// RAFT-16: every single-bit flip in a batch is detected.
    #[test]
    fn every_flipped_bit_is_detected() {
        let good = encoded();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad.into()), None, "bit {bit}");
        }
    }

    /// RAFT-16: a batch that was cut at any byte is not taken for a whole one.
    #[test]
    fn a_cut_batch_is_not_read() {
        let good = encoded();
        for end in 0..good.len() {
            assert_eq!(read(&good.slice(..end)), None, "cut at {end}");
        }
    }

    #[test]
    fn a_bad_body_is_told_from_a_bad_header() {
        let mut bytes = encoded().to_vec();
        let at = bytes.windows(7).position(|text| text == b"set y=2").expect("it is in there");
        bytes[at] ^= 1;
        let bytes = Bytes::from(bytes);
        let header = Header::read(&bytes, 77).expect("the header is good");
        let decoded = decode(&bytes, &header, 77).expect("the entries' headers are good");
        assert_eq!(decoded.bad_bodies, [(GroupId(1), EntryId::new(LogIndex(7), Term(3)))]);
    }

    /// Bytes of another segment or of another life of the directory never come to life.
    #[test]
    fn a_batch_of_another_segment_is_not_read() {
        assert_eq!(Header::read(&encoded(), 78), None);
    }
}
