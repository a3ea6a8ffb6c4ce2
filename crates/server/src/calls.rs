//! Calls between members (`rpc`), over the connections that they have anyway: one more thing that the loop hosts, under
//! a number that no group has.
//!
//! Used for what one node must ask of another outside any log: how it is, and to hand over leadership.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{GroupId, Malformed, NodeId, Time, Wire, WireReader, WireWriter};
use quorate_raft::TransferOutcome;
use quorate_rpc::{
    Answer, CallId, Callee, Caller, CallerId, Failure, Life, Message, Outcome, Repeat, Taken,
    Ticket,
};
use tokio::sync::oneshot;

use crate::admin::NodeStatus;
use crate::group::{Event, Hosted, Shared};
use crate::inbox::{Door, Inbox, Incoming};

/// Where calls travel among the groups' messages.
pub(crate) const CALLS: GroupId = GroupId(u64::MAX);

/// What a member may ask of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// How are you? Answered with [`NodeStatus`] in JSON.
    Status,
    /// Hand over what you lead in this group to that member.
    Lead { group: GroupId, to: NodeId },
}

/// What became of a call.
pub(crate) type Answered = Result<Bytes, Failure>;

/// What reaches the calls from this process.
pub(crate) enum Arrival {
    /// Somebody wants to ask a member.
    Ask { to: NodeId, ask: Ask, patience: Duration, answer: oneshot::Sender<Answered> },
    /// A member's call was run.
    Finished { ticket: Ticket, outcome: Outcome },
}

impl Wire for Ask {
    fn encode(&self, out: &mut WireWriter) {
        match self {
            Self::Status => out.u8(1),
            Self::Lead { group, to } => {
                out.u8(2);
                out.u64(group.0);
                out.u64(to.0);
            }
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        match input.u8()? {
            1 => Ok(Self::Status),
            2 => Ok(Self::Lead { group: GroupId(input.u64()?), to: NodeId(input.u64()?) }),
            _ => Err(Malformed("an unknown question between members")),
        }
    }
}

impl Ask {
    /// Leadership that is handed over twice may have come back in between.
    fn repeat(&self) -> Repeat {
        match self {
            Self::Status => Repeat::Idempotent,
            Self::Lead { .. } => Repeat::AtMostOnce,
        }
    }

    /// Does what is asked.
    pub(crate) async fn run(self, inbox: &Inbox) -> Outcome {
        match self {
            Self::Status => match status(inbox).await {
                Some(status) => {
                    Outcome::Done(serde_json::to_vec(&status).unwrap_or_default().into())
                }
                None => Outcome::Failed("the node is stopping".to_string()),
            },
            Self::Lead { group, to } => match lead(inbox, group, to).await {
                Ok(text) => Outcome::Done(text.into()),
                Err(text) => Outcome::Failed(text),
            },
        }
    }
}

/// How this node is; `None` if it is stopping.
pub(crate) async fn status(inbox: &Inbox) -> Option<NodeStatus> {
    let (answer, status) = oneshot::channel();
    inbox.push(Incoming::Status(answer));
    status.await.ok()
}

async fn lead(inbox: &Inbox, group: GroupId, to: NodeId) -> Result<String, String> {
    let (answer, outcome) = oneshot::channel();
    inbox.push(Incoming::Lead { group, to, answer });
    match outcome.await {
        Ok(TransferOutcome::SteppedDown { to }) => Ok(format!("{to} was asked to lead")),
        Ok(TransferOutcome::TimedOut { to }) => Err(format!("{to} did not take over in time")),
        Ok(TransferOutcome::NotLeader { .. }) => Err("another node leads by now".to_string()),
        Ok(TransferOutcome::Busy) => {
            Err("a transfer or a change of members is under way".to_string())
        }
        Ok(TransferOutcome::NoSuchVoter) => {
            Err(format!("{to} leads already, does not vote, or is not heard of"))
        }
        Err(_) => Err(format!("there is no group {group} here")),
    }
}

/// Both sides of this process.
pub(crate) struct Calls {
    door: Door<Arrival>,
    inbox: Inbox,
    caller: Caller,
    callee: Callee,
    waiting: BTreeMap<CallId, oneshot::Sender<Answered>>,
    out: Vec<(NodeId, Message)>,
    done: Vec<(CallId, Answered)>,
}

impl Calls {
    /// `life` tells this life of the process from every other one.
    pub(crate) fn new(door: Door<Arrival>, inbox: Inbox, life: u64) -> Self {
        Self {
            door,
            inbox,
            caller: Caller::new(CallerId(life)),
            callee: Callee::new(Life(life)),
            waiting: BTreeMap::new(),
            out: Vec::new(),
            done: Vec::new(),
        }
    }

