//! `quorate bench kv`: a load on any server that speaks etcd's API.
//!
//! One thread; each client has a connection of its own, and as many tasks as it may have calls in flight.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

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

/// Keys that are put at a time before the load begins.
const PREPARED_AT_A_TIME: usize = 64;
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
        let first = channels.first().ok_or_else(|| io::Error::other("a load needs a client"))?;
        self.prepare(first).await?;
        let period = self.load.period();
        let measured = Rc::new(RefCell::new(Measured::new(period)?));
        let (mut tasks, slots) = (Vec::new(), self.load.in_flight.max(1));
        for number in 0..self.load.clients * slots {
            let sender = Sender::new(self, &channels[number / slots], number as u64)?;
            let pace = self.load.pace(number, self.load.clients * slots, period);
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

    /// The keys that the load reads and writes.
    async fn prepare(&self, channel: &Channel) -> io::Result<()> {
        let mut puts = tokio::task::JoinSet::new();
        for number in 0..self.keys {
            let (mut channel, method) = (channel.clone(), channel.method(PUT)?);
            let put = put(number, self.value());
            puts.spawn_local(async move { channel.call(&method, &put).await });
            if puts.len() >= PREPARED_AT_A_TIME {
                puts.join_next().await.transpose().map_err(io::Error::other)?.transpose()?;
            }
        }
        while let Some(done) = puts.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok(())
    }

    fn value(&self) -> Bytes {
        vec![b'x'; self.size].into()
    }
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
        while let Some(due) = pace.wait().await {
            let answer = self.call().await;
            measured.borrow_mut().answered(due, answer.is_ok());
            if let Err(error) = answer {
                say(&format!("a call failed: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn call(&mut self) -> io::Result<Bytes> {
        let number = self.random.below(self.keys);
        if self.random.chance_ppm(self.reads_ppm) {
            let serializable = self.serializable;
            let request = pb::RangeRequest { key: key(number), serializable, ..Default::default() };
            self.channel.call(&self.range, &request).await
        } else {
            self.channel.call(&self.put, &put(number, self.value.clone())).await
        }
    }
}
