//! What a million znodes cost, in resident bytes each, and how long a snapshot and its restoring take:
//! `cargo run --release -p quorate-zk --example memory [ZNODES]`.

use std::time::Instant;

use quorate_contracts::{LogIndex, NodeId, Progress, Random, RequestId, StateMachine, WireWriter};
use quorate_zk::command::{AclEntry, Attachment, Body, Command, CreateMode, Op, SessionId};
use quorate_zk::tree::{Tree, anyone, perms};

/// Resident bytes of this process.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells it");
    4096 * pages.split(' ').nth(1).expect("the second number").parse::<u64>().expect("a number")
}

fn apply(tree: &mut Tree, index: u64, body: Body<'_>) {
    let mut command = WireWriter::default();
    Command { unix_ms: 1_000_000, body }.encode(&mut command);
    tree.apply(LogIndex(index), &command.finish(), &mut Vec::new());
}

/// Znodes of 100 bytes, a thousand below each of a few parents.
fn fill(tree: &mut Tree, znodes: u64) {
    let (server, nonce, password) = (NodeId(1), RequestId(1), [1; 16]);
    let session = Body::CreateSession { server, nonce, password, timeout_ms: 4_000 };
    apply(tree, 1, session);
    let session = SessionId(1 << 56 | 1);
    let acl = vec![AclEntry { perms: perms::ALL, identity: anyone() }];
    for index in 0..znodes {
        let path = match index % 1_000 {
            0 => format!("/parent-{:04}", index / 1_000),
            _ => format!("/parent-{:04}/znode-{index:07}", index / 1_000),
        };
        let (data, acl) = (Some(&[b'v'; 100][..]), acl.clone());
        let op = Op::Create { path: &path, data, acl, mode: CreateMode::Persistent };
        let (attachment, sequence, identities) = (Attachment(1), index + 1, Vec::new());
        let write = Body::Write { session, attachment, sequence, identities, op };
        apply(tree, index + 2, write);
    }
}

#[expect(clippy::print_stdout, reason = "an example for people")]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn main() {
    let znodes = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1_000_000);
    let idle = resident();
    let mut tree = Tree::new();
    let start = Instant::now();
    fill(&mut tree, znodes);
    let seconds = start.elapsed().as_secs_f64();
    assert!(tree.znodes() as u64 > znodes, "all creates took effect");
    println!("{znodes} znodes of 100 B created in {seconds:.1} s");
    println!("{} B resident a znode", (resident() - idle) / znodes);
    let mut random = Random::new(1);
    let start = Instant::now();
    for _ in 0..1_000_000 {
        let index = random.below(znodes) / 1_000 * 1_000 + 1;
        let path = format!("/parent-{:04}/znode-{index:07}", index / 1_000);
        assert!(tree.znode(&path).is_some());
    }
    println!("found in {:.0} ns each", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let mut snapshot = Vec::new();
    tree.begin_snapshot();
    while tree.snapshot_slice(1 << 20, &mut snapshot) == Progress::More {}
    println!("a snapshot of {} MB in {:.2} s", snapshot.len() >> 20, start.elapsed().as_secs_f64());
    let digest = tree.digest();
    drop(tree);
    let start = Instant::now();
    let tree = Tree::restore(&mut &snapshot[..]).expect("a snapshot can be read");
    assert_eq!(tree.digest(), digest);
    println!("restored in {:.2} s", start.elapsed().as_secs_f64());
}
