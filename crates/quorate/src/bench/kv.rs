//! `quorate bench kv`: a load on any server that speaks etcd's API.
//!
//! One thread; each client is a task with a connection of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use quorate_contracts::Random;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_http2::StreamId;
use serde_json::json;

use super::block_on;
use super::channel::{Came, Channel};
use super::load::{Load, Measured, Pace, account, at};
use crate::failure::{Done, Failure, say};
use crate::servers::Servers;

/// Keys that each connection puts at a time before the load begins.
const FILL_IN_FLIGHT: usize = 64;
/// Connections that do it.
const FILLERS: usize = 16;
/// A client whose call failed waits so long.
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
        fill(&mut channels, self.keys, self.size).await?;
        let period = self.load.period();
        let measured = Rc::new(RefCell::new(Measured::new(period)?));
        let mut tasks = Vec::new();
        for (number, channel) in channels.into_iter().enumerate() {
            let client = Client::new(channel, self.work(number as u64), self.load.in_flight_max());
            let pace = self.load.pace(number, self.load.clients, period);
            tasks.push(tokio::task::spawn_local(client.run(pace, measured.clone())));
        }
        account(measured.clone(), period, self.load.pids.clone()).await;
        for task in tasks {
            if let Err(error) = task.await.map_err(io::Error::other)? {
                say(&format!("a client ended early: {error}"));
                measured.borrow_mut().failed();
            }
        }
        Rc::into_inner(measured)
            .map(RefCell::into_inner)
            .ok_or_else(|| io::Error::other("a client still measures"))
    }

    fn work(&self, seed: u64) -> Work {
        Work {
            random: Random::new(seed),
            reads_ppm: self.load.reads * 10_000,
            keys: self.keys.max(1),
            value: self.value(),
            serializable: self.serializable,
        }
    }

    fn value(&self) -> Bytes {
        vec![b'x'; self.size].into()
    }
}

/// Puts the first so many keys of the load.
pub(super) async fn fill(channels: &mut [Channel], keys: u64, size: usize) -> io::Result<()> {
    let (each, value) = (channels.len().min(FILLERS), Bytes::from(vec![b'x'; size]));
    let fillers = channels.iter_mut().take(each).enumerate().map(|(first, channel)| {
        let mut numbers = (first as u64..keys).step_by(each);
        let value = value.clone();
        async move {
            let mut in_flight = 0;
            loop {
                while in_flight < FILL_IN_FLIGHT
                    && let Some(number) = numbers.next()
                {
                    let begun = channel.begin(PUT, &put(number, value.clone()), true);
                    begun.ok_or_else(|| io::Error::other("the server takes no calls"))?;
                    in_flight += 1;
                }
                if in_flight == 0 {
                    return Ok(());
                }
                if let Came::End(_, outcome) = channel.next().await? {
                    outcome.map_err(io::Error::other)?;
                    in_flight -= 1;
                }
            }
        }
    });
    futures_of(fillers.collect()).await
}

/// All of them, or the first error.
async fn futures_of(fillers: Vec<impl Future<Output = io::Result<()>>>) -> io::Result<()> {
    let mut fillers: Vec<_> = fillers.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut error = None;
        fillers.retain_mut(|filler| match filler.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(done) => {
                error = error.take().or(done.err());
                false
            }
        });
        match error {
            Some(error) => Poll::Ready(Err(error)),
            None if fillers.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

fn key(number: u64) -> Bytes {
    format!("quorate-bench/{number:08}").into()
}

fn put(number: u64, value: Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key(number), value, ..Default::default() }
}

/// What a client asks for.
struct Work {
    random: Random,
    reads_ppm: u32,
    keys: u64,
    value: Bytes,
    serializable: bool,
}

impl Work {
    /// Begins the next call.
    fn begin(&mut self, channel: &mut Channel) -> Option<StreamId> {
        let number = self.random.below(self.keys);
        if self.random.chance_ppm(self.reads_ppm) {
            let (key, serializable) = (key(number), self.serializable);
            let range = pb::RangeRequest { key, serializable, ..Default::default() };
            channel.begin(RANGE, &range, true)
        } else {
            channel.begin(PUT, &put(number, self.value.clone()), true)
        }
    }
}

/// One client of the load.
struct Client {
    channel: Channel,
    work: Work,
    in_flight: usize,
    /// Calls without an answer, and from when their time counts.
    sent: BTreeMap<StreamId, Instant>,
}

impl Client {
    fn new(channel: Channel, work: Work, in_flight: usize) -> Self {
        Self { channel, work, in_flight, sent: BTreeMap::new() }
    }

    async fn run(mut self, mut pace: Pace, measured: Rc<RefCell<Measured>>) -> io::Result<()> {
        loop {
            while self.sent.len() < self.in_flight
                && let Some(due) = pace.take(Instant::now())
            {
                match self.work.begin(&mut self.channel) {
                    Some(stream) => drop(self.sent.insert(stream, due)),
                    None => {
                        say("a call failed: the server takes no more at a time");
                        measured.borrow_mut().answered(due, false);
                    }
                }
            }
            let has_room = self.sent.len() < self.in_flight;
            let next = if has_room { pace.next() } else { None };
            if self.sent.is_empty() && next.is_none() {
                return Ok(());
            }
            let came = tokio::select! {
                came = self.channel.next() => came?,
                () = at(next) => continue,
            };
            if !self.take(came, &measured)? {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Whatever has come is taken before anything new is sent. Whether all of it was good.
    fn take(&mut self, came: Came, measured: &RefCell<Measured>) -> io::Result<bool> {
        let (mut came, mut good) = (Some(came), true);
        while let Some(one) = came {
            if let Came::End(stream, outcome) = one
                && let Some(due) = self.sent.remove(&stream)
            {
                measured.borrow_mut().answered(due, outcome.is_ok());
                if let Err(error) = outcome {
                    say(&format!("a call failed: {error}"));
                    good = false;
                }
            }
            came = self.channel.at_hand()?;
        }
        Ok(good)
    }
}
