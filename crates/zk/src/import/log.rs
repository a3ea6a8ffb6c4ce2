//! ZooKeeper's transaction logs, version 2.
//!
//! ```text
//! ZKLG 4 | version 4 | db id 8
//! (Adler-32 of the record 8 | length 4 | record | 'B') ...   then zeros: the file is allocated ahead
//! record: session 8 | cxid 4 | zxid 8 | time 8 | type 4 | body, and since 3.6 a digest of the tree
//! ```
//!
//! A server that dies while it writes leaves a torn record behind, and nothing after it. A record that does not check
//! and has anything but zeros behind it is damage.

use super::adler::adler;
use super::{BadFile, ImportedTree};
use crate::command::{SessionId, Zxid};
use crate::wire::{BadPacket, JuteReader};

const MAGIC: i32 = i32::from_be_bytes(*b"ZKLG");
const VERSION: i32 = 2;
const HEADER_BYTES: usize = 16;
const FRAME_BYTES: usize = 12;
const END_OF_RECORD: u8 = b'B';

/// What was read of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogRead {
    /// Transactions replayed.
    pub replayed: u64,
    /// Transactions that the snapshot holds already.
    pub skipped: u64,
    /// Where a torn record begins, if the log ends with one.
    pub torn_at: Option<u64>,
}

/// Whose transaction, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) session: SessionId,
    pub(super) zxid: Zxid,
    pub(super) time: i64,
    pub(super) kind: i32,
}

/// Replays the transactions of a log that come after `after` over a tree. At an error the tree holds what came before
/// it, and is not to be used.
pub fn read_log(after: Zxid, bytes: &[u8], tree: &mut ImportedTree) -> Result<LogRead, BadFile> {
    let mut read = LogRead::default();
    // A server that died at once leaves a log without a header.
    if bytes.iter().take(HEADER_BYTES).all(|byte| *byte == 0) {
        return Ok(read);
    }
    let mut head = JuteReader::new(bytes);
    if (head.int(), head.int()) != (Ok(MAGIC), Ok(VERSION)) {
        let what = "no log of ZooKeeper's format 2 begins here".to_owned();
        return Err(BadFile { at: 0, what });
    }
    let mut at = HEADER_BYTES.min(bytes.len());
    while let Some(record) = next_record(&bytes[at..]) {
        let bad = |what: &str| BadFile { at: at as u64, what: what.to_owned() };
        let record = match record {
            Ok(record) => record,
            Err(_) if is_torn(&bytes[at..]) => {
                read.torn_at = Some(at as u64);
                break;
            }
            Err(what) => return Err(bad(what)),
        };
        let replayed = replay_record(after, record, tree).map_err(|BadPacket(what)| bad(what))?;
        read.replayed += u64::from(replayed);
        read.skipped += u64::from(!replayed);
        at += FRAME_BYTES + record.len() + 1;
    }
    Ok(read)
}

/// The next record, `None` at the end of the log.
fn next_record(rest: &[u8]) -> Option<Result<&[u8], &'static str>> {
    let frame = rest.get(..FRAME_BYTES).unwrap_or(rest);
    if frame.iter().all(|byte| *byte == 0) {
        return None;
    }
    Some(whole_record(rest))
}

fn whole_record(rest: &[u8]) -> Result<&[u8], &'static str> {
    let mut input = JuteReader::new(rest);
    let checksum = input.long().map_err(|_| "a record ends early")?;
    let record = input.buffer().ok().flatten().ok_or("a record ends early")?;
    if adler(record) != checksum {
        return Err("a record fails its checksum");
    }
    match rest.get(FRAME_BYTES + record.len()) {
        Some(&END_OF_RECORD) => Ok(record),
        _ => Err("a record has no end"),
    }
}

/// Whether nothing was written after the record that begins here: its length leads beyond the file or to zeros only.
fn is_torn(rest: &[u8]) -> bool {
    let length = rest.get(8..FRAME_BYTES).and_then(|length| length.try_into().ok());
    let Some(length) = length.map(u32::from_be_bytes) else { return true };
    let end = (length as usize).saturating_add(FRAME_BYTES + 1);
    rest.get(end..).is_none_or(|behind| behind.iter().all(|byte| *byte == 0))
}

/// Whether the record's transaction was after `after`, and so was replayed.
fn replay_record(after: Zxid, record: &[u8], tree: &mut ImportedTree) -> Result<bool, BadPacket> {
    let mut input = JuteReader::new(record);
    let session = SessionId(input.long()?);
    input.int()?;
    let (zxid, time, kind) = (Zxid(input.long()?), input.long()?, input.int()?);
    if zxid <= after {
        return Ok(false);
    }
    tree.last_zxid = tree.last_zxid.max(zxid);
    tree.replay(Header { session, zxid, time, kind }, &mut input)?;
    Ok(true)
}
