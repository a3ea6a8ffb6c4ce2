//! Calls become proposals or reads.
//!
//! A proposal that was refused never was in a log: it is proposed again when there is a leader. One that was taken may be
//! lost with its leader, or may not: it is proposed again only if its client numbers its calls (KV-4); without that
//! the client is told in the end that the outcome is unknown, as etcd tells it.

use prost::Message;
use quorate_contracts::{Proposal, Refusal as NotTaken, RequestId, ServiceOutput, Time};

use super::barrier::{Waiting, Work};
use super::call::{CallId, ClientReply, Context, Request};
use super::{Outputs, Server};
use crate::Refusal;
use crate::check;
use crate::command::{AuthChange, Body, Caller, Command};
use crate::messages::etcdserverpb as pb;
use crate::store::{Store, is_read_only, is_serializable, needs_space};

/// Bytes that a put costs beside its key and value, as etcd counts them.
const PUT_COST: u64 = 256;

/// A call whose proposal is under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) call: CallId,
    until: Time,
    proposal: Proposal,
    /// It may be proposed again whenever it may be lost.
    tagged: bool,
    /// It is not in any log.
    refused: bool,
    /// The leader changed while it was under way.
    leader_failed: bool,
}

impl Server {
    pub(super) fn call(
        &mut self,
        now: Time,
        call: CallId,
        context: &Context,
        request: Request,
        store: &Store,
        out: &mut Outputs,
    ) {
        if context.requires_leader && self.leader.is_none() {
            return answer(call, Err(Refusal::NoLeader), out);
        }
        if let Err(refusal) = self.try_call(now, call, context, request, store, out) {
            answer(call, Err(refusal), out);
        }
    }

    fn try_call(
        &mut self,
        now: Time,
        call: CallId,
        context: &Context,
        request: Request,
        store: &Store,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        check_request(&request)?;
        let caller = self.caller(now, context, store)?;
        let body = match request {
            Request::Range(range) if range.serializable => {
                self.answer_read(now, call, caller.as_ref(), Request::Range(range), store, out);
                return Ok(());
            }
            Request::RangePiece(range, bytes) if range.serializable => {
                let request = Request::RangePiece(range, bytes);
                self.answer_read(now, call, caller.as_ref(), request, store, out);
                return Ok(());
            }
            Request::RangeBytes(range, keys) => {
                let request = Request::RangeBytes(range, keys);
                self.answer_read(now, call, caller.as_ref(), request, store, out);
                return Ok(());
            }
            Request::Txn(txn) if is_read_only(&txn) && is_serializable(&txn) => {
                self.answer_read(now, call, caller.as_ref(), Request::Txn(txn), store, out);
                return Ok(());
            }
            Request::Txn(txn) if !is_read_only(&txn) => Body::Txn(txn),
            Request::Put(put) => Body::Put(put),
            Request::DeleteRange(request) => Body::DeleteRange(request),
            Request::Compact(request) => Body::Compact(request),
            Request::LeaseGrant(request) => Body::LeaseGrant(self.with_id(request, store)),
            Request::LeaseRevoke(request) => Body::LeaseRevoke(request),
            Request::Alarm(request) if request.action() != pb::alarm_request::AlarmAction::Get => {
                Body::Alarm(request)
            }
            Request::AuthChange(change) => match password_to_hash(&change) {
                Some(password) => {
                    self.passwords.hashing(call, context.clone(), change, self.patience(now));
                    out.push(ServiceOutput::Reply(ClientReply::HashPassword { call, password }));
                    return Ok(());
                }
                None => Body::Auth(change),
            },
            Request::OpenClient(client) => Body::OpenClient(client),
            Request::LeaseTimeToLive(request) => {
                if request.keys {
                    store.may_read_leased(caller.as_ref(), crate::LeaseId(request.id))?;
                }
                self.time_to_live(now, call, &request, out);
                return Ok(());
            }
            read => {
                let work = Work::Read { call, caller, request: Box::new(read) };
                self.barriers.wait(Waiting { until: self.patience(now), work });
                return Ok(());
            }
        };
        self.propose_call(now, call, Command { tag: context.tag, caller, body }, store, out)
    }

    pub(super) fn propose_call(
        &mut self,
        now: Time,
        call: CallId,
        command: Command,
        store: &Store,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        self.check_size(&command.body, store, out)?;
        let tagged = command.tag.is_some();
        let (id, proposal) = self.proposal(&command);
        let until = self.patience(now);
        let pending = Pending {
            call,
            until,
            proposal: proposal.clone(),
            tagged,
            refused: false,
            leader_failed: false,
        };
        self.pending.insert(id, pending);
        out.push(ServiceOutput::Propose(proposal));
        Ok(())
    }

