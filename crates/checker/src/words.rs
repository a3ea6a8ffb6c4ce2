//! Why a part breaks, in words a person would use.

use crate::check::HistoryOf;
use crate::history::{OpId, Operation};
use crate::model::{Access, Model};
use crate::value::Value;

/// One or more sentences.
pub(crate) fn why<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
    stuck: OpId,
    core: Option<&[OpId]>,
) -> String {
    let Some(core) = core else {
        return format!(
            "Everything up to the return of {} has an order; with it, no order is left.",
            tell(model, history, stuck)
        );
    };
    let case = Case { model, history, core };
    let plain = [
        Case::never_written,
        Case::before_its_write,
        Case::stale,
        Case::went_back,
        Case::lacks,
        Case::lost_update,
    ];
    plain.iter().find_map(|words| words(&case)).unwrap_or_else(|| case.any(stuck))
}

/// An operation with its client: `c3: read 1`.
pub(crate) fn tell<M: Model>(model: &M, history: &HistoryOf<M>, id: OpId) -> String {
    let operation = history.operation(id);
    format!("{} {}", operation.client, short(&label(model, operation), LABEL_MAX))
}

/// An operation in a few words.
pub(crate) fn label<M: Model>(model: &M, operation: &Operation<M::Input, M::Output>) -> String {
    model.describe(&operation.input, operation.outcome.output())
}

struct Case<'c, M: Model> {
    model: &'c M,
    history: &'c HistoryOf<M>,
    core: &'c [OpId],
}

