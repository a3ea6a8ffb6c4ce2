//! Random small histories: some come from an object that works, some from one that lies now and then, some are nonsense. And
//! long ones of a map that works.

use std::collections::BTreeMap;

use quorate_checker::models::register::{Input, Output};
use quorate_checker::models::{Kv, kv};
use quorate_checker::{ClientId, History, HistoryOf, Model, Nanos, OpId, Step, Value};

/// A small generator: the same seed gives the same numbers.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How operations of a model are invented.
pub(crate) trait Invented: Model {
    fn input(&self, dice: &mut Dice, number: i64) -> Self::Input;
    /// Outputs that may come of it: every one that the model could allow in some state.
    fn outputs(&self, dice: &mut Dice, input: &Self::Input) -> Vec<Self::Output>;
}

type Started<M> = (OpId, <M as Model>::Input, Option<<M as Model>::Output>);

/// A random history of few operations. Each takes effect at some moment between its call and its return and tells what the model
/// says, except that some lie.
pub(crate) fn history<M: Invented>(
    model: &M,
    dice: &mut Dice,
    operations: u64,
) -> History<M::Input, M::Output> {
    let clients = 1 + dice.below(4);
    let (lies, losses) = ([0, 10, 40][dice.below(3) as usize], [0, 10, 40][dice.below(3) as usize]);
    let mut history = History::new();
    let mut state = model.initial();
    // Called and not yet ended: the operation, its input, its output once it took effect.
    let mut open: BTreeMap<u64, Started<M>> = BTreeMap::new();
    let (mut time, mut begun) = (0, 0);
    while begun < operations || !open.is_empty() {
        time += 1;
        let client = dice.below(clients);
        let client = *open.keys().nth(client as usize).unwrap_or(&client);
        match open.get_mut(&client) {
            None if begun < operations => {
                begun += 1;
                let input = model.input(dice, begun as i64);
                let id = history.invoke(ClientId(client), Nanos(time), input.clone());
                open.insert(client, (id, input, None));
            }
            None => {}
            Some((_, input, output @ None)) if dice.chance(70) => {
                let mut possible = model.outputs(dice, input);
                let right = possible
                    .iter()
                    .position(|o| !matches!(model.step(&state, input, Some(o)), Step::Impossible));
                let Some(right) = right else {
                    // Nothing fits (a lock that nobody releases): it does not take effect.
                    let (id, ..) = open.remove(&client).expect("it is open");
                    history.refused(id, Nanos(time));
                    continue;
                };
                if let Step::Moves(next) = model.step(&state, input, Some(&possible[right])) {
                    state = next;
                }
                let told = if dice.chance(lies) {
                    dice.below(possible.len() as u64) as usize
                } else {
                    right
                };
                *output = Some(possible.swap_remove(told));
            }
            Some(_) => {
                let (id, _, output) = open.remove(&client).expect("it is open");
                match output {
                    Some(output) if !dice.chance(losses) => {
                        history.returned(id, Nanos(time), output)
                    }
                    _ => history.unknown(id, Nanos(time)),
                }
            }
        }
    }
    history
}

/// A run of clients that take turns on keys of a map that works. Values are unique or few.
pub(crate) fn well_behaved(
    operations: i64,
    clients: u64,
    keys: u64,
    unique: bool,
) -> HistoryOf<Kv> {
    let (mut dice, mut history) = (Dice::new(7), History::new());
    let mut values = vec![Value::Nil; keys as usize];
    let mut open = vec![None; clients as usize];
    for number in 0..2 * operations as u64 {
        let client = dice.below(clients);
        match open[client as usize].take() {
            None => {
                let key = dice.below(keys) as usize;
                let value = Value::Int(if unique { number as i64 } else { dice.below(5) as i64 });
                let op = match dice.below(3) {
                    0 => Input::Write(value),
                    _ => Input::Read,
                };
                let id = history.invoke(
                    ClientId(client),
                    Nanos(number),
                    kv::Input::new(&format!("k{key}"), op.clone()),
                );
                open[client as usize] = Some((id, key, op));
            }
            Some((id, key, op)) => {
                let output = match op {
                    Input::Write(value) => {
                        values[key] = value;
                        Output::Done
                    }
                    _ => Output::Value(values[key].clone()),
                };
                history.returned(id, Nanos(number), output);
            }
        }
    }
    history
}
