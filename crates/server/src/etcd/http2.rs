//! One HTTP/2 connection: its socket, read and written by one task of its own.
//!
//! The task wakes when the socket has something, or when an answer has been put into the connection; answers of one round leave in
//! one write. What the bytes mean is `quorate_http2`'s business, and what requests mean is that of `calls`.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use quorate_http2::{Connection, Event, Limits, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::calls::Calls;

/// What a client may do: clients put thousands of watches on one connection.
const LIMITS: Limits =
    Limits { streams: 10_000, stream_window_bytes: 256 << 10, connection_window_bytes: 1 << 20 };
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// A peer that leaves so much unread, beside the data that its windows hold back, is not heard: what we would say to it is in the way.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// A silent connection is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(60);
const PING_PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// Connections of one thread read one after the other.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// The client has gone.
#[derive(Debug)]
pub(super) struct Gone;

/// A connection as handlers have it.
pub(super) struct Wire {
    http: RefCell<Connection>,
    /// The task that writes.
    writer: RefCell<Waker>,
    /// Handlers that want to hear of their streams.
    listeners: RefCell<BTreeMap<StreamId, Rc<Notify>>>,
}

impl Wire {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            http: RefCell::new(Connection::server(LIMITS)),
            writer: RefCell::new(Waker::noop().clone()),
            listeners: RefCell::default(),
        })
    }

    /// The connection, for something to be said; it leaves once the task of the connection has its turn.
    pub(super) fn say(&self) -> RefMut<'_, Connection> {
        self.writer.borrow().wake_by_ref();
        self.http.borrow_mut()
    }

    /// The connection, for something to be asked.
    pub(super) fn ask(&self) -> RefMut<'_, Connection> {
        self.http.borrow_mut()
    }

    /// A bell that rings when a stream has room, or is gone.
    pub(super) fn listen(&self, stream: StreamId) -> Rc<Notify> {
        self.listeners.borrow_mut().entry(stream).or_default().clone()
    }

    pub(super) fn listen_no_more(&self, stream: StreamId) {
        self.listeners.borrow_mut().remove(&stream);
    }

    /// What came of a stream that somebody may listen to.
    pub(super) fn ring(&self, stream: StreamId) {
        if let Some(bell) = self.listeners.borrow().get(&stream) {
            bell.notify_waiters();
        }
    }

    /// Waits until all data of a stream has left it.
    pub(super) async fn left(&self, stream: StreamId, bell: &Notify) -> Result<(), Gone> {
        while !self.ask().has_room(stream) {
            bell.notified().await;
        }
        if self.ask().is_open(stream) { Ok(()) } else { Err(Gone) }
    }

    /// Waits until a stream is gone.
    pub(super) async fn gone(&self, stream: StreamId, bell: &Notify) {
        while self.ask().is_open(stream) {
            bell.notified().await;
        }
    }

    /// The connection is no more: whoever listens hears that its stream is gone.
    pub(super) fn close(&self) {
        self.http.borrow_mut().receive_end();
        self.listeners.borrow().values().for_each(|bell| bell.notify_waiters());
    }

    fn woken_by(&self, waker: &Waker) {
        let mut writer = self.writer.borrow_mut();
        if !writer.will_wake(waker) {
            writer.clone_from(waker);
        }
    }
}

/// Serves a connection until it ends. Its client has said `first` already.
pub(super) async fn serve<S>(stream: S, first: &[u8], calls: impl FnOnce(Rc<Wire>) -> Calls)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wire = Wire::new();
    let mut socket = Socket { stream, wire: wire.clone(), calls: calls(wire), life: Life::new() };
    socket.take(first);
    let ended = std::future::poll_fn(|context| socket.poll(context)).await;
    tracing::debug!(ended = %ended, "an etcd client's connection ended");
    socket.calls.end();
}

struct Socket<S> {
    stream: S,
    wire: Rc<Wire>,
    calls: Calls,
    life: Life,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Ready when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.wire.woken_by(context.waker());
        loop {
            let written = self.write(context);
            if let Poll::Ready(Err(error)) = written {
                return Poll::Ready(error);
            }
            self.events();
            if let (Some(why), true) = (self.wire.ask().is_over(), written.is_ready()) {
                return Poll::Ready(io::Error::other(why));
            }
            if self.is_deaf() {
                return self.life.poll(context, &self.wire); // the write wakes us
            }
            match self.read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return self.life.poll(context, &self.wire),
            }
        }
    }

    /// Nothing more is read before something is written.
    fn is_deaf(&self) -> bool {
        let http = self.wire.ask();
        http.is_over().is_some() || http.pending().len() > UNREAD_BYTES_MAX
    }

    /// Writes as much as goes; ready when all has left.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut http = self.wire.ask();
        if http.pending().is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !http.pending().is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, http.pending()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => {
                    self.life.heard = true; // the peer reads
                    http.wrote(bytes);
                }
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.life.heard = true;
            self.take(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.wire.ask().receive(bytes);
        self.events();
        self.calls.batch_ends();
    }

    /// What came, and what came of what was written.
    fn events(&mut self) {
        loop {
            let Some(event) = self.wire.ask().next_event() else { break };
            if let Event::Room { stream } | Event::Reset { stream, .. } = &event {
                self.wire.ring(*stream);
            }
            self.calls.take(event);
        }
    }
}

/// Whether the peer still lives.
struct Life {
    timer: Pin<Box<Sleep>>,
    heard: bool,
    asked: bool,
}

impl Life {
    fn new() -> Self {
        Self { timer: Box::pin(sleep(PING_AFTER)), heard: false, asked: false }
    }

    /// Ready when it does not.
    fn poll(&mut self, context: &mut Context<'_>, wire: &Wire) -> Poll<io::Error> {
        while self.timer.as_mut().poll(context).is_ready() {
            if !self.heard && self.asked {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.asked = !std::mem::take(&mut self.heard);
            if self.asked {
                wire.say().ping();
            }
            let patience = if self.asked { PING_PATIENCE } else { PING_AFTER };
            self.timer.as_mut().reset(Instant::now() + patience);
        }
        Poll::Pending
    }
}
