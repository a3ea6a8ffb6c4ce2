//! States and transitions, each computed and kept once, so that a configuration holds a number instead of a state.

use std::hash::{BuildHasher, Hash};

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::model::{Model, Step};

/// A state, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct StateId(pub(crate) u32);

/// What an operation asks and is answered, by number: operations of one class are interchangeable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ClassId(pub(crate) u32);

type Class<'h, M> = (&'h <M as Model>::Input, Option<&'h <M as Model>::Output>);

/// The states met so far.
pub(crate) struct States<'h, M: Model> {
    model: &'h M,
    states: Vec<M::State>,
    /// The state of the same hash that was met before, if any.
    earlier: Vec<Option<StateId>>,
    by_hash: FxHashMap<u64, StateId>,
    classes: Vec<Class<'h, M>>,
    class_ids: FxHashMap<Class<'h, M>, ClassId>,
    observers: Vec<bool>,
    transitions: FxHashMap<(StateId, ClassId), Option<StateId>>,
    bytes: usize,
}

impl<'h, M: Model> States<'h, M> {
    /// Knows the initial state only, which is number 0.
    pub(crate) fn new(model: &'h M) -> Self {
        let mut states = Self {
            model,
            states: Vec::new(),
            earlier: Vec::new(),
            by_hash: FxHashMap::default(),
            classes: Vec::new(),
            class_ids: FxHashMap::default(),
            observers: Vec::new(),
            transitions: FxHashMap::default(),
            bytes: 0,
        };
        states.id(model.initial());
        states
    }

    pub(crate) const INITIAL: StateId = StateId(0);

    pub(crate) fn class(&mut self, input: &'h M::Input, output: Option<&'h M::Output>) -> ClassId {
        let next = ClassId(number(self.classes.len()));
        let class = *self.class_ids.entry((input, output)).or_insert(next);
        if class == next {
            self.classes.push((input, output));
            self.observers.push(self.model.observes(input, output));
        }
        class
    }

    /// Whether operations of this class change nothing, wherever they can come.
    pub(crate) fn observes(&self, class: ClassId) -> bool {
        self.observers[class.0 as usize]
    }

    /// The state after an operation of this class; `None` if it cannot come next.
    pub(crate) fn after(&mut self, state: StateId, class: ClassId) -> Option<StateId> {
        if let Some(known) = self.transitions.get(&(state, class)) {
            return *known;
        }
        let (input, output) = self.classes[class.0 as usize];
        let next = match self.model.step(&self.states[state.0 as usize], input, output) {
            Step::Impossible => None,
            Step::Stays => Some(state),
            Step::Moves(next) => Some(self.id(next)),
        };
        self.transitions.insert((state, class), next);
        self.bytes += TRANSITION_BYTES;
        next
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn id(&mut self, state: M::State) -> StateId {
        let hash = FxBuildHasher.hash_one(&state);
        let first = self.by_hash.get(&hash).copied();
        let mut same_hash = first;
        while let Some(id) = same_hash {
            if self.states[id.0 as usize] == state {
                return id;
            }
            same_hash = self.earlier[id.0 as usize];
        }
        let id = StateId(number(self.states.len()));
        self.bytes += self.model.state_bytes(&state) + STATE_BYTES;
        self.states.push(state);
        self.earlier.push(first);
        self.by_hash.insert(hash, id);
        id
    }
}

const TRANSITION_BYTES: usize = 24;
/// What is kept with each state: the number of an earlier one, an entry by hash.
const STATE_BYTES: usize = 40;

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("the memory limit is met before 2^32 states")
}
