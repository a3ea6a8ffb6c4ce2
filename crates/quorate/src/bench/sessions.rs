//! `quorate bench sessions`: a reconnection storm. Thousands of idle sessions, whose leader is killed: how soon all of
//! them are served again, and whether any is lost.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Args;
use quorate_contracts::Random;
use quorate_server::raise_open_files;
use quorate_zk::wire::framing::{Frame, Framer};
use quorate_zk::wire::{
    ConnectRequest, ConnectResponse, JuteReader, JuteWriter, ReplyHeader, opcode, xid,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{ClusterFile, NodeEntry, ask_status};
use crate::failure::{Done, Failure, Kind, say, tell};

/// Idle sessions whose leader is killed: how soon all are served again, and whether any is lost
#[derive(Args)]
#[command(after_help = "Examples:
  quorate bench sessions                          10,000 sessions on the cluster of `quorate up`; kills its leader
  quorate bench sessions --at-leader              all of them have to find another server
  quorate bench sessions --sessions 3000 --json

The killed node stays down: `quorate node start` starts it again.")]
pub(crate) struct Sessions {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "quorate-data")]
    dir: PathBuf,

    /// How many sessions
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sessions: usize,

    /// Their timeout
    #[arg(long, value_name = "MS", default_value_t = 20_000)]
    timeout_ms: u32,

    /// How long to look on after the storm: beyond the timeout, so that what was lost would have expired
    #[arg(long, value_name = "S", default_value_t = 25)]
    hold: u64,

    /// All of them are at the leader, and lose it at once; else they are spread over the servers
    #[arg(long)]
    at_leader: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How long opening all sessions, or the storm, may take.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
/// A client that finds no server tries the next one after this, at most.
const PAUSE_MAX_MS: u64 = 100;
/// Sessions that are begun before others are looked after.
const AT_ONCE: usize = 200;

/// What all sessions have in common.
#[derive(Default)]
struct Census {
    servers: Vec<SocketAddr>,
    timeout_ms: u32,
    /// Sessions that a server serves just now.
    served: usize,
    expired: usize,
    /// Connections that were lost.
    lost: usize,
    /// How long each lost one was without a server.
    gaps: Vec<Duration>,
    closing: bool,
}

type Shared = Rc<RefCell<Census>>;

/// One session.
struct Session {
    id: i64,
    password: Vec<u8>,
    last_zxid: i64,
    server: usize,
    random: Random,
    census: Shared,
}

/// What the storm came to.
struct Storm {
    opened_in: Duration,
    /// Sessions that lost their server.
    struck: usize,
    over_in: Duration,
    longest_gap: Duration,
    expired: usize,
    /// Sessions by the count of a server, in the end.
    counted: usize,
}

impl Sessions {
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        raise_open_files();
        let cluster = ClusterFile::read(&self.dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let storm =
            tokio::task::LocalSet::new().block_on(&runtime, self.measure(&cluster.nodes))?;
        self.report(&storm);
        Ok(if storm.expired == 0 { Done::Yes } else { Done::No })
    }

    async fn measure(&self, nodes: &[NodeEntry]) -> Result<Storm, Failure> {
        let servers = nodes.iter().map(|node| node.zookeeper).collect();
        let census = Census { servers, timeout_ms: self.timeout_ms, ..Census::default() };
        let census = Rc::new(RefCell::new(census));
        let leader = leader(nodes)?;
        let first = nodes.iter().position(|node| node.id == leader.id).filter(|_| self.at_leader);
        let began = Instant::now();
        for number in 0..self.sessions {
            let session = Session::new(number, first.unwrap_or(number), census.clone());
            tokio::task::spawn_local(session.live());
            if number.is_multiple_of(AT_ONCE) {
                self.wait(&census, "open all sessions", number.saturating_sub(AT_ONCE)).await?;
            }
        }
        self.wait(&census, "open all sessions", self.sessions).await?;
        let opened_in = began.elapsed();
        say(&format!("{} sessions opened in {:.1} s", self.sessions, opened_in.as_secs_f64()));
        say(&format!("kill -9 of node {}, which leads", leader.id));
        kill(leader.pid);
        let killed = Instant::now();
        while census.borrow().lost == 0 && killed.elapsed() < PATIENCE {
            tokio::time::sleep(POLL).await;
        }
        self.wait(&census, "serve all sessions again", self.sessions).await?;
        let over_in = killed.elapsed();
        tokio::time::sleep(Duration::from_secs(self.hold)).await;
        let alive = nodes.iter().filter(|node| node.id != leader.id);
        let counted =
            alive.filter_map(|node| ask_status(node.admin).ok()).map(|s| s.sessions).max();
        let storm = {
            let census = census.borrow();
            Storm {
                opened_in,
                struck: census.lost,
                over_in,
                longest_gap: census.gaps.iter().max().copied().unwrap_or_default(),
                expired: census.expired,
                counted: counted.unwrap_or_default(),
            }
        };
        census.borrow_mut().closing = true;
        self.wait_until(&census, "close all sessions", |census| census.served == 0).await?;
        Ok(storm)
    }

    /// Waits until so many sessions are served; those that expired will never be.
    async fn wait(&self, census: &Shared, what: &str, wanted: usize) -> Result<(), Failure> {
        self.wait_until(census, what, |census| census.served + census.expired >= wanted).await
    }

