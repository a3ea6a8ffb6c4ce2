//! The Rust client library: ZooKeeper sessions with pipelining, watches and reconnection; and the key/value service ([`kv`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use quorate_client::{Acl, Client, CreateMode, Options};
//!
//! let client = Client::connect(&["127.0.0.1:2181", "127.0.0.1:2182"], Options::default()).await?;
//! client.create("/greeting", b"hello", CreateMode::Persistent, Acl::open()).await?;
//! let (data, stat, watch) = client.get_data_and_watch("/greeting").await?;
//! assert_eq!(&data[..], b"hello");
//! client.set_data("/greeting", b"good evening", stat.version).await?;
//! let event = watch.fired().await; // DataChanged
//! client.close().await?;
//! # Ok(()) }
//! ```
//!
//! A request is on its way when its method returns, not when the future is first polled: many may be in flight, and
//! they take effect in the order of the calls (ZK-6).
//!
//! | module | what it is |
//! | --- | --- |
//! | `session` | the session as a pure value: what is sent, what answers belong to, when to reconnect |
//! | `watches` | which one-shot watches are set, which an event fires, how they are set again elsewhere |
//! | `call`, `reply` | one request encoded; one answer decoded |
//! | `client` | the methods |
//! | `task` | the shell: one tokio task with a socket and a timer |
//! | [`kv`] | the key/value service: etcd's API, with writes that take effect once |
//! | [`recipes`] | locks, elections, barriers, queues, counters, groups, configurations |
//! | `connection` | a blocking connection, one request at a time: what a command line needs |
//!
//! **Why a client of our own**, where the registry has one for this protocol: the session is a pure value, so the simulator's clients and
//! production's are one; a failure says whether the request may have happened, which locks and counters cannot do without; and the wire
//! format is the server's own module, read and written in one place. The field's crate is run against our servers as a judge instead
//! (`interop/rust`).
//!
//! Left out so far: chroots, read-only servers, SASL, TLS, persistent watches. A request that may have happened is
//! never repeated.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a client has sockets")]

mod call;
mod client;
mod connection;
mod error;
mod failure;
pub mod kv;
pub mod recipes;
mod reply;
mod session;
mod task;
mod watches;

pub use call::{Acl, Multi};
pub use client::{Client, Options, Pending, SessionState, Watch};
pub use connection::{Connection, WatchEvent};
pub use error::ClientError;
pub use failure::{Answered, Cause, ConnectError, Failure, Refusal};
pub use quorate_zk::command::{AclEntry, CreateMode, ErrorCode, Identity, SessionId, Stat, Zxid};
pub use reply::{MultiRefused, MultiReply};
pub use session::ServerIndex;
pub use watches::{Event, EventKind};
