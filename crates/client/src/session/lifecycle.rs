//! How a session is had, kept over several connections, and ended.

use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::Time;
use quorate_zk::command::SessionId;
use quorate_zk::wire::{ConnectRequest, ConnectResponse, JuteWriter, opcode, xid};

use super::{CLOSE_TIMEOUT, CallId, Ending, Output, Phase, Session, State};
use crate::call::Call;
use crate::failure::{Cause, Failure, Refusal};
use crate::watches::{Event, EventKind};

/// Between two rounds over all servers.
const ROUND_PAUSE_MIN_MS: u64 = 50;
const ROUND_PAUSE_MAX_MS: u64 = 500;

impl Session {
    pub(super) fn on_wake(&mut self, now: Time, out: &mut Vec<Output>) {
        self.refuse_the_impatient(now, out);
        if self.closing.is_some_and(|(_, since)| now >= since + CLOSE_TIMEOUT) {
            return self.finish(Ending::Closed, out);
        }
        match self.phase {
            Phase::Waiting { until } if now >= until => self.dial(now, out),
            Phase::Dialing { since } | Phase::Greeting { since }
                if now >= since + self.options.connect_timeout =>
            {
                self.give_up_connection(now, out);
            }
            Phase::Serving { heard, .. } if now >= heard + self.silence_max() => {
                self.give_up_connection(now, out)
            }
            Phase::Serving { sent, .. } if now >= sent + self.ping_interval() => {
                self.send(now, ping(), out)
            }
            _ => {}
        }
    }

    fn dial(&mut self, now: Time, out: &mut Vec<Output>) {
        self.phase = Phase::Dialing { since: now };
        out.push(Output::Connect(self.servers[0]));
    }

