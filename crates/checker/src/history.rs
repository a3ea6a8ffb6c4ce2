//! A history: what clients asked, what they were told, and when (LIN-1).
//!
//! Only the *order of events* decides anything; times are for people and pictures. Events are ordered as they are
//! recorded, so a recorder must be told of things in the order in which they happened.
//!
//! Not here: what an operation means (that is a [`Model`](crate::Model)), how histories are written down
//! ([`formats`](crate::formats)).

use std::fmt;
use std::sync::Arc;

/// One client. Its operations may overlap if it pipelines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// A time in nanoseconds since any fixed start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

/// A place in the order of changes that a system itself tells of: ZooKeeper's zxid, etcd's revision. An answer to a write
/// stands at its own change, one to a read at the newest change that its server had made by then. The first is 1 or more; 0 is
/// before all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An operation of one history: the number of its invocation, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub(crate) u32);

impl OpId {
    /// Its place in [`History::operations`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("a history has fewer than 2^32 operations"))
    }
}

/// A place in the order of all events of a history. 0 is before the first event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Moment(pub(crate) u32);

impl Moment {
    pub(crate) const BEGIN: Self = Self(0);
    /// After every event: where operations without an answer end.
    pub(crate) const NEVER: Self = Self(u32::MAX);
}

/// What a client knows about its operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<O> {
    /// It happened, with this result.
    Returned(O),
    /// It did not happen and never will.
    Refused,
    /// It may have happened, may still happen, or never.
    Unknown,
}

impl<O> Outcome<O> {
    /// The result, if there was one.
    pub fn output(&self) -> Option<&O> {
        match self {
            Self::Returned(output) => Some(output),
            Self::Refused | Self::Unknown => None,
        }
    }
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation<I, O> {
    /// Who asked.
    pub client: ClientId,
    /// What was asked.
    pub input: I,
    /// What came of it.
    pub outcome: Outcome<O>,
    /// When it was asked.
    pub called: Nanos,
    /// When the answer came, or when the client gave up waiting; `None` if neither was recorded.
    pub ended: Option<Nanos>,
    /// Which server answered, if that is known.
    pub server: Option<Arc<str>>,
    /// Where the answer stands in the system's own order of changes, if it says so.
    pub position: Option<Position>,
    pub(crate) call: Moment,
    pub(crate) ret: Moment,
}

impl<I, O> Operation<I, O> {
    /// Whether this one had ended before the other began: then it comes first in every order (LIN-1).
    pub fn precedes(&self, other: &Self) -> bool {
        self.ret < other.call
    }
}

/// Something that is no operation but worth seeing in the picture: a node was killed, a network was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// When.
    pub at: Nanos,
    /// What, in a few words.
    pub text: String,
}

/// All operations of a run, in the order of their invocations, and notes.
///
/// ```
/// use quorate_checker::models::{Register, register::{Input, Output}};
/// use quorate_checker::{ClientId, History, Limits, Nanos, check};
///
/// let mut history = History::new();
/// let write = history.invoke(ClientId(1), Nanos(10), Input::Write(1.into()));
/// let read = history.invoke(ClientId(2), Nanos(20), Input::Read);
/// history.returned(write, Nanos(30), Output::Done);
/// history.returned(read, Nanos(40), Output::Value(1.into()));
/// assert!(check(&Register::default(), &history, &Limits::default()).is_linearizable());
/// ```
#[derive(Clone, Debug)]
pub struct History<I, O> {
    operations: Vec<Operation<I, O>>,
    notes: Vec<Note>,
    events: u32,
    /// False if the times only number the events.
    timed: bool,
}

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        Self { operations: Vec::new(), notes: Vec::new(), events: 0, timed: true }
    }
}

