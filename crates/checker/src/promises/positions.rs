//! The order that a system itself tells of (zxids, revisions), held against what clients saw, across all keys and servers.
//!
//! Where answers say where they stand ([`Position`]), three things must hold: a client never gets an answer that stands before one
//! that it had; no two changes of a key stand at one place; and a read shows the last change of its key at or before its place. So what
//! a client saw of one key at one server and of another key at the next fits together, which the order of each key alone does
//! not tell.
//!
//! Answers without a position say nothing here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::Broken;
use crate::check::{HistoryOf, split};
use crate::history::{ClientId, OpId, Operation, Position};
use crate::model::{Access, Model};
use crate::value::Value;
use crate::words::tell;

/// Where the told order contradicts what clients saw, one way for each key and client at most.
pub(super) fn broken<M: Model>(model: &M, history: &HistoryOf<M>) -> Vec<Broken> {
    let told = Told { model, history };
    let positioned = |id: &OpId| told.position(*id).is_some();
    if !history.ids().any(|id| positioned(&id)) {
        return Vec::new();
    }
    let mut clients: BTreeMap<ClientId, Vec<OpId>> = BTreeMap::new();
    for id in history.ids().filter(positioned) {
        clients.entry(told.operation(id).client).or_default().push(id);
    }
    let back = clients.values().filter_map(|ids| told.goes_back(ids));
    let keys = split(model, history);
    let shows = keys.iter().filter_map(|(key, ids)| {
        told.shows_another_state(ids).map(|broken| Broken { key: key.clone(), ..broken })
    });
    back.chain(shows).collect()
}

struct Told<'h, M: Model> {
    model: &'h M,
    history: &'h HistoryOf<M>,
}

impl<'h, M: Model> Told<'h, M> {
    /// Two answers of one client, the later of which stands earlier.
    fn goes_back(&self, ids: &[OpId]) -> Option<Broken> {
        let mut underway: BinaryHeap<Reverse<(_, OpId)>> = BinaryHeap::new();
        let mut newest: Option<(Position, OpId)> = None;
        for id in ids {
            let operation = self.operation(*id);
            while underway.peek().is_some_and(|Reverse((ret, _))| *ret < operation.call) {
                let Some(Reverse((_, ended))) = underway.pop() else { break };
                newest = newest.max(self.position(ended).map(|at| (at, ended)));
            }
            let at = self.position(*id)?;
            if let Some((before, known)) = newest.filter(|(before, _)| at < *before) {
                let why = format!(
                    "{} stood at {before}, and after it {} at {at}.",
                    self.tell(known),
                    self.tell(*id)
                );
                return Some(Broken {
                    kind: "back in the order",
                    key: None,
                    operations: vec![known, *id],
                    why,
                });
            }
            underway.push(Reverse((operation.ret, *id)));
        }
        None
    }

    /// A read of this key that shows something else than the last change at or before its place, or two changes at one place.
    fn shows_another_state(&self, ids: &[OpId]) -> Option<Broken> {
        let initial = self.model.initial_value()?;
        let mut changes: BTreeMap<Position, (OpId, &Value)> = BTreeMap::new();
        // Of writes without an answer nobody knows where they stand.
        let mut unplaced = BTreeSet::new();
        for id in ids {
            let (Access::Writes(value) | Access::Swaps(_, value)) = self.access(*id) else {
                continue;
            };
            match self.position(*id) {
                None => drop(unplaced.insert(value)),
                Some(at) => {
                    if let Some((other, _)) = changes.insert(at, (*id, value)) {
                        return Some(self.one_place(other, *id, at));
                    }
                }
            }
        }
        ids.iter().find_map(|id| {
            let Access::Reads(seen) = self.access(*id) else { return None };
            let at = self.position(*id)?;
            let last = changes.range(..=at).next_back().map(|(at, change)| (*at, *change));
            let there = last.map_or(&initial, |(_, (_, value))| value);
            (there != seen && !unplaced.contains(seen)).then(|| self.another_state(*id, at, last))
        })
    }

    fn one_place(&self, one: OpId, other: OpId, at: Position) -> Broken {
        let why = format!("{} and {} both stand at {at}.", self.tell(one), self.tell(other));
        Broken { kind: "two changes at one place", key: None, operations: vec![one, other], why }
    }

    fn another_state(
        &self,
        read: OpId,
        at: Position,
        last: Option<(Position, (OpId, &Value))>,
    ) -> Broken {
        let write = last.map(|(_, (write, _))| write);
        let what = last.map_or("nothing had been written".to_owned(), |(at, (write, _))| {
            format!("{} of {at} is the last change", self.tell(write))
        });
        let why = format!("{} stands at {at}, where {what}.", self.tell(read));
        let operations = write.into_iter().chain([read]).collect();
        Broken { kind: "another state than it says", key: None, operations, why }
    }

    /// Where an answer stands; none if there was no answer.
    fn position(&self, id: OpId) -> Option<Position> {
        let operation = self.operation(id);
        operation.position.filter(|_| operation.outcome.output().is_some())
    }

    fn operation(&self, id: OpId) -> &'h Operation<M::Input, M::Output> {
        self.history.operation(id)
    }

    fn access(&self, id: OpId) -> Access<'h> {
        let operation = self.operation(id);
        self.model.access(&operation.input, operation.outcome.output())
    }

    fn tell(&self, id: OpId) -> String {
        let server = self
            .operation(id)
            .server
            .as_ref()
            .map_or(String::new(), |server| format!(" at {server}"));
        format!("{}{server}", tell(self.model, self.history, id))
    }
}
