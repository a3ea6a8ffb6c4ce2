//! What was durable rots, or goes missing.

use crate::node::{GROUPS, IDENTITY, Node, OPTIONS};
use quorate_contracts::{GroupId, Random, Recovered};
use quorate_sim::{DiskFaults, SimDisk};
use quorate_storage::{Disk, FileInfo, Storage, inspect};
use std::collections::BTreeMap;

/// A node that wrote several segments and a snapshot.
fn written() -> Node {
    let mut node = Node::new(DiskFaults::default(), 3);
    let mut random = Random::new(4);
    for i in 0..14 {
        for group in GROUPS {
            node.persist_anything(group, &mut random);
        }
        node.settle();
        if i == 7 {
            node.begin_snapshot(GROUPS[1]);
            node.settle();
        }
    }
    node
}

fn segments(disk: &SimDisk) -> Vec<FileInfo> {
    let mut files = disk.list().expect("it lists");
    files.retain(|file| file.name.ends_with(".log"));
    files
}

/// Whether `quorate log verify` would call it damaged.
fn notices(disk: &SimDisk) -> bool {
    !inspect(disk, &IDENTITY).expect("the disk reads").problems.is_empty()
}

fn open(disk: SimDisk) -> Option<BTreeMap<GroupId, Recovered>> {
    Storage::open(disk, IDENTITY, OPTIONS).ok().map(|(_, found)| found)
}

/// Where the written part of a file ends.
fn used(disk: &SimDisk, file: &FileInfo) -> u64 {
    let bytes = disk.read_at(&file.name, 0, file.bytes as usize).expect("it reads");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

/// RAFT-16: a bit of each byte of the log rots, in the headers of segments and batches, in records and in data:
/// once the log was idle, each flip is noticed; nothing is dropped in silence.
#[test]
fn every_rotten_byte_of_an_idle_log_is_noticed() {
    let mut node = written();
    node.rest();
    let good = open(node.disk.fork()).expect("it opens");
    let files = segments(&node.disk);
    assert!(files.len() > 2, "{files:?}");
    for (at, file) in files.iter().enumerate() {
        let mut end = used(&node.disk, file);
        if at + 1 == files.len() {
            // The mark itself proves something, but nothing is lost with it.
            end -= 300;
        }
        for byte in 0..end {
            let disk = node.disk.fork();
            assert!(disk.rot(&file.name, byte, (byte % 8) as u8));
            let noticed = notices(&disk);
            assert!(noticed, "{} byte {byte} was not noticed", file.name);
            if let Some(found) = open(disk) {
                // What rotted may be of no use any more, as an entry that was replaced.
                let told = found.values().any(|group| !group.is_whole());
                assert!(told || found == good, "{} byte {byte}: gone in silence", file.name);
            }
        }
    }
}

/// RAFT-16: in the last batch of a log that was not idle yet, and only there, rot may be taken for a tear.
#[test]
fn rot_is_taken_for_a_tear_in_the_last_batch_only() {
    let node = written();
    let good = open(node.disk.fork()).expect("it opens");
    let files = segments(&node.disk);
    let file = files.last().expect("there are segments");
    let mut taken_for_a_tear = None;
    for byte in 0..used(&node.disk, file) {
        let disk = node.disk.fork();
        disk.rot(&file.name, byte, (byte % 8) as u8);
        let Some(found) = open(disk.clone()) else { continue };
        if !notices(&disk) {
            let before = |group: &GroupId| found[group].mark.0 + 1 >= good[group].mark.0;
            assert!(GROUPS.iter().all(before), "byte {byte}: more than one batch is gone");
            taken_for_a_tear.get_or_insert(byte);
        } else {
            assert_eq!(taken_for_a_tear, None, "byte {byte}: the last batch begins before it");
        }
    }
    assert!(taken_for_a_tear.is_some(), "the last batch is the last");
}

/// RAFT-16: a segment that is missing, or in the place of another, is noticed.
#[test]
fn a_missing_or_swapped_segment_is_noticed() {
    let node = written();
    let files = segments(&node.disk);
    for file in &files {
        let disk = node.disk.fork();
        disk.lose_file(&file.name);
        assert!(open(disk).is_none(), "without {}", file.name);
        for other in files.iter().filter(|other| other.name > file.name) {
            let disk = node.disk.fork();
            disk.swap(&file.name, &other.name);
            assert!(open(disk).is_none(), "{} and {} swapped", file.name, other.name);
        }
    }
}
