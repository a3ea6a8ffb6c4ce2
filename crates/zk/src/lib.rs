//! ZooKeeper (Hunt et al., 2010): the znode tree as a state machine, and what one server does for
//! the clients connected to it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`wire`] | the client protocol: frames, requests, replies |
//! | [`command`] | what goes through the log, and what comes out of apply |
//! | [`tree`] | znodes, ACLs and sessions: the replicated state |
//! | [`server`] | connections, pipelining, watches, session liveness |
//! | [`ensemble`] | the servers in ZooKeeper's words: `/zookeeper/config`, reconfig |
//! | [`import`] | ZooKeeper's own files, read into a tree |
//!
//! Left out: SASL with Kerberos, local sessions.

mod codec;
pub mod command;
pub mod ensemble;
pub mod import;
mod path;
pub mod server;
pub mod tree;
pub mod wire;
