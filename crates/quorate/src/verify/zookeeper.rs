//! The workload on ZooKeeper's protocol: clients that write unique values, read them plainly and after `sync`, write on condition, and create sequential
//! znodes, each with a session of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use quorate_checker::models::register::{Input, Output};
use quorate_checker::{ClientId, Value};
use quorate_client::{Acl, Client, CreateMode, ErrorCode, Failure as Refused, Options, Stat};
use quorate_contracts::Random;

use super::record::{End, Recorder};
use super::workload::{REST_MAX_US, Workload, unreachable};
use crate::failure::{Failure, say};

/// A client's request is refused if no server takes it for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often cleaning up begins again if the connection breaks meanwhile.
const CLEANING_REPEATS: usize = 3;

/// One client at work.
struct Worker {
    id: ClientId,
    client: Client,
    root: Arc<str>,
    keys: u64,
    recorder: Recorder,
    random: Random,
    /// The next value, unique in the run.
    values: Arc<AtomicI64>,
    /// What it saw last of each key: value and version.
    seen: Vec<Option<(i64, i32)>>,
}

/// Works until the time is over. Gives the znode below which everything is.
pub(super) async fn work(workload: &Workload, recorder: &Recorder) -> Result<Arc<str>, Failure> {
    let setup = connect(workload, 0).await?;
    let root: Arc<str> = workload.place("/").into();
    set_up(&setup, &root, workload.keys).await.map_err(|error| unreachable(&error))?;
    let values = Arc::new(AtomicI64::new(1));
    let mut workers = Vec::new();
    for id in 1..=workload.clients {
        workers.push(Worker {
            id: ClientId(id),
            client: connect(workload, id as usize).await?,
            root: root.clone(),
            keys: workload.keys,
            recorder: recorder.clone(),
            random: workload.dice(id),
            values: values.clone(),
            seen: vec![None; workload.keys as usize],
        });
    }
    let end = Instant::now() + workload.duration;
    let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run(end))).collect();
    for task in tasks {
        task.await.map_err(|error| unreachable(&error))?;
    }
    let _ = setup.close().await;
    Ok(root)
}

/// Everybody is well again: what was acknowledged must be there, and the last values must be readable.
pub(super) async fn look_at_the_end(
    workload: &Workload,
    root: &str,
    recorder: &Recorder,
) -> Result<(), Failure> {
    let client = connect(workload, 0).await?;
    let id = ClientId(workload.clients + 1);
    for key in 0..workload.keys {
        read_strictly(&client, id, root, key, recorder).await;
    }
    client.sync(root).await.map_err(|error| unreachable(&error))?;
    let (names, _) =
        client.children(&format!("{root}/seq")).await.map_err(|error| unreachable(&error))?;
    let there: std::collections::BTreeSet<_> =
        names.iter().filter_map(|name| number_of(name)).collect();
    recorder.with(|recorded| {
        let acknowledged = recorded.sequence.operations().iter().filter_map(|o| o.outcome.output());
        recorded.lost = acknowledged.copied().filter(|number| !there.contains(number)).collect();
    });
    let mut cleaned = clean_up(&client, root, &names, workload.keys).await;
    for _ in 0..CLEANING_REPEATS {
        if matches!(cleaned, Err(Refused::Unknown(_))) {
            cleaned = clean_up(&client, root, &names, workload.keys).await;
        }
    }
    if let Err(error) = cleaned {
        say(&format!("{root} is left behind: {error}"));
    }
    let _ = client.close().await;
    Ok(())
}

/// A session; each client begins with another server.
async fn connect(workload: &Workload, first: usize) -> Result<Client, Failure> {
    let mut servers = workload.servers.clone();
    let count = servers.len().max(1);
    servers.rotate_left(first % count);
    let options = Options { patience: PATIENCE, ..Options::default() };
    Client::connect(&servers, options).await.map_err(|error| unreachable(&error))
}

impl Worker {
    async fn run(mut self, end: Instant) {
        while Instant::now() < end {
            let key = self.random.below(self.keys);
            match self.random.below(100) {
                0..30 => self.read_plainly(key).await,
                30..45 => {
                    let seen =
                        read_strictly(&self.client, self.id, &self.root, key, &self.recorder).await;
                    self.seen[key as usize] = seen.or(self.seen[key as usize]);
                }
                45..60 => self.write(key).await,
                60..75 => self.swap(key).await,
                75..90 => self.write_then_read(key).await,
                _ => self.create().await,
            }
            tokio::time::sleep(Duration::from_micros(self.random.below(REST_MAX_US))).await;
        }
        let _ = self.client.close().await;
    }

    /// A read of whatever the server has.
    async fn read_plainly(&mut self, key: u64) {
        let open = self.recorder.invoke(self.id, &name(key), Input::Read, true);
        let answer = self.client.get_data(&path(&self.root, key)).await;
        let end = seen_in(&answer);
        self.recorder.end(&open, &end, self.client.server());
        self.remember(key, &answer);
    }

    async fn write(&mut self, key: u64) {
        let (value, open) = self.begin_write(key);
        let answer =
            self.client.set_data(&path(&self.root, key), value.to_string().as_bytes(), -1).await;
        let end = ended(&answer, |_| Output::Done);
        self.recorder.end(&open, &end, self.client.server());
        if let Ok(stat) = answer {
            self.seen[key as usize] = Some((value, stat.version));
        }
    }

