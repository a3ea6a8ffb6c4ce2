//! Watches: told once, in time, in order, and also to who comes from elsewhere (ZK-12).

use quorate_zk::command::{CreateMode, Op};
use quorate_zk::wire::{JuteWriter, opcode};

use crate::bench::{Bench, Client};
use crate::order::create;

fn made(bench: &mut Bench, client: Client, path: &str) {
    bench.write(client, 100, opcode::CREATE, &create(path, CreateMode::Persistent));
    bench.settle();
    bench.heard(client);
}

/// ZK-12: the event of a change comes before the reply to the write that made it, and before anything newer.
#[test]
fn the_event_comes_before_its_effect_is_seen() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    made(&mut bench, client, "/a");
    bench.read(client, 1, opcode::GET_DATA, "/a", true);
    bench.read(client, 2, opcode::GET_CHILDREN, "/a", true);
    bench.set(client, 3, "/a", "x");
    bench.write(client, 4, opcode::CREATE, &create("/a/c", CreateMode::Persistent));
    bench.set(client, 5, "/a", "y");
    bench.settle();
    assert_eq!(
        bench.story(client),
        ["1 ok", "2 ok", "event 3 /a", "3 ok", "event 4 /a", "4 ok", "5 ok"]
    );
}

/// ZK-12, the ready-file protocol: who saw `ready` with a watch is told before it can read any of the new
/// configuration, on whichever server.
#[test]
fn the_ready_file() {
    let mut bench = Bench::new(2);
    let (writer, _) = bench.client(0);
    let (reader, _) = bench.client(1);
    made(&mut bench, writer, "/f");
    made(&mut bench, writer, "/ready");
    bench.read(reader, 1, opcode::EXISTS, "/ready", true);
    bench.write(writer, 1, opcode::DELETE, &Op::Delete { path: "/ready", version: -1 });
    bench.set(writer, 2, "/f", "new");
    bench.write(writer, 3, opcode::CREATE, &create("/ready", CreateMode::Persistent));
    bench.settle();
    bench.read(reader, 2, opcode::GET_DATA, "/f", false);
    assert_eq!(bench.story(reader), ["1 ok", "event 2 /ready", "2 ok"]);
}

/// ZK-12: what a client watched elsewhere: what happened since is told at once, the rest is set.
#[test]
fn watches_are_set_again_elsewhere() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    ["/kept", "/changed", "/parent"].iter().for_each(|path| made(&mut bench, client, path));
    let seen = bench.tree(0).last_zxid().0;
    bench.set(client, 1, "/changed", "x");
    made(&mut bench, client, "/parent/child");
    made(&mut bench, client, "/appeared");
    let lists: [&[&str]; 3] =
        [&["/kept", "/changed", "/gone"], &["/appeared", "/awaited"], &["/parent"]];
    bench.ask(client, -8, opcode::SET_WATCHES, |out: &mut JuteWriter| {
        out.long(seen);
        for list in lists {
            out.count(list.len());
            list.iter().for_each(|path| out.str(path));
        }
    });
    assert_eq!(
        bench.story(client),
        ["event 3 /changed", "event 2 /gone", "event 1 /appeared", "event 4 /parent", "-8 ok"]
    );
    bench.set(client, 2, "/kept", "x");
    made_without_reading(&mut bench, client, "/awaited");
    assert_eq!(bench.story(client), ["event 3 /kept", "2 ok", "event 1 /awaited", "100 ok"]);
}

fn made_without_reading(bench: &mut Bench, client: Client, path: &str) {
    bench.write(client, 100, opcode::CREATE, &create(path, CreateMode::Persistent));
    bench.settle();
}

/// ZK-12: persistent and recursive watches stay until they are removed.
#[test]
fn watches_that_stay() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    made(&mut bench, client, "/p");
    for (xid, mode) in [(1, 0), (2, 1)] {
        bench.ask(client, xid, opcode::ADD_WATCH, |out| {
            out.str("/p");
            out.int(mode);
        });
    }
    bench.write(client, 3, opcode::CREATE, &create("/p/c", CreateMode::Persistent));
    bench.set(client, 4, "/p", "x");
    bench.settle();
    assert_eq!(
        bench.story(client),
        ["1 ok", "2 ok", "event 1 /p/c", "event 4 /p", "3 ok", "event 3 /p", "4 ok"]
    );
    for (xid, expected) in [(5, "5 ok"), (6, "6 error -121")] {
        bench.ask(client, xid, opcode::REMOVE_WATCHES, |out| {
            out.str("/p");
            out.int(3);
        });
        assert_eq!(bench.story(client), [expected]);
    }
}

/// ZK-20: the watches of a connection take only so much memory; those beyond are refused, the others stay.
#[test]
fn watches_have_a_limit() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    for xid in 1..100 {
        bench.read(client, xid, opcode::EXISTS, &format!("/w{xid}"), true);
    }
    let story = bench.story(client);
    assert_eq!((&story[0][..], &story[98][..]), ("1 error -101", "99 error -125"));
    made_without_reading(&mut bench, client, "/w1");
    assert_eq!(bench.story(client), ["event 1 /w1", "100 ok"]);
    let long = "/x".repeat(6_000);
    bench.ask(client, -8, opcode::SET_WATCHES, |out: &mut JuteWriter| {
        out.long(0);
        out.count(0);
        out.count(1);
        out.str(&long);
        out.count(0);
    });
    assert!(bench.is_closed(client), "it must not believe that it is told of everything");
}

/// ZK-18: clients read in `/zookeeper/config` which servers there are, and are told when that changes.
#[test]
fn the_servers_are_published() {
    let ensemble = "server.1=h:1:1:participant;h:2";
    let mut bench = Bench::configured(2, |config| config.ensemble = ensemble.to_string());
    let (client, _) = bench.client(1);
    bench.read(client, 1, opcode::GET_DATA, "/zookeeper/config", true);
    bench.pass(500);
    assert_eq!(bench.story(client), ["1 ok", "event 3 /zookeeper/config"]);
    bench.read(client, 2, opcode::GET_DATA, "/zookeeper/config", false);
    let (text, _) = crate::bench::data_of(&bench.heard(client)[0]);
    assert_eq!(text, ensemble);
    bench.set(client, 3, "/zookeeper/config", "x");
    bench.settle();
    assert_eq!(bench.story(client), ["3 error -102"]);
}
