//! The duplicate table (KV-4): what is remembered of clients whose calls are done exactly once.
//!
//! A client id is opened through the log and has a window of calls, from its first unacknowledged one on. A call in the
//! window that was done has its reply kept here, on every replica and in snapshots; a small one as it was, a large one as
//! 'done at revision r'. A call before the window was acknowledged; a call of a client that is not open is refused, never
//! taken as new. A client that is silent for long is expired by a leader's word, and its id is not opened again.
//!
//! Everything is bounded: open clients, calls of a window, bytes of a reply and of all replies.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_contracts::{LogIndex, Malformed, WireReader, WireWriter};

use super::mix;
use crate::command::{Outcome, Tag};
use crate::{ClientId, Refusal, Revision, Sequence};

/// Calls of one client that may be in flight.
pub const WINDOW: u64 = 256;
/// Clients that may be open.
const CLIENTS_MAX: usize = 100_000;
/// Bytes of a reply that is kept as it was.
const REPLY_BYTES_MAX: usize = 1024;
/// Bytes of all replies that are kept.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Expired ids that are remembered, so that a late 'open' of one does not make it new.
const EXPIRED_MAX: usize = 10_000;

/// The duplicate table.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    open: BTreeMap<ClientId, Client>,
    expired: VecDeque<ClientId>,
    kept_bytes: usize,
    digest: u64,
}

#[derive(Debug, Default)]
struct Client {
    unacknowledged: Sequence,
    replies: BTreeMap<Sequence, Kept>,
    last_used: LogIndex,
}

/// The reply to a call that was done at a revision; `None` if it was too large.
#[derive(Debug)]
struct Kept {
    revision: Revision,
    reply: Option<Bytes>,
}

/// Whether a call is to be done.
pub(super) enum Admission {
    /// It is: then its outcome must be kept.
    New,
    /// It was: this came of it.
    Done(Outcome),
    /// It is not, and whether it was is not known here.
    Refused(Refusal),
}

impl Clients {
    /// A client's id is new; opening one twice is no harm before its first call.
    pub(super) fn open(&mut self, at: LogIndex, id: ClientId) -> Result<(), Refusal> {
        if self.open.contains_key(&id) {
            return Ok(());
        }
        if self.expired.contains(&id) {
            return Err(Refusal::ClientExpired);
        }
        if self.open.len() >= CLIENTS_MAX {
            return Err(Refusal::TooManyClients);
        }
        let client = Client { unacknowledged: Sequence(1), last_used: at, ..Client::default() };
        self.digest = self.digest.wrapping_add(client.digest(id));
        self.open.insert(id, client);
        Ok(())
    }

    /// A call of a client has come out of the log.
    pub(super) fn admit(&mut self, at: LogIndex, tag: &Tag) -> Admission {
        let Some(client) = self.open.get_mut(&tag.client) else {
            return Admission::Refused(Refusal::ClientUnknown);
        };
        self.digest = self.digest.wrapping_sub(client.digest(tag.client));
        client.last_used = at;
        let (dropped_bytes, dropped_digest) =
            client.acknowledge(tag.unacknowledged.min(tag.sequence));
        self.kept_bytes -= dropped_bytes;
        self.digest =
            self.digest.wrapping_sub(dropped_digest).wrapping_add(client.digest(tag.client));
        client.admit(tag.sequence)
    }

    /// A call that was admitted as new came to this.
    pub(super) fn keep(&mut self, tag: &Tag, outcome: &Outcome) {
        let Some(client) = self.open.get_mut(&tag.client) else { return };
        let reply = outcome.encode_result();
        let fits =
            reply.len() <= REPLY_BYTES_MAX && self.kept_bytes + reply.len() <= KEPT_BYTES_MAX;
        // A refusal changed nothing and is small: it is always kept.
        let reply = Some(reply).filter(|_| fits || outcome.result.is_err());
        let kept = Kept { revision: outcome.revision, reply };
        self.kept_bytes += kept.bytes();
        self.digest = self.digest.wrapping_add(kept.digest(tag.sequence));
        client.replies.insert(tag.sequence, kept);
    }

    /// A leader says that a client was silent for long since its call at `last_used`.
    pub(super) fn expire(&mut self, id: ClientId, last_used: LogIndex) -> bool {
        if self.open.get(&id).is_none_or(|client| client.last_used != last_used) {
            return false;
        }
        if let Some(mut client) = self.open.remove(&id) {
            self.digest = self.digest.wrapping_sub(client.digest(id));
            let (bytes, digest) = client.acknowledge(Sequence(u64::MAX));
            self.kept_bytes -= bytes;
            self.digest = self.digest.wrapping_sub(digest);
        }
        self.expired.push_back(id);
        if self.expired.len() > EXPIRED_MAX {
            self.expired.pop_front();
        }
        true
    }

