//! `quorate bench zk`: a load on any server that speaks ZooKeeper's protocol.
//!
//! One thread, one task a client, each with a number of requests in flight.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
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

use super::load::{Load, Measured, Pace, account};
use super::{block_on, failed};
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
    keys: usize,
}

const ROOT: &str = "/quorate-bench";

impl Zk {
    pub(super) fn run(&self) -> Result<Done, Failure> {
        self.prepare().map_err(|error| failed(&error))?;
        let measured = block_on(self.drive())?;
        Ok(self.load.report(json!({ "size": self.size, "keys": self.keys }), &measured))
    }

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
        let (mut clients, servers) = (Vec::new(), self.servers.zookeeper());
        for number in 0..self.load.clients {
            let server = &servers[number % servers.len()];
            clients.push(Client::connect(server, self, number as u64).await?);
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

fn key(number: usize) -> String {
    format!("{ROOT}/k{number}")
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
    async fn connect(server: &str, zk: &Zk, seed: u64) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            random: Random::new(seed),
            reads_ppm: zk.load.reads * 10_000,
            keys: zk.keys.max(1) as u64,
            in_flight: zk.load.in_flight.max(1),
            data: vec![b'x'; zk.size],
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
        let mut sent: VecDeque<Instant> = VecDeque::with_capacity(self.in_flight);
        let mut out = Vec::new();
        loop {
            out.clear();
            while sent.len() < self.in_flight
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
                    measured.borrow_mut().answered(due, header.error == 0);
                }
                packet = self.packet_at_hand()?;
            }
        }
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

/// At that time; never, if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => pending().await,
    }
}
