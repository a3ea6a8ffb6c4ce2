//! Commands as bytes in the log, version 1.

use quorate_contracts::{Malformed, NodeId, RequestId, WireReader, WireWriter};

use crate::command::{
    AclEntry, Attachment, Body, Command, CreateMode, Identity, Op, SessionId, Zxid,
};

const VERSION: u8 = 1;

mod tag {
    pub(super) const CREATE_SESSION: u8 = 1;
    pub(super) const ATTACH: u8 = 2;
    pub(super) const WRITE: u8 = 3;
    pub(super) const EXPIRE: u8 = 4;
    pub(super) const REAP: u8 = 5;
    pub(super) const PUBLISH: u8 = 6;

    pub(super) const CREATE: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const SET_DATA: u8 = 3;
    pub(super) const SET_ACL: u8 = 4;
    pub(super) const CHECK: u8 = 5;
    pub(super) const MULTI: u8 = 6;
    pub(super) const SYNC: u8 = 7;
    pub(super) const CLOSE_SESSION: u8 = 8;
    pub(super) const BAD_FLAGS: u8 = 9;
}

impl<'a> Command<'a> {
    /// Appends the command.
    pub fn encode(&self, out: &mut WireWriter) {
        out.u8(VERSION);
        out.u64(self.unix_ms as u64);
        match &self.body {
            Body::CreateSession { server, nonce, password, timeout_ms } => {
                out.u8(tag::CREATE_SESSION);
                out.u64(server.0);
                out.u64(nonce.0);
                out.raw(password);
                out.u32(*timeout_ms);
            }
            Body::Attach { session, server, nonce, password, timeout_ms } => {
                out.u8(tag::ATTACH);
                out.u64(session.0 as u64);
                out.u64(server.0);
                out.u64(nonce.0);
                out.raw(password);
                out.u32(*timeout_ms);
            }
            Body::Write { session, attachment, sequence, identities, op } => {
                out.u8(tag::WRITE);
                out.u64(session.0 as u64);
                out.u64(attachment.0);
                out.u64(*sequence);
                out.u32(identities.len() as u32);
                identities.iter().for_each(|identity| encode_identity(identity, out));
                encode_op(op, out);
            }
            Body::Publish { config } => {
                out.u8(tag::PUBLISH);
                out.bytes(config.as_bytes());
            }
            Body::Reap { path, czxid } => {
                out.u8(tag::REAP);
                out.bytes(path.as_bytes());
                out.u64(czxid.0 as u64);
            }
            Body::Expire { session, attachment } => {
                out.u8(tag::EXPIRE);
                out.u64(session.0 as u64);
                out.u64(attachment.0);
            }
        }
    }

    /// Reads a command.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = WireReader::from_slice(bytes);
        if input.u8()? != VERSION {
            return Err(Malformed("a command of an unknown version"));
        }
        let unix_ms = input.u64()? as i64;
        let body = match input.u8()? {
            tag::CREATE_SESSION => Body::CreateSession {
                server: NodeId(input.u64()?),
                nonce: RequestId(input.u64()?),
                password: input.array()?,
                timeout_ms: input.u32()?,
            },
            tag::ATTACH => Body::Attach {
                session: SessionId(input.u64()? as i64),
                server: NodeId(input.u64()?),
                nonce: RequestId(input.u64()?),
                password: input.array()?,
                timeout_ms: input.u32()?,
            },
            tag::WRITE => Body::Write {
                session: SessionId(input.u64()? as i64),
                attachment: Attachment(input.u64()?),
                sequence: input.u64()?,
                identities: {
                    let count = input.count(8)?;
                    (0..count).map(|_| decode_identity(&mut input)).collect::<Result<_, _>>()?
                },
                op: decode_op(&mut input)?,
            },
            tag::PUBLISH => Body::Publish { config: input.str()? },
            tag::REAP => Body::Reap { path: input.str()?, czxid: Zxid(input.u64()? as i64) },
            tag::EXPIRE => Body::Expire {
                session: SessionId(input.u64()? as i64),
                attachment: Attachment(input.u64()?),
            },
            _ => return Err(Malformed("an unknown kind of command")),
        };
        Ok(Self { unix_ms, body })
    }
}

pub(crate) fn encode_identity(identity: &Identity, out: &mut WireWriter) {
    out.bytes(identity.scheme.as_bytes());
    out.bytes(identity.id.as_bytes());
}

pub(crate) fn decode_identity(input: &mut WireReader<'_>) -> Result<Identity, Malformed> {
    Ok(Identity { scheme: input.str()?.to_string(), id: input.str()?.to_string() })
}

pub(crate) fn encode_acl(acl: &[AclEntry], out: &mut WireWriter) {
    out.u32(acl.len() as u32);
    for entry in acl {
        out.u32(entry.perms as u32);
        encode_identity(&entry.identity, out);
    }
}

pub(crate) fn decode_acl(input: &mut WireReader<'_>) -> Result<Vec<AclEntry>, Malformed> {
    let entry = |input: &mut WireReader<'_>| {
        Ok(AclEntry { perms: input.u32()? as i32, identity: decode_identity(input)? })
    };
    (0..input.count(12)?).map(|_| entry(input)).collect()
}

fn encode_data(data: Option<&[u8]>, out: &mut WireWriter) {
    out.bool(data.is_some());
    out.bytes(data.unwrap_or_default());
}

fn decode_data<'a>(input: &mut WireReader<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    let is_some = input.bool()?;
    let data = input.bytes()?;
    Ok(is_some.then_some(data))
}

