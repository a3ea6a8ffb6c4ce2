//! The called side: runs a call once, keeps its answer until the caller has it, and answers duplicates with it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_contracts::NodeId;

use crate::message::{Answer, Call, CallerId, Life, Outcome, Sequence, Verdict};
use crate::{BODY_BYTES_MAX, CALLS_MAX};

/// Earlier lives of one member whose late messages are still recognised.
const RETIRED_MAX: usize = 16;

/// A call that is being run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket {
    from: NodeId,
    caller: CallerId,
    sequence: Sequence,
}

/// What is to be done with a call that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Run it, and tell of the outcome with [`Callee::finished`].
    Run {
        /// Which.
        ticket: Ticket,
        /// What is asked.
        body: Bytes,
        /// How long the caller waits, in milliseconds.
        patience_ms: u32,
    },
    /// Send this answer.
    Answer(Answer),
    /// Nothing: it runs already, or nobody waits for it any more.
    Nothing,
}

/// The called side of a process.
///
/// Invariant: at most [`CALLS_MAX`] calls of each member are known, whatever it sends.
#[derive(Debug)]
pub struct Callee {
    life: Life,
    members: BTreeMap<NodeId, Known>,
}

/// What is known of one member's calls.
#[derive(Debug)]
struct Known {
    caller: CallerId,
    retired: VecDeque<CallerId>,
    /// The caller has settled every call before this one.
    unacknowledged: Sequence,
    calls: BTreeMap<Sequence, Option<Outcome>>,
}

impl Callee {
    /// A process that has run nothing yet.
    pub fn new(life: Life) -> Self {
        Self { life, members: BTreeMap::new() }
    }

    /// A member calls.
    pub fn received(&mut self, from: NodeId, call: Call) -> Taken {
        if call.life != self.life {
            let verdict = Verdict::OtherLife(self.life);
            return Taken::Answer(Answer { caller: call.caller, sequence: call.sequence, verdict });
        }
        let known = self.members.entry(from).or_insert_with(|| Known::new(call.caller));
        if !known.is_of(call.caller) {
            return Taken::Nothing;
        }
        known.settle(call.unacknowledged);
        known.take(from, call)
    }

    /// A call was run. The answer to send, unless nobody waits for it any more.
    pub fn finished(&mut self, ticket: Ticket, outcome: Outcome) -> Option<(NodeId, Answer)> {
        let Ticket { from, caller, sequence } = ticket;
        let known = self.members.get_mut(&from).filter(|known| known.caller == caller)?;
        let outcome = match outcome {
            Outcome::Done(body) if body.len() > BODY_BYTES_MAX => {
                Outcome::Failed("the answer is too large".to_string())
            }
            outcome => outcome,
        };
        let kept = known.calls.get_mut(&sequence)?;
        *kept = Some(outcome.clone());
        Some((from, Answer { caller, sequence, verdict: Verdict::Run(outcome) }))
    }

    /// Calls that are known: running, or answered and not acknowledged.
    pub fn known(&self) -> usize {
        self.members.values().map(|known| known.calls.len()).sum()
    }
}

impl Known {
    fn new(caller: CallerId) -> Self {
        Self {
            caller,
            retired: VecDeque::new(),
            unacknowledged: Sequence(0),
            calls: BTreeMap::new(),
        }
    }

    /// Whether the call is of the member's newest life; a new one takes the place of the one before.
    fn is_of(&mut self, caller: CallerId) -> bool {
        if self.caller == caller {
            return true;
        }
        if self.retired.contains(&caller) {
            return false;
        }
        let mut retired = std::mem::take(&mut self.retired);
        retired.push_back(self.caller);
        if retired.len() > RETIRED_MAX {
            retired.pop_front();
        }
        *self = Self { retired, ..Self::new(caller) };
        true
    }

    /// What was settled need not be kept. What still runs is forgotten as well: its number is not taken again.
    fn settle(&mut self, unacknowledged: Sequence) {
        if unacknowledged > self.unacknowledged {
            self.unacknowledged = unacknowledged;
            self.calls = self.calls.split_off(&unacknowledged);
        }
    }

    fn take(&mut self, from: NodeId, call: Call) -> Taken {
        let Call { caller, sequence, patience_ms, body, .. } = call;
        if sequence < self.unacknowledged {
            return Taken::Nothing;
        }
        match self.calls.get(&sequence) {
            Some(Some(kept)) => {
                let verdict = Verdict::Run(kept.clone());
                Taken::Answer(Answer { caller, sequence, verdict })
            }
            Some(None) => Taken::Nothing,
            // Callers keep to the limit; who does not is not served beyond it.
            None if self.calls.len() >= CALLS_MAX => Taken::Nothing,
            None => {
                self.calls.insert(sequence, None);
                Taken::Run { ticket: Ticket { from, caller, sequence }, body, patience_ms }
            }
        }
    }
}
