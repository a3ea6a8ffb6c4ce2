//! Sessions: created, kept, moved, expired.

use quorate_zk::command::CreateMode;
use quorate_zk::wire::{ConnectRequest, ConnectResponse, opcode};

use crate::bench::{Bench, beyond};
use crate::order::create;

fn again(session: &ConnectResponse) -> ConnectRequest {
    ConnectRequest {
        timeout_ms: 6_000,
        session: session.session,
        password: session.password.to_vec(),
        read_only: Some(false),
        ..ConnectRequest::default()
    }
}

/// ZK-11: timeouts are negotiated, sessions have ids and passwords of their own.
#[test]
fn a_session_is_created() {
    let mut bench = Bench::new(1);
    for (asked, granted) in [(1, 4_000), (6_000, 6_000), (1_000_000, 40_000), (-5, 4_000)] {
        let client = bench.open(0);
        let request =
            ConnectRequest { timeout_ms: asked, password: vec![0; 16], ..Default::default() };
        let response = bench.join(client, &request).expect("a session");
        assert_eq!(response.timeout_ms, granted);
        assert!(response.session != 0 && response.read_only.is_none());
    }
    assert_eq!(bench.tree(0).sessions().len(), 4);
}

/// ZK-11: a session moves to another server and keeps its ephemerals; what its old connection writes is refused,
/// and takes no effect.
#[test]
fn a_session_moves() {
    let mut bench = Bench::new(2);
    let (old, session) = bench.client(0);
    bench.write(old, 1, opcode::CREATE, &create("/e", CreateMode::Ephemeral));
    bench.settle();
    let new = bench.open(1);
    let response = bench.join(new, &again(&session)).expect("it is attached");
    assert_eq!((response.session, response.password), (session.session, session.password));
    bench.heard(old);
    bench.set(old, 2, "/e", "stale");
    bench.settle();
    assert_eq!((bench.story(old), bench.is_closed(old)), (vec!["2 error -118".to_string()], true));
    bench.set(new, 1, "/e", "fresh");
    bench.settle();
    assert_eq!(bench.story(new), ["1 ok"]);
    assert_eq!(bench.tree(0).znode("/e").expect("it lives").data(), Some(&b"fresh"[..]));
}

/// ZK-13: a wrong password, or a session that is no more, gets the answer that clients take for the end.
#[test]
fn a_session_is_refused() {
    let mut bench = Bench::new(1);
    let (_, session) = bench.client(0);
    let wrong = ConnectRequest { password: vec![9; 16], ..again(&session) };
    let unknown = ConnectRequest { session: 4711, ..again(&session) };
    let short = ConnectRequest { password: vec![1, 2], ..again(&session) };
    for request in [wrong, unknown, short] {
        let client = bench.open(0);
        let response = bench.join(client, &request).expect("an answer");
        assert_eq!((response.timeout_ms, response.session, response.password), (0, 0, [0; 16]));
        assert!(bench.is_closed(client));
    }
}

/// ZK-7: who has seen a newer state waits for this server to catch up, or is sent away without a word.
#[test]
fn nobody_is_shown_the_past() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    let ahead = |bench: &Bench| ConnectRequest {
        last_zxid_seen: beyond(bench.tree(0).last_zxid()),
        timeout_ms: 6_000,
        password: vec![0; 16],
        ..ConnectRequest::default()
    };
    let (patient, request) = (bench.open(0), ahead(&bench));
    assert_eq!(bench.join(patient, &request), None);
    bench.set(client, 1, "/zookeeper", "something happens");
    bench.settle();
    assert!(!bench.heard(patient).is_empty() || !bench.is_closed(patient), "it was let in");
    let (hopeless, request) = (bench.open(0), ahead(&bench));
    let request = ConnectRequest { last_zxid_seen: request.last_zxid_seen + 1_000, ..request };
    assert_eq!(bench.join(hopeless, &request), None);
    bench.pass(2_000);
    assert!(bench.is_closed(hopeless) && bench.heard(hopeless).is_empty());
}

/// ZK-2, ZK-11, ZK-13: a session that nobody hears expires, with its ephemerals, everywhere; one that pings lives.
#[test]
fn silence_ends_a_session() {
    let mut bench = Bench::new(2);
    let (silent, _) = bench.client(1);
    let (lively, _) = bench.client(1);
    bench.write(silent, 1, opcode::CREATE, &create("/silent", CreateMode::Ephemeral));
    bench.write(lively, 1, opcode::CREATE, &create("/lively", CreateMode::Ephemeral));
    bench.settle();
    bench.hang_up(silent);
    for _ in 0..10 {
        bench.ask(lively, -2, opcode::PING, |_| {});
        bench.pass(1_000);
    }
    for at in 0..2 {
        assert!(
            bench.tree(at).znode("/silent").is_none() && bench.tree(at).znode("/lively").is_some()
        );
        assert_eq!((bench.tree(at).sessions().len(), bench.tree(at).ephemerals()), (1, 1));
    }
    assert!(!bench.is_closed(lively));
}

