//! `quorate bench zk`: a load on any server that speaks ZooKeeper's protocol.
//!
//! One thread, one task a client. In a closed loop each has a number of requests in flight, and latencies count from the moment a
//! request is written to the moment its answer is read. In an open loop (`--rate`) requests are due at times that no answer moves,
//! and latencies count from those: a pause of the servers is charged for every request that was due in it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use quorate_client::{Connection, CreateMode};
use quorate_contracts::Random;
use quorate_zk::command::Op;
use quorate_zk::wire::framing::{Frame, Framer};
use quorate_zk::wire::{
    ConnectRequest, ConnectResponse, JuteReader, JuteWriter, ReplyHeader, opcode,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failover::Failover;
use crate::failure::{Done, Failure, Kind, say, tell};
use crate::groups::Groups;
use crate::servers::Servers;
use crate::sessions::Sessions;

/// Measure a running cluster
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// setData and getData in a closed or an open loop, on any ZooKeeper-speaking server
    Zk(Zk),
    /// The longest time without a write while servers die, and whether anything acknowledged is lost
    Failover(Failover),
    /// A reconnection storm of thousands of sessions after a leader's death
    Sessions(Sessions),
    /// What Raft groups cost that nobody uses, in a cluster started for it
    Groups(Groups),
}

/// The load
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench zk --clients 100
  quorate bench zk --clients 24 --in-flight 32 --size 1024 --reads 90 --json
  quorate bench zk --clients 100 --rate 20000        an open loop: so many a second, answered or not")]
pub(crate) struct Zk {
    #[command(flatten)]
    servers: Servers,

    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: usize,

    /// Requests that each client has in flight
    #[arg(long, value_name = "M", default_value_t = 1)]
    in_flight: usize,

    /// Requests a second of all clients together, whether the ones before are answered or not
    #[arg(long, value_name = "R", conflicts_with = "in_flight", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Bytes of data in each write
    #[arg(long, value_name = "B", default_value_t = 100)]
    size: usize,

    /// Share of reads, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    reads: u32,

    /// How many znodes the load is spread over
    #[arg(long, value_name = "K", default_value_t = 100)]
    keys: usize,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,

