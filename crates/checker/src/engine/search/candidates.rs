//! Which operations may come next, and which of them are worth trying.

use super::{Done, Draft, Open, Search, number};
use crate::engine::states::StateId;
use crate::history::Moment;
use crate::model::Model;

/// What may come next.
pub(super) struct Candidates {
    /// Indexes into `done`, with the state they lead to.
    pub(super) done: Vec<(u32, StateId)>,
    /// Indexes into `done` of those that cannot come next in this state.
    pub(super) blocked: Vec<u32>,
    /// Indexes into `open`, with the state they lead to, and how many were used.
    pub(super) open: Vec<(u32, StateId, usize)>,
    pub(super) deadline: Moment,
}

impl<M: Model> Search<'_, M> {
    /// Operations that were called before the first return among those that have not taken effect.
    pub(super) fn candidates(&mut self, draft: &Draft) -> Candidates {
        let (mut done, mut blocked) = (Vec::new(), Vec::new());
        let mut deadline = Moment::NEVER;
        let beyond = draft.frontier..number(self.done.len());
        for i in draft.holes.iter().copied().chain(beyond) {
            let Done { call, ret, class, .. } = self.done[i as usize];
            if call > deadline {
                break;
            }
            deadline = deadline.min(ret);
            match self.after(draft.state, class) {
                Some(state) => self.add_unless_equal(&mut done, i, state),
                None => blocked.push(i),
            }
        }
        let open = self.open_candidates(draft, deadline);
        Candidates { done, blocked, open, deadline }
    }

    /// Of equal operations the one that must end first stands for all.
    fn add_unless_equal(&self, done: &mut Vec<(u32, StateId)>, i: u32, state: StateId) {
        let Done { class, ret, .. } = self.done[i as usize];
        match done.iter_mut().find(|(other, _)| self.done[*other as usize].class == class) {
            None => done.push((i, state)),
            Some((other, _)) if ret < self.done[*other as usize].ret => *other = i,
            Some(_) => {}
        }
    }

    fn open_candidates(&mut self, draft: &Draft, deadline: Moment) -> Vec<(u32, StateId, usize)> {
        let mut found = Vec::new();
        for index in 0..number(self.open.len()) {
            let used = draft.times_used(index);
            if let Some(state) = self.after_open(draft.state, index, used, deadline) {
                found.push((index, state, used));
            }
        }
        found
    }

    /// The other state to which an operation without an answer leads, if it has been called by now.
    fn after_open(
        &mut self,
        state: StateId,
        index: u32,
        used: usize,
        deadline: Moment,
    ) -> Option<StateId> {
        let Open { class, instances } = &self.open[index as usize];
        let (class, called) =
            (*class, instances.get(used).is_some_and(|(call, _)| *call < deadline));
        called.then(|| self.after(state, class)).flatten().filter(|after| *after != state)
    }

    /// Those without an answer after which something can come that could not have come, or would have led
    /// elsewhere, without them.
    pub(super) fn helpful(
        &mut self,
        draft: &Draft,
        candidates: &Candidates,
    ) -> Vec<(u32, StateId, usize)> {
        let open = candidates.open.iter().copied();
        open.filter(|(index, state, _)| {
            self.helps_done(draft.state, *state, candidates)
                || self.helps_open(draft, *index, *state, candidates.deadline)
        })
        .collect()
    }

    fn helps_done(&mut self, without: StateId, with: StateId, candidates: &Candidates) -> bool {
        let done = candidates.done.iter().map(|(i, _)| i).chain(&candidates.blocked);
        done.copied().any(|i| {
            let class = self.done[i as usize].class;
            let after = self.after(with, class);
            after.is_some() && after != self.after(without, class)
        })
    }

    fn helps_open(&mut self, draft: &Draft, one: u32, with: StateId, deadline: Moment) -> bool {
        (0..number(self.open.len())).any(|next| {
            let used = draft.times_used(next) + usize::from(next == one);
            let after = self.after_open(with, next, used, deadline);
            after.is_some() && after != self.after(draft.state, self.open[next as usize].class)
        })
    }
}
