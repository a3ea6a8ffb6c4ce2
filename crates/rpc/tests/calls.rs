//! What becomes of calls, one by one and over a network that loses, doubles, delays and reorders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_contracts::{NodeId, Random, Time, Wire};
use quorate_rpc::{
    CALLS_MAX, CallId, Callee, Caller, CallerId, Failure, Life, Message, Outcome, Repeat, Taken,
    Ticket,
};

const CALLER: NodeId = NodeId(1);
const CALLEE: NodeId = NodeId(2);
const PATIENCE: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// Both sides, with what travels in hand.
struct Pair {
    caller: Caller,
    callee: Callee,
    out: Vec<(NodeId, Message)>,
    done: Vec<(CallId, Result<Bytes, Failure>)>,
}

impl Pair {
    fn new() -> Self {
        let (caller, callee) = (Caller::new(CallerId(7)), Callee::new(Life(70)));
        Self { caller, callee, out: Vec::new(), done: Vec::new() }
    }

    fn call(&mut self, millis: u64, repeat: Repeat) -> Result<CallId, Failure> {
        let body = Bytes::from_static(b"?");
        self.caller.call(at(millis), CALLEE, body, repeat, PATIENCE, &mut self.out)
    }

    /// The callee gets the last message sent.
    fn deliver(&mut self) -> Taken {
        match self.out.last().cloned() {
            Some((CALLEE, Message::Call(call))) => self.callee.received(CALLER, call),
            other => panic!("no call on its way: {other:?}"),
        }
    }

    fn answered(&mut self, millis: u64, taken: &Taken) {
        let Taken::Answer(answer) = taken.clone() else { panic!("no answer: {taken:?}") };
        self.caller.received(at(millis), CALLEE, answer, &mut self.out, &mut self.done);
    }

    /// A first call, after which the life is known; it is running.
    fn running(&mut self) -> (CallId, Ticket) {
        let call = self.call(0, Repeat::AtMostOnce).unwrap();
        let introduced = self.deliver();
        self.answered(1, &introduced);
        match self.deliver() {
            Taken::Run { ticket, .. } => (call, ticket),
            other => panic!("not run: {other:?}"),
        }
    }
}

fn reply() -> Outcome {
    Outcome::Done(Bytes::from_static(b"!"))
}

/// RPC-3: a duplicate that comes while the first is running waits with it; one that comes later gets the kept answer;
/// once the caller says that it has the answer, it is gone.
#[test]
fn a_duplicate_is_answered_with_the_kept_reply() {
    let mut pair = Pair::new();
    let (call, ticket) = pair.running();
    assert_eq!(pair.deliver(), Taken::Nothing);
    let (_, answer) = pair.callee.finished(ticket, reply()).unwrap();
    assert_eq!(pair.deliver(), Taken::Answer(answer.clone()));
    assert_eq!(pair.callee.known(), 1);

    pair.answered(2, &Taken::Answer(answer.clone()));
    pair.answered(3, &Taken::Answer(answer));
    assert_eq!(pair.done, [(call, Ok(Bytes::from_static(b"!")))]);
    let old = pair.out.last().cloned();
    pair.call(4, Repeat::AtMostOnce).unwrap();
    assert!(matches!(pair.deliver(), Taken::Run { .. }));
    assert_eq!(pair.callee.known(), 1);
    pair.out.extend(old);
    assert_eq!(pair.deliver(), Taken::Nothing, "a late copy of a settled call is not run");
}

/// RPC-1: the caller learns which of the ways it went.
#[test]
fn what_became_of_a_call_is_told_apart() {
    let mut pair = Pair::new();
    let unheard = pair.call(0, Repeat::AtMostOnce).unwrap();
    pair.caller.wake(at(2_000), &mut pair.out, &mut pair.done);
    assert_eq!(pair.done.pop(), Some((unheard, Err(Failure::NotReached))));

    let mut pair = Pair::new();
    let (unanswered, _) = pair.running();
    pair.caller.wake(at(2_000), &mut pair.out, &mut pair.done);
    assert_eq!(pair.done.pop(), Some((unanswered, Err(Failure::TimedOut))));

    let mut pair = Pair::new();
    let (failed, ticket) = pair.running();
    let (_, answer) = pair.callee.finished(ticket, Outcome::Failed("no".into())).unwrap();
    pair.answered(2, &Taken::Answer(answer));
    assert_eq!(pair.done.pop(), Some((failed, Err(Failure::Failed("no".into())))));

    let mut pair = Pair::new();
    for _ in 0..CALLS_MAX {
        pair.call(0, Repeat::AtMostOnce).unwrap();
    }
    assert!(matches!(pair.call(0, Repeat::AtMostOnce), Err(Failure::Refused(_))));
}

