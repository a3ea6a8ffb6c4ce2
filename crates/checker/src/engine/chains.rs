//! The polynomial way, for variables whose written values are all different (after Gibbons & Korach 1997).
//!
//! If every value was written once, a read tells which write it saw. The operations then fall into *chains*: a write, the reads
//! of its value, the compare-and-set or append that went on from it, the reads of that, and so on. Nothing else can
//! come between the operations of a chain, and their order within it is known. So only whole chains have to
//! be put into order:
//!
//! ```text
//!   chain B must come before chain C    if some operation of B ended before one of C began,
//!                                       that is, if first_return(B) < last_call(C)
//! ```
//!
//! If there is an order it is found from front to back ([`in_order`]). The chain of the initial value comes first. An append that
//! no read saw stands at the end of some chain, where it matters to nobody: it is a chain of its own.
//!
//! Not here: deletions, failed compare-and-sets and values written twice; `search` decides those.

use rustc_hash::FxHashMap;

use super::tokens::Tokens;
use super::{Found, Place, Problem};
use crate::history::Moment;
use crate::model::{Access, Model};
use crate::value::Value;

/// `None` if the history is not of that kind.
pub(super) fn decide<M: Model>(model: &M, problem: &Problem<'_, M>) -> Option<Found> {
    let accesses: Vec<_> =
        problem.calls.iter().map(|call| model.access(call.input, call.output)).collect();
    let initial = model.initial_value()?;
    let is_append = |access: &Access<'_>| matches!(access, Access::Appends(_));
    let values = if accesses.iter().any(is_append) {
        Values::from_appends(problem, &accesses, &initial)?
    } else {
        Values::from_writes(problem, &accesses, &initial)?
    };
    let order = values.and_then(|values| values.chains(problem)).and_then(in_order);
    Some(order.map_or(Found::Stuck(None), Found::Order))
}

/// The values that the variable had, numbered; 0 is the initial one.
struct Values {
    values: Vec<Written>,
}

/// One value: who wrote it, what was there before, who saw it.
#[derive(Clone, Default)]
struct Written {
    writer: Option<Place>,
    /// The value that must have been there right before.
    before: Option<u32>,
    readers: Vec<Place>,
}

const INITIAL: u32 = 0;

/// `None` where the history contradicts itself. (An `Option` around it is `None` where the history is not of the right kind.)
type Contradiction<T> = Option<T>;

impl Values {
    fn from_writes<'a, M: Model>(
        problem: &Problem<'_, M>,
        accesses: &[Access<'a>],
        initial: &'a Value,
    ) -> Option<Contradiction<Self>> {
        let mut values = Self { values: vec![Written::default()] };
        let mut numbers = FxHashMap::from_iter([(initial, INITIAL)]);
        let mut number = |value: &'a Value, values: &mut Self| {
            *numbers.entry(value).or_insert_with(|| values.add())
        };
        for (place, access) in problem.places().zip(accesses) {
            let (value, before) = match access {
                // A read that has not ended tells nothing.
                Access::Reads(_) | Access::Nothing if problem.call(place).is_open() => continue,
                Access::Reads(value) => {
                    let value = number(value, &mut values);
                    values.values[value as usize].readers.push(place);
                    continue;
                }
                Access::Writes(value) => (number(value, &mut values), None),
                Access::Swaps(from, to) if from != to => {
                    (number(to, &mut values), Some(number(from, &mut values)))
                }
                _ => return None,
            };
            values.write(value, before, place)?;
        }
        Some(Some(values))
    }

    /// Value *i + 1* is the one that was there after the *i*-th write or append.
    fn from_appends<M: Model>(
        problem: &Problem<'_, M>,
        accesses: &[Access<'_>],
        initial: &Value,
    ) -> Option<Contradiction<Self>> {
        let written = accesses.iter().filter_map(|access| match access {
            Access::Writes(value) | Access::Appends(value) => Some(*value),
            _ => None,
        });
        let tokens = Tokens::of(&written.collect::<Vec<_>>())?;
        let mut values = Self { values: vec![Written::default()] };
        let mut appended = vec![false];
        let mut reads = Vec::new();
        for (place, access) in problem.places().zip(accesses) {
            match access {
                Access::Reads(_) | Access::Nothing if problem.call(place).is_open() => {}
                Access::Reads(value) => reads.push((place, *value)),
                Access::Writes(_) | Access::Appends(_) => {
                    let value = values.add();
                    values.write(value, None, place)?;
                    appended.push(matches!(access, Access::Appends(_)));
                }
                _ => return None,
            }
        }
        if !tokens.take_apart(initial)?.is_empty() {
            return None;
        }
        let all_seen = reads.iter().try_for_each(|(place, value)| {
            let seen =
                tokens.take_apart(value).filter(|seen| !seen.is_empty() || *value == initial)?;
            values.see(*place, &seen, &appended)
        });
        Some(all_seen.map(|()| values))
    }

    fn add(&mut self) -> u32 {
        self.values.push(Written::default());
        u32::try_from(self.values.len() - 1).expect("there are fewer values than operations")
    }

    /// `None` if it was written before, or was there from the beginning.
    fn write(&mut self, value: u32, before: Option<u32>, writer: Place) -> Option<()> {
        let written = &mut self.values[value as usize];
        if value == INITIAL || written.writer.is_some() {
            return None;
        }
        (written.writer, written.before) = (Some(writer), before);
        Some(())
    }

    /// A read saw these tokens one after the other. `None`: that contradicts another read, or cannot be.
    fn see(&mut self, reader: Place, tokens: &[u32], appended: &[bool]) -> Contradiction<()> {
        let mut before = INITIAL;
        for (i, token) in tokens.iter().enumerate() {
            let value = token + 1;
            let is_append = appended[value as usize];
            let known = &mut self.values[value as usize].before;
            match (is_append, i, *known) {
                (true, _, None) => *known = Some(before),
                (true, _, Some(known)) if known == before => {}
                (false, 0, _) => {}
                _ => return None,
            }
            before = value;
        }
        self.values[before as usize].readers.push(reader);
        Some(())
    }

    /// The chains, that of the initial value first. `None` if the operations of one contradict each other.
    fn chains<M: Model>(&self, problem: &Problem<'_, M>) -> Contradiction<Vec<Chain>> {
        let happened = self.happened(problem)?;
        let mut after: Vec<Option<u32>> = vec![None; self.values.len()];
        let mut first = Vec::new();
        for value in (0..).take(self.values.len()).filter(|value| happened[*value as usize]) {
            match self.values[value as usize].before {
                None => first.push(value),
                Some(before) if after[before as usize].is_none() => {
                    after[before as usize] = Some(value);
                }
                // Two operations cannot both have gone on from one value.
                Some(_) => return None,
            }
        }
        let mut count = 0;
        let chains: Contradiction<Vec<_>> = first
            .into_iter()
            .map(|first| {
                let mut chain = Chain::new();
                let mut next = Some(first);
                while let Some(value) = next {
                    chain.add(problem, &self.values[value as usize])?;
                    count += 1;
                    next = after[value as usize];
                }
                Some(chain)
            })
            .collect();
        // What is left goes round in a circle and has no beginning.
        let all = happened.iter().filter(|happened| **happened).count();
        chains.filter(|_| count == all)
    }

    /// Which values were there at some time: the initial one, those whose writer was told so, and those that somebody saw or
    /// went on from. `None` if one of them was never written.
    fn happened<M: Model>(&self, problem: &Problem<'_, M>) -> Contradiction<Vec<bool>> {
        let mut happened = vec![false; self.values.len()];
        for (i, written) in self.values.iter().enumerate() {
            let is_certain = i == INITIAL as usize
                || !written.readers.is_empty()
                || written.writer.is_some_and(|writer| !problem.call(writer).is_open());
            let mut next = is_certain.then_some(i);
            while let Some(value) = next.filter(|value| !happened[*value]) {
                happened[value] = true;
                if value != INITIAL as usize {
                    self.values[value].writer?;
                }
                next = self.values[value].before.map(|before| before as usize);
            }
        }
        Some(happened)
    }
}

