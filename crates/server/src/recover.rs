//! A cluster that lost its majority for good goes on with what one member has (thesis, section 4: an administrator's override, outside
//! the protocol). The member becomes the only one of a cluster of another id; others are added to it afresh.
//!
//! Raft cannot do this: entries that a majority acknowledged may be on the lost members alone. So it is done while nothing runs, by
//! somebody who names the members that are given up.
//!
//! Every group gets a log that says the same, and two things more: who its members are from here on, and, in the system group, the list of
//! members. It is written beside the old one, under another incarnation, and takes its place by the replacement of one file: a
//! crash leaves the old life or the new one. Since the cluster has another id, members that come back are refused, and refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{
    ClusterId, Entry, EntryId, EntryKind, GroupId, HardState, LogIndex, NodeId, Record, Recovered,
    RequestId, SnapshotMeta, Term, Wire, WriteMark,
};
use quorate_raft::Membership;
use quorate_roster::{List, Member, Roster, RosterVersion, replacement};
use quorate_storage::{SnapshotContent, StorageOptions, finished_name};
use thiserror::Error;

use crate::config::ServeConfig;
use crate::data_dir::{DataDir, DataDirError, Life, random_u64};
use crate::following::configured;
use crate::offline::{Offline, OfflineError};

/// Empty entries that the coordination group's log goes on with. A zxid is a position in that log, and clients may have seen later
/// ones than this member has: they would be kept waiting until it got there.
const LEAP: u64 = 1 << 17;
/// Pieces in which logs and snapshots are copied, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// What an entry takes besides its data, roughly.
const ENTRY_BYTES: usize = 32;
/// How long a member may take to answer that is given up for lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why nothing was recovered; the directory is as it was.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RecoverError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Offline(#[from] OfflineError),
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("the other members are {}, not {}", names(.others), names(.named))]
    OtherMembers { others: Vec<u64>, named: Vec<u64> },
    #[error("member {member} answers at {address}: it is not lost")]
    Answers { member: NodeId, address: String },
}

fn names(ids: &[u64]) -> String {
    let names: Vec<String> = ids.iter().map(u64::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

/// How far a group's log goes on this member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStanding {
    /// Which group.
    pub group: GroupId,
    /// Its newest term.
    pub term: Term,
    /// Its last entry: whatever was acknowledged behind it is lost. All before becomes part of the state, also what was never
    /// acknowledged.
    pub last: EntryId,
}

/// A member that could become the only one.
#[derive(Debug)]
pub struct Survivor {
    data_dir: DataDir,
    old: Offline,
    groups: BTreeMap<GroupId, Recovered>,
    roster: Roster,
    own: Member,
}

/// What it came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The cluster's id from here on.
    pub cluster: ClusterId,
    /// Files of the life before, which nobody needs any more once the cluster is well.
    pub old_files: Vec<PathBuf>,
}

impl Survivor {
    /// Opens the data directory of a node that does not run, and looks. What is damaged is refused: nobody is left to send
    /// it again.
    pub fn open(config: &ServeConfig) -> Result<Self, RecoverError> {
        let data_dir = DataDir::open(&config.data_dir, NodeId(config.node))?;
        let options = StorageOptions {
            segment_bytes: config.segment_bytes,
            reserve_bytes: config.log_reserve_bytes,
            free_bytes_min: config.disk_free_bytes_min,
            alone: true,
            ..StorageOptions::default()
        };
        let (old, mut groups) = Offline::open(&data_dir.log(), data_dir.identity(), options)?;
        for group in [GroupId::SYSTEM, GroupId::COORDINATION, GroupId::KEY_VALUE] {
            groups.entry(group).or_default();
        }
        let roster = data_dir.roster()?.unwrap_or_else(|| configured(&config.members));
        let listed = roster.members.get(&NodeId(config.node)).cloned();
        let own = listed.or_else(|| config.own_address().map(Member::from)).unwrap_or_default();
        Ok(Self { data_dir, old, groups, roster, own: Member { votes: true, ..own } })
    }

    /// Who the members are, as far as this one knows.
    pub fn members(&self) -> &List {
        &self.roster.members
    }

    /// The others: who would be given up.
    pub fn others(&self) -> Vec<u64> {
        let own = self.data_dir.identity().node;
        self.roster.members.keys().filter(|id| **id != own).map(|id| id.0).collect()
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.data_dir.identity().cluster
    }

