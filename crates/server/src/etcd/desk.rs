//! Where the tasks of connections hand calls in and wait for answers.

use std::cell::Cell;
use std::rc::Rc;

use quorate_etcd::Refusal;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{ClientRequest, Context, Request, StreamId};
use tokio::sync::{mpsc, oneshot};

use super::front::{Answer, Arrival, Caller, Listener, Told};
use super::outgoing::Outgoing;
use super::watcher::Watcher;
use crate::inbox::Door;

/// The way to the group.
#[derive(Clone)]
pub(crate) struct Desk {
    door: Door<Arrival>,
    next_stream: Rc<Cell<u64>>,
}

impl Desk {
    pub(crate) fn new(door: Door<Arrival>) -> Self {
        Self { door, next_stream: Rc::new(Cell::new(1)) }
    }

    /// Makes a call. It is on its way when this returns.
    pub(crate) fn send(&self, context: &Context, request: Request) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.hand_in(context.clone(), request, Caller::Task(answer));
        answered
    }

    /// Makes a call whose answer somebody else waits for.
    pub(super) fn hand_in(&self, context: Context, request: Request, caller: Caller) {
        self.door.push(Arrival::Call { context, request: Box::new(request), caller });
    }

    /// Makes a call and waits for its answer.
    pub(crate) async fn call(&self, context: &Context, request: Request) -> Answer {
        self.send(context, request).await.unwrap_or(Err(Refusal::Stopped))
    }

    /// Opens a stream of watches.
    pub(crate) fn watches(&self, context: &Context) -> Stream {
        self.open(Some(context.clone()))
    }

    /// Opens a stream of keep-alives.
    pub(crate) fn keep_alives(&self) -> Stream {
        self.open(None)
    }

    fn open(&self, watcher: Option<Context>) -> Stream {
        let (teller, told) = mpsc::unbounded_channel();
        let asking = self.asking();
        let listener = Listener::Task(teller);
        self.door.push(Arrival::Opened { stream: asking.stream, watcher, listener });
        Stream { asking, told }
    }

    /// Opens a stream of watches that a client hears with nobody between.
    pub(super) fn watches_straight(
        &self,
        context: &Context,
        out: Outgoing,
    ) -> (Asking, Rc<Watcher>) {
        let asking = self.asking();
        let watcher = Rc::new(Watcher::new(out, asking.stream, self.door.clone()));
        let listener = Listener::Straight(watcher.clone());
        let (stream, watching) = (asking.stream, Some(context.clone()));
        self.door.push(Arrival::Opened { stream, watcher: watching, listener });
        (asking, watcher)
    }

    fn asking(&self) -> Asking {
        let stream = StreamId(self.next_stream.get());
        self.next_stream.set(stream.0 + 1);
        Asking { stream, door: self.door.clone() }
    }
}

/// A client's side of a stream; the stream ends when it is dropped.
pub(crate) struct Asking {
    stream: StreamId,
    door: Door<Arrival>,
}

impl Asking {
    /// A message on a stream of watches.
    pub(crate) fn watch(&self, request: pb::WatchRequest) {
        self.ask(ClientRequest::Watch { stream: self.stream, request });
    }

    fn ask(&self, request: ClientRequest) {
        self.door.push(Arrival::Asked(request));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.ask(ClientRequest::StreamClosed { stream: self.stream });
    }
}

/// A stream that a task hears.
pub(crate) struct Stream {
    asking: Asking,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Stream {
    /// What it is told next; `None` when the node stops. May be given up at any time.
    pub(crate) async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// A message on a stream of watches.
    pub(crate) fn watch(&self, request: pb::WatchRequest) {
        self.asking.watch(request);
    }

    /// A message on a stream of keep-alives.
    pub(crate) fn keep_alive(&self, request: pb::LeaseKeepAliveRequest) {
        self.asking.ask(ClientRequest::KeepAlive { stream: self.asking.stream, request });
    }

    /// So many bytes have left.
    pub(crate) fn sent(&self, bytes: usize) {
        self.asking.ask(ClientRequest::WatchSent { stream: self.asking.stream, bytes });
    }
}
