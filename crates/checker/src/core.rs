//! The smallest sub-history that already fails (QuickXplain, Junker 2004).
//!
//! Leaving operations out would prove nothing: without its write, every read is wrong. Instead the others are *relaxed*: they
//! may have happened at any time, before they were called even, or never, with any result. What contradicts itself even so
//! is a contradiction among the operations that were kept. Relaxing more can only make more orders possible, so that
//! halving finds a set of which every member is needed.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::engine::{Decider, Found, Place, Problem};
use crate::limits::Limits;
use crate::model::{Access, Model};
use crate::value::Value;

/// Steps that one question may take, and all together.
const STEPS_EACH: u64 = 1 << 17;
const STEPS_ALL: u64 = 1 << 19;

/// The operations of a sub-history that already fails, by their calls; `None` if it would take too long to find one.
pub(crate) fn smallest<'h, M: Model>(
    model: &'h M,
    prefix: &Problem<'h, M>,
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
    if let Some(core) = question.two_or_three(stuck, &candidates) {
        return Some(core);
    }
    if !question.fails(&candidates) {
        return None;
    }
    let mut core = question.needed(&mut Vec::new(), false, &candidates);
    core.sort_unstable();
    question.fails(&core).then_some(core)
}

/// Operations near the stuck one with which it is tried alone: most contradictions are among two or three.
const NEAR_MAX: usize = 300;

struct Question<'q, 'h, M: Model> {
    model: &'h M,
    prefix: &'q Problem<'h, M>,
    limits: &'q Limits<'q>,
    steps_left: u64,
}

impl<'h, M: Model> Question<'_, 'h, M> {
    /// Whether these operations contradict each other, as far as one can tell with the steps that are left.
    fn fails(&mut self, kept: &[Place]) -> bool {
        let mut keep = vec![false; self.prefix.calls.len()];
        kept.iter().for_each(|place| keep[place.index()] = true);
        let relaxed = self.prefix.relaxed(&keep, self.helpful(&keep).as_deref());
        let mut decider = Decider::new(self.model, &relaxed);
        let found = decider.run(STEPS_EACH.min(self.steps_left), self.limits);
        self.steps_left = self.steps_left.saturating_sub(decider.steps());
        matches!(found, Some(Found::Stuck(_)))
    }

    /// The stuck operation alone, with one other, and with one other and a write of what it saw.
    fn two_or_three(&mut self, stuck: Place, candidates: &[Place]) -> Option<Vec<Place>> {
        let seen = match self.access(stuck, true) {
            Access::Reads(value) | Access::Swaps(value, _) => value,
            _ => return None,
        };
        let writes_it = |access| matches!(access, Access::Writes(value) | Access::Swaps(_, value) if value == seen);
        let writer = candidates.iter().copied().find(|place| writes_it(self.access(*place, true)));
        let others = candidates.iter().skip(1).take(NEAR_MAX).copied();
        let pairs = others.clone().map(|other| vec![stuck, other]);
        let triples =
            others.filter_map(|other| Some(vec![stuck, other, writer.filter(|w| *w != other)?]));
        let mut core = std::iter::once(vec![stuck])
            .chain(pairs)
            .chain(triples)
            .find(|some| self.fails(some))?;
        core.sort_unstable();
        Some(core)
    }

    /// What an operation does to a variable; relaxed, nothing is known of its result.
    fn access(&self, place: Place, kept: bool) -> Access<'h> {
        let call = self.prefix.call(place);
        self.model.access(call.input, call.output.filter(|_| kept))
    }

    /// Which relaxed operations can help to explain the kept ones: in an order with as few of them as possible, each writes what
    /// is seen next. `None` where that cannot be told from what operations do to a variable.
    fn helpful(&self, keep: &[bool]) -> Option<Vec<bool>> {
        let mut wanted: BTreeSet<&Value> = BTreeSet::new();
        let mut relaxed = Vec::new();
        for place in self.prefix.places() {
            let kept = keep[place.index()];
            match self.access(place, kept) {
                Access::Reads(value) | Access::Swaps(value, _) if kept => {
                    wanted.insert(value);
                }
                Access::Writes(value) if !kept => relaxed.push((place, value, None)),
                Access::Swaps(from, to) => relaxed.push((place, to, Some(from))),
                Access::Writes(_) | Access::Nothing => {}
                Access::Reads(_) | Access::Appends(_) | Access::Other => return None,
            }
        }
        let mut helps = keep.to_vec();
        loop {
            let before = wanted.len();
            for (place, to, from) in &relaxed {
                if wanted.contains(to) {
                    helps[place.index()] = true;
                    wanted.extend(from);
                }
            }
            if wanted.len() == before {
                return Some(helps);
            }
        }
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
