//! What the labs replicate: a list of commands, each applied where Raft put it, doubles and all. A server only proposes;
//! asking again is the tester's affair.

use std::convert::Infallible;
use std::io::Read;

use quorate_contracts::{
    BadSnapshot, LogIndex, NodeId, Progress, Proposal, RequestId, Service, ServiceInput,
    ServiceOutput, StateMachine, Time,
};

use crate::ledger::Values;

/// The commands applied so far. The labs' index of a command is its place in this list, from 1: our logs also hold
/// the no-op of each new leader, theirs do not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands(Values);

impl Commands {
    pub(super) fn len(&self) -> u64 {
        self.0.as_slice().len() as u64
    }

    /// The command at a place, counted from 1.
    pub(super) fn at(&self, index: u64) -> Option<u64> {
        self.0.as_slice().get(usize::try_from(index.checked_sub(1)?).ok()?).copied()
    }
}

impl StateMachine for Commands {
    type Outcome = ();
    type Event = Infallible;

    fn apply(&mut self, _: LogIndex, command: &[u8], _: &mut Vec<Self::Event>) {
        let mut value = [0; 8];
        value.copy_from_slice(&command[..8]);
        self.0.push(u64::from_be_bytes(value));
    }

    fn digest(&self) -> u64 {
        self.0.digest()
    }

    fn begin_snapshot(&mut self) {
        self.0.begin_snapshot();
    }

    fn snapshot_slice(&mut self, bytes: usize, out: &mut Vec<u8>) -> Progress {
        self.0.snapshot_slice(bytes, out)
    }

    fn restore(reader: &mut dyn Read) -> Result<Self, BadSnapshot> {
        let mut commands = Self::default();
        Values::read(reader)?.into_iter().for_each(|value| commands.0.push(value));
        Ok(commands)
    }

    fn snapshot_bytes_estimate(&self) -> u64 {
        self.0.snapshot_bytes()
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
    type Message = Infallible;
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
