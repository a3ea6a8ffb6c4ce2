//! What all loads have in common: the arguments, when each request is due, and what was measured.
//!
//! *Closed loop*: each client sends its next request when an answer is there, so a server that stalls is asked less. *Open loop*
//! (`--rate`): requests are due at fixed times, and an answer's time counts from when its request was due, however long that could not
//! be sent; a stall is seen by all who would have met it.

use std::cell::RefCell;
use std::fs;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::failure::{Done, tell};

/// The load
#[derive(Args)]
pub(super) struct Load {
    /// How many clients, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) clients: usize,

    /// Requests that each client has in flight
    #[arg(long, value_name = "M", default_value_t = 1)]
    in_flight: usize,

    /// Share of reads, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(super) reads: u32,

    /// Requests a second of all clients together, whether the ones before are answered or not; an answer's time counts from when
    /// its request was due [default: as fast as answers come]
    #[arg(long, value_name = "R", conflicts_with = "in_flight", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rate: Option<u64>,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) seconds: u64,

    /// How long to run before measuring
    #[arg(long, value_name = "S", default_value_t = 2)]
    pub(super) warmup: u64,

    /// Processes of the servers, with commas between them, whose processor time and memory are told as well
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pub(super) pids: Vec<u32>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Load {
    /// A load of so many requests a second.
    pub(super) fn paced(
        clients: usize,
        rate: u64,
        seconds: u64,
        pids: Vec<u32>,
        json: bool,
    ) -> Self {
        let rate = Some(rate);
        Self { clients, in_flight: 1, reads: 0, rate, seconds, warmup: 1, pids, json }
    }

    /// How many requests a client may have in flight. In an open loop answers decide nothing.
    pub(super) fn in_flight_max(&self) -> usize {
        if self.rate.is_some() { usize::MAX } else { self.in_flight.max(1) }
    }

    /// The times of one run, from now.
    pub(super) fn period(&self) -> Period {
        let from = Instant::now() + Duration::from_secs(self.warmup);
        Period { from, until: from + Duration::from_secs(self.seconds) }
    }

    /// When the requests of one of so many senders are due. They are spread evenly over the time between two of one sender.
    pub(super) fn pace(&self, number: usize, senders: usize, period: Period) -> Pace {
        let Some(rate) = self.rate else {
            return Pace { due: Instant::now(), every: None, period };
        };
        let every = Duration::from_secs_f64(senders as f64 / rate as f64);
        let due = Instant::now() + every.mul_f64(number as f64 / senders as f64);
        Pace { due, every: Some(every), period }
    }

    /// Tells what was measured.
    pub(super) fn report(&self, more: Value, measured: &Measured) -> Done {
        if self.json {
            let mut line = self.as_json(measured);
            line.extend(more.as_object().cloned().unwrap_or_default());
            tell(&Value::Object(line).to_string());
        } else {
            tell(&self.in_words(measured));
        }
        if measured.errors == 0 { Done::Yes } else { Done::No }
    }

    fn as_json(&self, measured: &Measured) -> Map<String, Value> {
        let at = |quantile| measured.at(quantile);
        let line = json!({
            "clients": self.clients, "in_flight": self.in_flight, "reads_percent": self.reads, "rate": self.rate,
            "seconds": self.seconds, "operations": measured.latencies_us.len(),
            "operations_per_second": measured.per_second(),
            "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1.0),
            "errors": measured.errors, "generator_cpu_seconds": measured.generator_cpu,
            "servers_cpu_seconds": measured.servers_cpu, "servers_resident_bytes": measured.servers_resident,
        });
        line.as_object().cloned().unwrap_or_default()
    }

    fn in_words(&self, measured: &Measured) -> String {
        let at = |quantile| measured.at(quantile);
        let each = match self.rate {
            Some(rate) => format!("{rate} requests a second"),
            None => format!("{} in flight each", self.in_flight),
        };
        let mut text = format!(
            "{} clients, {each}, {} % reads, {} s\n{:.0} operations a second; p50 {:.2} ms, p95 {:.2} ms, \
             p99 {:.2} ms, p99.9 {:.2} ms; {} errors\nprocessor time of the load itself: {:.2} s",
            self.clients,
            self.reads,
            self.seconds,
            measured.per_second(),
            at(0.5),
            at(0.95),
            at(0.99),
            at(0.999),
            measured.errors,
            measured.generator_cpu,
        );
        if !self.pids.is_empty() {
            let per_operation =
                1e6 * measured.servers_cpu / measured.latencies_us.len().max(1) as f64;
            let resident =
                measured.servers_resident.iter().max().copied().unwrap_or_default() >> 20;
            text += &format!(
                "\nof the servers: {:.2} s, {per_operation:.1} us an operation; the largest has {resident} MiB in memory",
                measured.servers_cpu
            );
        }
        text
    }
}

/// From when to when a run is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) from: Instant,
    pub(super) until: Instant,
}

/// When one sender's requests are due.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    due: Instant,
    every: Option<Duration>,
    period: Period,
}