    /// What it has of each group.
    pub fn standings(&self) -> Vec<GroupStanding> {
        let standing = |(group, found): (&GroupId, &Recovered)| GroupStanding {
            group: *group,
            term: found.hard_state.term,
            last: found.last,
        };
        self.groups.iter().map(standing).collect()
    }

    /// Makes it the only member. `given_up` must name all the others, and none of them may answer.
    pub fn recover(mut self, given_up: &[u64]) -> Result<Recovery, RecoverError> {
        self.check(given_up)?;
        let path = self.data_dir.log();
        let io = |error| RecoverError::Io { path: path.clone(), error };
        let cluster = ClusterId(random_u64().map_err(io)?);
        let life = self.data_dir.another_life(cluster).map_err(io)?;
        let (mut new, _) = Offline::open(&life.log(), life.identity, StorageOptions::default())?;
        let mut version = RosterVersion(0);
        for (group, found) in std::mem::take(&mut self.groups) {
            let end = self.copy(group, &found, &mut new, &life)?;
            if group == GroupId::SYSTEM {
                version = RosterVersion(end.0);
            }
        }
        drop(new);
        let old_files = self.data_dir.files();
        let roster = Roster { version, members: self.alone() };
        self.data_dir.turn_to(&life, &roster)?;
        Ok(Recovery { cluster, old_files })
    }

    fn check(&self, given_up: &[u64]) -> Result<(), RecoverError> {
        let (others, named) = (self.others(), given_up.to_vec());
        let sorted = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        if sorted(&others) != sorted(&named) {
            return Err(RecoverError::OtherMembers { others, named });
        }
        let own = self.data_dir.identity().node;
        for (id, member) in self.roster.members.iter().filter(|(id, _)| **id != own) {
            if answers(&member.address) {
                let address = member.address.clone();
                return Err(RecoverError::Answers { member: *id, address });
            }
        }
        Ok(())
    }

    fn alone(&self) -> List {
        List::from([(self.data_dir.identity().node, self.own.clone())])
    }

    /// Writes a group's state and log anew, and what is different from here on. Returns where it ends.
    fn copy(
        &mut self,
        group: GroupId,
        found: &Recovered,
        new: &mut Offline,
        life: &Life,
    ) -> Result<LogIndex, RecoverError> {
        let voters = Membership::of_voters([life.identity.node]).to_bytes();
        let mut marks = (1..).map(WriteMark);
        let mut base = EntryId::ZERO;
        if let Some((meta, _)) = &found.snapshot {
            self.copy_snapshot(group, meta, &voters, new)?;
            base = meta.last;
        }
        let record = Record { base: Some(base), ..Record::default() };
        new.persist(group, marks.next().unwrap_or_default(), record)?;
        let mut next = base.index.next();
        while next <= found.last.index {
            let entries = self.read(group, next, found.last.index)?;
            next = entries.last().map_or(next, |entry| entry.id.index.next());
            let record = Record { entries, ..Record::default() };
            new.persist(group, marks.next().unwrap_or_default(), record)?;
        }
        let record = self.forged(group, found, voters, life);
        let end = record.entries.last().map_or(found.last.index, |entry| entry.id.index);
        new.persist(group, marks.next().unwrap_or_default(), record)?;
        Ok(end)
    }

    /// Entries from `from` on, up to a piece of them: what was written one by one is read one by one, and need not be written so.
    fn read(
        &mut self,
        group: GroupId,
        from: LogIndex,
        to: LogIndex,
    ) -> Result<Vec<Entry>, RecoverError> {
        let (mut all, mut next, mut bytes) = (Vec::new(), from, 0);
        while next <= to && bytes < PIECE_BYTES {
            let entries = self.old.read(group, next, to, PIECE_BYTES - bytes)?;
            let Some(last) = entries.last().map(|entry| entry.id.index) else {
                let error = io::Error::other(format!("group {group} has no entry {next}"));
                return Err(RecoverError::Io { path: self.data_dir.log(), error });
            };
            bytes += entries.iter().map(|entry| ENTRY_BYTES + entry.data.len()).sum::<usize>();
            all.extend(entries);
            next = last.next();
        }
        Ok(all)
    }

