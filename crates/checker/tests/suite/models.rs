//! Operations to invent for each built-in model: few values, so that they clash; and one where every value is new.

use std::collections::BTreeSet;

use quorate_checker::models::{
    Kv, Lock, Queue, Register, Set, Txn, kv, lock, queue, register, set, txn,
};
use quorate_checker::{ClientId, Model, Step, Value};

use crate::generate::{Dice, Invented};

fn small(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => Value::Nil,
        n => Value::Int(n as i64),
    }
}

fn register_outputs(input: &register::Input, values: Vec<Value>) -> Vec<register::Output> {
    match input {
        register::Input::Read => values.into_iter().map(register::Output::Value).collect(),
        register::Input::Cas(..) => {
            vec![register::Output::Swapped(true), register::Output::Swapped(false)]
        }
        _ => vec![register::Output::Done],
    }
}

fn all_small() -> Vec<Value> {
    vec![Value::Nil, Value::Int(1), Value::Int(2), Value::Int(3)]
}

impl Invented for Register {
    fn input(&self, dice: &mut Dice, _: i64) -> register::Input {
        match dice.below(7) {
            0..3 => register::Input::Read,
            3..5 => register::Input::Write(small(dice)),
            5 => register::Input::Cas(small(dice), small(dice)),
            _ => register::Input::Delete,
        }
    }
    fn outputs(&self, _: &mut Dice, input: &register::Input) -> Vec<register::Output> {
        register_outputs(input, all_small())
    }
}

impl Invented for Kv {
    fn input(&self, dice: &mut Dice, number: i64) -> kv::Input {
        kv::Input::new(["x", "y"][dice.below(2) as usize], Register::default().input(dice, number))
    }
    fn outputs(&self, dice: &mut Dice, input: &kv::Input) -> Vec<kv::Output> {
        Register::default().outputs(dice, &input.op)
    }
}

macro_rules! delegate {
    ($name:ident, $inner:expr) => {
        impl Model for $name {
            type Input = register::Input;
            type Output = register::Output;
            type State = Value;
            fn initial(&self) -> Value {
                $inner.initial()
            }
            fn step(
                &self,
                s: &Value,
                i: &register::Input,
                o: Option<&register::Output>,
            ) -> Step<Value> {
                $inner.step(s, i, o)
            }
            fn observes(&self, i: &register::Input, o: Option<&register::Output>) -> bool {
                $inner.observes(i, o)
            }
            fn describe(&self, i: &register::Input, o: Option<&register::Output>) -> String {
                $inner.describe(i, o)
            }
            fn describe_state(&self, s: &Value) -> String {
                $inner.describe_state(s)
            }
            fn access<'a>(
                &self,
                i: &'a register::Input,
                o: Option<&'a register::Output>,
            ) -> quorate_checker::Access<'a> {
                $inner.access(i, o)
            }
            fn initial_value(&self) -> Option<Value> {
                $inner.initial_value()
            }
        }
    };
}

/// A register to which every value is written at most once: the polynomial way decides it.
pub(crate) struct UniqueRegister;
delegate!(UniqueRegister, Register::default());

impl Invented for UniqueRegister {
    fn input(&self, dice: &mut Dice, number: i64) -> register::Input {
        let earlier = Value::Int(1 + dice.below(number as u64) as i64);
        match dice.below(8) {
            0..4 => register::Input::Read,
            4..6 => register::Input::Write(Value::Int(number)),
            6 => register::Input::Cas(earlier, Value::Int(number)),
            _ => register::Input::Cas(Value::Nil, Value::Int(number)),
        }
    }
    fn outputs(&self, _: &mut Dice, input: &register::Input) -> Vec<register::Output> {
        match input {
            register::Input::Cas(..) => vec![register::Output::Swapped(true)],
            _ => register_outputs(
                input,
                (0..8).map(|n| if n == 0 { Value::Nil } else { Value::Int(n) }).collect(),
            ),
        }
    }
}

/// A text that grows, of letters that are each appended at most once.
pub(crate) struct GrowingText;
delegate!(GrowingText, Register { initial: "".into() });

impl Invented for GrowingText {
    fn input(&self, dice: &mut Dice, number: i64) -> register::Input {
        let letter = Value::from(["a", "b", "c", "d", "e", "f", "g", "h"][number as usize % 8]);
        match dice.below(8) {
            0..3 => register::Input::Read,
            3 => register::Input::Write(letter),
            _ => register::Input::Append(letter),
        }
    }
    fn outputs(&self, dice: &mut Dice, input: &register::Input) -> Vec<register::Output> {
        // Every text of up to three of the letters, in random order so that lies differ.
        let letters = ["a", "b", "c", "d", "e", "f"];
        let mut texts: Vec<Value> = vec!["".into()];
        for length in 1..4 {
            for _ in 0..20 * length {
                let text: String = (0..length).map(|_| letters[dice.below(6) as usize]).collect();
                texts.push(text.as_str().into());
            }
        }
        register_outputs(input, texts)
    }
}

