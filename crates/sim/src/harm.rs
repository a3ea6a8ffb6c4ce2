//! What happens to the files of a server that is down: a bit rots, a snapshot is lost. Only where the others can mend it, and
//! at one server at a time: else what is lost would be bad luck and no bug.

use std::collections::BTreeMap;

use quorate_contracts::{NodeId, Random, Service, Term};
use quorate_storage::{Disk, inspect};

use crate::Situation;
use crate::disk_store::DiskStore;
use crate::world::{Node, World};

/// What was done to a server's files while it was down.
#[derive(Debug)]
pub(crate) enum Harm {
    /// This bit of this byte of this file rotted.
    Rot(String, u64, u8),
    /// Its newest snapshot is gone.
    Lost,
}

impl DiskStore {
    /// A bit of the log rots, somewhere in a batch that is known to have been durable. Returns whether there is one.
    fn rot(&mut self, pick: u64) -> bool {
        let mut random = Random::new(pick);
        let batches = self.proven_batches();
        let chosen = random.below(batches.len() as u64) as usize;
        let Some((file, begin, end)) = batches.into_iter().nth(chosen) else { return false };
        let (byte, bit) = (random.between(begin, end), random.below(8) as u8);
        self.disk.rot(&file, byte, bit);
        self.harm = Some(Harm::Rot(file, byte, bit));
        true
    }

    /// The batches of which something that was written later says that they were durable, so that damage to them is known
    /// for what it is, and not taken for a tear: file, begin and end. A file's first one begins with its header.
    fn proven_batches(&self) -> Vec<(String, u64, u64)> {
        let Ok(found) = inspect(&self.disk, &self.identity) else { return Vec::new() };
        let begins: BTreeMap<String, Vec<u64>> = self.disk.batches().into_iter().collect();
        let newest = found.segments.len().saturating_sub(1);
        let mut proven = Vec::new();
        for (nth, segment) in found.segments.into_iter().enumerate() {
            let last = (segment.first_batch + segment.batches).saturating_sub(1);
            let all = nth < newest || segment.durable_batch.is_some_and(|durable| durable >= last);
            let count = segment.batches.saturating_sub(u64::from(!all)) as usize;
            let Some(begins) = begins.get(&segment.file) else { continue };
            for (nth, begin) in begins.iter().copied().take(count).enumerate() {
                let begin = if nth == 0 { 0 } else { begin };
                let end = begins.get(nth + 1).copied().unwrap_or(segment.used_bytes);
                proven.push((segment.file.clone(), begin, end.max(begin + 1)));
            }
        }
        proven
    }

    /// The newest snapshot is gone. Returns whether there was one.
    fn lose_snapshot(&mut self) -> bool {
        let index = |name: &str| name.strip_suffix(".snap")?.split('-').nth(2)?.parse::<u64>().ok();
        let files = self.disk.list().unwrap_or_default().into_iter().map(|file| file.name);
        let newest = files.filter(|name| name.ends_with(".snap")).max_by_key(|name| index(name));
        let Some(newest) = newest else { return false };
        self.disk.lose_file(&newest);
        self.harm = Some(Harm::Lost);
        true
    }

    /// The bit that rotted reads as it did again.
    pub(crate) fn unrot(&mut self) {
        if let Some(Harm::Rot(file, byte, bit)) = &self.harm {
            self.disk.rot(file, *byte, *bit);
            self.harm = None;
        }
    }
}

impl<S: Service> World<S>
where
    S::Message: Clone,
{
    /// A bit rots in the log of a server that is down, if the others can mend it: at most one server at a time lacks
    /// something, else what is lost would be bad luck and no bug. Returns whether one did.
    pub fn rot_log(&mut self, id: NodeId, pick: u64) -> bool {
        self.harm_disk(id, Situation::LogRotted, |disk| disk.rot(pick))
    }

    /// The newest snapshot of a server that is down is gone, if the others can mend that. Returns whether one is.
    pub fn lose_snapshot(&mut self, id: NodeId) -> bool {
        self.harm_disk(id, Situation::SnapshotLost, DiskStore::lose_snapshot)
    }

    fn harm_disk(
        &mut self,
        id: NodeId,
        situation: Situation,
        harm: impl FnOnce(&mut DiskStore) -> bool,
    ) -> bool {
        if self.is_up(id) || self.lacks_something() {
            return false;
        }
        let disk = self.nodes.get_mut(&id).and_then(|node| node.disk.as_mut());
        let harmed = disk.is_some_and(harm);
        if harmed {
            self.situations.reach(situation);
            if self.up().any(|replica| replica.raft().membership().is_joint()) {
                self.situations.reach(Situation::HarmedDuringChange);
            }
            self.say(Some(id), || situation.name().to_string());
        }
        harmed
    }

    /// Whether some server may lack what its disk lost.
    pub fn lacks_something(&self) -> bool {
        let lacks = |node: &Node<S>| {
            let whole = node.process.as_ref().is_some_and(|replica| replica.raft().is_whole());
            node.disk.as_ref().is_some_and(|disk| disk.harm.is_some()) && !whole
        };
        self.nodes.values().any(lacks)
    }

    /// Whether a majority stays without this server, whatever becomes of a change of members that is under way, until the
    /// next one: its vote is not needed to elect somebody.
    pub fn does_without(&self, id: NodeId) -> bool {
        let Some(leader) = self.leader().and_then(|leader| self.replica(leader)) else {
            return false;
        };
        let (raft, term) = (leader.raft(), leader.raft().term());
        // Who leads an older term may not know of the newest members.
        let is_newest = self.nodes.values().all(|node| {
            let known = node.process.as_ref().map_or(Term(0), |replica| replica.raft().term());
            known.max(node.store.hard_state().term) <= term
        });
        let members = raft.membership();
        is_newest
            && raft.term_at(raft.commit()) == Some(term)
            && (raft.has_settled_membership() || members.is_joint())
            && members.voters.contains(&id)
            && members.is_quorum(|voter| voter != id)
    }

    /// Servers that did not start for the bit that rotted: an operator puts the file back.
    pub fn restore_refused(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.refusal.is_some()) {
            node.disk.as_mut().into_iter().for_each(DiskStore::unrot);
        }
    }
}
