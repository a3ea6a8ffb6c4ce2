//! What goes through the log: requests that change the store, and what leaders say about time.
//!
//! ```text
//! version 1 | tag: 0, or 1 client 16 sequence 8 first unacknowledged 8 | caller: 0, or 1 name, auth revision 8
//! kind 1 | body: the API's own message in protobuf, or our few numbers
//! ```
//!
//! Time reaches the store only as a leader's word that something has expired. Passwords come hashed.

use bytes::Bytes;
use prost::Message;
use quorate_contracts::{LogIndex, Malformed, Term, WireReader, WireWriter};

use crate::messages::etcdserverpb as pb;
use crate::{ClientId, LeaseId, Refusal, Revision, Sequence};

const VERSION: u8 = 1;

/// One entry of the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// Makes the command take effect once, however often it is in the log.
    pub tag: Option<Tag>,
    /// Who asks, where the server demands to know.
    pub caller: Option<Caller>,
    /// What is to be done.
    pub body: Body,
}

/// Which call of which client a command is (KV-3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The client.
    pub client: ClientId,
    /// The call's number.
    pub sequence: Sequence,
    /// The client has the answers to all its calls before this one, and will never repeat them.
    pub unacknowledged: Sequence,
}

/// A user, as a server knew it when it made the proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The revision of the users and roles when the user's token was given out.
    pub auth_revision: u64,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Set a key.
    Put(pb::PutRequest),
    /// Delete a range of keys.
    DeleteRange(pb::DeleteRangeRequest),
    /// Compare, then do.
    Txn(pb::TxnRequest),
    /// Forget old revisions.
    Compact(pb::CompactionRequest),
    /// Make a lease; its id was chosen before.
    LeaseGrant(pb::LeaseGrantRequest),
    /// End a lease, and its keys.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// Raise or lower an alarm.
    Alarm(pb::AlarmRequest),
    /// Change users and roles.
    Auth(AuthChange),
    /// A client's id is new (KV-4).
    OpenClient(ClientId),
    /// A user has authenticated and is known by this token from here on, on every server.
    IssueToken {
        /// The user.
        user: String,
        /// The secret.
        token: String,
    },
    /// A leader begins to keep the time of leases and clients.
    Reign(Term),
    /// A leader says that nobody kept a lease alive for its time.
    ExpireLease {
        /// The lease.
        lease: LeaseId,
        /// The leader's term: counts only while it is the one that keeps the time.
        reign: Term,
    },
    /// A leader says that a client was silent for long.
    ExpireClient {
        /// The client.
        client: ClientId,
        /// The entry of its last call: if it has made another one meanwhile, it lives.
        last_used: LogIndex,
        /// The leader's term.
        reign: Term,
    },
    /// Go on dropping what compaction left behind.
    CollectGarbage,
}

/// A change of users and roles.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each is the API's request of that name")]
pub enum AuthChange {
    Enable(pb::AuthEnableRequest),
    Disable(pb::AuthDisableRequest),
    UserAdd(pb::AuthUserAddRequest),
    UserDelete(pb::AuthUserDeleteRequest),
    UserChangePassword(pb::AuthUserChangePasswordRequest),
    UserGrantRole(pb::AuthUserGrantRoleRequest),
    UserRevokeRole(pb::AuthUserRevokeRoleRequest),
    RoleAdd(pb::AuthRoleAddRequest),
    RoleDelete(pb::AuthRoleDeleteRequest),
    RoleGrantPermission(pb::AuthRoleGrantPermissionRequest),
    RoleRevokePermission(pb::AuthRoleRevokePermissionRequest),
}

/// What a command came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The store's revision right after it; of a call that was done before, the revision right after it was done.
    pub revision: Revision,
    /// The reply, its header left out; or why nothing was done.
    pub result: Result<Reply, Refusal>,
}

/// The reply to a command that was done.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each is the API's reply of that name")]
pub enum Reply {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    Alarm(pb::AlarmResponse),
    /// Replies that are nothing but a header.
    Done,
}

/// What happened, for those who watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// There are new versions, up to the store's revision.
    Written,
    /// Revisions below cannot be read any more.
    Compacted(Revision),
    /// A lease was made.
    LeaseGranted(LeaseId),
    /// A lease has ended.
    LeaseEnded(LeaseId),
    /// A client was opened, or made a call.
    ClientUsed(ClientId),
    /// A client has expired.
    ClientEnded(ClientId),
    /// A leader keeps the time from here on.
    Reign(Term),
    /// A user is known by a token.
    TokenIssued {
        /// The secret.
        token: String,
        /// Who has it.
        caller: Caller,
    },
}

