//! `quorate bench watch`: how soon watchers hear of a change.
//!
//! A writer puts one key at a fixed rate, with the time in the value; every watcher notes how old the news is. The writer and the
//! watchers are one process, so there is one clock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use prost::Message;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::watch_request::RequestUnion;
use serde_json::json;

use super::block_on;
use super::channel::{Came, Channel};
use super::load::{Load, Measured, Period, account};
use crate::failure::{Done, Failure, say};
use crate::servers::Servers;

/// After the last write, watchers have so long to hear of it.
const PATIENCE: Duration = Duration::from_secs(10);
const KEY: &[u8] = b"quorate-bench-watched";

/// Watchers of one key
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench watch --watchers 1000
  quorate bench watch --watchers 10000 --connections 100 --writes 5 --json")]
pub(crate) struct Watch {
    #[command(flatten)]
    servers: Servers,

    /// How many watchers, each on a stream of its own
    #[arg(long, value_name = "N", default_value_t = 1000)]
    watchers: usize,

    /// How many connections they share
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,

    /// Writes a second
    #[arg(long, value_name = "R", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    writes: u64,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Processes of the servers, with commas between them, whose processor time and memory are told as well
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pids: Vec<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub(super) fn run(&self) -> Result<Done, Failure> {
        let load = self.load();
        let (measured, missed) = block_on(self.drive(&load))?;
        if missed != 0 {
            say(&format!("{missed} changes were not heard of within {PATIENCE:?}"));
        }
        let more =
            json!({ "watchers": self.watchers, "connections": self.connections, "missed": missed });
        let done = load.report(more, &measured);
        Ok(if missed == 0 { done } else { Done::No })
    }

    fn load(&self) -> Load {
        Load::paced(self.watchers, self.writes, self.seconds, self.pids.clone(), self.json)
    }

    async fn drive(&self, load: &Load) -> io::Result<(Measured, u64)> {
        let servers = self.servers.etcd();
        let mut channels = Vec::new();
        for number in 0..self.connections as usize {
            channels.push(Channel::connect(&servers[number % servers.len()]).await?);
        }
        let (count, each) = (channels.len(), self.watchers / channels.len());
        for (number, channel) in channels.iter_mut().enumerate() {
            watch(channel, each + usize::from(number < self.watchers % count)).await?;
        }
        let mut writer = Channel::connect(&servers[0]).await?;
        let (period, start) = (load.period(), Instant::now());
        let measured = Rc::new(RefCell::new(Measured::new(period)?));
        let heard = Rc::new(RefCell::new(0));
        let watchers: Vec<_> = channels
            .into_iter()
            .map(|channel| {
                let (heard, measured) = (heard.clone(), measured.clone());
                tokio::task::spawn_local(listen(channel, start, heard, measured))
            })
            .collect();
        let accounting =
            tokio::task::spawn_local(account(measured.clone(), period, self.pids.clone()));
        let written = write(&mut writer, load, period, start).await?;
        let missed = settle(&heard, written * self.watchers as u64).await;
        watchers.iter().for_each(tokio::task::JoinHandle::abort);
        for watcher in watchers {
            drop(watcher.await); // it was told to stop
        }
        accounting.await.map_err(io::Error::other)?;
        let measured = Rc::into_inner(measured).map(RefCell::into_inner);
        Ok((measured.ok_or_else(|| io::Error::other("a watcher still measures"))?, missed))
    }
}

/// Opens so many watches on a channel, and waits until all are there.
async fn watch(channel: &mut Channel, watches: usize) -> io::Result<()> {
    let create = pb::WatchCreateRequest { key: KEY.into(), ..Default::default() };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    for _ in 0..watches {
        let begun = channel.begin("/etcdserverpb.Watch/Watch", &create, false);
        begun
            .ok_or_else(|| io::Error::other("the server takes no more watches on a connection"))?;
    }
    for _ in 0..watches {
        if let Came::End(_, outcome) = channel.next().await? {
            let why = outcome.err().unwrap_or_default();
            return Err(io::Error::other(format!("a watch was refused: {why}")));
        }
    }
    Ok(())
}

/// Puts the key as long as the period lasts; how often.
async fn write(
    channel: &mut Channel,
    load: &Load,
    period: Period,
    start: Instant,
) -> io::Result<u64> {
    let (mut pace, mut written) = (load.pace(0, 1, period), 0);
    while pace.wait().await.is_some() {
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let value = Bytes::copy_from_slice(&now.to_be_bytes());
        let put = pb::PutRequest { key: KEY.into(), value, ..Default::default() };
        channel.call("/etcdserverpb.KV/Put", &put).await?;
        written += 1;
    }
    Ok(written)
}

async fn listen(
    mut channel: Channel,
    start: Instant,
    heard: Rc<RefCell<u64>>,
    measured: Rc<RefCell<Measured>>,
) {
    while let Ok(Came::Message(_, message)) = channel.next().await {
        let Ok(response) = pb::WatchResponse::decode(message) else { break };
        for kv in response.events.iter().filter_map(|event| event.kv.as_ref()) {
            let sent = kv.value.first_chunk().map_or(0, |nanos| u64::from_be_bytes(*nanos));
            measured.borrow_mut().answered(start + Duration::from_nanos(sent), true);
            *heard.borrow_mut() += 1;
        }
    }
}

/// Waits until everything was heard; how much was not.
async fn settle(heard: &RefCell<u64>, expected: u64) -> u64 {
    let end = Instant::now() + PATIENCE;
    while *heard.borrow() < expected && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    expected.saturating_sub(*heard.borrow())
}
