//! The promises of a coordination service to one client (LIN-5), key by key.
//!
//! The nodes are the values that a key had, which is to say the writes. Real time orders writes; a promise orders them as a
//! client saw them. For instance monotonic reads: a client that saw *a* and later *b* says that *a* was written before *b*; if
//! *b* was done before *a* began, that is a circle.

use std::collections::BTreeMap;

use super::graph::Graph;
use super::{Broken, Kept, Promise, positions};
use crate::check::{HistoryOf, split};
use crate::history::{ClientId, OpId, Operation, Outcome};
use crate::model::{Access, Model};
use crate::value::Value;
use crate::words::tell;

/// Whether a promise was kept to every client. Works for models whose operations are accesses to variables
/// ([`Model::access`]); transactions have [`serializable`](super::serializable).
pub fn keeps<M: Model>(model: &M, history: &HistoryOf<M>, promise: Promise) -> Kept {
    let mut broken = Vec::new();
    let mut unknown = None;
    for (key, ids) in split(model, history) {
        match Key::read(model, history, &ids) {
            Ok(part) => broken.extend(part.broken(promise).map(|broken| Broken { key, ..broken })),
            Err(reason) => unknown = unknown.or(Some(reason)),
        }
    }
    if promise == Promise::SessionOrder {
        broken.extend(positions::broken(model, history));
    }
    match unknown {
        _ if !broken.is_empty() => Kept::No(broken),
        Some(reason) => Kept::Unknown(reason),
        None => Kept::Yes,
    }
}

/// Why one write comes before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It was there first.
    Initial,
    /// It was answered before the other began.
    RealTime,
    /// The other is a compare-and-set that found it.
    Swap,
    /// One client did or saw the first, and then the other: these operations.
    Client(OpId, OpId),
}

/// What one key went through.
struct Key<'h, M: Model> {
    model: &'h M,
    history: &'h HistoryOf<M>,
    /// The write of each value; the initial one has none.
    writers: Vec<Option<OpId>>,
    events: Vec<Event>,
    swaps: Vec<(u32, u32)>,
    /// Operations that saw a value which nobody wrote.
    phantoms: Vec<OpId>,
}

/// An operation of a client: which value it saw, which it wrote.
#[derive(Clone, Copy)]
struct Event {
    id: OpId,
    saw: Option<u32>,
    wrote: Option<u32>,
}

impl<'h, M: Model> Key<'h, M> {
    fn read(model: &'h M, history: &'h HistoryOf<M>, ids: &[OpId]) -> Result<Self, String> {
        let initial =
            model.initial_value().ok_or("this model has no values that are read and written")?;
        let mut key = Self {
            model,
            history,
            writers: vec![None],
            events: Vec::new(),
            swaps: Vec::new(),
            phantoms: Vec::new(),
        };
        let mut values: BTreeMap<&Value, u32> = BTreeMap::from([(&initial, 0)]);
        let happened = ids.iter().filter(|id| history.operation(**id).outcome != Outcome::Refused);
        for id in happened.clone() {
            let (Access::Writes(value) | Access::Swaps(_, value)) = key.access(*id) else {
                continue;
            };
            if values.insert(value, key.new_value(*id)).is_some() {
                return Err(format!(
                    "{value} was written twice, or was there from the beginning: reads do not tell which"
                ));
            }
        }
        for id in happened {
            let number = |value: &Value| values.get(value).copied();
            let (saw, wrote) = match key.access(*id) {
                Access::Reads(value) => (number(value), None),
                Access::Writes(value) => (None, number(value)),
                Access::Swaps(from, to) if history.operation(*id).outcome.output().is_some() => {
                    key.swaps.extend(number(from).zip(number(to)));
                    (number(from), number(to))
                }
                Access::Swaps(_, to) => (None, number(to)),
                Access::Nothing => continue,
                // What a value was not is nothing that these promises need.
                Access::Other if key.observes(*id) => continue,
                Access::Other | Access::Appends(_) => {
                    return Err(format!(
                        "{}: appends and deletes are not understood here",
                        tell(model, history, *id)
                    ));
                }
            };
            match (saw, key.access(*id)) {
                (None, Access::Reads(_)) => key.phantoms.push(*id),
                (None, Access::Swaps(..)) if history.operation(*id).outcome.output().is_some() => {
                    key.phantoms.push(*id);
                }
                _ => {}
            }
            key.events.push(Event { id: *id, saw, wrote });
        }
        Ok(key)
    }

