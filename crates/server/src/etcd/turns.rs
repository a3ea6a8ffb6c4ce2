//! Whose turn it is: the queue behind etcd's server-side locks and elections. Everybody puts a key under one prefix, with a
//! lease; the oldest key is the first; whoever is not waits for the key before its own to go.
//!
//! A client that goes away while it waits loses its place; one that vanishes loses it with its lease. Nothing here is
//! state of the server: keys in the store are all there is.

use std::future::{Future, pending};
use std::time::Duration;

use bytes::Bytes;
use quorate_etcd::grpc::Status;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd::messages::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd::messages::etcdserverpb::request_op::Request as Op;
use quorate_etcd::messages::etcdserverpb::response_op::Response as OpReply;
use quorate_etcd::messages::etcdserverpb::watch_create_request::FilterType;
use quorate_etcd::messages::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd::messages::mvccpb::event::EventType;
use quorate_etcd::messages::mvccpb::{Event, KeyValue};
use quorate_etcd::server::{Context, Request, Response};
use quorate_etcd::{Code, Refusal, prefix_end};

use super::desk::{Desk, Stream};
use super::front::Told;

/// Seconds of the lease that somebody gets who brings none.
const LEASE_TTL: i64 = 60;
/// How often a lease is kept alive while its owner waits.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);

/// A place in a queue; given up when it is dropped, unless it was taken for good.
pub(super) struct Place {
    pub(super) key: Bytes,
    pub(super) lease: i64,
    /// The revision at which the key was made: the order of the queue.
    pub(super) created: i64,
    /// The value that was there before, if the place was.
    pub(super) found: Option<Bytes>,
    giving_up: Option<(Desk, Context)>,
}

impl Place {
    /// The client has it now.
    fn keep(mut self) -> Self {
        self.giving_up = None;
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((desk, context)) = self.giving_up.take() {
            let give_up =
                if_created(&self.key, self.created, Op::RequestDeleteRange(delete(&self.key)));
            drop(desk.send(&context, Request::Txn(give_up)));
        }
    }
}

/// Gets in line under a prefix, or finds the place that this lease has already, and waits for the turn.
pub(super) async fn take(
    desk: &Desk,
    context: &Context,
    name: &Bytes,
    lease: i64,
    value: &Bytes,
) -> Result<(Place, pb::ResponseHeader), Status> {
    let lease = if lease == 0 { grant(desk, context).await? } else { lease };
    let wait = async {
        let place = get_in_line(desk, context, name, lease, value).await?;
        let header = wait_for_turn(desk, context, &place, &prefix(name)).await?;
        Ok((place.keep(), header))
    };
    keeping_alive(desk, lease, wait).await
}

/// Every key of a queue begins with it.
pub(super) fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The first in line; `None` if there is nobody.
pub(super) async fn first(
    desk: &Desk,
    context: &Context,
    name: &[u8],
) -> Result<(Option<KeyValue>, pb::ResponseHeader), Status> {
    let order = SortOrder::Ascend;
    let (kvs, header) = range(desk, context, by_age(&prefix(name), order, 0)).await?;
    Ok((kvs.into_iter().next(), header))
}

/// Does something if a key is still the one that was made at that revision: whether it was done.
pub(super) async fn if_still(
    desk: &Desk,
    context: &Context,
    key: &Bytes,
    created: i64,
    op: Op,
) -> Result<(bool, pb::ResponseHeader), Status> {
    let reply = txn(desk, context, if_created(key, created, op)).await?;
    Ok((reply.succeeded, reply.header.unwrap_or_default()))
}

/// A request to delete one key.
pub(super) fn delete(key: &Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.clone(), ..Default::default() }
}

async fn grant(desk: &Desk, context: &Context) -> Result<i64, Status> {
    let request = pb::LeaseGrantRequest { ttl: LEASE_TTL, id: 0 };
    match *desk.call(context, Request::LeaseGrant(request)).await? {
        Response::LeaseGrant(reply) => Ok(reply.id),
        _ => Err(no_such_reply()),
    }
}

