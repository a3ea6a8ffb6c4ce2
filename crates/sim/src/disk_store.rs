//! The real storage on a simulated disk, as a server of the world has it: what the storage submits is carried out
//! lane by lane, each operation after a while.
//!
//! Beside it the server keeps its `MemoryStore`, as a god's view: records go there when the storage vouches for them,
//! and a restart must find exactly those, or more of what was queued.

use std::collections::BTreeSet;

use quorate_contracts::{
    ClusterId, GroupId, Incarnation, Input, NodeId, Output, Random, Recovered, Service,
    SnapshotInput, Time,
};
use quorate_raft::Replica;
use quorate_storage::{Identity, OpenError, Storage, StorageEvent, StorageOptions};

use crate::drive::Event;
use crate::harm::Harm;
use crate::world::World;
use crate::{DiskFaults, Lane, SimDisk, Situation, Violation};

/// The group that every server has.
const GROUP: GroupId = GroupId(1);

/// How the disks under the real storage are.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// What they do to files.
    pub faults: DiskFaults,
    /// How the log is laid out.
    pub storage: StorageOptions,
}

impl Default for DiskOptions {
    /// Small segments, so that a short run sees many.
    fn default() -> Self {
        let storage = StorageOptions {
            segment_bytes: 16 << 10,
            batch_bytes: 64 << 10,
            tail_bytes: 16 << 10,
            reserve_bytes: 8 << 10,
            ..StorageOptions::default()
        };
        Self { faults: DiskFaults::default(), storage }
    }
}

/// One server's disk, and the storage on it while the process lives.
#[derive(Debug)]
pub(crate) struct DiskStore {
    pub(crate) disk: SimDisk,
    pub(crate) identity: Identity,
    options: StorageOptions,
    storage: Option<Storage<SimDisk>>,
    /// Lanes that carry something out.
    busy: BTreeSet<Lane>,
    wake_at: Option<Time>,
    news: Vec<StorageEvent>,
    /// What was done to its files last. It may still be so; whether the server lacks anything, it knows itself.
    pub(crate) harm: Option<Harm>,
}

impl DiskStore {
    /// An empty disk.
    pub(crate) fn new(node: NodeId, options: DiskOptions, random: Random) -> Self {
        let incarnation = Incarnation(node.0);
        Self {
            disk: SimDisk::new(options.faults, random),
            identity: Identity { cluster: ClusterId(1), node, incarnation },
            options: options.storage,
            storage: None,
            busy: BTreeSet::new(),
            wake_at: None,
            news: Vec::new(),
            harm: None,
        }
    }

    /// What a start finds.
    pub(crate) fn open(&mut self) -> Result<Recovered, OpenError> {
        let (storage, mut found) = Storage::open(self.disk.clone(), self.identity, self.options)?;
        self.storage = Some(storage);
        Ok(found.remove(&GROUP).unwrap_or_default())
    }

    /// The process dies, and the power with it.
    pub(crate) fn crash(&mut self) {
        self.storage = None;
        self.disk.crash();
        self.busy.clear();
        self.wake_at = None;
        self.news.clear();
    }
}

type Checked = Result<(), Violation>;