    fn access(&self, id: OpId) -> Access<'h> {
        let operation = self.history.operation(id);
        self.model.access(&operation.input, operation.outcome.output())
    }

    fn observes(&self, id: OpId) -> bool {
        let operation = self.history.operation(id);
        self.model.observes(&operation.input, operation.outcome.output())
    }

    fn new_value(&mut self, writer: OpId) -> u32 {
        self.writers.push(Some(writer));
        u32::try_from(self.writers.len() - 1).expect("there are fewer values than operations")
    }

    fn broken(&self, promise: Promise) -> Option<Broken> {
        let mut graph = self.order_of_writes();
        if promise == Promise::LinearizableWrites {
            return self
                .out_of_the_air()
                .or_else(|| self.seen_before_written())
                .or_else(|| self.circle(&graph, promise));
        }
        // If the writes contradict each other nothing can be said about what is older.
        if graph.order(&|_| true).is_err() {
            return None;
        }
        for (one, other, first, second) in self.client_order(promise) {
            graph.before(one, other, Why::Client(first, second));
        }
        self.circle(&graph, promise)
    }

    fn order_of_writes(&self) -> Graph<Why> {
        let mut graph = Graph::new(self.writers.len());
        let writes =
            (0..).zip(&self.writers).filter_map(|(value, writer)| Some((value, (*writer)?)));
        let spans: Vec<_> = writes
            .map(|(value, writer)| {
                let operation = self.history.operation(writer);
                (value, operation.call, operation.ret)
            })
            .collect();
        spans.iter().for_each(|(value, ..)| graph.before(0, *value, Why::Initial));
        self.swaps.iter().for_each(|(from, to)| graph.before(*from, *to, Why::Swap));
        graph.real_time(&spans, Why::RealTime);
        graph
    }

    fn out_of_the_air(&self) -> Option<Broken> {
        let id = *self.phantoms.first()?;
        let why = format!("nobody ever wrote what {} saw.", self.tell(id));
        Some(Broken { kind: "out of the air", key: None, operations: vec![id], why })
    }

    fn seen_before_written(&self) -> Option<Broken> {
        let early = self.events.iter().find_map(|event| {
            let writer = self.writers[event.saw? as usize]?;
            self.operation(event.id).precedes(self.operation(writer)).then_some((event.id, writer))
        });
        early.map(|(read, write)| Broken {
            kind: "seen before it was written",
            key: None,
            operations: vec![read, write],
            why: format!("{} was answered before {} began.", self.tell(read), self.tell(write)),
        })
    }

    /// What the promise adds: this value before that one, because of these two operations of a client.
    fn client_order(&self, promise: Promise) -> Vec<(u32, u32, OpId, OpId)> {
        let mut clients: BTreeMap<ClientId, Vec<Event>> = BTreeMap::new();
        for event in &self.events {
            clients.entry(self.operation(event.id).client).or_default().push(*event);
        }
        let mut found = Vec::new();
        for events in clients.values() {
            let mut known = Known::default();
            for event in events {
                for (before, first) in known.matter_for(self, event, promise) {
                    let after = event.saw.or(event.wrote).unwrap_or(before);
                    if after != before {
                        found.push((before, after, first, event.id));
                    }
                }
                known.remember(event);
            }
        }
        found
    }

    fn circle(&self, graph: &Graph<Why>, promise: Promise) -> Option<Broken> {
        let circle = graph.circle(|_| true)?;
        let writers = circle.iter().filter_map(|(node, _)| *self.writers.get(*node as usize)?);
        let mut operations: Vec<_> = writers.collect();
        for (_, why) in &circle {
            if let Why::Client(first, second) = why {
                operations.extend([*first, *second]);
            }
        }
        operations.sort_unstable();
        operations.dedup();
        Some(Broken { kind: promise.name(), key: None, operations, why: self.words(&circle) })
    }

    fn words(&self, circle: &[(u32, Why)]) -> String {
        let mut sentences: Vec<String> = Vec::new();
        // A run of steps in real time is one fact about two writes.
        let real: Vec<_> =
            circle.iter().filter(|(node, _)| (*node as usize) < self.writers.len()).collect();
        for (i, (node, why)) in real.iter().enumerate() {
            let next = real[(i + 1) % real.len()].0;
            let [one, other] = [*node, next].map(|value| self.value(value));
            sentences.push(match why {
                Why::Initial => format!("{one} comes before {other}"),
                Why::RealTime => format!("{one} was done before {other} began"),
                Why::Swap => format!("{other} found {one}"),
                Why::Client(first, second) => {
                    format!("{}, then {}", self.tell(*first), self.tell(*second))
                }
            });
        }
        format!("{}.", sentences.join("; but "))
    }

    fn value(&self, value: u32) -> String {
        self.writers[value as usize]
            .map_or("the initial value".to_owned(), |writer| self.tell(writer))
    }

    fn operation(&self, id: OpId) -> &Operation<M::Input, M::Output> {
        self.history.operation(id)
    }

    fn tell(&self, id: OpId) -> String {
        let operation = self.operation(id);
        let server =
            operation.server.as_ref().map_or(String::new(), |server| format!(" at {server}"));
        format!("{}{server}", tell(self.model, self.history, id))
    }
}

/// What a client knows by now: the value, and by which operation.
#[derive(Default)]
struct Known {
    saw: Option<(u32, OpId)>,
    wrote: Option<(u32, OpId)>,
}

impl Known {
    /// What must not be older than what this event saw, or wrote.
    fn matter_for<M: Model>(
        &self,
        key: &Key<'_, M>,
        event: &Event,
        promise: Promise,
    ) -> Vec<(u32, OpId)> {
        let (is_read, waited) = (event.saw.is_some(), |known: &(u32, OpId)| {
            key.operation(known.1).precedes(key.operation(event.id))
        });
        let moved = |known: &(u32, OpId)| {
            let [before, now] = [known.1, event.id].map(|id| key.operation(id).server.as_deref());
            before.is_some() && now.is_some() && before != now
        };
        let (saw, wrote) = (self.saw.into_iter(), self.wrote.into_iter());
        match promise {
            Promise::MonotonicReads if is_read => saw.filter(waited).collect(),
            Promise::ReadYourWrites if is_read => wrote.filter(waited).collect(),
            Promise::SessionOrder if is_read => {
                saw.chain(wrote).filter(|known| waited(known) && moved(known)).collect()
            }
            Promise::Fifo => saw
                .chain(wrote)
                .filter(|known| key.operation(known.1).outcome.output().is_some())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn remember(&mut self, event: &Event) {
        self.saw = event.saw.map(|value| (value, event.id)).or(self.saw);
        self.wrote = event.wrote.map(|value| (value, event.id)).or(self.wrote);
    }
}
