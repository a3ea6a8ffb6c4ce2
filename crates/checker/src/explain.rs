//! Where and why a part breaks: how far one gets, what cannot come next, and which operations contradict each other.

use crate::check::HistoryOf;
use crate::engine::{Decider, Found, Place, Problem, Stuck, states_along};
use crate::history::Moment;
use crate::limits::Limits;
use crate::model::{Model, Step};
use crate::verdict::Breach;
use crate::{core, words};

/// Explains a part that was shown to be wrong. Gives an order of its longest prefix that has one, too.
pub(crate) fn explain<'h, M: Model>(
    model: &'h M,
    history: &HistoryOf<M>,
    problem: &Problem<'h, M>,
    stuck: Option<Stuck>,
    limits: &Limits<'_>,
) -> (Vec<Place>, Breach) {
    let Stuck { order, at } = stuck.unwrap_or_else(|| farthest(model, problem, limits));
    let end = problem.call(at).ret;
    let prefix = problem.before(Moment(end.0 + 1));
    let core = core::smallest(model, &prefix, at, limits);
    let core =
        core.map(|core| core.iter().map(|place| problem.call(*place).id).collect::<Vec<_>>());
    let stuck = problem.call(at).id;
    let breach = Breach {
        stuck,
        why: words::why(model, history, stuck, core.as_deref()),
        core,
        refused: refused(model, problem, &order, end),
    };
    (order, breach)
}

/// Halves the history until it is known which return breaks it: of every longer prefix it is known that none has an order.
fn farthest<M: Model>(model: &M, problem: &Problem<'_, M>, limits: &Limits<'_>) -> Stuck {
    let mut returns: Vec<_> =
        problem.places().filter(|place| !problem.call(*place).is_open()).collect();
    returns.sort_unstable_by_key(|place| problem.call(*place).ret);
    let order_before = |place: Place| {
        let prefix = problem.before(problem.call(place).ret);
        match Decider::new(model, &prefix).run(STEPS_EACH, limits) {
            Some(Found::Order(order)) => Some(order),
            _ => None,
        }
    };
    let first_bad = returns.partition_point(|place| order_before(*place).is_some());
    // Everything before the first return can be explained: nothing was answered by then.
    let at = returns[first_bad.saturating_sub(1)];
    Stuck { order: order_before(at).unwrap_or_default(), at }
}

const STEPS_EACH: u64 = 1 << 20;

/// What might come next after the order, and why it cannot.
fn refused<M: Model>(
    model: &M,
    problem: &Problem<'_, M>,
    order: &[Place],
    end: Moment,
) -> Vec<(crate::OpId, String)> {
    let prefix = problem.before(end);
    let Some(states) = states_along(model, &prefix, order) else { return Vec::new() };
    let mut placed = vec![false; problem.calls.len()];
    order.iter().for_each(|place| placed[place.index()] = true);
    let left = problem.places().filter(|place| !placed[place.index()]);
    let next =
        left.filter(|place| problem.call(*place).call < end && !problem.call(*place).is_open());
    next.filter_map(|place| {
        let call = problem.call(place);
        let step = model.step(&states.last, call.input, call.output);
        (step == Step::Impossible)
            .then(|| (call.id, model.refusal(&states.last, call.input, call.output)))
    })
    .take(REFUSED_MAX)
    .collect()
}

const REFUSED_MAX: usize = 100;