    /// A write on condition that nobody wrote since the last look. As no value is written twice, "the same version" is "the same
    /// value".
    async fn swap(&mut self, key: u64) {
        let Some((from, version)) = self.seen[key as usize] else {
            return self.read_plainly(key).await;
        };
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        let cas = Input::Cas(Value::Int(from), Value::Int(value));
        let open = self.recorder.invoke(self.id, &name(key), cas, false);
        let answer = self
            .client
            .set_data(&path(&self.root, key), value.to_string().as_bytes(), version)
            .await;
        let end = match &answer {
            Err(error) if error.is(ErrorCode::BadVersion) => End::Returned(Output::Swapped(false)),
            answer => ended(answer, |_| Output::Swapped(true)),
        };
        self.recorder.end(&open, &end, self.client.server());
        self.seen[key as usize] = answer.ok().map(|stat: Stat| (value, stat.version));
    }

    /// Both on their way at once: the read must see the write, or something newer (FIFO).
    async fn write_then_read(&mut self, key: u64) {
        let path = path(&self.root, key);
        let (value, write) = self.begin_write(key);
        let writing = self.client.set_data(&path, value.to_string().as_bytes(), -1);
        let read = self.recorder.invoke(self.id, &name(key), Input::Read, true);
        let reading = self.client.get_data(&path);
        let written = writing.await;
        self.recorder.end(&write, &ended(&written, |_| Output::Done), self.client.server());
        let answer = reading.await;
        self.recorder.end(&read, &seen_in(&answer), self.client.server());
        self.remember(key, &answer);
    }

    async fn create(&mut self) {
        let op = self.recorder.create(self.id);
        let path = format!("{}/seq/n-", self.root);
        let answer =
            self.client.create(&path, b"", CreateMode::PersistentSequential, Acl::open()).await;
        let end = match answer {
            Ok((path, _)) => number_of(&path).map_or(End::Unknown, End::Returned),
            Err(Refused::Refused(_)) => End::Refused,
            Err(Refused::Unknown(_)) => End::Unknown,
        };
        self.recorder.created(op, &end, self.client.server());
    }

    fn begin_write(&self, key: u64) -> (i64, super::record::Open) {
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        (value, self.recorder.invoke(self.id, &name(key), Input::Write(Value::Int(value)), false))
    }

    fn remember(&mut self, key: u64, answer: &Result<(bytes::Bytes, Stat), Refused>) {
        if let Ok((data, stat)) = answer {
            self.seen[key as usize] = number_in(data).map(|value| (value, stat.version));
        }
    }
}

/// `sync` and a read on its heels: all that was done before is seen. Gives what was seen.
async fn read_strictly(
    client: &Client,
    id: ClientId,
    root: &str,
    key: u64,
    recorder: &Recorder,
) -> Option<(i64, i32)> {
    let path = path(root, key);
    let open = recorder.invoke(id, &name(key), Input::Read, false);
    let server = client.server().map(str::to_owned);
    let (synced, read) = (client.sync(&path), client.get_data(&path));
    let synced = synced.await;
    let answer = read.await;
    // If the session moved in between, the read may have been answered by a server that was not synced.
    let stayed = synced.is_ok() && client.server().map(str::to_owned) == server;
    let end = if stayed { seen_in(&answer) } else { End::Refused };
    recorder.end(&open, &end, server.as_deref());
    let (data, stat) = answer.ok()?;
    Some((number_in(&data)?, stat.version))
}

/// The value that a read saw; one without an answer tells nothing.
fn seen_in(answer: &Result<(bytes::Bytes, Stat), Refused>) -> End<Output> {
    match answer {
        Ok((data, _)) => {
            let value = number_in(data).map_or_else(
                || Value::from(String::from_utf8_lossy(data).as_ref()),
                |number| if number == 0 { Value::Nil } else { Value::Int(number) },
            );
            End::Returned(Output::Value(value))
        }
        Err(_) => End::Refused,
    }
}

fn ended<T>(answer: &Result<T, Refused>, output: impl FnOnce(&T) -> Output) -> End<Output> {
    match answer {
        Ok(answer) => End::Returned(output(answer)),
        Err(Refused::Refused(_)) => End::Refused,
        Err(Refused::Unknown(_)) => End::Unknown,
    }
}

async fn set_up(client: &Client, root: &str, keys: u64) -> Result<(), Refused> {
    let create = |path: String| async move {
        client.create(&path, b"0", CreateMode::Persistent, Acl::open()).await.map(drop)
    };
    create(root.to_owned()).await?;
    create(format!("{root}/seq")).await?;
    for key in 0..keys {
        create(path(root, key)).await?;
    }
    Ok(())
}

async fn clean_up(client: &Client, root: &str, names: &[String], keys: u64) -> Result<(), Refused> {
    for names in names.chunks(500) {
        let deleted: Vec<_> =
            names.iter().map(|name| client.delete(&format!("{root}/seq/{name}"), -1)).collect();
        for deleted in deleted {
            gone(deleted.await)?;
        }
    }
    gone(client.delete(&format!("{root}/seq"), -1).await)?;
    for key in 0..keys {
        gone(client.delete(&path(root, key), -1).await)?;
    }
    gone(client.delete(root, -1).await)
}

/// What an earlier attempt deleted is gone, too.
fn gone(deleted: Result<(), Refused>) -> Result<(), Refused> {
    match deleted {
        Err(error) if error.is(ErrorCode::NoNode) => Ok(()),
        deleted => deleted,
    }
}

fn name(key: u64) -> String {
    format!("r{key}")
}

fn path(root: &str, key: u64) -> String {
    format!("{root}/{}", name(key))
}

fn number_in(data: &[u8]) -> Option<i64> {
    std::str::from_utf8(data).ok()?.parse().ok()
}

/// The number at the end of a sequential znode's name.
fn number_of(path: &str) -> Option<u64> {
    path.rsplit_once("n-")?.1.parse().ok()
}
