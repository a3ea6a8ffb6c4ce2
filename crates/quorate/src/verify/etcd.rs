//! The workload on etcd's API: clients that put unique values, read them (linearizably, and serializably from one server), compare and
//! swap, and move several keys at once in transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use quorate_checker::models::register::{Input, Output};
use quorate_checker::models::txn::Micro;
use quorate_checker::{ClientId, Value};
use quorate_contracts::Random;

use super::grpc::{Answer, KvClient, Unanswered};
use super::record::{By, End, Recorder};
use super::workload::{REST_MAX_US, Workload, unreachable};
use crate::failure::{Failure, say};

/// Keys of the transactions; few, so that they meet.
const ACCOUNTS: u64 = 4;
/// A client to which nothing happens rests longer: no server takes its calls.
const REFUSED_REST: Duration = Duration::from_millis(50);

/// One client at work.
struct Worker {
    id: ClientId,
    client: KvClient,
    place: Arc<str>,
    keys: u64,
    recorder: Recorder,
    random: Random,
    /// The next value, unique in the run.
    values: Arc<AtomicI64>,
    /// What it saw last of each key.
    seen: Vec<Option<i64>>,
}

/// Works until the time is over. Gives the prefix of all keys.
pub(super) async fn work(workload: &Workload, recorder: &Recorder) -> Result<Arc<str>, Failure> {
    let place: Arc<str> = workload.place("").into();
    let mut setup = KvClient::new(&workload.servers, 0);
    setup.delete_all(&place).await.map_err(|error| unreachable(&error))?;
    let (values, end) = (Arc::new(AtomicI64::new(1)), Instant::now() + workload.duration);
    let worker = |id: u64| Worker {
        id: ClientId(id),
        client: KvClient::new(&workload.servers, id as usize),
        place: place.clone(),
        keys: workload.keys,
        recorder: recorder.clone(),
        random: workload.dice(id),
        values: values.clone(),
        seen: vec![None; workload.keys as usize],
    };
    let tasks: Vec<_> =
        (1..=workload.clients).map(|id| tokio::spawn(worker(id).run(end))).collect();
    for task in tasks {
        task.await.map_err(|error| unreachable(&error))?;
    }
    Ok(place)
}

/// Everybody is well again: the last values must be readable.
pub(super) async fn look_at_the_end(
    workload: &Workload,
    place: &str,
    recorder: &Recorder,
) -> Result<(), Failure> {
    let mut worker = Worker {
        id: ClientId(workload.clients + 1),
        client: KvClient::new(&workload.servers, 0),
        place: place.into(),
        keys: workload.keys,
        recorder: recorder.clone(),
        random: workload.dice(0),
        values: Arc::default(),
        seen: vec![None; workload.keys as usize],
    };
    for key in 0..workload.keys {
        worker.read(key, false).await;
    }
    let accounts: Vec<_> = (0..ACCOUNTS).map(|number| worker.account(number)).collect();
    worker.transact(&accounts, &[]).await;
    if let Err(error) = worker.client.delete_all(place).await {
        say(&format!("{place} is left behind: {error}"));
    }
    Ok(())
}

impl Worker {
    async fn run(mut self, end: Instant) {
        while Instant::now() < end {
            let key = self.random.below(self.keys);
            let refused = match self.random.below(100) {
                0..30 => self.read(key, false).await,
                30..45 => self.read(key, true).await,
                45..65 => self.write(key).await,
                65..80 => self.swap(key).await,
                _ => self.move_something().await,
            };
            if refused {
                tokio::time::sleep(REFUSED_REST).await;
            }
            tokio::time::sleep(Duration::from_micros(self.random.below(REST_MAX_US))).await;
        }
    }

    /// Whether the call was refused; all others too.
    async fn read(&mut self, key: u64, serializable: bool) -> bool {
        let open = self.recorder.invoke(self.id, &name(key), Input::Read, serializable);
        let answer = self.client.get(&self.key(key), serializable).await;
        let end = match &answer {
            Ok(found) => End::Returned(Output::Value(told(found.result))),
            // A read without an answer tells nothing.
            Err(_) => End::Refused,
        };
        self.recorder.end(&open, &end, self.by(&answer));
        if let Ok(found) = &answer {
            self.seen[key as usize] = found.result;
        }
        answer.is_err()
    }

    async fn write(&mut self, key: u64) -> bool {
        let value = self.new_value();
        let write = Input::Write(Value::Int(value));
        let open = self.recorder.invoke(self.id, &name(key), write, false);
        let answer = self.client.put(&self.key(key), value).await;
        self.recorder.end(&open, &ended(&answer, |()| Output::Done), self.by(&answer));
        if answer.is_ok() {
            self.seen[key as usize] = Some(value);
        }
        answer.is_err()
    }

    async fn swap(&mut self, key: u64) -> bool {
        let (from, to) = (self.seen[key as usize], self.new_value());
        let cas = Input::Cas(told(from), Value::Int(to));
        let open = self.recorder.invoke(self.id, &name(key), cas, false);
        let answer = self.client.swap(&self.key(key), from, to).await;
        self.recorder.end(
            &open,
            &ended(&answer, |swapped| Output::Swapped(*swapped)),
            self.by(&answer),
        );
        match &answer {
            Ok(Answer { result: true, .. }) => self.seen[key as usize] = Some(to),
            _ => return self.read(key, false).await,
        }
        false
    }

    /// Two keys are read, and one or both of them written, at once.
    async fn move_something(&mut self) -> bool {
        let from = self.random.below(ACCOUNTS);
        let to = (from + 1 + self.random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let keys = [self.account(from), self.account(to)];
        let writes = self.random.below(3) as usize;
        let writes: Vec<_> =
            keys[..writes].iter().map(|key| (key.clone(), self.new_value())).collect();
        self.transact(&keys, &writes).await
    }

    async fn transact(&mut self, reads: &[String], writes: &[(String, i64)]) -> bool {
        let reading = reads.iter().map(|key| Micro::Read(key.as_str().into()));
        let writing =
            writes.iter().map(|(key, value)| Micro::Write(key.as_str().into(), Value::Int(*value)));
        let op = self.recorder.transact(self.id, reading.chain(writing).collect());
        let answer = self.client.transact(reads, writes).await;
        let end = match &answer {
            Err(_) if writes.is_empty() => End::Refused,
            answer => ended(answer, |seen| seen.iter().copied().map(told).collect()),
        };
        self.recorder.transacted(op, &end, self.by(&answer));
        answer.is_err()
    }

    fn new_value(&self) -> i64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn key(&self, key: u64) -> String {
        format!("{}/{}", self.place, name(key))
    }

    fn account(&self, number: u64) -> String {
        format!("{}/account{number}", self.place)
    }

    fn by<T>(&self, answer: &Result<Answer<T>, Unanswered>) -> By<'_> {
        let position = answer.as_ref().ok().map(|answer| answer.revision);
        By { server: Some(self.client.server()), position }
    }
}

/// What an operation of the history ended with.
pub(crate) fn ended<T, O>(
    answer: &Result<Answer<T>, Unanswered>,
    output: impl FnOnce(&T) -> O,
) -> End<O> {
    match answer {
        Ok(answer) => End::Returned(output(&answer.result)),
        Err(Unanswered::Refused(_)) => End::Refused,
        Err(Unanswered::Unknown(_)) => End::Unknown,
    }
}

/// What a read saw.
pub(crate) fn told(found: Option<i64>) -> Value {
    found.map_or(Value::Nil, Value::Int)
}

fn name(key: u64) -> String {
    format!("r{key}")
}
