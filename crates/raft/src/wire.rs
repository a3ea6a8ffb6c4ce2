//! Messages between members as bytes, version 1. The frame around them is the transport's affair: it
//! carries the length, the group and a checksum, and two members agree on the version when they connect.

use bytes::Bytes;
use quorate_contracts::{
    Entry, EntryKind, LogIndex, Malformed, PROPOSAL_HEADER_BYTES, Refusal, RequestId, SnapshotMeta,
    Term, Wire, WireReader, WireWriter,
};

use crate::{Attempt, Body, Message, ReplicaMessage};

/// An entry without its data: id, kind, checksum, length.
const ENTRY_BYTES_MIN: usize = 8 + 8 + 1 + 4 + 4;

mod replica_tag {
    pub(super) const RAFT: u8 = 1;
    pub(super) const FORWARD: u8 = 2;
    pub(super) const NOT_TAKEN: u8 = 3;
    pub(super) const SERVICE: u8 = 4;
}

impl<M: Wire> Wire for ReplicaMessage<M> {
    fn encode(&self, out: &mut WireWriter) {
        match self {
            Self::Raft(message) => {
                out.u8(replica_tag::RAFT);
                message.encode(out);
            }
            Self::Forward(proposals) => {
                out.u8(replica_tag::FORWARD);
                out.u32(proposals.len() as u32);
                proposals.iter().for_each(|data| out.bytes(data));
            }
            Self::NotTaken { ids, reason } => {
                out.u8(replica_tag::NOT_TAKEN);
                out.u8(refusal_number(*reason));
                out.u32(ids.len() as u32);
                ids.iter().for_each(|id| out.u64(id.0));
            }
            Self::Service(message) => {
                out.u8(replica_tag::SERVICE);
                message.encode(out);
            }
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            replica_tag::RAFT => Self::Raft(Message::decode(input)?),
            replica_tag::FORWARD => Self::Forward(decode_proposals(input)?),
            replica_tag::NOT_TAKEN => {
                let reason = refusal(input.u8()?)?;
                let ids = (0..input.count(8)?).map(|_| input.u64().map(RequestId));
                Self::NotTaken { ids: ids.collect::<Result<_, _>>()?, reason }
            }
            replica_tag::SERVICE => Self::Service(M::decode(input)?),
            _ => return Err(Malformed("unknown kind of a replica's message")),
        })
    }
}

fn decode_proposals(input: &mut WireReader<'_>) -> Result<Vec<Bytes>, Malformed> {
    let count = input.count(4 + PROPOSAL_HEADER_BYTES)?;
    let proposals = (0..count).map(|_| match input.shared()? {
        data if data.len() < PROPOSAL_HEADER_BYTES => Err(Malformed("a proposal without a header")),
        data => Ok(data),
    });
    proposals.collect()
}

fn refusal_number(reason: Refusal) -> u8 {
    match reason {
        Refusal::NoLeader => 1,
        Refusal::Busy => 2,
        Refusal::TooLarge => 3,
        Refusal::Transferring => 4,
        Refusal::NoRoom => 5,
    }
}

fn refusal(number: u8) -> Result<Refusal, Malformed> {
    match number {
        1 => Ok(Refusal::NoLeader),
        2 => Ok(Refusal::Busy),
        3 => Ok(Refusal::TooLarge),
        4 => Ok(Refusal::Transferring),
        5 => Ok(Refusal::NoRoom),
        _ => Err(Malformed("unknown reason of a refusal")),
    }
}

mod tag {
    pub(super) const REQUEST_VOTE: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const APPEND_ENTRIES: u8 = 3;
    pub(super) const ACCEPTED: u8 = 4;
    pub(super) const REJECTED: u8 = 5;
    pub(super) const INSTALL_SNAPSHOT: u8 = 6;
    pub(super) const SNAPSHOT_PROGRESS: u8 = 7;
    pub(super) const TIMEOUT_NOW: u8 = 8;
    pub(super) const STALE: u8 = 9;
    pub(super) const READ_REQUEST: u8 = 10;
    pub(super) const READ_ANSWER: u8 = 11;
    pub(super) const HIBERNATE: u8 = 12;
    pub(super) const HIBERNATING: u8 = 13;
    pub(super) const DAMAGED: u8 = 14;
    pub(super) const AWAKE: u8 = 15;
    pub(super) const REVERTED: u8 = 16;
    pub(super) const FULL: u8 = 17;
}

