//! What was just written, told to the watches that are up to date.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_contracts::Time;

use super::{Hub, WatchRef};
use crate::messages::etcdserverpb as pb;
use crate::messages::mvccpb::Event;
use crate::server::{Outputs, Server};
use crate::store::{Mvcc, Store, VersionId};
use crate::{KeyRange, Revision};

impl Server {
    /// There are new revisions.
    pub(in crate::server) fn tell_written(&mut self, now: Time, store: &Store, out: &mut Outputs) {
        let first = self.hub.told.next();
        self.hub.told = store.revision();
        if self.hub.by_key.is_empty() && self.hub.by_range.is_empty() {
            return;
        }
        let wanted = self.hub.wanted(first, store.mvcc());
        let header = self.header(store.revision());
        for (to, events) in wanted {
            self.hub.deliver(now, to, first, header, events, self.config.request_bytes_max, out);
        }
    }

    /// The state was replaced: what happened in between is read from its history.
    pub(in crate::server) fn tell_restored(&mut self, store: &Store) {
        let next = self.hub.told.next();
        self.hub.told = store.revision();
        let ids: Vec<_> = self.hub.streams.keys().copied().collect();
        for id in ids {
            if let Some(stream) = self.hub.streams.get_mut(&id) {
                for (watch_id, watch) in &mut stream.watches {
                    if !stream.lagging.contains(watch_id) {
                        watch.next = watch.next.max(next);
                        if watch.next <= store.revision() {
                            stream.lagging.insert(*watch_id);
                        }
                    }
                }
            }
            self.hub.mark_ready(id);
        }
    }

    /// Tells quiet watches that asked for it that they have missed nothing.
    pub(in crate::server) fn tell_progress(&mut self, now: Time, store: &Store, out: &mut Outputs) {
        let header = Some(self.header(store.revision()));
        let quiet = Duration::from_millis(self.config.progress_notify_ms);
        for (to, stream) in self.hub.streams.iter_mut().filter(|(_, stream)| stream.has_room()) {
            let mut due = Vec::new();
            for (id, watch) in &mut stream.watches {
                let up_to_date = !stream.lagging.contains(id);
                if watch.progress_notify && up_to_date && now.since(watch.told_at) >= quiet {
                    watch.told_at = now;
                    due.push(*id);
                }
            }
            for watch_id in due {
                stream.send(*to, pb::WatchResponse { header, watch_id, ..Default::default() }, out);
            }
        }
    }
}

impl Hub {
    /// What each watch that is up to date wants of the revisions from `first` on.
    fn wanted(&self, first: Revision, mvcc: &Mvcc) -> BTreeMap<WatchRef, Vec<Event>> {
        let mut wanted: BTreeMap<WatchRef, Vec<Event>> = BTreeMap::new();
        for id in mvcc.written_since(first) {
            let mut telling = Telling::new(mvcc, id);
            let version = mvcc.get(id);
            for to in self.watching(version.key) {
                let Some(stream) =
                    self.streams.get(&to.0).filter(|stream| !stream.lagging.contains(&to.1))
                else {
                    continue;
                };
                if let Some(watch) = stream.watches.get(&to.1)
                    && watch.wants(id.is_live(), version.at.revision)
                {
                    wanted.entry(to).or_default().push(telling.event(watch.prev_kv));
                }
            }
        }
        wanted
    }

    fn watching(&self, key: &[u8]) -> impl Iterator<Item = WatchRef> {
        let of_ranges =
            self.by_range.iter().filter(|((start, end), _)| KeyRange::of(start, end).contains(key));
        let of_key = self.by_key.get(key).into_iter().flatten();
        of_ranges.flat_map(|(_, watches)| watches).chain(of_key).copied()
    }

    /// Sends a watch what was just written, or lets it lag if its client has too much on its way already.
    #[expect(clippy::too_many_arguments, reason = "each is one fact of one response")]
    fn deliver(
        &mut self,
        now: Time,
        to: WatchRef,
        first: Revision,
        header: pb::ResponseHeader,
        events: Vec<Event>,
        piece_bytes: usize,
        out: &mut Outputs,
    ) {
        let Some(stream) = self.streams.get_mut(&to.0) else { return };
        let has_room = stream.has_room();
        let Some(watch) = stream.watches.get_mut(&to.1) else { return };
        if has_room {
            watch.told_at = now;
            stream.send_events(to, header, events, piece_bytes, out);
        } else {
            watch.next = watch.next.max(first);
            stream.lagging.insert(to.1);
        }
    }
}

/// One version on its way to watchers: made once, shared by all.
pub(super) struct Telling<'a> {
    mvcc: &'a Mvcc,
    id: VersionId,
    plain: Option<Event>,
    with_previous: Option<Event>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(mvcc: &'a Mvcc, id: VersionId) -> Self {
        Self { mvcc, id, plain: None, with_previous: None }
    }

    pub(super) fn event(&mut self, with_previous: bool) -> Event {
        let (mvcc, id) = (self.mvcc, self.id);
        let plain = self.plain.get_or_insert_with(|| mvcc.event(id));
        if !with_previous {
            return plain.clone();
        }
        let make = || Event { prev_kv: mvcc.previous(id), ..plain.clone() };
        self.with_previous.get_or_insert_with(make).clone()
    }
}
