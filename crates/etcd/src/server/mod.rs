//! What one server does for the clients connected to it.
//!
//! | file | what it does |
//! | --- | --- |
//! | `call` | what clients ask and are told |
//! | `requests` | calls become proposals or reads |
//! | `barrier` | reads wait until the state is as new as their question |
//! | `reads` | answers from the local state |
//! | `applied` | outcomes become replies |
//! | `watch` | who watches what; ordered, whole, resumable |
//! | `time`, `leases` | who has expired, as the leader says; keep-alive |
//! | `passwords` | tokens, and passwords on their way to be hashed |
//!
//! Not here: gRPC, sockets, members of the cluster, password hashing.

mod applied;
mod barrier;
mod call;
mod leases;
mod messages;
mod passwords;
mod reads;
mod requests;
mod time;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_contracts::{
    NodeId, Proposal, Random, RequestId, Service, ServiceInput, ServiceOutput, Term, Time,
};

pub use call::{
    CallId, ClientReply, ClientRequest, Context, Request, Response, ServerConfig, StreamId,
};
pub use messages::ServerMessage;

use crate::command::Command;
use crate::store::Store;
use crate::{LeaseId, Refusal};
use barrier::Barriers;
use leases::Asked;
use passwords::Passwords;
use requests::Pending;
use time::Clock;
use watch::Hub;

/// How often a server looks at what is overdue.
const TICK: Duration = Duration::from_millis(250);

type Outputs = Vec<ServiceOutput<Server>>;

/// The service of one server.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    /// Calls whose proposals are under way.
    pending: BTreeMap<RequestId, Pending>,
    barriers: Barriers,
    asked: Asked,
    clock: Clock,
    hub: Hub,
    passwords: Passwords,
    leader: Option<NodeId>,
    term: Term,
    next_request: RequestId,
    random: Random,
    /// The lease id that was chosen last.
    chosen_lease: i64,
    /// When to look at what is overdue.
    tick_at: Time,
}

impl Server {
    /// A server without clients. `seed` chooses the ids of leases.
    pub fn new(config: ServerConfig, seed: u64) -> Self {
        Self {
            next_request: config.first_request,
            config,
            pending: BTreeMap::new(),
            barriers: Barriers::default(),
            asked: Asked::default(),
            clock: Clock::default(),
            hub: Hub::default(),
            passwords: Passwords::default(),
            leader: None,
            term: Term(0),
            random: Random::new(seed),
            chosen_lease: 0,
            tick_at: Time::ZERO,
        }
    }

    /// How many watches are set here.
    pub fn watches(&self) -> usize {
        self.hub.len()
    }

    fn leads(&self) -> bool {
        self.leader == Some(self.config.node)
    }

    /// Until when a call may take that comes now.
    fn patience(&self, now: Time) -> Time {
        now + Duration::from_millis(self.config.call_timeout_ms)
    }

    fn proposal(&mut self, command: &Command) -> (RequestId, Proposal) {
        let id = self.next_request;
        self.next_request = id.next();
        (id, Proposal::encode(self.config.node, id, |out| command.encode(out)))
    }

    fn tick(&mut self, now: Time, store: &Store, out: &mut Outputs) {
        self.tick_at = now + TICK;
        self.clock.advance(now);
        self.say_time(store, out);
        self.give_up_overdue(now, out);
        self.propose_refused(out);
        self.barriers.try_again();
        self.ask_again(now, out);
        for call in self.passwords.forget_overdue(now) {
            requests::answer(call, Err(Refusal::Timeout), out);
        }
        self.tell_progress(now, store, out);
        self.end_leaderless(now, out);
    }

    fn leader_changed(
        &mut self,
        now: Time,
        leader: Option<NodeId>,
        term: Term,
        store: &Store,
        out: &mut Outputs,
    ) {
        (self.leader, self.term) = (leader, term);
        self.clock.advance(now);
        self.clock.stop();
        self.propose_again(out);
        self.barriers.try_again();
        self.say_time(store, out);
    }

    /// Asks for a barrier for what waits for one.
    fn send_barrier(&mut self, out: &mut Outputs) {
        if self.leader.is_some() && self.barriers.wants_one() {
            let id = self.next_request;
            self.next_request = id.next();
            self.barriers.sent(id);
            out.push(ServiceOutput::ReadBarrier { id });
        }
    }
}

impl Service for Server {
    type Machine = Store;
    type Message = ServerMessage;
    type Request = ClientRequest;
    type Reply = ClientReply;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.hub.has_work() {
            return Some((Time::ZERO, "watchers that lag"));
        }
        Some((self.tick_at, "what is overdue?"))
    }

    fn step(&mut self, now: Time, input: ServiceInput<'_, Self>, store: &Store, out: &mut Outputs) {
        match input {
            ServiceInput::Wake => {
                if self.tick_at <= now {
                    self.tick(now, store, out);
                }
                self.help_laggards(now, store, out);
            }
            // No command carries the time of day, and who the members are is told by the driver.
            ServiceInput::WallClock { .. } | ServiceInput::Members { .. } => {}
            ServiceInput::Requested(request) => self.requested(now, request, store, out),
            ServiceInput::Applied { id, outcome, events, .. } => {
                self.applied(now, id, outcome, events, store, out)
            }
            ServiceInput::Restored => {
                self.clock.stop();
                self.propose_again(out);
                self.tell_restored(store);
            }
            ServiceInput::ReadReady { id } => self.barrier_passed(now, id, store, out),
            ServiceInput::ReadRefused { id, .. } => self.barriers.refused(id),
            ServiceInput::Refused { id, reason } => self.refused(id, reason, out),
            ServiceInput::Leader { leader, term } => {
                self.leader_changed(now, leader, term, store, out)
            }
            ServiceInput::Received { from, message } => self.told(now, from, message, store, out),
        }
        self.send_barrier(out);
    }
}

impl Server {
    fn requested(&mut self, now: Time, request: ClientRequest, store: &Store, out: &mut Outputs) {
        match request {
            ClientRequest::Call { call, context, request } => {
                self.call(now, call, &context, *request, store, out)
            }
            ClientRequest::WatchOpened { stream, context } => self.watch_opened(stream, context),
            ClientRequest::Watch { stream, request } => {
                self.watch_asked(now, stream, request, store, out)
            }
            ClientRequest::WatchSent { stream, bytes } => self.hub.sent(stream, bytes),
            ClientRequest::KeepAlive { stream, request } => {
                self.keep_alive(now, stream, LeaseId(request.id), store, out);
            }
            ClientRequest::StreamClosed { stream } => {
                self.hub.close(stream);
                self.forget_keep_alives(stream);
            }
            ClientRequest::PasswordChecked { call, right, secret } => {
                self.password_checked(now, call, right, secret, store, out);
            }
            ClientRequest::PasswordHashed { call, hash } => {
                self.password_hashed(now, call, hash, store, out)
            }
        }
    }
}
