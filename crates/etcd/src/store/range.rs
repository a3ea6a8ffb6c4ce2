//! Reads: a range of keys at one revision, filtered, sorted, cut.
//!
//! A limit alone stops the walk early; the count comes from the index. Filters, and an order other than by key, need
//! the whole range first, as the API has it: the limit applies last, and the count ignores both.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::encoding::encoded_len_varint;

use super::index::Order;
use super::mvcc::Mvcc;
use super::versions::{Version, VersionId};
use crate::messages::etcdserverpb::RangeRequest;
use crate::messages::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::messages::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::messages::mvccpb::KeyValue;
use crate::{KeyRange, Revision};

/// What is in a range; `header` carries the revision `seen`, whatever revision is read.
pub(crate) fn range(mvcc: &Mvcc, request: &RangeRequest, seen: Revision) -> RangeResponse {
    let keys = KeyRange::of(&request.key, &request.range_end);
    let revision = readable_revision(request);
    let count = mvcc.count(keys, revision) as i64;
    let header = Some(ResponseHeader { revision: seen.0, ..Default::default() });
    if request.count_only {
        return RangeResponse { header, count, ..Default::default() };
    }
    let limit =
        usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let mut found = if needs_all(request) {
        let mut found = collect(mvcc, request, keys, usize::MAX);
        sort(mvcc, request, &mut found);
        found
    } else {
        collect(mvcc, request, keys, limit.saturating_add(1))
    };
    let more = found.len() > limit;
    found.truncate(limit);
    let kvs = found.into_iter().map(|id| key_value(mvcc, id, request.keys_only)).collect();
    RangeResponse { header, kvs, more, count }
}

/// Whether a range can be read in pieces, each where the last one ended.
pub fn is_in_order(request: &RangeRequest) -> bool {
    !needs_all(request) && !request.count_only && request.sort_order() != SortOrder::Descend
}

/// A piece of a range that is in the order of its keys.
pub(crate) struct Piece {
    /// The piece; the count is that of the whole range.
    pub(crate) response: RangeResponse,
    /// The key at which the next piece begins, if there is one.
    pub(crate) next: Option<Bytes>,
}

/// As much of a range as comes to `bytes_max` or a little more.
pub(crate) fn piece(
    mvcc: &Mvcc,
    request: &RangeRequest,
    seen: Revision,
    bytes_max: usize,
) -> Piece {
    let keys = KeyRange::of(&request.key, &request.range_end);
    let revision = readable_revision(request);
    let count = mvcc.count(keys, revision) as i64;
    let limit = if request.limit > 0 { request.limit } else { i64::MAX };
    let (mut kvs, mut bytes, mut next) = (Vec::new(), 0, None);
    mvcc.walk(keys, revision, Order::Ascending, |id| {
        if kvs.len() as i64 >= limit {
            return ControlFlow::Break(());
        }
        let version = mvcc.get(id);
        if bytes >= bytes_max {
            next = Some(Bytes::copy_from_slice(version.key));
            return ControlFlow::Break(());
        }
        bytes += entry_bytes(&version, request.keys_only);
        kvs.push(key_value(mvcc, id, request.keys_only));
        ControlFlow::Continue(())
    });
    let header = Some(ResponseHeader { revision: seen.0, ..Default::default() });
    Piece { response: RangeResponse { header, kvs, more: count > limit, count }, next }
}

/// How much of a range was measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Measured {
    /// Bytes that its keys and values take in a reply.
    pub(crate) bytes: u64,
    /// How many they are.
    pub(crate) keys: u64,
    /// The key at which the rest begins, if there is one.
    pub(crate) next: Option<Bytes>,
}

/// Measures at most so many keys of a range.
pub(crate) fn measure(mvcc: &Mvcc, request: &RangeRequest, keys_max: u64) -> Measured {
    let range = KeyRange::of(&request.key, &request.range_end);
    let limit = u64::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    let mut measured = Measured { bytes: 0, keys: 0, next: None };
    mvcc.walk(range, readable_revision(request), Order::Ascending, |id| {
        let version = mvcc.get(id);
        if measured.keys >= limit {
            return ControlFlow::Break(());
        }
        if measured.keys >= keys_max {
            measured.next = Some(Bytes::copy_from_slice(version.key));
            return ControlFlow::Break(());
        }
        measured.bytes += entry_bytes(&version, request.keys_only) as u64;
        measured.keys += 1;
        ControlFlow::Continue(())
    });
    measured
}

/// Bytes of one entry of `RangeResponse.kvs`, its tag and length included, as protobuf encodes it.
fn entry_bytes(version: &Version<'_>, keys_only: bool) -> usize {
    let number = |value: u64| if value == 0 { 0 } else { 1 + encoded_len_varint(value) };
    let bytes = |bytes: &[u8]| match bytes.len() {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    };
    let value = if keys_only { &[][..] } else { version.value };
    let message = bytes(version.key)
        + number(version.created.0 as u64)
        + number(version.at.revision.0 as u64)
        + number(version.version)
        + bytes(value)
        + number(version.lease.0 as u64);
    1 + encoded_len_varint(message as u64) + message
}