impl Invented for Queue {
    fn input(&self, dice: &mut Dice, _: i64) -> queue::Input {
        if dice.chance(50) {
            queue::Input::Enqueue(Value::Int(dice.below(3) as i64))
        } else {
            queue::Input::Dequeue
        }
    }
    fn outputs(&self, _: &mut Dice, input: &queue::Input) -> Vec<queue::Output> {
        match input {
            queue::Input::Enqueue(_) => vec![queue::Output::Done],
            queue::Input::Dequeue => [None, Some(0), Some(1), Some(2)]
                .map(|n| queue::Output::Taken(n.map(Value::Int)))
                .to_vec(),
        }
    }
}

impl Invented for Set {
    fn input(&self, dice: &mut Dice, _: i64) -> set::Input {
        let member = Value::Int(dice.below(2) as i64);
        match dice.below(if self.by_member { 5 } else { 7 }) {
            0..2 => set::Input::Add(member),
            2 => set::Input::Remove(member),
            3..5 => set::Input::Contains(member),
            _ => set::Input::Read,
        }
    }
    fn outputs(&self, dice: &mut Dice, input: &set::Input) -> Vec<set::Output> {
        let members = [vec![], vec![0], vec![1], vec![0, 1]];
        let told = vec![set::Output::Told(true), set::Output::Told(false)];
        match input {
            set::Input::Read => members
                .map(|m| {
                    set::Output::Members(m.into_iter().map(Value::Int).collect::<BTreeSet<_>>())
                })
                .to_vec(),
            set::Input::Contains(_) => told,
            _ if dice.chance(50) => vec![set::Output::Done],
            _ => told,
        }
    }
}

impl Invented for Lock {
    fn input(&self, dice: &mut Dice, _: i64) -> lock::Input {
        let ask = match dice.below(5) {
            0..2 => lock::Ask::Acquire,
            2..4 => lock::Ask::Release,
            _ => lock::Ask::Use(1 + dice.below(3) as i64),
        };
        lock::Input { name: "l".into(), client: ClientId(dice.below(2)), ask }
    }
    fn outputs(&self, dice: &mut Dice, input: &lock::Input) -> Vec<lock::Output> {
        use lock::Output::{Busy, Done, Granted, Rejected};
        match input.ask {
            lock::Ask::Acquire if dice.chance(20) => vec![Granted(None), Busy],
            lock::Ask::Acquire => vec![Granted(Some(1)), Granted(Some(2)), Granted(Some(3)), Busy],
            _ => vec![Done, Rejected],
        }
    }
}

impl Invented for Txn {
    fn input(&self, dice: &mut Dice, _: i64) -> txn::Input {
        let micro = |dice: &mut Dice| {
            let key = ["x", "y"][dice.below(2) as usize].into();
            match dice.below(3) {
                0 => txn::Micro::Read(key),
                1 => txn::Micro::Write(key, Value::Int(dice.below(2) as i64)),
                _ => txn::Micro::Read(key),
            }
        };
        (0..1 + dice.below(2)).map(|_| micro(dice)).collect()
    }
    fn outputs(&self, _: &mut Dice, input: &txn::Input) -> Vec<txn::Output> {
        let reads = input.iter().filter(|micro| matches!(micro, txn::Micro::Read(_))).count();
        let values = [Value::Nil, Value::Int(0), Value::Int(1)];
        let mut all = vec![vec![]];
        for _ in 0..reads {
            all = all
                .iter()
                .flat_map(|seen: &Vec<Value>| {
                    values.iter().map(|v| seen.iter().chain([v]).cloned().collect())
                })
                .collect();
        }
        all
    }
}

/// Transactions that append elements, each once, and read.
pub(crate) struct Appends;

impl Model for Appends {
    type Input = txn::Input;
    type Output = txn::Output;
    type State = <Txn as Model>::State;
    fn initial(&self) -> Self::State {
        Txn.initial()
    }
    fn step(&self, s: &Self::State, i: &txn::Input, o: Option<&txn::Output>) -> Step<Self::State> {
        Txn.step(s, i, o)
    }
    fn describe(&self, i: &txn::Input, o: Option<&txn::Output>) -> String {
        Txn.describe(i, o)
    }
    fn describe_state(&self, s: &Self::State) -> String {
        Txn.describe_state(s)
    }
}

impl Invented for Appends {
    fn input(&self, dice: &mut Dice, number: i64) -> txn::Input {
        let micro = |dice: &mut Dice, which: i64| {
            let key = ["x", "y"][dice.below(2) as usize].into();
            match dice.below(2) {
                0 => txn::Micro::Read(key),
                _ => txn::Micro::Append(key, Value::Int(10 * number + which)),
            }
        };
        (0..1 + dice.below(2)).map(|which| micro(dice, which as i64)).collect()
    }
    /// Reads of what could be there: lists of some of the elements.
    fn outputs(&self, dice: &mut Dice, input: &txn::Input) -> Vec<txn::Output> {
        let list = |dice: &mut Dice| -> Value {
            let length = dice.below(3);
            let elements: Vec<_> = (0..length)
                .map(|_| Value::Int(10 * (1 + dice.below(4) as i64) + dice.below(2) as i64))
                .collect();
            if elements.is_empty() { Value::Nil } else { elements.into() }
        };
        let reads = input.iter().filter(|micro| matches!(micro, txn::Micro::Read(_))).count();
        (0..60).map(|_| (0..reads).map(|_| list(dice)).collect()).collect()
    }
}
