//! Members, and the list of them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_contracts::{Malformed, NodeId, Wire, WireReader, WireWriter};

/// Which list it is: each change makes a higher one. 0 is the list of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RosterVersion(pub u64);

/// A member of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// Whether it is to vote. One that does not is sent everything, and serves clients.
    pub votes: bool,
    /// Where the other members find it: `host:port`.
    pub address: String,
    /// What services tell their clients of it, by service.
    pub published: BTreeMap<String, String>,
}

/// All members.
pub type List = BTreeMap<NodeId, Member>;

/// The list of the members, as of a version.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    /// Which one.
    pub version: RosterVersion,
    /// Who belongs to the cluster.
    pub members: List,
}

impl Roster {
    /// Those that are to vote.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.those(true)
    }

    /// Those that are not.
    pub fn observers(&self) -> BTreeSet<NodeId> {
        self.those(false)
    }

    fn those(&self, votes: bool) -> BTreeSet<NodeId> {
        let members = self.members.iter().filter(|(_, member)| member.votes == votes);
        members.map(|(id, _)| *id).collect()
    }
}

impl Wire for Member {
    fn encode(&self, out: &mut WireWriter) {
        out.bool(self.votes);
        out.bytes(self.address.as_bytes());
        encode_published(&self.published, out);
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        let (votes, address) = (input.bool()?, input.str()?.to_string());
        Ok(Self { votes, address, published: decode_published(input)? })
    }
}

pub(crate) fn encode_published(published: &BTreeMap<String, String>, out: &mut WireWriter) {
    out.u32(published.len() as u32);
    for (service, text) in published {
        out.bytes(service.as_bytes());
        out.bytes(text.as_bytes());
    }
}

pub(crate) fn decode_published(
    input: &mut WireReader<'_>,
) -> Result<BTreeMap<String, String>, Malformed> {
    (0..input.count(8)?).map(|_| Ok((input.str()?.to_string(), input.str()?.to_string()))).collect()
}

pub(crate) fn encode_list(list: &List, out: &mut WireWriter) {
    out.u32(list.len() as u32);
    for (id, member) in list {
        out.u64(id.0);
        member.encode(out);
    }
}

pub(crate) fn decode_list(input: &mut WireReader<'_>) -> Result<List, Malformed> {
    (0..input.count(17)?).map(|_| Ok((NodeId(input.u64()?), Member::decode(input)?))).collect()
}

impl Wire for Roster {
    fn encode(&self, out: &mut WireWriter) {
        out.u64(self.version.0);
        encode_list(&self.members, out);
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Ok(Self { version: RosterVersion(input.u64()?), members: decode_list(input)? })
    }
}
