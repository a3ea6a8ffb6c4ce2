//! The smallest sub-history that already fails (QuickXplain, Junker 2004).
//!
//! Leaving operations out would prove nothing: without its write, every read is wrong. Instead the others are *relaxed*: they
//! may have happened at any time, before they were called even, or never, with any result. What contradicts itself even so
//! is a contradiction among the operations that were kept. Relaxing more can only make more orders possible, so that
//! halving finds a set of which every member is needed.

use std::cmp::Reverse;

use crate::engine::{Decider, Found, Place, Problem};
use crate::limits::Limits;
use crate::model::Model;

/// Steps that one question may take, and all together.
const STEPS_EACH: u64 = 1 << 18;
const STEPS_ALL: u64 = 1 << 23;

/// The operations of a sub-history that already fails, by their calls; `None` if it would take too long to find one.
pub(crate) fn smallest<M: Model>(
    model: &M,
    prefix: &Problem<'_, M>,
    stuck: Place,
    limits: &Limits<'_>,
) -> Option<Vec<Place>> {
    let mut question = Question { model, prefix, limits, steps_left: STEPS_ALL };
    // Those near the end are the most telling, so they are kept if there is a choice.
    let end = prefix.call(stuck).call;
    let mut candidates: Vec<_> = prefix.places().collect();
    candidates.sort_by_key(|place| {
        let call = prefix.call(*place);
        (*place != stuck, call.is_open(), Reverse(call.ret.min(end)), Reverse(call.call))
    });
    if !question.fails(&candidates) {
        return None;
    }
    let mut core = question.needed(&mut Vec::new(), false, &candidates);
    core.sort_unstable();
    question.fails(&core).then_some(core)
}

struct Question<'q, 'h, M: Model> {
    model: &'q M,
    prefix: &'q Problem<'h, M>,
    limits: &'q Limits<'q>,
    steps_left: u64,
}

impl<M: Model> Question<'_, '_, M> {
    /// Whether these operations contradict each other, as far as one can tell with the steps that are left.
    fn fails(&mut self, kept: &[Place]) -> bool {
        let mut keep = vec![false; self.prefix.calls.len()];
        kept.iter().for_each(|place| keep[place.index()] = true);
        let relaxed = self.prefix.relaxed(&keep);
        let mut decider = Decider::new(self.model, &relaxed);
        let found = decider.run(STEPS_EACH.min(self.steps_left), self.limits);
        self.steps_left = self.steps_left.saturating_sub(decider.steps());
        matches!(found, Some(Found::Stuck(_)))
    }

    /// Those of the candidates that are needed, besides the given ones, for a contradiction. `news`: the given ones have grown
    /// since it was last known that they contradict nothing.
    fn needed(&mut self, given: &mut Vec<Place>, news: bool, candidates: &[Place]) -> Vec<Place> {
        if news && self.fails(given) {
            return Vec::new();
        }
        if candidates.len() <= 1 {
            return candidates.to_vec();
        }
        let (liked, others) = candidates.split_at(candidates.len().div_ceil(2));
        let before = given.len();
        given.extend(liked);
        let mut needed = self.needed(given, !liked.is_empty(), others);
        given.truncate(before);
        given.extend(&needed);
        let more = self.needed(given, !needed.is_empty(), liked);
        given.truncate(before);
        needed.extend(more);
        needed
    }
}
