//! The smallest service worth replicating: a list of values, each written once, in the order in which
//! they were committed. It shows lost, doubled and reordered writes at a glance.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Read;
use std::time::Duration;

use quorate_contracts::{
    BadSnapshot, LogIndex, NodeId, Progress, Proposal, Refusal, RequestId, Service, ServiceInput,
    ServiceOutput, StateMachine, Time, WireReader,
};

/// A list that only grows, as the state of a machine: its digest, and snapshots of it in slices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    values: Vec<u64>,
    digest: u64,
    /// A snapshot being taken: how many values it covers, and how many were written out. Values are
    /// never changed, so that the list itself is its own copy.
    snapshot: Option<(usize, usize)>,
}

impl Values {
    pub(crate) fn push(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        self.values.push(value);
    }

    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.values
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn begin_snapshot(&mut self) {
        self.snapshot = Some((self.values.len(), 0));
    }

    pub(crate) fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        let Some((covered, written)) = &mut self.snapshot else { return Progress::Done };
        let take = (bytes / 8).max(1).min(*covered - *written);
        for value in &self.values[*written..*written + take] {
            out.extend_from_slice(&value.to_be_bytes());
        }
        *written += take;
        if *written < *covered {
            return Progress::More;
        }
        self.snapshot = None;
        Progress::Done
    }

    /// What was written to a snapshot.
    pub(crate) fn read(reader: &mut dyn Read) -> Result<Vec<u64>, BadSnapshot> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(BadSnapshot::Malformed("half a value"));
        }
        Ok(chunks.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect())
    }

    pub(crate) fn snapshot_bytes(&self) -> u64 {
        8 * self.values.len() as u64
    }
}

/// The values, in order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    values: Values,
    known: BTreeSet<u64>,
}

impl Ledger {
    /// The values, in the order in which they were committed.
    pub fn values(&self) -> &[u64] {
        self.values.as_slice()
    }

    fn write(&mut self, value: u64) -> bool {
        let new = self.known.insert(value);
        if new {
            self.values.push(value);
        }
        new
    }
}

impl StateMachine for Ledger {
    /// Whether the value was new.
    type Outcome = bool;
    type Event = Infallible;

    fn apply(&mut self, _at: LogIndex, command: &[u8], _: &mut Vec<Self::Event>) -> bool {
        let value =
            WireReader::from_slice(command).u64().expect("the ledger's commands are numbers");
        self.write(value)
    }

    fn digest(&self) -> u64 {
        self.values.digest()
    }

    fn begin_snapshot(&mut self) {
        self.values.begin_snapshot();
    }

    fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        self.values.snapshot_slice(bytes, out)
    }

    fn restore(reader: &mut dyn Read) -> Result<Self, BadSnapshot> {
        let mut ledger = Self::default();
        for value in Values::read(reader)? {
            ledger.write(value);
        }
        Ok(ledger)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        self.values.snapshot_bytes()
    }
}

/// What one server does for those who write and read. It proposes until it sees the value applied: the ledger
/// takes a value once, so that proposing it twice is harmless. A read waits until the state here is up to date.
#[derive(Debug)]
pub struct Clerk {
    node: NodeId,
    next: RequestId,
    pending: BTreeMap<RequestId, u64>,
    /// The newest of them, as long as it was proposed only once.
    fresh: Option<RequestId>,
    /// Reads that wait, by the barrier that they wait for.
    reads: BTreeMap<RequestId, u64>,
    propose_again_at: Option<Time>,
    /// Doubled each time: a cluster that is only slow must not drown in what it has already.
    patience: Duration,
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Write this value, which nobody wrote before.
    Write(u64),
    /// How many values there are, and the newest one. The number tells the reads apart.
    Read(u64),
}

/// What it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// This value is written.
    Written {
        /// The value.
        value: u64,
        /// How many values there were by then: it is one of them.
        length: usize,
    },
    /// Too many values wait, or the leader's disk is full: this one was not taken.
    WriteRefused {
        /// The value.
        value: u64,
    },
    /// What a read found.
    Read {
        /// As asked.
        read: u64,
        /// How many values there were.
        length: usize,
        /// The last of them.
        newest: Option<u64>,
    },
    /// Nobody could say: nothing was read.
    ReadRefused {
        /// As asked.
        read: u64,
    },
}