    async fn wait_until(
        &self,
        census: &Shared,
        what: &str,
        done: impl Fn(&Census) -> bool,
    ) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while !done(&census.borrow()) {
            if Instant::now() > end {
                let served = census.borrow().served;
                let cause = format!("{served} of {} are served after {PATIENCE:?}", self.sessions);
                let help = "look at the nodes' logs, and at the limit of open files (`ulimit -n`)";
                return Err(Failure::new(Kind::Unreachable, what, cause, help));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn report(&self, storm: &Storm) {
        if self.json {
            let report = json!({
                "sessions": self.sessions,
                "opened_in_s": storm.opened_in.as_secs_f64(),
                "struck": storm.struck,
                "all_served_after_s": storm.over_in.as_secs_f64(),
                "longest_gap_s": storm.longest_gap.as_secs_f64(),
                "expired": storm.expired,
                "counted_by_a_server": storm.counted,
            });
            return tell(&report.to_string());
        }
        tell(&format!(
            "{} of {} sessions lost their server; all are served again {:.2} s after the kill (longest wait of one: {:.2} s)\n\
             {} expired; a server counts {} sessions {} s later",
            storm.struck,
            self.sessions,
            storm.over_in.as_secs_f64(),
            storm.longest_gap.as_secs_f64(),
            storm.expired,
            storm.counted,
            self.hold
        ));
    }
}

impl Session {
    fn new(number: usize, server: usize, census: Shared) -> Self {
        let random = Random::new(number as u64);
        Self { id: 0, password: vec![0; 16], last_zxid: 0, server, random, census }
    }

    async fn live(mut self) {
        let mut lost: Option<Instant> = None;
        loop {
            if let Ok((stream, framer, buffer)) = self.join().await {
                if self.id == 0 {
                    self.census.borrow_mut().expired += 1;
                    return;
                }
                {
                    let mut census = self.census.borrow_mut();
                    census.served += 1;
                    census.gaps.extend(lost.map(|lost| lost.elapsed()));
                }
                let closed = self.be_idle(stream, framer, buffer).await;
                let mut census = self.census.borrow_mut();
                census.served -= 1;
                if closed {
                    return;
                }
                census.lost += 1;
                lost = Some(Instant::now());
            }
            self.server += 1 + self.random.below(2) as usize;
            let pause = self.random.between(1, PAUSE_MAX_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// A connection to the next server, and the session attached to it; the id is 0 afterwards if it is over.
    async fn join(&mut self) -> io::Result<(TcpStream, Framer, BytesMut)> {
        let (server, timeout_ms) = {
            let census = self.census.borrow();
            (census.servers[self.server % census.servers.len()], census.timeout_ms)
        };
        let patience = Duration::from_millis(timeout_ms.into()) / 3;
        let joined = tokio::time::timeout(patience, async {
            let mut stream = TcpStream::connect(server).await?;
            let request = ConnectRequest {
                last_zxid_seen: self.last_zxid,
                timeout_ms: timeout_ms as i32,
                session: self.id,
                password: self.password.clone(),
                read_only: Some(false),
            };
            stream.write_all(&request.encode()).await?;
            let (mut framer, mut buffer) = (Framer::new(1 << 20), BytesMut::new());
            let packet = next_packet(&mut stream, &mut framer, &mut buffer).await?;
            let response = ConnectResponse::decode(&packet).map_err(io::Error::other)?;
            Ok::<_, io::Error>((response, (stream, framer, buffer)))
        });
        let (response, parts) =
            joined.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        (self.id, self.password) = (response.session, response.password.to_vec());
        Ok(parts)
    }

    /// Pings until the connection is lost, or until all is over; says whether it is.
    async fn be_idle(
        &mut self,
        mut stream: TcpStream,
        mut framer: Framer,
        mut buffer: BytesMut,
    ) -> bool {
        let third = Duration::from_millis(u64::from(self.census.borrow().timeout_ms) / 3);
        loop {
            let wait = third.min(Duration::from_millis(1_000 + self.random.below(1_000)));
            let heard =
                tokio::time::timeout(wait, next_packet(&mut stream, &mut framer, &mut buffer));
            match heard.await {
                Ok(Ok(packet)) => {
                    if let Ok(header) = ReplyHeader::decode(&mut JuteReader::new(&packet)) {
                        self.last_zxid = self.last_zxid.max(header.zxid.0);
                    }
                    continue;
                }
                Ok(Err(_)) => return false,
                Err(_) => {}
            }
            let closing = self.census.borrow().closing;
            let (xid, opcode) =
                if closing { (1, opcode::CLOSE_SESSION) } else { (xid::PING, opcode::PING) };
            let mut ask = JuteWriter::with_capacity(16);
            ask.int(xid);
            ask.int(opcode);
            if stream.write_all(&ask.finish()).await.is_err() {
                return false;
            }
            if closing {
                // The answer, or the end.
                let _ = next_packet(&mut stream, &mut framer, &mut buffer).await;
                return true;
            }
        }
    }
}

async fn next_packet(
    stream: &mut TcpStream,
    framer: &mut Framer,
    buffer: &mut BytesMut,
) -> io::Result<Bytes> {
    loop {
        match framer.next(buffer).map_err(io::Error::other)? {
            Some(Frame::Packet(packet)) => return Ok(packet),
            Some(Frame::FourLetterWord(_)) => return Err(io::ErrorKind::InvalidData.into()),
            None if stream.read_buf(buffer).await? == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            None => {}
        }
    }
}

fn leader(nodes: &[NodeEntry]) -> Result<&NodeEntry, Failure> {
    let leads = |node: &&NodeEntry| {
        ask_status(node.admin)
            .is_ok_and(|s| s.groups.first().is_some_and(|group| group.role == "leader"))
    };
    nodes.iter().find(leads).ok_or_else(|| failed(&"no node leads"))
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn failed(cause: &dyn std::fmt::Display) -> Failure {
    let help = "is the cluster running? start it with `quorate up`";
    Failure::new(Kind::Unreachable, "measure a reconnection storm", cause, help)
}
