//! Serializability of transactions, by circles in what they depend on (Adya 1999; Elle, Kingsbury & Alvaro 2020).
//!
//! Transactions append unique elements to lists, or write unique values. What they read tells who came before whom:
//!
//! | edge | meaning |
//! | --- | --- |
//! | `ww` | the other wrote the next version of a key |
//! | `wr` | the other read what the one wrote |
//! | `rw` | the other wrote the version after the one that the one read |
//! | real time | the one was answered before the other began |
//!
//! A circle is an anomaly, named by its edges: `G0` (`ww` only), `G1c` (and `wr`), `G-single` (one `rw`), `G2` (more). Without a circle the
//! transactions are run in the order of the graph: if all see what they saw, that is the proof. If not (where
//! nobody read what was written last, the graph knows no order), the complete search decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::Graph;
use super::{Broken, Kept, Promise};
use crate::check::{HistoryOf, check};
use crate::history::{History, Moment, OpId, Outcome};
use crate::limits::Limits;
use crate::model::{Model, Step};
use crate::models::Txn;
use crate::models::txn::Micro;
use crate::value::Value;
use crate::verdict::Answer;
use crate::words::tell;

/// Whether the transactions of a history are serializable, or strictly so.
pub fn serializable(history: &HistoryOf<Txn>, promise: Promise, limits: &Limits<'_>) -> Kept {
    let strict = promise == Promise::StrictSerializable;
    match Dependencies::of(history) {
        Err(Trouble::Broken(broken)) => Kept::No(vec![broken]),
        Err(Trouble::Ambiguous(why)) => by_search(history, strict, limits, why),
        Ok(dependencies) => match dependencies.anomaly(strict) {
            Some(broken) => Kept::No(vec![broken]),
            None if dependencies.order_explains(strict) => Kept::Yes,
            None => by_search(
                history,
                strict,
                limits,
                "the reads do not tell the order of all writes".to_owned(),
            ),
        },
    }
}

/// Decides by search; without real time all transactions overlap.
fn by_search(history: &HistoryOf<Txn>, strict: bool, limits: &Limits<'_>, why: String) -> Kept {
    let untimed;
    let history = if strict {
        history
    } else {
        untimed = all_at_once(history);
        &untimed
    };
    let verdict = check(&Txn, history, limits);
    match verdict.answer {
        Answer::Linearizable => Kept::Yes,
        Answer::Unknown => Kept::Unknown(why),
        Answer::NotLinearizable => {
            let broken = verdict.breaches().map(|(_, breach)| Broken {
                kind: "no order",
                key: None,
                operations: breach.core.clone().unwrap_or_else(|| vec![breach.stuck]),
                why: breach.why.clone(),
            });
            Kept::No(broken.collect())
        }
    }
}

fn all_at_once(history: &HistoryOf<Txn>) -> HistoryOf<Txn> {
    let mut untimed = History::new();
    let operations = history.operations();
    let ids: Vec<_> =
        operations.iter().map(|o| untimed.invoke(o.client, o.called, o.input.clone())).collect();
    for (id, operation) in ids.into_iter().zip(operations) {
        let at = operation.ended.unwrap_or(operation.called);
        match &operation.outcome {
            Outcome::Returned(output) => untimed.returned(id, at, output.clone()),
            Outcome::Refused => untimed.refused(id, at),
            Outcome::Unknown => untimed.unknown(id, at),
        }
    }
    untimed
}

/// Why there is no graph.
enum Trouble {
    Broken(Broken),
    Ambiguous(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Ww,
    Wr,
    Rw,
    RealTime,
}

type Version = (Arc<str>, Value);

struct Dependencies<'h> {
    history: &'h HistoryOf<Txn>,
    /// The transactions that happened, as nodes.
    nodes: Vec<OpId>,
    writers: BTreeMap<Version, u32>,
    /// The order of the elements of each list, as far as anybody saw it.
    lists: BTreeMap<Arc<str>, Vec<Value>>,
    graph: Graph<Why>,
}

