//! What goes through the log of the coordination group, and what comes out of apply.
//!
//! A [`Command`] is encoded once, by the server that holds the client's connection. It carries
//! everything that apply may not ask for: the time of day, the session's password, who the caller
//! is. ACLs and versions are checked at apply, against the tree as it is then.
//!
//! **FIFO client order (ZK-6).** Each attachment of a session to a server has a number, raised by
//! every [`Body::Attach`]. Writes of one attachment are numbered from 1; apply takes only the next
//! one. So a command that was proposed twice takes effect once ([`Outcome::Duplicate`]), one
//! that overtook another does not ([`Outcome::Gap`]), and one from an older attachment never
//! does ([`Outcome::Moved`]).

use std::rc::Rc;

use quorate_contracts::{NodeId, RequestId};

/// A session. Never 0. The upper byte is the id of the server that created it, the rest is
/// taken from the zxid of its creation, so no two are alike, also over restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SessionId(pub i64);

/// Counts the servers a session was attached to; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Attachment(pub u64);

/// ZooKeeper's transaction id: the log index plus an offset that the state holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Zxid(pub i64);

/// A caller's proven identity, or whom an ACL speaks of: `digest` `bob:hash`, `ip` `10.0.0.1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// `world`, `digest`, `ip`, `x509`, `sasl`, `super`.
    pub scheme: String,
    /// What the scheme knows the caller as.
    pub id: String,
}

impl Identity {
    /// Whom no access control list keeps out.
    pub(crate) fn superuser() -> Self {
        Self { scheme: "super".into(), id: String::new() }
    }
}

/// One entry of an access control list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AclEntry {
    /// Sum of READ 1, WRITE 2, CREATE 4, DELETE 8, ADMIN 16.
    pub perms: i32,
    /// Who has them.
    pub identity: Identity,
}

/// What kind of znode a create makes. The numbers are the protocol's flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateMode {
    /// 0
    Persistent,
    /// 1
    Ephemeral,
    /// 2
    PersistentSequential,
    /// 3
    EphemeralSequential,
    /// 4
    Container,
    /// 5, with the time to live in milliseconds
    Ttl(i64),
    /// 6, with the time to live in milliseconds
    SequentialTtl(i64),
}

/// One command of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command<'a> {
    /// Time of day at the server that took the request, milliseconds since 1970.
    pub unix_ms: i64,
    /// What to do.
    pub body: Body<'a>,
}

/// What a command does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// Creates a session with attachment 1. Recognised by `server` and `nonce` when it comes twice: a second
    /// session would be nobody's.
    CreateSession {
        /// The server that the client is connected to.
        server: NodeId,
        /// The proposal's id.
        nonce: RequestId,
        /// What the client must show to attach again.
        password: [u8; 16],
        /// Negotiated timeout in milliseconds.
        timeout_ms: u32,
    },
    /// Attaches a session to a server: raises its attachment number. Recognised by `server` and `nonce` when
    /// it comes twice, so that proposing it again is harmless.
    Attach {
        /// The session.
        session: SessionId,
        /// The server that the client is connected to.
        server: NodeId,
        /// The proposal's id.
        nonce: RequestId,
        /// What the client showed.
        password: [u8; 16],
        /// Newly negotiated timeout in milliseconds.
        timeout_ms: u32,
    },
    /// The next write of a session.
    Write {
        /// The session.
        session: SessionId,
        /// The attachment through which it came.
        attachment: Attachment,
        /// Its number within the attachment; the first is 1.
        sequence: u64,
        /// Who the caller has proven to be; `ip` included, `world:anyone` understood.
        identities: Vec<Identity>,
        /// What to do.
        op: Op<'a>,
    },
    /// The leader found a container that is empty again, or a znode whose time to live is over. Has no effect
    /// if it is not so any more when it is applied.
    Reap {
        /// The znode.
        path: &'a str,
        /// When it was created: a new one under its name is another znode.
        czxid: Zxid,
    },
    /// The leader found that `/zookeeper/config` does not name the servers that there are.
    Publish {
        /// What it is to hold.
        config: &'a str,
    },
    /// The leader heard nothing of a session for its timeout. Has no effect if the session was
    /// attached anew meanwhile.
    Expire {
        /// The session.
        session: SessionId,
        /// The attachment that the leader saw.
        attachment: Attachment,
    },
}

