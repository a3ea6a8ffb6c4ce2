//! The disk fills up, at any moment and for however long.

use quorate_contracts::{HardState, NodeId, Random, Record, Room, Term};
use quorate_sim::{DiskFaults, Lane};
use quorate_storage::{Disk, StorageOptions};

use crate::node::{GROUPS, Node, OPTIONS};

/// Half of the reserve holds the largest record and many votes.
const KEPT: StorageOptions =
    StorageOptions { segment_bytes: 48 << 10, reserve_bytes: 24 << 10, ..OPTIONS };

/// RAFT-15, RAFT-16: others fill the disk, and make room again, at any moment, also while the node is down; it takes
/// entries as long as it is told that it may. Nothing fails, nothing that was vouched for is lost, **term and vote are always
/// written**, and once there is room everything is.
#[test]
fn a_disk_that_fills_up_at_any_moment_loses_nothing_and_always_takes_a_vote() {
    let (mut short, mut on_reserve, mut full_starts) = (0, 0, 0);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut node = Node::with(DiskFaults::default(), seed, KEPT);
        node.settle();
        for life in 0..4 {
            for _ in 0..random.between(5, 40) {
                fill_or_empty(&node, &mut random);
                work(&mut node, &mut random);
                assert!(!node.storage.has_failed(), "seed {seed}, life {life}");
                short += u32::from(node.room == Room::Little);
                on_reserve += u32::from(node.room == Room::Reserve);
            }
            vote(&mut node, &format!("seed {seed}, life {life}"));
            node.disk.crash();
            let disk = node.disk.clone();
            let files = disk.list().expect("it lists");
            if files.iter().any(|file| file.name == "reserve") {
                full_starts += 1;
            } else {
                // A reserve is good for one start on a full disk.
                disk.set_capacity(u64::MAX);
            }
            node = node
                .start(disk)
                .unwrap_or_else(|error| panic!("seed {seed}, after life {life}: {error}"));
            vote(&mut node, &format!("seed {seed}, at the start after life {life}"));
        }
        node.disk.set_capacity(u64::MAX);
        for _ in 0..4 {
            node.now += std::time::Duration::from_secs(10);
            node.settle();
        }
        assert_eq!(node.room, Room::Enough, "seed {seed}");
        for group in GROUPS {
            let history = &node.histories[&group];
            assert_eq!(history.vouched, history.mark, "seed {seed}, group {group}");
        }
    }
    assert!(
        short > 50 && on_reserve > 50 && full_starts > 100,
        "{short} times short, {on_reserve} on the reserve, {full_starts} starts with one"
    );
}

fn fill_or_empty(node: &Node, random: &mut Random) {
    match random.below(12) {
        0 | 1 => node.disk.set_capacity(node.disk.used_bytes()),
        2 => node.disk.set_capacity(node.disk.used_bytes() + random.below(60 << 10)),
        3 => node.disk.set_capacity(u64::MAX),
        _ => {}
    }
}

fn work(node: &mut Node, random: &mut Random) {
    let group = GROUPS[random.below(2) as usize];
    match random.below(8) {
        0..=3 if node.room > Room::Reserve => node.persist_anything(group, random),
        4 => node.begin_snapshot(group),
        5 => while node.carry_out(Lane::Aside) {},
        6 => node.now += std::time::Duration::from_millis(random.below(3_000)),
        _ => {}
    }
    node.settle();
}

/// A vote in the next term is written, whatever room there is.
fn vote(node: &mut Node, when: &str) {
    for group in GROUPS {
        let term = Term(node.histories[&group].now.hard_state.term.0 + 1);
        let hard_state = Some(HardState { term, voted_for: Some(NodeId(2)) });
        node.persist(group, Record { hard_state, ..Record::default() });
    }
    node.settle();
    for group in GROUPS {
        let history = &node.histories[&group];
        assert_eq!(history.vouched, history.mark, "{when}: no vote in group {group}");
    }
}
