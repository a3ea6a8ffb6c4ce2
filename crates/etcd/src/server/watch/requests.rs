//! Watches are set and ended, as their clients ask.

use bytes::Bytes;
use quorate_contracts::{ServiceOutput, Time};

use super::{Stream, Watch};
use crate::messages::etcdserverpb as pb;
use crate::messages::etcdserverpb::watch_create_request::FilterType;
use crate::messages::etcdserverpb::watch_request::RequestUnion;
use crate::server::call::{ClientReply, Context, StreamId};
use crate::server::{Outputs, Server};
use crate::store::Store;
use crate::{KeyRange, RangeEnd, Refusal, Revision};

/// The number in answers that are about no watch.
const NO_WATCH: i64 = -1;
/// How long a stream that requires a leader goes on without one, in milliseconds: three election timeouts.
const LEADERLESS_MS: u128 = 3_000;
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

impl Server {
    pub(in crate::server) fn watch_opened(&mut self, stream: StreamId, context: Context) {
        self.hub.streams.insert(stream, Stream { context, ..Stream::default() });
    }

    pub(in crate::server) fn watch_asked(
        &mut self,
        now: Time,
        stream: StreamId,
        request: pb::WatchRequest,
        store: &Store,
        out: &mut Outputs,
    ) {
        // What was written before the first watch was told to nobody.
        if self.hub.told < store.revision() && self.hub.len() == 0 {
            self.hub.told = store.revision();
        }
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                self.create(now, stream, create, store, out)
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.cancel(stream, cancel.watch_id, store, out)
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                if let Some(stream) = self.hub.streams.get_mut(&stream) {
                    stream.progress_wanted = true;
                }
                self.answer_progress(stream, out);
            }
            None => {}
        }
    }

    fn create(
        &mut self,
        now: Time,
        to: StreamId,
        create: pb::WatchCreateRequest,
        store: &Store,
        out: &mut Outputs,
    ) {
        let response = match self.set(now, to, create, store) {
            Ok(watch_id) => pb::WatchResponse { watch_id, created: true, ..Default::default() },
            Err(cancel_reason) => pb::WatchResponse {
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason,
                ..Default::default()
            },
        };
        let header = Some(self.header(store.revision()));
        if let Some(stream) = self.hub.streams.get_mut(&to) {
            stream.send(to, pb::WatchResponse { header, ..response }, out);
        }
        self.hub.mark_ready(to);
    }

    /// Sets a watch; gives its number, or why it cannot be set.
    fn set(
        &mut self,
        now: Time,
        to: StreamId,
        create: pb::WatchCreateRequest,
        store: &Store,
    ) -> Result<i64, String> {
        let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key.clone() };
        self.check_watch(now, to, &create, &key, store)?;
        let told = self.hub.told;
        let stream =
            self.hub.streams.get_mut(&to).ok_or_else(|| Refusal::WatchCanceled.to_string())?;
        let id = if create.watch_id != 0 { create.watch_id } else { stream.free_id() };
        if stream.watches.contains_key(&id) {
            return Err(DUPLICATE_ID.to_string());
        }
        let filtered = |kind: FilterType| create.filters.contains(&kind.into());
        let next =
            if create.start_revision > 0 { Revision(create.start_revision) } else { told.next() };
        let watch = Watch {
            key,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            range_end: create.range_end,
            next,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            told_at: now,
        };
        self.hub.list((to, id), watch);
        Ok(id)
    }

    fn check_watch(
        &mut self,
        now: Time,
        to: StreamId,
        create: &pb::WatchCreateRequest,
        key: &[u8],
        store: &Store,
    ) -> Result<(), String> {
        let context =
            self.hub.streams.get(&to).map(|stream| stream.context.clone()).unwrap_or_default();
        let range = KeyRange::of(key, &create.range_end);
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(key),
            range_end: create.range_end.clone(),
            ..Default::default()
        };
        self.caller(now, &context, store)
            .and_then(|caller| store.may_range(caller.as_ref(), &request))
            .map_err(|refusal| refusal.to_string())?;
        if create.start_revision < 0 {
            return Err(Refusal::Compacted.to_string());
        }
        match range.end {
            RangeEnd::Before(end) if end <= range.start => Err(EMPTY_RANGE.to_string()),
            _ => Ok(()),
        }
    }

    fn cancel(&mut self, to: StreamId, watch_id: i64, store: &Store, out: &mut Outputs) {
        if !self.hub.remove((to, watch_id)) {
            return;
        }
        let header = Some(self.header(store.revision()));
        if let Some(stream) = self.hub.streams.get_mut(&to) {
            let response =
                pb::WatchResponse { header, watch_id, canceled: true, ..Default::default() };
            stream.send(to, response, out);
        }
        self.answer_progress(to, out);
    }

    /// Answers a client that wants to know how far it is, once none of its watches lags.
    pub(super) fn answer_progress(&mut self, to: StreamId, out: &mut Outputs) {
        let header = Some(self.header(self.hub.told));
        let Some(stream) = self.hub.streams.get_mut(&to) else { return };
        if stream.progress_wanted && stream.lagging.is_empty() {
            stream.progress_wanted = false;
            let response = pb::WatchResponse { header, watch_id: NO_WATCH, ..Default::default() };
            stream.send(to, response, out);
        }
    }

    /// Streams that require a leader end when there was none for long.
    pub(in crate::server) fn end_leaderless(&mut self, now: Time, out: &mut Outputs) {
        if self.leader.is_some() {
            self.hub.leaderless_since = None;
            return;
        }
        let since = *self.hub.leaderless_since.get_or_insert(now);
        if now.since(since).as_millis() < LEADERLESS_MS {
            return;
        }
        let requires = |stream: &Stream| stream.context.requires_leader;
        let ended: Vec<StreamId> = self
            .hub
            .streams
            .iter()
            .filter(|(_, stream)| requires(stream))
            .map(|(id, _)| *id)
            .collect();
        for stream in ended {
            self.hub.close(stream);
            out.push(ServiceOutput::Reply(ClientReply::End { stream, refusal: Refusal::NoLeader }));
        }
    }
}

impl Stream {
    /// A number that no watch of the stream has.
    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}