/// What a transaction did to a key, seen from outside.
#[derive(Default, Clone)]
struct Footprint {
    /// What it read before it wrote.
    read: Option<Value>,
    /// What it wrote, in order; whether by appends.
    written: Vec<Value>,
    appends: bool,
}

impl<'h> Dependencies<'h> {
    fn of(history: &'h HistoryOf<Txn>) -> Result<Self, Trouble> {
        let mut found = Self {
            history,
            nodes: Vec::new(),
            writers: BTreeMap::new(),
            lists: BTreeMap::new(),
            graph: Graph::new(0),
        };
        found.unambiguous()?;
        found.gather_writers()?;
        let footprints = found.footprints()?;
        found.order_lists(&footprints)?;
        for (node, footprint) in (0..).zip(&footprints) {
            for (key, footprint) in footprint {
                found.link(node, key, footprint, &footprints)?;
            }
        }
        let spans: Vec<_> = (0..)
            .zip(&found.nodes)
            .map(|(node, id)| {
                let operation = history.operation(*id);
                (node, operation.call, operation.ret)
            })
            .collect();
        found.graph.real_time(&spans, Why::RealTime);
        Ok(found)
    }

    /// Each version of a key must be written once, and a key either be appended to or written.
    fn unambiguous(&self) -> Result<(), Trouble> {
        let mut versions = std::collections::BTreeSet::new();
        let mut appended: BTreeMap<&str, bool> = BTreeMap::new();
        for micro in self.history.operations().iter().flat_map(|operation| &operation.input) {
            let (Micro::Write(key, value) | Micro::Append(key, value)) = micro else { continue };
            let is_append = matches!(micro, Micro::Append(..));
            let one_kind = *appended.entry(key).or_insert(is_append) == is_append;
            if !one_kind
                || matches!(value, Value::List(_) | Value::Nil)
                || !versions.insert((key, value))
            {
                return Err(Trouble::Ambiguous(format!(
                    "{key}: written twice with {value}, or both written and appended to"
                )));
            }
        }
        Ok(())
    }

    /// Transactions that happened: those that were answered, and those of unknown outcome of which something was seen.
    fn gather_writers(&mut self) -> Result<(), Trouble> {
        let seen = self.seen_values();
        for id in self.history.ids() {
            let operation = self.history.operation(id);
            let writes = || {
                operation.input.iter().filter_map(|micro| match micro {
                    Micro::Write(key, value) | Micro::Append(key, value) => {
                        Some((key.clone(), value.clone()))
                    }
                    Micro::Read(_) => None,
                })
            };
            let was_seen = writes().any(|version| seen.contains(&version));
            let happened = match operation.outcome {
                Outcome::Returned(_) => true,
                Outcome::Unknown => was_seen,
                Outcome::Refused if was_seen => {
                    let why =
                        format!("{} was refused, but somebody saw what it wrote.", self.tell(id));
                    return Err(Trouble::Broken(broken("G1a (aborted read)", None, vec![id], why)));
                }
                Outcome::Refused => false,
            };
            if !happened {
                continue;
            }
            let node = self.graph.add();
            self.nodes.push(id);
            self.writers.extend(writes().map(|version| (version, node)));
        }
        Ok(())
    }

    fn seen_values(&self) -> std::collections::BTreeSet<Version> {
        let mut seen = std::collections::BTreeSet::new();
        for operation in self.history.operations() {
            let reads = operation.input.iter().filter_map(|micro| match micro {
                Micro::Read(key) => Some(key),
                _ => None,
            });
            for (key, value) in reads.zip(operation.outcome.output().into_iter().flatten()) {
                seen.insert((key.clone(), value.clone()));
                let elements = value.as_list().unwrap_or_default();
                seen.extend(elements.iter().map(|element| (key.clone(), element.clone())));
            }
        }
        seen
    }