/// A client's write. `version` -1 means any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// Opcodes 1, 15, 19, 21; which of them decides only what the reply looks like.
    Create {
        /// Path, without the sequential suffix.
        path: &'a str,
        /// Data; `None` is the protocol's null, which is kept apart from empty.
        data: Option<&'a [u8]>,
        /// Access control list as sent.
        acl: Vec<AclEntry>,
        /// Kind of znode.
        mode: CreateMode,
    },
    /// Opcode 2.
    Delete {
        /// The znode.
        path: &'a str,
        /// Expected version.
        version: i32,
    },
    /// Opcode 5.
    SetData {
        /// The znode.
        path: &'a str,
        /// New data.
        data: Option<&'a [u8]>,
        /// Expected version.
        version: i32,
    },
    /// Opcode 7.
    SetAcl {
        /// The znode.
        path: &'a str,
        /// New list.
        acl: Vec<AclEntry>,
        /// Expected aversion.
        version: i32,
    },
    /// Opcode 13, inside a multi.
    Check {
        /// The znode.
        path: &'a str,
        /// Expected version.
        version: i32,
    },
    /// A create whose flags mean nothing. Inside a multi it fails where it stands, after the operations
    /// before it.
    BadFlags,
    /// Opcode 14: all or none.
    Multi(Vec<Op<'a>>),
    /// Opcode 9: changes nothing, and so is a barrier that everything committed before precedes.
    Sync {
        /// As sent; comes back.
        path: &'a str,
    },
    /// Opcode -11.
    CloseSession,
}

/// What a command came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The session exists, with attachment 1.
    SessionCreated {
        /// Its id.
        session: SessionId,
    },
    /// The session is attached to the server that asked.
    Attached {
        /// The number under which it now writes.
        attachment: Attachment,
    },
    /// No such session, or the password is wrong.
    AttachRefused,
    /// The write was carried out or refused; either way it consumed its sequence number.
    Done(Result<OpReply, ErrorCode>),
    /// This sequence number, or this creation of a session, was applied before. Nothing was changed.
    Duplicate,
    /// An earlier sequence number is missing, and may still come. Nothing was changed.
    Gap,
    /// The session was attached elsewhere since. Nothing was changed.
    Moved,
    /// No such session any more. Nothing was changed.
    SessionExpired,
    /// An expiry took place, or not.
    Expired(bool),
    /// `/zookeeper/config` holds what it is to hold.
    Published,
    /// A znode was removed that nobody needs, or not.
    Reaped(bool),
}

/// What a write answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpReply {
    /// The path created (with its suffix) and its Stat.
    Created {
        /// Path with suffix.
        path: String,
        /// Its Stat.
        stat: Stat,
    },
    /// Deleted, or checked.
    Nothing,
    /// The new Stat after setData or setACL.
    Stat(Stat),
    /// The path that was synced.
    Synced(String),
    /// One reply for each op, or which op failed and how; the reply header's error is 0 in both cases.
    Multi(Result<Vec<OpReply>, MultiFailure>),
}

/// A multi that changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MultiFailure {
    /// Which op failed; the first is 0.
    pub at: usize,
    /// How many ops there were.
    pub ops: usize,
    /// Why.
    pub error: ErrorCode,
}

/// A znode's Stat, in the protocol's order and widths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Transaction that created it.
    pub czxid: Zxid,
    /// Transaction that last changed its data.
    pub mzxid: Zxid,
    /// When it was created, milliseconds since 1970.
    pub ctime: i64,
    /// When its data was last changed.
    pub mtime: i64,
    /// Changes of its data.
    pub version: i32,
    /// Children ever created, doubled, less children now.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// Owning session; 0 for all but ephemeral znodes.
    pub ephemeral_owner: i64,
    /// Bytes of data.
    pub data_length: i32,
    /// Children now.
    pub num_children: i32,
    /// Transaction that last created or deleted a child.
    pub pzxid: Zxid,
}

/// The protocol's error codes that a server sends (`KeeperException`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(i32)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum ErrorCode {
    RuntimeInconsistency = -2,
    Marshalling = -5,
    Unimplemented = -6,
    OperationTimeout = -7,
    BadArguments = -8,
    NewConfigNoQuorum = -13,
    ReconfigInProgress = -14,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NotReadOnly = -119,
    NoWatcher = -121,
    ReconfigDisabled = -123,
    QuotaExceeded = -125,
    Throttled = -127,
}

/// What happened, for watches and for the servers that hold connections. Within one transaction
/// in the order of `reference` 1.6: what a watcher is to be told first comes first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A znode came to be.
    Created {
        /// The znode.
        path: String,
        /// Who may read it.
        acl: AclList,
    },
    /// A znode went.
    Deleted {
        /// The znode.
        path: String,
        /// Who might have read it.
        acl: AclList,
    },
    /// Its data was set.
    DataChanged {
        /// The znode.
        path: String,
        /// Who may read it.
        acl: AclList,
    },
    /// A child came or went.
    ChildrenChanged {
        /// The parent.
        path: String,
        /// Who may read the parent.
        acl: AclList,
    },
    /// A session is over: closed by its client, or expired.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Whether it expired.
        expired: bool,
    },
    /// A session was attached to a server: its connection elsewhere is stale.
    SessionAttached {
        /// The session.
        session: SessionId,
        /// Where it is now.
        server: NodeId,
        /// Its attachment from now on.
        attachment: Attachment,
    },
}

/// An access control list, shared by all that have it.
pub type AclList = Rc<[AclEntry]>;
