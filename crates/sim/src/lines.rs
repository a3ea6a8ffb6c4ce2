//! What a server is told of its connections when groups may sleep (RAFT-23): the driver owes it the loss of a member that it has
//! not heard for an election timeout, whatever the group says meanwhile (`quorate_raft`, module `hibernate`). Signs of life
//! are not sent here; whether one would have come is known.
//!
//! Without sleep none of this happens: elections then rest on Raft's own timers alone.

use std::collections::BTreeMap;

use quorate_contracts::{Input, NodeId, Service};

use crate::drive::Event;
use crate::world::World;
use crate::{Situation, Violation};

/// Looks in the time after which silence is a loss.
const LOOKS: u32 = 4;

impl<S: Service> World<S>
where
    S::Message: Clone,
{
    /// The connection between two servers breaks, and both are told: a reset, not a silence.
    pub fn hang_up(&mut self, a: NodeId, b: NodeId) {
        let at = self.now + self.options.network.replies.delay_max;
        for (to, member) in [(a, b), (b, a)] {
            self.queue.push(at, Event::Lost { to, member });
        }
    }

    /// A server that has just started looks at its connections from here on.
    pub(crate) fn begin_looking(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id)
            && self.options.timing.hibernate_after.is_some()
        {
            node.lines.clear();
            self.queue.push(self.now, Event::Look { node: id, life: node.life });
        }
    }

    /// Counts looks rather than time, as `server` does: a process that was stopped finds one due, not all of them.
    pub(crate) fn look(&mut self, id: NodeId) -> Result<(), Violation> {
        let every = self.options.timing.election_min / LOOKS;
        let heard: BTreeMap<NodeId, bool> = self.others_heard_by(id);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        self.queue.push(self.now + every, Event::Look { node: id, life: node.life });
        let mut lost = Vec::new();
        for (member, heard) in heard {
            match node.lines.get_mut(&member) {
                _ if heard => {
                    node.lines.insert(member, 0);
                }
                Some(silent) if *silent == LOOKS => lost.push(member),
                Some(silent) => *silent += 1,
                None => {}
            }
        }
        node.lines.retain(|member, _| !lost.contains(member));
        for member in lost {
            self.situations.reach(Situation::FellSilent);
            self.step(id, Input::MemberLost { member })?;
        }
        Ok(())
    }

    /// Whose signs of life would have reached this server.
    fn others_heard_by(&self, id: NodeId) -> BTreeMap<NodeId, bool> {
        let others = self.nodes.iter().filter(|(other, _)| **other != id);
        let heard = others.map(|(other, node)| {
            let lives = node.process.is_some() && node.paused_until <= self.now;
            (*other, lives && !self.network.is_cut(*other, id))
        });
        heard.collect()
    }
}
