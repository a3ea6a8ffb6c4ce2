//! Clients change the servers, and read which there are.

use quorate_zk::command::ErrorCode;
use quorate_zk::ensemble::EnsembleEdit;
use quorate_zk::server::ClientRequest;
use quorate_zk::tree::CONFIG;
use quorate_zk::wire::opcode;

use crate::bench::{Bench, Client, data_of};

const JOINING: &str = "server.9=h9:1:2:observer;c9:3";

fn bench() -> Bench {
    let mut bench = Bench::configured(2, |config| config.reconfig_enabled = true);
    bench.members(&[1, 2], &[]);
    bench
}

fn reconfig(
    bench: &mut Bench,
    client: Client,
    xid: i32,
    (joining, leaving): (&str, &str),
    version: i64,
) {
    bench.ask(client, xid, opcode::RECONFIG, |out| {
        out.str(joining);
        out.str(leaving);
        out.buffer(None);
        out.long(version);
    });
}

fn root(bench: &mut Bench) -> Client {
    let (client, _) = bench.client(1);
    bench.auth(client, "super:test");
    client
}

/// Every server's driver says what is to be published.
fn publish(bench: &mut Bench, config: &str) {
    for at in [0, 1] {
        bench.tell(at, ClientRequest::Ensemble { config: config.into() });
    }
}

/// ZK-18: what ZooKeeper refuses is refused with its code and in its order: switched off, another version, what does not
/// read, and who may not write `/zookeeper/config`.
#[test]
fn what_is_refused_at_once() {
    let mut off = Bench::new(2);
    let client = root(&mut off);
    reconfig(&mut off, client, 1, (JOINING, ""), -1);
    assert_eq!(off.story(client), ["1 error -123"]);
    let mut alone = Bench::configured(1, |config| config.reconfig_enabled = true);
    alone.members(&[1], &[]);
    let (client, _) = alone.client(0);
    reconfig(&mut alone, client, 1, (JOINING, ""), -1);
    assert_eq!(alone.story(client), ["1 error -6"]);
    let mut bench = bench();
    let (stranger, _) = bench.client(0);
    for (joining, leaving, version, expected) in [
        ("some thing", "", 7, -103),
        ("some thing", "", -1, -8),
        (JOINING, "x", -1, -8),
        (JOINING, "", -1, -102),
        ("", "2", 0, -102),
    ] {
        reconfig(&mut bench, stranger, 1, (joining, leaving), version);
        assert_eq!(bench.story(stranger), [format!("1 error {expected}")], "{joining} {version}");
    }
    assert!(bench.reconfigures.is_empty());
}

/// ZK-18: a reconfig is answered, with the configuration and its Stat, once it is published; what the connection asked
/// after it waits until then, and who watches the configuration is told.
#[test]
fn a_reconfig_is_answered_once_it_is_published() {
    let mut bench = bench();
    let client = root(&mut bench);
    let (watcher, _) = bench.client(0);
    bench.read(watcher, 1, opcode::GET_DATA, CONFIG, true);
    bench.heard(watcher);
    reconfig(&mut bench, client, 1, (JOINING, "2"), 0);
    bench.set(client, 2, "/nosuch", "x");
    bench.read(client, 3, opcode::EXISTS, "/", false);
    bench.settle();
    assert!(bench.heard(client).is_empty(), "all waits for the driver");
    let (at, id, wanted) = bench.reconfigures.remove(0);
    let EnsembleEdit::Merge { joining, leaving } = wanted.edit else {
        panic!("it was incremental")
    };
    assert_eq!(
        (joining[0].to_string(), leaving, wanted.from_version),
        (JOINING.into(), vec![2], Some(0))
    );
    bench.tell(at, ClientRequest::Reconfigured { id, outcome: Ok(0x2c) });
    assert!(bench.heard(client).is_empty(), "it is not published yet");
    let text = format!("server.1=h1:1:2:participant;c1:3\n{JOINING}\nversion=2c");
    publish(&mut bench, &text);
    bench.settle();
    assert_eq!(bench.story(watcher), [format!("event 3 {CONFIG}")]);
    let heard = bench.heard(client);
    let (data, stat) = data_of(&heard[0]);
    assert_eq!((data, stat.version), (text.clone(), 1));
    assert_eq!(heard.len(), 3, "then the write, then the read: {heard:?}");
    // A leader that has not heard of it publishes nothing older over it.
    publish(&mut bench, "server.1=h1:1:2:participant;c1:3\nversion=1");
    bench.settle();
    bench.read(watcher, 2, opcode::GET_DATA, CONFIG, false);
    assert_eq!(data_of(&bench.heard(watcher)[0]).0, text);
}

/// ZK-18: what the driver refuses has its own codes, and the connection goes on.
#[test]
fn what_the_driver_refuses() {
    let mut bench = bench();
    let client = root(&mut bench);
    for (xid, error) in [(1, ErrorCode::NewConfigNoQuorum), (3, ErrorCode::ReconfigInProgress)] {
        reconfig(&mut bench, client, xid, (JOINING, ""), -1);
        bench.set(client, xid + 1, "/", "x");
        let (at, id, _) = bench.reconfigures.remove(0);
        bench.tell(at, ClientRequest::Reconfigured { id, outcome: Err(error) });
        bench.settle();
        let expected = [format!("{xid} error {}", error as i32), format!("{} ok", xid + 1)];
        assert_eq!(bench.story(client), expected);
    }
}

/// ZK-18: an observer serves clients and says what it is; a server that was removed has nothing to say to them.
#[test]
fn observers_and_those_that_left() {
    let mut bench = bench();
    bench.members(&[1], &[2]);
    let (client, _) = bench.client(1);
    bench.set(client, 1, "/", "x");
    bench.settle();
    assert_eq!(bench.story(client), ["1 ok"]);
    assert!(bench.word(1, *b"srvr").contains("\nMode: observer\n"));
    assert!(bench.word(1, *b"conf").contains("peerType=observer\n"));
    assert!(bench.word(0, *b"mntr").contains("\nzk_synced_observers\t1\n"));
    bench.members(&[1], &[]);
    assert!(bench.is_closed(client));
    let late = bench.open(1);
    assert!(bench.is_closed(late));
}
