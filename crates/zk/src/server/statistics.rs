//! What is counted: of a server, and of each connection.

use quorate_contracts::{Histogram, Time};

use crate::command::Zxid;
use crate::wire::{RequestHeader, opcode};

/// Latencies of requests, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latencies {
    count: u64,
    sum_us: u64,
    least_us: u64,
    greatest_us: u64,
    last_us: u64,
}

impl Latencies {
    fn add(&mut self, us: u64) {
        self.least_us = if self.count == 0 { us } else { self.least_us.min(us) };
        self.greatest_us = self.greatest_us.max(us);
        self.sum_us += us;
        self.count += 1;
        self.last_us = us;
    }

    pub(super) fn least_ms(&self) -> u64 {
        self.least_us / 1_000
    }

    pub(super) fn mean_ms(&self) -> f64 {
        self.sum_us as f64 / 1_000.0 / self.count.max(1) as f64
    }

    pub(super) fn greatest_ms(&self) -> u64 {
        self.greatest_us / 1_000
    }

    pub(super) fn last_ms(&self) -> u64 {
        self.last_us / 1_000
    }
}

/// Sizes of the commands that this server sent into the log, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProposalSizes {
    pub(super) last: usize,
    pub(super) least: usize,
    pub(super) greatest: usize,
}

impl ProposalSizes {
    pub(super) fn add(&mut self, bytes: usize) {
        self.least = if self.greatest == 0 { bytes } else { self.least.min(bytes) };
        self.greatest = self.greatest.max(bytes);
        self.last = bytes;
    }
}

/// What was counted of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Packets of clients.
    pub received: u64,
    /// Packets to clients.
    pub sent: u64,
    /// How long clients waited for their answers, from the arrival of the request.
    pub answers: Histogram,
    /// Of those, reads ...
    pub(super) reads: Histogram,
    /// ... and writes.
    pub(super) writes: Histogram,
    pub(super) proposals: ProposalSizes,
    pub(super) latencies: Latencies,
}

impl Statistics {
    pub(super) fn answered(&mut self, now: Time, arrived: Time, opcode: i32) {
        let took = now.since(arrived);
        self.latencies.add(took.as_micros() as u64);
        self.answers.add(took);
        if is_write(opcode) { self.writes.add(took) } else { self.reads.add(took) }
    }
}

/// What was counted of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionStatistics {
    pub(super) received: u64,
    pub(super) sent: u64,
    /// Time of day when its session was attached, milliseconds since 1970.
    pub(super) established_unix_ms: i64,
    pub(super) last: Option<LastRequest>,
    pub(super) latencies: Latencies,
}

/// The last request that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastRequest {
    pub(super) header: RequestHeader,
    pub(super) zxid: Zxid,
    pub(super) unix_ms: i64,
}

impl ConnectionStatistics {
    pub(super) fn answered(&mut self, now: Time, arrived: Time, last: LastRequest) {
        self.latencies.add(now.since(arrived).as_micros() as u64);
        self.last = Some(last);
    }

    /// As the word `crst` asks.
    pub(super) fn reset(&mut self) {
        *self = Self { established_unix_ms: self.established_unix_ms, ..Self::default() };
    }
}

/// Whether a request goes through the log, for ZooKeeper's `updatelatency` and `readlatency`.
fn is_write(opcode: i32) -> bool {
    matches!(
        opcode,
        opcode::CREATE
            | opcode::CREATE2
            | opcode::CREATE_CONTAINER
            | opcode::CREATE_TTL
            | opcode::DELETE
            | opcode::SET_DATA
            | opcode::SET_ACL
            | opcode::SYNC
            | opcode::CHECK
            | opcode::MULTI
            | opcode::RECONFIG
            | opcode::CLOSE_SESSION
    )
}

/// The four letters by which ZooKeeper's `cons` names an operation.
pub(super) fn operation_name(opcode: i32) -> &'static str {
    match opcode {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => "CREA",
        opcode::DELETE => "DELE",
        opcode::EXISTS => "EXIS",
        opcode::GET_DATA => "GETD",
        opcode::SET_DATA => "SETD",
        opcode::GET_ACL => "GETA",
        opcode::SET_ACL => "SETA",
        opcode::GET_CHILDREN | opcode::GET_CHILDREN2 => "GETC",
        opcode::SYNC => "SYNC",
        opcode::PING => "PING",
        opcode::MULTI => "MULT",
        opcode::SET_WATCHES => "SETW",
        opcode::SET_WATCHES2 => "STW2",
        opcode::ADD_WATCH => "ADDW",
        opcode::CHECK_WATCHES => "CHKW",
        opcode::REMOVE_WATCHES => "REMW",
        opcode::MULTI_READ => "MLTR",
        opcode::GET_EPHEMERALS => "GETE",
        opcode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        opcode::WHO_AM_I => "HOMI",
        _ => "NA",
    }
}
