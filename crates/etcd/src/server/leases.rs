//! Keep-alive and time to live: only the leader knows how much time a lease has left, so it is asked.
//!
//! It answers after a barrier: a leader that was deposed without knowing must not promise a client that its lease lives
//! on.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_contracts::{NodeId, ServiceOutput, Time};

use super::barrier::{Waiting, Work};
use super::call::{CallId, ClientReply, Response, StreamId};
use super::{Outputs, Server, ServerMessage};
use crate::messages::etcdserverpb as pb;
use crate::store::Store;
use crate::{LeaseId, Refusal};

/// The leader is asked again after this silence.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A client that wants to know something of a lease.
#[derive(Debug)]
struct Asking {
    who: Who,
    lease: LeaseId,
    until: Time,
    ask_again_at: Time,
}

#[derive(Debug)]
enum Who {
    /// Keep it alive. The header is of before that.
    KeepAlive { stream: StreamId, header: pb::ResponseHeader },
    /// How long has it left?
    TimeToLive { call: CallId, keys: bool },
}

/// Clients that wait for the leader's word on a lease.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_ticket: BTreeMap<u64, Asking>,
    next_ticket: u64,
}

impl Server {
    pub(super) fn keep_alive(
        &mut self,
        now: Time,
        stream: StreamId,
        lease: LeaseId,
        store: &Store,
        out: &mut Outputs,
    ) {
        let header = self.header(store.revision());
        self.ask(now, Who::KeepAlive { stream, header }, lease, out);
    }

    pub(super) fn time_to_live(
        &mut self,
        now: Time,
        call: CallId,
        request: &pb::LeaseTimeToLiveRequest,
        out: &mut Outputs,
    ) {
        self.ask(now, Who::TimeToLive { call, keys: request.keys }, LeaseId(request.id), out);
    }

    fn ask(&mut self, now: Time, who: Who, lease: LeaseId, out: &mut Outputs) {
        let ticket = self.asked.next_ticket;
        self.asked.next_ticket += 1;
        let renew = matches!(who, Who::KeepAlive { .. });
        let asking =
            Asking { who, lease, until: self.patience(now), ask_again_at: now + ASK_AGAIN };
        self.asked.by_ticket.insert(ticket, asking);
        self.send_ask(ticket, lease, renew, out);
    }

    fn send_ask(&self, ticket: u64, lease: LeaseId, renew: bool, out: &mut Outputs) {
        if let Some(to) = self.leader {
            let message = ServerMessage::Ask { ticket, lease, renew };
            out.push(ServiceOutput::Tell { to, message });
        }
    }

    /// Asks again what was not answered, and gives up on what is overdue.
    pub(super) fn ask_again(&mut self, now: Time, out: &mut Outputs) {
        let overdue = self.asked.by_ticket.extract_if(.., |_, asking| asking.until <= now);
        for (_, asking) in overdue {
            out.push(ServiceOutput::Reply(match asking.who {
                Who::KeepAlive { stream, .. } => {
                    ClientReply::End { stream, refusal: Refusal::Timeout }
                }
                Who::TimeToLive { call, .. } => {
                    ClientReply::Answer { call, result: Err(Refusal::Timeout) }
                }
            }));
        }
        let mut again = Vec::new();
        for (ticket, asking) in
            self.asked.by_ticket.iter_mut().filter(|(_, asking)| asking.ask_again_at <= now)
        {
            asking.ask_again_at = now + ASK_AGAIN;
            again.push((*ticket, asking.lease, matches!(asking.who, Who::KeepAlive { .. })));
        }
        again
            .into_iter()
            .for_each(|(ticket, lease, renew)| self.send_ask(ticket, lease, renew, out));
    }

    pub(super) fn forget_keep_alives(&mut self, gone: StreamId) {
        let is_gone =
            |asking: &Asking| matches!(asking.who, Who::KeepAlive { stream, .. } if stream == gone);
        self.asked.by_ticket.retain(|_, asking| !is_gone(asking));
    }

    pub(super) fn told(
        &mut self,
        now: Time,
        from: NodeId,
        message: ServerMessage,
        store: &Store,
        out: &mut Outputs,
    ) {
        match message {
            ServerMessage::Ask { ticket, lease, renew } if self.leads() => {
                let work = Work::Lease { from, ticket, lease, renew };
                self.barriers.wait(Waiting { until: self.patience(now), work });
            }
            // It will be asked of the next leader.
            ServerMessage::Ask { .. } => {}
            ServerMessage::Answer { ticket, ttl, granted } => {
                self.lease_answered(ticket, ttl, granted, store, out)
            }
        }
    }

    /// The leader knows that it leads: its word on a lease.
    pub(super) fn answer_about_lease(
        &mut self,
        to: NodeId,
        ticket: u64,
        lease: LeaseId,
        renew: bool,
        store: &Store,
        out: &mut Outputs,
    ) {
        if !self.leads() || !self.clock.reigns() {
            return;
        }
        let granted = store.lease(lease).map_or(0, |lease| lease.ttl);
        let ttl = match (granted, renew) {
            (0, _) => -1,
            (_, true) if self.clock.renew(lease, granted) => granted,
            (_, true) => 0,
            (_, false) => self.clock.remaining(lease).unwrap_or(-1),
        };
        let message = ServerMessage::Answer { ticket, ttl, granted };
        out.push(ServiceOutput::Tell { to, message });
    }

    fn lease_answered(
        &mut self,
        ticket: u64,
        ttl: i64,
        granted: i64,
        store: &Store,
        out: &mut Outputs,
    ) {
        let Some(Asking { who, lease: LeaseId(id), .. }) = self.asked.by_ticket.remove(&ticket)
        else {
            return;
        };
        let reply = match who {
            Who::KeepAlive { stream, header } => {
                let response =
                    pb::LeaseKeepAliveResponse { header: Some(header), id, ttl: ttl.max(0) };
                ClientReply::KeepAlive { stream, response }
            }
            Who::TimeToLive { call, keys } => {
                let attached = store
                    .lease(LeaseId(id))
                    .into_iter()
                    .flat_map(|lease| lease.keys.iter().cloned());
                let response = pb::LeaseTimeToLiveResponse {
                    header: Some(self.header(store.revision())),
                    id,
                    ttl,
                    granted_ttl: granted,
                    keys: attached.filter(|_| keys).collect(),
                };
                ClientReply::Answer {
                    call,
                    result: Ok(Box::new(Response::LeaseTimeToLive(response))),
                }
            }
        };
        out.push(ServiceOutput::Reply(reply));
    }
}