impl Wire for Message {
    fn encode(&self, out: &mut WireWriter) {
        out.u64(self.term.0);
        encode_body(&self.body, out);
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Ok(Self { term: Term(input.u64()?), body: decode_body(input)? })
    }
}

fn encode_body(body: &Body, out: &mut WireWriter) {
    match body {
        Body::RequestVote { pre_vote, transfer, last } => {
            out.u8(tag::REQUEST_VOTE);
            out.bool(*pre_vote);
            out.bool(*transfer);
            out.entry_id(*last);
        }
        Body::Vote { pre_vote, granted } => {
            out.u8(tag::VOTE);
            out.bool(*pre_vote);
            out.bool(*granted);
        }
        Body::AppendEntries { prev, entries, commit, round } => {
            out.u8(tag::APPEND_ENTRIES);
            out.entry_id(*prev);
            out.u64(commit.0);
            out.u64(*round);
            out.u32(entries.len() as u32);
            entries.iter().for_each(|entry| encode_entry(entry, out));
        }
        Body::Accepted { matched, round } => {
            out.u8(tag::ACCEPTED);
            out.u64(matched.0);
            out.u64(*round);
        }
        Body::Full { matched, round, takes } => {
            out.u8(tag::FULL);
            out.u64(matched.0);
            out.u64(*round);
            out.bool(*takes);
        }
        Body::Rejected { prev, hint, round } => {
            out.u8(tag::REJECTED);
            out.u64(prev.0);
            out.entry_id(*hint);
            out.u64(*round);
        }
        Body::Damaged { hint, round } => {
            out.u8(tag::DAMAGED);
            out.entry_id(*hint);
            out.u64(*round);
        }
        Body::Reverted { last, round } => {
            out.u8(tag::REVERTED);
            out.entry_id(*last);
            out.u64(*round);
        }
        Body::InstallSnapshot { meta, offset, bytes, done, round } => {
            out.u8(tag::INSTALL_SNAPSHOT);
            out.entry_id(meta.last);
            out.bytes(&meta.membership);
            out.u64(*offset);
            out.bytes(bytes);
            out.bool(*done);
            out.u64(*round);
        }
        Body::SnapshotProgress { last, next_offset } => {
            out.u8(tag::SNAPSHOT_PROGRESS);
            out.entry_id(*last);
            out.u64(*next_offset);
        }
        Body::TimeoutNow => out.u8(tag::TIMEOUT_NOW),
        Body::Stale => out.u8(tag::STALE),
        Body::Awake => out.u8(tag::AWAKE),
        Body::ReadRequest { attempt } => {
            out.u8(tag::READ_REQUEST);
            out.u64(attempt.0);
        }
        Body::ReadAnswer { attempt, index } => {
            out.u8(tag::READ_ANSWER);
            out.u64(attempt.0);
            out.u64(index.0);
        }
        Body::Hibernate { last, round } => {
            out.u8(tag::HIBERNATE);
            out.entry_id(*last);
            out.u64(*round);
        }
        Body::Hibernating { round } => {
            out.u8(tag::HIBERNATING);
            out.u64(*round);
        }
    }
}

fn decode_body(input: &mut WireReader<'_>) -> Result<Body, Malformed> {
    Ok(match input.u8()? {
        tag::REQUEST_VOTE => Body::RequestVote {
            pre_vote: input.bool()?,
            transfer: input.bool()?,
            last: input.entry_id()?,
        },
        tag::VOTE => Body::Vote { pre_vote: input.bool()?, granted: input.bool()? },
        tag::APPEND_ENTRIES => decode_append(input)?,
        tag::ACCEPTED => Body::Accepted { matched: LogIndex(input.u64()?), round: input.u64()? },
        tag::FULL => Body::Full {
            matched: LogIndex(input.u64()?),
            round: input.u64()?,
            takes: input.bool()?,
        },
        tag::REJECTED => Body::Rejected {
            prev: LogIndex(input.u64()?),
            hint: input.entry_id()?,
            round: input.u64()?,
        },
        tag::DAMAGED => Body::Damaged { hint: input.entry_id()?, round: input.u64()? },
        tag::REVERTED => Body::Reverted { last: input.entry_id()?, round: input.u64()? },
        tag::INSTALL_SNAPSHOT => Body::InstallSnapshot {
            meta: SnapshotMeta { last: input.entry_id()?, membership: input.shared()? },
            offset: input.u64()?,
            bytes: input.shared()?,
            done: input.bool()?,
            round: input.u64()?,
        },
        tag::SNAPSHOT_PROGRESS => {
            Body::SnapshotProgress { last: input.entry_id()?, next_offset: input.u64()? }
        }
        tag::TIMEOUT_NOW => Body::TimeoutNow,
        tag::STALE => Body::Stale,
        tag::AWAKE => Body::Awake,
        tag::READ_REQUEST => Body::ReadRequest { attempt: Attempt(input.u64()?) },
        tag::READ_ANSWER => {
            Body::ReadAnswer { attempt: Attempt(input.u64()?), index: LogIndex(input.u64()?) }
        }
        tag::HIBERNATE => Body::Hibernate { last: input.entry_id()?, round: input.u64()? },
        tag::HIBERNATING => Body::Hibernating { round: input.u64()? },
        _ => return Err(Malformed("unknown kind of a Raft message")),
    })
}