/// Operations that stand next to each other in every order.
struct Chain {
    order: Vec<Place>,
    first_return: Moment,
    last_call: Moment,
}

impl Chain {
    fn new() -> Self {
        Self { order: Vec::new(), first_return: Moment::NEVER, last_call: Moment::BEGIN }
    }

    /// The write of the next value, and its reads. `None` if one of them ended before what comes before it began.
    fn add<M: Model>(&mut self, problem: &Problem<'_, M>, written: &Written) -> Contradiction<()> {
        if let Some(writer) = written.writer {
            self.add_one(problem, writer, self.last_call)?;
        }
        // Reads of one value come in the order of their calls, which contradicts nothing.
        let all_before = self.last_call;
        for reader in &written.readers {
            self.add_one(problem, *reader, all_before)?;
        }
        Some(())
    }

    fn add_one<M: Model>(
        &mut self,
        problem: &Problem<'_, M>,
        place: Place,
        last_call_before: Moment,
    ) -> Contradiction<()> {
        let call = problem.call(place);
        if call.ret < last_call_before {
            return None;
        }
        self.order.push(place);
        self.first_return = self.first_return.min(call.ret);
        self.last_call = self.last_call.max(call.call);
        Some(())
    }
}

/// All operations in order, the first chain first. `None` if no order of the chains respects time.
///
/// A chain can come first if its last call is not after the first return of any other. If any can, then so can the one with
/// the earliest last call, or the one with the earliest first return.
fn in_order(chains: Vec<Chain>) -> Contradiction<Vec<Place>> {
    let by = |key: fn(&Chain) -> Moment| {
        let mut places: Vec<usize> = (1..chains.len()).collect();
        places.sort_by_key(|i| key(&chains[*i]));
        Left { places, next: 0 }
    };
    let (mut by_call, mut by_return) = (by(|c| c.last_call), by(|c| c.first_return));
    let mut placed = vec![false; chains.len()];
    let mut order = vec![0];
    while order.len() <= chains.len() {
        let last = *order.last()?;
        placed[last] = true;
        let first_returns = by_return.first_two(&placed);
        let comes_first = |chain: usize| {
            let others = first_returns.iter().flatten().find(|other| **other != chain);
            others.is_none_or(|other| chains[chain].last_call <= chains[*other].first_return)
        };
        if order.len() == 1 && !comes_first(last) {
            return None;
        }
        let candidates = [by_call.first_two(&placed)[0], first_returns[0]];
        match candidates.into_iter().flatten().find(|chain| comes_first(*chain)) {
            Some(chain) => order.push(chain),
            None if order.len() == chains.len() => break,
            None => return None,
        }
    }
    Some(order.into_iter().flat_map(|chain| chains[chain].order.iter().copied()).collect())
}

/// Chains in some order, of which those that were placed are passed over.
struct Left {
    places: Vec<usize>,
    next: usize,
}

impl Left {
    fn first_two(&mut self, placed: &[bool]) -> [Option<usize>; 2] {
        while self.places.get(self.next).is_some_and(|chain| placed[*chain]) {
            self.next += 1;
        }
        let mut left = self.places[self.next..].iter().copied().filter(|chain| !placed[*chain]);
        [left.next(), left.next()]
    }
}
