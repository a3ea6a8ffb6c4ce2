//! What the log holds back on the disk: little, however often the node restarts and however quiet a group is.

use std::collections::BTreeMap;

use quorate_contracts::{GroupId, LogIndex, Record, Time};
use quorate_storage::StorageEvent;

use crate::support::{Bench, Files, G1, G2, LARGE, append, id, snapshot, vote};

/// A restart on what is on the disk. As a kill would have it: nothing was idle, and no mark tells that the last batch was
/// durable.
fn next_life(bench: &Bench) -> Bench {
    let (mut next, _) = bench.reopen(LARGE).expect("it opens");
    next.flush();
    next.settle();
    next
}

/// Does what Raft does for the groups that are to let go: a snapshot, and the log begins after what it may leave out.
fn obey(bench: &mut Bench, last: &BTreeMap<GroupId, u64>, told: &mut BTreeMap<GroupId, u64>) {
    for event in std::mem::take(&mut bench.events) {
        let StorageEvent::LetGo { group, through } = event else { continue };
        *told.entry(group).or_default() += 1;
        assert!(through <= LogIndex(last[&group]), "{through} of {}", last[&group]);
        snapshot(bench, group, id(last[&group], 1), &["state"]);
        let base = Some(id(through.0, 1));
        bench.write(group, 1_000, Record { base, ..Record::default() });
    }
}

fn segments(files: &Files) -> (usize, usize) {
    let logs: Vec<usize> =
        files.iter().filter(|(name, _)| name.ends_with(".log")).map(|(_, f)| f.len()).collect();
    (logs.len(), logs.iter().sum())
}

/// RAFT-17, RAFT-23: a node dies two hundred times. One group writes a little in each life, another one wrote in the first
/// life only. What the log takes stays bounded, and so does what a start has to read; and the quiet group is not
/// made to take a snapshot each time.
#[test]
fn a_quiet_group_does_not_hold_the_log_back_through_many_restarts() {
    let mut bench = Bench::new(LARGE);
    bench.write(G2, 1, append(1..=3, 1));
    let mut last = BTreeMap::from([(G1, 0), (G2, 3)]);
    let (mut told, mut most) = (BTreeMap::new(), (0, 0));
    for life in 0..200 {
        let next = last[&G1] + 1;
        bench.write(G1, next, append(next..=next + 19, 1));
        last.insert(G1, next + 19);
        obey(&mut bench, &last, &mut told);
        let (files, bytes) = segments(&bench.disk.found());
        most = (most.0.max(files), most.1.max(bytes));
        assert!(files <= 66, "life {life}: {files} files");
        assert!(bytes <= 5 * LARGE.segment_bytes as usize, "life {life}: {bytes} bytes");
        bench = next_life(&bench);
    }
    assert!(most.0 > 30, "{} files: the bound was met", most.0);
    assert!((1..=8).contains(&told[&G2]), "the quiet group was told {} times", told[&G2]);
    let (_, groups) = bench.reopen(LARGE).expect("it opens");
    assert_eq!((groups[&G1].last, groups[&G2].last), (id(4_000, 1), id(3, 1)));
}

/// RAFT-18: a group whose state is larger than a few segments is not made to write it out for less than that, and a group
/// whose log is all there is to hold lets go by its own measure.
#[test]
fn what_is_held_is_weighed_against_the_size_of_the_state() {
    let mut bench = Bench::new(LARGE);
    bench.write(G2, 1, append(1..=3, 1));
    let piece = &*"x".repeat(1 << 19).leak();
    snapshot(&mut bench, G2, id(2, 1), &[piece]);
    let (mut last, mut held) = (0, 0);
    let told = |bench: &Bench, of| {
        let to = |event: &StorageEvent| matches!(event, StorageEvent::LetGo { group, .. } if *group == of);
        bench.events.iter().any(to)
    };
    while !told(&bench, G2) {
        bench.write(G1, last + 1, append(last + 1..=last + 100, 1));
        last += 100;
        if held == 0 && told(&bench, G1) {
            held = segments(&bench.disk.found()).1;
        }
    }
    let bytes = segments(&bench.disk.found()).1;
    assert!(((1 << 19)..(1 << 20)).contains(&bytes), "{bytes} bytes for a state of half a MiB");
    let segment = LARGE.segment_bytes as usize;
    assert!((4 * segment..=6 * segment).contains(&held), "{held} bytes for a small state");
}

/// RAFT-16: a segment that is left gives back what was never written to, and nothing else: not the mark behind the
/// last batch, and not what a crash tore, which may have been more than a tear.
#[test]
fn a_segment_that_is_left_keeps_all_that_was_written() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=3, 1));
    bench.flush_at(Time::ZERO + LARGE.idle);
    bench.settle();
    bench.persist(G1, 2, append(4..=9, 1));
    bench.flush_at(Time::ZERO + LARGE.idle);
    let (_, write) = bench.disk.next().expect("the batch is on its way");
    bench.disk.carry_out(&write, 200).expect("a part of it is there");
    let torn = bench.disk.found()["000001.log"].clone();
    assert_eq!(torn.len(), LARGE.segment_bytes as usize);

    let (mut next, groups) = bench.reopen(LARGE).expect("it opens");
    assert_eq!(groups[&G1].last, id(3, 1));
    next.write(G1, 3, append(4..=4, 2));
    let kept = &next.disk.found()["000001.log"];
    assert_eq!(kept[..], torn[..kept.len()], "it is as it was");
    assert!(torn[kept.len()..].iter().all(|byte| *byte == 0), "the rest was never used");
    assert!((256..1_024).contains(&kept.len()), "{} bytes", kept.len());
    let (_, groups) = next.reopen(LARGE).expect("it opens again");
    assert_eq!(groups[&G1].last, id(4, 2));
}

/// RAFT-16: every crash while segments are begun and the ones before them trimmed leaves what was acknowledged.
#[test]
fn a_crash_around_a_trim_loses_nothing() {
    for crash_after in 0.. {
        let mut bench = Bench::new(LARGE);
        bench.write(G1, 1, append(1..=3, 1));
        let (mut bench, _) = bench.reopen(LARGE).expect("it opens");
        bench.persist(G1, 2, append(4..=6, 1));
        bench.flush();
        let left = bench.settle_at_most(crash_after);
        let acknowledged = if bench.durable(G1) == 2 { 6 } else { 3 };
        for _ in 0..3 {
            let (next, groups) = bench.reopen(LARGE).expect("it opens");
            let found = groups[&G1].last.index.0;
            assert!(found >= acknowledged, "crash after {crash_after}: {found}");
            bench = next;
            bench.write(G1, 3, vote(2, 1));
        }
        if left > 0 {
            return;
        }
    }
}