fn encode_mode(mode: CreateMode, out: &mut WireWriter) {
    out.u8(crate::wire::create_flags(mode) as u8);
    if let CreateMode::Ttl(ttl) | CreateMode::SequentialTtl(ttl) = mode {
        out.u64(ttl as u64);
    }
}

fn decode_mode(input: &mut WireReader<'_>) -> Result<CreateMode, Malformed> {
    Ok(match input.u8()? {
        0 => CreateMode::Persistent,
        1 => CreateMode::Ephemeral,
        2 => CreateMode::PersistentSequential,
        3 => CreateMode::EphemeralSequential,
        4 => CreateMode::Container,
        5 => CreateMode::Ttl(input.u64()? as i64),
        6 => CreateMode::SequentialTtl(input.u64()? as i64),
        _ => return Err(Malformed("an unknown kind of znode")),
    })
}

fn encode_op(op: &Op<'_>, out: &mut WireWriter) {
    let path_and_version = |out: &mut WireWriter, tag: u8, path: &str, version: i32| {
        out.u8(tag);
        out.bytes(path.as_bytes());
        out.u32(version as u32);
    };
    match op {
        Op::Create { path, data, acl, mode } => {
            out.u8(tag::CREATE);
            out.bytes(path.as_bytes());
            encode_data(*data, out);
            encode_acl(acl, out);
            encode_mode(*mode, out);
        }
        Op::Delete { path, version } => path_and_version(out, tag::DELETE, path, *version),
        Op::SetData { path, data, version } => {
            path_and_version(out, tag::SET_DATA, path, *version);
            encode_data(*data, out);
        }
        Op::SetAcl { path, acl, version } => {
            path_and_version(out, tag::SET_ACL, path, *version);
            encode_acl(acl, out);
        }
        Op::Check { path, version } => path_and_version(out, tag::CHECK, path, *version),
        Op::Multi(ops) => {
            out.u8(tag::MULTI);
            out.u32(ops.len() as u32);
            ops.iter().for_each(|op| encode_op(op, out));
        }
        Op::Sync { path } => {
            out.u8(tag::SYNC);
            out.bytes(path.as_bytes());
        }
        Op::CloseSession => out.u8(tag::CLOSE_SESSION),
        Op::BadFlags => out.u8(tag::BAD_FLAGS),
    }
}

fn decode_op<'a>(input: &mut WireReader<'a>) -> Result<Op<'a>, Malformed> {
    Ok(match input.u8()? {
        tag::CREATE => Op::Create {
            path: input.str()?,
            data: decode_data(input)?,
            acl: decode_acl(input)?,
            mode: decode_mode(input)?,
        },
        tag::DELETE => Op::Delete { path: input.str()?, version: input.u32()? as i32 },
        tag::SET_DATA => Op::SetData {
            path: input.str()?,
            version: input.u32()? as i32,
            data: decode_data(input)?,
        },
        tag::SET_ACL => {
            Op::SetAcl { path: input.str()?, version: input.u32()? as i32, acl: decode_acl(input)? }
        }
        tag::CHECK => Op::Check { path: input.str()?, version: input.u32()? as i32 },
        tag::MULTI => {
            let count = input.count(1)?;
            Op::Multi((0..count).map(|_| decode_simple_op(input)).collect::<Result<_, _>>()?)
        }
        tag::SYNC => Op::Sync { path: input.str()? },
        tag::CLOSE_SESSION => Op::CloseSession,
        tag::BAD_FLAGS => Op::BadFlags,
        _ => return Err(Malformed("an unknown operation")),
    })
}

/// A multi holds no multi: looking ahead keeps a hostile nesting from deepening the stack.
fn decode_simple_op<'a>(input: &mut WireReader<'a>) -> Result<Op<'a>, Malformed> {
    if input.clone().u8()? == tag::MULTI {
        return Err(Malformed("a multi inside a multi"));
    }
    decode_op(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_comes_back_as_it_went() {
        let identity = Identity { scheme: "digest".into(), id: "bob:x".into() };
        let acl = vec![AclEntry { perms: 31, identity: identity.clone() }];
        let ops = vec![
            Op::Create { path: "/a", data: None, acl: acl.clone(), mode: CreateMode::Ttl(7) },
            Op::Delete { path: "/b", version: -1 },
            Op::SetData { path: "/c", data: Some(b"x"), version: 3 },
            Op::SetAcl { path: "/d", acl, version: 0 },
            Op::Check { path: "/e", version: 1 },
            Op::BadFlags,
        ];
        let write = |op| Body::Write {
            session: SessionId(5),
            attachment: Attachment(2),
            sequence: 9,
            identities: vec![identity.clone()],
            op,
        };
        let bodies = [
            Body::CreateSession {
                server: NodeId(2),
                nonce: RequestId(8),
                password: [7; 16],
                timeout_ms: 4_000,
            },
            Body::Attach {
                session: SessionId(5),
                server: NodeId(2),
                nonce: RequestId(8),
                password: [7; 16],
                timeout_ms: 4_000,
            },
            write(Op::Multi(ops)),
            write(Op::Sync { path: "/" }),
            write(Op::CloseSession),
            Body::Expire { session: SessionId(5), attachment: Attachment(2) },
            Body::Reap { path: "/a", czxid: Zxid(7) },
            Body::Publish { config: "server.1=h:1:1:participant;h:2" },
        ];
        for body in bodies {
            let command = Command { unix_ms: 123, body };
            let mut out = WireWriter::default();
            command.encode(&mut out);
            let bytes = out.finish();
            assert_eq!(Command::decode(&bytes).as_ref(), Ok(&command));
            for end in 0..bytes.len() {
                assert!(Command::decode(&bytes[..end]).is_err(), "cut at {end}: {command:?}");
            }
        }
    }
}
