//! Requests and answers of an attached session.

use bytes::Bytes;
use quorate_contracts::Time;
use quorate_zk::command::ErrorCode;
use quorate_zk::wire::{BadPacket, JuteReader, ReplyHeader, xid};

use super::{CallId, InFlight, Output, Phase, Session, Waiting};
use crate::call::{Call, WatchRequest};
use crate::failure::{Failure, Refusal};
use crate::watches::{Event, EventKind, Table};

/// Bytes of xid, zxid and error.
const REPLY_HEADER_BYTES: usize = 16;

impl Session {
    pub(super) fn on_call(&mut self, now: Time, id: CallId, call: Call, out: &mut Vec<Output>) {
        let limit = self.options.packet_bytes_max;
        let refusal = match self.phase {
            Phase::Over(ending) => Some(ending.refusal()),
            _ if self.closing.is_some() => Some(Refusal::Closed),
            _ if call.len() > limit => Some(Refusal::TooLarge { bytes: call.len(), limit }),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return out.push(Output::Answer(id, Err(Failure::Refused(refusal))));
        }
        let waiting = Waiting { id, call, since: now };
        match self.phase {
            Phase::Serving { .. } => self.transmit(now, waiting, out),
            _ => self.queue.push_back(waiting),
        }
    }

    /// Sends what waited for a server, in order.
    pub(super) fn send_queue(&mut self, now: Time, out: &mut Vec<Output>) {
        for waiting in std::mem::take(&mut self.queue) {
            self.transmit(now, waiting, out);
        }
    }

    pub(super) fn transmit(&mut self, now: Time, waiting: Waiting, out: &mut Vec<Output>) {
        if waiting.call.is_auth {
            let packet = waiting.call.packet_with(xid::AUTH);
            self.auth_in_flight.push_back(Some(waiting));
            return self.send(now, packet, out);
        }
        let xid = self.next_xid();
        let packet = waiting.call.packet_with(xid);
        self.in_flight.push_back(InFlight { xid, waiting });
        self.send(now, packet, out);
    }

    pub(super) fn send(&mut self, now: Time, packet: Bytes, out: &mut Vec<Output>) {
        if let Phase::Serving { sent, .. } = &mut self.phase {
            *sent = now;
        }
        out.push(Output::Send(packet));
    }

    /// Positive, and 1 again after the last.
    fn next_xid(&mut self) -> i32 {
        self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
        self.last_xid
    }

    pub(super) fn on_packet(&mut self, now: Time, packet: &Bytes, out: &mut Vec<Output>) {
        match &mut self.phase {
            Phase::Greeting { .. } => return self.on_greeted(now, packet, out),
            Phase::Serving { heard, .. } => *heard = now,
            Phase::Waiting { .. } | Phase::Dialing { .. } | Phase::Over(_) => return,
        }
        if self.on_reply(packet, out).is_err() {
            self.give_up_connection(now, out);
        }
    }

    fn on_reply(&mut self, packet: &Bytes, out: &mut Vec<Output>) -> Result<(), BadPacket> {
        let mut input = JuteReader::new(packet);
        let header = ReplyHeader::decode(&mut input)?;
        let body = packet.slice(REPLY_HEADER_BYTES..);
        self.seen = self.seen.max(header.zxid);
        match header.xid {
            xid::NOTIFICATION => self.on_event(&mut input, out),
            xid::PING | xid::SET_WATCHES => Ok(()),
            xid::AUTH => self.on_auth(header.error, out),
            xid => self.on_answer(xid, header.error, body, out),
        }
    }

    fn on_event(
        &mut self,
        input: &mut JuteReader<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), BadPacket> {
        let (kind, _state, path) = (input.int()?, input.int()?, input.str()?.to_owned());
        let Some(kind) = EventKind::from_i32(kind) else { return Ok(()) };
        let event = Event { kind, path };
        out.extend(
            self.watches.fire(&event).into_iter().map(|id| Output::Fired(id, event.clone())),
        );
        Ok(())
    }

    fn on_auth(&mut self, error: i32, out: &mut Vec<Output>) -> Result<(), BadPacket> {
        let asked = self
            .auth_in_flight
            .pop_front()
            .ok_or(BadPacket("an answer to credentials that were not sent"))?;
        match (asked, error) {
            (None, _) => {}
            (Some(waiting), 0) => {
                out.push(Output::Answer(waiting.id, Ok(Bytes::new())));
                self.credentials.push(waiting.call);
            }
            (Some(waiting), error) => {
                out.push(Output::Answer(waiting.id, Err(Failure::answered(error))))
            }
        }
        Ok(())
    }

    fn on_answer(
        &mut self,
        xid: i32,
        error: i32,
        body: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), BadPacket> {
        if self.in_flight.front().is_none_or(|sent| sent.xid != xid) {
            return Err(BadPacket("an answer out of order"));
        }
        let Some(InFlight { waiting, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        if self.is_close(waiting.id) {
            out.push(Output::Disconnect);
            self.finish(super::Ending::Closed, out);
            return Ok(());
        }
        if let Some(watch) = &waiting.call.watch {
            self.set_watch(watch, error);
        }
        let result = if error == 0 { Ok(body) } else { Err(Failure::answered(error)) };
        out.push(Output::Answer(waiting.id, result));
        Ok(())
    }

    fn is_close(&self, id: CallId) -> bool {
        self.closing.is_some_and(|(closing, _)| closing == id)
    }

    /// `exists` sets its watch also on a znode that is not there; the other reads do not.
    fn set_watch(&mut self, watch: &WatchRequest, error: i32) {
        const NO_NODE: i32 = ErrorCode::NoNode as i32;
        let table = match (error, watch.children) {
            (0, true) => Table::Children,
            (0, false) => Table::Data,
            (NO_NODE, false) if watch.on_absence => Table::Exist,
            _ => return,
        };
        self.watches.add(table, &watch.path, watch.id);
    }
}
