//! What happened, as a running hash (so that two runs can be compared) and, on request, as lines
//! that a person can read.

use std::fmt;

use quorate_contracts::{NodeId, Time};

/// A hash of everything that happened, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl TraceHash {
    /// Mixes the hash of another run in.
    pub fn combine(&mut self, other: Self) {
        self.mix(other.0);
    }

    /// Mixes a number in.
    pub fn mix(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One line of a readable trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceLine {
    /// When, in true time.
    pub at: Time,
    /// To whom.
    pub node: NodeId,
    /// What.
    pub text: String,
}

/// `12.418003 n2 leader of term 3`
impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} {:<3} {}", self.at.to_string(), self.node.to_string(), self.text)
    }
}
