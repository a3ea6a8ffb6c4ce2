//! One question on its way, and what an answer to it means.

use quorate_contracts::{NodeId, Time};
use quorate_etcd::server::{Request, Response};
use quorate_etcd::{ClientId, Code, Refusal, Sequence};

use crate::{Answer, AskId};

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Who asked; nobody did if the Clerk opens its id.
    pub(crate) ask: Option<AskId>,
    pub(crate) request: Request,
    /// The write's number, under the id of that time.
    pub(crate) number: Option<(ClientId, Sequence)>,
    /// Until when an answer is wanted.
    pub(crate) until: Time,
    pub(crate) to: NodeId,
    /// When it is sent again.
    pub(crate) retry_at: Time,
    pub(crate) attempts: u32,
}

/// What an answer means for the Clerk.
pub(crate) enum Verdict {
    /// Tell the caller.
    Tell(Answer),
    /// The client id is open.
    Opened,
    /// This server does not know: ask another one.
    TryAnother,
    /// The client id is not open: the write may have been done before if it was sent more than once.
    ClientGone {
        /// Whether it may have been done.
        done: bool,
    },
}

impl Flight {
    pub(crate) fn new(ask: Option<AskId>, request: Request, until: Time) -> Self {
        let (to, retry_at) = (NodeId(0), until);
        Self { ask, request, number: None, until, to, retry_at, attempts: 0 }
    }

    pub(crate) fn is_write(&self) -> bool {
        self.request.is_write()
    }

    pub(crate) fn sent(&mut self, to: NodeId, retry_at: Time) {
        (self.to, self.retry_at) = (to, retry_at);
        self.attempts += 1;
    }

    /// When something must be done about it.
    pub(crate) fn due(&self) -> Time {
        self.until.min(self.retry_at)
    }

    pub(crate) fn verdict(&self, result: Result<Box<Response>, Refusal>) -> Verdict {
        match result {
            Ok(_) if self.ask.is_none() => Verdict::Opened,
            Ok(response) => Verdict::Tell(Answer::Done(response)),
            Err(Refusal::ClientUnknown | Refusal::ClientExpired) => {
                Verdict::ClientGone { done: self.attempts > 1 }
            }
            Err(Refusal::Acknowledged) => Verdict::Tell(Answer::Unknown),
            Err(refusal) if is_worth_another_try(refusal) => Verdict::TryAnother,
            Err(refusal) => Verdict::Tell(Answer::Refused(refusal)),
        }
    }
}

fn is_worth_another_try(refusal: Refusal) -> bool {
    refusal.code() == Code::Unavailable
        || matches!(
            refusal,
            Refusal::TooManyRequests | Refusal::BeyondWindow | Refusal::TooManyClients
        )
}
