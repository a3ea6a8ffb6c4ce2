//! A few operations as text: what a terminal, a log or a golden test can show.
//!
//! ```text
//!   c1  ├ write 1 ┤
//!   c2              ├ write 2 ┤
//!   c3                          ├ read = 1 ┤
//! ```
//!
//! Not to scale: left and right tell which came first, nothing else.

use std::collections::BTreeMap;

use crate::check::HistoryOf;
use crate::history::{Moment, OpId};
use crate::model::Model;
use crate::words::{label, short};

/// Lines with a row for each client.
pub fn timeline<M: Model>(model: &M, history: &HistoryOf<M>, ids: &[OpId]) -> Vec<String> {
    let labels: BTreeMap<_, _> =
        ids.iter().map(|id| (*id, short(&label(model, history.operation(*id)), 40))).collect();
    let columns = columns(history, &labels);
    let width = columns.values().map(|(_, to)| *to).max().unwrap_or(0);
    let mut rows: BTreeMap<(crate::ClientId, usize), String> = BTreeMap::new();
    for (id, (from, to)) in &columns {
        let operation = history.operation(*id);
        let is_open = operation.ret == Moment::NEVER;
        let end = if is_open { width + 3 } else { *to };
        let bar = bar(&labels[id], end - from + 1, is_open);
        let row = (0..)
            .find(|row| rows.get(&(operation.client, *row)).is_none_or(|line| count(line) <= *from))
            .expect("a new row is free");
        let line = rows.entry((operation.client, row)).or_default();
        line.push_str(&" ".repeat(from - count(line)));
        line.push_str(&bar);
    }
    let name_width = rows.keys().map(|(client, _)| client.to_string().len()).max().unwrap_or(0);
    let named = rows.into_iter().map(|((client, row), line)| {
        let name = if row == 0 { client.to_string() } else { String::new() };
        format!("{name:name_width$}  {line}")
    });
    named.collect()
}

/// The columns of the calls and returns: in the order of the events, as far apart as the labels need.
fn columns<I, O>(
    history: &crate::History<I, O>,
    labels: &BTreeMap<OpId, String>,
) -> BTreeMap<OpId, (usize, usize)> {
    let mut events: Vec<_> = labels
        .keys()
        .flat_map(|id| {
            let operation = history.operation(*id);
            [(operation.call, *id), (operation.ret, *id)]
        })
        .collect();
    events.sort_unstable();
    let mut columns: BTreeMap<OpId, (usize, usize)> = BTreeMap::new();
    let mut last = 0;
    for (_, id) in events {
        let needed = count(&labels[&id]) + 3;
        match columns.get_mut(&id) {
            None => {
                columns.insert(id, (last + 1, last + 1 + needed));
                last += 1;
            }
            Some((from, to)) => {
                *to = (last + 1).max(*from + needed);
                last = *to;
            }
        }
    }
    columns
}

fn bar(label: &str, width: usize, is_open: bool) -> String {
    let rest = width.saturating_sub(count(label) + 4);
    let (fill, end) = if is_open { ("┄", "┄") } else { (" ", "┤") };
    format!("├ {label} {}{end}", fill.repeat(rest))
}

fn count(text: &str) -> usize {
    text.chars().count()
}
