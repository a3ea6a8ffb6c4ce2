//! What models whose state is a map of parts have in common. A part in its initial state is not in the map, so that equal states are
//! equal maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::Step;
use crate::value::Value;

/// Parts by their names.
pub(super) type Parts<S> = BTreeMap<Arc<str>, S>;

/// The step of one part, as one of the whole.
pub(super) fn step<S: Clone + PartialEq>(
    parts: &Parts<S>,
    name: &Arc<str>,
    initial: &S,
    step: impl FnOnce(&S) -> Step<S>,
) -> Step<Parts<S>> {
    match step(parts.get(name).unwrap_or(initial)) {
        Step::Impossible => Step::Impossible,
        Step::Stays => Step::Stays,
        Step::Moves(next) => {
            let mut parts = parts.clone();
            if next == *initial {
                parts.remove(name);
            } else {
                parts.insert(name.clone(), next);
            }
            Step::Moves(parts)
        }
    }
}

/// A map of values in a few words.
pub(super) fn describe(values: &Parts<Value>) -> String {
    let entries: Vec<_> = values.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    if entries.is_empty() { "empty".to_owned() } else { entries.join(", ") }
}

/// About how many bytes a map of values takes.
pub(super) fn bytes(values: &Parts<Value>) -> usize {
    size_of::<Parts<Value>>() + values.iter().map(|(k, v)| k.len() + v.bytes() + 64).sum::<usize>()
}