    fn copy_snapshot(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
        voters: &Bytes,
        new: &mut Offline,
    ) -> Result<(), RecoverError> {
        let path = self.data_dir.log().join(finished_name(group, meta.last));
        let io = |error| RecoverError::Io { path: path.clone(), error };
        let file = File::open(&path).map_err(io)?;
        let (_, _, mut content) = SnapshotContent::open(io::BufReader::new(file)).map_err(io)?;
        new.begin_snapshot(group, SnapshotMeta { last: meta.last, membership: voters.clone() });
        loop {
            let mut piece = Vec::new();
            let read = content.by_ref().take(PIECE_BYTES as u64 / 4).read_to_end(&mut piece);
            if read.map_err(io)? == 0 {
                break;
            }
            new.write_snapshot(group, piece.into())?;
        }
        Ok(new.finish_snapshot(group)?)
    }

    /// What no leader ever wrote: a term of its own, and entries in it.
    fn forged(&self, group: GroupId, found: &Recovered, voters: Bytes, life: &Life) -> Record {
        let node = life.identity.node;
        let term = found.hard_state.term.next();
        let mut entries = vec![(EntryKind::Membership, voters)];
        match group {
            GroupId::SYSTEM => {
                let nonce = RequestId(life.identity.incarnation.0);
                entries.push((EntryKind::Command, replacement(node, nonce, &self.alone())));
            }
            GroupId::COORDINATION => {
                entries.extend((0..LEAP).map(|_| (EntryKind::Noop, Bytes::new())));
            }
            _ => {}
        }
        let mut index = found.last.index;
        let entries = entries.into_iter().map(|(kind, data)| {
            index = index.next();
            Entry::new(EntryId::new(index, term), kind, data)
        });
        let hard_state = HardState { term, voted_for: Some(node) };
        Record { hard_state: Some(hard_state), entries: entries.collect(), ..Record::default() }
    }
}