    /// How long to run before measuring
    #[arg(long, value_name = "S", default_value_t = 2)]
    warmup: u64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What all clients measured.
struct Measured {
    latencies_us: Histogram<u64>,
    errors: u64,
    from: Instant,
}

const ROOT: &str = "/quorate-bench";

impl Bench {
    pub(crate) fn run(self) -> Result<Done, Failure> {
        let load = match self {
            Self::Zk(load) => load,
            Self::Failover(failover) => return failover.run(),
            Self::Sessions(sessions) => return sessions.run(),
            Self::Groups(groups) => return groups.run(),
        };
        let failed = |cause: String| {
            let help = "are the servers running? --servers names them";
            Failure::new(Kind::Unreachable, "run the load", cause, help)
        };
        load.prepare().map_err(|error| failed(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let measured = tokio::task::LocalSet::new()
            .block_on(&runtime, load.drive())
            .map_err(|error| failed(error.to_string()))?;
        load.report(&measured);
        Ok(if measured.errors == 0 { Done::Yes } else { Done::No })
    }
}

impl Zk {
    /// The znodes that the load reads and writes.
    fn prepare(&self) -> Result<(), quorate_client::ClientError> {
        let mut connection =
            Connection::connect(&self.servers.zookeeper(), Duration::from_secs(10))?;
        let data = vec![b'x'; self.size];
        for path in std::iter::once(ROOT.to_string()).chain((0..self.keys).map(key)) {
            match connection.create(&path, &data, CreateMode::Persistent) {
                Ok(_) => {}
                Err(quorate_client::ClientError::Refused(-110)) => {
                    connection.set(&path, &data, -1)?;
                }
                Err(error) => return Err(error),
            }
        }
        connection.close()
    }

    async fn drive(&self) -> io::Result<Measured> {
        let from = Instant::now() + Duration::from_secs(self.warmup);
        let until = from + Duration::from_secs(self.seconds);
        let histogram = Histogram::new_with_bounds(1, 600_000_000, 3).map_err(io::Error::other)?;
        let measured = Measured { latencies_us: histogram, errors: 0, from };
        let measured = Rc::new(RefCell::new(measured));
        let (mut clients, servers) = (Vec::new(), self.servers.zookeeper());
        for number in 0..self.clients {
            let server = &servers[number % servers.len()];
            let client = Client::connect(server, self, number as u64).await?;
            clients.push(match self.beat(number) {
                Some(beat) => {
                    tokio::task::spawn_local(client.run_open(beat, until, measured.clone()))
                }
                None => tokio::task::spawn_local(client.run(until, measured.clone())),
            });
        }
        for client in clients {
            if let Err(error) = client.await.map_err(io::Error::other)? {
                say(&format!("a client ended early: {error}"));
                measured.borrow_mut().errors += 1;
            }
        }
        Rc::into_inner(measured)
            .map(RefCell::into_inner)
            .ok_or_else(|| io::Error::other("a client still measures"))
    }

    /// When a client's requests are due, in an open loop: the clients take turns.
    fn beat(&self, number: usize) -> Option<Beat> {
        let between = Duration::from_secs(1) / self.rate?;
        let turn = between * u32::try_from(number).unwrap_or(u32::MAX);
        let every = between * u32::try_from(self.clients).unwrap_or(u32::MAX);
        Some(Beat { due: Instant::now() + turn, every })
    }

    fn report(&self, measured: &Measured) {
        let latencies = &measured.latencies_us;
        let per_second = latencies.len() as f64 / self.seconds as f64;
        let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        let (p50, p95, p99, p999) = (at(0.5), at(0.95), at(0.99), at(0.999));
        if self.json {
            let line = json!({
                "clients": self.clients, "in_flight": self.in_flight, "rate": self.rate, "size": self.size,
                "reads_percent": self.reads, "keys": self.keys, "seconds": self.seconds,
                "operations": latencies.len(), "operations_per_second": per_second,
                "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "p999_ms": p999,
                "max_ms": latencies.max() as f64 / 1_000.0, "errors": measured.errors,
            });
            return tell(&line.to_string());
        }
        let loop_of = match self.rate {
            Some(rate) => format!("{rate} requests a second"),
            None => format!("{} in flight each", self.in_flight),
        };
        tell(&format!(
            "{} clients, {loop_of}, {} B, {} % reads, {} s\n{per_second:.0} operations a second; p50 \
             {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms; {} errors",
            self.clients, self.size, self.reads, self.seconds, measured.errors
        ));
    }
}

fn key(number: usize) -> String {
    format!("{ROOT}/k{number}")
}

/// When the next request of an open loop is due.
struct Beat {
    due: Instant,
    every: Duration,
}

/// One client of the load.
struct Client {
    stream: TcpStream,
    random: Random,
    reads_ppm: u32,
    keys: u64,
    in_flight: usize,
    data: Vec<u8>,
    next_xid: i32,
    input: BytesMut,
    framer: Framer,
}

impl Client {
    async fn connect(server: &str, load: &Zk, seed: u64) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            random: Random::new(seed),
            reads_ppm: load.reads * 10_000,
            keys: load.keys.max(1) as u64,
            in_flight: load.in_flight.max(1),
            data: vec![b'x'; load.size],
            next_xid: 1,
            input: BytesMut::new(),
            framer: Framer::new(1 << 20),
        };
        let hello =
            ConnectRequest { timeout_ms: 30_000, password: vec![0; 16], ..Default::default() };
        client.stream.write_all(&hello.encode()).await?;
        let answer = client.packet().await?;
        let answer = ConnectResponse::decode(&answer).map_err(io::Error::other)?;
        if answer.session == 0 { Err(io::Error::other("no session")) } else { Ok(client) }
    }

