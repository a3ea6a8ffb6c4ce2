//! The shell around [`Session`]: one task with a socket and a timer. It decides nothing.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quorate_contracts::Time;
use quorate_zk::wire::framing::{Frame, Framer};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::call::Call;
use crate::failure::Failure;
use crate::session::{CallId, Event, Input, Output, Session, State, WatchId};

/// What the handle asks of the task.
pub(crate) enum Command {
    /// A request, where its answer goes, and where its watch goes.
    Call(Call, Answer, Option<Fired>),
    /// The end of the session.
    Close(Answer),
}

pub(crate) type Answer = oneshot::Sender<Result<Bytes, Failure>>;
pub(crate) type Fired = (WatchId, oneshot::Sender<Event>);

/// Answers that may be outstanding before the task takes no more requests from its channel.
const OUTSTANDING_MAX: usize = 8192;
const READ_BYTES: usize = 64 * 1024;

type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The one task of a client.
pub(crate) struct Task {
    session: Session,
    servers: Vec<String>,
    origin: Instant,
    packet_bytes_max: usize,
    link: Link,
    last_call: u64,
    answers: BTreeMap<CallId, Answer>,
    watches: BTreeMap<WatchId, oneshot::Sender<Event>>,
    state: watch::Sender<State>,
    outputs: Vec<Output>,
    /// Watches that fired.
    notifications: Arc<AtomicU64>,
    /// Every handle is gone.
    abandoned: bool,
}

/// The way to a server.
enum Link {
    Down,
    Dialing(Dialing),
    Up { stream: TcpStream, framer: Framer, input: BytesMut, unsent: BytesMut },
}

/// What woke the task.
enum Woken {
    Wake,
    Command(Option<Command>),
    Dialed(io::Result<TcpStream>),
    Readable,
    Writable,
}

impl Task {
    pub(crate) fn new(
        session: Session,
        servers: Vec<String>,
        packet_bytes_max: usize,
        state: watch::Sender<State>,
    ) -> Self {
        Self {
            session,
            servers,
            origin: Instant::now(),
            packet_bytes_max,
            link: Link::Down,
            last_call: 0,
            answers: BTreeMap::new(),
            watches: BTreeMap::new(),
            state,
            outputs: Vec::new(),
            notifications: Arc::default(),
            abandoned: false,
        }
    }

    /// Where it counts the watches that fire.
    pub(crate) fn notifications(&self) -> Arc<AtomicU64> {
        self.notifications.clone()
    }

