//! Reads: a range of keys at one revision, filtered, sorted, cut.
//!
//! A limit alone stops the walk early; the count comes from the index. Filters, and an order other than by key, need
//! the whole range first, as the API has it: the limit applies last, and the count ignores both.

use std::cmp::Ordering;
use std::ops::ControlFlow;

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
