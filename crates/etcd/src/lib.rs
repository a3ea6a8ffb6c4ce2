//! etcd v3: its messages, and the key/value store behind them (spec: KV-1 to KV-10).
//!
//! | module | what one finds there |
//! | --- | --- |
//! | [`messages`] | the API's messages, compiled from our `proto/` files |
//! | [`store`] | the multi-version store as a replicated state machine: keys, leases, users, exactly-once |
//! | [`command`] | what goes through the log |
//! | [`server`] | what one server does for its clients: calls, reads, watches, the leader's clock |
//! | [`check`] | what is wrong with a request, before anything is proposed |
//! | [`db`] | etcd's database file, written and read |
//! | [`grpc`] | messages in the bytes of a gRPC stream, for servers and clients |
//! | [`methods`] | calls by their gRPC names |
//! | [`Refusal`] | every error, with etcd's code and words |
//!
//! Not here: HTTP, sockets, password hashing, Raft.

pub mod check;
pub mod command;
pub mod db;
pub mod grpc;
mod ids;
pub mod messages;
pub mod methods;
mod refusal;
pub mod server;
pub mod store;

pub use ids::{ClientId, KeyRange, LeaseId, RangeEnd, Revision, Sequence, prefix_end};
pub use refusal::{Code, Refusal};
