//! A node that dies again and again: each restart leaves something that the next one can read.

use crate::support::{Bench, G1, G2, LARGE, SMALL, append, id, snapshot, vote};
use quorate_contracts::{LogIndex, Record, SnapshotOutput};
use quorate_storage::StorageOptions;

/// RAFT-16: a crash after any operation, most of all between a segment's rename and its first batch; then the
/// node starts, writes, and starts once more.
#[test]
fn a_crash_after_any_operation_leaves_a_log_that_opens_twice() {
    for crash_after in 0.. {
        let mut bench = Bench::new(SMALL);
        let mut left = crash_after;
        for mark in 1..=12 {
            bench.persist(G1, mark, append(mark..=mark, 1));
            bench.flush();
            left = bench.settle_at_most(left);
        }
        let acknowledged = bench.durable(G1);
        let (mut next, groups) = bench
            .reopen(SMALL)
            .unwrap_or_else(|error| panic!("crash after {crash_after}, first restart: {error}"));
        let found = groups.get(&G1).map_or(0, |group| group.last.index.0);
        assert!(found >= acknowledged, "crash after {crash_after}: {found} of {acknowledged}");
        next.write(G1, 20, append(found + 1..=found + 1, 2));
        let (_, groups) = next
            .reopen(SMALL)
            .unwrap_or_else(|error| panic!("crash after {crash_after}, second restart: {error}"));
        assert_eq!(groups[&G1].last, id(found + 1, 2), "crash after {crash_after}");
        if left > 0 {
            return;
        }
    }
}

/// RAFT-12, RAFT-20: the node died between a received snapshot and the log's record of it. The entries that
/// the snapshot replaced stay away: with them it would vote as if its log were longer than it is.
#[test]
fn entries_that_a_snapshot_replaced_never_come_back() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=9, 1));
    bench.write(G2, 1, append(1..=1, 1));
    snapshot(&mut bench, G1, id(5, 2), &["state"]);
    let (mut first, groups) = bench.reopen(LARGE).expect("it opens");
    assert_eq!((groups[&G1].base, groups[&G1].last), (id(5, 2), id(5, 2)));
    first.write(G1, 2, vote(3, 1));
    let (_, groups) = first.reopen(LARGE).expect("it opens again");
    assert_eq!((groups[&G1].base, groups[&G1].last), (id(5, 2), id(5, 2)));
}

/// RAFT-16: two damaged batches at the end are not one torn tail: the later one was begun only after the
/// earlier one was durable.
#[test]
fn two_damaged_batches_at_the_end_are_no_torn_tail() {
    let mut bench = Bench::new(LARGE);
    (1..=3).for_each(|mark| bench.write(G1, mark, append(mark..=mark, 1)));
    let mut files = bench.disk.found();
    let log = files.get_mut("000001.log").expect("it is there");
    for text in ["set x=2 in 1", "set x=3 in 1"] {
        let at = log.windows(text.len()).position(|bytes| bytes == text.as_bytes());
        log[at.expect("the entry's data is in the log")] ^= 1;
    }
    let (_, groups) = Bench::open(files, LARGE).expect("their headers are good");
    assert_eq!(groups[&G1].damaged, [LogIndex(2)]);
    assert_eq!(groups[&G1].last, id(2, 1), "the last batch may be taken for a tear");
}

/// RAFT-18: a snapshot that begins while the one before becomes durable has a file of its own.
#[test]
fn a_snapshot_begun_while_another_is_named_disturbs_nothing() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=9, 1));
    let begin = |index| SnapshotOutput::Begin { meta: crate::support::meta(id(index, 1)) };
    let write = SnapshotOutput::Write { offset: 0, bytes: "whole".into() };
    for work in [begin(4), write, SnapshotOutput::Finish, begin(7)] {
        bench.storage.snapshot(G1, work, &mut bench.events);
    }
    bench.settle();
    let (mut next, groups) = bench.reopen(LARGE).expect("it opens");
    let newest = groups[&G1].snapshot.as_ref().map(|(meta, bytes)| (meta.last, *bytes));
    assert_eq!(newest, Some((id(4, 1), 5)));
    assert_eq!(crate::support::load(&mut next), "whole");
}

/// RAFT-17: what is handed back in memory is bounded for the node, however many groups it has.
#[test]
fn the_tails_of_all_groups_share_one_bound() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=100, 1));
    bench.write(G2, 1, append(1..=100, 1));
    let options = StorageOptions { tail_bytes: 4_000, ..LARGE };
    let (_, groups) = bench.reopen(options).expect("it opens");
    let sizes = groups.values().flat_map(|group| &group.tail).map(|entry| entry.data.len() + 64);
    let (sum, count) = (sizes.clone().sum::<usize>(), sizes.count());
    assert!(sum <= 4_000, "{sum} bytes in {count} entries");
    assert!(count > 40, "{count} entries: the bound is used");
    for group in groups.values() {
        assert_eq!(group.tail.last().map(|entry| entry.id), Some(id(100, 1)));
    }
    bench.write(G1, 2, Record::default());
}
