//! What the services of two servers tell each other outside the log.

use quorate_contracts::{Malformed, Wire, WireReader, WireWriter};

use crate::command::SessionId;

/// A message of one server's service to another's. Losing one costs nothing: the next one follows soon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// To the leader: these sessions were heard since the last message.
    Touched {
        /// Which.
        sessions: Vec<SessionId>,
    },
    /// From the leader: I lead, and they live.
    Acknowledged,
}

impl Wire for ServerMessage {
    fn encode(&self, out: &mut WireWriter) {
        match self {
            Self::Touched { sessions } => {
                out.u8(1);
                out.u32(sessions.len() as u32);
                sessions.iter().for_each(|session| out.u64(session.0 as u64));
            }
            Self::Acknowledged => out.u8(2),
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        match input.u8()? {
            1 => {
                let sessions = (0..input.count(8)?).map(|_| Ok(SessionId(input.u64()? as i64)));
                Ok(Self::Touched { sessions: sessions.collect::<Result<_, _>>()? })
            }
            2 => Ok(Self::Acknowledged),
            _ => Err(Malformed("an unknown message between servers")),
        }
    }
}
