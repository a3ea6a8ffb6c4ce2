//! Watches (KV-1): who is told what happened to which keys.
//!
//! What a watch gets is ordered by revision, each event once, and all events of one revision that it wants in one response
//! (or in pieces of one, if it allows them). It may begin in the past, as far back as the last compaction, and knows
//! from progress notifications what it has not missed.
//!
//! Events are kept nowhere for a watch. One whose client reads slowly is told nothing more until there is room, and
//! then reads the history of the store again (`laggards`): the memory of a slow client is bounded by what it was sent. If
//! compaction overtakes it, it is ended, and told so.
//!
//! | file | what it does |
//! | --- | --- |
//! | `requests` | watches are set and ended |
//! | `tell` | what was just written, to those who are up to date |
//! | `laggards` | what was written before, to those who are not |

mod laggards;
mod requests;
mod tell;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use quorate_contracts::{ServiceOutput, Time};

use super::Outputs;
use super::call::{ClientReply, Context, StreamId};
use crate::messages::etcdserverpb as pb;
use crate::messages::mvccpb::Event;
use crate::{KeyRange, Revision};

/// Bytes that may be on their way to one client; beyond, its watches wait.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// A watch, by its stream and its number there.
type WatchRef = (StreamId, i64);

/// All watches of one server.
#[derive(Debug, Default)]
pub(super) struct Hub {
    streams: BTreeMap<StreamId, Stream>,
    /// Watches of a single key.
    by_key: BTreeMap<Bytes, BTreeSet<WatchRef>>,
    /// Watches of ranges, as (key, range end); equal ranges are looked at once.
    by_range: BTreeMap<(Bytes, Bytes), BTreeSet<WatchRef>>,
    /// Streams that have room, and watches that lag.
    ready: BTreeSet<StreamId>,
    /// The stream that was helped last.
    helped: Option<StreamId>,
    /// Watches that are up to date have been told everything up to this revision.
    told: Revision,
    /// Since when no leader is known.
    leaderless_since: Option<Time>,
}

/// The watches of one client.
#[derive(Debug, Default)]
struct Stream {
    context: Context,
    watches: BTreeMap<i64, Watch>,
    lagging: BTreeSet<i64>,
    next_id: i64,
    /// Bytes on their way.
    unsent: usize,
    /// The client wants to know how far it is, once no watch lags.
    progress_wanted: bool,
}

#[derive(Debug)]
struct Watch {
    key: Bytes,
    range_end: Bytes,
    /// The first revision that it has not been told of.
    next: Revision,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    told_at: Time,
}

impl Hub {
    pub(super) fn len(&self) -> usize {
        self.streams.values().map(|stream| stream.watches.len()).sum()
    }

    /// Whether a watch that lags can be helped at once.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// So many bytes have left for a client.
    pub(super) fn sent(&mut self, id: StreamId, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.unsent = stream.unsent.saturating_sub(bytes);
            self.mark_ready(id);
        }
    }

    /// A client is gone.
    pub(super) fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.ready.remove(&id);
        for (watch_id, watch) in stream.watches {
            self.unlist((id, watch_id), &watch);
        }
    }

    fn mark_ready(&mut self, id: StreamId) {
        let is_ready = self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.has_room() && !stream.lagging.is_empty());
        if is_ready {
            self.ready.insert(id);
        } else {
            self.ready.remove(&id);
        }
    }

    fn list(&mut self, reference: WatchRef, watch: Watch) {
        if watch.range_end.is_empty() {
            self.by_key.entry(watch.key.clone()).or_default().insert(reference);
        } else {
            let range = (watch.key.clone(), watch.range_end.clone());
            self.by_range.entry(range).or_default().insert(reference);
        }
        let (stream, id) = reference;
        if let Some(stream) = self.streams.get_mut(&stream) {
            if watch.next <= self.told {
                stream.lagging.insert(id);
            }
            stream.watches.insert(id, watch);
        }
        self.mark_ready(stream);
    }

    fn unlist(&mut self, reference: WatchRef, watch: &Watch) {
        let range = (watch.key.clone(), watch.range_end.clone());
        if let Some(references) = self.by_range.get_mut(&range) {
            references.remove(&reference);
            if references.is_empty() {
                self.by_range.remove(&range);
            }
        }
        if let Some(references) = self.by_key.get_mut(&watch.key) {
            references.remove(&reference);
            if references.is_empty() {
                self.by_key.remove(&watch.key);
            }
        }
    }

    /// Takes a watch away.
    fn remove(&mut self, (stream_id, id): WatchRef) -> bool {
        let Some(stream) = self.streams.get_mut(&stream_id) else { return false };
        let Some(watch) = stream.watches.remove(&id) else { return false };
        stream.lagging.remove(&id);
        self.unlist((stream_id, id), &watch);
        self.mark_ready(stream_id);
        true
    }
}

impl Stream {
    fn has_room(&self) -> bool {
        self.unsent < UNSENT_BYTES_MAX
    }

    fn send(&mut self, stream: StreamId, response: pb::WatchResponse, out: &mut Outputs) {
        let bytes = response.encoded_len();
        self.unsent += bytes;
        let response = Box::new(response);
        out.push(ServiceOutput::Reply(ClientReply::Watch { stream, response, bytes }));
    }

    /// Sends the events of one response, in pieces if there are too many bytes and the watch allows it.
    fn send_events(
        &mut self,
        to: WatchRef,
        header: pb::ResponseHeader,
        events: Vec<Event>,
        piece_bytes: usize,
        out: &mut Outputs,
    ) {
        let fragment = self.watches.get(&to.1).is_some_and(|watch| watch.fragment);
        let mut pieces = if fragment { in_pieces(events, piece_bytes) } else { vec![events] }
            .into_iter()
            .peekable();
        while let Some(events) = pieces.next() {
            let fragment = pieces.peek().is_some();
            let response = pb::WatchResponse {
                header: Some(header),
                watch_id: to.1,
                fragment,
                events,
                ..Default::default()
            };
            self.send(to.0, response, out);
        }
    }
}

impl Watch {
    fn keys(&self) -> KeyRange<'_> {
        KeyRange::of(&self.key, &self.range_end)
    }

    fn wants(&self, is_put: bool, revision: Revision) -> bool {
        let filtered = if is_put { self.no_put } else { self.no_delete };
        !filtered && revision >= self.next
    }
}

fn in_pieces(events: Vec<Event>, piece_bytes: usize) -> Vec<Vec<Event>> {
    let mut pieces = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let event_bytes = event.encoded_len();
        if bytes > 0 && bytes + event_bytes > piece_bytes {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += event_bytes;
        pieces.last_mut().expect("there is a first piece").push(event);
    }
    pieces
}