fn decode_append(input: &mut WireReader<'_>) -> Result<Body, Malformed> {
    let prev = input.entry_id()?;
    let commit = LogIndex(input.u64()?);
    let round = input.u64()?;
    let count = input.count(ENTRY_BYTES_MIN)?;
    let mut entries = Vec::with_capacity(count);
    for offset in 1..=count as u64 {
        let entry = decode_entry(input)?;
        if entry.id.index.0 != prev.index.0.wrapping_add(offset) {
            return Err(Malformed("entries of an append are not contiguous"));
        }
        entries.push(entry);
    }
    Ok(Body::AppendEntries { prev, entries, commit, round })
}

fn encode_entry(entry: &Entry, out: &mut WireWriter) {
    out.entry_id(entry.id);
    out.u8(entry.kind as u8);
    out.u32(entry.checksum);
    out.bytes(&entry.data);
}

fn decode_entry(input: &mut WireReader<'_>) -> Result<Entry, Malformed> {
    Ok(Entry {
        id: input.entry_id()?,
        kind: EntryKind::from_u8(input.u8()?).ok_or(Malformed("unknown kind of entry"))?,
        checksum: input.u32()?,
        data: input.shared()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_contracts::EntryId;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(LogIndex(index), Term(term))
    }

    fn one_of_each() -> Vec<Body> {
        let meta = SnapshotMeta { last: id(9, 3), membership: Bytes::from_static(b"members") };
        let entry = Entry::new(id(5, 3), EntryKind::Command, Bytes::from_static(b"set x=1"));
        vec![
            Body::RequestVote { pre_vote: true, transfer: false, last: id(4, 2) },
            Body::Vote { pre_vote: false, granted: true },
            Body::AppendEntries {
                prev: id(4, 2),
                entries: vec![entry],
                commit: LogIndex(3),
                round: 8,
            },
            Body::Accepted { matched: LogIndex(5), round: 8 },
            Body::Full { matched: LogIndex(5), round: 8, takes: true },
            Body::Rejected { prev: LogIndex(4), hint: id(2, 1), round: 8 },
            Body::Damaged { hint: id(2, 1), round: 8 },
            Body::Reverted { last: id(4, 2), round: 8 },
            Body::InstallSnapshot {
                meta,
                offset: 7,
                bytes: Bytes::from_static(b"piece"),
                done: true,
                round: 8,
            },
            Body::SnapshotProgress { last: id(9, 3), next_offset: 12 },
            Body::TimeoutNow,
            Body::Stale,
            Body::ReadRequest { attempt: Attempt(77) },
            Body::ReadAnswer { attempt: Attempt(77), index: LogIndex(5) },
            Body::Hibernate { last: id(4, 2), round: 9 },
            Body::Hibernating { round: 9 },
            Body::Awake,
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_went() {
        for body in one_of_each() {
            let message = Message { term: Term(3), body };
            assert_eq!(Message::from_bytes(&message.to_bytes()).as_ref(), Ok(&message));
        }
    }

    /// RPC-7: a message that was cut anywhere is refused, not misread.
    #[test]
    fn a_message_that_was_cut_is_malformed() {
        for body in one_of_each() {
            let bytes = Message { term: Term(3), body }.to_bytes();
            for end in 0..bytes.len() {
                assert!(Message::from_bytes(&bytes.slice(..end)).is_err(), "cut at {end}");
            }
        }
    }
}
