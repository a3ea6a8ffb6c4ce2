//! Watches: ordered, unique, whole, resumable; and what becomes of slow ones.

use quorate_contracts::ServiceInput;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::messages::etcdserverpb::watch_create_request::FilterType;
use quorate_etcd::messages::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd::server::{Context, Request};
use std::time::Duration;

use super::house::{House, lines, prefix, put};

fn watching(create: pb::WatchCreateRequest) -> House {
    let mut house = House::new();
    house.open_watches(1, Context::default());
    house.watch(1, create);
    house.told(1);
    house
}

fn delete(key: &'static str) -> Request {
    Request::DeleteRange(pb::DeleteRangeRequest { key: key.into(), ..Default::default() })
}

fn compact(house: &mut House, revision: i64) {
    house
        .call(Request::Compact(pb::CompactionRequest { revision, physical: false }))
        .expect("it is there");
}

/// KV-1: what one transaction did comes in one response.
#[test]
fn the_events_of_one_revision_are_told_together() {
    let mut house = watching(prefix("a"));
    let op = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put(key, "1"))),
    };
    let txn = pb::TxnRequest { success: vec![op("a1"), op("b"), op("a2")], ..Default::default() };
    house.call(Request::Txn(txn)).expect("it is done");
    house.put("b", "2");
    house.call(delete("a1")).expect("it is done");
    assert_eq!(lines(&house.told(1)), ["0 put a1=1@2, put a2=1@2 at 2", "0 delete a1@4 at 4"]);
}

/// KV-1: a watch begins where it is asked to, in the past or in the future.
#[test]
fn a_watch_begins_at_any_revision_that_is_kept() {
    let mut house = House::new();
    for n in 1..=4 {
        house.put("a", &n.to_string());
    }
    house.open_watches(1, Context::default());
    house.watch(1, pb::WatchCreateRequest { start_revision: 3, prev_kv: true, ..prefix("a") });
    assert_eq!(
        lines(&house.told(1)),
        ["0 created at 5", "0 put a=2@3 was 1, put a=3@4 was 2, put a=4@5 was 3 at 5"]
    );
    house.watch(1, pb::WatchCreateRequest { start_revision: 7, ..prefix("a") });
    house.put("a", "5");
    house.put("a", "6");
    assert_eq!(
        lines(&house.told(1)),
        ["1 created at 5", "0 put a=5@6 was 4 at 6", "0 put a=6@7 was 5 at 7", "1 put a=6@7 at 7"]
    );
}

#[test]
fn filters_leave_out_puts_or_deletes() {
    let filters = vec![FilterType::Noput.into()];
    let mut house = watching(pb::WatchCreateRequest { filters, prev_kv: true, ..prefix("a") });
    house.watch(
        1,
        pb::WatchCreateRequest { filters: vec![FilterType::Nodelete.into()], ..prefix("a") },
    );
    house.put("a", "1");
    house.call(delete("a")).expect("it is done");
    assert_eq!(
        lines(&house.told(1)),
        ["1 created at 1", "1 put a=1@2 at 2", "0 delete a@3 was 1 at 3"]
    );
}

/// KV-9: what cannot be watched, and why.
#[test]
fn a_watch_that_cannot_be_set_is_told_why() {
    let mut house = watching(pb::WatchCreateRequest { watch_id: 5, ..prefix("a") });
    house.watch(1, pb::WatchCreateRequest { watch_id: 5, ..prefix("a") });
    house.watch(1, pb::WatchCreateRequest { range_end: "a".into(), ..prefix("b") });
    house.watch(1, pb::WatchCreateRequest { start_revision: -1, ..prefix("a") });
    house.watch(
        1,
        pb::WatchCreateRequest { key: Default::default(), range_end: vec![0].into(), ..prefix("") },
    );
    house.ask_watch(1, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 77 }));
    house.ask_watch(1, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 5 }));
    house.put("a", "1");
    assert_eq!(
        lines(&house.told(1)),
        [
            "-1 created canceled mvcc: duplicate watch ID provided on the WatchStream at 1",
            "-1 created canceled mvcc: watcher range is empty at 1",
            "-1 created canceled etcdserver: mvcc: required revision has been compacted at 1",
            "0 created at 1",
            "5 canceled at 1",
            "0 put a=1@2 at 2",
        ]
    );
}

/// KV-9: below the compacted revision nothing can be watched; at it everything can.
#[test]
fn a_watch_below_the_compacted_revision_ends() {
    let mut house = House::new();
    for n in 1..=4 {
        house.put("a", &n.to_string());
    }
    house.call(delete("a")).expect("it is done");
    compact(&mut house, 6);
    house.open_watches(1, Context::default());
    house.watch(1, pb::WatchCreateRequest { start_revision: 5, ..prefix("a") });
    house.watch(1, pb::WatchCreateRequest { start_revision: 6, ..prefix("a") });
    assert_eq!(
        lines(&house.told(1)),
        ["0 created at 6", "0 canceled compacted 6 at 0", "1 created at 6", "1 delete a@6 at 6"]
    );
}

