//! The multi-version store as a replicated state machine (KV-1, KV-4).
//!
//! | file | what it keeps |
//! | --- | --- |
//! | `versions` | versions of keys, compactly; slices of snapshots |
//! | `index` | which key has which newest version; counts |
//! | `mvcc` | keys through time: history, compaction |
//! | `range` | reads |
//! | `txn` | writes: compared, checked, then done |
//! | `lease` | leases and their keys |
//! | `auth`, `permits` | users, roles, and what a request needs |
//! | `clients` | what makes calls take effect once |
//! | `snapshot` | all of it as bytes |
//! | `builder` | all of it made of what another store kept |
//!
//! The store knows no time: that something has expired is a leader's word, and it counts only while that leader
//! reigns ([`Body::Reign`]): the word of an earlier one may come late, when clients were already told that they live.

mod auth;
mod builder;
mod clients;
mod index;
mod lease;
mod mvcc;
mod permits;
mod range;
mod snapshot;
mod txn;
mod versions;

use std::collections::BTreeSet;

use quorate_contracts::{BadSnapshot, LogIndex, Progress, StateMachine, Term};

pub use auth::{Access, Auth, ROOT};
pub(crate) use builder::StoreBuilder;
pub use clients::WINDOW;
pub use lease::{LEASE_TTL_MAX, LEASE_TTL_MIN};
pub(crate) use mvcc::Mvcc;
pub use range::is_in_order;
use range::{Measured, Piece, measure, piece, range, readable_revision};
pub(crate) use snapshot::VersionReader;
use txn::read_only;
pub(crate) use txn::{is_read_only, is_serializable};
pub(crate) use versions::{Position, Version, VersionId, decode as decode_version};

use crate::command::{Body, Caller, Command, Event, Outcome, Reply, Tag};
use crate::messages::etcdserverpb as pb;
use crate::messages::etcdserverpb::AlarmType as Alarm;
use crate::messages::etcdserverpb::alarm_request::AlarmAction;
use crate::{KeyRange, LeaseId, Refusal, Revision};
use clients::{Admission, Clients};
use lease::{Lease, Leases};
use txn::Transaction;

/// Versions dropped with each command while compaction has left some behind.
const GARBAGE_PER_COMMAND: usize = 256;
/// Versions dropped by a command that does nothing else: a few milliseconds.
const GARBAGE_PER_COLLECTION: usize = 8192;

/// Keys, leases, users, clients.
#[derive(Debug, Default)]
pub struct Store {
    mvcc: Mvcc,
    leases: Leases,
    auth: Auth,
    clients: Clients,
    alarms: BTreeSet<(u64, Alarm)>,
    /// The term whose leader keeps the time.
    reign: Term,
    /// The part of a snapshot that is made when it begins, until it is written.
    head: Option<Vec<u8>>,
}

