//! A client's session as a pure value: one way in, one list out, time as an argument.
//!
//! ```text
//!            Connect(server)              connected                 accepted
//!   Waiting ───────────────▶ Dialing ───────────────▶ Greeting ───────────────▶ Serving
//!      ▲                        │                         │  refused               │
//!      └────────────────────────┴─────────────────────────┼────────────────────────┘   a connection fails
//!                                                         ▼
//!                                                       Over (expired, or closed)
//! ```
//!
//! Invariants:
//! - Answers come in the order of the requests (ZK-6); an answer out of order ends the connection.
//! - Each server is shown the highest zxid seen, so that no server with an older state takes the session (ZK-7).
//! - A request that was sent when the connection failed is answered [`Failure::Unknown`], unless it may be repeated.
//! - Watches are set again before anything else is sent (ZK-12).
//!
//! Not here: sockets and timers ([`crate::task`]), what an answer's record says ([`crate::reply`]).

mod lifecycle;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{Random, Time};
use quorate_zk::command::{SessionId, Zxid};

pub(crate) use crate::call::Call;
use crate::failure::Failure;
use crate::watches::Watches;
pub(crate) use crate::watches::{Event, WatchId};

/// Names one request of this client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CallId(pub(crate) u64);

/// Which of the servers named at the start; the first is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServerIndex(pub usize);

/// What a session is to be like.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    /// How many servers there are.
    pub(crate) servers: usize,
    /// Session timeout to ask for; servers have limits of their own.
    pub(crate) timeout: Duration,
    /// How long a connection may take to be made, and then to be greeted.
    pub(crate) connect_timeout: Duration,
    /// How long a request waits for a server before it is refused.
    pub(crate) patience: Duration,
    /// The most that requests and answers may have, in bytes.
    pub(crate) packet_bytes_max: usize,
    /// Decides in which order servers are tried.
    pub(crate) seed: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The deadline has come.
    Wake,
    /// The connection asked for by [`Output::Connect`] is made.
    Connected,
    /// It could not be made, or it ended.
    Disconnected,
    /// A packet came, without its length.
    Received(Bytes),
    /// The caller asks.
    Call(CallId, Call),
    /// The caller closes the session. Answered like a call.
    Close(CallId),
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Make a connection.
    Connect(ServerIndex),
    /// End the connection, or the attempt.
    Disconnect,
    /// Send a packet; its length is in front.
    Send(Bytes),
    /// Tell the caller.
    Answer(CallId, Result<Bytes, Failure>),
    /// A watch fired.
    Fired(WatchId, Event),
    /// The session's state changed.
    State(State),
}

/// What a caller may want to know about the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No connection just now. The session may live on, and its ephemeral znodes with it.
    Connecting,
    /// Attached to a server.
    Connected {
        /// Which one.
        server: ServerIndex,
        /// The session.
        session: SessionId,
    },
    /// The servers gave the session up.
    Expired,
    /// The caller closed it.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Between two attempts.
    Waiting { until: Time },
    /// A connection is being made.
    Dialing { since: Time },
    /// The first packet was sent.
    Greeting { since: Time },
    /// Attached.
    Serving { heard: Time, sent: Time },
    /// Nothing comes after this.
    Over(Ending),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Expired,
    Closed,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct InFlight {
    xid: i32,
    waiting: Waiting,
}

/// A request that waits for a server.
#[derive(Debug)]
struct Waiting {
    id: CallId,
    call: Call,
    since: Time,
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    options: SessionOptions,
    random: Random,
    phase: Phase,
    /// Servers in the order in which they are tried; the next is in front.
    servers: VecDeque<ServerIndex>,
    /// Attempts that failed since the session was last attached.
    failed_attempts: usize,
    id: SessionId,
    password: [u8; 16],
    /// As negotiated.
    timeout: Duration,
    seen: Zxid,
    last_xid: i32,
    queue: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    /// Credentials on their way: servers answer them ahead of other requests.
    auth_in_flight: VecDeque<Option<Waiting>>,
    /// Credentials that were accepted.
    credentials: Vec<Call>,
    watches: Watches,
    closing: Option<(CallId, Time)>,
}

impl Session {
    /// A session that is still to be had.
    pub(crate) fn new(options: SessionOptions) -> Self {
        assert!(options.servers > 0, "a session needs a server");
        let mut random = Random::new(options.seed);
        Self {
            servers: shuffled(options.servers, &mut random),
            timeout: options.timeout,
            random,
            options,
            phase: Phase::Waiting { until: Time::ZERO },
            failed_attempts: 0,
            id: SessionId(0),
            password: [0; 16],
            seen: Zxid(0),
            last_xid: 0,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            auth_in_flight: VecDeque::new(),
            credentials: Vec::new(),
            watches: Watches::default(),
            closing: None,
        }
    }

    /// Requests that are not answered yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.queue.len() + self.in_flight.len() + self.auth_in_flight.len()
    }

    /// Whether nothing will happen any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Takes one input; appends what is to be done to `out`.
    pub(crate) fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Wake => self.on_wake(now, out),
            Input::Connected => self.on_connected(now, out),
            Input::Disconnected => self.on_disconnected(now, out),
            Input::Received(packet) => self.on_packet(now, &packet, out),
            Input::Call(id, call) => self.on_call(now, id, call, out),
            Input::Close(id) => self.on_close(now, id, out),
        }
    }

    /// When to step [`Input::Wake`], and why.
    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let phase = match self.phase {
            Phase::Waiting { until } => (until, "the next attempt"),
            Phase::Dialing { since } | Phase::Greeting { since } => {
                (since + self.options.connect_timeout, "a connection that takes too long")
            }
            Phase::Serving { heard, sent } => {
                let ping = (sent + self.ping_interval(), "a ping");
                ping.min((heard + self.silence_max(), "a server that is silent"))
            }
            Phase::Over(_) => return None,
        };
        let patience = self.queue.front().map(|waiting| {
            (waiting.since + self.options.patience, "a request that waited too long")
        });
        let closing =
            self.closing.map(|(_, since)| (since + CLOSE_TIMEOUT, "the end of the session"));
        [Some(phase), patience, closing].into_iter().flatten().min()
    }

    fn ping_interval(&self) -> Duration {
        self.timeout / 3
    }

    /// A server that says nothing for so long is given up, with a third of the timeout left to find another.
    fn silence_max(&self) -> Duration {
        self.timeout * 2 / 3
    }
}

/// How long the answer to closeSession is waited for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

fn shuffled(servers: usize, random: &mut Random) -> VecDeque<ServerIndex> {
    let mut order: Vec<_> = (0..servers).map(ServerIndex).collect();
    for i in (1..order.len()).rev() {
        let j = random.below(i as u64 + 1) as usize;
        order.swap(i, j);
    }
    order.into()
}
