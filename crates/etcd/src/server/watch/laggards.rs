//! What was written before, told to the watches that are not up to date, a slice at a time.

use prost::Message;
use quorate_contracts::Time;

use super::tell::Telling;
use super::{Watch, WatchRef};
use crate::messages::etcdserverpb as pb;
use crate::messages::mvccpb::Event;
use crate::server::{Outputs, Server};
use crate::store::{Mvcc, Store};
use crate::{Revision, server::call::StreamId};

/// Versions looked at in one step, over all watches.
const VERSIONS_PER_STEP: usize = 4_000;
/// Bytes of events in one response, unless one revision has more.
const RESPONSE_BYTES: usize = 256 << 10;

/// What one slice of history has for a watch.
struct Slice {
    events: Vec<Event>,
    /// The first revision that was not looked at.
    next: Revision,
    looked_at: usize,
}

impl Server {
    /// Lets watches that lag read on, those of one stream after those of another.
    pub(in crate::server) fn help_laggards(&mut self, now: Time, store: &Store, out: &mut Outputs) {
        let mut budget = VERSIONS_PER_STEP;
        while budget > 0 {
            let Some(stream) = self.hub.next_ready() else { return };
            self.hub.helped = Some(stream);
            let Some(watch) =
                self.hub.streams.get(&stream).and_then(|s| s.lagging.first().copied())
            else {
                self.hub.mark_ready(stream);
                continue;
            };
            let looked_at = self.help(now, (stream, watch), budget, store, out);
            budget = budget.saturating_sub(looked_at.max(1));
            self.hub.mark_ready(stream);
        }
    }

    /// Lets one watch read a slice of history: how many versions were looked at.
    fn help(
        &mut self,
        now: Time,
        to: WatchRef,
        budget: usize,
        store: &Store,
        out: &mut Outputs,
    ) -> usize {
        let Some(watch) = self.hub.streams.get(&to.0).and_then(|stream| stream.watches.get(&to.1))
        else {
            return 0;
        };
        if watch.next < store.compacted() {
            self.end_compacted(to, store, out);
            return 0;
        }
        let slice = slice(watch, store.mvcc(), budget);
        // Everything before `next` was told: a client may go on from there.
        let header = self.header(Revision(slice.next.0 - 1));
        let piece_bytes = self.config.request_bytes_max;
        let told = self.hub.told;
        let Some(stream) = self.hub.streams.get_mut(&to.0) else { return 0 };
        if let Some(watch) = stream.watches.get_mut(&to.1) {
            watch.next = slice.next;
            watch.told_at = now;
        }
        if slice.next > told {
            stream.lagging.remove(&to.1);
        }
        if !slice.events.is_empty() {
            stream.send_events(to, header, slice.events, piece_bytes, out);
        }
        self.answer_progress(to.0, out);
        slice.looked_at
    }

    /// What a watch wants next was compacted: it ends, and is told why.
    fn end_compacted(&mut self, to: WatchRef, store: &Store, out: &mut Outputs) {
        self.hub.remove(to);
        let header = Some(self.header(Revision(0)));
        let compact_revision = store.compacted().0;
        if let Some(stream) = self.hub.streams.get_mut(&to.0) {
            let response = pb::WatchResponse {
                header,
                watch_id: to.1,
                canceled: true,
                compact_revision,
                ..Default::default()
            };
            stream.send(to.0, response, out);
        }
        self.answer_progress(to.0, out);
    }
}

impl super::Hub {
    /// The stream after the one that was helped last.
    fn next_ready(&self) -> Option<StreamId> {
        let after = self.helped.map_or(StreamId(0), |helped| StreamId(helped.0.wrapping_add(1)));
        self.ready.range(after..).next().or_else(|| self.ready.first()).copied()
    }
}

/// Looks at whole revisions only, so that none is told in two parts.
fn slice(watch: &Watch, mvcc: &Mvcc, budget: usize) -> Slice {
    let mut slice = Slice { events: Vec::new(), next: watch.next, looked_at: 0 };
    let mut bytes = 0;
    for id in mvcc.written_since(watch.next) {
        let version = mvcc.get(id);
        if version.at.revision >= slice.next {
            if slice.looked_at >= budget || bytes >= RESPONSE_BYTES {
                slice.next = version.at.revision;
                return slice;
            }
            slice.next = version.at.revision.next();
        }
        slice.looked_at += 1;
        if watch.keys().contains(version.key) && watch.wants(id.is_live(), version.at.revision) {
            let event = Telling::new(mvcc, id).event(watch.prev_kv);
            bytes += event.encoded_len();
            slice.events.push(event);
        }
    }
    slice.next = mvcc.current().next();
    slice
}