    /// A request is not too large, and there is space for it; if there is none, the alarm is raised for all.
    fn check_size(&mut self, body: &Body, store: &Store, out: &mut Outputs) -> Result<(), Refusal> {
        let bytes = match body {
            Body::Put(put) => put.encoded_len(),
            Body::Txn(txn) => txn.encoded_len(),
            Body::DeleteRange(request) => request.encoded_len(),
            _ => return Ok(()),
        };
        if bytes > self.config.request_bytes_max {
            return Err(Refusal::RequestTooLarge);
        }
        if needs_space(body) && store.bytes() + bytes as u64 + PUT_COST > self.config.quota_bytes {
            let alarm = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Activate.into(),
                member_id: self.config.node.0,
                alarm: pb::AlarmType::Nospace.into(),
            };
            self.propose_own(Body::Alarm(alarm), out);
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// A lease without an id gets one that is free here; should it be taken meanwhile, the client is told so.
    fn with_id(
        &mut self,
        mut request: pb::LeaseGrantRequest,
        store: &Store,
    ) -> pb::LeaseGrantRequest {
        while request.id == 0
            || (self.chosen_lease == request.id
                && store.lease(crate::LeaseId(request.id)).is_some())
        {
            request.id = (self.random.next_u64() >> 1) as i64;
            self.chosen_lease = request.id;
        }
        request
    }

    /// Who calls, if callers must say so.
    pub(super) fn caller(
        &mut self,
        now: Time,
        context: &Context,
        store: &Store,
    ) -> Result<Option<Caller>, Refusal> {
        if !store.auth().is_enabled() {
            return Ok(None);
        }
        match &context.token {
            None => Ok(context.certified.clone().map(|user| {
                // A certificate does not age with changes of users and roles, as a token does.
                Caller { user, auth_revision: store.auth().revision() }
            })),
            Some(token) => {
                self.passwords.caller(now, token).map(Some).ok_or(Refusal::InvalidAuthToken)
            }
        }
    }

    /// A proposal did not get into any log.
    pub(super) fn refused(&mut self, id: RequestId, reason: NotTaken, out: &mut Outputs) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        // A copy of a numbered call that was proposed twice may be in the log nevertheless.
        let certain = !(pending.tagged && pending.leader_failed);
        match reason {
            NotTaken::NoLeader | NotTaken::Transferring => pending.refused = true,
            NotTaken::Busy | NotTaken::TooLarge | NotTaken::NoRoom if !certain => {
                pending.refused = true;
            }
            NotTaken::Busy => self.give_up(id, Refusal::TooManyRequests, out),
            NotTaken::NoRoom => self.give_up(id, Refusal::NoSpace, out),
            NotTaken::TooLarge => self.give_up(id, Refusal::RequestTooLarge, out),
        }
    }

    fn give_up(&mut self, id: RequestId, refusal: Refusal, out: &mut Outputs) {
        if let Some(pending) = self.pending.remove(&id) {
            answer(pending.call, Err(refusal), out);
        }
    }

    /// There is a new leader, or none: what may be lost and may be proposed again is.
    pub(super) fn propose_again(&mut self, out: &mut Outputs) {
        for pending in self.pending.values_mut() {
            if self.leader.is_some() && (pending.refused || pending.tagged) {
                pending.refused = false;
                out.push(ServiceOutput::Propose(pending.proposal.clone()));
            }
            pending.leader_failed = true;
        }
    }

    /// What never was in a log is proposed again while there is a leader.
    pub(super) fn propose_refused(&mut self, out: &mut Outputs) {
        for pending in self.pending.values_mut().filter(|pending| pending.refused) {
            pending.refused = self.leader.is_none();
            if !pending.refused {
                out.push(ServiceOutput::Propose(pending.proposal.clone()));
            }
        }
    }

    /// Calls that waited too long: whether they were done is not known, unless they were in no log.
    pub(super) fn give_up_overdue(&mut self, now: Time, out: &mut Outputs) {
        let overdue: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.until <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            let failed = self.pending.get(&id).is_some_and(|pending| pending.leader_failed);
            let refusal = if failed { Refusal::TimeoutLeaderFailed } else { Refusal::Timeout };
            self.give_up(id, refusal, out);
        }
        for waiting in self.barriers.overdue(now) {
            if let Work::Read { call, .. } = waiting.work {
                answer(call, Err(Refusal::Timeout), out);
            }
        }
    }
}

pub(super) fn answer(
    call: CallId,
    result: Result<super::call::Response, Refusal>,
    out: &mut Outputs,
) {
    out.push(ServiceOutput::Reply(ClientReply::Answer { call, result: result.map(Box::new) }));
}

fn check_request(request: &Request) -> Result<(), Refusal> {
    match request {
        Request::Range(request)
        | Request::RangePiece(request, _)
        | Request::RangeBytes(request, _) => check::range(request),
        Request::Put(request) => check::put(request),
        Request::DeleteRange(request) => check::delete_range(request),
        Request::Txn(request) => check::txn(request),
        _ => Ok(()),
    }
}

/// The password that must be hashed before a change goes into the log.
fn password_to_hash(change: &AuthChange) -> Option<String> {
    let no_password = |options: &Option<crate::messages::authpb::UserAddOptions>| {
        options.as_ref().is_some_and(|options| options.no_password)
    };
    match change {
        AuthChange::UserAdd(user)
            if user.hashed_password.is_empty() && !no_password(&user.options) =>
        {
            Some(user.password.clone())
        }
        AuthChange::UserChangePassword(user) if user.hashed_password.is_empty() => {
            Some(user.password.clone())
        }
        _ => None,
    }
}
