//! Runs an order through the model. An engine may be clever; this is not.

use super::{Place, Problem};
use crate::history::Moment;
use crate::model::{Model, Step};

/// Whether the order explains the problem: it has every operation that returned, none twice, none before one that had
/// ended before it began, and the model allows each output.
pub(crate) fn proves<M: Model>(model: &M, problem: &Problem<'_, M>, order: &[Place]) -> bool {
    let mut seen = vec![false; problem.calls.len()];
    let all_new = order.iter().all(|place| !std::mem::replace(&mut seen[place.index()], true));
    let complete = problem.calls.iter().zip(&seen).all(|(call, seen)| *seen || call.is_open());
    all_new
        && complete
        && respects_time(problem, order)
        && states_along(model, problem, order).is_some_and(|states| states.count_is(order.len()))
}

/// Read backwards, no call may come after a return that the order puts behind it.
fn respects_time<M: Model>(problem: &Problem<'_, M>, order: &[Place]) -> bool {
    let mut latest_call = Moment::BEGIN;
    order.iter().all(|place| {
        let call = problem.call(*place);
        latest_call = latest_call.max(call.call);
        call.ret > latest_call
    })
}

/// The state after each operation of an order; `None` if the model does not allow it.
pub(crate) fn states_along<M: Model>(
    model: &M,
    problem: &Problem<'_, M>,
    order: &[Place],
) -> Option<States<M::State>> {
    let mut states = States { last: model.initial(), count: 0 };
    for place in order {
        states.advance(model, problem, *place)?;
    }
    Some(states)
}

/// The states after each operation, in the order in which the problem has them.
pub(crate) fn states_after_each<M: Model>(model: &M, problem: &Problem<'_, M>) -> Vec<M::State> {
    let mut states = States { last: model.initial(), count: 0 };
    let each = problem.places().map_while(|place| {
        states.advance(model, problem, place)?;
        Some(states.last.clone())
    });
    each.collect()
}

/// Where a replay has got to.
pub(crate) struct States<S> {
    pub(crate) last: S,
    count: usize,
}

impl<S> States<S> {
    fn count_is(&self, count: usize) -> bool {
        self.count == count
    }

    fn advance<M: Model<State = S>>(
        &mut self,
        model: &M,
        problem: &Problem<'_, M>,
        place: Place,
    ) -> Option<()> {
        let call = problem.call(place);
        match model.step(&self.last, call.input, call.output) {
            Step::Impossible => return None,
            Step::Stays => {}
            Step::Moves(next) => self.last = next,
        }
        self.count += 1;
        Some(())
    }
}