    /// What each transaction did, key by key. A transaction that does not see its own writes is broken by itself.
    fn footprints(&self) -> Result<Vec<BTreeMap<Arc<str>, Footprint>>, Trouble> {
        self.nodes.iter().map(|id| self.footprint(*id)).collect()
    }

    fn footprint(&self, id: OpId) -> Result<BTreeMap<Arc<str>, Footprint>, Trouble> {
        let operation = self.history.operation(id);
        let mut reads = operation.outcome.output().into_iter().flatten();
        let mut keys: BTreeMap<Arc<str>, Footprint> = BTreeMap::new();
        for micro in &operation.input {
            let footprint = keys.entry(micro.key().clone()).or_default();
            match micro {
                Micro::Write(_, value) => footprint.written = vec![value.clone()],
                Micro::Append(_, value) => {
                    footprint.written.push(value.clone());
                    footprint.appends = true;
                }
                Micro::Read(key) => {
                    let Some(seen) = reads.next() else { continue };
                    if !footprint.sees(seen) {
                        let why = format!(
                            "{} does not see what it did itself, or saw before.",
                            self.tell(id)
                        );
                        return Err(Trouble::Broken(broken("internal", Some(key), vec![id], why)));
                    }
                }
            }
        }
        Ok(keys)
    }

    /// The longest list that anybody saw of each key; all others must be beginnings of it.
    fn order_lists(&mut self, footprints: &[BTreeMap<Arc<str>, Footprint>]) -> Result<(), Trouble> {
        let mut longest: BTreeMap<Arc<str>, (u32, Vec<Value>)> = BTreeMap::new();
        for (node, footprint) in (0..).zip(footprints) {
            for (key, footprint) in footprint {
                let Some(list) = footprint.read.as_ref().and_then(Value::as_list) else { continue };
                let (by, known) = longest.entry(key.clone()).or_insert((node, Vec::new()));
                let common = known.len().min(list.len());
                if known[..common] != list[..common] {
                    let operations = vec![self.nodes[*by as usize], self.nodes[node as usize]];
                    let why = format!(
                        "{} and {} saw the elements of {key} in different orders.",
                        self.tell(operations[0]),
                        self.tell(operations[1])
                    );
                    return Err(Trouble::Broken(broken(
                        "incompatible order",
                        Some(key),
                        operations,
                        why,
                    )));
                }
                if list.len() > known.len() {
                    (*by, *known) = (node, list.to_vec());
                }
            }
        }
        self.lists = longest.into_iter().map(|(key, (_, list))| (key, list)).collect();
        let lists = std::mem::take(&mut self.lists);
        for (key, list) in &lists {
            let writers: Vec<_> =
                list.iter().map(|e| self.writers.get(&(key.clone(), e.clone())).copied()).collect();
            for pair in writers.windows(2) {
                if let [Some(one), Some(other)] = pair {
                    self.before(*one, *other, Why::Ww);
                }
            }
        }
        self.lists = lists;
        Ok(())
    }

    fn link(
        &mut self,
        node: u32,
        key: &Arc<str>,
        footprint: &Footprint,
        all: &[BTreeMap<Arc<str>, Footprint>],
    ) -> Result<(), Trouble> {
        let version = |value: &Value| (key.clone(), value.clone());
        // Written and never seen: after everything that was.
        let list = self.lists.get(key).cloned().unwrap_or_default();
        let unseen = footprint.appends && !footprint.written.iter().any(|v| list.contains(v));
        if let Some(last) = list.last().filter(|_| unseen)
            && let Some(last) = self.writers.get(&version(last)).copied()
        {
            self.before(last, node, Why::Ww);
        }
        let Some(read) = &footprint.read else { return Ok(()) };
        match read {
            Value::List(seen) => self.link_list(node, key, seen, &list, all),
            Value::Nil => {
                // It saw nothing: it comes before the first append, or before every write.
                let first =
                    list.first().and_then(|first| self.writers.get(&version(first)).copied());
                let writers: Vec<_> = match first {
                    Some(first) => vec![first],
                    None => self
                        .writers
                        .range(version(&Value::Nil)..)
                        .take_while(|((k, _), _)| k == key)
                        .map(|(_, w)| *w)
                        .collect(),
                };
                writers.into_iter().for_each(|writer| self.before(node, writer, Why::Rw));
                Ok(())
            }
            value => self.link_value(node, key, value, footprint, all),
        }
    }