/// The revision that a request asks for; `None` is the newest.
pub(crate) fn readable_revision(request: &RangeRequest) -> Option<Revision> {
    Some(Revision(request.revision)).filter(|revision| revision.0 > 0)
}

fn key_value(mvcc: &Mvcc, id: VersionId, keys_only: bool) -> KeyValue {
    let mut kv = mvcc.key_value(id);
    if keys_only {
        kv.value.clear();
    }
    kv
}

fn needs_all(request: &RangeRequest) -> bool {
    request.sort_target() != SortTarget::Key || has_filters(request)
}

fn has_filters(request: &RangeRequest) -> bool {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .iter()
    .any(|bound| *bound != 0)
}

fn collect(mvcc: &Mvcc, request: &RangeRequest, keys: KeyRange<'_>, max: usize) -> Vec<VersionId> {
    let by_key = request.sort_target() == SortTarget::Key;
    let order = match request.sort_order() {
        SortOrder::Descend if by_key => Order::Descending,
        _ => Order::Ascending,
    };
    let mut found = Vec::new();
    mvcc.walk(keys, readable_revision(request), order, |id| {
        if passes(request, &mvcc.get(id)) {
            found.push(id);
        }
        if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    found
}

fn passes(request: &RangeRequest, version: &Version<'_>) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(version.at.revision.0, request.min_mod_revision, request.max_mod_revision)
        && within(version.created.0, request.min_create_revision, request.max_create_revision)
}

fn sort(mvcc: &Mvcc, request: &RangeRequest, found: &mut [VersionId]) {
    let compare = |a: &VersionId, b: &VersionId| {
        compare_by(request.sort_target(), &mvcc.get(*a), &mvcc.get(*b))
    };
    match (request.sort_target(), request.sort_order()) {
        (SortTarget::Key, _) => {}
        (_, SortOrder::Descend) => found.sort_by(|a, b| compare(b, a)),
        // A target without an order means ascending.
        _ => found.sort_by(compare),
    }
}

fn compare_by(target: SortTarget, a: &Version<'_>, b: &Version<'_>) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.created.cmp(&b.created),
        SortTarget::Mod => a.at.revision.cmp(&b.at.revision),
        SortTarget::Value => a.value.cmp(b.value),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use quorate_contracts::{LogIndex, StateMachine, WireWriter};

    use super::*;
    use crate::command::{Body, Command};
    use crate::messages::etcdserverpb::PutRequest;
    use crate::store::Store;

    fn store(keys: u64) -> Store {
        let mut store = Store::default();
        for at in 1..=2 * keys {
            let key = format!("k{:04}", at % keys).into();
            let value = vec![b'v'; (at % 300) as usize].into();
            let put = Body::Put(PutRequest { key, value, ..Default::default() });
            let mut command = WireWriter::default();
            Command::of_server(put).encode(&mut command);
            store.apply(LogIndex(at), &command.finish(), &mut Vec::new());
        }
        store
    }

    /// Everything, in pieces and at the sizes that the measure foretold.
    fn in_pieces(store: &Store, request: &RangeRequest, bytes_max: usize) -> Vec<KeyValue> {
        let (mut rest, mut kvs) = (request.clone(), Vec::new());
        loop {
            let Piece { response, next } = store.piece(&rest, bytes_max).unwrap();
            kvs.extend(response.kvs);
            let Some(next) = next else { return kvs };
            rest.key = next;
            if request.limit > 0 {
                rest.limit = request.limit - kvs.len() as i64;
            }
        }
    }

    /// KV-1, KV-7: a range in pieces is the range, and takes as many bytes as was measured; also of an older revision, with a
    /// limit, without values.
    #[test]
    fn a_range_in_pieces_is_the_range() {
        let store = store(200);
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let requests = [
            all.clone(),
            RangeRequest { keys_only: true, ..all.clone() },
            RangeRequest { revision: 250, ..all.clone() },
            RangeRequest { limit: 77, ..all.clone() },
            RangeRequest { key: "none".into(), ..Default::default() },
        ];
        for request in requests {
            let whole = store.range(&request).unwrap();
            for bytes_max in [1, 1_000, 1 << 20] {
                assert_eq!(in_pieces(&store, &request, bytes_max), whole.kvs, "{request:?}");
            }
            let only_kvs = RangeResponse { kvs: whole.kvs.clone(), ..Default::default() };
            let measured = store.measure(&request, u64::MAX).unwrap();
            assert_eq!(measured.bytes, only_kvs.encoded_len() as u64, "{request:?}");
            assert_eq!((measured.keys, measured.next), (whole.kvs.len() as u64, None));
        }
    }

    #[test]
    fn a_measure_goes_on_where_it_stopped() {
        let store = store(50);
        let mut request =
            RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let whole = store.measure(&request, u64::MAX).unwrap().bytes;
        let mut bytes = 0;
        loop {
            let measured = store.measure(&request, 7).unwrap();
            bytes += measured.bytes;
            match measured.next {
                Some(next) => request.key = next,
                None => break,
            }
        }
        assert_eq!(bytes, whole);
    }
}
