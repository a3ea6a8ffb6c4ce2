//! The key/value group's clients: etcd's API over gRPC and as JSON, and its pages for probes, on one port.
//!
//! ```text
//!  socket ─ listen ─┬─ http2 ─ calls ─┬──────────────────────────┬─ desk ══ front ─ replica
//!                   │                 ├─ grpc ─┬─ unary ─┬─ locks ┤
//!                   └─ pages ─ gateway┴────────┘         └─ about, cluster
//!                                     └─ streams ────────────────┘
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `front` | the group's side: calls and streams of clients, and the replies to them |
//! | `desk` | the handlers' side: hands calls in, waits for answers |
//! | `listen` | connections: HTTP/2 and HTTP/1.1, told apart by their first bytes |
//! | `http2` | the socket of an HTTP/2 connection |
//! | `calls` | its requests, each led to who answers it |
//! | `incoming`, `outgoing` | what a client sends for one call, and what is sent to it |
//! | `body` | what is sent back by HTTP/1.1 or as lines, whole or piece by piece |
//! | `grpc` | calls as gRPC frames them |
//! | `gateway` | the same calls as JSON over HTTP |
//! | `unary` | calls with one reply, by their gRPC names |
//! | `streams`, `snapshots` | watches, keep-alives; the state as a file |
//! | `watcher` | a client that watches, with nobody between |
//! | `ranges` | large ranges, piece by piece |
//! | `locks`, `turns` | the server's locks and elections; whose turn it is |
//! | `about` | what the API tells of this member; handing over leadership |
//! | `cluster` | the members, and changes of them |
//! | `pages` | `/health`, `/version`, `/metrics` |
//! | `passwords` | hashed and compared beside the loop |
//!
//! Not here: what a call means (`quorate_etcd`).

mod about;
mod body;
mod calls;
mod cluster;
mod desk;
mod front;
mod gateway;
mod grpc;
mod http2;
mod incoming;
mod listen;
mod locks;
mod outgoing;
mod pages;
mod passwords;
mod ranges;
mod snapshots;
mod streams;
mod turns;
mod unary;
mod watcher;

pub(crate) use about::About;
pub(crate) use cluster::PUBLISHED;
pub(crate) use desk::Desk;
pub(crate) use front::Etcd;
pub(crate) use listen::{Api, Security, accept};

/// The version of etcd whose API and behaviour this is: clients choose by it what they ask for.
pub(crate) const ETCD_VERSION: &str = "3.6.5";