impl Store {
    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.mvcc.current
    }

    /// Revisions below cannot be read; -1 if none was compacted.
    pub fn compacted(&self) -> Revision {
        self.mvcc.compacted
    }

    /// Users and roles.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The alarms that are raised, as (member, alarm).
    pub fn alarms(&self) -> impl Iterator<Item = (u64, Alarm)> {
        self.alarms.iter().copied()
    }

    /// Bytes of all keys and values kept, and of what keeps them.
    pub fn bytes(&self) -> u64 {
        self.mvcc.versions.bytes()
    }

    /// How many keys exist.
    pub fn keys(&self) -> u64 {
        self.mvcc.count(KeyRange::ALL, None)
    }

    /// A range of keys, as it is here.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Refusal> {
        self.mvcc.check_readable(readable_revision(request))?;
        Ok(range(&self.mvcc, request, self.mvcc.current))
    }

    /// As much of a range in the order of its keys as comes to so many bytes, and where the rest begins.
    pub(crate) fn piece(
        &self,
        request: &pb::RangeRequest,
        bytes_max: usize,
    ) -> Result<Piece, Refusal> {
        self.mvcc.check_readable(readable_revision(request))?;
        Ok(piece(&self.mvcc, request, self.mvcc.current, bytes_max))
    }

    /// Measures a range in the order of its keys.
    pub(crate) fn measure(
        &self,
        request: &pb::RangeRequest,
        keys_max: u64,
    ) -> Result<Measured, Refusal> {
        self.mvcc.check_readable(readable_revision(request))?;
        Ok(measure(&self.mvcc, request, keys_max))
    }

    /// A hash of all that can be read at a revision, the same on all members (HashKV).
    pub fn hash(&self, revision: Revision) -> Result<u64, Refusal> {
        self.mvcc.check_readable(Some(revision))?;
        Ok(self.mvcc.hash(revision))
    }

    /// Leases and the seconds they are granted for.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = (LeaseId, i64)> {
        self.leases.iter().map(|(id, lease)| (id, lease.ttl))
    }

    /// A transaction that writes nothing.
    pub(crate) fn read_txn(&self, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
        read_only(&self.mvcc, txn)
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    pub(crate) fn mvcc(&self) -> &Mvcc {
        &self.mvcc
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn reign(&self) -> Term {
        self.reign
    }
}

impl StateMachine for Store {
    type Outcome = Outcome;
    type Event = Event;

    fn apply(&mut self, at: LogIndex, command: &[u8], events: &mut Vec<Event>) -> Outcome {
        let command = Command::decode(command)
            .unwrap_or_else(|error| panic!("entry {at} is no command of ours: {error}"));
        let before = self.mvcc.current;
        let outcome = match &command.tag {
            Some(tag) => self.once(at, tag, &command, events),
            None => self.outcome(at, &command, events),
        };
        self.mvcc.collect_garbage(GARBAGE_PER_COMMAND);
        if self.mvcc.current > before {
            events.push(Event::Written);
        }
        outcome
    }

    fn digest(&self) -> u64 {
        let Mvcc { versions, floor, current, compacted, .. } = &self.mvcc;
        let numbers =
            [current.0, compacted.0, floor.revision.0, floor.sub.into(), self.reign.0 as i64];
        let alarms = self.alarms.iter().map(|(member, alarm)| mix(member ^ (*alarm as u64) << 60));
        let parts =
            [versions.digest(), self.leases.digest(), self.auth.digest(), self.clients.digest()];
        let numbers = numbers.into_iter().fold(0, |hash, number| mix(hash ^ number as u64));
        parts.into_iter().chain(alarms).fold(numbers, u64::wrapping_add)
    }

    fn begin_snapshot(&mut self) {
        self.begin_snapshotting();
    }

    fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        self.next_slice(bytes, out)
    }

    fn restore(reader: &mut dyn std::io::Read) -> Result<Self, BadSnapshot> {
        snapshot::restore(reader)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        self.bytes() + 16 * self.leases.iter().len() as u64 + 64 * self.clients.ids().len() as u64
    }
}

impl Store {
    /// A call of a client that counts its calls: done if it is new, answered as before if it is not.
    fn once(
        &mut self,
        at: LogIndex,
        tag: &Tag,
        command: &Command,
        events: &mut Vec<Event>,
    ) -> Outcome {
        match self.clients.admit(at, tag) {
            Admission::New => {
                events.push(Event::ClientUsed(tag.client));
                let outcome = self.outcome(at, command, events);
                self.clients.keep(tag, &outcome);
                outcome
            }
            Admission::Done(outcome) => outcome,
            Admission::Refused(refusal) => self.with_revision(Err(refusal)),
        }
    }

    fn outcome(&mut self, at: LogIndex, command: &Command, events: &mut Vec<Event>) -> Outcome {
        let result = self.perform(at, command.caller.as_ref(), &command.body, events);
        self.with_revision(result)
    }

    fn with_revision(&self, result: Result<Reply, Refusal>) -> Outcome {
        Outcome { revision: self.mvcc.current, result }
    }

    fn perform(
        &mut self,
        at: LogIndex,
        caller: Option<&Caller>,
        body: &Body,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        self.check_permitted(caller, body)?;
        self.check_alarms(body)?;
        match body {
            Body::Put(put) => self.write(|txn| txn.put(put).map(Reply::Put)),
            Body::DeleteRange(request) => {
                self.write(|txn| Ok(Reply::DeleteRange(txn.delete_range(request))))
            }
            Body::Txn(txn) => self.write(|writer| writer.txn(txn).map(Reply::Txn)),
            Body::Compact(request) => self.compact(Revision(request.revision), events),
            Body::LeaseGrant(request) => self.grant(request, events),
            Body::LeaseRevoke(request) => self.end_lease(LeaseId(request.id), events),
            Body::Alarm(request) => Ok(Reply::Alarm(self.alarm(request))),
            Body::Auth(change) => self.auth.change(caller, change).map(|()| Reply::Done),
            Body::OpenClient(client) => {
                self.clients.open(at, *client)?;
                events.push(Event::ClientUsed(*client));
                Ok(Reply::Done)
            }
            Body::IssueToken { user, token } => {
                self.auth.password_hash(user)?;
                let caller = Caller { user: user.clone(), auth_revision: self.auth.revision() };
                events.push(Event::TokenIssued { token: token.clone(), caller });
                Ok(Reply::Done)
            }
            body => {
                self.leader_says(body, events);
                Ok(Reply::Done)
            }
        }
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        let mut transaction = Transaction::begin(&mut self.mvcc, &mut self.leases);
        let reply = write(&mut transaction)?;
        transaction.commit();
        Ok(reply)
    }

