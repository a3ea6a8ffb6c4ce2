//! A batch: what one write carries, of all groups.
//!
//! ```text
//! header   magic 4 | meta bytes 4 | data bytes 8 | batch number 8 | CRC of the header 4 | CRC of meta 4
//! meta     records: group 8 | mark 8 | flags 1 | [term 8, vote 8] | [base 16] | [truncate 8]
//!                   | entries 4 | entries x (index 8 | term 8 | kind 1 | bytes 4 | CRC of the data 4)
//! data     the entries' data, one after the other
//! ```
//!
//! The entries' headers are checked apart from their data, so that a bad body with a good header is known
//! for what it is. An entry's checksum is the one it was born with; nothing is computed twice.

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryKind, GroupId, HardState, LogIndex, Malformed, NodeId, Record, Term, WireReader,
    WireWriter, WriteMark,
};

/// The header's size.
pub(crate) const HEADER_BYTES: usize = 32;
const MAGIC: u32 = 0x5142_4348;

/// Flags of a record.
const HAS_HARD_STATE: u8 = 1;
const HAS_BASE: u8 = 2;
const HAS_TRUNCATION: u8 = 4;

/// A record of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GroupRecord {
    pub(crate) group: GroupId,
    pub(crate) mark: WriteMark,
    pub(crate) record: Record,
}

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    meta_bytes: u32,
    data_bytes: u64,
    pub(crate) number: u64,
    meta_checksum: u32,
}

impl Header {
    /// Size of the whole batch.
    pub(crate) fn batch_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.meta_bytes) + self.data_bytes
    }

    /// Reads a header; `None` if there is none here.
    pub(crate) fn read(bytes: &[u8], seed: u32) -> Option<Self> {
        let mut input = WireReader::from_slice(bytes.get(..HEADER_BYTES)?);
        let magic = input.u32().ok()?;
        let header = Self {
            meta_bytes: input.u32().ok()?,
            data_bytes: input.u64().ok()?,
            number: input.u64().ok()?,
            meta_checksum: {
                let checksum = input.u32().ok()?;
                if magic != MAGIC || checksum != crc32c::crc32c_append(seed, &bytes[..24]) {
                    return None;
                }
                input.u32().ok()?
            },
        };
        Some(header)
    }
}

/// Whether a batch could begin here: a cheap look before the checksum.
pub(crate) fn begins_like_one(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_be_bytes())
}

/// Encodes a batch.
pub(crate) fn encode(records: &[GroupRecord], number: u64, seed: u32) -> Bytes {
    let mut meta = WireWriter::with_capacity(64 * records.len());
    let mut data_bytes = 0;
    for record in records {
        encode_meta(record, &mut meta);
        data_bytes += record.record.entries.iter().map(|entry| entry.data.len()).sum::<usize>();
    }
    let meta = meta.finish();
    let mut out = Vec::with_capacity(HEADER_BYTES + meta.len() + data_bytes);
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&(meta.len() as u32).to_be_bytes());
    out.extend_from_slice(&(data_bytes as u64).to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    let header_checksum = crc32c::crc32c_append(seed, &out);
    out.extend_from_slice(&header_checksum.to_be_bytes());
    out.extend_from_slice(&meta_checksum(seed, number, &meta).to_be_bytes());
    out.extend_from_slice(&meta);
    for record in records {
        record.record.entries.iter().for_each(|entry| out.extend_from_slice(&entry.data));
    }
    out.into()
}

fn meta_checksum(seed: u32, number: u64, meta: &[u8]) -> u32 {
    crc32c::crc32c_append(seed ^ number as u32, meta)
}

fn encode_meta(record: &GroupRecord, out: &mut WireWriter) {
    let Record { hard_state, base, truncate_from, entries } = &record.record;
    out.u64(record.group.0);
    out.u64(record.mark.0);
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    out.u8(flag(hard_state.is_some(), HAS_HARD_STATE)
        | flag(base.is_some(), HAS_BASE)
        | flag(truncate_from.is_some(), HAS_TRUNCATION));
    if let Some(hard_state) = hard_state {
        out.u64(hard_state.term.0);
        out.u64(hard_state.voted_for.map_or(0, |node| node.0));
    }
    if let Some(base) = base {
        out.entry_id(*base);
    }
    if let Some(from) = truncate_from {
        out.u64(from.0);
    }
    out.u32(entries.len() as u32);
    for entry in entries {
        out.entry_id(entry.id);
        out.u8(entry.kind as u8);
        out.u32(entry.data.len() as u32);
        out.u32(entry.checksum);
    }
}

/// What is wrong with a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadBatch {
    /// Nothing can be said about what is in it.
    Unreadable(&'static str),
    /// Its headers are good, but the data of this entry is not.
    BadBody(GroupId, quorate_contracts::EntryId),
}

