//! What one server does for the clients connected to it, on top of its replica.
//!
//! ```text
//!   clients ⇄ Service ──Propose──▶ Replica ──▶ Raft ──▶ log ──▶ StateMachine::apply
//!                ▲                                                    │
//!                └────────────── Applied (outcome, events) ◀──────────┘
//! ```
//!
//! A service reads the state machine directly, between two applies, and changes it only by
//! proposing. Each applied entry is told to it before the next one is applied, so that what it
//! answers and what it reads is the state at exactly that index.

use bytes::Bytes;

use crate::{EntryId, LogIndex, NodeId, RequestId, StateMachine, Term, Time, Wire, WireWriter};

/// The part of a server that stands between clients and a replicated state machine.
pub trait Service: Sized {
    /// What is replicated.
    type Machine: StateMachine;
    /// What the services of two servers tell each other outside the log. It may be lost.
    type Message: Wire;
    /// What this server's clients ask.
    type Request;
    /// What they are told.
    type Reply;

    /// Whether this command is taken even where there is little room left for the log: what clients need to go on
    /// reading, and small. None is, unless the service says so.
    fn is_vital(_command: &[u8]) -> bool {
        false
    }

    /// When to be woken even if nothing happens, and why.
    fn deadline(&self) -> Option<(Time, &'static str)>;

    /// Takes one input; appends what must be done to `out`, in order.
    fn step(
        &mut self,
        now: Time,
        input: ServiceInput<Self>,
        machine: &Self::Machine,
        out: &mut Vec<ServiceOutput<Self>>,
    );
}

/// What a service is told.
pub enum ServiceInput<'a, S: Service> {
    /// The deadline has come.
    Wake,
    /// The time of day, in milliseconds since 1970. It may jump.
    WallClock {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: i64,
    },
    /// A client asks for something.
    Requested(S::Request),
    /// An entry was applied here; `machine` is the state right after it.
    Applied {
        /// The entry.
        at: EntryId,
        /// The proposal it came from, if it was made by this server (in this life or an earlier
        /// one: an unknown id is to be ignored).
        id: Option<RequestId>,
        /// What it came to.
        outcome: <S::Machine as StateMachine>::Outcome,
        /// What those who watch are to be told, in order.
        events: &'a [<S::Machine as StateMachine>::Event],
    },
    /// The machine was replaced by a snapshot. What happened in between was not told, and
    /// proposals in flight may or may not be part of it.
    Restored,
    /// A proposal did not get into a log and never will by itself: nothing happened.
    Refused {
        /// The proposal.
        id: RequestId,
        /// Whom to blame.
        reason: Refusal,
    },
    /// The state is up to date for a [`ServiceOutput::ReadBarrier`]: it holds everything that was acknowledged to
    /// anybody before the barrier was asked for. `machine` may be read right now.
    ReadReady {
        /// The barrier's id.
        id: RequestId,
    },
    /// No leader answered for a barrier: it may be asked for again, or the client be told that nothing was read.
    ReadRefused {
        /// The barrier's id.
        id: RequestId,
        /// Whom to blame.
        reason: Refusal,
    },
    /// There is a new leader, or none that is known. What was proposed before may be lost; a service
    /// whose commands are recognised when they come twice may propose them again, in order.
    Leader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
        /// Its term.
        term: Term,
    },
    /// Who belongs to the group, as of what was applied: told at the start, and after each change.
    Members {
        /// The entry since which it is so; 0 for those that the group began with.
        since: LogIndex,
        /// Those whose majority decides, in order of id.
        voters: Vec<NodeId>,
        /// Those that get the log and do not vote, in order of id.
        learners: Vec<NodeId>,
    },
    /// A message of another server's service.
    Received {
        /// Its sender.
        from: NodeId,
        /// What it says.
        message: S::Message,
    },
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No leader is known.
    NoLeader,
    /// The leader has too much in flight; try again a little later.
    Busy,
    /// The command is larger than an entry may be.
    TooLarge,
    /// Leadership is being handed over: whoever leads next is told very soon.
    Transferring,
    /// The leader's disk is full. It was refused right here: it never left this server. One that had left is refused
    /// as `Busy`.
    NoRoom,
}

/// What a service wants done.
pub enum ServiceOutput<S: Service> {
    /// Get this command into the log. Answered with `Applied` or `Refused`, or not at all if a
    /// leader or a message is lost.
    Propose(Proposal),
    /// Linearizable reads want to know when the state here is up to date (Raft thesis, 6.4). Answered with `ReadReady`
    /// or `ReadRefused`, always, within a few election timeouts, and not after a restart. One barrier serves any
    /// number of reads that arrived before it; barriers of one batch share a round among the members. It says nothing of
    /// proposals that this server has made and not seen applied.
    ReadBarrier {
        /// Comes back.
        id: RequestId,
    },
    /// Tell the service of another server. It may be lost; to oneself it is delivered at once.
    Tell {
        /// The receiver.
        to: NodeId,
        /// What it is told.
        message: S::Message,
    },
    /// Tell a client.
    Reply(S::Reply),
}

/// Bytes before the command in an entry's data: the proposing server and the request's id.
pub const PROPOSAL_HEADER_BYTES: usize = 16;

/// A command on its way into the log: who proposed it, and the command, in one buffer that is
/// never copied again.
///
/// ```text
/// origin: u64 BE | request id: u64 BE | command
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    data: Bytes,
}

impl Proposal {
    /// Encodes a command with `encode`, behind its header.
    pub fn encode(origin: NodeId, id: RequestId, encode: impl FnOnce(&mut WireWriter)) -> Self {
        let mut data = WireWriter::with_capacity(256);
        data.u64(origin.0);
        data.u64(id.0);
        encode(&mut data);
        Self { data: data.finish_tight() }
    }

    /// Reads an entry's data back, or `None` if it is too short to be a proposal.
    pub fn from_data(data: Bytes) -> Option<Self> {
        (data.len() >= PROPOSAL_HEADER_BYTES).then_some(Self { data })
    }

    /// The server that proposed it.
    pub fn origin(&self) -> NodeId {
        NodeId(self.word(0))
    }

    /// The id under which that server waits for it.
    pub fn id(&self) -> RequestId {
        RequestId(self.word(8))
    }

    /// What is to be applied.
    pub fn command(&self) -> &[u8] {
        &self.data[PROPOSAL_HEADER_BYTES..]
    }

    /// Header and command: an entry's data.
    pub fn into_data(self) -> Bytes {
        self.data
    }

    /// Size of header and command in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a proposal has a header, so is never empty")]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.data[at..at + 8]);
        u64::from_be_bytes(bytes)
    }
}