/// RPC-2, RPC-3: a callee that restarted runs again only what may be run twice.
#[test]
fn a_restart_makes_a_call_unknown_unless_it_is_idempotent() {
    for (repeat, runs_again) in [(Repeat::AtMostOnce, false), (Repeat::Idempotent, true)] {
        let mut pair = Pair::new();
        let call = pair.call(0, repeat).unwrap();
        let introduced = pair.deliver();
        pair.answered(1, &introduced);
        assert!(matches!(pair.deliver(), Taken::Run { .. }));

        pair.callee = Callee::new(Life(71));
        let refused = pair.deliver();
        pair.answered(2, &refused);
        if runs_again {
            assert!(matches!(pair.deliver(), Taken::Run { .. }));
        } else {
            assert_eq!(pair.done, [(call, Err(Failure::Restarted))]);
        }
    }
}

/// RPC-6: every call ends; a cancelled one frees what it held on both sides; a caller that does not keep to the limit
/// makes nothing grow.
#[test]
fn nothing_is_held_for_ever() {
    let mut pair = Pair::new();
    let (call, ticket) = pair.running();
    pair.caller.cancel(call);
    assert_eq!(pair.caller.deadline(), None);
    pair.call(5, Repeat::AtMostOnce).unwrap();
    assert!(matches!(pair.deliver(), Taken::Run { .. }));
    assert_eq!(pair.callee.known(), 1);
    assert_eq!(pair.callee.finished(ticket, reply()), None);

    let Some((_, Message::Call(call))) = pair.out.last().cloned() else { panic!("a call") };
    for sequence in 1_000..2_000 {
        let sequence = quorate_rpc::Sequence(sequence);
        pair.callee.received(CALLER, quorate_rpc::Call { sequence, ..call.clone() });
    }
    assert!(pair.callee.known() <= CALLS_MAX);
}

#[test]
fn a_late_message_of_a_callers_earlier_life_is_not_run() {
    let mut pair = Pair::new();
    pair.running();
    let Some((_, Message::Call(old))) = pair.out.last().cloned() else { panic!("a call") };
    let young = quorate_rpc::Call { caller: CallerId(8), ..old.clone() };
    assert!(matches!(pair.callee.received(CALLER, young), Taken::Run { .. }));
    assert_eq!(pair.callee.received(CALLER, old), Taken::Nothing);
}

