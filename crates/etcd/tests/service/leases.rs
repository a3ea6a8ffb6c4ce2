//! Leases: kept alive, expired, and what a new leader does about them.

use std::time::Duration;

use quorate_contracts::ServiceInput;
use quorate_etcd::Refusal;
use quorate_etcd::messages::etcdserverpb as pb;
use quorate_etcd::server::{ClientReply, ClientRequest, Request, Response, StreamId};

use super::house::{House, ME, put};

fn grant(house: &mut House, ttl: i64) -> i64 {
    match house.call(Request::LeaseGrant(pb::LeaseGrantRequest { ttl, id: 0 })) {
        Ok(Response::LeaseGrant(reply)) => reply.id,
        other => panic!("{other:?}"),
    }
}

fn put_leased(house: &mut House, key: &str, lease: i64) {
    house
        .call(Request::Put(pb::PutRequest { lease, ..put(key, "1") }))
        .expect("the lease is there");
}

fn keep_alive(house: &mut House, id: i64) -> i64 {
    let request = pb::LeaseKeepAliveRequest { id };
    house.step(ServiceInput::Requested(ClientRequest::KeepAlive { stream: StreamId(5), request }));
    match house.replies.pop() {
        Some(ClientReply::KeepAlive { response, .. }) => response.ttl,
        other => panic!("{other:?}"),
    }
}

fn left(house: &mut House, id: i64) -> (i64, i64, usize) {
    match house.call(Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true })) {
        Ok(Response::LeaseTimeToLive(reply)) => (reply.ttl, reply.granted_ttl, reply.keys.len()),
        other => panic!("{other:?}"),
    }
}

/// KV-1: a lease that nobody keeps alive ends, and its keys with it.
#[test]
fn a_lease_expires_with_its_keys() {
    let mut house = House::new();
    let (kept, silent) = (grant(&mut house, 10), grant(&mut house, 10));
    put_leased(&mut house, "kept", kept);
    put_leased(&mut house, "silent", silent);
    house.pass(Duration::from_secs(6));
    assert_eq!(keep_alive(&mut house, kept), 10);
    assert_eq!(left(&mut house, silent), (4, 10, 1));
    house.pass(Duration::from_secs(5));
    assert_eq!((house.get("kept").is_some(), house.get("silent")), (true, None));
    assert_eq!(keep_alive(&mut house, silent), 0, "a lease that is gone is no error");
    assert_eq!(left(&mut house, silent), (-1, 0, 0));
}

/// KV-1: a new leader gives every lease its full time and more: its clients must find it first.
#[test]
fn a_new_leader_grants_leases_their_full_time() {
    let mut house = House::new();
    let lease = grant(&mut house, 10);
    put_leased(&mut house, "a", lease);
    house.pass(Duration::from_secs(9));
    house.elect(None, 2);
    house.pass(Duration::from_secs(60));
    house.elect(Some(ME), 3);
    house.pass(Duration::from_secs(11));
    assert!(house.get("a").is_some());
    house.pass(Duration::from_secs(3));
    assert_eq!(house.get("a"), None);
}

/// KV-5: a leader that was deposed without knowing promises nothing: it answers only after a barrier.
#[test]
fn a_lease_is_renewed_only_by_a_leader_that_knows_it_leads() {
    let mut house = House::new();
    let lease = grant(&mut house, 10);
    house.barriers = Some(Vec::new());
    let request = pb::LeaseKeepAliveRequest { id: lease };
    house.step(ServiceInput::Requested(ClientRequest::KeepAlive { stream: StreamId(5), request }));
    house.pass(Duration::from_secs(8));
    let ended =
        |reply: &ClientReply| matches!(reply, ClientReply::End { refusal: Refusal::Timeout, .. });
    assert!(house.replies.iter().any(ended), "{:?}", house.replies);
}

#[test]
fn leases_are_listed_and_numbered() {
    let mut house = House::new();
    let ids = [grant(&mut house, 10), grant(&mut house, 20)];
    let Ok(Response::LeaseLeases(reply)) =
        house.call(Request::LeaseLeases(pb::LeaseLeasesRequest {}))
    else {
        panic!()
    };
    assert_eq!(reply.leases.len(), 2);
    assert!(ids.iter().all(|id| *id > 0 && reply.leases.iter().any(|lease| lease.id == *id)));
}
