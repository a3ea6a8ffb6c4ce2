//! `quorate bench zk`: a load on any server that speaks ZooKeeper's protocol.
//!
//! One thread, one task a client, each with a number of requests in flight.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use quorate_client::Acl;
use quorate_contracts::Random;
use quorate_zk::command::{CreateMode, Op};
use quorate_zk::wire::framing::{Frame, Framer};
use quorate_zk::wire::{
    ConnectRequest, ConnectResponse, JuteReader, JuteWriter, ReplyHeader, opcode,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::block_on;
use super::load::{Load, Measured, Pace, Period, account, at};
use crate::failure::{Done, Failure, say};
use crate::servers::Servers;

/// A load on znodes
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench zk --clients 100
  quorate bench zk --clients 24 --in-flight 32 --size 1024 --reads 90 --json
  quorate bench zk --clients 24 --in-flight 32 --rate 50000     an open loop")]
pub(crate) struct Zk {
    #[command(flatten)]
    servers: Servers,

    #[command(flatten)]
    load: Load,

    /// Bytes of data in each write
    #[arg(long, value_name = "B", default_value_t = 100)]
    size: usize,

    /// How many znodes the load is spread over
    #[arg(long, value_name = "K", default_value_t = 100)]
    keys: u64,
}

const ROOT: &str = "/quorate-bench";
/// Clients that create the znodes, what each has in flight, and how long they may take.
const FILLERS: u64 = 6;
const FILL_IN_FLIGHT: usize = 128;
const FILL_MAX: Duration = Duration::from_secs(3600);
/// It is there from an earlier run.
const NODE_EXISTS: i32 = -110;

impl Zk {
    pub(super) fn run(&self) -> Result<Done, Failure> {
        let measured = block_on(self.measure())?;
        Ok(self.load.report(json!({ "size": self.size, "keys": self.keys }), &measured))
    }

    async fn measure(&self) -> io::Result<Measured> {
        let servers = self.servers.zookeeper();
        fill(&servers, self.keys, self.size).await?;
        self.drive(&servers).await
    }

    fn work(&self, seed: u64) -> Work {
        let random = Random::new(seed);
        Work::Mixed { random, reads_ppm: self.load.reads * 10_000, keys: self.keys.max(1) }
    }

    async fn drive(&self, servers: &[String]) -> io::Result<Measured> {
        let mut clients = Vec::new();
        for number in 0..self.load.clients {
            let work = self.work(number as u64);
            let server = &servers[number % servers.len()];
            clients
                .push(Client::connect(server, work, self.load.in_flight_max(), self.size).await?);
        }
        let period = self.load.period();
        let measured = Rc::new(RefCell::new(Measured::new(period)?));
        let mut tasks = Vec::new();
        for (number, client) in clients.into_iter().enumerate() {
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
}

fn key(number: u64) -> String {
    format!("{ROOT}/k{number}")
}

/// Creates the first so many znodes of the load, where they are not there yet.
pub(super) async fn fill(servers: &[String], keys: u64, size: usize) -> io::Result<()> {
    let period = Period { from: Instant::now(), until: Instant::now() + FILL_MAX };
    let measured = Rc::new(RefCell::new(Measured::new(period)?));
    let root = Client::connect(&servers[0], Work::CreateRoot { made: false }, 1, 0).await?;
    root.run(Pace::at_once(period), measured.clone()).await?;
    let mut tasks = Vec::new();
    for first in 0..FILLERS {
        let work = Work::Create { next: first, step: FILLERS, until: keys };
        let server = &servers[first as usize % servers.len()];
        let client = Client::connect(server, work, FILL_IN_FLIGHT, size).await?;
        let (pace, measured) = (Pace::at_once(period), measured.clone());
        tasks.push(tokio::task::spawn_local(client.run(pace, measured)));
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    match measured.borrow().errors() {
        0 => Ok(()),
        errors => Err(io::Error::other(format!("{errors} znodes were not created"))),
    }
}

/// What a client asks for next.
enum Work {
    /// Reads and writes of what is there.
    Mixed { random: Random, reads_ppm: u32, keys: u64 },
    /// The znode above all others, if it is not made yet.
    CreateRoot { made: bool },
    /// Every so manyth znode, from one on.
    Create { next: u64, step: u64, until: u64 },
}

impl Work {
    fn is_over(&self) -> bool {
        match self {
            Self::Mixed { .. } => false,
            Self::CreateRoot { made } => *made,
            Self::Create { next, until, .. } => next >= until,
        }
    }

    /// Puts the next request behind its number.
    fn request(&mut self, data: &[u8], packet: &mut JuteWriter) {
        match self {
            Self::Mixed { random, reads_ppm, keys } => {
                let path = key(random.below(*keys));
                if random.chance_ppm(*reads_ppm) {
                    packet.int(opcode::GET_DATA);
                    packet.str(&path);
                    packet.bool(false);
                } else {
                    packet.int(opcode::SET_DATA);
                    Op::SetData { path: &path, data: Some(data), version: -1 }
                        .encode_request(packet);
                }
            }
            Self::CreateRoot { made } => {
                *made = true;
                create(ROOT, data, packet);
            }
            Self::Create { next, step, .. } => {
                create(&key(*next), data, packet);
                *next += *step;
            }
        }
    }
}

fn create(path: &str, data: &[u8], packet: &mut JuteWriter) {
    packet.int(opcode::CREATE);
    let (acl, mode) = (Acl::open().0, CreateMode::Persistent);
    Op::Create { path, data: Some(data), acl, mode }.encode_request(packet);
}

/// One client of the load.
struct Client {
    stream: TcpStream,
    work: Work,
    in_flight: usize,
    data: Vec<u8>,
    next_xid: i32,
    input: BytesMut,
    framer: Framer,
}

impl Client {
    async fn connect(server: &str, work: Work, in_flight: usize, size: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            work,
            in_flight: in_flight.max(1),
            data: vec![b'x'; size],
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

    async fn run(mut self, mut pace: Pace, measured: Rc<RefCell<Measured>>) -> io::Result<()> {
        let mut sent: VecDeque<Instant> = VecDeque::new();
        let mut out = Vec::new();
        loop {
            out.clear();
            while sent.len() < self.in_flight
                && !self.work.is_over()
                && let Some(due) = pace.take(Instant::now())
            {
                self.request(&mut out);
                sent.push_back(due);
            }
            if !out.is_empty() {
                self.stream.write_all(&out).await?;
            }
            let has_room = sent.len() < self.in_flight;
            let next = if has_room { pace.next() } else { None };
            if sent.is_empty() && next.is_none() {
                return self.close().await;
            }
            let packet = tokio::select! {
                packet = self.packet() => packet?,
                () = at(next) => continue,
            };
            // Whatever has come is taken before anything new is sent.
            let mut packet = Some(packet);
            while let Some(bytes) = packet {
                let header =
                    ReplyHeader::decode(&mut JuteReader::new(&bytes)).map_err(io::Error::other)?;
                if let Some(due) = sent.pop_front() {
                    let ok = [0, NODE_EXISTS].contains(&header.error);
                    measured.borrow_mut().answered(due, ok);
                }
                packet = self.packet_at_hand()?;
            }
        }
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        let mut packet = JuteWriter::with_capacity(64 + self.data.len());
        packet.int(self.next_xid);
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        self.work.request(&self.data, &mut packet);
        out.extend_from_slice(&packet.finish());
    }

    /// The next packet. May be given up at any time.
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