    async fn run(mut self, until: Instant, measured: Rc<RefCell<Measured>>) -> io::Result<()> {
        let mut sent = VecDeque::with_capacity(self.in_flight);
        let mut out = Vec::new();
        loop {
            out.clear();
            while sent.len() < self.in_flight && Instant::now() < until {
                self.request(&mut out);
                sent.push_back(Instant::now());
            }
            if sent.is_empty() {
                return self.close().await;
            }
            if !out.is_empty() {
                self.stream.write_all(&out).await?;
            }
            // Whatever has come is taken before anything new is sent.
            let first = self.packet().await?;
            self.take_answers(first, &mut sent, until, &measured)?;
        }
    }

    /// Sends what is due, whatever is answered meanwhile.
    async fn run_open(
        mut self,
        mut beat: Beat,
        until: Instant,
        measured: Rc<RefCell<Measured>>,
    ) -> io::Result<()> {
        let mut sent = VecDeque::new();
        let mut out = Vec::new();
        while beat.due < until || !sent.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(beat.due.into()), if beat.due < until => {}
                packet = self.packet() => {
                    self.take_answers(packet?, &mut sent, until, &measured)?;
                    continue;
                }
            }
            while beat.due < until && beat.due <= Instant::now() {
                self.request(&mut out);
                sent.push_back(beat.due);
                beat.due += beat.every;
            }
            self.stream.write_all(&out).await?;
            out.clear();
        }
        self.close().await
    }

    /// Takes an answer, and whatever else has come.
    fn take_answers(
        &mut self,
        first: bytes::Bytes,
        sent: &mut VecDeque<Instant>,
        until: Instant,
        measured: &Rc<RefCell<Measured>>,
    ) -> io::Result<()> {
        let mut packet = Some(first);
        while let Some(bytes) = packet {
            let header =
                ReplyHeader::decode(&mut JuteReader::new(&bytes)).map_err(io::Error::other)?;
            if let Some(began) = sent.pop_front() {
                measured.borrow_mut().answered(began, until, header.error);
            }
            packet = self.packet_at_hand()?;
        }
        Ok(())
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        let path = key(self.random.below(self.keys) as usize);
        let mut packet = JuteWriter::with_capacity(64 + self.data.len());
        packet.int(self.next_xid);
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        if self.random.chance_ppm(self.reads_ppm) {
            packet.int(opcode::GET_DATA);
            packet.str(&path);
            packet.bool(false);
        } else {
            packet.int(opcode::SET_DATA);
            Op::SetData { path: &path, data: Some(&self.data), version: -1 }
                .encode_request(&mut packet);
        }
        out.extend_from_slice(&packet.finish());
    }

    async fn packet(&mut self) -> io::Result<bytes::Bytes> {
        loop {
            if let Some(packet) = self.packet_at_hand()? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn packet_at_hand(&mut self) -> io::Result<Option<bytes::Bytes>> {
        match self.framer.next(&mut self.input).map_err(io::Error::other)? {
            Some(Frame::Packet(packet)) => Ok(Some(packet)),
            _ => Ok(None),
        }
    }

    async fn close(mut self) -> io::Result<()> {
        let mut packet = JuteWriter::with_capacity(8);
        packet.int(self.next_xid);
        packet.int(opcode::CLOSE_SESSION);
        self.stream.write_all(&packet.finish()).await?;
        self.packet().await.map(drop)
    }
}

impl Measured {
    fn answered(&mut self, began: Instant, until: Instant, error: i32) {
        let now = Instant::now();
        if now >= self.from && now < until {
            let us = u64::try_from(now.duration_since(began).as_micros()).unwrap_or(u64::MAX);
            self.latencies_us.saturating_record(us.max(1));
        }
        self.errors += u64::from(error != 0);
    }
}
