//! What may be asked of the list, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use bytes::Bytes;
use quorate_contracts::{
    BadSnapshot, LogIndex, Malformed, NodeId, Progress, Proposal, RequestId, StateMachine, Wire,
    WireReader, WireWriter,
};
use thiserror::Error;

use crate::list::{
    List, Roster, RosterVersion, decode_list, decode_published, encode_list, encode_published,
};

/// Members that a cluster may have: every voter takes part in every write.
const MEMBERS_MAX: usize = 64;

/// A change that somebody wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The list that it is meant for; `None` is whichever there is.
    pub from: Option<RosterVersion>,
    /// What to change.
    pub edit: Edit,
}

/// What is to be different.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    /// These leave, then these come; who is there already is described anew.
    Merge {
        /// Who comes.
        joining: List,
        /// Who leaves; one that is not there is no mistake.
        leaving: BTreeSet<NodeId>,
    },
    /// These and no others.
    Replace(List),
    /// A member tells what services are to publish of it.
    Publish {
        /// Who.
        member: NodeId,
        /// Text by service; other services' stay.
        published: BTreeMap<String, String>,
        /// Whether that makes another list. If not it is the same one, a little more of it known.
        another: bool,
    },
}

/// Why the list stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotChanged {
    /// It is another list by now.
    #[error("the list of members has another version by now")]
    OtherVersion,
    /// Nobody would vote, an address would be there twice, or there would be too many; or who tells of itself is not there.
    #[error("a list needs a voter, one address for each member, and at most {MEMBERS_MAX} members")]
    Meaningless,
    /// A majority of the new voters is not there, or is too far behind. What was begun was taken back.
    #[error("a majority of the new voters cannot be reached, or lacks too much")]
    NoQuorum,
    /// Another change is on its way.
    #[error("another change of members is under way")]
    InProgress,
    /// The members that would decide cannot be reached: it may have happened or not.
    #[error("no majority of the members answers: it may have happened")]
    Unknown,
}

/// A change on its way through the log. The same one may come twice: `by` and `nonce` tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Command {
    pub(crate) by: NodeId,
    pub(crate) nonce: RequestId,
    /// The members by the proposer's configuration: where the list begins.
    pub(crate) base: List,
    pub(crate) change: Change,
}

/// The data of an entry that makes these the members, whoever was before: for a cluster that lost its majority for good. Everywhere
/// else a change goes through [`Registrar`](crate::Registrar).
pub fn replacement(by: NodeId, nonce: RequestId, members: &List) -> Bytes {
    let change = Change { from: None, edit: Edit::Replace(members.clone()) };
    let command = Command { by, nonce, base: members.clone(), change };
    Proposal::encode(by, nonce, |out| command.encode(out)).into_data()
}

impl Wire for Command {
    fn encode(&self, out: &mut WireWriter) {
        out.u8(1); // version
        out.u64(self.by.0);
        out.u64(self.nonce.0);
        encode_list(&self.base, out);
        out.bool(self.change.from.is_some());
        out.u64(self.change.from.map_or(0, |version| version.0));
        match &self.change.edit {
            Edit::Merge { joining, leaving } => {
                out.u8(1);
                encode_list(joining, out);
                out.u32(leaving.len() as u32);
                leaving.iter().for_each(|id| out.u64(id.0));
            }
            Edit::Replace(list) => {
                out.u8(2);
                encode_list(list, out);
            }
            Edit::Publish { member, published, another } => {
                out.u8(3);
                out.u64(member.0);
                out.bool(*another);
                encode_published(published, out);
            }
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        if input.u8()? != 1 {
            return Err(Malformed("unknown version of a change of members"));
        }
        let (by, nonce) = (NodeId(input.u64()?), RequestId(input.u64()?));
        let base = decode_list(input)?;
        let (given, version) = (input.bool()?, RosterVersion(input.u64()?));
        let edit = match input.u8()? {
            1 => Edit::Merge {
                joining: decode_list(input)?,
                leaving: (0..input.count(8)?)
                    .map(|_| input.u64().map(NodeId))
                    .collect::<Result<_, _>>()?,
            },
            2 => Edit::Replace(decode_list(input)?),
            3 => {
                let (member, another) = (NodeId(input.u64()?), input.bool()?);
                Edit::Publish { member, another, published: decode_published(input)? }
            }
            _ => return Err(Malformed("unknown change of members")),
        };
        Ok(Self { by, nonce, base, change: Change { from: given.then_some(version), edit } })
    }
}

/// The list, replicated. Empty until the first change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registry {
    roster: Option<Roster>,
    /// Whose change it was, so that it is recognised when it comes again.
    last: Option<(NodeId, RequestId)>,
    /// What a snapshot that is being taken holds.
    aside: Option<Bytes>,
}

