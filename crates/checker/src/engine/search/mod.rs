//! The search that decides every model (Wing & Gong 1993, with Lowe's memory of configurations, 2017).
//!
//! A *configuration* is the set of operations that have taken effect and the state they led to. From each one the search
//! goes on with every operation that may come next: one that was called before the first return among those that
//! have not taken effect. It ends when all operations that returned have. What keeps it small, each without losing an
//! answer:
//!
//! - **An observer that may come next comes next.** It changes nothing, wherever it comes, so moving it to the front of
//!   any order that works leaves an order that works. Reads never branch.
//! - **Equal operations in the order of their ends.** Of two with the same input and output that may come
//!   next, the one that must end first goes first; of two without an answer, the one that was called first.
//! - **Operations without an answer only where they help.** In an order with as few of them as possible each is followed by
//!   an operation that could not have come, or would have led elsewhere, without it. The search goes in layers: all
//!   configurations that need *n* of them, then those that need *n + 1*.
//! - **Dominance.** A configuration is dropped if one with the same answered operations and state is known that used
//!   fewer of those without an answer (Lowe's memory, sharpened). Against *k* timeouts this is the difference between
//!   2^k and a few.
//!
//! Sets are small because they are kept as a *frontier* (the operations after it have not taken effect) and *holes*
//! (those before it that have not): there are never more holes than clients.
//!
//! Nothing is decided by a hash alone: equal hashes are compared.

mod candidates;
mod configurations;

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::states::{ClassId, StateId, States};
use super::{Found, Place, Problem};
use crate::history::Moment;
use crate::limits::Limits;
use crate::model::Model;

/// An operation that returned, by its place in the order of their calls.
#[derive(Clone, Copy, Debug)]
struct Done {
    call: Moment,
    ret: Moment,
    class: ClassId,
    place: Place,
}

/// The operations of one class that did not return, by their calls.
#[derive(Debug)]
struct Open {
    class: ClassId,
    instances: Vec<(Moment, Place)>,
}

/// A configuration. Its lists lie in [`Search::lists`].
#[derive(Clone, Copy, Debug)]
struct Configuration {
    frontier: u32,
    state: StateId,
    /// Where its holes and, after them, its used open classes lie.
    lists: u32,
    holes: u32,
    used: u32,
    /// How it came about: the last element of a path.
    path: u32,
    /// The configuration of the same hash that was found before.
    earlier: u32,
}

/// A configuration while it is made.
#[derive(Clone, Debug)]
struct Draft {
    frontier: u32,
    state: StateId,
    holes: Vec<u32>,
    /// Which open classes were used, sorted, as often as they were used.
    used: Vec<u32>,
    path: u32,
}

/// One operation of a path, and what came before it.
#[derive(Clone, Copy, Debug)]
struct Step {
    before: u32,
    place: Place,
}

const NONE: u32 = u32::MAX;

/// A search, which can be interrupted and taken up again.
pub(crate) struct Search<'h, M: Model> {
    done: Vec<Done>,
    open: Vec<Open>,
    states: States<'h, M>,
    configurations: Vec<Configuration>,
    lists: Vec<u32>,
    seen: FxHashMap<u64, u32>,
    path: Vec<Step>,
    /// Configurations of this layer to go on from, the most promising last.
    now: Vec<u32>,
    /// Those that need one more operation without an answer.
    later: Vec<u32>,
    farthest: Farthest,
    goal: Option<u32>,
    steps: u64,
}

/// The path that got farthest: it passed all returns before this one.
#[derive(Clone, Copy, Debug)]
struct Farthest {
    deadline: Moment,
    passed: usize,
    path: u32,
    at: Place,
}

impl<'h, M: Model> Search<'h, M> {
    pub(crate) fn new(model: &'h M, problem: &Problem<'h, M>) -> Self {
        let mut states = States::new(model);
        let mut done = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        let mut open_of_class: FxHashMap<ClassId, usize> = FxHashMap::default();
        for place in problem.places() {
            let call = problem.call(place);
            let class = states.class(call.input, call.output);
            if call.is_open() {
                let index = *open_of_class.entry(class).or_insert(open.len());
                if index == open.len() {
                    open.push(Open { class, instances: Vec::new() });
                }
                open[index].instances.push((call.call, place));
            } else {
                done.push(Done { call: call.call, ret: call.ret, class, place });
            }
        }
        open.iter_mut().for_each(|open| open.instances.sort_unstable());
        let farthest = Farthest { deadline: Moment::BEGIN, passed: 0, path: NONE, at: Place(0) };
        let mut search = Self {
            done,
            open,
            states,
            configurations: Vec::new(),
            lists: Vec::new(),
            seen: FxHashMap::default(),
            path: Vec::new(),
            now: Vec::new(),
            later: Vec::new(),
            farthest,
            goal: None,
            steps: 0,
        };
        search.begin();
        search
    }

    fn begin(&mut self) {
        let draft = Draft {
            frontier: 0,
            state: States::<M>::INITIAL,
            holes: Vec::new(),
            used: Vec::new(),
            path: NONE,
        };
        if let Some(first) = self.enter(draft) {
            self.now.push(first);
        }
    }

    /// Goes on for so many steps. `None`: not decided yet.
    pub(crate) fn run(&mut self, budget: u64, limits: &Limits<'_>) -> Option<Found> {
        let end = self.steps.saturating_add(budget);
        for round in 1_u64.. {
            if let Some(path) = self.goal {
                return Some(Found::Order(self.order(path)));
            }
            if self.steps >= end {
                return None;
            }
            if round.is_multiple_of(256) {
                if (limits.expired)() {
                    return None;
                }
                if self.bytes() > limits.bytes_max {
                    return Some(Found::OutOfMemory);
                }
            }
            if self.now.is_empty() {
                std::mem::swap(&mut self.now, &mut self.later);
            }
            let Some(next) = self.now.pop() else {
                return Some(Found::Stuck(Some(self.stuck())));
            };
            self.expand(next);
        }
        unreachable!("the loop has no other end")
    }

    /// Transitions looked at so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.configurations.len() * (size_of::<Configuration>() + 24)
            + self.path.len() * size_of::<Step>()
            + self.lists.len() * 4
            + self.states.bytes()
    }

    /// Enters every configuration that may follow.
    fn expand(&mut self, id: u32) {
        let draft = self.draft(id);
        let mut candidates = self.candidates(&draft);
        for (open, state, used) in self.helpful(&draft, &candidates) {
            let mark = self.path.len();
            let next = self.with_open(&draft, open, state, used);
            match self.enter(next) {
                Some(next) => self.later.push(next),
                None => self.path.truncate(mark),
            }
        }
        // The one that must end first is tried first, so it is pushed last.
        candidates.done.sort_unstable_by_key(|(i, _)| Reverse(self.done[*i as usize].ret));
        for (i, state) in candidates.done {
            let mark = self.path.len();
            let next = self.with_done(&draft, i, state);
            match self.enter(next) {
                Some(next) => self.now.push(next),
                None => self.path.truncate(mark),
            }
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("the memory limit is met before 2^32 of anything")
}
