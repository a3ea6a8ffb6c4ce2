//! The Clerk (KV-3): what a client of the key/value service sends, to whom, and when it sends it again.
//!
//! A caller of [`Clerk`] never has to wonder whether a write happened, as long as it waits: the Clerk opens a client id
//! through the log, numbers every write, and repeats a write under its number, at one server after another, until one
//! answers. The store does a number once ([`quorate_etcd::store`]). What remains unknown is what was still unanswered when
//! the caller's patience ended, and what was under way when the client id expired.
//!
//! ```text
//! Ask ──▶ Clerk ──Call──▶ server, another one after silence, a lost connection or "unavailable"
//! Told ◀── Done | Refused (nothing happened) | Unknown (it may have happened)
//! ```
//!
//! Not here: connections, gRPC, watches.

mod flight;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_contracts::{Input, NodeId, Output, Process, Random, Time, When};
use quorate_etcd::command::Tag;
use quorate_etcd::server::{Request, Response};
use quorate_etcd::{ClientId, Refusal, Sequence, store};

use flight::{Flight, Verdict};

/// One question of the Clerk's caller, numbered by it, never twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub u64);

/// One attempt of the Clerk to get an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attempt(pub u64);

/// What the caller wants.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    /// Its question.
    pub id: AskId,
    /// What is to be done.
    pub request: Request,
    /// How long it will wait.
    pub patience: Duration,
}

/// What the caller is told, once for each question.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// Its question.
    pub id: AskId,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a question.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It was done, once.
    Done(Box<Response>),
    /// It was not done and never will be.
    Refused(Refusal),
    /// It may have been done, or may still be, at most once.
    Unknown,
}

/// Between a Clerk and a server.
#[derive(Clone, PartialEq, Debug)]
pub enum ClerkMessage {
    /// To a server.
    Call {
        /// Comes back with the answer.
        attempt: Attempt,
        /// Which write it is; reads have none.
        tag: Option<Tag>,
        /// What is to be done.
        request: Box<Request>,
    },
    /// From a server.
    Answer {
        /// The attempt.
        attempt: Attempt,
        /// What the server says.
        result: Result<Box<Response>, Refusal>,
    },
}

/// An attempt that is not answered for this long is given up for another one.
const SILENCE: Duration = Duration::from_millis(1_500);
/// After "unavailable" the next server is asked this much later.
const PAUSE: Duration = Duration::from_millis(50);
/// Writes under way at once: half of what the store allows, since the first of them may be the one that lags.
const WRITES_MAX: u64 = store::WINDOW / 2;

type Outputs = Vec<Output<Clerk>>;

/// A client of the key/value service.
#[derive(Debug)]
pub struct Clerk {
    members: Vec<NodeId>,
    /// The member that answered last, or the one to try next.
    preferred: usize,
    client: ClientId,
    /// Whether the id is known to be open.
    open: bool,
    next_sequence: Sequence,
    next_attempt: Attempt,
    /// Writes that were not sent yet.
    waiting: VecDeque<Flight>,
    flights: BTreeMap<Attempt, Flight>,
}

impl Clerk {
    /// A Clerk that knows these members. `client` is random bytes of a good source: who knows them can speak for this
    /// client.
    ///
    /// # Panics
    /// If there are no members.
    pub fn new(members: Vec<NodeId>, client: ClientId) -> Self {
        assert!(!members.is_empty(), "a Clerk must know at least one member");
        Self {
            members,
            preferred: 0,
            client,
            open: false,
            next_sequence: Sequence(1),
            next_attempt: Attempt(1),
            waiting: VecDeque::new(),
            flights: BTreeMap::new(),
        }
    }

    /// The id under which writes are numbered now.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Questions that were not answered yet.
    pub fn open_questions(&self) -> usize {
        self.waiting.len() + self.flights.values().filter(|flight| flight.ask.is_some()).count()
    }

    fn ask(&mut self, now: Time, ask: Ask, out: &mut Outputs) {
        let flight = Flight::new(Some(ask.id), ask.request, now + ask.patience);
        if flight.is_write() {
            self.waiting.push_back(flight);
        } else {
            self.send(now, flight, out);
        }
    }

    /// Sends the writes that wait, as far as the window allows; first of all the id must be open.
    fn pump(&mut self, now: Time, out: &mut Outputs) {
        if self.waiting.is_empty() {
            return;
        }
        if !self.open {
            if !self.flights.values().any(|flight| flight.ask.is_none()) {
                let until = Time::from_nanos(u64::MAX);
                self.send(now, Flight::new(None, Request::OpenClient(self.client), until), out);
            }
            return;
        }
        while self.next_sequence.0 - self.unacknowledged().0 < WRITES_MAX {
            let Some(mut flight) = self.waiting.pop_front() else { return };
            flight.number = Some((self.client, self.next_sequence));
            self.next_sequence.0 += 1;
            self.send(now, flight, out);
        }
    }

