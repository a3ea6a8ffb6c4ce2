//! The handle: one method for each operation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use quorate_zk::command::{AclEntry, CreateMode, ErrorCode, Op, SessionId, Stat};
use quorate_zk::wire::{BadPacket, opcode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::call::{Acl, Call, Multi, create_opcode};
use crate::failure::{Cause, ConnectError, Failure, Refusal};
use crate::reply::{self, MultiRefused, MultiReply};
use crate::session::{Session, SessionOptions, State};
use crate::task::{Command, Task};
use crate::watches::{Event, EventKind, WatchId};

/// Requests that may wait in the handle before it refuses more.
const QUEUE_MAX: usize = 8192;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Session timeout to ask for; servers clamp it.
    pub session_timeout: Duration,
    /// How long one connection may take to be made.
    pub connect_timeout: Duration,
    /// How long [`Client::connect`] tries, and how long a request waits for a server, before it is refused.
    pub patience: Duration,
    /// The most that a request or an answer may have, in bytes.
    pub packet_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            patience: Duration::from_secs(30),
            packet_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// What became of the session.
pub type SessionState = State;

/// A session with a cluster. Clones share it. It ends with [`Client::close`]; if all clones are dropped it is closed
/// in the background.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
    watches: Arc<AtomicU64>,
    notifications: Arc<AtomicU64>,
    servers: Arc<Vec<String>>,
}

impl Client {
    /// Opens a session with one of the servers (`host:port`).
    pub async fn connect<S: AsRef<str>>(
        servers: &[S],
        options: Options,
    ) -> Result<Self, ConnectError> {
        let servers = addresses(servers)?;
        let (told, state) = watch::channel(State::Connecting);
        let session = Session::new(session_options(servers.len(), &options)?);
        let (commands, requests) = mpsc::channel(QUEUE_MAX);
        let task = Task::new(session, servers.clone(), options.packet_bytes_max, told);
        let notifications = task.notifications();
        tokio::spawn(task.run(requests));
        let mut client = Self {
            commands,
            state,
            watches: Arc::new(AtomicU64::new(0)),
            notifications,
            servers: Arc::new(servers),
        };
        client.wait_for_session(options.patience).await?;
        Ok(client)
    }