impl<I, O> History<I, O> {
    /// An empty history, which is linearizable.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client asks. Gives the name under which its end is told.
    pub fn invoke(&mut self, client: ClientId, at: Nanos, input: I) -> OpId {
        let call = self.next_moment();
        let id = OpId::at(self.operations.len());
        self.operations.push(Operation {
            client,
            input,
            outcome: Outcome::Unknown,
            called: at,
            ended: None,
            server: None,
            position: None,
            call,
            ret: Moment::NEVER,
        });
        id
    }

    /// The operation happened, with this result.
    ///
    /// # Panics
    /// If its end was told before: an operation ends once.
    pub fn returned(&mut self, op: OpId, at: Nanos, output: O) {
        self.end(op, at, Outcome::Returned(output));
    }

    /// The operation did not happen and never will. (A result such as "the value was another one" is no
    /// refusal: it says something about the state.)
    ///
    /// # Panics
    /// If its end was told before.
    pub fn refused(&mut self, op: OpId, at: Nanos) {
        self.end(op, at, Outcome::Refused);
    }

    /// The client gave up waiting. The operation may happen at any later time, or never. Operations whose end is
    /// not told at all are taken in the same way.
    ///
    /// # Panics
    /// If its end was told before.
    pub fn unknown(&mut self, op: OpId, at: Nanos) {
        let operation = &mut self.operations[op.index()];
        assert!(operation.ended.is_none(), "operation {} has ended before", op.0);
        operation.ended = Some(at);
    }

    /// Tells which server answered.
    pub fn served_by(&mut self, op: OpId, server: &str) {
        self.operations[op.index()].server = Some(server.into());
    }

    /// Tells where the answer stands in the system's own order of changes.
    pub fn stands_at(&mut self, op: OpId, position: Position) {
        self.operations[op.index()].position = Some(position);
    }

    /// Something worth seeing in the picture.
    pub fn note(&mut self, at: Nanos, text: impl Into<String>) {
        self.notes.push(Note { at, text: text.into() });
    }

    /// The operations, in the order of their invocations.
    pub fn operations(&self) -> &[Operation<I, O>] {
        &self.operations
    }

    /// One of them.
    pub fn operation(&self, id: OpId) -> &Operation<I, O> {
        &self.operations[id.index()]
    }

    /// Their names.
    pub fn ids(&self) -> impl Iterator<Item = OpId> + use<I, O> {
        (0..self.operations.len()).map(OpId::at)
    }

    /// What else happened.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether times are times: false if they only number the events.
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// Says that the times only number the events.
    pub(crate) fn untimed(&mut self) {
        self.timed = false;
    }

    /// The same history in other words. The closure may say that something did not happen after all.
    ///
    /// # Errors
    /// The first error of the closure.
    pub fn translate<J, P, E>(
        self,
        mut words: impl FnMut(OpId, ClientId, I, Outcome<O>) -> Result<(J, Outcome<P>), E>,
    ) -> Result<History<J, P>, E> {
        let translated = self.operations.into_iter().enumerate().map(|(i, operation)| {
            let Operation { client, input, outcome, called, ended, server, position, call, ret } =
                operation;
            let (input, outcome) = words(OpId::at(i), client, input, outcome)?;
            let ret = if matches!(outcome, Outcome::Returned(_)) { ret } else { Moment::NEVER };
            Ok(Operation { client, input, outcome, called, ended, server, position, call, ret })
        });
        Ok(History {
            operations: translated.collect::<Result<_, E>>()?,
            notes: self.notes,
            events: self.events,
            timed: self.timed,
        })
    }

    /// A history of operations with known times. Where times are equal nothing is said about the order, except that a
    /// client's operation that began earlier came first.
    pub fn from_intervals(operations: Vec<Interval<I, O>>) -> Self {
        let mut events = Vec::with_capacity(2 * operations.len());
        for (index, operation) in operations.iter().enumerate() {
            events.push((operation.called, true, index));
            if let (Outcome::Returned(_), Some(ended)) = (&operation.outcome, operation.ended) {
                events.push((ended.max(operation.called), false, index));
            }
        }
        // A client whose operation ends at this very time asks again after that: its call goes behind the returns.
        let ends: std::collections::BTreeSet<_> = operations
            .iter()
            .filter(|o| o.ended.is_some_and(|ended| ended > o.called))
            .map(|o| (o.client, o.ended))
            .collect();
        let phase = |&(at, is_call, index): &(Nanos, bool, usize)| {
            let operation = &operations[index];
            let follows = at == operation.called
                && ends.contains(&(operation.client, Some(operation.called)));
            (at, 2 * u8::from(follows) + u8::from(!is_call))
        };
        events.sort_by_key(phase);
        Self::replay(operations, &events)
    }

