//! What the labs replicate: a list of commands, each applied where Raft put it, doubles and all. A server only proposes;
//! asking again is the tester's affair.

use std::io::Read;

use quorate_contracts::{
    BadSnapshot, LogIndex, NodeId, Progress, Proposal, RequestId, Service, ServiceInput,
    ServiceOutput, StateMachine, Time,
};

use crate::ledger::Silence;

/// The commands applied so far. The labs' index of a command is its place in this list, from 1: our logs also hold
/// the no-op of each new leader, theirs do not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    values: Vec<u64>,
    digest: u64,
    /// A snapshot being taken: how many commands it covers, and how many were written out.
    snapshot: Option<(usize, usize)>,
}

impl Commands {
    pub(super) fn len(&self) -> u64 {
        self.values.len() as u64
    }

    /// The command at a place, counted from 1.
    pub(super) fn at(&self, index: u64) -> Option<u64> {
        self.values.get(usize::try_from(index.checked_sub(1)?).ok()?).copied()
    }

    fn push(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        self.values.push(value);
    }
}

impl StateMachine for Commands {
    type Outcome = ();
    type Event = std::convert::Infallible;

    fn apply(&mut self, _: LogIndex, command: &[u8], _: &mut Vec<Self::Event>) {
        let mut value = [0; 8];
        value.copy_from_slice(&command[..8]);
        self.push(u64::from_be_bytes(value));
    }

    fn digest(&self) -> u64 {
        self.digest
    }

    fn begin_snapshot(&mut self) {
        self.snapshot = Some((self.values.len(), 0));
    }

    fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        let Some((covered, written)) = &mut self.snapshot else { return Progress::Done };
        let end = (*written + (bytes / 8).max(1)).min(*covered);
        for value in &self.values[*written..end] {
            out.extend_from_slice(&value.to_be_bytes());
        }
        *written = end;
        if end < *covered {
            return Progress::More;
        }
        self.snapshot = None;
        Progress::Done
    }

    fn restore(reader: &mut dyn Read) -> Result<Self, BadSnapshot> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(BadSnapshot::Malformed("half a command"));
        }
        let mut commands = Self::default();
        chunks.iter().for_each(|chunk| commands.push(u64::from_be_bytes(*chunk)));
        Ok(commands)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        8 * self.len()
    }
}

/// The labs' `Start`: proposes, and forgets. Beyond the labs, it reads.
#[derive(Debug)]
pub(crate) struct Starter {
    node: NodeId,
    next: RequestId,
}

impl Starter {
    pub(super) fn new(node: NodeId, seed: u64) -> Self {
        Self { node, next: RequestId(seed & !0xffff_ffff) }
    }
}

/// A command: its value, and how many more bytes it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Command {
    pub(crate) value: u64,
    pub(crate) padding: usize,
}

/// What is asked of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// Propose this.
    Start(Command),
    /// How many commands there are, by a read that is up to date.
    Read,
}

/// What a read came to: how many commands there are, or that nobody could say.
pub(crate) type Found = Option<u64>;

impl Service for Starter {
    type Machine = Commands;
    type Message = Silence;
    type Request = Ask;
    type Reply = Found;

    fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    fn step(
        &mut self,
        _: Time,
        input: ServiceInput<'_, Self>,
        commands: &Commands,
        out: &mut Vec<ServiceOutput<Self>>,
    ) {
        let id = self.next;
        match input {
            ServiceInput::Requested(Ask::Start(Command { value, padding })) => {
                out.push(ServiceOutput::Propose(Proposal::encode(self.node, id, |out| {
                    out.u64(value);
                    out.raw(&vec![b'x'; padding]);
                })));
            }
            ServiceInput::Requested(Ask::Read) => out.push(ServiceOutput::ReadBarrier { id }),
            ServiceInput::ReadReady { .. } => {
                return out.push(ServiceOutput::Reply(Some(commands.len())));
            }
            ServiceInput::ReadRefused { .. } => return out.push(ServiceOutput::Reply(None)),
            _ => return,
        }
        self.next = id.next();
    }
}
