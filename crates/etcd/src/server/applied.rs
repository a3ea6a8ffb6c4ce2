//! Outcomes become replies.

use quorate_contracts::{RequestId, Time};

use super::barrier::{Waiting, Work};
use super::call::{CallId, Response};
use super::requests::answer;
use super::{Outputs, Server};
use crate::command::{Event, Outcome, Reply};
use crate::messages::etcdserverpb as pb;
use crate::store::Store;
use crate::{Refusal, Revision};

impl Server {
    pub(super) fn applied(
        &mut self,
        now: Time,
        id: Option<RequestId>,
        outcome: Outcome,
        events: &[Event],
        store: &Store,
        out: &mut Outputs,
    ) {
        for event in events {
            if let Event::TokenIssued { token, caller } = event {
                self.passwords.issued(now, token, caller);
            }
            self.keep_time(event, store);
        }
        if events.contains(&Event::Written) {
            self.tell_written(now, store, out);
        }
        let Some(id) = id else { return };
        if let Some(pending) = self.pending.remove(&id) {
            let result = self.response(pending.call, outcome);
            answer(pending.call, result, out);
        }
    }

    /// The state is as new as a barrier: what waited for it is done.
    pub(super) fn barrier_passed(
        &mut self,
        now: Time,
        id: RequestId,
        store: &Store,
        out: &mut Outputs,
    ) {
        for waiting in self.barriers.passed(id) {
            self.work(now, waiting, store, out);
        }
    }

    fn work(&mut self, now: Time, waiting: Waiting, store: &Store, out: &mut Outputs) {
        match waiting.work {
            Work::Read { call, caller, request } => {
                self.answer_read(now, call, caller.as_ref(), *request, store, out);
            }
            Work::Lease { from, ticket, lease, renew } => {
                self.answer_about_lease(from, ticket, lease, renew, store, out);
            }
        }
    }

    fn response(&mut self, call: CallId, outcome: Outcome) -> Result<Response, Refusal> {
        let token = self.passwords.take_issued(call);
        let header = self.header(outcome.revision);
        let of = Some(header);
        if outcome.result == Err(Refusal::DoneBefore) {
            return Ok(Response::DoneBefore(header));
        }
        Ok(match outcome.result? {
            Reply::Put(reply) => Response::Put(pb::PutResponse { header: of, ..reply }),
            Reply::DeleteRange(reply) => {
                Response::DeleteRange(pb::DeleteRangeResponse { header: of, ..reply })
            }
            Reply::Txn(reply) => Response::Txn(pb::TxnResponse { header: of, ..reply }),
            Reply::LeaseGrant(reply) => {
                Response::LeaseGrant(pb::LeaseGrantResponse { header: of, ..reply })
            }
            Reply::Alarm(reply) => Response::Alarm(pb::AlarmResponse { header: of, ..reply }),
            Reply::Done => match token {
                Some(token) => {
                    Response::Authenticate(pb::AuthenticateResponse { header: of, token })
                }
                None => Response::Done(header),
            },
        })
    }

    /// What every reply begins with.
    pub(super) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.config.cluster_id,
            member_id: self.config.node.0,
            revision: revision.0,
            raft_term: self.term.0,
        }
    }
}