/// A network and two processes, driven by a seed.
struct World {
    random: Random,
    now: u64,
    lossy: bool,
    pair: Pair,
    life: u64,
    /// When each copy of a message arrives, whichever way it goes.
    travelling: Vec<(u64, NodeId, Bytes)>,
    running: Vec<(u64, Ticket, Bytes)>,
    runs: BTreeMap<Bytes, u32>,
    calls: BTreeMap<CallId, (Bytes, Repeat)>,
    settled: BTreeSet<CallId>,
    next: u32,
    kept_most: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: 0,
            lossy: true,
            pair: Pair::new(),
            life: 70,
            travelling: Vec::new(),
            running: Vec::new(),
            runs: BTreeMap::new(),
            calls: BTreeMap::new(),
            settled: BTreeSet::new(),
            next: 0,
            kept_most: 0,
        }
    }

    /// Copies of a message leave: none, one or two, each with a delay of its own.
    fn send(&mut self, to: NodeId, message: &Message) {
        let copies = match self.random.below(10) {
            0..=2 if self.lossy => 0,
            3 | 4 if self.lossy => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = if self.lossy { self.random.below(600) } else { 1 };
            self.travelling.push((self.now + delay, to, message.to_bytes()));
        }
    }

    fn pass_on(&mut self) {
        for (to, message) in std::mem::take(&mut self.pair.out) {
            self.send(to, &message);
        }
    }

    fn call(&mut self) {
        self.next += 1;
        let body = Bytes::from(self.next.to_be_bytes().to_vec());
        let idempotent = self.random.chance_ppm(200_000);
        let repeat = if idempotent { Repeat::Idempotent } else { Repeat::AtMostOnce };
        let Pair { caller, out, .. } = &mut self.pair;
        match caller.call(at(self.now), CALLEE, body.clone(), repeat, PATIENCE, out) {
            Ok(call) => drop(self.calls.insert(call, (body, repeat))),
            Err(failure) => assert!(!failure.is_unknown()),
        }
    }

    fn arrives(&mut self, to: NodeId, bytes: &Bytes) {
        match (to, Message::from_bytes(bytes).unwrap()) {
            (CALLEE, Message::Call(call)) => match self.pair.callee.received(CALLER, call) {
                Taken::Run { ticket, body, .. } => {
                    *self.runs.entry(body.clone()).or_default() += 1;
                    let until = self.now + self.random.below(300);
                    self.running.push((until, ticket, body));
                }
                Taken::Answer(answer) => self.send(CALLER, &Message::Answer(answer)),
                Taken::Nothing => {}
            },
            (CALLER, Message::Answer(answer)) => {
                let Pair { caller, out, done, .. } = &mut self.pair;
                caller.received(at(self.now), CALLEE, answer, out, done);
            }
            (to, message) => panic!("{message:?} to {to}"),
        }
    }

    fn finish_due(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.running.extract_if(.., |(until, ..)| *until <= now).collect();
        for (_, ticket, body) in due {
            if let Some((to, answer)) = self.pair.callee.finished(ticket, Outcome::Done(body)) {
                self.send(to, &Message::Answer(answer));
            }
        }
    }

    fn restart_callee(&mut self) {
        self.life += 1;
        self.pair.callee = Callee::new(Life(self.life));
        self.running.clear();
    }

    fn step(&mut self) {
        self.now += self.random.below(20);
        let now = self.now;
        let due: Vec<_> = self.travelling.extract_if(.., |(when, ..)| *when <= now).collect();
        for (_, to, bytes) in due {
            self.arrives(to, &bytes);
        }
        self.finish_due();
        let Pair { caller, out, done, .. } = &mut self.pair;
        if caller.deadline().is_some_and(|due| due <= at(now)) {
            caller.wake(at(now), out, done);
        }
        self.pass_on();
        self.check();
    }

    /// What the caller was told agrees with what was run.
    fn check(&mut self) {
        self.kept_most = self.kept_most.max(self.pair.callee.known());
        for (body, runs) in &self.runs {
            let repeat = self.calls.values().find(|(other, _)| other == body).map(|(_, r)| *r);
            assert!(*runs <= 1 || repeat == Some(Repeat::Idempotent), "{body:?} ran {runs} times");
        }
        for (call, result) in std::mem::take(&mut self.pair.done) {
            assert!(self.settled.insert(call), "{call:?} is settled twice");
            let (body, _) = &self.calls[&call];
            let runs = self.runs.get(body).copied().unwrap_or(0);
            match result {
                Ok(answer) => assert!(answer == *body && runs >= 1, "an answer of another call"),
                Err(failure) if failure.is_unknown() => {}
                Err(failure) => {
                    assert_eq!(runs, 0, "{failure:?} of a call that ran");
                }
            }
        }
    }
}

/// RPC-5: with messages lost, doubled, delayed and reordered both ways, and the callee restarting, at most once stays at
/// most once, every call is settled, and what the caller is told is so.
#[test]
fn a_bad_network_breaks_none_of_it() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            match world.random.below(400) {
                0 => world.restart_callee(),
                1..=60 => world.call(),
                _ => {}
            }
            world.step();
        }
        world.lossy = false;
        let until = world.now + 2 * PATIENCE.as_millis() as u64;
        while world.now < until {
            world.step();
        }
        assert_eq!(world.pair.caller.deadline(), None, "seed {seed}: a call is never settled");
        assert!(world.kept_most <= CALLS_MAX, "seed {seed}");
        assert!(world.runs.len() > 10, "seed {seed}: hardly anything was run");
    }
}

/// RPC-7: what does not read is an error, whatever it is.
#[test]
fn hostile_bytes_are_refused() {
    let mut random = Random::new(1);
    let mut pair = Pair::new();
    pair.call(0, Repeat::AtMostOnce).unwrap();
    let good = pair.out[0].1.to_bytes();
    for cut in 0..good.len() {
        assert!(Message::from_bytes(&good.slice(..cut)).is_err());
    }
    for _ in 0..10_000 {
        let mut bytes = good.to_vec();
        let (at, bits) = (random.below(bytes.len() as u64) as usize, random.below(255) as u8 + 1);
        bytes[at] ^= bits;
        let _ = Message::from_bytes(&Bytes::from(bytes));
    }
}