    fn arrived(&mut self, now: Time, arrival: Arrival) {
        match arrival {
            Arrival::Ask { to, ask, patience, answer } => {
                let (body, repeat) = (ask.to_bytes(), ask.repeat());
                match self.caller.call(now, to, body, repeat, patience, &mut self.out) {
                    Ok(call) => drop(self.waiting.insert(call, answer)),
                    Err(failure) => drop(answer.send(Err(failure))),
                }
            }
            Arrival::Finished { ticket, outcome } => {
                if let Some((to, answer)) = self.callee.finished(ticket, outcome) {
                    self.out.push((to, Message::Answer(answer)));
                }
            }
        }
    }

    fn called(&mut self, from: NodeId, call: quorate_rpc::Call) {
        match self.callee.received(from, call) {
            Taken::Run { ticket, body, .. } => self.run(ticket, &body),
            Taken::Answer(answer) => self.out.push((from, Message::Answer(answer))),
            Taken::Nothing => {}
        }
    }

    fn run(&self, ticket: Ticket, body: &Bytes) {
        let (ask, inbox, door) = (Ask::from_bytes(body), self.inbox.clone(), self.door.clone());
        tokio::task::spawn_local(async move {
            let outcome = match ask {
                Ok(ask) => ask.run(&inbox).await,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            door.push(Arrival::Finished { ticket, outcome });
        });
    }

    fn wake(&mut self, now: Time) {
        // Who has gone away waits for nothing.
        for (call, _) in self.waiting.extract_if(.., |_, answer| answer.is_closed()) {
            self.caller.cancel(call);
        }
        self.caller.wake(now, &mut self.out, &mut self.done);
    }

    fn answered(&mut self, now: Time, from: NodeId, answer: Answer) {
        self.caller.received(now, from, answer, &mut self.out, &mut self.done);
    }

    fn settle(&mut self, shared: &Shared) {
        for (to, message) in self.out.drain(..) {
            shared.members.push(to, CALLS, &message);
        }
        for (call, result) in self.done.drain(..) {
            if let Some(answer) = self.waiting.remove(&call) {
                let _ = answer.send(result);
            }
        }
    }
}

impl Hosted for Calls {
    fn id(&self) -> GroupId {
        CALLS
    }

    fn deadline(&self) -> Option<Time> {
        self.caller.deadline()
    }

    fn step(&mut self, now: Time, event: Event, shared: &mut Shared) {
        match event {
            Event::Wake => self.wake(now),
            Event::Requests => {
                self.door.take().into_iter().for_each(|arrival| self.arrived(now, arrival));
            }
            _ => return,
        }
        self.settle(shared);
    }

    fn received(
        &mut self,
        now: Time,
        from: NodeId,
        body: &Bytes,
        shared: &mut Shared,
    ) -> Result<(), Malformed> {
        match Message::from_bytes(body)? {
            Message::Call(call) => self.called(from, call),
            Message::Answer(answer) => self.answered(now, from, answer),
        }
        self.settle(shared);
        Ok(())
    }

    fn flush(&mut self) {}

    fn report(&self, _: &mut NodeStatus) {}

    fn is_busy(&self) -> bool {
        false
    }
}