macro_rules! protobuf_bodies {
    ($($kind:literal => $($variant:ident)::+;)*) => {
        impl Body {
            fn encode_protobuf(&self) -> Option<(u8, Vec<u8>)> {
                match self {
                    $(protobuf_bodies!(@pattern message $($variant)::+) => Some(($kind, message.encode_to_vec())),)*
                    _ => None,
                }
            }

            fn decode_protobuf(kind: u8, bytes: &[u8]) -> Option<Result<Self, prost::DecodeError>> {
                match kind {
                    $($kind => Some(Message::decode(bytes).map(|message| protobuf_bodies!(@pattern message $($variant)::+))),)*
                    _ => None,
                }
            }
        }
    };
    (@pattern $message:ident Auth::$variant:ident) => { Self::Auth(AuthChange::$variant($message)) };
    (@pattern $message:ident $variant:ident) => { Self::$variant($message) };
}

protobuf_bodies! {
    1 => Put;
    2 => DeleteRange;
    3 => Txn;
    4 => Compact;
    5 => LeaseGrant;
    6 => LeaseRevoke;
    7 => Alarm;
    20 => Auth::Enable;
    21 => Auth::Disable;
    22 => Auth::UserAdd;
    23 => Auth::UserDelete;
    24 => Auth::UserChangePassword;
    25 => Auth::UserGrantRole;
    26 => Auth::UserRevokeRole;
    27 => Auth::RoleAdd;
    28 => Auth::RoleDelete;
    29 => Auth::RoleGrantPermission;
    30 => Auth::RoleRevokePermission;
}

mod kind {
    pub(super) const OPEN_CLIENT: u8 = 40;
    pub(super) const REIGN: u8 = 41;
    pub(super) const EXPIRE_LEASE: u8 = 42;
    pub(super) const EXPIRE_CLIENT: u8 = 43;
    pub(super) const COLLECT_GARBAGE: u8 = 44;
    pub(super) const ISSUE_TOKEN: u8 = 45;
}

impl Command {
    /// A command of the server's own: untagged, by no user.
    pub fn of_server(body: Body) -> Self {
        Self { tag: None, caller: None, body }
    }

    /// Appends the command.
    pub fn encode(&self, out: &mut WireWriter) {
        out.u8(VERSION);
        out.bool(self.tag.is_some());
        if let Some(tag) = &self.tag {
            out.raw(&tag.client.0.to_be_bytes());
            out.u64(tag.sequence.0);
            out.u64(tag.unacknowledged.0);
        }
        out.bool(self.caller.is_some());
        if let Some(caller) = &self.caller {
            out.bytes(caller.user.as_bytes());
            out.u64(caller.auth_revision);
        }
        self.body.encode(out);
    }

    /// Reads a command.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = WireReader::from_slice(bytes);
        if input.u8()? != VERSION {
            return Err(Malformed("a command of an unknown version"));
        }
        let tag = if input.bool()? { Some(decode_tag(&mut input)?) } else { None };
        let caller = match input.bool()? {
            true => Some(Caller { user: input.str()?.to_string(), auth_revision: input.u64()? }),
            false => None,
        };
        Ok(Self { tag, caller, body: Body::decode(&mut input)? })
    }
}

fn decode_tag(input: &mut WireReader<'_>) -> Result<Tag, Malformed> {
    Ok(Tag {
        client: ClientId(u128::from_be_bytes(input.array()?)),
        sequence: Sequence(input.u64()?),
        unacknowledged: Sequence(input.u64()?),
    })
}

