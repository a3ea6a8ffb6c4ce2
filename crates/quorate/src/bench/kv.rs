//! `quorate bench kv`: a load on any server that speaks etcd's API.
//!
//! One thread; each client has a connection of its own, and as many tasks as it may have calls in flight.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use quorate_contracts::Random;
use quorate_etcd::messages::etcdserverpb as pb;
use serde_json::json;

use super::block_on;
use super::h2::{Channel, Method};
use super::load::{Load, Measured, Pace, account};
use crate::failure::{Done, Failure, say};
use crate::servers::Servers;

/// Keys that each connection puts at a time before the load begins, and all together.
const FILL_IN_FLIGHT: usize = 64;
const FILL_MAX: usize = 1024;
/// A sender whose call failed waits so long.
const PAUSE: Duration = Duration::from_millis(100);

/// A load on keys
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench kv --clients 100
  quorate bench kv --clients 1000 --reads 100 --serializable --json
  quorate bench kv --servers 127.0.0.1:2379 --clients 10 --rate 2000     an open loop")]
pub(crate) struct Kv {
    #[command(flatten)]
    servers: Servers,

    #[command(flatten)]
    load: Load,

    /// Bytes of each value
    #[arg(long, value_name = "B", default_value_t = 256)]
    size: usize,

    /// How many keys the load is spread over
    #[arg(long, value_name = "K", default_value_t = 1000)]
    keys: u64,

    /// Reads may be answered by the server alone, and be old
    #[arg(long)]
    serializable: bool,
}

impl Kv {
    pub(super) fn run(&self) -> Result<Done, Failure> {
        let measured = block_on(self.drive())?;
        let more =
            json!({ "size": self.size, "keys": self.keys, "serializable": self.serializable });
        Ok(self.load.report(more, &measured))
    }

    async fn drive(&self) -> io::Result<Measured> {
        let servers = self.servers.etcd();
        let mut channels = Vec::new();
        for number in 0..self.load.clients {
            channels.push(Channel::connect(&servers[number % servers.len()]).await?);
        }
        fill(&channels, self.keys, self.size).await?;
        let period = self.load.period();
        let measured = Rc::new(RefCell::new(Measured::new(period)?));
        // In an open loop a client's one sender starts calls and does not wait for them.
        let in_flight = self.load.in_flight_max();
        let each = if in_flight == usize::MAX { 1 } else { in_flight };
        let (mut tasks, senders) = (Vec::new(), self.load.clients * each);
        for number in 0..senders {
            let sender = Sender::new(self, &channels[number / each], number as u64)?;
            let pace = self.load.pace(number, senders, period);
            tasks.push(tokio::task::spawn_local(sender.run(pace, measured.clone())));
        }
        account(measured.clone(), period, self.load.pids.clone()).await;
        for task in tasks {
            task.await.map_err(io::Error::other)?;
        }
        Rc::into_inner(measured)
            .map(RefCell::into_inner)
            .ok_or_else(|| io::Error::other("a client still measures"))
    }

    fn value(&self) -> Bytes {
        vec![b'x'; self.size].into()
    }
}

/// Puts the first so many keys of the load.
pub(super) async fn fill(channels: &[Channel], keys: u64, size: usize) -> io::Result<()> {
    let (mut puts, value) = (tokio::task::JoinSet::new(), Bytes::from(vec![b'x'; size]));
    let senders = (channels.len() * FILL_IN_FLIGHT).clamp(1, FILL_MAX) as u64;
    for first in 0..senders {
        let (mut channel, value) =
            (channels[first as usize % channels.len()].clone(), value.clone());
        let method = channel.method(PUT)?;
        puts.spawn_local(async move {
            for number in (first..keys).step_by(senders as usize) {
                channel.call(&method, &put(number, value.clone())).await?;
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(done) = puts.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(())
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

fn key(number: u64) -> Bytes {
    format!("quorate-bench/{number:08}").into()
}

fn put(number: u64, value: Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key(number), value, ..Default::default() }
}

/// One call after another.
struct Sender {
    channel: Channel,
    put: Method,
    range: Method,
    random: Random,
    reads_ppm: u32,
    keys: u64,
    value: Bytes,
    serializable: bool,
}

impl Sender {
    fn new(kv: &Kv, channel: &Channel, seed: u64) -> io::Result<Self> {
        Ok(Self {
            put: channel.method(PUT)?,
            range: channel.method(RANGE)?,
            channel: channel.clone(),
            random: Random::new(seed),
            reads_ppm: kv.load.reads * 10_000,
            keys: kv.keys.max(1),
            value: kv.value(),
            serializable: kv.serializable,
        })
    }

    async fn run(mut self, mut pace: Pace, measured: Rc<RefCell<Measured>>) {
        let mut started = tokio::task::JoinSet::new();
        while let Some(due) = pace.wait().await {
            let call = self.call(due, measured.clone());
            if pace.is_open() {
                started.spawn_local(call);
                while started.try_join_next().is_some() {}
            } else if !call.await {
                tokio::time::sleep(PAUSE).await;
            }
        }
        while started.join_next().await.is_some() {}
    }

    /// A call and what it came to: whether it was answered.
    fn call(
        &mut self,
        due: Instant,
        measured: Rc<RefCell<Measured>>,
    ) -> impl Future<Output = bool> + 'static {
        let number = self.random.below(self.keys);
        let read = self.random.chance_ppm(self.reads_ppm);
        let mut channel = self.channel.clone();
        let method = if read { self.range.clone() } else { self.put.clone() };
        let (serializable, value) = (self.serializable, self.value.clone());
        async move {
            let answer = if read {
                let request =
                    pb::RangeRequest { key: key(number), serializable, ..Default::default() };
                channel.call(&method, &request).await
            } else {
                channel.call(&method, &put(number, value)).await
            };
            measured.borrow_mut().answered(due, answer.is_ok());
            if let Err(error) = &answer {
                say(&format!("a call failed: {error}"));
            }
            answer.is_ok()
        }
    }
}
