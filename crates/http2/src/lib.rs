//! HTTP/2 (RFC 9113) as a value: bytes in, events out, for servers and clients.
//!
//! A [`Connection`] has no socket and no clock. Whoever has them gives it what came ([`Connection::receive`]), takes what that means
//! ([`Connection::next_event`]), says what is to be sent, and writes [`Connection::pending`] as fast as the peer reads.
//!
//! Why our own: with a library below gRPC three quarters of a call on etcd's port were HTTP/2, most of it maps of headers, tasks for each
//! stream and buffers between them (`docs/performance`). What a server of small calls needs is little: a block of headers is one buffer,
//! an answer is written at once where its windows allow, and nothing is made for a stream but its entry in a map.
//!
//! | file | what it is | RFC 9113 |
//! | --- | --- | --- |
//! | `frame` | frames on the wire, error codes | 4, 6, 7 |
//! | `fields`, `hpack` | header fields, and how they are packed | 4.3, RFC 7541 |
//! | `head` | which fields make a request or a response | 8 |
//! | `stream` | what is known of one stream; its windows | 5 |
//! | `connection` | what came | 3.4, 5, 6 |
//! | `sending` | what is sent, when windows allow | 5.2, 8.1 |
//!
//! Not here: server push, which we neither do nor take; priorities, which are read and not followed (the RFC deprecates them);
//! `CONNECT`; the change from HTTP/1.1 by `Upgrade`. `:authority` is not judged: Go's etcd clients write a whole URL there.

mod connection;
mod fields;
mod frame;
mod head;
mod hpack;
mod sending;
mod stream;

pub use connection::{Connection, Event, Limits};
pub use fields::{Field, Fields};
pub use frame::{ErrorCode, PREFACE};

/// A stream of a connection: odd numbers are the client's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u32);
