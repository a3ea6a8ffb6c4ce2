//! The key/value group's clients: between the service of `quorate_etcd` and the tasks of their connections.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use quorate_contracts::StateMachine;
use quorate_etcd::Refusal;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{
    CallId, ClientReply, ClientRequest, Context, Request, Response, Server, StreamId,
};
use quorate_raft::Replica;
use tokio::sync::{Notify, mpsc, oneshot};

use super::calls::Straight;
use super::passwords;
use super::watcher::Watcher;
use crate::admin::{GroupStatus, KvStatus, NodeStatus};
use crate::dashboard::Looking;
use crate::group::Front;
use crate::inbox::Door;

/// What came of a call.
pub(crate) type Answer = Result<Box<Response>, Refusal>;

/// What reaches the group from its clients.
pub(crate) enum Arrival {
    /// A call, and who waits for its answer.
    Call { context: Context, request: Box<Request>, caller: Caller },
    /// A stream was opened; what it is told goes there. Watches need to know who watches.
    Opened { stream: StreamId, watcher: Option<Context>, listener: Listener },
    /// Something that needs no bookkeeping here.
    Asked(ClientRequest),
}

/// Who waits for an answer.
pub(crate) enum Caller {
    /// A task.
    Task(oneshot::Sender<Answer>),
    /// A client, with nobody between.
    Straight(Straight),
}

impl Caller {
    fn answer(self, answer: Answer) {
        match self {
            Self::Task(task) => drop(task.send(answer)), // the client may have gone
            Self::Straight(call) => call.answer(answer),
        }
    }
}

/// Who hears what a stream is told.
pub(crate) enum Listener {
    /// A task.
    Task(mpsc::UnboundedSender<Told>),
    /// A client that watches, with nobody between.
    Straight(Rc<Watcher>),
}

impl Listener {
    fn hear(&self, told: Told) {
        match (self, told) {
            (Self::Task(task), told) => drop(task.send(told)), // the client may have gone
            (Self::Straight(watcher), Told::Watch(response, bytes)) => {
                watcher.hear(&response, bytes)
            }
            (Self::Straight(watcher), Told::End(refusal)) => watcher.end(refusal),
            (Self::Straight(_), Told::KeepAlive(_)) => {}
        }
    }
}

/// What a stream is told. How much of it may wait is bounded by the service, which counts what has left, and by the
/// stream's task, which reads no further while answers are outstanding.
pub(crate) enum Told {
    /// For a stream of watches, with the bytes to be given back.
    Watch(Box<pb::WatchResponse>, usize),
    /// For a stream of keep-alives.
    KeepAlive(pb::LeaseKeepAliveResponse),
    /// It ends.
    End(Refusal),
}

/// The front of the key/value group.
pub(crate) struct Etcd {
    door: Door<Arrival>,
    /// Rings once clients may come.
    serving: Rc<Notify>,
    is_open: bool,
    calls: BTreeMap<CallId, Caller>,
    next_call: CallId,
    streams: BTreeMap<StreamId, Listener>,
    /// The node is about to stop: what comes now is refused.
    draining: bool,
}

impl Etcd {
    pub(crate) fn new(door: Door<Arrival>, serving: Rc<Notify>) -> Self {
        Self {
            door,
            serving,
            is_open: false,
            calls: BTreeMap::new(),
            next_call: CallId(1),
            streams: BTreeMap::new(),
            draining: false,
        }
    }

    /// Notes who waits for what; what is left is for the service.
    fn arrived(&mut self, arrival: Arrival) -> Option<ClientRequest> {
        match arrival {
            Arrival::Call { caller, .. } if self.draining => {
                caller.answer(Err(Refusal::Stopped));
                None
            }
            Arrival::Call { context, request, caller } => {
                let call = self.next_call;
                self.next_call = CallId(call.0 + 1);
                self.calls.insert(call, caller);
                Some(ClientRequest::Call { call, context, request })
            }
            Arrival::Opened { stream, watcher, listener } => {
                self.streams.insert(stream, listener);
                watcher.map(|context| ClientRequest::WatchOpened { stream, context })
            }
            Arrival::Asked(request) => {
                if let ClientRequest::StreamClosed { stream } = &request {
                    self.streams.remove(stream);
                }
                Some(request)
            }
        }
    }

    fn tell(&self, stream: StreamId, told: Told) {
        if let Some(listener) = self.streams.get(&stream) {
            listener.hear(told);
        }
    }
}

impl Front<Server> for Etcd {
    fn requests(&mut self) -> VecDeque<ClientRequest> {
        self.door.take().into_iter().filter_map(|arrival| self.arrived(arrival)).collect()
    }

    fn reply(&mut self, reply: ClientReply) {
        match reply {
            ClientReply::Answer { call, result } => {
                if let Some(caller) = self.calls.remove(&call) {
                    caller.answer(result);
                }
            }
            ClientReply::Watch { stream, response, bytes } => {
                self.tell(stream, Told::Watch(response, bytes));
            }
            ClientReply::KeepAlive { stream, response } => {
                self.tell(stream, Told::KeepAlive(response));
            }
            ClientReply::End { stream, refusal } => self.tell(stream, Told::End(refusal)),
            ClientReply::CheckPassword { call, password, hash } => {
                passwords::check(self.door.clone(), call, password, hash);
            }
            ClientReply::HashPassword { call, password } => {
                passwords::hash(self.door.clone(), call, password);
            }
        }
    }

    fn flush(&mut self) {}

    fn open(&mut self) {
        self.is_open = true;
        self.serving.notify_one();
    }

    fn facts(&self, _: &Replica<Server>, _: Duration) -> Option<ClientRequest> {
        None
    }

    fn report(&self, replica: &Replica<Server>, status: &mut NodeStatus) {
        let (store, service) = (replica.machine(), replica.service());
        status.kv = KvStatus {
            serving: self.is_open,
            revision: store.revision().0,
            compacted: store.compacted().0,
            keys: store.keys(),
            bytes: store.bytes(),
            leases: store.leases().len(),
            watches: service.watches(),
            alarms: store.alarms().map(|(member, alarm)| (member, alarm as i32)).collect(),
            digest: format!("{:016x}", store.digest()),
        };
        status.groups.push(GroupStatus::new("kv", &replica.status()));
    }

    fn look(&self, replica: &Replica<Server>, looking: Looking) {
        looking.show_store(replica.machine());
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn is_busy(&self, _: &Replica<Server>) -> bool {
        !self.calls.is_empty()
    }
}
