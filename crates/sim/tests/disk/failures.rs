//! The disk fails, or is full.

use crate::node::{GROUPS, Node, OPTIONS, append};
use quorate_contracts::Random;
use quorate_sim::{DiskFaults, Lane};

/// RAFT-15: a failed sync ends it: nothing is vouched for any more, whatever the page cache says; and what was
/// vouched for before is found.
#[test]
fn after_a_failed_sync_nothing_is_vouched_for_and_nothing_is_lost() {
    let (mut failed, faults) = (0, DiskFaults { sync_failure_ppm: 30_000, ..Default::default() });
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut node = Node::new(faults, seed);
        for _ in 0..60 {
            node.persist_anything(GROUPS[random.below(2) as usize], &mut random);
            let before = node.histories[&GROUPS[0]].vouched;
            let was_failed = node.storage.has_failed();
            node.settle();
            if was_failed {
                assert_eq!(node.histories[&GROUPS[0]].vouched, before, "seed {seed}");
            }
        }
        failed += u32::from(node.storage.has_failed());
        node.disk.set_faults(DiskFaults::default());
        node.disk.crash();
        let disk = node.disk.clone();
        node.start(disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(failed > 100, "only {failed} of 200 disks failed");
}

/// A full disk: writes wait, nothing that was vouched for is lost, not by a crash either; with space they go on.
#[test]
fn a_full_disk_is_waited_out() {
    let full = DiskFaults { capacity_bytes: 40 << 10, ..DiskFaults::default() };
    let mut node = Node::new(full, 1);
    for i in 0..60 {
        node.persist(GROUPS[0], append(i + 1, i + 1, 1, 900));
        node.settle();
    }
    let history = &node.histories[&GROUPS[0]];
    assert!(history.vouched.0 > 10 && history.vouched < history.mark, "{}", history.vouched);
    assert!(!node.storage.has_failed());
    let disk = node.disk.fork();
    disk.crash();
    node.twin(disk).expect("it starts with a full disk");
    node.disk.set_faults(DiskFaults::default());
    node.now = node.storage.deadline().expect("it tries again");
    node.settle();
    let history = &node.histories[&GROUPS[0]];
    assert_eq!(history.vouched, history.mark);
}

/// A disk slower than the log is patient: what cannot be done before it has answered has no deadline, or a driver would
/// call again and again at the same instant.
#[test]
fn no_deadline_has_passed_after_a_flush() {
    let mut node = Node::new(DiskFaults::default(), 1);
    for i in 0..60 {
        node.persist(GROUPS[0], append(i + 1, i + 1, 1, 900));
        loop {
            node.now += OPTIONS.idle;
            node.storage.flush(node.now, &mut node.events);
            let passed = node.storage.deadline().filter(|at| *at <= node.now);
            assert_eq!(passed, None, "at {}, record {i}", node.now);
            let done = node.disk.carry_out(Lane::Log).or_else(|| node.disk.carry_out(Lane::Aside));
            let Some(completion) = done else { break };
            node.storage.complete(completion, &mut node.events);
        }
    }
}

/// A read that fails at run time stops the node rather than being taken for something else.
#[test]
fn a_failed_read_ends_it() {
    let mut node = Node::new(DiskFaults::default(), 1);
    node.persist(GROUPS[0], append(1, 3, 1, 100));
    node.settle();
    node.disk.set_faults(DiskFaults { read_failure_ppm: 1_000_000, ..DiskFaults::default() });
    let (from, to) = (quorate_contracts::LogIndex(1), quorate_contracts::LogIndex(3));
    node.storage.read_log(GROUPS[0], from, to, 1 << 20, &mut node.events);
    assert!(node.carry_out(Lane::Log));
    assert!(node.storage.has_failed());
}
