//! What clients send. Requests decode for the server and encode for our own client.

use super::{BadPacket, JuteReader, JuteWriter};
use crate::command::{CreateMode, Op};

/// Opcodes (ZooKeeper's `ZooDefs.OpCode`).
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub mod opcode {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const CHECK_WATCHES: i32 = 17;
    pub const RECONFIG: i32 = 16;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    /// Our own: a listing in pieces, for directories that are too large for one packet.
    pub const LIST_AFTER: i32 = 1001;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;
}

/// Xids with a meaning of their own.
pub mod xid {
    /// A watch event.
    pub const NOTIFICATION: i32 = -1;
    /// A ping and its answer.
    pub const PING: i32 = -2;
    /// An auth packet and its answer.
    pub const AUTH: i32 = -4;
    /// A setWatches and its answer.
    pub const SET_WATCHES: i32 = -8;
}

/// The first packet of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectRequest {
    /// Highest zxid that the client has seen.
    pub last_zxid_seen: i64,
    /// Wanted session timeout in milliseconds.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: i64,
    /// Sixteen bytes, for an existing session.
    pub password: Vec<u8>,
    /// Whether the client is content with a read-only server; absent in old clients.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Reads the packet.
    pub fn decode(packet: &[u8]) -> Result<Self, BadPacket> {
        let mut input = JuteReader::new(packet);
        let _version = input.int()?;
        Ok(Self {
            last_zxid_seen: input.long()?,
            timeout_ms: input.int()?,
            session: input.long()?,
            password: input.buffer()?.unwrap_or_default().to_vec(),
            read_only: if input.is_empty() { None } else { Some(input.bool()?) },
        })
    }

    /// The packet, with its length.
    pub fn encode(&self) -> bytes::Bytes {
        let mut out = JuteWriter::with_capacity(48);
        out.int(0);
        out.long(self.last_zxid_seen);
        out.int(self.timeout_ms);
        out.long(self.session);
        out.buffer(Some(&self.password));
        if let Some(read_only) = self.read_only {
            out.bool(read_only);
        }
        out.finish()
    }
}

/// What every later packet begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// Comes back with the reply.
    pub xid: i32,
    /// What is asked.
    pub opcode: i32,
}

/// An operation of a multi, with the opcode that decides what its result looks like.
pub type MultiOp<'a> = (i32, Op<'a>);

/// Watches that a client had on another server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetWatches<'a> {
    /// Up to here the client has seen everything.
    pub relative_zxid: i64,
    /// On data that existed.
    pub data: Vec<&'a str>,
    /// On znodes that did not exist.
    pub exist: Vec<&'a str>,
    /// On children.
    pub child: Vec<&'a str>,
    /// Persistent ones.
    pub persistent: Vec<&'a str>,
    /// Persistent and recursive ones.
    pub recursive: Vec<&'a str>,
}

/// Which servers there are to be, in ZooKeeper's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconfig<'a> {
    /// Servers that come, separated by commas.
    pub joining: Option<&'a str>,
    /// Numbers of those that go.
    pub leaving: Option<&'a str>,
    /// Or: all of them, one a line.
    pub members: Option<&'a str>,
    /// The version that this is meant to follow; -1 is any.
    pub from_version: i64,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are the protocol's own")]