    /// Runs until the session is over and nobody can ask any more.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.step(Input::Wake);
        while !(self.abandoned && self.session.is_over()) {
            match self.next_event(&mut commands).await {
                Woken::Wake => self.step(Input::Wake),
                Woken::Command(command) => self.on_commands(command, &mut commands),
                Woken::Dialed(Ok(stream)) => self.on_dialed(stream),
                Woken::Dialed(Err(_)) => self.on_down(),
                Woken::Readable => self.on_readable(),
                Woken::Writable => {}
            }
            self.flush();
        }
    }

    async fn next_event(&mut self, commands: &mut mpsc::Receiver<Command>) -> Woken {
        let listening = !self.abandoned && self.session.outstanding() < OUTSTANDING_MAX;
        let deadline =
            self.session.deadline().map(|(time, _)| self.origin + time.since(Time::ZERO));
        let wake = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.link.ready() => event,
            command = commands.recv(), if listening => Woken::Command(command),
            () = wake => Woken::Wake,
        }
    }

    /// Takes everything that was asked meanwhile, so that it leaves in one write.
    fn on_commands(&mut self, first: Option<Command>, commands: &mut mpsc::Receiver<Command>) {
        let Some(first) = first else {
            self.abandoned = true;
            return self.take(Command::Close(oneshot::channel().0));
        };
        self.take(first);
        while self.session.outstanding() < OUTSTANDING_MAX {
            match commands.try_recv() {
                Ok(command) => self.take(command),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Call(call, answer, watch) => self.call(call, answer, watch),
            Command::Close(answer) => {
                let id = self.next_call(answer);
                self.step(Input::Close(id));
            }
        }
    }

    fn call(&mut self, call: Call, answer: Answer, watch: Option<Fired>) {
        let id = self.next_call(answer);
        if let Some((watch, fired)) = watch {
            self.watches.insert(watch, fired);
        }
        self.step(Input::Call(id, call));
    }

    fn next_call(&mut self, answer: Answer) -> CallId {
        self.last_call += 1;
        self.answers.insert(CallId(self.last_call), answer);
        CallId(self.last_call)
    }

    fn on_dialed(&mut self, stream: TcpStream) {
        // Without it a lone request waits for an acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        self.link = Link::Up {
            stream,
            framer: Framer::new(self.packet_bytes_max),
            input: BytesMut::new(),
            unsent: BytesMut::new(),
        };
        self.step(Input::Connected);
    }

    fn on_down(&mut self) {
        self.link = Link::Down;
        self.step(Input::Disconnected);
    }

    fn on_readable(&mut self) {
        match self.link.read() {
            Ok(true) => self.on_bytes(),
            Ok(false) => {}
            Err(_) => self.on_down(),
        }
    }

    fn on_bytes(&mut self) {
        loop {
            let Link::Up { framer, input, .. } = &mut self.link else { return };
            match framer.next(input) {
                Ok(Some(Frame::Packet(packet))) => self.step(Input::Received(packet)),
                Ok(None) => return,
                // No server sends a four-letter word: these are not ZooKeeper's bytes.
                Ok(Some(Frame::FourLetterWord(_))) | Err(_) => return self.on_down(),
            }
        }
    }

    fn step(&mut self, input: Input) {
        let now =
            Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let mut outputs = std::mem::take(&mut self.outputs);
        self.session.step(now, input, &mut outputs);
        outputs.drain(..).for_each(|output| self.perform(output));
        self.outputs = outputs;
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect(server) => {
                let address = self.servers[server.0].clone();
                // The name is looked up again for each connection: servers move.
                self.link = Link::Dialing(Box::pin(TcpStream::connect(address)));
            }
            Output::Disconnect => self.disconnect(),
            Output::Send(packet) => {
                if let Link::Up { unsent, .. } = &mut self.link {
                    unsent.extend_from_slice(&packet);
                }
            }
            Output::Answer(id, result) => {
                if let Some(answer) = self.answers.remove(&id) {
                    let _ = answer.send(result); // the caller may have lost interest
                }
            }
            Output::Fired(id, event) => {
                self.notifications.fetch_add(1, Ordering::Relaxed);
                if let Some(fired) = self.watches.remove(&id) {
                    let _ = fired.send(event);
                }
            }
            Output::State(state) => {
                self.state.send_replace(state);
            }
        }
    }

    /// What was said before the end is still sent, as far as the socket takes it.
    fn disconnect(&mut self) {
        self.flush_unsent().ok();
        self.link = Link::Down;
    }

    fn flush(&mut self) {
        if self.flush_unsent().is_err() {
            self.on_down();
        }
    }

    fn flush_unsent(&mut self) -> io::Result<()> {
        let Link::Up { stream, unsent, .. } = &mut self.link else { return Ok(()) };
        while !unsent.is_empty() {
            match stream.try_write(unsent) {
                Ok(written) => unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Link {
    async fn ready(&mut self) -> Woken {
        match self {
            Self::Down => std::future::pending().await,
            Self::Dialing(dialing) => Woken::Dialed(dialing.await),
            Self::Up { stream, unsent, .. } => tokio::select! {
                _ = stream.readable() => Woken::Readable,
                _ = stream.writable(), if !unsent.is_empty() => Woken::Writable,
            },
        }
    }

    /// Whether anything came; an error is the end of the connection.
    fn read(&mut self) -> io::Result<bool> {
        let Self::Up { stream, input, .. } = self else { return Ok(false) };
        input.reserve(READ_BYTES);
        match stream.try_read_buf(input) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How long a handle waits for the end of its session; the session itself gives up a little earlier.
pub(crate) const LINGER: Duration = Duration::from_secs(3);