impl<'c, M: Model> Case<'c, M> {
    fn access(&self, id: OpId) -> Access<'c> {
        let operation = self.history.operation(id);
        self.model.access(&operation.input, operation.outcome.output())
    }

    fn tell(&self, id: OpId) -> String {
        tell(self.model, self.history, id)
    }

    fn client(&self, id: OpId) -> String {
        self.history.operation(id).client.to_string()
    }

    fn precedes(&self, one: OpId, other: OpId) -> bool {
        self.history.operation(one).precedes(self.history.operation(other))
    }

    /// What somebody saw, if all that the core says is about one value that was seen.
    fn seen(&self) -> Option<(OpId, &'c Value)> {
        let mut seen = self.core.iter().filter_map(|id| match self.access(*id) {
            Access::Reads(value) => Some((*id, value)),
            _ => None,
        });
        let one = seen.next()?;
        seen.next().is_none().then_some(one)
    }

    fn never_written(&self) -> Option<String> {
        let (read, value) = self.seen()?;
        (self.core.len() == 1).then(|| {
            let (client, value) = (self.client(read), self::value(value));
            format!("{client} saw {value}, which was never there before {client} was answered.")
        })
    }

    fn before_its_write(&self) -> Option<String> {
        let (read, value) = self.seen()?;
        let [one, other] = self.core else { return None };
        let write = if *one == read { *other } else { *one };
        self.precedes(read, write).then(|| {
            format!(
                "{} saw {value} and was answered before {} began.",
                self.client(read),
                self.tell(write)
            )
        })
    }

    /// A value was seen although it had been overwritten: `W(a)` ended before `W(b)` began, which ended before the read began.
    fn stale(&self) -> Option<String> {
        let (read, value) = self.seen()?;
        let writes: Vec<_> = self.core.iter().copied().filter(|id| *id != read).collect();
        let writes_only = writes.iter().all(|id| matches!(self.access(*id), Access::Writes(_)));
        let last = *writes.iter().rev().find(|id| !writes_value(self.access(**id), value))?;
        let first_write = writes.iter().any(|id| writes_value(self.access(*id), value));
        (writes_only && writes.len() <= 2 && self.precedes(last, read)).then(|| {
            let (client, last) = (self.client(read), self.tell(last));
            let before = if first_write { "after that value had been written and " } else { "" };
            format!("A stale read: {client} saw {value}, although {before}before {client} asked, {last} had been done.")
        })
    }

    /// *a* was written or seen, somebody saw *b* after that, and somebody saw *a* again after that.
    fn went_back(&self) -> Option<String> {
        let [first, second, third] = *self.core else { return None };
        let (a, verb) = match self.access(first) {
            Access::Reads(value) => (value, "seen"),
            Access::Writes(value) => (value, "written"),
            _ => return None,
        };
        let (Access::Reads(b), Access::Reads(c)) = (self.access(second), self.access(third)) else {
            return None;
        };
        let in_turn = self.precedes(first, second) && self.precedes(second, third);
        let [first, second, third] = [first, second, third].map(|id| self.client(id));
        let [old, new] = [a, b].map(value);
        (in_turn && a == c).then(|| {
            format!(
                "The value went back: {third} saw {old}, although {second} had seen {new} before {third} asked, and {first} \
                 had {verb} {old} before that."
            )
        })
    }

    /// Somebody does not see what was there, or was appended, before it asked.
    fn lacks(&self) -> Option<String> {
        let [one, other] = self.core else { return None };
        let (first, read) =
            if self.precedes(*one, *other) { (*one, *other) } else { (*other, *one) };
        let (Access::Reads(seen), true) = (self.access(read), self.precedes(first, read)) else {
            return None;
        };
        let client = self.client(read);
        match self.access(first) {
            Access::Reads(more) if begins(seen, more) => Some(format!(
                "{client} saw less than {} had seen before {client} asked: {}, then {}.",
                self.client(first),
                value(more),
                value(seen)
            )),
            Access::Appends(_) => Some(format!(
                "{client} saw {}, without what {} did before {client} asked: {}.",
                value(seen),
                self.client(first),
                self.tell(first)
            )),
            _ => None,
        }
    }

    /// Two clients swapped from one and the same value, which was there once.
    fn lost_update(&self) -> Option<String> {
        let [one, other] = *self.core else { return None };
        let (Access::Swaps(found, _), Access::Swaps(again, _)) =
            (self.access(one), self.access(other))
        else {
            return None;
        };
        (found == again).then(|| {
            let [first, second] = [one, other].map(|id| self.tell(id));
            let found = value(found);
            format!(
                "A lost update: {first} and {second} both found {found}, which was there only once; \
                 the one that came first was overwritten unseen."
            )
        })
    }

    fn any(&self, stuck: OpId) -> String {
        let count = self.core.len();
        if count > TOLD_MAX {
            return format!(
                "{count} operations contradict each other, whatever else happened; the last of them to return is {}.",
                self.tell(stuck)
            );
        }
        let list: Vec<_> = self.core.iter().map(|id| self.tell(*id)).collect();
        format!(
            "These {count} operations contradict each other, whatever else happened: {}.{}",
            list.join("; "),
            self.time_order()
        )
    }

    /// Which of them had ended before which others began: what no order may turn around.
    fn time_order(&self) -> String {
        let mut facts = Vec::new();
        for (i, one) in self.core.iter().enumerate() {
            let next = self.core[i + 1..].iter().find(|other| self.precedes(*one, **other));
            facts.extend(next.map(|next| {
                format!("{} was answered before {} began", self.tell(*one), self.tell(*next))
            }));
        }
        if facts.is_empty() { String::new() } else { format!(" {}.", facts.join("; ")) }
    }
}

fn writes_value(access: Access<'_>, value: &Value) -> bool {
    matches!(access, Access::Writes(written) if written == value)
}

/// Whether one text or list is the beginning of another.
fn begins(less: &Value, more: &Value) -> bool {
    match (less, more) {
        (Value::Text(less), Value::Text(more)) => more.starts_with(&**less),
        (Value::List(less), Value::List(more)) => more.starts_with(less),
        _ => false,
    }
}

fn value(value: &Value) -> String {
    short(&value.to_string(), LABEL_MAX)
}

/// Longer texts are cut in the middle; their ends tell more than their beginnings.
pub(crate) fn short(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let begin: String = text.chars().take(max / 3).collect();
    let end: String = text.chars().skip(count - max / 2).collect();
    format!("{begin} … {end}")
}

const LABEL_MAX: usize = 48;
/// More operations are not told one by one.
const TOLD_MAX: usize = 5;
