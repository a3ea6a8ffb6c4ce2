//! A row for each client; for one whose operations overlap, as many as it needs.

use std::collections::BTreeMap;

use crate::history::{ClientId, History, OpId};

/// The names of the rows, and the row of each operation.
pub(super) fn of<I, O>(
    history: &History<I, O>,
    chosen: &BTreeMap<OpId, ()>,
) -> (Vec<String>, BTreeMap<OpId, u32>) {
    // For each client, until when each of its rows is taken.
    let mut rows: BTreeMap<ClientId, Vec<u64>> = BTreeMap::new();
    let mut place = BTreeMap::new();
    for id in chosen.keys() {
        let operation = history.operation(*id);
        let from = operation.called.0;
        let to = operation.ended.map_or(from, |ended| ended.0);
        let taken = rows.entry(operation.client).or_default();
        let row = taken.iter().position(|until| *until <= from).unwrap_or(taken.len());
        if row == taken.len() {
            taken.push(0);
        }
        taken[row] = to;
        place.insert(*id, (operation.client, row));
    }
    let mut first_row = BTreeMap::new();
    let mut names = Vec::new();
    for (client, taken) in rows {
        first_row.insert(client, names.len());
        names.extend(
            (0..taken.len()).map(|row| if row == 0 { client.to_string() } else { String::new() }),
        );
    }
    let number = |(client, row): (ClientId, usize)| {
        u32::try_from(first_row[&client] + row).expect("there are fewer rows than operations")
    };
    (names, place.into_iter().map(|(id, at)| (id, number(at))).collect())
}