impl<S: Service> World<S>
where
    S::Message: Clone,
{
    /// A server's disk, if the real storage is under its servers.
    pub fn disk(&self, id: NodeId) -> Option<&SimDisk> {
        Some(&self.nodes.get(&id)?.disk.as_ref()?.disk)
    }

    /// Why a server that was to start did not.
    pub fn refusal(&self, id: NodeId) -> Option<&str> {
        self.nodes.get(&id)?.refusal.as_deref()
    }

    /// From here on all real disks are this bad.
    pub fn make_disks_fail(&mut self, faults: DiskFaults) {
        let disks = self.nodes.values().filter_map(|node| node.disk.as_ref());
        disks.for_each(|disk| disk.disk.set_faults(faults));
    }

    /// Passes on what is for the disk; gives back what is not.
    pub(crate) fn hand_to_storage(
        &mut self,
        id: NodeId,
        output: Output<Replica<S>>,
    ) -> Option<Output<Replica<S>>> {
        let node = self.nodes.get_mut(&id)?;
        let Some(DiskStore { storage: Some(storage), news, .. }) = &mut node.disk else {
            return Some(output);
        };
        match output {
            Output::Persist { mark, record } => {
                node.store.persist(mark, record.clone());
                storage.persist(GROUP, mark, record);
            }
            Output::ReadLog { from, to, bytes_max } => {
                storage.read_log(GROUP, from, to, bytes_max, news);
            }
            Output::Snapshot(work) => storage.snapshot(GROUP, work, news),
            other => return Some(other),
        }
        None
    }

    /// The end of a step: the storage begins what is due, and each idle lane its next operation.
    pub(crate) fn flush_disk(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(disk) = &mut node.disk else { return };
        let Some(storage) = &mut disk.storage else { return };
        storage.flush(now, &mut disk.news);
        let deadline = storage.deadline();
        let life = node.life;
        for lane in [Lane::Log, Lane::Aside] {
            if disk.disk.next(lane).is_some() && disk.busy.insert(lane) {
                let latency = node.store.draw_latency();
                let event = Event::Disk { node: id, life, lane: Some(lane) };
                self.queue.push(now + latency, event);
                if lane == Lane::Log && std::mem::take(&mut node.doomed) {
                    let at = now + latency / 2;
                    node.dies_in_write = Some(at);
                    self.queue.push(at, Event::Die { node: id, life });
                }
            }
        }
        if let Some(at) = deadline.map(|at| at.max(now))
            && disk.wake_at.is_none_or(|wake_at| at < wake_at)
        {
            disk.wake_at = Some(at);
            self.queue.push(at, Event::Disk { node: id, life, lane: None });
        }
        if !disk.news.is_empty() {
            self.queue.push(now, Event::Disk { node: id, life, lane: None });
        }
    }

    /// A lane has carried out an operation, or the storage wants to be woken.
    pub(crate) fn disk_event(&mut self, id: NodeId, lane: Option<Lane>) -> Checked {
        let now = self.now;
        let Some(disk) = self.nodes.get_mut(&id).and_then(|node| node.disk.as_mut()) else {
            return Ok(());
        };
        let Some(storage) = &mut disk.storage else { return Ok(()) };
        match lane {
            Some(lane) => {
                disk.busy.remove(&lane);
                if let Some(completion) = disk.disk.carry_out(lane) {
                    storage.complete(completion, &mut disk.news);
                }
            }
            None => disk.wake_at = disk.wake_at.filter(|at| *at > now),
        }
        for event in std::mem::take(&mut disk.news) {
            self.storage_event(id, event)?;
        }
        self.flush_disk(id);
        Ok(())
    }

    fn storage_event(&mut self, id: NodeId, event: StorageEvent) -> Checked {
        match event {
            StorageEvent::Persisted { mark, .. } => {
                let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
                node.store.vouched(mark);
                self.durable(id, mark)
            }
            StorageEvent::Read { from, entries, .. } => {
                self.step(id, Input::Read { from, entries })
            }
            StorageEvent::Snapshot { news, .. } => {
                if let (SnapshotInput::Finished { meta, .. }, Some(node)) =
                    (&news, self.nodes.get_mut(&id))
                {
                    node.store.snapshot_is(meta.clone());
                }
                self.step(id, Input::Snapshot(news))
            }
            StorageEvent::Room { room, .. } => self.step(id, Input::Room(room)),
            StorageEvent::LetGo { through, .. } => self.step(id, Input::LetGo { through }),
            StorageEvent::Failed { .. } => {
                self.situations.reach(Situation::DiskFailed);
                // As in `server`: the process ends.
                self.crash(id, true);
                Ok(())
            }
        }
    }

    /// A start on the real storage. What was vouched for is there, or is known to be damaged.
    pub(crate) fn start_from_disk(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(disk) = &mut node.disk else { return };
        match disk.open() {
            Ok(recovered) => {
                node.refusal = None;
                if !recovered.damaged.is_empty() {
                    self.situations.reach(Situation::StartedDamaged);
                }
                if recovered.lost.is_some() {
                    self.situations.reach(Situation::StartedWithLoss);
                }
                node.store.found(&recovered);
                self.start(id, recovered);
            }
            Err(error) => {
                self.situations.reach(Situation::RefusedToStart);
                node.refusal = Some(error.to_string());
            }
        }
    }
}
