//! What a check came to.

use std::fmt;

use crate::engine::Engine;
use crate::history::OpId;

/// Yes, no, or undecided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// There is an order that explains everything (LIN-1).
    Linearizable,
    /// There is none.
    NotLinearizable,
    /// A limit was met first.
    Unknown,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linearizable => "linearizable",
            Self::NotLinearizable => "not linearizable",
            Self::Unknown => "unknown",
        })
    }
}

/// What a check came to, part by part.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// About the whole history: no if one part says no.
    pub answer: Answer,
    /// The parts, by key. One without a key if the object is one piece.
    pub parts: Vec<Part>,
    /// Steps of the model that the searches took.
    pub steps: u64,
}

impl Verdict {
    /// Whether the answer is yes.
    pub fn is_linearizable(&self) -> bool {
        self.answer == Answer::Linearizable
    }

    /// The parts that were shown to be wrong.
    pub fn breaches(&self) -> impl Iterator<Item = (&Part, &Breach)> {
        self.parts.iter().filter_map(|part| Some((part, part.breach.as_ref()?)))
    }
}

/// What became of one part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its key, if the object falls into parts.
    pub key: Option<String>,
    /// About this part alone.
    pub answer: Answer,
    /// How it was decided.
    pub engine: Engine,
    /// Its operations, by their calls.
    pub operations: Vec<OpId>,
    /// An order that explains the part, or, if there is none, the longest prefix of it that has one.
    pub order: Vec<OpId>,
    /// Where it breaks, if it does.
    pub breach: Option<Breach>,
}

/// Where a part breaks.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Everything before this operation's return can be explained, and with it nothing can.
    pub stuck: OpId,
    /// A sub-history that already fails: whatever else happened or did not happen, at any time, these operations
    /// contradict each other, and each of them is needed for it. `None` if the limits did not allow to find it.
    pub core: Option<Vec<OpId>>,
    /// Why, in words.
    pub why: String,
    /// The operations that might have come next after [`Part::order`], and why each could not.
    pub refused: Vec<(OpId, String)>,
}
