//! What the services of two servers tell each other outside the log: who keeps the time of a lease.

use quorate_contracts::{Malformed, Wire, WireReader, WireWriter};

use crate::LeaseId;

/// A message of one server's service to another's. Losing one costs nothing: it is asked again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// To the leader: about a lease.
    Ask {
        /// Finds the client that waits for the answer.
        ticket: u64,
        /// The lease.
        lease: LeaseId,
        /// It is to live on for its full time; else only the time that is left is asked for.
        renew: bool,
    },
    /// From the leader.
    Answer {
        /// What was asked with it.
        ticket: u64,
        /// Seconds that are left; 0 or less: the lease is gone or about to go.
        ttl: i64,
        /// Seconds it was granted for; 0 if it is gone.
        granted: i64,
    },
}

impl Wire for ServerMessage {
    fn encode(&self, out: &mut WireWriter) {
        match self {
            Self::Ask { ticket, lease, renew } => {
                out.u8(1);
                out.u64(*ticket);
                out.u64(lease.0 as u64);
                out.bool(*renew);
            }
            Self::Answer { ticket, ttl, granted } => {
                out.u8(2);
                out.u64(*ticket);
                out.u64(*ttl as u64);
                out.u64(*granted as u64);
            }
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            1 => Self::Ask {
                ticket: input.u64()?,
                lease: LeaseId(input.u64()? as i64),
                renew: input.bool()?,
            },
            2 => Self::Answer {
                ticket: input.u64()?,
                ttl: input.u64()? as i64,
                granted: input.u64()? as i64,
            },
            _ => return Err(Malformed("an unknown message between servers")),
        })
    }
}
