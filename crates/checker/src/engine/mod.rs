//! Deciding one part of a history: [`chains`] where written values are unique, [`search`] otherwise.
//!
//! | module | what it is |
//! | --- | --- |
//! | `problem` | the operations of one part, as both engines see them; its prefixes and relaxations |
//! | `chains` | polynomial: values written once put the operations into chains, chains into order |
//! | `search` | complete for every model: Wing & Gong's search with Lowe's memory of configurations, and more |
//! | `states` | states and transitions, each computed once |
//! | `replay` | every order that is found is run through the model before it is believed |

mod chains;
mod problem;
mod replay;
mod search;
mod states;
mod tokens;

pub(crate) use problem::{Place, Problem};
pub(crate) use replay::{proves, states_after_each, states_along};

use crate::limits::Limits;
use crate::model::Model;
use search::Search;

/// How a part was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// By the order that unique values impose.
    Chains,
    /// By search.
    Search,
}

/// What an engine found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// An order of the operations that explains the history.
    Order(Vec<Place>),
    /// There is none. What is known of how far one gets, if the engine knows.
    Stuck(Option<Stuck>),
    /// It would take more memory than allowed.
    OutOfMemory,
}

/// As far as any order gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    /// An order of the longest prefix of the history that has one.
    pub(crate) order: Vec<Place>,
    /// The operation whose return ends that prefix: with it, no order is left.
    pub(crate) at: Place,
}

/// A part on its way to a decision. It can be asked to go on for a while, so that no part waits for another.
pub(crate) enum Decider<'h, M: Model> {
    Chained(Option<Found>),
    Searching(Box<Search<'h, M>>),
}

impl<'h, M: Model> Decider<'h, M> {
    pub(crate) fn new(model: &'h M, problem: &Problem<'h, M>) -> Self {
        match chains::decide(model, problem) {
            Some(found) => Self::Chained(Some(found)),
            None => Self::Searching(Box::new(Search::new(model, problem))),
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Chained(_) => Engine::Chains,
            Self::Searching(_) => Engine::Search,
        }
    }

    /// Goes on for so many steps. `None`: not decided yet.
    pub(crate) fn run(&mut self, steps: u64, limits: &Limits<'_>) -> Option<Found> {
        match self {
            Self::Chained(found) => found.take(),
            Self::Searching(search) => search.run(steps, limits),
        }
    }

    /// Transitions looked at so far.
    pub(crate) fn steps(&self) -> u64 {
        match self {
            Self::Chained(_) => 0,
            Self::Searching(search) => search.steps(),
        }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Chained(_) => 0,
            Self::Searching(search) => search.bytes(),
        }
    }
}
