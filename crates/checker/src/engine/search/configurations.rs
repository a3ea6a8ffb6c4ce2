//! Configurations: made, compared with those that are known, kept; and the paths on which they were found.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::{Configuration, Draft, Farthest, NONE, Search, Step, number};
use crate::engine::states::{ClassId, StateId};
use crate::engine::{Place, Stuck};
use crate::history::Moment;
use crate::model::Model;

impl Draft {
    pub(super) fn times_used(&self, open: u32) -> usize {
        self.used.iter().filter(|used| **used == open).count()
    }

    fn key_hash(&self) -> u64 {
        let mut hasher = FxHasher::default();
        (self.frontier, self.state).hash(&mut hasher);
        self.holes.hash(&mut hasher);
        hasher.finish()
    }
}

impl<M: Model> Search<'_, M> {
    pub(super) fn after(&mut self, state: StateId, class: ClassId) -> Option<StateId> {
        self.steps += 1;
        self.states.after(state, class)
    }

    /// A configuration to go on from.
    pub(super) fn draft(&self, id: u32) -> Draft {
        let configuration = self.configurations[id as usize];
        Draft {
            frontier: configuration.frontier,
            state: configuration.state,
            holes: self.holes(&configuration).to_vec(),
            used: self.used(&configuration).to_vec(),
            path: configuration.path,
        }
    }

    fn holes(&self, configuration: &Configuration) -> &[u32] {
        &self.lists[configuration.lists as usize..][..configuration.holes as usize]
    }

    fn used(&self, configuration: &Configuration) -> &[u32] {
        let at = configuration.lists as usize + configuration.holes as usize;
        &self.lists[at..][..configuration.used as usize]
    }

    /// The configuration after an operation that returned.
    pub(super) fn with_done(&mut self, draft: &Draft, i: u32, state: StateId) -> Draft {
        let place = self.done[i as usize].place;
        let mut next = Draft { state, path: self.step(draft.path, place), ..draft.clone() };
        next.take(i);
        next
    }

    /// The configuration after one that did not.
    pub(super) fn with_open(
        &mut self,
        draft: &Draft,
        open: u32,
        state: StateId,
        times_used: usize,
    ) -> Draft {
        let (_, place) = self.open[open as usize].instances[times_used];
        let mut next = Draft { state, path: self.step(draft.path, place), ..draft.clone() };
        let at = next.used.partition_point(|used| *used < open);
        next.used.insert(at, open);
        next
    }

    /// Takes in what only observes, and keeps the configuration unless one as good is known.
    pub(super) fn enter(&mut self, mut draft: Draft) -> Option<u32> {
        let deadline = self.absorb(&mut draft);
        let hash = draft.key_hash();
        let earlier = self.seen.get(&hash).copied().unwrap_or(NONE);
        if self.is_dominated(&draft, earlier) {
            return None;
        }
        let id = number(self.configurations.len());
        self.configurations.push(Configuration {
            frontier: draft.frontier,
            state: draft.state,
            lists: number(self.lists.len()),
            holes: number(draft.holes.len()),
            used: number(draft.used.len()),
            path: draft.path,
            earlier,
        });
        self.lists.extend_from_slice(&draft.holes);
        self.lists.extend_from_slice(&draft.used);
        self.seen.insert(hash, id);
        self.remember_farthest(&draft, deadline);
        Some(id)
    }

    /// Lets everything take effect that may come next and only observes. Gives the first return among
    /// what is left, with its operation.
    fn absorb(&mut self, draft: &mut Draft) -> Option<(Moment, Place)> {
        let holes = std::mem::take(&mut draft.holes);
        let mut left: Vec<u32> = Vec::with_capacity(holes.len());
        let mut deadline: Option<(Moment, Place)> = None;
        let beyond = draft.frontier..number(self.done.len());
        for i in holes.into_iter().chain(beyond) {
            let done = self.done[i as usize];
            if deadline.is_some_and(|(ret, _)| done.call > ret) {
                break;
            }
            if self.states.observes(done.class)
                && self.after(draft.state, done.class) == Some(draft.state)
            {
                draft.path = self.step(draft.path, done.place);
                draft.frontier = draft.frontier.max(i + 1);
            } else {
                left.push(i);
                if deadline.is_none_or(|(ret, _)| done.ret < ret) {
                    deadline = Some((done.ret, done.place));
                }
            }
        }
        left.truncate(left.partition_point(|i| *i < draft.frontier));
        draft.holes = left;
        deadline
    }

    /// Whether one of these configurations has the same answered operations and state, and used no more of the others.
    fn is_dominated(&self, draft: &Draft, mut id: u32) -> bool {
        while id != NONE {
            let known = &self.configurations[id as usize];
            if (known.frontier, known.state) == (draft.frontier, draft.state)
                && self.holes(known) == draft.holes
                && is_subset(self.used(known), &draft.used)
            {
                return true;
            }
            id = known.earlier;
        }
        false
    }

    fn remember_farthest(&mut self, draft: &Draft, deadline: Option<(Moment, Place)>) {
        let Some((deadline, at)) = deadline else {
            self.goal = Some(draft.path);
            return;
        };
        let passed = draft.frontier as usize - draft.holes.len();
        if (deadline, passed) > (self.farthest.deadline, self.farthest.passed) {
            self.farthest = Farthest { deadline, passed, path: draft.path, at };
        }
    }

    fn step(&mut self, before: u32, place: Place) -> u32 {
        self.path.push(Step { before, place });
        number(self.path.len() - 1)
    }

    /// The operations of a path, from its beginning.
    pub(super) fn order(&self, mut end: u32) -> Vec<Place> {
        let mut order = Vec::new();
        while end != NONE {
            let Step { before, place } = self.path[end as usize];
            order.push(place);
            end = before;
        }
        order.reverse();
        order
    }

    pub(super) fn stuck(&self) -> Stuck {
        Stuck { order: self.order(self.farthest.path), at: self.farthest.at }
    }
}

impl Draft {
    fn take(&mut self, i: u32) {
        if i < self.frontier {
            self.holes.retain(|hole| *hole != i);
        } else {
            self.holes.extend(self.frontier..i);
            self.frontier = i + 1;
        }
    }
}

/// Whether a sorted list has no more of anything than another.
fn is_subset(few: &[u32], many: &[u32]) -> bool {
    let mut many = many.iter();
    few.iter().all(|one| many.any(|other| other == one))
}