impl From<Malformed> for BadBatch {
    fn from(malformed: Malformed) -> Self {
        Self::Unreadable(malformed.0)
    }
}

/// Reads a whole batch, whose header was read before. Every byte is checked.
pub(crate) fn decode(
    batch: &Bytes,
    header: &Header,
    seed: u32,
) -> Result<Vec<GroupRecord>, BadBatch> {
    if (batch.len() as u64) < header.batch_bytes() {
        return Err(BadBatch::Unreadable("it is cut short"));
    }
    let meta_end = HEADER_BYTES + header.meta_bytes as usize;
    let meta = batch.slice(HEADER_BYTES..meta_end);
    if meta_checksum(seed, header.number, &meta) != header.meta_checksum {
        return Err(BadBatch::Unreadable("its headers fail their checksum"));
    }
    let mut input = WireReader::new(&meta);
    let mut data = batch.slice(meta_end..header.batch_bytes() as usize);
    let mut records = Vec::new();
    while !input.is_empty() {
        records.push(decode_record(&mut input, &mut data)?);
    }
    Ok(records)
}

fn decode_record(input: &mut WireReader<'_>, data: &mut Bytes) -> Result<GroupRecord, BadBatch> {
    let group = GroupId(input.u64()?);
    let mark = WriteMark(input.u64()?);
    let flags = input.u8()?;
    let mut record = Record::default();
    if flags & HAS_HARD_STATE != 0 {
        let term = Term(input.u64()?);
        let voted_for = Some(input.u64()?).filter(|id| *id != 0).map(NodeId);
        record.hard_state = Some(HardState { term, voted_for });
    }
    if flags & HAS_BASE != 0 {
        record.base = Some(input.entry_id()?);
    }
    if flags & HAS_TRUNCATION != 0 {
        record.truncate_from = Some(LogIndex(input.u64()?));
    }
    for _ in 0..input.count(25)? {
        let id = input.entry_id()?;
        let kind = EntryKind::from_u8(input.u8()?).ok_or(Malformed("an unknown kind of entry"))?;
        let bytes = input.u32()? as usize;
        let checksum = input.u32()?;
        if bytes > data.len() {
            return Err(BadBatch::Unreadable("an entry is longer than the batch"));
        }
        let entry = Entry { id, kind, checksum, data: data.split_to(bytes) };
        if !entry.is_intact() {
            return Err(BadBatch::BadBody(group, id));
        }
        record.entries.push(entry);
    }
    Ok(GroupRecord { group, mark, record })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_contracts::EntryId;

    fn sample() -> Vec<GroupRecord> {
        let entry = |index, text: &'static str| {
            let id = EntryId::new(LogIndex(index), Term(3));
            Entry::new(id, EntryKind::Command, Bytes::from_static(text.as_bytes()))
        };
        let record = Record {
            hard_state: Some(HardState { term: Term(3), voted_for: Some(NodeId(2)) }),
            base: Some(EntryId::new(LogIndex(4), Term(1))),
            truncate_from: Some(LogIndex(5)),
            entries: vec![entry(5, "set x=1"), entry(6, ""), entry(7, "set y=2")],
        };
        let idle = Record { hard_state: Some(HardState::default()), ..Record::default() };
        vec![
            GroupRecord { group: GroupId(1), mark: WriteMark(9), record },
            GroupRecord { group: GroupId(2), mark: WriteMark(4), record: idle },
        ]
    }

    fn read(bytes: &Bytes) -> Option<Vec<GroupRecord>> {
        let header = Header::read(bytes, 77)?;
        decode(bytes, &header, 77).ok()
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        assert_eq!(read(&encode(&sample(), 12, 77)), Some(sample()));
    }

    /// RAFT-16: every single-bit flip in a batch is detected.
    #[test]
    fn every_flipped_bit_is_detected() {
        let good = encode(&sample(), 12, 77);
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad.into()), None, "bit {bit}");
        }
    }

    /// RAFT-16: a batch that was cut at any byte is not taken for a whole one.
    #[test]
    fn a_cut_batch_is_not_read() {
        let good = encode(&sample(), 12, 77);
        for end in 0..good.len() {
            assert_eq!(read(&good.slice(..end)), None, "cut at {end}");
        }
    }

    #[test]
    fn a_bad_body_is_told_from_a_bad_header() {
        let mut bytes = encode(&sample(), 12, 77).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let bytes = Bytes::from(bytes);
        let header = Header::read(&bytes, 77).expect("the header is good");
        let id = EntryId::new(LogIndex(7), Term(3));
        assert_eq!(decode(&bytes, &header, 77), Err(BadBatch::BadBody(GroupId(1), id)));
    }

    /// Bytes of another segment or of another life of the directory never come to life.
    #[test]
    fn a_batch_of_another_segment_is_not_read() {
        let bytes = encode(&sample(), 12, 77);
        assert_eq!(Header::read(&bytes, 78), None);
    }
}