/// Whether somebody takes connections there.
fn answers(address: &str) -> bool {
    let addresses = address.to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

#[cfg(test)]
mod tests {
    use quorate_contracts::{Proposal, StateMachine};
    use quorate_roster::Registry;

    use super::*;
    use crate::config::MemberAddress;

    fn entry(index: u64, kind: EntryKind, data: &[u8]) -> Entry {
        Entry::new(EntryId::new(LogIndex(index), Term(4)), kind, Bytes::copy_from_slice(data))
    }

    /// Node 3 of three; nobody listens where the others should.
    fn config(data_dir: PathBuf) -> ServeConfig {
        let member = |id| MemberAddress {
            id,
            member: format!("127.0.0.1:{id}"),
            member_listen: None,
            zookeeper: ([127, 0, 0, 1], 1).into(),
            zookeeper_tls: None,
            etcd: None,
            admin: ([127, 0, 0, 1], 1).into(),
            observer: false,
        };
        let members = (1..=3).map(member).collect();
        ServeConfig { node: 3, data_dir, members, ..ServeConfig::default() }
    }

    /// The directory of node 3, with a snapshot of one group and entries of two.
    fn directory(name: &str) -> ServeConfig {
        let path = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        DataDir::format(&path, ClusterId(7), NodeId(3)).unwrap();
        let data_dir = DataDir::open(&path, NodeId(3)).unwrap();
        let options = StorageOptions::default();
        let (mut log, _) = Offline::open(&data_dir.log(), data_dir.identity(), options).unwrap();
        let voters = Membership::of_voters([1, 2, 3].map(NodeId)).to_bytes();
        let hard_state = Some(HardState { term: Term(4), voted_for: None });
        let entries = vec![
            entry(1, EntryKind::Noop, b""),
            entry(2, EntryKind::Membership, &voters),
            entry(3, EntryKind::Command, b"kept"),
        ];
        let record = Record { hard_state, entries, ..Record::default() };
        log.persist(GroupId::COORDINATION, WriteMark(1), record).unwrap();
        let last = EntryId::new(LogIndex(9), Term(3));
        log.begin_snapshot(GroupId::KEY_VALUE, SnapshotMeta { last, membership: voters });
        log.write_snapshot(GroupId::KEY_VALUE, Bytes::from_static(b"a state")).unwrap();
        log.finish_snapshot(GroupId::KEY_VALUE).unwrap();
        let entries = vec![entry(10, EntryKind::Command, b"behind it")];
        let record = Record { hard_state, base: Some(last), entries, ..Record::default() };
        log.persist(GroupId::KEY_VALUE, WriteMark(1), record).unwrap();
        config(path)
    }

    /// RAFT-22, by hand: every group keeps its state and its log, and has one voter from here on, in a term that nobody voted in.
    /// The cluster is another one.
    #[test]
    fn the_survivor_is_alone_with_what_it_had() {
        let config = directory("recover");
        let survivor = Survivor::open(&config).unwrap();
        assert_eq!(survivor.others(), [1, 2]);
        let recovery = survivor.recover(&[2, 1]).unwrap();
        assert_ne!(recovery.cluster, ClusterId(7));
        let data_dir = DataDir::open(&config.data_dir, NodeId(3)).unwrap();
        assert_eq!(data_dir.identity().cluster, recovery.cluster);
        let roster = data_dir.roster().unwrap().unwrap();
        assert_eq!(roster.members.keys().copied().collect::<Vec<_>>(), [NodeId(3)]);
        let options = StorageOptions { alone: true, ..StorageOptions::default() };
        let (_, groups) = Offline::open(&data_dir.log(), data_dir.identity(), options).unwrap();
        let alone = Membership::of_voters([NodeId(3)]).to_bytes();
        for (group, found) in &groups {
            assert_eq!(found.memberships.last().unwrap().1, alone, "{group}");
        }
        let coordination = &groups[&GroupId::COORDINATION];
        assert_eq!(coordination.hard_state.term, Term(5));
        assert_eq!(coordination.tail[2].data, "kept");
        assert_eq!(coordination.last, EntryId::new(LogIndex(4 + LEAP), Term(5)));
        let kv = &groups[&GroupId::KEY_VALUE];
        let (meta, bytes) = kv.snapshot.clone().unwrap();
        assert_eq!((meta.last.index, bytes, meta.membership), (LogIndex(9), 7, alone));
        assert_eq!(kv.tail[0].data, "behind it");
        let system = &groups[&GroupId::SYSTEM];
        let command = Proposal::from_data(system.tail[1].data.clone()).unwrap();
        let mut registry = Registry::default();
        registry.apply(system.last.index, command.command(), &mut Vec::new()).unwrap();
        assert_eq!(registry.roster(), Some(&roster), "as it is remembered");
        // The disk's thread may still be making a segment in it.
        let _ = std::fs::remove_dir_all(&config.data_dir);
    }

    /// Cut off at any moment before the identity is replaced, the old life is there, whole; and it can be begun again.
    #[test]
    fn an_attempt_that_was_cut_off_changed_nothing() {
        let config = directory("recover-cut");
        let mut survivor = Survivor::open(&config).unwrap();
        let life = survivor.data_dir.another_life(ClusterId(8)).unwrap();
        let options = StorageOptions::default();
        let (mut new, _) = Offline::open(&life.log(), life.identity, options).unwrap();
        let found = survivor.groups[&GroupId::COORDINATION].clone();
        survivor.copy(GroupId::COORDINATION, &found, &mut new, &life).unwrap();
        drop((survivor, new));
        let again = Survivor::open(&config).unwrap();
        assert_eq!(again.cluster(), ClusterId(7));
        assert_eq!(again.standings()[1].last, EntryId::new(LogIndex(3), Term(4)));
        again.recover(&[1, 2]).unwrap();
        assert!(!life.log().exists(), "what the first attempt left is gone");
        std::fs::remove_dir_all(&config.data_dir).unwrap();
    }

    /// Whoever goes on says whom they give up, and nobody is given up who answers.
    #[test]
    fn nobody_is_given_up_by_mistake() {
        let mut config = directory("recover-refused");
        for named in [&[][..], &[1], &[1, 2, 3], &[1, 4]] {
            let refused = Survivor::open(&config).unwrap().recover(named);
            assert!(matches!(refused, Err(RecoverError::OtherMembers { .. })), "{named:?}");
        }
        let there = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.members[1].member = there.local_addr().unwrap().to_string();
        let refused = Survivor::open(&config).unwrap().recover(&[1, 2]);
        assert!(matches!(refused, Err(RecoverError::Answers { member: NodeId(2), .. })));
        assert_eq!(DataDir::identity_of(&config.data_dir).unwrap().cluster, ClusterId(7));
        std::fs::remove_dir_all(&config.data_dir).unwrap();
    }
}