pub enum Request<'a> {
    Ping,
    Auth {
        scheme: &'a str,
        data: &'a [u8],
    },
    Sasl {
        token: &'a [u8],
    },
    SetWatches(SetWatches<'a>),
    Exists {
        path: &'a str,
        watch: bool,
    },
    GetData {
        path: &'a str,
        watch: bool,
    },
    GetAcl {
        path: &'a str,
    },
    /// `stat`: opcode 12 also wants the Stat.
    GetChildren {
        path: &'a str,
        watch: bool,
        stat: bool,
    },
    GetEphemerals {
        prefix: &'a str,
    },
    GetAllChildrenNumber {
        path: &'a str,
    },
    WhoAmI,
    /// Mode 0 is persistent, 1 persistent and recursive.
    AddWatch {
        path: &'a str,
        mode: i32,
    },
    /// Kind 1 is children, 2 data, 3 any.
    RemoveWatches {
        path: &'a str,
        kind: i32,
    },
    /// Asks whether there is such a watch.
    CheckWatches {
        path: &'a str,
        kind: i32,
    },
    /// Paths, each with the opcode of getData or getChildren.
    MultiRead(Vec<(i32, &'a str)>),
    Reconfig(Reconfig<'a>),
    /// Everything that goes through the log, but for a multi.
    Write(Op<'a>),
    Multi(Vec<MultiOp<'a>>),
    /// An opcode that this server does not know, or that clients may not send.
    Unknown,
    /// A create with flags that mean nothing.
    BadFlags,
    /// As many names of a znode's children as one packet takes, from behind this one on, or from the newest if it is empty.
    ListAfter {
        /// The parent.
        path: &'a str,
        /// The last name of the piece before.
        name: &'a str,
    },
    /// A multi with an operation that no multi may hold.
    BadMulti,
    /// A record that does not read.
    Malformed,
}

impl<'a> Request<'a> {
    /// Reads a packet. One whose header reads has a place in the order of replies, and so a record that does not
    /// read is a request of its own.
    ///
    /// # Errors
    /// The packet is too short for a header.
    pub fn decode(packet: &'a [u8]) -> Result<(RequestHeader, Self), BadPacket> {
        let mut input = JuteReader::new(packet);
        let header = RequestHeader { xid: input.int()?, opcode: input.int()? };
        let request = decode_body(header.opcode, &mut input).unwrap_or(Request::Malformed);
        Ok((header, request))
    }
}

fn decode_body<'a>(opcode: i32, input: &mut JuteReader<'a>) -> Result<Request<'a>, BadPacket> {
    Ok(match opcode {
        opcode::PING => Request::Ping,
        opcode::AUTH => {
            let _kind = input.int()?;
            let scheme = input.str()?;
            Request::Auth { scheme, data: input.buffer()?.unwrap_or_default() }
        }
        opcode::SASL => Request::Sasl { token: input.buffer()?.unwrap_or_default() },
        opcode::SET_WATCHES | opcode::SET_WATCHES2 => {
            Request::SetWatches(decode_set_watches(opcode, input)?)
        }
        opcode::EXISTS => Request::Exists { path: input.str()?, watch: input.bool()? },
        opcode::GET_DATA => Request::GetData { path: input.str()?, watch: input.bool()? },
        opcode::GET_ACL => Request::GetAcl { path: input.str()? },
        opcode::GET_CHILDREN | opcode::GET_CHILDREN2 => Request::GetChildren {
            path: input.str()?,
            watch: input.bool()?,
            stat: opcode == opcode::GET_CHILDREN2,
        },
        opcode::LIST_AFTER => Request::ListAfter { path: input.str()?, name: input.str()? },
        opcode::GET_EPHEMERALS => Request::GetEphemerals { prefix: input.str()? },
        opcode::GET_ALL_CHILDREN_NUMBER => Request::GetAllChildrenNumber { path: input.str()? },
        opcode::WHO_AM_I => Request::WhoAmI,
        opcode::ADD_WATCH => Request::AddWatch { path: input.str()?, mode: input.int()? },
        opcode::REMOVE_WATCHES => Request::RemoveWatches { path: input.str()?, kind: input.int()? },
        opcode::CHECK_WATCHES => Request::CheckWatches { path: input.str()?, kind: input.int()? },
        opcode::RECONFIG => Request::Reconfig(Reconfig {
            joining: input.nullable_str()?,
            leaving: input.nullable_str()?,
            members: input.nullable_str()?,
            from_version: input.long()?,
        }),
        opcode::MULTI_READ => decode_multi_read(input)?,
        opcode::SYNC => Request::Write(Op::Sync { path: input.str()? }),
        opcode::CLOSE_SESSION => Request::Write(Op::CloseSession),
        opcode::MULTI => decode_multi(input)?,
        opcode::CHECK => Request::Unknown,
        _ => decode_write(opcode, input)?,
    })
}

fn decode_set_watches<'a>(
    opcode: i32,
    input: &mut JuteReader<'a>,
) -> Result<SetWatches<'a>, BadPacket> {
    let mut watches = SetWatches {
        relative_zxid: input.long()?,
        data: input.strs()?,
        exist: input.strs()?,
        child: input.strs()?,
        ..SetWatches::default()
    };
    if opcode == opcode::SET_WATCHES2 {
        watches.persistent = input.strs()?;
        watches.recursive = input.strs()?;
    }
    Ok(watches)
}

/// The writes that may also stand inside a multi.
fn decode_write<'a>(opcode: i32, input: &mut JuteReader<'a>) -> Result<Request<'a>, BadPacket> {
    Ok(Request::Write(match opcode {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            let (path, data, acl, flags) =
                (input.str()?, input.buffer()?, input.acl()?, input.int()?);
            let ttl = if opcode == opcode::CREATE_TTL { Some(input.long()?) } else { None };
            match create_mode(flags, ttl) {
                Some(mode) => Op::Create { path, data, acl, mode },
                None => return Ok(Request::BadFlags),
            }
        }
        opcode::DELETE => Op::Delete { path: input.str()?, version: input.int()? },
        opcode::SET_DATA => {
            Op::SetData { path: input.str()?, data: input.buffer()?, version: input.int()? }
        }
        opcode::SET_ACL => {
            Op::SetAcl { path: input.str()?, acl: input.acl()?, version: input.int()? }
        }
        opcode::CHECK => Op::Check { path: input.str()?, version: input.int()? },
        _ => return Ok(Request::Unknown),
    }))
}

