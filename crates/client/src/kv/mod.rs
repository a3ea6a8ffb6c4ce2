//! The key/value service's client: the [`Clerk`] over gRPC, so that a write takes effect once although its servers crash and
//! its answers are lost (KV-3, KV-4); and streams of watches and keep-alives.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use quorate_client::kv::{Kv, Options, pb};
//!
//! let kv = Kv::new(&["127.0.0.1:2379", "127.0.0.1:2380"], Options::default())?;
//! let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
//! let revision = kv.put(put).await?.header.map(|header| header.revision);
//! # Ok(()) }
//! ```
//!
//! | file | what it does |
//! | --- | --- |
//! | `channel` | one server, by gRPC |
//! | `shell` | the Clerk's calls carried to servers, and their answers back |
//! | `streams` | watches and keep-alives |
//!
//! Not here: TLS.

mod channel;
mod shell;
mod streams;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use quorate_clerk::Answer;
use quorate_etcd::grpc::Status;
use quorate_etcd::server::{Request, Response};
use quorate_etcd::{ClientId, Refusal};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use shell::{Asked, Servers};

pub use channel::{CallError, Channel, Metadata, Reply};
pub use quorate_etcd::messages::etcdserverpb as pb;
pub use quorate_etcd::messages::{mvccpb, v3electionpb, v3lockpb};
pub use quorate_etcd::{Code, prefix_end};
pub use streams::{Received, Watching};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name and password, where the servers ask for them.
    pub user: Option<(String, String)>,
    /// How long a call may take, over all its attempts.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { user: None, patience: Duration::from_secs(10) }
    }
}

/// Why a call has no reply.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KvError {
    /// Nothing happened, and nothing will: the service says why.
    #[error("{0}")]
    Refused(Refusal),
    /// Nothing happened: a server says why, in words that are not the service's.
    #[error("{0}")]
    Failed(Status),
    /// No server could be reached, so nothing happened.
    #[error("{0}")]
    Unreachable(String),
    /// A watch or a lease has ended.
    #[error("{0}")]
    Ended(String),
    /// It may have happened, once, or may still happen.
    #[error("the outcome is unknown: no server answered in time")]
    Unknown,
}

impl From<CallError> for KvError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(cause) | CallError::Lost(cause) => Self::Unreachable(cause),
            CallError::Refused(status) => match status.refusal() {
                Some(refusal) => Self::Refused(refusal),
                None => Self::Failed(status),
            },
        }
    }
}

/// A client. Its copies share one client id and its connections.
#[derive(Clone)]
pub struct Kv {
    servers: Arc<Servers>,
    asked: mpsc::UnboundedSender<Asked>,
    patience: Duration,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident $request:ident($message:ident) -> $response:ident($reply:ident);)*) => {$(
        $(#[$doc])*
        pub async fn $name(&self, request: pb::$message) -> Result<pb::$reply, KvError> {
            match self.call(Request::$request(request)).await? {
                Response::$response(reply) => Ok(reply),
                // Done before, and all that is known of it is when.
                Response::DoneBefore(header) => Ok(pb::$reply { header: Some(header), ..Default::default() }),
                _ => Err(KvError::Failed(Status::new(Code::Internal, "the server sent another call's reply"))),
            }
        }
    )*};
}

impl Kv {
    /// A client of these servers; nothing is connected yet. It runs tasks on the runtime that it is called on.
    pub fn new<S: AsRef<str>>(servers: &[S], options: Options) -> io::Result<Self> {
        if servers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a client needs a server"));
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let channels = servers.iter().map(|server| Channel::new(server.as_ref())).collect();
        let servers = Arc::new(Servers::new(channels, options.user));
        let (asked, asks) = mpsc::unbounded_channel();
        tokio::spawn(shell::run(servers.clone(), ClientId(u128::from_be_bytes(id)), asks));
        Ok(Self { servers, asked, patience: options.patience })
    }

    calls! {
        /// Reads a range of keys.
        range Range(RangeRequest) -> Range(RangeResponse);
        /// Sets a key.
        put Put(PutRequest) -> Put(PutResponse);
        /// Deletes a range of keys.
        delete_range DeleteRange(DeleteRangeRequest) -> DeleteRange(DeleteRangeResponse);
        /// Compares, then does one or the other.
        txn Txn(TxnRequest) -> Txn(TxnResponse);
        /// Makes a lease.
        lease_grant LeaseGrant(LeaseGrantRequest) -> LeaseGrant(LeaseGrantResponse);
        /// How long a lease has left.
        lease_time_to_live LeaseTimeToLive(LeaseTimeToLiveRequest) -> LeaseTimeToLive(LeaseTimeToLiveResponse);
        /// All leases.
        lease_leases LeaseLeases(LeaseLeasesRequest) -> LeaseLeases(LeaseLeasesResponse);
    }

    /// Forgets revisions before this one.
    pub async fn compact(&self, revision: i64) -> Result<pb::ResponseHeader, KvError> {
        let request = pb::CompactionRequest { revision, ..Default::default() };
        self.done(Request::Compact(request)).await
    }

    /// Ends a lease, and its keys.
    pub async fn lease_revoke(&self, id: i64) -> Result<pb::ResponseHeader, KvError> {
        self.done(Request::LeaseRevoke(pb::LeaseRevokeRequest { id })).await
    }

    async fn done(&self, request: Request) -> Result<pb::ResponseHeader, KvError> {
        match self.call(request).await? {
            Response::Done(header) | Response::DoneBefore(header) => Ok(header),
            _ => Err(KvError::Failed(Status::new(
                Code::Internal,
                "the server sent another call's reply",
            ))),
        }
    }

    /// Makes a call, as often as it takes. A write takes effect once.
    pub async fn call(&self, request: Request) -> Result<Response, KvError> {
        let (told, answer) = oneshot::channel();
        let asked = Asked { request, patience: self.patience, told };
        self.asked.send(asked).map_err(|_| KvError::Unknown)?;
        match answer.await.unwrap_or(Answer::Unknown) {
            Answer::Done(response) => Ok(*response),
            Answer::Refused(Refusal::Timeout) => match self.servers.trouble() {
                Some(cause) => Err(KvError::Unreachable(cause)),
                None => Err(KvError::Refused(Refusal::Timeout)),
            },
            Answer::Refused(refusal) => Err(KvError::Refused(refusal)),
            Answer::Unknown => Err(KvError::Unknown),
        }
    }

    /// One attempt at any method of the API, by its gRPC name and with its message: for what is about one server, or may
    /// wait for ever.
    pub async fn once<M: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<M, KvError> {
        let reply = self.servers.once(method, &request.encode_to_vec()).await?;
        quorate_etcd::grpc::decode(reply).map_err(KvError::Failed)
    }
}