impl Registry {
    /// The list, if anything was ever changed.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    fn change(&mut self, at: LogIndex, command: Command) -> Result<Roster, NotChanged> {
        if let (Some(roster), true) = (&self.roster, self.last == Some((command.by, command.nonce)))
        {
            return Ok(roster.clone());
        }
        let current = self
            .roster
            .clone()
            .unwrap_or(Roster { version: RosterVersion(0), members: command.base });
        if command.change.from.is_some_and(|from| from != current.version) {
            return Err(NotChanged::OtherVersion);
        }
        let stays = matches!(command.change.edit, Edit::Publish { another: false, .. });
        let members =
            edited(current.members, command.change.edit).ok_or(NotChanged::Meaningless)?;
        let version = if stays { current.version } else { RosterVersion(at.0) };
        let roster = Roster { version, members };
        (self.roster, self.last) = (Some(roster.clone()), Some((command.by, command.nonce)));
        Ok(roster)
    }
}

/// The list with this difference, if it makes sense.
fn edited(mut members: List, edit: Edit) -> Option<List> {
    match edit {
        Edit::Replace(list) => members = list,
        Edit::Merge { joining, leaving } => {
            members.retain(|id, _| !leaving.contains(id));
            members.extend(joining);
        }
        Edit::Publish { member, published, .. } => {
            members.get_mut(&member)?.published.extend(published);
        }
    }
    makes_sense(&members).then_some(members)
}

fn makes_sense(members: &List) -> bool {
    let addresses: BTreeSet<&str> = members.values().map(|member| &*member.address).collect();
    members.values().any(|member| member.votes)
        && members.len() <= MEMBERS_MAX
        && addresses.len() == members.len()
}

impl StateMachine for Registry {
    type Outcome = Result<Roster, NotChanged>;
    /// A new list.
    type Event = Roster;

    fn apply(&mut self, at: LogIndex, command: &[u8], events: &mut Vec<Roster>) -> Self::Outcome {
        let command = Command::decode(&mut WireReader::from_slice(command))
            .unwrap_or_else(|error| panic!("entry {at} is no change of members: {error}"));
        let outcome = self.change(at, command);
        events.extend(outcome.as_ref().ok().cloned());
        outcome
    }

    fn digest(&self) -> u64 {
        u64::from(crc32c::crc32c(&self.to_bytes()))
    }

    fn begin_snapshot(&mut self) {
        self.aside = Some(self.to_bytes());
    }

    fn snapshot_slice(&mut self, _bytes: usize, out: &mut Vec<u8>) -> Progress {
        out.extend_from_slice(&self.aside.take().unwrap_or_default());
        Progress::Done
    }

    fn restore(reader: &mut dyn Read) -> Result<Self, BadSnapshot> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes.into()).map_err(|Malformed(what)| BadSnapshot::Malformed(what))
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        200 * self.roster.as_ref().map_or(0, |roster| roster.members.len() as u64)
    }
}

