//! What servers send.

use bytes::Bytes;

use super::{BadPacket, JuteReader, JuteWriter, opcode, xid};
use crate::command::{MultiFailure, OpReply, Zxid};

/// Answer to the first packet of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectResponse {
    /// Negotiated session timeout in milliseconds; 0 if the session is refused.
    pub timeout_ms: i32,
    /// The session; 0 if it is refused.
    pub session: i64,
    /// What to show when attaching again.
    pub password: [u8; 16],
    /// Only told to clients that asked.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The packet.
    pub fn encode(&self) -> Bytes {
        let mut out = JuteWriter::with_capacity(48);
        out.int(0);
        out.int(self.timeout_ms);
        out.long(self.session);
        out.buffer(Some(&self.password));
        if let Some(read_only) = self.read_only {
            out.bool(read_only);
        }
        out.finish()
    }

    /// Reads the packet, without its length.
    pub fn decode(packet: &[u8]) -> Result<Self, BadPacket> {
        let mut input = JuteReader::new(packet);
        let _version = input.int()?;
        let (timeout_ms, session) = (input.int()?, input.long()?);
        let shown = input.buffer()?.unwrap_or_default();
        let password = shown.try_into().map_err(|_| BadPacket("a password has 16 bytes"))?;
        let read_only = if input.is_empty() { None } else { Some(input.bool()?) };
        Ok(Self { timeout_ms, session, password, read_only })
    }
}

/// What every reply begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHeader {
    /// As asked.
    pub xid: i32,
    /// Last zxid applied by the server.
    pub zxid: Zxid,
    /// 0, or why not.
    pub error: i32,
}

impl ReplyHeader {
    pub(crate) fn encode(&self, out: &mut JuteWriter) {
        out.int(self.xid);
        out.long(self.zxid.0);
        out.int(self.error);
    }

    /// Reads it from the front of a packet.
    pub fn decode(input: &mut JuteReader<'_>) -> Result<Self, BadPacket> {
        Ok(Self { xid: input.int()?, zxid: Zxid(input.long()?), error: input.int()? })
    }
}

/// A reply: its header, and the record that `body` writes. An error has no record.
pub fn packet(header: ReplyHeader, body: impl FnOnce(&mut JuteWriter)) -> Bytes {
    let mut out = JuteWriter::with_capacity(112);
    header.encode(&mut out);
    if header.error == 0 {
        body(&mut out);
    }
    out.finish()
}

/// A watch event. Its zxid is -1, as in ZooKeeper 3.8.
pub fn notification(kind: i32, path: &str) -> Bytes {
    const SYNC_CONNECTED: i32 = 3;
    let header = ReplyHeader { xid: xid::NOTIFICATION, zxid: Zxid(-1), error: 0 };
    packet(header, |out| {
        out.int(kind);
        out.int(SYNC_CONNECTED);
        out.str(path);
    })
}

/// The record of a multi's reply; `opcodes` are those of the request.
pub fn multi_reply(
    result: &Result<Vec<OpReply>, MultiFailure>,
    opcodes: &[i32],
    out: &mut JuteWriter,
) {
    match result {
        Ok(replies) => {
            for (reply, opcode) in replies.iter().zip(opcodes) {
                let opcode = result_opcode(*opcode);
                multi_header(out, opcode, 0);
                single_reply(reply, opcode, out);
            }
        }
        Err(failure) => {
            for at in 0..failure.ops {
                let error = match at.cmp(&failure.at) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => failure.error as i32,
                    std::cmp::Ordering::Greater => -2, // RuntimeInconsistency
                };
                multi_error(error, out);
            }
        }
    }
    multi_end(out);
}

/// Inside a multi, creates of containers and with a time to live come back as create2, with a Stat; create2 itself
/// comes back as create, without one.
fn result_opcode(opcode: i32) -> i32 {
    match opcode {
        opcode::CREATE2 => opcode::CREATE,
        opcode::CREATE_TTL | opcode::CREATE_CONTAINER => opcode::CREATE2,
        other => other,
    }
}

/// The end of a multi's reply.
pub(crate) fn multi_end(out: &mut JuteWriter) {
    out.int(opcode::ERROR);
    out.bool(true);
    out.int(-1);
}

/// One result of a multi that failed, and how.
pub(crate) fn multi_error(error: i32, out: &mut JuteWriter) {
    multi_header(out, opcode::ERROR, error);
    out.int(error);
}

pub(crate) fn multi_header(out: &mut JuteWriter, opcode: i32, error: i32) {
    out.int(opcode);
    out.bool(false);
    out.int(error);
}

/// The record of a write's reply.
pub(crate) fn single_reply(reply: &OpReply, opcode: i32, out: &mut JuteWriter) {
    match reply {
        OpReply::Created { path, stat } => {
            out.str(path);
            if opcode != opcode::CREATE {
                out.stat(stat);
            }
        }
        OpReply::Stat(stat) => out.stat(stat),
        OpReply::Synced(path) => out.str(path),
        OpReply::Nothing | OpReply::Multi(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ErrorCode;

    /// The bytes that ZooKeeper 3.8.0 and 3.9.3 send for create, check, delete where the second fails.
    #[test]
    fn a_failed_multi_tells_what_zookeeper_tells() {
        let failure = MultiFailure { at: 1, ops: 3, error: ErrorCode::NoNode };
        let mut out = JuteWriter::with_capacity(64);
        multi_reply(&Err(failure), &[1, 13, 2], &mut out);
        let hex: String = out.finish()[4..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "ffffffff000000000000000000ffffffff00ffffff9bffffff9bffffffff00fffffffefffffffeffffffff01ffffffff"
        );
    }

    #[test]
    fn an_error_reply_is_its_header_alone() {
        let header = ReplyHeader { xid: 7, zxid: Zxid(9), error: -101 };
        assert_eq!(packet(header, |_| panic!("an error has no record")).len(), 4 + 16);
    }
}