    /// What a leader says of time; not heard if it does not reign (any more).
    fn leader_says(&mut self, body: &Body, events: &mut Vec<Event>) {
        match body {
            Body::Reign(term) if *term > self.reign => {
                self.reign = *term;
                events.push(Event::Reign(*term));
            }
            // A lease that is gone already is gone.
            Body::ExpireLease { lease, reign } if *reign == self.reign => {
                drop(self.end_lease(*lease, events))
            }
            Body::ExpireClient { client, last_used, reign }
                if *reign == self.reign && self.clients.expire(*client, *last_used) =>
            {
                events.push(Event::ClientEnded(*client));
            }
            Body::CollectGarbage => self.mvcc.collect_garbage(GARBAGE_PER_COLLECTION),
            _ => {}
        }
    }

    fn compact(&mut self, revision: Revision, events: &mut Vec<Event>) -> Result<Reply, Refusal> {
        self.mvcc.compact(revision)?;
        events.push(Event::Compacted(revision));
        Ok(Reply::Done)
    }

    fn grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        let ttl = self.leases.grant(LeaseId(request.id), request.ttl)?;
        events.push(Event::LeaseGranted(LeaseId(request.id)));
        Ok(Reply::LeaseGrant(pb::LeaseGrantResponse { id: request.id, ttl, ..Default::default() }))
    }

    /// A lease ends, and its keys with it, in one revision.
    fn end_lease(&mut self, id: LeaseId, events: &mut Vec<Event>) -> Result<Reply, Refusal> {
        let keys = self.leases.revoke(id)?;
        self.write(|txn| {
            keys.iter().for_each(|key| txn.delete(key));
            Ok(Reply::Done)
        })?;
        events.push(Event::LeaseEnded(id));
        Ok(Reply::Done)
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> pb::AlarmResponse {
        let alarm = (request.member_id, request.alarm());
        let told = match request.action() {
            AlarmAction::Activate => {
                self.alarms.insert(alarm);
                vec![alarm]
            }
            AlarmAction::Deactivate => self.alarms.take(&alarm).into_iter().collect(),
            AlarmAction::Get => {
                let wanted = |(_, kind): &(u64, Alarm)| alarm.1 == Alarm::None || *kind == alarm.1;
                self.alarms.iter().copied().filter(wanted).collect()
            }
        };
        let member =
            |(member_id, alarm): (u64, Alarm)| pb::AlarmMember { member_id, alarm: alarm.into() };
        pb::AlarmResponse { header: None, alarms: told.into_iter().map(member).collect() }
    }

    /// Without space nothing is added; what frees space goes on.
    fn check_alarms(&self, body: &Body) -> Result<(), Refusal> {
        let raised = |kind| self.alarms.iter().any(|(_, alarm)| *alarm == kind);
        let is_request = matches!(
            body,
            Body::Put(_)
                | Body::DeleteRange(_)
                | Body::Txn(_)
                | Body::Compact(_)
                | Body::LeaseGrant(_)
                | Body::LeaseRevoke(_)
        );
        if is_request && raised(Alarm::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if needs_space(body) && raised(Alarm::Nospace) { Err(Refusal::NoSpace) } else { Ok(()) }
    }
}

/// Whether a request adds something.
pub(crate) fn needs_space(body: &Body) -> bool {
    match body {
        Body::Put(_) | Body::LeaseGrant(_) => true,
        Body::Txn(txn) => txn_needs_space(txn),
        _ => false,
    }
}

fn txn_needs_space(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => txn_needs_space(nested),
        _ => false,
    })
}

/// The finisher of splitmix64 (Steele, Lea and Flood, 2014): every bit of the input reaches every bit of the output.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