fn decode_multi<'a>(input: &mut JuteReader<'a>) -> Result<Request<'a>, BadPacket> {
    let mut ops = Vec::new();
    loop {
        let (opcode, done, _error) = (input.int()?, input.bool()?, input.int()?);
        if done {
            return Ok(Request::Multi(ops));
        }
        match decode_write(opcode, input)? {
            Request::Write(Op::SetAcl { .. }) => return Ok(Request::BadMulti),
            Request::Write(op) => ops.push((opcode, op)),
            Request::BadFlags => ops.push((opcode, Op::BadFlags)),
            _ => return Ok(Request::BadMulti),
        }
    }
}

fn decode_multi_read<'a>(input: &mut JuteReader<'a>) -> Result<Request<'a>, BadPacket> {
    let mut reads = Vec::new();
    loop {
        let (opcode, done, _error) = (input.int()?, input.bool()?, input.int()?);
        if done {
            return Ok(Request::MultiRead(reads));
        }
        if !matches!(opcode, opcode::GET_DATA | opcode::GET_CHILDREN) {
            return Ok(Request::BadMulti);
        }
        let (path, _watch) = (input.str()?, input.bool()?);
        reads.push((opcode, path));
    }
}

/// What a create's flags mean. A time to live goes with the kinds that have one, and only with those.
fn create_mode(flags: i32, ttl: Option<i64>) -> Option<CreateMode> {
    Some(match (flags, ttl) {
        (0, None) => CreateMode::Persistent,
        (1, None) => CreateMode::Ephemeral,
        (2, None) => CreateMode::PersistentSequential,
        (3, None) => CreateMode::EphemeralSequential,
        (4, None) => CreateMode::Container,
        (5, Some(ttl)) => CreateMode::Ttl(ttl),
        (6, Some(ttl)) => CreateMode::SequentialTtl(ttl),
        _ => return None,
    })
}

/// The flags of a kind of znode.
pub(crate) fn create_flags(mode: CreateMode) -> i32 {
    match mode {
        CreateMode::Persistent => 0,
        CreateMode::Ephemeral => 1,
        CreateMode::PersistentSequential => 2,
        CreateMode::EphemeralSequential => 3,
        CreateMode::Container => 4,
        CreateMode::Ttl(_) => 5,
        CreateMode::SequentialTtl(_) => 6,
    }
}

impl Op<'_> {
    /// Appends the operation's record, as a client sends it.
    pub fn encode_request(&self, out: &mut JuteWriter) {
        match self {
            Op::Create { path, data, acl, mode } => {
                out.str(path);
                out.buffer(*data);
                out.acl(acl);
                out.int(create_flags(*mode));
                if let CreateMode::Ttl(ttl) | CreateMode::SequentialTtl(ttl) = mode {
                    out.long(*ttl);
                }
            }
            Op::Delete { path, version } | Op::Check { path, version } => {
                out.str(path);
                out.int(*version);
            }
            Op::SetData { path, data, version } => {
                out.str(path);
                out.buffer(*data);
                out.int(*version);
            }
            Op::SetAcl { path, acl, version } => {
                out.str(path);
                out.acl(acl);
                out.int(*version);
            }
            Op::Sync { path } => out.str(path),
            Op::Multi(_) | Op::CloseSession | Op::BadFlags => {}
        }
    }
}
