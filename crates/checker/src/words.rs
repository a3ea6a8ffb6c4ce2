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
    case.never_written()
        .or_else(|| case.before_its_write())
        .or_else(|| case.stale())
        .unwrap_or_else(|| case.any())
}

/// An operation with its client: `c3: read 1`.
pub(crate) fn tell<M: Model>(model: &M, history: &HistoryOf<M>, id: OpId) -> String {
    let operation = history.operation(id);
    format!("{} {}", operation.client, label(model, operation))
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
            let client = self.client(read);
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

    fn any(&self) -> String {
        let list: Vec<_> = self.core.iter().map(|id| self.tell(*id)).collect();
        format!(
            "These {} operations contradict each other, whatever else happened: {}. {}",
            list.len(),
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
        if facts.is_empty() { String::new() } else { format!("{}.", facts.join("; ")) }
    }
}

fn writes_value(access: Access<'_>, value: &Value) -> bool {
    matches!(access, Access::Writes(written) if written == value)
}
