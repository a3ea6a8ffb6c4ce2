//! What happened: as a running hash, so that two runs can be compared, and on request as events that a
//! person can read and a viewer can play (`docs/trace.md`).

use std::fmt;

use quorate_contracts::{EntryId, LogIndex, NodeId, Term, Time, WriteMark};
use quorate_raft::RoleName;

use crate::json::Object;

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

/// Something that happened, and when in true time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceEvent {
    /// When.
    pub at: Time,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A server looks like this from here on.
    State(NodeState),
    /// A server handed a record to its disk.
    Wrote {
        /// Who.
        node: NodeId,
        /// Under which mark.
        mark: WriteMark,
        /// Entries from here on were removed.
        truncated: Option<LogIndex>,
        /// Entries appended.
        entries: Vec<EntryId>,
    },
    /// Everything up to a mark is durable.
    Durable {
        /// On whose disk.
        node: NodeId,
        /// Up to which mark.
        mark: WriteMark,
    },
    /// A message left.
    Sent {
        /// Numbers the messages of the run.
        message: u64,
        /// Its sender.
        from: NodeId,
        /// Its receiver.
        to: NodeId,
        /// The paper's name, with the term and what matters of the rest: `AppendEntries term 3 after 16@3 +1 commit 15`.
        about: String,
        /// When it arrives: never, once or twice.
        arrives: Vec<Time>,
    },
    /// A message arrived at a server that is up.
    Arrived {
        /// Its number.
        message: u64,
        /// Where.
        to: NodeId,
    },
    /// A server died.
    Crashed {
        /// Which.
        node: NodeId,
        /// The others see its connections close.
        noticed: bool,
    },
    /// A server came back from its disk.
    Restarted {
        /// Which.
        node: NodeId,
    },
    /// A server was stopped (SIGSTOP).
    Stopped {
        /// Which.
        node: NodeId,
        /// Until when.
        until: Time,
    },
    /// A link was cut in one direction, or works again.
    Link {
        /// The sender's end.
        from: NodeId,
        /// The receiver's end.
        to: NodeId,
        /// Whether it carries nothing now.
        cut: bool,
    },
    /// All links work again.
    Healed,
    /// The scenario did something that only it knows: a client's write, faults that end.
    Said {
        /// At which server, if at one.
        node: Option<NodeId>,
        /// What.
        text: String,
    },
    /// A property was violated: the end of the run.
    Violated {
        /// Which, and how.
        text: String,
    },
}

/// A server as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeState {
    /// Which server.
    pub node: NodeId,
    /// What it is doing.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Its vote in this term.
    pub voted_for: Option<NodeId>,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Its log begins after this entry.
    pub base: EntryId,
    /// The last entry of its log.
    pub last: EntryId,
    /// Highest index it knows to be committed.
    pub commit: LogIndex,
    /// Highest index applied.
    pub applied: LogIndex,
    /// Highest index durable.
    pub durable: LogIndex,
    /// A hash of its state.
    pub digest: u64,
}

impl Happening {
    /// Whether it tells of a server's state or of a fault: what a short report shows. Messages and the disk's work are
    /// left to the trace file.
    pub fn is_headline(&self) -> bool {
        !matches!(
            self,
            Self::Sent { .. } | Self::Arrived { .. } | Self::Wrote { .. } | Self::Durable { .. }
        )
    }

    fn node(&self) -> Option<NodeId> {
        match self {
            Self::State(NodeState { node, .. })
            | Self::Wrote { node, .. }
            | Self::Durable { node, .. }
            | Self::Sent { from: node, .. }
            | Self::Arrived { to: node, .. }
            | Self::Crashed { node, .. }
            | Self::Restarted { node }
            | Self::Stopped { node, .. }
            | Self::Link { from: node, .. } => Some(*node),
            Self::Said { node, .. } => *node,
            Self::Healed | Self::Violated { .. } => None,
        }
    }
}

impl TraceEvent {
    /// One line of a trace file: a JSON object (`docs/trace.md` has the fields of each kind).
    pub fn to_json(&self) -> String {
        let mut line = Object::default();
        line.number("t", self.at.as_nanos());
        match &self.what {
            Happening::State(state) => state.to_json(&mut line),
            Happening::Wrote { node, mark, truncated, entries } => {
                line.word("e", "wrote").number("n", node.0).number("mark", mark.0);
                if let Some(index) = truncated {
                    line.number("truncated", index.0);
                }
                line.entries("entries", entries);
            }
            Happening::Durable { node, mark } => {
                line.word("e", "durable").number("n", node.0).number("mark", mark.0);
            }
            Happening::Sent { message, from, to, about, arrives } => {
                line.word("e", "sent").number("n", from.0).number("to", to.0);
                line.number("id", *message).text("about", about);
                line.numbers("arrives", arrives.iter().map(|at| at.as_nanos()));
            }
            Happening::Arrived { message, to } => {
                line.word("e", "arrived").number("n", to.0).number("id", *message);
            }
            Happening::Crashed { node, noticed } => {
                line.word("e", "crashed").number("n", node.0).bool("noticed", *noticed);
            }
            Happening::Restarted { node } => {
                line.word("e", "restarted").number("n", node.0);
            }
            Happening::Stopped { node, until } => {
                line.word("e", "stopped").number("n", node.0).number("until", until.as_nanos());
            }
            Happening::Link { from, to, cut } => {
                line.word("e", if *cut { "cut" } else { "joined" });
                line.number("n", from.0).number("to", to.0);
            }
            Happening::Healed => {
                line.word("e", "healed");
            }
            Happening::Said { node, text } => {
                line.word("e", "said");
                if let Some(node) = node {
                    line.number("n", node.0);
                }
                line.text("text", text);
            }
            Happening::Violated { text } => {
                line.word("e", "violated").text("text", text);
            }
        }
        line.finish()
    }
}

