//! The power goes, at any moment and with any part of what was not synced.

use crate::node::{GROUPS, Node};
use quorate_contracts::Random;
use quorate_sim::{DiskFaults, Lane, SECTOR_BYTES};
use quorate_storage::Operation;

/// RAFT-16, exhaustively: for every write of a recorded run, a crash at every sector boundary, each sector
/// missing alone, and each sector alone there. What was vouched for is always found, in a prefix of what was
/// written; and the node that starts there writes on, and starts again.
#[test]
fn a_crash_at_every_sector_boundary_of_a_run_keeps_what_was_vouched_for() {
    let mut node = Node::new(DiskFaults::default(), 1);
    let mut random = Random::new(2);
    let (mut writes, mut crashes) = (0, 0);
    while writes < 60 {
        for group in GROUPS {
            node.persist_anything(group, &mut random);
        }
        if random.chance_ppm(100_000) {
            node.begin_snapshot(GROUPS[0]);
        }
        node.flush();
        loop {
            while node.carry_out(Lane::Aside) {}
            if let Some(Operation::Write { offset, data, .. }) = node.disk.next(Lane::Log) {
                writes += 1;
                let first = offset as usize / SECTOR_BYTES;
                let sectors = (offset as usize + data.len()).div_ceil(SECTOR_BYTES) - first;
                crashes += crash_everywhere(&node, sectors);
            }
            if !node.carry_out(Lane::Log) {
                break;
            }
        }
    }
    assert!(crashes > 700, "{crashes} crashes in {writes} writes");
}

/// Crashes within the next write, in all ways that its sectors allow without being too many.
fn crash_everywhere(node: &Node, sectors: usize) -> usize {
    let crash = |survives: &dyn Fn(usize) -> bool, what: &str| {
        let disk = node.disk.fork();
        disk.crash_within_write(survives);
        let started = node.twin(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        write_on(started);
    };
    for cut in 0..=sectors {
        crash(&|sector| sector < cut, &format!("cut after {cut} of {sectors} sectors"));
        crash(&|sector| sector != cut, &format!("without sector {cut} of {sectors}"));
        crash(&|sector| sector == cut, &format!("only sector {cut} of {sectors}"));
    }
    3 * (sectors + 1)
}

fn write_on(mut node: Node) {
    let mut random = Random::new(5);
    node.persist_anything(GROUPS[0], &mut random);
    node.settle();
    let history = &node.histories[&GROUPS[0]];
    assert_eq!(history.vouched, history.mark, "the node writes on");
    let disk = node.disk.clone();
    node.start(disk).expect("it starts again");
}

/// RAFT-15, RAFT-16, RAFT-17: many lives of a node, each ended by a crash at some moment: unsynced sectors lost,
/// reordered and torn, names lost, snapshots on their way.
#[test]
fn many_lives_lose_nothing_that_was_vouched_for() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let mut node = Node::new(DiskFaults::default(), seed);
        for life in 0..8 {
            live(&mut node, &mut random);
            node.disk.crash();
            let disk = node.disk.clone();
            node = node
                .start(disk)
                .unwrap_or_else(|error| panic!("seed {seed}, after life {life}: {error}"));
        }
    }
}

/// Some work, in some order.
fn live(node: &mut Node, random: &mut Random) {
    for _ in 0..random.below(120) {
        let group = GROUPS[random.below(2) as usize];
        match random.below(10) {
            0..=2 => node.persist_anything(group, random),
            3..=4 => node.flush(),
            5..=6 => drop(node.carry_out(Lane::Aside)),
            7..=8 => drop(node.carry_out(Lane::Log)),
            _ if random.chance_ppm(300_000) => node.rest(),
            _ => node.begin_snapshot(group),
        }
    }
}