    fn link_list(
        &mut self,
        node: u32,
        key: &Arc<str>,
        seen: &[Value],
        list: &[Value],
        all: &[BTreeMap<Arc<str>, Footprint>],
    ) -> Result<(), Trouble> {
        for element in seen {
            self.writer(node, key, element)?;
        }
        if let Some(last) = seen.last() {
            let writer = self.writer(node, key, last)?;
            self.unless_intermediate(writer, node, key, last, all)?;
            self.before(writer, node, Why::Wr);
        }
        if let Some(next) = list.get(seen.len()) {
            let writer = self.writer(node, key, next)?;
            self.before(node, writer, Why::Rw);
        } else {
            // It saw everything that anybody saw: what nobody saw came later.
            let unseen = (0..).zip(all).filter(|(_, footprint)| {
                footprint
                    .get(key)
                    .is_some_and(|f| f.appends && !f.written.iter().any(|v| list.contains(v)))
            });
            let unseen: Vec<u32> = unseen.map(|(node, _)| node).collect();
            unseen.into_iter().for_each(|writer| self.before(node, writer, Why::Rw));
        }
        Ok(())
    }

    /// A key that is written, not appended to: only a transaction that reads and then writes tells which version follows.
    fn link_value(
        &mut self,
        node: u32,
        key: &Arc<str>,
        value: &Value,
        footprint: &Footprint,
        all: &[BTreeMap<Arc<str>, Footprint>],
    ) -> Result<(), Trouble> {
        let writer = self.writer(node, key, value)?;
        self.unless_intermediate(writer, node, key, value, all)?;
        self.before(writer, node, Why::Wr);
        if !footprint.written.is_empty() {
            self.before(writer, node, Why::Ww);
            let readers = (0..).zip(all).filter(|(_, other)| {
                other.get(key).is_some_and(|f| f.read.as_ref() == Some(value))
            });
            let readers: Vec<u32> = readers.map(|(reader, _)| reader).collect();
            readers.into_iter().for_each(|reader| self.before(reader, node, Why::Rw));
        }
        Ok(())
    }

    fn writer(&self, reader: u32, key: &Arc<str>, value: &Value) -> Result<u32, Trouble> {
        self.writers.get(&(key.clone(), value.clone())).copied().ok_or_else(|| {
            let id = self.nodes[reader as usize];
            let why = format!("{} saw {value} in {key}, which nobody wrote.", self.tell(id));
            Trouble::Broken(broken("garbage read", Some(key), vec![id], why))
        })
    }

    /// Nobody may see what a transaction wrote and then wrote over, or appended to.
    fn unless_intermediate(
        &self,
        writer: u32,
        reader: u32,
        key: &Arc<str>,
        value: &Value,
        all: &[BTreeMap<Arc<str>, Footprint>],
    ) -> Result<(), Trouble> {
        let last = all[writer as usize].get(key).and_then(|footprint| footprint.written.last());
        if writer == reader || last == Some(value) {
            return Ok(());
        }
        let operations = vec![self.nodes[writer as usize], self.nodes[reader as usize]];
        let why =
            format!("{} saw the middle of {}.", self.tell(operations[1]), self.tell(operations[0]));
        Err(Trouble::Broken(broken("G1b (intermediate read)", Some(key), operations, why)))
    }