/// KV-1: a client that reads slowly gets everything, in the end, and holds little memory until then.
#[test]
fn a_slow_watcher_misses_nothing_and_costs_little() {
    let mut house = watching(prefix("k"));
    let large = "x".repeat(100_000);
    for n in 0..100 {
        house.put(&format!("k{n:03}"), &large);
    }
    house.settle();
    let (first, sent) = house.told_unread(1);
    assert!(sent < 1_200_000, "{sent} bytes are on their way");
    let mut revisions: Vec<i64> = Vec::new();
    let mut take = |responses: Vec<pb::WatchResponse>| {
        let kvs =
            responses.into_iter().flat_map(|response| response.events).filter_map(|event| event.kv);
        revisions.extend(kvs.map(|kv| kv.mod_revision));
    };
    take(first);
    let read = |house: &mut House, bytes| {
        let stream = quorate_etcd::server::StreamId(1);
        house.step(ServiceInput::Requested(quorate_etcd::server::ClientRequest::WatchSent {
            stream,
            bytes,
        }));
        house.settle();
        house.told_unread(1)
    };
    let mut bytes = sent;
    while bytes > 0 {
        let (more, sent) = read(&mut house, bytes);
        assert!(sent < 1_500_000, "{sent} bytes are on their way");
        take(more);
        bytes = sent;
    }
    house.put("k", "last");
    take(house.told(1));
    assert_eq!(revisions, (2..=102).collect::<Vec<i64>>());
}

/// KV-9: a slow client that compaction overtakes is told, and loses nothing silently.
#[test]
fn a_slow_watcher_overtaken_by_compaction_is_told() {
    let mut house = watching(prefix("k"));
    let large = "x".repeat(600_000);
    for n in 0..5 {
        house.put(&format!("k{n}"), &large);
    }
    compact(&mut house, 6);
    house.told(1);
    house.settle();
    assert_eq!(lines(&house.told(1)), ["0 canceled compacted 6 at 0"]);
}

/// KV-1: one revision may come in pieces, if the client allows it.
#[test]
fn a_large_revision_comes_in_pieces() {
    let mut house = House::with(|config| config.request_bytes_max = 100);
    house.open_watches(1, Context::default());
    house.watch(1, pb::WatchCreateRequest { fragment: true, ..prefix("k") });
    house.watch(1, prefix("k"));
    house.told(1);
    let value = "x".repeat(60);
    for key in ["k1", "k2"] {
        house.put(key, &value);
    }
    house.told(1);
    let all =
        pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    house.call(Request::DeleteRange(all)).expect("it is done");
    for n in 0..20 {
        house.put(&format!("k{n:030}"), "");
    }
    house.told(1);
    let all =
        pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    house.call(Request::DeleteRange(all)).expect("it is done");
    let told = house.told(1);
    let (pieces, whole): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|response| response.watch_id == 0);
    assert_eq!(whole.len(), 1);
    assert!(pieces.len() > 5);
    assert!(
        pieces.iter().rev().skip(1).all(|piece| piece.fragment)
            && !pieces[pieces.len() - 1].fragment
    );
    let events: Vec<_> = pieces.into_iter().flat_map(|piece| piece.events).collect();
    assert_eq!(events, whole[0].events);
}

/// KV-1: a client may ask how far it is; quiet watches are told now and then.
#[test]
fn progress_says_what_was_not_missed() {
    let mut house = watching(pb::WatchCreateRequest { progress_notify: true, ..prefix("a") });
    house.put("b", "1");
    house.ask_watch(1, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    assert_eq!(lines(&house.told(1)), ["-1 at 2"]);
    house.pass(Duration::from_secs(599));
    assert_eq!(lines(&house.told(1)), Vec::<String>::new());
    house.pass(Duration::from_secs(2));
    assert_eq!(lines(&house.told(1)), ["0 at 2"]);
}

/// KV-1: progress is not claimed before a watch has caught up.
#[test]
fn progress_waits_for_watches_that_lag() {
    let mut house = watching(prefix("k"));
    let large = "x".repeat(600_000);
    for n in 0..4 {
        house.put(&format!("k{n}"), &large);
    }
    let (_, sent) = house.told_unread(1);
    house.ask_watch(1, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    assert_eq!(house.told_unread(1).0.len(), 0, "it lags");
    let stream = quorate_etcd::server::StreamId(1);
    house.step(ServiceInput::Requested(quorate_etcd::server::ClientRequest::WatchSent {
        stream,
        bytes: sent,
    }));
    house.settle();
    let told = house.told(1);
    assert_eq!(
        told.last().map(|response| (response.watch_id, response.events.len())),
        Some((-1, 0))
    );
    assert_eq!(told.iter().map(|response| response.events.len()).sum::<usize>(), 2);
}

/// KV-2: a stream that requires a leader ends without one, after a while.
#[test]
fn a_stream_that_requires_a_leader_ends_without_one() {
    let mut house = House::new();
    house.open_watches(1, Context { requires_leader: true, ..Default::default() });
    house.open_watches(2, Context::default());
    house.watch(1, prefix("a"));
    house.elect(None, 2);
    house.pass(Duration::from_secs(2));
    assert_eq!(house.server.watches(), 1);
    house.pass(Duration::from_secs(3));
    assert_eq!(house.server.watches(), 0);
}