    async fn wait_for_session(&mut self, patience: Duration) -> Result<(), ConnectError> {
        let connected = self.state.wait_for(|state| matches!(state, State::Connected { .. }));
        match tokio::time::timeout(patience, connected).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ConnectError::Unreachable { servers: self.servers.join(","), patience }),
        }
    }

    /// Creates a znode; gives its path (with the suffix of a sequential one) and its Stat.
    pub fn create(
        &self,
        path: &str,
        data: &[u8],
        mode: CreateMode,
        acl: Acl,
    ) -> Pending<(String, Stat)> {
        let op = Op::Create { path, data: Some(data), acl: acl.0, mode };
        self.ask(Call::write(create_opcode(mode, opcode::CREATE2), &op), |body| {
            reply::created(body)
        })
    }

    /// Deletes a znode; version -1 is any.
    pub fn delete(&self, path: &str, version: i32) -> Pending<()> {
        self.ask(Call::write(opcode::DELETE, &Op::Delete { path, version }), nothing)
    }

    /// The Stat of a znode, or `None` if there is no such znode.
    pub fn exists(&self, path: &str) -> Pending<Option<Stat>> {
        let decode = |body: Option<&Bytes>| body.map(|body| reply::stat(body)).transpose();
        let pending = self.send(Call::exists(path, None), None, Box::new(decode));
        Pending { absence_is_an_answer: true, ..pending }
    }

    /// As [`exists`](Self::exists); the watch fires when the znode is created, changed or deleted.
    pub fn exists_and_watch(&self, path: &str) -> Pending<(Option<Stat>, Watch)> {
        let (id, sender, watch) = self.new_watch();
        let decode =
            |body: Option<&Bytes>| Ok((body.map(|body| reply::stat(body)).transpose()?, watch));
        let pending = self.send(Call::exists(path, Some(id)), Some((id, sender)), Box::new(decode));
        Pending { absence_is_an_answer: true, ..pending }
    }

    /// A znode's data and Stat.
    pub fn get_data(&self, path: &str) -> Pending<(Bytes, Stat)> {
        self.ask(Call::get_data(path, None), reply::data)
    }

    /// As [`get_data`](Self::get_data), with the protocol's null (`None`) told from empty data.
    pub fn data_or_null(&self, path: &str) -> Pending<(Option<Bytes>, Stat)> {
        self.ask(Call::get_data(path, None), reply::data_or_null)
    }

    /// As [`get_data`](Self::get_data); the watch fires when the data is set or the znode deleted.
    pub fn get_data_and_watch(&self, path: &str) -> Pending<(Bytes, Stat, Watch)> {
        let (id, sender, watch) = self.new_watch();
        self.ask_watching(Call::get_data(path, Some(id)), (id, sender), |body| {
            reply::data(body).map(|(data, stat)| (data, stat, watch))
        })
    }

    /// Sets a znode's data if it has this version; -1 is any.
    pub fn set_data(&self, path: &str, data: &[u8], version: i32) -> Pending<Stat> {
        let op = Op::SetData { path, data: Some(data), version };
        self.ask(Call::write(opcode::SET_DATA, &op), |body| reply::stat(body))
    }

    /// The names of a znode's children, in no particular order, and its Stat.
    pub fn children(&self, path: &str) -> Pending<(Vec<String>, Stat)> {
        self.ask(Call::children(path, None), |body| reply::children(body))
    }

    /// As [`children`](Self::children); the watch fires when a child comes or goes, or the znode is deleted.
    pub fn children_and_watch(&self, path: &str) -> Pending<(Vec<String>, Stat, Watch)> {
        let (id, sender, watch) = self.new_watch();
        self.ask_watching(Call::children(path, Some(id)), (id, sender), |body| {
            reply::children(body).map(|(names, stat)| (names, stat, watch))
        })
    }

    /// A znode's access control list and Stat.
    pub fn acl(&self, path: &str) -> Pending<(Vec<AclEntry>, Stat)> {
        self.ask(Call::get_acl(path), |body| reply::acl(body))
    }

    /// Sets a znode's access control list if it has this aversion; -1 is any.
    pub fn set_acl(&self, path: &str, acl: Acl, version: i32) -> Pending<Stat> {
        let op = Op::SetAcl { path, acl: acl.0, version };
        self.ask(Call::write(opcode::SET_ACL, &op), |body| reply::stat(body))
    }

    /// What was written anywhere before this call is seen by reads after it (ZK-8).
    pub fn sync(&self, path: &str) -> Pending<()> {
        self.ask(Call::sync(path), nothing)
    }

    /// All of a transaction, or nothing. The inner result tells which operation failed.
    pub fn multi(&self, multi: Multi) -> Pending<Result<Vec<MultiReply>, MultiRefused>> {
        self.ask(multi.into_call(), |body| reply::multi(body))
    }

    /// Proves an identity: `digest` with `user:password`. It is proven again on every connection.
    pub fn authenticate(&self, scheme: &str, credentials: &[u8]) -> Pending<()> {
        self.ask(Call::auth(scheme, credentials), nothing)
    }

    /// Ends the session: its ephemeral znodes go at once. Requests before it are answered first.
    pub async fn close(&self) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Close(answer)).await.is_err() {
            return Ok(());
        }
        match tokio::time::timeout(crate::task::LINGER, answered).await {
            Ok(Ok(result)) => result.map(drop),
            _ => Err(Failure::Unknown(Cause::ConnectionLost)),
        }
    }

    /// What became of the session, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }

    /// The session, while it is attached to a server.
    pub fn session(&self) -> Option<SessionId> {
        match *self.state.borrow() {
            State::Connected { session, .. } => Some(session),
            _ => None,
        }
    }

    /// The server that the session is attached to.
    pub fn server(&self) -> Option<&str> {
        match *self.state.borrow() {
            State::Connected { server, .. } => Some(&self.servers[server.0]),
            _ => None,
        }
    }

    /// How many watches of this client have fired so far.
    pub fn notifications(&self) -> u64 {
        self.notifications.load(Ordering::Relaxed)
    }

    fn new_watch(&self) -> (WatchId, oneshot::Sender<Event>, Watch) {
        let (sender, fired) = oneshot::channel();
        (WatchId(self.watches.fetch_add(1, Ordering::Relaxed)), sender, Watch { fired })
    }

    fn ask<T>(
        &self,
        call: Call,
        decode: impl FnOnce(&Bytes) -> Result<T, BadPacket> + Send + 'static,
    ) -> Pending<T> {
        self.send(call, None, record(decode))
    }

    fn ask_watching<T>(
        &self,
        call: Call,
        fired: (WatchId, oneshot::Sender<Event>),
        decode: impl FnOnce(&Bytes) -> Result<T, BadPacket> + Send + 'static,
    ) -> Pending<T> {
        self.send(call, Some(fired), record(decode))
    }

    fn send<T>(
        &self,
        call: Call,
        fired: Option<crate::task::Fired>,
        decode: Decode<T>,
    ) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.try_send(Command::Call(call, answer, fired));
        let refused = sent.err().map(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::TooManyInFlight,
            mpsc::error::TrySendError::Closed(_) => Refusal::Closed,
        });
        Pending { answered, refused, decode: Some(decode), absence_is_an_answer: false }
    }
}