    fn replay(operations: Vec<Interval<I, O>>, events: &[(Nanos, bool, usize)]) -> Self {
        let mut history = Self::new();
        let mut waiting: Vec<_> = operations.into_iter().map(Some).collect();
        let mut started = vec![None; waiting.len()];
        for (at, is_call, index) in events {
            if *is_call {
                let Some(interval) = waiting[*index].take() else { continue };
                let id = history.invoke(interval.client, *at, interval.input);
                let operation = &mut history.operations[id.index()];
                (operation.ended, operation.server) = (interval.ended, interval.server);
                operation.position = interval.position;
                operation.outcome = interval.outcome;
                started[*index] = Some(id);
            } else if let Some(id) = started[*index] {
                history.operations[id.index()].ret = history.next_moment();
            }
        }
        history
    }

    fn end(&mut self, op: OpId, at: Nanos, outcome: Outcome<O>) {
        let ret = self.next_moment();
        let operation = &mut self.operations[op.index()];
        assert!(operation.ended.is_none(), "operation {} has ended before", op.0);
        operation.ended = Some(at);
        if matches!(outcome, Outcome::Returned(_)) {
            operation.ret = ret;
        }
        operation.outcome = outcome;
    }

    fn next_moment(&mut self) -> Moment {
        self.events += 1;
        assert!(self.events < u32::MAX, "a history has fewer than 2^32 events");
        Moment(self.events)
    }
}

/// One operation with its times, for [`History::from_intervals`].
#[derive(Clone, Debug)]
pub struct Interval<I, O> {
    /// Who asked.
    pub client: ClientId,
    /// What was asked.
    pub input: I,
    /// What came of it.
    pub outcome: Outcome<O>,
    /// When it was asked.
    pub called: Nanos,
    /// When its end was known.
    pub ended: Option<Nanos>,
    /// Which server answered, if that is known.
    pub server: Option<Arc<str>>,
    /// Where the answer stands in the system's own order of changes, if it says so.
    pub position: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(client: u64, called: u64, ended: u64) -> Interval<(), ()> {
        Interval {
            client: ClientId(client),
            input: (),
            outcome: Outcome::Returned(()),
            called: Nanos(called),
            ended: Some(Nanos(ended)),
            server: None,
            position: None,
        }
    }

    /// LIN-1: equal times say nothing about the order of two clients, but a client's own operations keep theirs.
    #[test]
    fn equal_times_are_concurrent_except_for_one_client() {
        let history = History::from_intervals(vec![
            interval(1, 10, 20),
            interval(2, 20, 30),
            interval(1, 20, 20),
            interval(1, 21, 22),
        ]);
        let [first, other, second, third] = [(1, 10), (2, 20), (1, 20), (1, 21)].map(|(c, at)| {
            let found = history
                .operations()
                .iter()
                .find(|o| (o.client, o.called) == (ClientId(c), Nanos(at)));
            found.expect("it was put in")
        });
        assert!(!first.precedes(other), "20 is not before 20");
        assert!(first.precedes(second), "one client, one after the other");
        assert!(second.precedes(third));
    }

    #[test]
    #[should_panic(expected = "has ended before")]
    fn an_operation_ends_once() {
        let mut history: History<(), ()> = History::new();
        let op = history.invoke(ClientId(1), Nanos(1), ());
        history.returned(op, Nanos(2), ());
        history.refused(op, Nanos(3));
    }
}
