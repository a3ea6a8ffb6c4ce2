//! The key/value group's clients: etcd's API over gRPC and as JSON, and its pages for probes, on one port.
//!
//! ```text
//!  socket ─ listen ─┬─ grpc ──────────┬─ unary ─┬─ locks ─┬─ desk ══ front ─ replica
//!                   └─ pages ─ gateway┘         └─ about, cluster
//!                              streams ───────────────────┘
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `front` | the group's side: calls and streams of clients, and the replies to them |
//! | `desk` | the handlers' side: hands calls in, waits for answers |
//! | `authority` | what Go's clients write for a host, put right before HTTP/2 sees it |
//! | `listen` | connections: HTTP/2 and HTTP/1.1, told apart by their first bytes |
//! | `body` | what is sent back, whole or piece by piece |
//! | `grpc` | requests and replies as gRPC frames them |
//! | `gateway` | the same calls as JSON over HTTP |
//! | `unary` | calls with one reply, by their gRPC names |
//! | `streams`, `snapshots` | watches, keep-alives; the state as a file |
//! | `ranges` | large ranges, piece by piece |
//! | `locks`, `turns` | the server's locks and elections; whose turn it is |
//! | `about` | what the API tells of this member; handing over leadership |
//! | `cluster` | the members, and changes of them |
//! | `pages` | `/health`, `/version`, `/metrics` |
//! | `passwords` | hashed and compared beside the loop |
//!
//! Not here: what a call means (`quorate_etcd`).

mod about;
mod authority;
mod body;
mod cluster;
mod desk;
mod front;
mod gateway;
mod grpc;
mod listen;
mod locks;
mod pages;
mod passwords;
mod peek;
mod ranges;
mod snapshots;
mod streams;
mod turns;
mod unary;

pub(crate) use about::About;
pub(crate) use cluster::PUBLISHED;
pub(crate) use desk::Desk;
pub(crate) use front::Etcd;
pub(crate) use listen::{Api, Security, accept};

/// The version of etcd whose API and behaviour this is: clients choose by it what they ask for.
pub(crate) const ETCD_VERSION: &str = "3.6.5";