    /// The entry of a client's last call, if it is open.
    pub(crate) fn last_used(&self, id: ClientId) -> Option<LogIndex> {
        self.open.get(&id).map(|client| client.last_used)
    }

    /// Clients that are open.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = ClientId> {
        self.open.keys().copied()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.wrapping_add(mix(self.expired.len() as u64))
    }

    pub(super) fn encode(&self, out: &mut WireWriter) {
        out.u32(self.expired.len() as u32);
        self.expired.iter().for_each(|id| out.raw(&id.0.to_be_bytes()));
        out.u32(self.open.len() as u32);
        for (id, client) in &self.open {
            out.raw(&id.0.to_be_bytes());
            out.u64(client.unacknowledged.0);
            out.u64(client.last_used.0);
            out.u32(client.replies.len() as u32);
            for (sequence, kept) in &client.replies {
                out.u64(sequence.0);
                out.u64(kept.revision.0 as u64);
                out.bool(kept.reply.is_some());
                out.bytes(kept.reply.as_deref().unwrap_or_default());
            }
        }
    }

    pub(super) fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        let mut clients = Self::default();
        for _ in 0..input.count(16)? {
            clients.expired.push_back(ClientId(u128::from_be_bytes(input.array()?)));
        }
        for _ in 0..input.count(36)? {
            let id = ClientId(u128::from_be_bytes(input.array()?));
            let mut client = Client {
                unacknowledged: Sequence(input.u64()?),
                last_used: LogIndex(input.u64()?),
                ..Client::default()
            };
            clients.digest = clients.digest.wrapping_add(client.digest(id));
            for _ in 0..input.count(21)? {
                let sequence = Sequence(input.u64()?);
                let kept = decode_kept(input)?;
                clients.kept_bytes += kept.bytes();
                clients.digest = clients.digest.wrapping_add(kept.digest(sequence));
                client.replies.insert(sequence, kept);
            }
            clients.open.insert(id, client);
        }
        Ok(clients)
    }
}

fn decode_kept(input: &mut WireReader<'_>) -> Result<Kept, Malformed> {
    let revision = Revision(input.u64()? as i64);
    let is_small = input.bool()?;
    let reply = Bytes::copy_from_slice(input.bytes()?);
    Ok(Kept { revision, reply: Some(reply).filter(|_| is_small) })
}

impl Client {
    /// The client has the answers to all calls before `unacknowledged`: what is dropped, in bytes and as a digest.
    fn acknowledge(&mut self, unacknowledged: Sequence) -> (usize, u64) {
        self.unacknowledged = self.unacknowledged.max(unacknowledged);
        let (mut bytes, mut digest) = (0, 0_u64);
        while let Some(first) = self.replies.first_entry() {
            if *first.key() >= self.unacknowledged {
                break;
            }
            let (sequence, kept) = first.remove_entry();
            bytes += kept.bytes();
            digest = digest.wrapping_add(kept.digest(sequence));
        }
        (bytes, digest)
    }

    fn admit(&self, sequence: Sequence) -> Admission {
        if sequence < self.unacknowledged {
            return Admission::Refused(Refusal::Acknowledged);
        }
        if sequence.0 - self.unacknowledged.0 >= WINDOW {
            return Admission::Refused(Refusal::BeyondWindow);
        }
        match self.replies.get(&sequence) {
            Some(kept) => Admission::Done(kept.outcome()),
            None => Admission::New,
        }
    }

    fn digest(&self, id: ClientId) -> u64 {
        mix(id.0 as u64 ^ mix(self.unacknowledged.0 ^ mix(self.last_used.0)))
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.reply.as_ref().map_or(0, Bytes::len)
    }

    fn outcome(&self) -> Outcome {
        let kept = self.reply.as_ref().and_then(Outcome::decode_result);
        Outcome { revision: self.revision, result: kept.unwrap_or(Err(Refusal::DoneBefore)) }
    }

    fn digest(&self, sequence: Sequence) -> u64 {
        let reply = self.reply.as_ref().map_or(u64::MAX, |reply| crc32c::crc32c(reply).into());
        mix(sequence.0 ^ mix(self.revision.0 as u64 ^ mix(reply)))
    }
}
