//! The ZooKeeper client protocol, version 0.
//!
//! A packet is an i32 length and that many bytes; a request begins with an xid and an opcode, a reply with an
//! xid, a zxid and an error. Records are in the "jute" encoding: big-endian numbers, strings and
//! buffers with an i32 length where -1 means null.

pub mod framing;
mod jute;
mod reply;
mod request;

pub use jute::{BadPacket, JuteReader, JuteWriter};
pub use reply::{ConnectResponse, ReplyHeader, multi_reply, notification, packet};
pub(crate) use reply::{multi_end, multi_error, multi_header, single_reply};
pub(crate) use request::create_flags;
pub use request::{
    ConnectRequest, MultiOp, Reconfig, Request, RequestHeader, SetWatches, opcode, xid,
};