impl Wire for Registry {
    fn encode(&self, out: &mut WireWriter) {
        out.u8(1); // version
        let (by, nonce) = self.last.unwrap_or_default();
        out.u64(by.0);
        out.u64(nonce.0);
        out.bool(self.roster.is_some());
        self.roster.iter().for_each(|roster| roster.encode(out));
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        if input.u8()? != 1 {
            return Err(Malformed("unknown version of the list of members"));
        }
        let last = (NodeId(input.u64()?), RequestId(input.u64()?));
        let roster = if input.bool()? { Some(Roster::decode(input)?) } else { None };
        let last = roster.is_some().then_some(last);
        Ok(Self { roster, last, aside: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;

    fn list(members: &[(u64, bool)]) -> List {
        let member = |(id, votes): &(u64, bool)| {
            let address = format!("host{id}:7400");
            (NodeId(*id), Member { votes: *votes, address, ..Member::default() })
        };
        members.iter().map(member).collect()
    }

    fn founders() -> List {
        list(&[(1, true), (2, true), (3, true)])
    }

    /// A change by number `nonce`, as entry `at`.
    fn apply(
        registry: &mut Registry,
        (at, nonce): (u64, u64),
        from: Option<u64>,
        edit: Edit,
    ) -> Result<u64, NotChanged> {
        let change = Change { from: from.map(RosterVersion), edit };
        let command = Command { by: NodeId(1), nonce: RequestId(nonce), base: founders(), change };
        let outcome = registry.apply(LogIndex(at), &command.to_bytes(), &mut Vec::new());
        outcome.map(|roster| roster.version.0)
    }

    fn merge(joining: &[(u64, bool)], leaving: &[u64]) -> Edit {
        let leaving = leaving.iter().copied().map(NodeId).collect();
        Edit::Merge { joining: list(joining), leaving }
    }

    /// ZK-18: a change begins with the configured list, makes a new version, and is refused for a version that is
    /// not there any more.
    #[test]
    fn each_change_makes_a_version() {
        let mut registry = Registry::default();
        assert_eq!(registry.roster(), None);
        assert_eq!(apply(&mut registry, (5, 1), Some(0), merge(&[(4, false)], &[])), Ok(5));
        let again = apply(&mut registry, (6, 2), Some(0), merge(&[], &[4]));
        assert_eq!(again, Err(NotChanged::OtherVersion));
        assert_eq!(apply(&mut registry, (7, 3), Some(5), merge(&[(3, false)], &[1, 9])), Ok(7));
        let expected = Roster {
            version: RosterVersion(7),
            members: list(&[(2, true), (3, false), (4, false)]),
        };
        assert_eq!(registry.roster(), Some(&expected));
        assert_eq!(expected.voters(), BTreeSet::from([NodeId(2)]));
    }

    /// A proposal that was made again takes effect once.
    #[test]
    fn the_same_change_twice_is_one() {
        let mut registry = Registry::default();
        let join = || merge(&[(4, true)], &[]);
        assert_eq!(apply(&mut registry, (5, 1), None, join()), Ok(5));
        assert_eq!(apply(&mut registry, (9, 1), None, join()), Ok(5));
        assert_eq!(apply(&mut registry, (10, 2), None, join()), Ok(10));
    }

    /// What a member tells of itself is added to what is known of it; whether that makes another list is for it to say. One that
    /// is not there has nothing to tell.
    #[test]
    fn a_member_tells_what_is_published_of_it() {
        let mut registry = Registry::default();
        let publish = |id, service: &str, another| Edit::Publish {
            member: NodeId(id),
            published: [(service.to_string(), format!("{service} at {id}"))].into(),
            another,
        };
        assert_eq!(apply(&mut registry, (5, 1), None, merge(&[(4, false)], &[])), Ok(5));
        assert_eq!(apply(&mut registry, (6, 2), None, publish(4, "etcd", false)), Ok(5));
        assert_eq!(apply(&mut registry, (7, 3), Some(5), publish(4, "zookeeper", true)), Ok(7));
        let refused = apply(&mut registry, (8, 4), None, publish(9, "etcd", false));
        assert_eq!(refused, Err(NotChanged::Meaningless));
        let known = &registry.roster().expect("it was changed").members[&NodeId(4)].published;
        let told: Vec<&str> = known.values().map(|text| &**text).collect();
        assert_eq!(told, ["etcd at 4", "zookeeper at 4"]);
    }

    #[test]
    fn lists_that_cannot_work_are_refused() {
        let mut registry = Registry::default();
        let twice = || {
            let mut list = list(&[(4, true)]);
            list.entry(NodeId(4)).and_modify(|member| member.address = "host1:7400".into());
            Edit::Merge { joining: list, leaving: BTreeSet::new() }
        };
        let many: Vec<(u64, bool)> = (1..=65).map(|id| (id, true)).collect();
        for edit in
            [merge(&[], &[1, 2, 3]), Edit::Replace(list(&[(1, false)])), twice(), merge(&many, &[])]
        {
            assert_eq!(apply(&mut registry, (5, 1), None, edit), Err(NotChanged::Meaningless));
        }
        assert_eq!(registry, Registry::default());
    }

    #[test]
    fn a_snapshot_holds_all_of_it() {
        let mut registry = Registry::default();
        let restored = |registry: &mut Registry| {
            let mut bytes = Vec::new();
            registry.begin_snapshot();
            assert_eq!(registry.snapshot_slice(1, &mut bytes), Progress::Done);
            Registry::restore(&mut &bytes[..]).expect("it reads")
        };
        assert_eq!(restored(&mut registry), registry);
        apply(&mut registry, (5, 1), None, merge(&[(4, false)], &[2])).expect("it is sound");
        let again = restored(&mut registry);
        assert_eq!((again.digest(), again), (registry.digest(), registry));
    }
}