    fn before(&mut self, one: u32, other: u32, why: Why) {
        if one != other {
            self.graph.before(one, other, why);
        }
    }

    /// The plainest circle there is.
    fn anomaly(&self, strict: bool) -> Option<Broken> {
        let plain = [
            ("G0 (write cycle)", self.graph.circle(|why| why == Why::Ww)),
            (
                "G1c (circular information flow)",
                self.graph.circle(|why| matches!(why, Why::Ww | Why::Wr)),
            ),
            ("G2 (anti-dependency cycle)", self.graph.circle(|why| why != Why::RealTime)),
        ];
        let found = plain.into_iter().find_map(|(kind, circle)| Some((kind, circle?)));
        let with_time =
            || Some(("not in real time", strict.then(|| self.graph.circle(|_| true)).flatten()?));
        let (kind, circle) = found.or_else(with_time)?;
        let rws = circle.iter().filter(|(_, why)| *why == Why::Rw).count();
        let kind = if kind.starts_with("G2") && rws == 1 { "G-single (read skew)" } else { kind };
        Some(self.tell_circle(kind, &circle))
    }

    fn tell_circle(&self, kind: &'static str, circle: &[(u32, Why)]) -> Broken {
        // Nodes beyond the transactions only carry real time from one to the next.
        let real: Vec<_> =
            circle.iter().filter(|(node, _)| (*node as usize) < self.nodes.len()).collect();
        let operations: Vec<_> = real.iter().map(|(node, _)| self.nodes[*node as usize]).collect();
        let steps = real.iter().enumerate().map(|(i, (_, why))| {
            let [one, other] =
                [operations[i], operations[(i + 1) % operations.len()]].map(|id| self.tell(id));
            match why {
                Why::Ww => format!("({other}) wrote what came after ({one})"),
                Why::Wr => format!("({other}) saw what ({one}) wrote"),
                Why::Rw => format!("({one}) did not see what ({other}) wrote"),
                Why::RealTime => format!("({one}) was answered before ({other}) began"),
            }
        });
        broken(
            kind,
            None,
            operations.clone(),
            format!("{}.", steps.collect::<Vec<_>>().join("; but ")),
        )
    }

    /// Whether the transactions, run in the order of the graph, see what they saw.
    fn order_explains(&self, strict: bool) -> bool {
        let Ok(order) = self.graph.order(&|why| strict || why != Why::RealTime) else {
            return false;
        };
        let mut state = Txn.initial();
        let transactions = order.iter().filter_map(|node| self.nodes.get(*node as usize));
        transactions.into_iter().all(|id| {
            let operation = self.history.operation(*id);
            debug_assert!(operation.call > Moment::BEGIN);
            match Txn.step(&state, &operation.input, operation.outcome.output()) {
                Step::Impossible => return false,
                Step::Stays => {}
                Step::Moves(next) => state = next,
            }
            true
        })
    }

    fn tell(&self, id: OpId) -> String {
        tell(&Txn, self.history, id)
    }
}

impl Footprint {
    /// Takes in a read; says whether it fits what the transaction did and saw before.
    fn sees(&mut self, seen: &Value) -> bool {
        if self.appends {
            let list = seen.as_list().unwrap_or_default();
            let Some(before) = list.len().checked_sub(self.written.len()) else { return false };
            let (before, own) = list.split_at(before);
            let before = if before.is_empty() { Value::Nil } else { before.to_vec().into() };
            return own == self.written
                && self.read.get_or_insert_with(|| before.clone()) == &before;
        }
        match self.written.last() {
            Some(own) => own == seen,
            None => self.read.get_or_insert_with(|| seen.clone()) == seen,
        }
    }
}

fn broken(
    kind: &'static str,
    key: Option<&Arc<str>>,
    operations: Vec<OpId>,
    why: String,
) -> Broken {
    Broken { kind, key: key.map(|key| key.to_string()), operations, why }
}
