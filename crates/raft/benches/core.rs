//! How fast the core alone is: a leader proposes, replicates and commits small entries to servers in memory, with disks
//! and a network that take no time. `cargo bench -p quorate-raft --bench core` (`-- --entries N` for another number than a
//! million).
//!
//! What must not show: a cost per entry that grows with the length of the log, or with followers that are down.

#![expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_contracts::{Input, NodeId, Output, Process, Recovered, Time, WriteMark};
use quorate_raft::{Config, Message, Raft, Request};

const ENTRY_BYTES: usize = 16;

fn main() {
    let entries = entries_wanted();
    println!("entries of {ENTRY_BYTES} bytes; {entries} each");
    println!("{:34} {:>12} {:>9}   first and last tenth", "", "entries/s", "ns/entry");
    for batch in [1, 16, 256] {
        report(&format!("3 servers, {batch} a batch"), &run(3, 0, batch, entries));
    }
    report("5 servers, 256 a batch", &run(5, 0, 256, entries));
    report("5 servers, 2 down, 256 a batch", &run(5, 2, 256, entries));
    report("3 servers, 1 down, 1 a batch", &run(3, 1, 1, entries));
    report("2 servers, 1 a batch", &run(2, 0, 1, entries));
}

fn entries_wanted() -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--entries").skip(1);
    arguments.next().and_then(|number| number.parse().ok()).unwrap_or(1_000_000)
}

/// How long each tenth of the entries took.
type Tenths = Vec<(usize, Duration)>;

fn report(name: &str, tenths: &Tenths) {
    let entries: usize = tenths.iter().map(|(entries, _)| entries).sum();
    let all: Duration = tenths.iter().map(|(_, took)| *took).sum();
    let ns = |(entries, took): &(usize, Duration)| took.as_nanos() as usize / (*entries).max(1);
    let (first, last) = (ns(&tenths[0]), ns(&tenths[tenths.len() - 1]));
    let per_second = entries as f64 / all.as_secs_f64();
    println!("{name:34} {per_second:12.0} {:9}   {first} and {last} ns", ns(&(entries, all)));
}

fn run(servers: u64, down: u64, batch: usize, entries: usize) -> Tenths {
    let mut group = Group::new(servers, down);
    group.elect();
    let command = Bytes::from_static(&[7; ENTRY_BYTES]);
    let tenth = entries / 10;
    let mut tenths = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        let mut done = 0;
        while done < tenth {
            let size = batch.min(tenth - done);
            group.propose(vec![command.clone(); size]);
            done += size;
        }
        tenths.push((tenth, start.elapsed()));
    }
    let leader = &group.servers[0].raft;
    assert_eq!(leader.commit(), leader.last().index, "everything is committed");
    assert!(leader.commit().0 as usize >= tenth * 10, "everything was proposed");
    tenths
}

struct Server {
    raft: Raft,
    written: Option<WriteMark>,
}

/// Servers, and the messages between them. The first one leads.
struct Group {
    servers: Vec<Server>,
    down: u64,
    now: Time,
    in_flight: VecDeque<(NodeId, NodeId, Message)>,
    out: Vec<Output<Raft>>,
}

impl Group {
    fn new(servers: u64, down: u64) -> Self {
        let ids: Vec<NodeId> = (1..=servers).map(NodeId).collect();
        let servers = ids.iter().map(|id| {
            let raft = Raft::new(Config::new(*id, ids.clone()), Recovered::default(), id.0);
            Server { raft, written: None }
        });
        let servers = servers.collect();
        let (in_flight, out) = Default::default();
        Self { servers, down, now: Time::from_millis(1), in_flight, out }
    }

    fn elect(&mut self) {
        self.step(0, Input::Wake);
        self.now += Duration::from_secs(3);
        self.step(0, Input::Wake);
        self.settle();
        assert!(self.servers[0].raft.is_leader(), "the first one leads");
        // Those that are down are found out.
        for _ in 0..20 {
            self.now += Duration::from_millis(100);
            self.settle();
        }
    }

    fn propose(&mut self, commands: Vec<Bytes>) {
        // A microsecond an entry: heartbeats and checks have their share.
        self.now += Duration::from_micros(commands.len() as u64);
        self.step(0, Input::Requested(Request::Propose(commands)));
        self.settle();
    }

    /// Until nothing is to be done: wakes, writes, delivers.
    fn settle(&mut self) {
        loop {
            self.work();
            let Some((from, to, message)) = self.in_flight.pop_front() else { return };
            self.step(to.0 as usize - 1, Input::Received { from, message });
            // What has arrived is stepped before a timer.
            while let Some(at) = self.in_flight.iter().position(|(_, next, _)| *next == to) {
                let Some((from, _, message)) = self.in_flight.remove(at) else { break };
                self.step(to.0 as usize - 1, Input::Received { from, message });
            }
        }
    }

    fn work(&mut self) {
        for at in 0..self.servers.len() - self.down as usize {
            loop {
                let server = &mut self.servers[at];
                if server.raft.deadline().is_some_and(|(due, _)| due <= self.now) {
                    self.step(at, Input::Wake);
                } else if let Some(mark) = server.written.take() {
                    self.step(at, Input::Persisted { mark });
                } else {
                    break;
                }
            }
        }
    }

    fn step(&mut self, at: usize, input: Input<Raft>) {
        let up = self.servers.len() as u64 - self.down;
        let server = &mut self.servers[at];
        let mut out = std::mem::take(&mut self.out);
        server.raft.step(self.now, input, &mut out);
        for output in out.drain(..) {
            match output {
                Output::Persist { mark, .. } => server.written = Some(mark),
                // The disk takes no time: what waits for it leaves at once.
                Output::Send { to, message, .. } if to.0 <= up => {
                    self.in_flight.push_back((server.raft.node(), to, message));
                }
                _ => {}
            }
        }
        self.out = out;
    }
}