impl NodeState {
    fn to_json(self, line: &mut Object) {
        line.word("e", "state").number("n", self.node.0);
        line.text("role", &format!("{:?}", self.role)).number("term", self.term.0);
        if let Some(vote) = self.voted_for {
            line.number("vote", vote.0);
        }
        if let Some(leader) = self.leader {
            line.number("leader", leader.0);
        }
        line.entry("base", self.base).entry("last", self.last).number("commit", self.commit.0);
        line.number("applied", self.applied.0).number("durable", self.durable.0);
        // A number of 64 bits would lose its last digits in JavaScript.
        line.text("digest", &format!("{:016x}", self.digest));
    }
}

/// `leader term 3, last 17@3, commit 16, applied 16`
impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, term, last, commit, applied, digest, .. } = self;
        write!(f, "{role:?} term {term}, last {last}, commit {commit}, applied {applied}")?;
        write!(f, ", digest {digest:016x}")
    }
}

/// `entries` as `17@3..19@3`, or what there is of them.
fn range(f: &mut fmt::Formatter<'_>, entries: &[EntryId]) -> fmt::Result {
    match entries {
        [] => f.write_str("no entries"),
        [only] => write!(f, "{only}"),
        [first, .., last] => write!(f, "{first}..{last}"),
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "{state}"),
            Self::Wrote { mark, truncated, entries, .. } => {
                write!(f, "writes {mark}: ")?;
                if let Some(index) = truncated {
                    write!(f, "truncate {index}, ")?;
                }
                range(f, entries)
            }
            Self::Durable { mark, .. } => write!(f, "durable up to {mark}"),
            Self::Sent { message, to, about, arrives, .. } => {
                let fate = match arrives.len() {
                    0 => " (lost)",
                    1 => "",
                    _ => " (twice)",
                };
                write!(f, "→ {to} #{message} {about}{fate}")
            }
            Self::Arrived { message, .. } => write!(f, "← #{message}"),
            Self::Crashed { noticed: true, .. } => f.write_str("crashes; its connections close"),
            Self::Crashed { noticed: false, .. } => f.write_str("crashes silently"),
            Self::Restarted { .. } => f.write_str("restarts"),
            Self::Stopped { until, .. } => write!(f, "is stopped until {until}"),
            Self::Link { to, cut: true, .. } => write!(f, "no longer reaches {to}"),
            Self::Link { to, cut: false, .. } => write!(f, "reaches {to} again"),
            Self::Healed => f.write_str("all links work again"),
            Self::Said { text, .. } => f.write_str(text),
            Self::Violated { text } => write!(f, "VIOLATED {text}"),
        }
    }
}

/// `12.418003 n2  Leader term 3, ...`
impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.what.node().map(|node| node.to_string()).unwrap_or_default();
        write!(f, "{:>12} {node:<3} {}", self.at.to_string(), self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: Happening) -> TraceEvent {
        TraceEvent { at: Time::from_millis(12_418), what }
    }

    #[test]
    fn a_line_is_an_object_that_any_program_reads() {
        let id = |index, term| EntryId::new(LogIndex(index), Term(term));
        let wrote = Happening::Wrote {
            node: NodeId(2),
            mark: WriteMark(9),
            truncated: Some(LogIndex(17)),
            entries: vec![id(17, 3), id(18, 3)],
        };
        assert_eq!(
            event(wrote).to_json(),
            r#"{"t":12418000000,"e":"wrote","n":2,"mark":9,"truncated":17,"entries":[[17,3],[18,3]]}"#
        );
        let said = Happening::Said { node: None, text: "a \"quote\"\n".into() };
        assert_eq!(
            event(said).to_json(),
            r#"{"t":12418000000,"e":"said","text":"a \"quote\"\u000a"}"#
        );
    }

    #[test]
    fn a_line_for_people_names_the_server_first() {
        let crashed = Happening::Crashed { node: NodeId(3), noticed: true };
        assert_eq!(event(crashed).to_string(), "   12.418000 n3  crashes; its connections close");
    }
}
