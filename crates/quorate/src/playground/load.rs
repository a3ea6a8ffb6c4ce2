//! The clients of a playground: they put, read, and compare and swap a few keys of the key/value store through the nodes'
//! own ports, as any client of etcd does, and move on to another node when theirs does not answer.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_checker::models::register::{Input, Output};
use quorate_checker::{ClientId, Nanos, Value};
use quorate_contracts::Random;

use super::batches::{Batches, Number, Open};
use super::judge::{self, Case};
use super::{Shared, unix_ms};
use crate::verify::etcd::{ended, told};
use crate::verify::grpc::{Answer, KvClient, Unanswered};
use crate::verify::record::End;

const CLIENTS: u64 = 6;
/// Keys of a batch; few, so that clients meet.
const KEYS: u64 = 3;
/// Clients rest a random time below this between operations: to see something, a machine need not be kept busy.
const REST_MAX_MS: u64 = 20;
/// A batch waits for its last operation, and people for the batch.
const PATIENCE: Duration = Duration::from_secs(2);
/// A client to which nothing happens rests longer.
const REFUSED_REST: Duration = Duration::from_millis(200);
/// Between looks for batches to be judged.
const LOOK: Duration = Duration::from_millis(200);
/// Everything is below this, in a place of the run's own, whose names count up.
const PLACE: &str = "quorate-playground/";
/// Deletions after which what was deleted is compacted, so that the store does not grow.
const COMPACT_EVERY: u64 = 30;

/// What the clients share.
#[derive(Clone)]
struct Load {
    servers: Arc<[String]>,
    batches: Arc<Mutex<Batches>>,
    /// The next value, unique in the run.
    values: Arc<AtomicI64>,
    start: Instant,
    place: Arc<str>,
}