    /// The first write of this id whose answer is not known.
    fn unacknowledged(&self) -> Sequence {
        let numbers = self.flights.values().filter_map(|flight| flight.number);
        let own =
            numbers.filter(|(client, _)| *client == self.client).map(|(_, sequence)| sequence);
        own.min().unwrap_or(self.next_sequence)
    }

    fn send(&mut self, now: Time, mut flight: Flight, out: &mut Outputs) {
        let attempt = self.next_attempt;
        self.next_attempt.0 += 1;
        let to = self.members[self.preferred];
        flight.sent(to, now + SILENCE);
        let request = Box::new(flight.request.clone());
        let number = flight.number;
        self.flights.insert(attempt, flight);
        let unacknowledged = self.unacknowledged();
        let tag = number.map(|(client, sequence)| Tag {
            client,
            sequence,
            unacknowledged: if client == self.client { unacknowledged } else { Sequence(1) },
        });
        let message = ClerkMessage::Call { attempt, tag, request };
        out.push(Output::Send { when: When::Now, to, message });
    }

    /// Another member is asked next, if this one is the one that is asked now.
    fn turn_from(&mut self, member: NodeId) {
        if self.members[self.preferred] == member {
            self.preferred = (self.preferred + 1) % self.members.len();
        }
    }

    fn answered(
        &mut self,
        now: Time,
        from: NodeId,
        attempt: Attempt,
        result: Result<Box<Response>, Refusal>,
        out: &mut Outputs,
    ) {
        // An answer to an attempt that was given up says nothing that the next one will not say.
        let Some(flight) = self.flights.remove(&attempt) else { return };
        match flight.verdict(result) {
            Verdict::Tell(answer) => {
                self.remember(from);
                self.tell(flight, answer, out);
            }
            Verdict::Opened => self.open = true,
            Verdict::TryAnother => {
                self.turn_from(from);
                self.flights.insert(attempt, Flight { retry_at: now + PAUSE, ..flight });
            }
            Verdict::ClientGone { done } => {
                self.begin_again(&flight);
                if flight.ask.is_some() && !done {
                    // It was sent once and refused: it is a new write for a new id.
                    self.waiting.push_back(Flight { number: None, attempts: 0, ..flight });
                } else {
                    self.tell(flight, Answer::Unknown, out);
                }
            }
        }
    }

    fn remember(&mut self, member: NodeId) {
        if let Some(known) = self.members.iter().position(|known| *known == member) {
            self.preferred = known;
        }
    }

    /// The client id is not open any more: another one is drawn, from the secret that this one is.
    fn begin_again(&mut self, flight: &Flight) {
        let is_current = flight.number.is_none_or(|(client, _)| client == self.client);
        if is_current {
            let mut random =
                Random::new((self.client.0 >> 64) as u64 ^ (self.client.0 as u64).rotate_left(32));
            self.client =
                ClientId(u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()));
            self.open = false;
            self.next_sequence = Sequence(1);
        }
    }

    fn tell(&self, flight: Flight, answer: Answer, out: &mut Outputs) {
        if let Some(id) = flight.ask {
            out.push(Output::Reply { when: When::Now, reply: Told { id, answer } });
        }
    }

    fn lost(&mut self, now: Time, member: NodeId) {
        self.turn_from(member);
        for flight in self.flights.values_mut().filter(|flight| flight.to == member) {
            flight.retry_at = now;
        }
    }

    /// Gives up what nobody waits for any more, and sends again what was not answered.
    fn wake(&mut self, now: Time, out: &mut Outputs) {
        let waiting = std::mem::take(&mut self.waiting);
        let (late, patient) = waiting.into_iter().partition(|flight| flight.until <= now);
        self.waiting = patient;
        for flight in Vec::from(late) {
            self.tell(flight, Answer::Refused(Refusal::Timeout), out);
        }
        let due: Vec<Attempt> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.due() <= now)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in due {
            let Some(flight) = self.flights.remove(&attempt) else { continue };
            if flight.until <= now {
                let answer = if flight.is_write() {
                    Answer::Unknown
                } else {
                    Answer::Refused(Refusal::Timeout)
                };
                self.tell(flight, answer, out);
            } else {
                self.turn_from(flight.to);
                self.send(now, flight, out);
            }
        }
    }
}

impl Process for Clerk {
    type Message = ClerkMessage;
    type Request = Ask;
    type Reply = Told;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        let waiting = self.waiting.iter().map(|flight| flight.until);
        let flying = self.flights.values().map(Flight::due);
        waiting.chain(flying).min().map(|at| (at, "an answer that does not come"))
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outputs) {
        match input {
            Input::Wake => self.wake(now, out),
            Input::Requested(ask) => self.ask(now, ask, out),
            Input::Received { from, message: ClerkMessage::Answer { attempt, result } } => {
                self.answered(now, from, attempt, result, out);
            }
            Input::MemberLost { member } => self.lost(now, member),
            _ => {}
        }
        self.pump(now, out);
    }
}

#[cfg(test)]
mod tests;
