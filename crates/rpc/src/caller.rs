//! The calling side: numbers calls, sends them again until they are answered, gives up at their deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{NodeId, Time};

use crate::message::{Answer, Call, CallerId, Life, Message, Outcome, Sequence, Verdict};
use crate::{BODY_BYTES_MAX, CALLS_MAX};

/// A call that is not answered is sent again after this silence.
const SEND_AGAIN: Duration = Duration::from_millis(250);

/// A call of this caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId {
    /// Who was called.
    pub to: NodeId,
    /// Its number there.
    pub sequence: Sequence,
}

/// What may be done with a call whose fate is unknown, because the callee restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// Nothing: it may have been run.
    AtMostOnce,
    /// Running it twice is as good as once: it is sent to the new life.
    Idempotent,
}

/// Why a call came to nothing (RPC-1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It was refused here: too many calls wait for that member, or it is too large. Nothing happened.
    Refused(&'static str),
    /// The member could not be reached in time. Nothing happened.
    NotReached,
    /// It was not answered in time. It may have happened, or may happen yet.
    TimedOut,
    /// The member restarted before it answered. It may have happened.
    Restarted,
    /// The member ran it, and this came of it.
    Failed(String),
}

impl Failure {
    /// Whether it may have happened.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Restarted)
    }
}

/// A call that is settled.
pub type Done = (CallId, Result<Bytes, Failure>);

/// The calling side of a process.
#[derive(Debug)]
pub struct Caller {
    id: CallerId,
    members: BTreeMap<NodeId, Member>,
}

/// A member, as its caller knows it.
#[derive(Debug)]
struct Member {
    life: Life,
    next: Sequence,
    waiting: BTreeMap<Sequence, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    body: Bytes,
    repeat: Repeat,
    give_up_at: Time,
    send_again_at: Time,
    /// It was sent to the life that is known now.
    sent: bool,
}

impl Caller {
    /// A caller without calls.
    pub fn new(id: CallerId) -> Self {
        Self { id, members: BTreeMap::new() }
    }

    /// Calls a member. The first message is in `out`.
    pub fn call(
        &mut self,
        now: Time,
        to: NodeId,
        body: Bytes,
        repeat: Repeat,
        patience: Duration,
        out: &mut Vec<(NodeId, Message)>,
    ) -> Result<CallId, Failure> {
        let member = self.members.entry(to).or_insert_with(Member::new);
        if body.len() > BODY_BYTES_MAX {
            return Err(Failure::Refused("the call is too large"));
        }
        // The callee counts from the oldest unsettled call on: a gap counts as well.
        if member.next.0 - member.unacknowledged().0 >= CALLS_MAX as u64 {
            return Err(Failure::Refused("too many calls wait for that member"));
        }
        let sequence = member.next;
        member.next = Sequence(sequence.0 + 1);
        let give_up_at = now + patience;
        let waiting = Waiting { body, repeat, give_up_at, send_again_at: now, sent: false };
        member.waiting.insert(sequence, waiting);
        member.send_due(self.id, now, to, out);
        Ok(CallId { to, sequence })
    }

    /// Nobody waits for a call any more: what it held is free, here and, with the next call, there.
    pub fn cancel(&mut self, call: CallId) {
        if let Some(member) = self.members.get_mut(&call.to) {
            member.waiting.remove(&call.sequence);
        }
    }

    /// When to call [`wake`](Self::wake).
    pub fn deadline(&self) -> Option<Time> {
        let waiting = self.members.values().flat_map(|member| member.waiting.values());
        waiting.map(|waiting| waiting.give_up_at.min(waiting.send_again_at)).min()
    }

    /// Gives up what is late, and sends again what may be lost.
    pub fn wake(&mut self, now: Time, out: &mut Vec<(NodeId, Message)>, done: &mut Vec<Done>) {
        for (to, member) in &mut self.members {
            let late = member.waiting.extract_if(.., |_, waiting| waiting.give_up_at <= now);
            done.extend(late.map(|(sequence, waiting)| {
                let failure = if waiting.sent { Failure::TimedOut } else { Failure::NotReached };
                (CallId { to: *to, sequence }, Err(failure))
            }));
            member.send_due(self.id, now, *to, out);
        }
    }

    /// A member answered.
    pub fn received(
        &mut self,
        now: Time,
        from: NodeId,
        answer: Answer,
        out: &mut Vec<(NodeId, Message)>,
        done: &mut Vec<Done>,
    ) {
        let Some(member) = self.members.get_mut(&from).filter(|_| answer.caller == self.id) else {
            return;
        };
        let call = CallId { to: from, sequence: answer.sequence };
        match answer.verdict {
            // An answer to an earlier life is as good: it was run once.
            Verdict::Run(outcome) => {
                if member.waiting.remove(&answer.sequence).is_some() {
                    done.push((call, result(outcome)));
                }
            }
            Verdict::OtherLife(life) => {
                member.now_lives(now, from, life, done);
                member.send_due(self.id, now, from, out);
            }
        }
    }
}

fn result(outcome: Outcome) -> Result<Bytes, Failure> {
    match outcome {
        Outcome::Done(body) => Ok(body),
        Outcome::Failed(error) => Err(Failure::Failed(error)),
    }
}

impl Member {
    fn new() -> Self {
        Self { life: Life::UNKNOWN, next: Sequence(1), waiting: BTreeMap::new() }
    }

    fn unacknowledged(&self) -> Sequence {
        self.waiting.first_key_value().map_or(self.next, |(first, _)| *first)
    }

    /// The member told which life it is in. What was sent to the one before may have been run by it.
    ///
    /// A delayed message may tell of a life that is over: then the next answer corrects it, and at worst a call's fate
    /// is called unknown that is not.
    fn now_lives(&mut self, now: Time, node: NodeId, life: Life, done: &mut Vec<Done>) {
        if self.life == life {
            return;
        }
        self.life = life;
        let lost = |waiting: &Waiting| waiting.sent && waiting.repeat == Repeat::AtMostOnce;
        let lost = self.waiting.extract_if(.., |_, waiting| lost(waiting));
        done.extend(
            lost.map(|(sequence, _)| (CallId { to: node, sequence }, Err(Failure::Restarted))),
        );
        self.waiting.values_mut().for_each(|waiting| waiting.send_again_at = now);
    }

    fn send_due(
        &mut self,
        caller: CallerId,
        now: Time,
        to: NodeId,
        out: &mut Vec<(NodeId, Message)>,
    ) {
        let (life, unacknowledged) = (self.life, self.unacknowledged());
        for (sequence, waiting) in &mut self.waiting {
            if waiting.send_again_at > now {
                continue;
            }
            waiting.send_again_at = now + SEND_AGAIN;
            waiting.sent |= life != Life::UNKNOWN;
            let patience = waiting.give_up_at.since(now).as_millis();
            out.push((
                to,
                Message::Call(Call {
                    caller,
                    life,
                    sequence: *sequence,
                    unacknowledged,
                    patience_ms: u32::try_from(patience).unwrap_or(u32::MAX),
                    body: waiting.body.clone(),
                }),
            ));
        }
    }
}