impl Pace {
    /// As fast as answers come.
    pub(super) fn at_once(period: Period) -> Self {
        Self { due: period.from, every: None, period }
    }

    /// The next request, if it is due: from when its answer's time counts.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = if self.every.is_some() { self.due } else { now };
        if due > now || due >= self.period.until {
            return None;
        }
        self.due += self.every.unwrap_or_default();
        Some(due)
    }

    /// When the next one will be due, if it is not a matter of answers, and if there will be one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.every.map(|_| self.due).filter(|due| *due < self.period.until)
    }

    /// Waits for the next request; `None` when there will be no more.
    pub(super) async fn wait(&mut self) -> Option<Instant> {
        if let Some(due) = self.next() {
            tokio::time::sleep_until(due.into()).await;
        }
        self.take(Instant::now())
    }
}

/// At that time; never, if there is none.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => pending().await,
    }
}

/// What all clients measured together.
pub(super) struct Measured {
    latencies_us: Histogram<u64>,
    errors: u64,
    period: Period,
    generator_cpu: f64,
    servers_cpu: f64,
    servers_resident: Vec<u64>,
}

impl Measured {
    /// Nothing yet; three digits, up to ten minutes.
    pub(super) fn new(period: Period) -> io::Result<Self> {
        let latencies_us =
            Histogram::new_with_bounds(1, 600_000_000, 3).map_err(io::Error::other)?;
        Ok(Self {
            latencies_us,
            errors: 0,
            period,
            generator_cpu: 0.0,
            servers_cpu: 0.0,
            servers_resident: Vec::new(),
        })
    }

    /// An answer to a request that was due then. Only those that come within the period count, errors always.
    pub(super) fn answered(&mut self, due: Instant, ok: bool) {
        let now = Instant::now();
        self.errors += u64::from(!ok);
        if ok && now >= self.period.from && now < self.period.until {
            let us = u64::try_from(now.duration_since(due).as_micros()).unwrap_or(u64::MAX);
            self.latencies_us.saturating_record(us.max(1));
        }
    }

    /// A client that could not go on.
    pub(super) fn failed(&mut self) {
        self.errors += 1;
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    fn per_second(&self) -> f64 {
        self.latencies_us.len() as f64 / (self.period.until - self.period.from).as_secs_f64()
    }

    /// Milliseconds.
    fn at(&self, quantile: f64) -> f64 {
        self.latencies_us.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// Notes what the servers, and this process, use during the period.
pub(super) async fn account(measured: Rc<RefCell<Measured>>, period: Period, servers: Vec<u32>) {
    let own = [std::process::id()];
    tokio::time::sleep_until(period.from.into()).await;
    let before = (cpu_seconds(&own), cpu_seconds(&servers));
    tokio::time::sleep_until(period.until.into()).await;
    let mut measured = measured.borrow_mut();
    measured.generator_cpu = cpu_seconds(&own) - before.0;
    measured.servers_cpu = cpu_seconds(&servers) - before.1;
    measured.servers_resident = servers.iter().map(|pid| resident_bytes(*pid)).collect();
}

/// Processor time of these processes so far, in user and system mode. One that is gone used none.
fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks: u64 = pids.iter().filter_map(|pid| cpu_ticks(*pid)).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)); the second field may hold spaces, so they are counted from its closing bracket.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Resident memory: the second field of `/proc/PID/statm`, in pages.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: Option<u64>) -> Load {
        Load {
            clients: 2,
            in_flight: 1,
            reads: 0,
            rate,
            seconds: 1,
            warmup: 0,
            pids: Vec::new(),
            json: false,
        }
    }

    /// Two senders at ten requests a second: each has one every 200 ms, and the second's lie between the first's.
    #[test]
    fn an_open_loop_is_due_at_fixed_times_however_late_it_is() {
        let load = load(Some(10));
        let period = load.period();
        let (mut first, second) = (load.pace(0, 2, period), load.pace(1, 2, period));
        let began = first.next().expect("it is paced");
        let apart = second.next().expect("it is paced").duration_since(began);
        assert!(apart >= Duration::from_millis(100), "{apart:?}");
        let late = began + Duration::from_millis(450);
        let due: Vec<u128> = std::iter::from_fn(|| first.take(late))
            .map(|due| due.duration_since(began).as_millis())
            .collect();
        assert_eq!(due, [0, 200, 400], "none is left out");
        assert_eq!(
            first.take(period.until + Duration::from_secs(9)).map(|due| due < period.until),
            Some(true)
        );
    }

    #[test]
    fn a_closed_loop_is_due_at_once_until_the_end() {
        let load = load(None);
        let period = load.period();
        let mut pace = load.pace(0, 2, period);
        assert_eq!(pace.take(period.from), Some(period.from));
        assert_eq!(pace.take(period.until), None);
        assert_eq!(pace.next(), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        assert!(cpu_ticks(std::process::id()).is_some());
        assert!(resident_bytes(std::process::id()) > 1 << 20);
        assert_eq!(resident_bytes(0), 0);
    }
}