    pub(super) fn on_connected(&mut self, now: Time, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Dialing { .. }) {
            return;
        }
        self.phase = Phase::Greeting { since: now };
        let timeout_ms = self.options.timeout.as_millis();
        let greeting = ConnectRequest {
            last_zxid_seen: self.seen.0,
            timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
            session: self.id.0,
            password: self.password.to_vec(),
            read_only: Some(false),
        };
        out.push(Output::Send(greeting.encode()));
    }

    pub(super) fn on_greeted(&mut self, now: Time, packet: &Bytes, out: &mut Vec<Output>) {
        match ConnectResponse::decode(packet) {
            Ok(welcome) if welcome.timeout_ms > 0 => self.attach(now, &welcome, out),
            Ok(_) if self.id == SessionId(0) => self.give_up_connection(now, out),
            Ok(_) => {
                out.push(Output::Disconnect);
                self.finish(Ending::Expired, out);
            }
            Err(_) => self.give_up_connection(now, out),
        }
    }

    fn attach(&mut self, now: Time, welcome: &ConnectResponse, out: &mut Vec<Output>) {
        self.id = SessionId(welcome.session);
        self.password = welcome.password;
        self.timeout = Duration::from_millis(u64::from(welcome.timeout_ms.unsigned_abs()));
        self.failed_attempts = 0;
        self.phase = Phase::Serving { heard: now, sent: now };
        out.push(Output::State(State::Connected { server: self.servers[0], session: self.id }));
        for call in self.credentials.clone() {
            self.auth_in_flight.push_back(None);
            self.send(now, call.packet_with(xid::AUTH), out);
        }
        for packet in self.watches.set_again(self.seen) {
            self.send(now, packet, out);
        }
        self.send_queue(now, out);
        self.send_close(now, out);
    }

    /// Ends a connection that does not do what it should.
    pub(super) fn give_up_connection(&mut self, now: Time, out: &mut Vec<Output>) {
        out.push(Output::Disconnect);
        self.on_disconnected(now, out);
    }

    pub(super) fn on_disconnected(&mut self, now: Time, out: &mut Vec<Output>) {
        let was_serving = match self.phase {
            Phase::Over(_) | Phase::Waiting { .. } => return,
            Phase::Serving { .. } => true,
            Phase::Dialing { .. } | Phase::Greeting { .. } => false,
        };
        self.settle_in_flight(now, out);
        if was_serving {
            out.push(Output::State(State::Connecting));
        }
        if self.closing.is_some() {
            return self.finish(Ending::Closed, out);
        }
        self.failed_attempts += 1;
        self.servers.rotate_left(1);
        self.phase = Phase::Waiting { until: now + self.pause() };
    }

    /// The first round over the servers goes without a pause.
    fn pause(&mut self) -> Duration {
        if self.failed_attempts < self.servers.len() {
            return Duration::ZERO;
        }
        Duration::from_millis(self.random.between(ROUND_PAUSE_MIN_MS, ROUND_PAUSE_MAX_MS))
    }

    /// What was sent and not answered: sent again if that changes nothing, else nobody knows.
    fn settle_in_flight(&mut self, now: Time, out: &mut Vec<Output>) {
        for auth in self.auth_in_flight.drain(..).flatten() {
            self.queue.push_front(auth);
        }
        let (again, unknown): (Vec<_>, Vec<_>) = self
            .in_flight
            .drain(..)
            .map(|sent| sent.waiting)
            .partition(|waiting| waiting.call.repeatable);
        for mut waiting in again.into_iter().rev() {
            // Its patience begins when its server is lost.
            waiting.since = now;
            self.queue.push_front(waiting);
        }
        let lost = Failure::Unknown(Cause::ConnectionLost);
        out.extend(
            unknown.into_iter().map(|waiting| Output::Answer(waiting.id, Err(lost.clone()))),
        );
    }

    fn refuse_the_impatient(&mut self, now: Time, out: &mut Vec<Output>) {
        while self.queue.front().is_some_and(|waiting| now >= waiting.since + self.options.patience)
        {
            let Some(waiting) = self.queue.pop_front() else { return };
            out.push(Output::Answer(waiting.id, Err(Failure::Refused(Refusal::NotConnected))));
        }
    }

    pub(super) fn on_close(&mut self, now: Time, id: CallId, out: &mut Vec<Output>) {
        if self.is_over() || self.closing.is_some() {
            return out.push(Output::Answer(id, Ok(Bytes::new())));
        }
        self.closing = Some((id, now));
        match self.phase {
            Phase::Serving { .. } => self.send_close(now, out),
            // Nothing was ever sent for a session that does not exist.
            _ if self.id == SessionId(0) => {
                out.push(Output::Disconnect);
                self.finish(Ending::Closed, out);
            }
            _ => {}
        }
    }

    fn send_close(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some((id, _)) = self.closing {
            self.transmit(now, super::Waiting { id, call: Call::close_session(), since: now }, out);
        }
    }

    /// Nothing comes after this: everybody who waits is told.
    pub(super) fn finish(&mut self, ending: Ending, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        self.settle_at_end(ending, out);
        self.phase = Phase::Over(ending);
        let over = Event { kind: EventKind::SessionOver, path: String::new() };
        out.extend(self.watches.drain().into_iter().map(|id| Output::Fired(id, over.clone())));
        out.push(Output::State(match ending {
            Ending::Expired => State::Expired,
            Ending::Closed => State::Closed,
        }));
        if let Some((id, _)) = self.closing.take() {
            out.push(Output::Answer(id, Ok(Bytes::new())));
        }
    }

    fn settle_at_end(&mut self, ending: Ending, out: &mut Vec<Output>) {
        let closing = self.closing.map(|(id, _)| id);
        let sent = self
            .in_flight
            .drain(..)
            .map(|sent| sent.waiting)
            .filter(|waiting| Some(waiting.id) != closing);
        let lost = Failure::Unknown(Cause::ConnectionLost);
        out.extend(sent.map(|waiting| Output::Answer(waiting.id, Err(lost.clone()))));
        let refused = Failure::Refused(ending.refusal());
        let unsent = self.queue.drain(..).chain(self.auth_in_flight.drain(..).flatten());
        out.extend(unsent.map(|waiting| Output::Answer(waiting.id, Err(refused.clone()))));
    }
}

impl Ending {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Expired => Refusal::SessionExpired,
            Self::Closed => Refusal::Closed,
        }
    }
}

fn ping() -> Bytes {
    let mut out = JuteWriter::with_capacity(8);
    out.int(xid::PING);
    out.int(opcode::PING);
    out.finish()
}
