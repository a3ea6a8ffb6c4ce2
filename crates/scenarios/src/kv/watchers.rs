//! Watchers that follow everything: each goes on at another server where it was told so far, when its server dies.
//!
//! Together they write a chronicle: what happened at each revision. They must agree on it, and none may be told of a
//! revision twice, in parts, out of order, or miss one without being told that it was compacted.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_contracts::{NodeId, Random, Time};
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd::messages::mvccpb::Event;
use quorate_etcd::server::{ClientReply, ClientRequest, Context, Server, StreamId};
use quorate_sim::{Violation, World};

use crate::Failure;

/// What one revision did: key, and value or nothing.
pub(crate) type Deeds = Vec<(Vec<u8>, Option<Vec<u8>>)>;

struct Watcher {
    /// Its stream, and the server at the other end.
    stream: Option<(StreamId, NodeId)>,
    /// The first revision that it was not told of.
    next: i64,
    /// Compaction overtook it: it may miss revisions until the next event.
    overtaken: bool,
    /// It reads slowly: until then nothing it was sent counts as read.
    busy_until: Time,
    unread: usize,
}

/// All watchers of a run.
pub(crate) struct Watchers {
    all: Vec<Watcher>,
    /// What happened at each revision, as far as anybody was told.
    pub(crate) chronicle: BTreeMap<i64, Deeds>,
    random: Random,
    next_stream: u64,
    nodes: u64,
    /// How often a watcher leaves its server for no reason, per look, in millionths.
    pub(crate) leaves_ppm: u32,
}

impl Watchers {
    pub(crate) fn new(count: usize, nodes: u64, random: Random) -> Self {
        let watcher = |_| Watcher {
            stream: None,
            next: 2,
            overtaken: false,
            busy_until: Time::ZERO,
            unread: 0,
        };
        let all = (0..count).map(watcher).collect();
        Self { all, chronicle: BTreeMap::new(), random, next_stream: 0, nodes, leaves_ppm: 2_000 }
    }

    /// Sets watches that are not set, reads, and leaves now and then.
    pub(crate) fn run(&mut self, world: &mut World<Server>) -> Result<(), Violation> {
        for index in 0..self.all.len() {
            if self.random.chance_ppm(self.leaves_ppm) {
                self.leave(index, world)?;
            }
            match self.all[index].stream {
                None => self.begin(index, world)?,
                Some((stream, node)) => self.read(index, stream, node, world)?,
            }
        }
        Ok(())
    }

    fn leave(&mut self, index: usize, world: &mut World<Server>) -> Result<(), Violation> {
        if let Some((stream, node)) = self.all[index].stream.take() {
            world.request(node, ClientRequest::StreamClosed { stream })?;
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, world: &mut World<Server>) -> Result<(), Violation> {
        let node = NodeId(1 + self.random.below(self.nodes));
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        if !world
            .request(node, ClientRequest::WatchOpened { stream, context: Context::default() })?
        {
            return Ok(());
        }
        let watcher = &mut self.all[index];
        (watcher.stream, watcher.unread) = (Some((stream, node)), 0);
        let create = pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: watcher.next,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        world.request(node, ClientRequest::Watch { stream, request })?;
        Ok(())
    }

    /// Reads what was sent, unless it is busy; it becomes busy now and then.
    fn read(
        &mut self,
        index: usize,
        stream: StreamId,
        node: NodeId,
        world: &mut World<Server>,
    ) -> Result<(), Violation> {
        let now = world.now();
        if self.random.chance_ppm(3_000) {
            self.all[index].busy_until = now + Duration::from_millis(self.random.below(3_000));
        }
        let watcher = &mut self.all[index];
        if watcher.unread > 0 && watcher.busy_until <= now {
            let bytes = std::mem::take(&mut watcher.unread);
            world.request(node, ClientRequest::WatchSent { stream, bytes })?;
        }
        Ok(())
    }

    /// A server has died, and its streams with it.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        for watcher in &mut self.all {
            if watcher.stream.is_some_and(|(_, at)| at == node) {
                watcher.stream = None;
            }
        }
    }

    /// A server tells somebody something.
    pub(crate) fn replied(&mut self, reply: &ClientReply) -> Result<(), Failure> {
        let ClientReply::Watch { stream, response, bytes } = reply else { return Ok(()) };
        let is_reader = |watcher: &Watcher| watcher.stream.is_some_and(|(own, _)| own == *stream);
        let Some(index) = self.all.iter().position(is_reader) else { return Ok(()) };
        self.all[index].unread += bytes;
        if response.canceled {
            let watcher = &mut self.all[index];
            watcher.stream = None;
            watcher.next = watcher.next.max(response.compact_revision);
            watcher.overtaken = response.compact_revision > 0;
            return Ok(());
        }
        self.told(index, &response.events)
    }

    fn told(&mut self, index: usize, events: &[Event]) -> Result<(), Failure> {
        let mut by_revision: BTreeMap<i64, Deeds> = BTreeMap::new();
        let mut last = 0;
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if kv.mod_revision < last {
                return Err(wrong(
                    "ordered",
                    format!("revision {} is told after {last}", kv.mod_revision),
                ));
            }
            last = kv.mod_revision;
            let value = (event.r#type == 0).then(|| kv.value.to_vec());
            by_revision.entry(kv.mod_revision).or_default().push((kv.key.to_vec(), value));
        }
        by_revision
            .into_iter()
            .try_for_each(|(revision, deeds)| self.told_revision(index, revision, deeds))
    }

    fn told_revision(&mut self, index: usize, revision: i64, deeds: Deeds) -> Result<(), Failure> {
        let watcher = &mut self.all[index];
        if revision < watcher.next {
            let what = format!("watcher {index} is told of {revision}, and wants {}", watcher.next);
            return Err(wrong("told once and whole", what));
        }
        if revision > watcher.next && !watcher.overtaken {
            let what =
                format!("watcher {index} is told of {revision}, and not of {}", watcher.next);
            return Err(wrong("no gap", what));
        }
        (watcher.next, watcher.overtaken) = (revision + 1, false);
        match self.chronicle.get(&revision) {
            Some(known) if *known != deeds => {
                let what = format!(
                    "revision {revision} is {known:?} to one, {deeds:?} to watcher {index}"
                );
                Err(wrong("the same to all", what))
            }
            Some(_) => Ok(()),
            None => {
                self.chronicle.insert(revision, deeds);
                Ok(())
            }
        }
    }

    /// The watcher that is not up to date, if there is one.
    pub(crate) fn behind(&self, revision: i64) -> Option<usize> {
        self.all.iter().position(|watcher| watcher.next != revision + 1)
    }
}

fn wrong(property: &str, what: String) -> Failure {
    Failure::safety(&format!("watch, {property}"), what)
}