async fn get_in_line(
    desk: &Desk,
    context: &Context,
    name: &Bytes,
    lease: i64,
    value: &Bytes,
) -> Result<Place, Status> {
    let key = Bytes::from([&prefix(name)[..], format!("{lease:x}").as_bytes()].concat());
    let put =
        pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
    let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let mut request = if_created(&key, 0, Op::RequestPut(put));
    request.failure.push(pb::RequestOp { request: Some(Op::RequestRange(get)) });
    let reply = txn(desk, context, request).await?;
    let header = reply.header.unwrap_or_default();
    let found = reply.responses.into_iter().find_map(|op| match op.response {
        Some(OpReply::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    let created = found.as_ref().map_or(header.revision, |kv| kv.create_revision);
    let giving_up = Some((desk.clone(), context.clone()));
    let found = found.map(|kv| kv.value);
    Ok(Place { key, lease, created, found, giving_up })
}

/// Waits until every key of the prefix that is older is gone, the youngest of them first.
async fn wait_for_turn(
    desk: &Desk,
    context: &Context,
    place: &Place,
    prefix: &[u8],
) -> Result<pb::ResponseHeader, Status> {
    loop {
        let older = by_age(prefix, SortOrder::Descend, place.created - 1);
        let (before, seen) = range(desk, context, older).await?;
        let Some(before) = before.into_iter().next() else { break };
        wait_until_gone(desk, context, before.key, seen.revision + 1).await?;
    }
    let own = pb::RangeRequest { key: place.key.clone(), ..Default::default() };
    let (own, seen) = range(desk, context, own).await?;
    match own.first() {
        Some(own) if own.create_revision == place.created => Ok(seen),
        // The lease ended while it waited.
        _ => Err(Status::new(Code::Unknown, "mutex: session is expired")),
    }
}

async fn wait_until_gone(
    desk: &Desk,
    context: &Context,
    key: Bytes,
    from: i64,
) -> Result<(), Status> {
    let mut watch = watch(desk, context, key, Bytes::new(), from, true);
    while let Some(events) = next_events(&mut watch).await? {
        if events.iter().any(|event| event.r#type() == EventType::Delete) {
            break;
        }
    }
    Ok(())
}

/// Watches a range from a revision on.
pub(super) fn watch(
    desk: &Desk,
    context: &Context,
    key: Bytes,
    range_end: Bytes,
    start_revision: i64,
    only_deletes: bool,
) -> Stream {
    let stream = desk.watches(context);
    let filters = if only_deletes { vec![FilterType::Noput.into()] } else { Vec::new() };
    let create =
        pb::WatchCreateRequest { key, range_end, start_revision, filters, ..Default::default() };
    stream.watch(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    stream
}

/// What happened next; `None` if that was compacted meanwhile, so that one has to look again.
pub(super) async fn next_events(stream: &mut Stream) -> Result<Option<Vec<Event>>, Status> {
    match stream.told().await {
        Some(Told::Watch(response, bytes)) => {
            stream.sent(bytes);
            match response.canceled {
                true if response.compact_revision != 0 => Ok(None),
                true => Err(Status::new(Code::PermissionDenied, response.cancel_reason)),
                false => Ok(Some(response.events)),
            }
        }
        Some(Told::End(refusal)) => Err(refusal.into()),
        _ => Err(Refusal::Stopped.into()),
    }
}

/// Keeps a lease alive while something goes on.
async fn keeping_alive<T>(desk: &Desk, lease: i64, work: impl Future<Output = T>) -> T {
    let mut stream = desk.keep_alives();
    let keep = async {
        loop {
            stream.keep_alive(pb::LeaseKeepAliveRequest { id: lease });
            match stream.told().await {
                Some(Told::KeepAlive(reply)) if reply.ttl > 0 => {
                    tokio::time::sleep(KEEP_ALIVE_EVERY).await;
                }
                // It is gone, which the work will find out.
                _ => pending().await,
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        never = keep => never,
    }
}

fn by_age(prefix: &[u8], order: SortOrder, created_max: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: prefix_end(prefix).into(),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        max_create_revision: created_max,
        ..Default::default()
    }
}

fn if_created(key: &Bytes, created: i64, op: Op) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(created)),
        ..Default::default()
    };
    let success = vec![pb::RequestOp { request: Some(op) }];
    pb::TxnRequest { compare: vec![compare], success, failure: Vec::new() }
}

async fn txn(
    desk: &Desk,
    context: &Context,
    request: pb::TxnRequest,
) -> Result<pb::TxnResponse, Status> {
    match *desk.call(context, Request::Txn(request)).await? {
        Response::Txn(reply) => Ok(reply),
        _ => Err(no_such_reply()),
    }
}

async fn range(
    desk: &Desk,
    context: &Context,
    request: pb::RangeRequest,
) -> Result<(Vec<KeyValue>, pb::ResponseHeader), Status> {
    match *desk.call(context, Request::Range(request)).await? {
        Response::Range(reply) => Ok((reply.kvs, reply.header.unwrap_or_default())),
        _ => Err(no_such_reply()),
    }
}

fn no_such_reply() -> Status {
    Status::new(Code::Internal, "a call was answered with another call's reply")
}