/// Reads an answer's record, or `None` where the znode does not exist and that is an answer.
type Decode<T> = Box<dyn FnOnce(Option<&Bytes>) -> Result<T, BadPacket> + Send>;

fn record<T>(decode: impl FnOnce(&Bytes) -> Result<T, BadPacket> + Send + 'static) -> Decode<T> {
    Box::new(|body| decode(body.ok_or(BadPacket("no record"))?))
}

/// A request on its way. Dropping it does not take the request back.
#[must_use = "the request is on its way; await its outcome"]
pub struct Pending<T> {
    answered: oneshot::Receiver<Result<Bytes, Failure>>,
    refused: Option<Refusal>,
    decode: Option<Decode<T>>,
    absence_is_an_answer: bool,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(refusal) = self.refused.take() {
            return Poll::Ready(Err(Failure::Refused(refusal)));
        }
        let answer = ready!(Pin::new(&mut self.answered).poll(context));
        // The task ends only with the session, and answers everybody before.
        let answer = answer.unwrap_or(Err(Failure::Unknown(Cause::ConnectionLost)));
        Poll::Ready(self.decoded(answer))
    }
}

impl<T> Pending<T> {
    fn decoded(&mut self, answer: Result<Bytes, Failure>) -> Result<T, Failure> {
        let body = match answer {
            Ok(body) => Some(body),
            Err(failure) if self.absence_is_an_answer && failure.is(ErrorCode::NoNode) => None,
            Err(failure) => return Err(failure),
        };
        let decode = self.decode.take().expect("a future is not polled after its end");
        decode(body.as_ref()).map_err(|_| Failure::Unknown(Cause::MalformedAnswer))
    }
}

fn nothing(_: &Bytes) -> Result<(), BadPacket> {
    Ok(())
}

/// A one-shot watch (ZK-12). It survives reconnects, and ends with the session.
#[derive(Debug)]
pub struct Watch {
    fired: oneshot::Receiver<Event>,
}

impl Watch {
    /// Whether the event has come. It comes before any answer that reflects what it tells.
    pub fn has_fired(&self) -> bool {
        !self.fired.is_empty() || self.fired.is_terminated()
    }

    /// Waits for the event.
    pub async fn fired(self) -> Event {
        let over = Event { kind: EventKind::SessionOver, path: String::new() };
        self.fired.await.unwrap_or(over)
    }
}

fn addresses<S: AsRef<str>>(servers: &[S]) -> Result<Vec<String>, ConnectError> {
    let servers: Vec<_> = servers.iter().map(|server| server.as_ref().trim().to_owned()).collect();
    if let Some(bad) = servers.iter().find(|server| !is_address(server)) {
        return Err(ConnectError::BadAddress(bad.clone()));
    }
    if servers.is_empty() { Err(ConnectError::NoServers) } else { Ok(servers) }
}

fn is_address(server: &str) -> bool {
    server
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn session_options(servers: usize, options: &Options) -> Result<SessionOptions, ConnectError> {
    Ok(SessionOptions {
        servers,
        timeout: options.session_timeout,
        connect_timeout: options.connect_timeout,
        patience: options.patience,
        packet_bytes_max: options.packet_bytes_max,
        // So that a thousand clients do not all try the same server first.
        seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), servers),
    })
}
