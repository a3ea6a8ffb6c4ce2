//! What clients ask of a server and what they are told, in the API's own messages.

use bytes::Bytes;
use quorate_contracts::{NodeId, RequestId};

use crate::command::{AuthChange, Tag};
use crate::messages::etcdserverpb as pb;
use crate::store::is_read_only;
use crate::{ClientId, Refusal};

/// One call of one client, numbered by the driver, never twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// One stream of watches or of lease keep-alives, numbered by the driver, never twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// What a client says about itself with each call, in gRPC's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The token it got when it authenticated.
    pub token: Option<String>,
    /// The user that its TLS certificate names, which it is when it brings no token.
    pub certified: Option<String>,
    /// Makes the call take effect once.
    pub tag: Option<Tag>,
    /// It would rather be refused than wait for a leader.
    pub requires_leader: bool,
}

/// A call that has one reply.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each is the API's request of that name")]
pub enum Request {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseLeases(pb::LeaseLeasesRequest),
    Alarm(pb::AlarmRequest),
    Hash(pb::HashRequest),
    HashKv(pb::HashKvRequest),
    AuthStatus(pb::AuthStatusRequest),
    Authenticate(pb::AuthenticateRequest),
    AuthChange(AuthChange),
    UserGet(pb::AuthUserGetRequest),
    UserList(pb::AuthUserListRequest),
    RoleGet(pb::AuthRoleGetRequest),
    RoleList(pb::AuthRoleListRequest),
    /// Ours: a client's id is new (KV-4).
    OpenClient(ClientId),
    /// Ours: a part of a range that is in the order of its keys, of so many bytes or a little more.
    RangePiece(pb::RangeRequest, usize),
    /// Ours: what such a range comes to in bytes, looking at so many keys.
    RangeBytes(pb::RangeRequest, u64),
    /// Ours: nothing, for users who may administer. The driver asks it before it does what is for them alone.
    Admin,
}

impl Request {
    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Txn(txn) => !is_read_only(txn),
            Self::Alarm(alarm) => alarm.action() != pb::alarm_request::AlarmAction::Get,
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::AuthChange(_) => true,
            _ => false,
        }
    }
}

/// The reply to a call. Headers are filled in.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each is the API's reply of that name")]
pub enum Response {
    Range(pb::RangeResponse),
    /// Ours: a part of a range, and the key at which the next one begins.
    RangePiece(pb::RangeResponse, Option<Bytes>),
    /// Ours: bytes of a range's keys and values in a reply, how many were looked at, and where the rest begins.
    RangeBytes(u64, u64, Option<Bytes>),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    LeaseLeases(pb::LeaseLeasesResponse),
    Alarm(pb::AlarmResponse),
    Hash(pb::HashResponse),
    HashKv(pb::HashKvResponse),
    AuthStatus(pb::AuthStatusResponse),
    Authenticate(pb::AuthenticateResponse),
    UserGet(pb::AuthUserGetResponse),
    UserList(pb::AuthUserListResponse),
    RoleGet(pb::AuthRoleGetResponse),
    RoleList(pb::AuthRoleListResponse),
    /// Ours: a numbered call was done before, and its reply was too large to keep: only when is known (KV-4).
    DoneBefore(pb::ResponseHeader),
    /// Every reply that is nothing but a header: the caller knows which.
    Done(pb::ResponseHeader),
}

/// What the driver tells of its clients.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientRequest {
    /// A call.
    Call {
        /// The call.
        call: CallId,
        /// Who calls.
        context: Context,
        /// What is asked.
        request: Box<Request>,
    },
    /// A client opened a stream of watches.
    WatchOpened {
        /// The stream.
        stream: StreamId,
        /// Who watches.
        context: Context,
    },
    /// A message on a stream of watches.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What it says.
        request: pb::WatchRequest,
    },
    /// So many bytes of watch responses have left for the client.
    WatchSent {
        /// The stream.
        stream: StreamId,
        /// Bytes, counted as [`ClientReply::Watch`] says.
        bytes: usize,
    },
    /// A message on a stream of keep-alives.
    KeepAlive {
        /// The stream.
        stream: StreamId,
        /// The lease.
        request: pb::LeaseKeepAliveRequest,
    },
    /// A stream is gone.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// A password was compared with its hash, as asked.
    PasswordChecked {
        /// The call.
        call: CallId,
        /// Whether it is the user's.
        right: bool,
        /// Random bytes of the system's source: the token.
        secret: [u8; 16],
    },
    /// A password was hashed, as asked.
    PasswordHashed {
        /// The call.
        call: CallId,
        /// Its hash.
        hash: String,
    },
}

/// What the driver is to do.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientReply {
    /// Answer a call.
    Answer {
        /// The call.
        call: CallId,
        /// The reply. A refusal other than 'unavailable' means that nothing happened.
        result: Result<Box<Response>, Refusal>,
    },
    /// Send a message on a stream of watches.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What it says.
        response: Box<pb::WatchResponse>,
        /// Its size in bytes, to be given back with [`ClientRequest::WatchSent`].
        bytes: usize,
    },
    /// Send a message on a stream of keep-alives.
    KeepAlive {
        /// The stream.
        stream: StreamId,
        /// What it says.
        response: pb::LeaseKeepAliveResponse,
    },
    /// End a stream.
    End {
        /// The stream.
        stream: StreamId,
        /// Why.
        refusal: Refusal,
    },
    /// Compare a password with a hash (slowly, on purpose): [`ClientRequest::PasswordChecked`].
    CheckPassword {
        /// The call.
        call: CallId,
        /// What the caller says.
        password: String,
        /// What is known.
        hash: String,
    },
    /// Hash a password: [`ClientRequest::PasswordHashed`].
    HashPassword {
        /// The call.
        call: CallId,
        /// The password.
        password: String,
    },
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This server.
    pub node: NodeId,
    /// The cluster, as headers tell it.
    pub cluster_id: u64,
    /// Bytes of a request, and of a piece of a fragmented watch response.
    pub request_bytes_max: usize,
    /// Bytes the store may take before the space alarm is raised.
    pub quota_bytes: u64,
    /// How often a quiet watch is told that it missed nothing, in milliseconds.
    pub progress_notify_ms: u64,
    /// A client id is expired after this silence, in milliseconds.
    pub client_idle_ms: u64,
    /// How long a call may take, in milliseconds.
    pub call_timeout_ms: u64,
    /// Where request ids begin; the upper 32 bits are random.
    pub first_request: RequestId,
}

impl ServerConfig {
    /// etcd's defaults.
    pub fn new(node: NodeId, first_request: RequestId) -> Self {
        Self {
            node,
            cluster_id: 1,
            request_bytes_max: 3 << 19,
            quota_bytes: 2 << 30,
            progress_notify_ms: 600_000,
            client_idle_ms: 3_600_000,
            call_timeout_ms: 7_000,
            first_request,
        }
    }
}
