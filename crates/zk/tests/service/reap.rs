//! Znodes that go by themselves (ZK-2).

use quorate_zk::command::{CreateMode, Op};
use quorate_zk::wire::opcode;

use crate::bench::{Bench, Client};
use crate::order::create;

fn made(bench: &mut Bench, client: Client, path: &str, mode: CreateMode) {
    let opcode = match mode {
        CreateMode::Container => opcode::CREATE_CONTAINER,
        CreateMode::Ttl(_) => opcode::CREATE_TTL,
        _ => opcode::CREATE,
    };
    bench.write(client, 1, opcode, &create(path, mode));
    bench.settle();
    assert_eq!(bench.story(client).last().map(String::as_str), Some("1 ok"), "{path}");
}

fn gone(bench: &mut Bench, client: Client, path: &str) {
    bench.write(client, 2, opcode::DELETE, &Op::Delete { path, version: -1 });
    bench.settle();
    bench.heard(client);
}

/// Lets a minute pass, with the client alive.
fn a_minute(bench: &mut Bench, client: Client) {
    for _ in 0..31 {
        bench.ask(client, -2, opcode::PING, |_| {});
        bench.pass(2_000);
    }
    bench.heard(client);
}

/// ZK-2: a container goes once it had children and has none; one that never had any stays.
#[test]
fn containers_go_when_they_are_empty_again() {
    let mut bench = Bench::new(2);
    let (client, _) = bench.client(1);
    for path in ["/used", "/unused", "/busy"] {
        made(&mut bench, client, path, CreateMode::Container);
    }
    for path in ["/used/c", "/busy/c"] {
        made(&mut bench, client, path, CreateMode::Persistent);
    }
    gone(&mut bench, client, "/used/c");
    bench.read(client, 3, opcode::EXISTS, "/used", true);
    bench.heard(client);
    bench.pass(1_000);
    assert!(bench.tree(0).znode("/used").is_some(), "there is time to put something in");
    a_minute(&mut bench, client);
    for at in 0..2 {
        let there = |path| bench.tree(at).znode(path).is_some();
        assert_eq!((there("/used"), there("/unused"), there("/busy")), (false, true, true));
    }
}

/// ZK-2: a znode with a time to live goes when its data was not set for that long and it has no children.
#[test]
fn times_to_live_end() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    for (path, ttl) in [("/short", 50_000), ("/set", 70_000), ("/parent", 10), ("/long", 1 << 39)] {
        made(&mut bench, client, path, CreateMode::Ttl(ttl));
    }
    made(&mut bench, client, "/parent/c", CreateMode::Persistent);
    a_minute(&mut bench, client);
    bench.set(client, 3, "/set", "alive");
    bench.settle();
    bench.heard(client);
    a_minute(&mut bench, client);
    let left = |bench: &Bench| {
        let tree = bench.tree(0);
        ["/short", "/set", "/parent", "/long"].map(|path| tree.znode(path).is_some())
    };
    assert_eq!(left(&bench), [false, true, true, true]);
    gone(&mut bench, client, "/parent/c");
    a_minute(&mut bench, client);
    a_minute(&mut bench, client);
    assert_eq!(left(&bench), [false, false, false, true]);
}

/// ZK-2: what could go when the leader looked is looked at again when it is applied.
#[test]
fn a_child_that_comes_in_between_keeps_its_parent() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    made(&mut bench, client, "/box", CreateMode::Container);
    made(&mut bench, client, "/box/a", CreateMode::Persistent);
    gone(&mut bench, client, "/box/a");
    bench.keep_proposals = true;
    for _ in 0..31 {
        bench.ask(client, -2, opcode::PING, |_| {});
        bench.pass(2_000);
    }
    let reap = std::mem::take(&mut bench.proposed);
    assert_eq!(reap.len(), 1);
    bench.keep_proposals = false;
    made(&mut bench, client, "/box/b", CreateMode::Persistent);
    bench.proposed.extend(reap);
    bench.settle();
    assert!(bench.tree(0).znode("/box/b").is_some());
}

/// ZK-3: a time to live has bounds; createTTL makes no other kind of znode.
#[test]
fn times_to_live_have_bounds() {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    for (ttl, expected) in [(0, "1 error -8"), (-1, "1 error -8"), (1 << 40, "1 error -8")] {
        bench.write(client, 1, opcode::CREATE_TTL, &create("/t", CreateMode::Ttl(ttl)));
        bench.settle();
        assert_eq!(bench.story(client), [expected], "{ttl}");
    }
    made(&mut bench, client, "/t", CreateMode::Ttl((1 << 40) - 1));
    assert_eq!(bench.tree(0).znode("/t").expect("it is there").stat().ephemeral_owner, 0);
}