/// Values of one clerk that may wait. Beyond, it refuses: what waits is proposed again and again, and a cluster that is
/// offered more than it can take would drown in that.
const PENDING_MAX: usize = 50;

/// Pending values are proposed again after this silence, at first.
const PATIENCE: Duration = Duration::from_millis(700);

impl Clerk {
    /// A clerk of this server whose request ids begin at a number of this life's own.
    pub fn new(node: NodeId, seed: u64) -> Self {
        Self {
            node,
            next: RequestId(seed & !0xffff_ffff),
            pending: BTreeMap::new(),
            fresh: None,
            reads: BTreeMap::new(),
            propose_again_at: None,
            patience: PATIENCE,
        }
    }

    fn new_id(&mut self) -> RequestId {
        let id = self.next;
        self.next = id.next();
        id
    }

    fn asked(&mut self, now: Time, ask: Ask, out: &mut Vec<ServiceOutput<Self>>) {
        let id = self.new_id();
        match ask {
            Ask::Write(value) if self.pending.len() >= PENDING_MAX => {
                out.push(ServiceOutput::Reply(Told::WriteRefused { value }));
            }
            Ask::Write(value) => {
                self.pending.insert(id, value);
                self.fresh = Some(id);
                self.propose_again_at.get_or_insert(now + PATIENCE);
                out.push(self.propose(id, value));
            }
            Ask::Read(read) => {
                self.reads.insert(id, read);
                out.push(ServiceOutput::ReadBarrier { id });
            }
        }
    }

    fn propose(&self, id: RequestId, value: u64) -> ServiceOutput<Self> {
        ServiceOutput::Propose(Proposal::encode(self.node, id, |out| out.u64(value)))
    }

    fn propose_all(&mut self, now: Time, out: &mut Vec<ServiceOutput<Self>>) {
        self.fresh = None;
        out.extend(self.pending.iter().map(|(id, value)| self.propose(*id, *value)));
        self.propose_again_at = (!self.pending.is_empty()).then(|| now + self.patience);
        self.patience = (2 * self.patience).min(16 * PATIENCE);
    }

    /// Tells the writers of those pending values that are in the ledger.
    fn answer_known(&mut self, ledger: &Ledger, out: &mut Vec<ServiceOutput<Self>>) {
        let length = ledger.values().len();
        self.pending.retain(|_, value| {
            let known = ledger.known.contains(value);
            if known {
                out.push(ServiceOutput::Reply(Told::Written { value: *value, length }));
            }
            !known
        });
    }
}

impl Service for Clerk {
    type Machine = Ledger;
    /// Clerks have nothing to tell each other.
    type Message = Infallible;
    type Request = Ask;
    type Reply = Told;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        self.propose_again_at.map(|at| (at, "propose again"))
    }

    fn step(
        &mut self,
        now: Time,
        input: ServiceInput<'_, Self>,
        ledger: &Ledger,
        out: &mut Vec<ServiceOutput<Self>>,
    ) {
        let length = ledger.values().len();
        match input {
            ServiceInput::Requested(ask) => self.asked(now, ask, out),
            ServiceInput::Applied { id: Some(id), .. } => {
                if let Some(value) = self.pending.remove(&id) {
                    self.patience = PATIENCE;
                    out.push(ServiceOutput::Reply(Told::Written { value, length }));
                }
            }
            // It never left this server; a copy of an older one may be anywhere.
            ServiceInput::Refused { id, reason: Refusal::NoRoom } if self.fresh == Some(id) => {
                if let Some(value) = self.pending.remove(&id) {
                    out.push(ServiceOutput::Reply(Told::WriteRefused { value }));
                }
            }
            ServiceInput::ReadReady { id } => {
                if let Some(read) = self.reads.remove(&id) {
                    let newest = ledger.values().last().copied();
                    out.push(ServiceOutput::Reply(Told::Read { read, length, newest }));
                }
            }
            ServiceInput::ReadRefused { id, .. } => {
                if let Some(read) = self.reads.remove(&id) {
                    out.push(ServiceOutput::Reply(Told::ReadRefused { read }));
                }
            }
            ServiceInput::Restored => self.answer_known(ledger, out),
            ServiceInput::Leader { leader: Some(_), .. } => {
                self.patience = PATIENCE;
                self.propose_all(now, out);
            }
            ServiceInput::Wake if self.propose_again_at.is_some_and(|at| at <= now) => {
                self.propose_all(now, out);
            }
            _ => {}
        }
    }
}