impl Body {
    fn encode(&self, out: &mut WireWriter) {
        if let Some((kind, message)) = self.encode_protobuf() {
            out.u8(kind);
            out.raw(&message);
            return;
        }
        match self {
            Self::OpenClient(client) => {
                out.u8(kind::OPEN_CLIENT);
                out.raw(&client.0.to_be_bytes());
            }
            Self::Reign(term) => {
                out.u8(kind::REIGN);
                out.u64(term.0);
            }
            Self::ExpireLease { lease, reign } => {
                out.u8(kind::EXPIRE_LEASE);
                out.u64(lease.0 as u64);
                out.u64(reign.0);
            }
            Self::ExpireClient { client, last_used, reign } => {
                out.u8(kind::EXPIRE_CLIENT);
                out.raw(&client.0.to_be_bytes());
                out.u64(last_used.0);
                out.u64(reign.0);
            }
            Self::IssueToken { user, token } => {
                out.u8(kind::ISSUE_TOKEN);
                out.bytes(user.as_bytes());
                out.bytes(token.as_bytes());
            }
            _ => out.u8(kind::COLLECT_GARBAGE),
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        let kind = input.u8()?;
        if let Some(body) = Self::decode_protobuf(kind, input.clone().rest()) {
            return body.map_err(|_| Malformed("a request that is not protobuf"));
        }
        Ok(match kind {
            kind::OPEN_CLIENT => Self::OpenClient(ClientId(u128::from_be_bytes(input.array()?))),
            kind::REIGN => Self::Reign(Term(input.u64()?)),
            kind::EXPIRE_LEASE => {
                Self::ExpireLease { lease: LeaseId(input.u64()? as i64), reign: Term(input.u64()?) }
            }
            kind::EXPIRE_CLIENT => Self::ExpireClient {
                client: ClientId(u128::from_be_bytes(input.array()?)),
                last_used: LogIndex(input.u64()?),
                reign: Term(input.u64()?),
            },
            kind::ISSUE_TOKEN => {
                Self::IssueToken { user: input.str()?.to_string(), token: input.str()?.to_string() }
            }
            kind::COLLECT_GARBAGE => Self::CollectGarbage,
            _ => return Err(Malformed("an unknown kind of command")),
        })
    }
}

/// Results as bytes, as they are kept for clients that ask again.
impl Outcome {
    pub(crate) fn encode_result(&self) -> Bytes {
        let mut out = WireWriter::default();
        let (kind, message) = match &self.result {
            Err(refusal) => (0, vec![*refusal as u8]),
            Ok(Reply::Done) => (1, Vec::new()),
            Ok(Reply::Put(reply)) => (2, reply.encode_to_vec()),
            Ok(Reply::DeleteRange(reply)) => (3, reply.encode_to_vec()),
            Ok(Reply::Txn(reply)) => (4, reply.encode_to_vec()),
            Ok(Reply::LeaseGrant(reply)) => (5, reply.encode_to_vec()),
            Ok(Reply::Alarm(reply)) => (6, reply.encode_to_vec()),
        };
        out.u8(kind);
        out.raw(&message);
        out.finish()
    }

    pub(crate) fn decode_result(bytes: &Bytes) -> Option<Result<Reply, Refusal>> {
        let (kind, message) = bytes.split_first()?;
        Some(match kind {
            0 => Err(Refusal::from_u8(*message.first()?)?),
            1 => Ok(Reply::Done),
            2 => Ok(Reply::Put(Message::decode(message).ok()?)),
            3 => Ok(Reply::DeleteRange(Message::decode(message).ok()?)),
            4 => Ok(Reply::Txn(Message::decode(message).ok()?)),
            5 => Ok(Reply::LeaseGrant(Message::decode(message).ok()?)),
            6 => Ok(Reply::Alarm(Message::decode(message).ok()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_comes_back_as_it_went() {
        let put =
            pb::PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..Default::default() };
        let user = pb::AuthUserAddRequest { name: "bob".into(), ..Default::default() };
        let client = ClientId(5);
        let bodies = [
            Body::Put(put),
            Body::Auth(AuthChange::UserAdd(user)),
            Body::OpenClient(client),
            Body::Reign(Term(4)),
            Body::ExpireLease { lease: LeaseId(-3), reign: Term(4) },
            Body::ExpireClient { client, last_used: LogIndex(9), reign: Term(4) },
            Body::CollectGarbage,
            Body::IssueToken { user: "bob".into(), token: "secret".into() },
        ];
        for body in bodies {
            let tag = Some(Tag { client, sequence: Sequence(2), unacknowledged: Sequence(1) });
            let caller = Some(Caller { user: "root".into(), auth_revision: 3 });
            let command = Command { tag, caller, body };
            let mut out = WireWriter::default();
            command.encode(&mut out);
            assert_eq!(Command::decode(&out.finish()).as_ref(), Ok(&command));
        }
    }
}