/// Starts the clients, in a thread, and the judge, in another one.
pub(super) fn begin(
    servers: Vec<String>,
    directory: Arc<Path>,
    shared: Shared,
) -> std::io::Result<()> {
    let (cases, to_judge) = channel();
    let load = Load {
        servers: servers.into(),
        batches: Arc::default(),
        values: Arc::new(AtomicI64::new(1)),
        start: Instant::now(),
        place: format!("{PLACE}{:016}/", unix_ms()).into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("judge").spawn(move || judge::run(&to_judge, &directory, &shared))?;
    thread("clients").spawn(move || runtime.block_on(load.run(cases)))?;
    Ok(())
}

impl Load {
    async fn run(self, cases: Sender<Case>) {
        let mut cleaner = KvClient::new(&self.servers, 0);
        // What an earlier run left; if this takes effect late, it does no harm to ours.
        let _ = cleaner.delete_range(PLACE, &self.place).await;
        for id in 1..=CLIENTS {
            tokio::spawn(Worker::new(&self, id).run());
        }
        tokio::spawn(self.clone().submit(cases.clone()));
        self.read_a_last_time(cleaner, &cases).await;
    }

    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn hold(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Batches that are full and done go to the judge.
    async fn submit(self, cases: Sender<Case>) {
        loop {
            tokio::time::sleep(LOOK).await;
            for (number, history) in self.hold().ripe(self.now()) {
                if cases.send(Case { number, history, last: false }).is_err() {
                    return;
                }
            }
        }
    }

    /// Reads the keys of old batches a last time, has those judged again, and deletes what was in them.
    async fn read_a_last_time(self, mut cleaner: KvClient, cases: &Sender<Case>) {
        let mut reader = Worker::new(&self, CLIENTS + 1);
        loop {
            tokio::time::sleep(LOOK).await;
            let (due, late) = {
                let batches = self.hold();
                (batches.due(self.now()), batches.is_late())
            };
            let Some(number) = due else { continue };
            let mut all = true;
            for key in 0..KEYS {
                all &= !reader.read(number, key).await;
            }
            if !all && !late {
                continue;
            }
            let history = self.hold().forget(number);
            if cases.send(Case { number, history, last: true }).is_err() {
                return;
            }
            if let Ok(deleted) = cleaner.delete_all(&format!("{}{}/", self.place, number.0)).await
                && number.0 % COMPACT_EVERY == 0
            {
                // Whether it was, the next one shows.
                let _ = cleaner.compact(deleted.revision).await;
            }
        }
    }
}

/// One client at work.
struct Worker {
    load: Load,
    id: ClientId,
    client: KvClient,
    random: Random,
    /// What it saw last of each key of a batch.
    seen: (Number, [Option<i64>; KEYS as usize]),
}

impl Worker {
    fn new(load: &Load, id: u64) -> Self {
        Self {
            load: load.clone(),
            id: ClientId(id),
            client: KvClient::new(&load.servers, id as usize).within(PATIENCE),
            random: Random::new(id),
            seen: (Number::default(), [None; KEYS as usize]),
        }
    }

    async fn run(mut self) {
        loop {
            let number = Number::at(self.load.now());
            if self.seen.0 != number {
                self.seen = (number, [None; KEYS as usize]);
            }
            let key = self.random.below(KEYS);
            let refused = match self.random.below(100) {
                0..45 => self.read(number, key).await,
                45..75 => self.write(number, key).await,
                _ => self.swap(number, key).await,
            };
            let rest = Duration::from_millis(self.random.below(REST_MAX_MS));
            tokio::time::sleep(if refused { REFUSED_REST } else { rest }).await;
        }
    }

    /// Whether there was no answer; all others too.
    async fn read(&mut self, number: Number, key: u64) -> bool {
        let open = self.invoke(number, key, Input::Read);
        let answer = self.client.get(&self.path(number, key), false).await;
        // A read without an answer tells nothing.
        let end = answer
            .as_ref()
            .map_or(End::Refused, |found| End::Returned(Output::Value(told(found.result))));
        self.end(open, &end);
        if let Ok(found) = &answer {
            self.see(number, key, found.result);
        }
        answer.is_err()
    }

    async fn write(&mut self, number: Number, key: u64) -> bool {
        let value = self.new_value();
        let open = self.invoke(number, key, Input::Write(Value::Int(value)));
        let answer = self.client.put(&self.path(number, key), value).await;
        self.end(open, &ended(&answer, |()| Output::Done));
        if answer.is_ok() {
            self.see(number, key, Some(value));
        }
        answer.is_err()
    }

    async fn swap(&mut self, number: Number, key: u64) -> bool {
        let (from, to) = (self.seen.1[key as usize], self.new_value());
        let open = self.invoke(number, key, Input::Cas(told(from), Value::Int(to)));
        let answer: Result<Answer<bool>, Unanswered> =
            self.client.swap(&self.path(number, key), from, to).await;
        self.end(open, &ended(&answer, |swapped| Output::Swapped(*swapped)));
        match answer {
            Ok(Answer { result: true, .. }) => self.see(number, key, Some(to)),
            Ok(_) => return self.read(number, key).await,
            Err(_) => return true,
        }
        false
    }

    fn invoke(&self, number: Number, key: u64, op: Input) -> Open {
        let mut batches = self.load.hold();
        batches.invoke(number, self.id, self.load.now(), &name(number, key), op)
    }

    fn end(&self, open: Open, end: &End<Output>) {
        let mut batches = self.load.hold();
        batches.end(open, self.load.now(), end);
    }

    fn see(&mut self, number: Number, key: u64, value: Option<i64>) {
        if self.seen.0 == number {
            self.seen.1[key as usize] = value;
        }
    }

    fn path(&self, number: Number, key: u64) -> String {
        format!("{}{}", self.load.place, name(number, key))
    }

    fn new_value(&self) -> i64 {
        self.load.values.fetch_add(1, Ordering::Relaxed)
    }
}

fn name(number: Number, key: u64) -> String {
    format!("{}/r{key}", number.0)
}
