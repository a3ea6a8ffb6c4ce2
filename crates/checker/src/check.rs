//! The check: a history into parts, each part to an engine, the answers into a verdict.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::engine::{Decider, Found, Place, Problem, proves};
use crate::explain::explain;
use crate::history::{History, OpId};
use crate::limits::Limits;
use crate::model::Model;
use crate::verdict::{Answer, Part, Verdict};

/// A history of a model's operations.
pub type HistoryOf<M> = History<<M as Model>::Input, <M as Model>::Output>;

/// Whether a history is linearizable with respect to a model (LIN-2). Never wrong; at a limit the answer is unknown.
pub fn check<M: Model>(model: &M, history: &HistoryOf<M>, limits: &Limits<'_>) -> Verdict {
    let mut parts: Vec<_> = split(model, history)
        .into_iter()
        .map(|(key, ids)| Work::new(model, history, key, ids))
        .collect();
    decide(model, &mut parts, limits);
    let steps = parts.iter().map(|part| part.decider.steps()).sum();
    let parts: Vec<_> =
        parts.into_iter().map(|part| part.conclude(model, history, limits)).collect();
    let is = |answer| parts.iter().any(|part: &Part| part.answer == answer);
    let answer = if is(Answer::NotLinearizable) {
        Answer::NotLinearizable
    } else if is(Answer::Unknown) {
        Answer::Unknown
    } else {
        Answer::Linearizable
    };
    Verdict { answer, parts, steps }
}

/// The operations of each part. One part without a key if any operation has none.
pub(crate) fn split<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
) -> BTreeMap<Option<String>, Vec<OpId>> {
    let mut numbers: FxHashMap<Cow<'_, str>, usize> = FxHashMap::default();
    let mut parts: Vec<Vec<OpId>> = Vec::new();
    for id in history.ids() {
        let Some(key) = model.key(&history.operation(id).input) else {
            return BTreeMap::from([(None, history.ids().collect())]);
        };
        let number = *numbers.entry(key).or_insert(parts.len());
        if number == parts.len() {
            parts.push(Vec::new());
        }
        parts[number].push(id);
    }
    let keys = numbers.into_iter().map(|(key, number)| (Some(key.into_owned()), number));
    keys.map(|(key, number)| (key, std::mem::take(&mut parts[number]))).collect()
}

/// One part on its way.
struct Work<'h, M: Model> {
    key: Option<String>,
    operations: Vec<OpId>,
    problem: Problem<'h, M>,
    decider: Decider<'h, M>,
    found: Option<Found>,
}

/// Steps that each part may take in the first round; four times as many in each further one.
const FIRST_ROUND: u64 = 1 << 14;

/// Takes the parts in turns, with growing patience: one part may be hard, and another one plainly wrong. Ends when all
/// are decided, when one is wrong (after the round, so that others have the same chance), or at a limit.
fn decide<M: Model>(model: &M, parts: &mut [Work<'_, M>], limits: &Limits<'_>) {
    let mut budget = FIRST_ROUND.min(limits.steps_max);
    loop {
        for i in 0..parts.len() {
            if at_limit(parts, limits) {
                return;
            }
            let others: usize =
                (0..parts.len()).filter(|j| *j != i).map(|j| parts[j].bytes()).sum();
            let bytes_max = limits.bytes_max.saturating_sub(others);
            parts[i].run(model, budget, &Limits { bytes_max, ..*limits });
        }
        let is_wrong = |part: &Work<'_, M>| matches!(part.found, Some(Found::Stuck(_)));
        if parts.iter().all(|part| part.found.is_some()) || parts.iter().any(is_wrong) {
            return;
        }
        budget *= 4;
    }
}

fn at_limit<M: Model>(parts: &[Work<'_, M>], limits: &Limits<'_>) -> bool {
    let steps: u64 = parts.iter().map(|part| part.decider.steps()).sum();
    steps > limits.steps_max || (limits.expired)()
}

impl<'h, M: Model> Work<'h, M> {
    fn new(
        model: &'h M,
        history: &'h HistoryOf<M>,
        key: Option<String>,
        operations: Vec<OpId>,
    ) -> Self {
        let problem = Problem::of(history, operations.iter().copied());
        let decider = Decider::new(model, &problem);
        Self { key, operations, problem, decider, found: None }
    }

    fn bytes(&self) -> usize {
        self.decider.bytes()
    }

    fn run(&mut self, model: &M, budget: u64, limits: &Limits<'_>) {
        if self.found.is_some() {
            return;
        }
        self.found = self.decider.run(budget, limits);
        if let Some(Found::Order(order)) = &self.found {
            assert!(proves(model, &self.problem, order), "an engine found an order that is none");
        }
    }

    fn conclude(self, model: &'h M, history: &HistoryOf<M>, limits: &Limits<'_>) -> Part {
        let (key, operations, engine) = (self.key, self.operations, self.decider.engine());
        drop(self.decider);
        let ids =
            |order: &[Place]| order.iter().map(|place| self.problem.call(*place).id).collect();
        let (answer, order, breach) = match self.found {
            Some(Found::Order(order)) => (Answer::Linearizable, ids(&order), None),
            Some(Found::Stuck(stuck)) => {
                let (order, breach) = explain(model, history, &self.problem, stuck, limits);
                (Answer::NotLinearizable, ids(&order), Some(breach))
            }
            Some(Found::OutOfMemory) | None => (Answer::Unknown, Vec::new(), None),
        };
        Part { key, answer, engine, operations, order, breach }
    }
}
