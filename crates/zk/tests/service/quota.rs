//! Limits on subtrees (ZK-18).

use quorate_zk::command::{CreateMode, Op};
use quorate_zk::wire::opcode;

use crate::bench::{Bench, Client, data_of};
use crate::order::create;

const LIMITS: &str = "/zookeeper/quota/q/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/q/zookeeper_stats";

fn write(bench: &mut Bench, client: Client, opcode: i32, op: &Op<'_>) -> String {
    bench.write(client, 1, opcode, op);
    bench.settle();
    bench.story(client).pop().expect("a reply")
}

fn set(bench: &mut Bench, client: Client, path: &str, data: &str) -> String {
    bench.set(client, 1, path, data);
    bench.settle();
    bench.story(client).pop().expect("a reply")
}

fn usage(bench: &mut Bench, client: Client) -> (String, i32) {
    bench.read(client, 1, opcode::GET_DATA, STATS, false);
    let (text, stat) = data_of(&bench.heard(client)[0]);
    (text, stat.version)
}

/// A subtree of two znodes and six bytes, with limits.
fn limited(limits: &str) -> (Bench, Client) {
    let mut bench = Bench::new(1);
    let (client, _) = bench.client(0);
    for path in ["/q", "/q/z", "/zookeeper/quota/q", LIMITS, STATS] {
        let op = create(path, CreateMode::Persistent);
        assert_eq!(write(&mut bench, client, opcode::CREATE, &op), "1 ok");
    }
    set(&mut bench, client, "/q", "12345");
    set(&mut bench, client, "/q/z", "1");
    set(&mut bench, client, LIMITS, limits);
    (bench, client)
}

/// ZK-18: a soft limit refuses nothing; the count beside it follows every change, without a version.
#[test]
fn a_soft_limit_counts() {
    let (mut bench, client) = limited("count=3,bytes=20");
    assert_eq!(usage(&mut bench, client), ("count=2,bytes=6".into(), 0));
    for path in ["/q/a", "/q/b", "/q/a/c"] {
        write(&mut bench, client, opcode::CREATE, &create(path, CreateMode::Persistent));
    }
    set(&mut bench, client, "/q/a", "0123456789");
    assert_eq!(usage(&mut bench, client), ("count=5,bytes=16".into(), 0));
    write(&mut bench, client, opcode::DELETE, &Op::Delete { path: "/q/b", version: -1 });
    set(&mut bench, client, "/q/a", "x");
    write(&mut bench, client, opcode::CREATE, &create("/other", CreateMode::Persistent));
    assert_eq!(usage(&mut bench, client), ("count=4,bytes=7".into(), 0));
}

/// ZK-18: a hard limit refuses what would exceed it (-125), also as the sum of a multi, and nothing that shrinks.
#[test]
fn a_hard_limit_refuses() {
    let (mut bench, client) = limited("count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=4");
    assert_eq!(set(&mut bench, client, "/q/z", "123456"), "1 error -125");
    assert_eq!(set(&mut bench, client, "/q/z", "12345"), "1 ok");
    let made = ["/q/a", "/q/b", "/q/c"].map(|path| create(path, CreateMode::Persistent));
    let ops: Vec<(i32, &Op<'_>)> = made.iter().map(|op| (opcode::CREATE, op)).collect();
    bench.multi(client, 2, &ops);
    bench.settle();
    assert_eq!(bench.multi_errors(client), [0, 0, -125]);
    bench.multi(client, 2, &ops[..2]);
    bench.settle();
    assert_eq!(bench.story(client), ["2 ok"]);
    assert_eq!(write(&mut bench, client, opcode::CREATE, &made[2]), "1 error -125");
    set(&mut bench, client, LIMITS, "countHardLimit=1,byteHardLimit=1");
    assert_eq!(set(&mut bench, client, "/q/z", "1"), "1 ok", "it shrinks");
    write(&mut bench, client, opcode::DELETE, &Op::Delete { path: LIMITS, version: -1 });
    assert_eq!(write(&mut bench, client, opcode::CREATE, &made[2]), "1 ok");
}