/// ZK-11: a new leader grants every session a full timeout.
#[test]
fn a_leader_change_expires_nobody() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    bench.hang_up(client);
    bench.pass(5_000);
    bench.elect(1, 2);
    bench.pass(5_000);
    assert_eq!(bench.tree(0).sessions().len(), 1, "5 s before and 5 s after, of 6 s each");
    bench.pass(2_000);
    assert_eq!(bench.tree(0).sessions().len(), 0);
}

/// ZK-11: closing a session ends it at once.
#[test]
fn a_client_closes_its_session() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.write(client, 1, opcode::CREATE, &create("/e", CreateMode::Ephemeral));
    bench.ask(client, 2, opcode::CLOSE_SESSION, |_| {});
    bench.settle();
    assert_eq!(bench.story(client), ["1 ok", "2 ok"]);
    assert!(bench.is_closed(client) && bench.tree(0).znode("/e").is_none());
}

/// ZK-11: a proposal to create a session that is made twice, since the first one may be lost, creates one; one for
/// a client that is gone meanwhile leaves none behind.
#[test]
fn a_session_is_created_once() {
    let mut bench = Bench::new(2);
    let request = ConnectRequest { timeout_ms: 6_000, password: vec![0; 16], ..Default::default() };
    let (patient, gone) = (bench.open(1), bench.open(1));
    for client in [patient, gone] {
        bench.send(client, request.encode().slice(4..));
    }
    bench.hang_up(gone);
    bench.commit();
    bench.elect(0, 2);
    bench.settle();
    assert_eq!(bench.tree(0).sessions().len(), 1);
    assert!(!bench.is_closed(patient) && bench.unread(patient) > 0);
}

/// ZK-11: a proposal to attach a session that comes once more after the session has moved on does not take it
/// back.
#[test]
fn an_old_attachment_does_not_come_back() {
    let mut bench = Bench::new(2);
    let (_, session) = bench.client(0);
    let first = bench.open(0);
    bench.send(first, again(&session).encode().slice(4..));
    let late = bench.proposed.clone();
    bench.settle();
    let second = bench.open(1);
    bench.join(second, &again(&session)).expect("it moves");
    bench.proposed.extend(late);
    bench.settle();
    bench.write(second, 1, opcode::CREATE, &create("/e", CreateMode::Ephemeral));
    bench.settle();
    assert_eq!(bench.story(second), ["1 ok"]);
}

/// ZK-20: a connection that never says who it is ends, and so does one whose session went elsewhere, once it is silent.
#[test]
fn silent_connections_end() {
    let mut bench = Bench::new(2);
    let (left, session) = bench.client(0);
    let new = bench.open(1);
    bench.join(new, &again(&session)).expect("it moves");
    let mute = bench.open(0);
    for _ in 0..11 {
        assert!(!bench.is_closed(mute) || bench.now > quorate_contracts::Time::from_millis(10_000));
        bench.ask(new, -2, opcode::PING, |_| {});
        bench.pass(1_000);
    }
    assert!(bench.is_closed(mute) && bench.is_closed(left) && !bench.is_closed(new));
}

/// ZK-11: a client that is not read from, since it has too much in flight, is not expired for its silence.
#[test]
fn back_pressure_expires_nobody() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    bench.lossy = true;
    for xid in 1..=10 {
        bench.set(client, xid, "/zookeeper", "x");
    }
    assert!(bench.is_paused(client));
    bench.pass(20_000);
    bench.lossy = false;
    bench.pass(40_000);
    assert_eq!(bench.story(client).len(), 10);
}

/// ZK-11: a session that comes back with a shorter timeout expires after the shorter one.
#[test]
fn a_shorter_timeout_counts_at_once() {
    let mut bench = Bench::new(1);
    let client = bench.open(0);
    let long = ConnectRequest { timeout_ms: 40_000, password: vec![0; 16], ..Default::default() };
    let session = bench.join(client, &long).expect("a session");
    bench.hang_up(client);
    let client = bench.open(0);
    bench.join(client, &ConnectRequest { timeout_ms: 4_000, ..again(&session) }).expect("attached");
    bench.hang_up(client);
    bench.pass(3_000);
    assert_eq!(bench.tree(0).sessions().len(), 1);
    bench.pass(2_000);
    assert_eq!(bench.tree(0).sessions().len(), 0);
}

/// ZK-11, ZK-20: a client that is not read from because it takes nothing of what it is sent is as silent as any other.
#[test]
fn a_client_that_takes_nothing_is_silent() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    bench.set(client, 1, "/zookeeper", &"x".repeat(15_000));
    bench.settle();
    bench.stall(client, true);
    for xid in 2..20 {
        bench.read(client, xid, opcode::GET_DATA, "/zookeeper", false);
    }
    assert!(bench.is_paused(client));
    bench.pass(8_000);
    assert!(bench.is_closed(client));
    assert_eq!(bench.tree(0).sessions().len(), 0);
}
