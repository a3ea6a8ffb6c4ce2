//! Snapshot files: whole or not there, whatever happens while they are written.

use std::io::{self, Read};

use crate::support::{
    Bench, Files, G1, IDENTITY, LARGE, TestDisk, append, id, load, shape, snapshot, vote,
};
use bytes::Bytes;
use quorate_contracts::{
    GroupId, LogIndex, NodeId, Record, SnapshotInput, SnapshotMeta, SnapshotOutput, Time,
};
use quorate_storage::{
    Completion, OpenError, Operation, SnapshotContent, SnapshotFile, Start, StorageEvent,
    StorageOptions, finished_name,
};

fn meta(index: u64) -> SnapshotMeta {
    crate::support::meta(id(index, 1))
}

fn work(index: u64, pieces: &[&'static str]) -> Vec<SnapshotOutput> {
    let mut offset = 0;
    let mut all = vec![SnapshotOutput::Begin { meta: meta(index) }];
    for piece in pieces {
        all.push(SnapshotOutput::Write { offset, bytes: Bytes::from_static(piece.as_bytes()) });
        offset += piece.len() as u64;
    }
    all.push(SnapshotOutput::Finish);
    all
}

fn take(bench: &mut Bench, index: u64, pieces: &[&'static str]) {
    snapshot(bench, G1, id(index, 1), pieces);
}

/// RAFT-17: a restart finds the newest snapshot, and the log after it.
#[test]
fn the_newest_snapshot_is_found_again() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=9, 1));
    take(&mut bench, 4, &["one ", "two"]);
    take(&mut bench, 7, &["newer"]);
    bench.write(G1, 2, Record { base: Some(id(6, 1)), ..Record::default() });
    let (mut next, groups) = bench.reopen(LARGE).expect("it opens");
    assert_eq!(groups[&G1].snapshot, Some((meta(7), 5)));
    assert_eq!(shape(&groups[&G1]), "7@1 8@1 9@1");
    assert_eq!(load(&mut next), "newer");
    let snapshots = bench.disk.found().keys().filter(|name| name.ends_with(".snap")).count();
    assert_eq!(snapshots, 1, "the older one is gone");
}

/// RAFT-18, RAFT-20: a crash at any operation leaves the old snapshot or the new one.
#[test]
fn a_crash_leaves_one_or_the_other() {
    let operations = 9;
    for crash_after in 0..=operations {
        let mut bench = Bench::new(LARGE);
        bench.write(G1, 1, append(1..=9, 1));
        take(&mut bench, 4, &["old"]);
        let mut left = crash_after;
        'crash: for work in work(7, &["new ", "state"]) {
            bench.storage.snapshot(G1, work, &mut bench.events);
            while let Some((ticket, operation)) = bench.disk.next() {
                if left == 0 {
                    let _ = bench.disk.carry_out(&operation, 3);
                    break 'crash;
                }
                left -= 1;
                let result = bench.disk.carry_out(&operation, usize::MAX);
                bench.storage.complete(Completion { ticket, result }, &mut bench.events);
            }
        }
        let (mut next, groups) = bench.reopen(LARGE).expect("it opens");
        next.settle();
        let text = load(&mut next);
        let expected = match groups[&G1].snapshot.as_ref().map(|(meta, _)| meta.last.index.0) {
            Some(4) => "old",
            Some(7) => "new state",
            other => panic!("crash after {crash_after}: snapshot {other:?}"),
        };
        assert_eq!(text, expected, "crash after {crash_after}");
    }
}

/// RAFT-20: the node died between a received snapshot and the log's record of it: the log gives way.
#[test]
fn a_snapshot_beyond_the_log_replaces_it() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=3, 1));
    take(&mut bench, 50, &["far ahead"]);
    let (_, groups) = bench.reopen(LARGE).expect("it opens");
    assert_eq!((groups[&G1].base, groups[&G1].last), (id(50, 1), id(50, 1)));
}

/// Pieces come back as they were written, for members that need them.
#[test]
fn pieces_are_read_for_members() {
    let mut bench = Bench::new(LARGE);
    take(&mut bench, 4, &["one ", "two"]);
    bench.events.clear();
    let read = SnapshotOutput::Read { offset: 4, bytes_max: 100, to: NodeId(3) };
    bench.storage.snapshot(G1, read, &mut bench.events);
    bench.settle();
    let [StorageEvent::Snapshot { news: SnapshotInput::Piece { bytes, last, to, .. }, .. }] =
        &bench.events[..]
    else {
        panic!("{:?}", bench.events)
    };
    assert_eq!((&bytes[..], *last, *to), (&b"two"[..], true, NodeId(3)));
}

/// A log that begins with a snapshot.
fn with_a_log_behind_it() -> Bench {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=6, 1));
    take(&mut bench, 4, &["one ", "two"]);
    bench.write(G1, 2, Record { base: Some(id(4, 1)), ..vote(3, 2) });
    bench
}

fn flip(bench: &Bench, name: &str, bit: usize) -> Files {
    let mut bad = bench.disk.found();
    bad.get_mut(name).expect("it is there")[bit / 8] ^= 1 << (bit % 8);
    bad
}

/// RAFT-16: every flipped bit of a snapshot is noticed at open. The server starts without it, as one that lost everything that
/// it acknowledged, but for term and vote; a server alone refuses, with file and byte, and changes nothing.
#[test]
fn every_flipped_bit_of_a_snapshot_is_noticed() {
    let bench = with_a_log_behind_it();
    let name = "snapshot-1-4-1.snap";
    for bit in 0..bench.disk.found()[name].len() * 8 {
        let bad = flip(&bench, name, bit);
        let (opened, groups) = Bench::open(bad.clone(), LARGE).expect("others may have it");
        let found = &groups[&G1];
        assert_eq!((found.base, found.last, &found.snapshot), (id(0, 0), id(0, 0), &None));
        assert_eq!(
            (found.lost, found.hard_state),
            (Some(LogIndex(6)), vote(3, 2).hard_state.unwrap())
        );
        assert_eq!(opened.storage.damage()[0].file, name, "bit {bit}");
        match Bench::open(bad, StorageOptions { alone: true, ..LARGE }) {
            Err(OpenError::DamagedSnapshot { file, what, .. }) => {
                assert_eq!(file, name);
                assert!(what.ends_with("there is no other member to send it again"), "{what}");
            }
            other => panic!("bit {bit}: {:?}", other.err()),
        }
    }
}

/// RAFT-16, RAFT-20: nothing goes before a leader's snapshot is there, however often the server starts; then the damaged one
/// goes, and all is whole once the leader's log stands for what was acknowledged.
#[test]
fn a_damaged_snapshot_is_kept_until_a_new_one_is_there() {
    let name = "snapshot-1-4-1.snap";
    let bad = flip(&with_a_log_behind_it(), name, 480);
    let (mut bench, _) = Bench::open(bad, LARGE).expect("it opens");
    bench.settle();
    bench.write(G1, 3, vote(4, 0));
    let (mut bench, groups) = bench.reopen(LARGE).expect("it opens");
    bench.settle();
    assert_eq!(groups[&G1].lost, Some(LogIndex(6)), "it is still lost");
    let files = bench.disk.found();
    assert!(files.contains_key(name) && files.contains_key("000001.log"), "{:?}", files.keys());
    take(&mut bench, 5, &["anew"]);
    let installed =
        Record { base: Some(id(5, 1)), truncate_from: Some(LogIndex(6)), ..Record::default() };
    bench.write(G1, 4, installed);
    bench.write(G1, 5, Record { confirmed: true, ..append(6..=7, 4) });
    assert!(!bench.disk.found().contains_key(name));
    let (mut bench, groups) = bench.reopen(LARGE).expect("it opens");
    assert!(groups[&G1].is_whole() && bench.storage.damage().is_empty());
    assert_eq!(shape(&groups[&G1]), "6@4 7@4");
    assert_eq!(load(&mut bench), "anew");
}

/// RAFT-16, RAFT-17: the file of the snapshot that the log begins with is gone. The server starts as one that lost all of the
/// group: it gives no vote until a leader has sent its own; what is left of the log stays until then. Alone, it refuses, and
/// says what is missing.
#[test]
fn a_missing_snapshot_comes_back_from_a_leader() {
    let mut files = with_a_log_behind_it().disk.found();
    files.remove("snapshot-1-4-1.snap").expect("it has one");
    let what = "it is missing: the log of group g1 begins after entry 4, and there is no snapshot";
    let alone = Bench::open(files.clone(), StorageOptions { alone: true, ..LARGE });
    let said = alone.err().map(|error| error.to_string());
    let nobody = "; there is no other member to send it again";
    assert_eq!(said, Some(format!("snapshot-1-*.snap: {what}{nobody}")));
    let seen =
        quorate_storage::inspect(&TestDisk::with(files.clone()), &IDENTITY).expect("it reads");
    assert_eq!(seen.start, Start::Mends);
    assert_eq!(seen.problems.len(), 1, "{:?}", seen.problems);
    assert_eq!(seen.problems[0].what, what);
    let (mut bench, groups) = Bench::open(files, LARGE).expect("others have it");
    assert_eq!((groups[&G1].base, groups[&G1].lost), (id(0, 0), Some(LogIndex(6))));
    for mark in 3..6 {
        bench.settle();
        bench.write(G1, mark, vote(mark, 0));
        let (next, groups) = bench.reopen(LARGE).expect("it opens");
        assert_eq!(groups[&G1].lost, Some(LogIndex(6)), "it is still lost");
        assert!(next.disk.found().contains_key("000001.log"), "what is left is kept");
        bench = next;
    }
    take(&mut bench, 6, &["anew"]);
    let installed =
        Record { base: Some(id(6, 1)), truncate_from: Some(LogIndex(7)), ..Record::default() };
    bench.write(G1, 6, installed);
    bench.write(G1, 7, Record { confirmed: true, ..append(7..=7, 6) });
    let (mut bench, groups) = bench.reopen(LARGE).expect("it opens");
    assert!(groups[&G1].is_whole() && bench.storage.damage().is_empty());
    assert_eq!((shape(&groups[&G1]), load(&mut bench)), ("7@6".to_string(), "anew".to_string()));
}

/// Damage that costs nothing: an older snapshot, and the log behind it, hold everything that the damaged one stood for.
#[test]
fn an_older_snapshot_and_the_log_do_for_a_damaged_one() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=9, 1));
    take(&mut bench, 4, &["older"]);
    let older = bench.disk.found()["snapshot-1-4-1.snap"].clone();
    take(&mut bench, 7, &["newer"]);
    let mut bad = flip(&bench, "snapshot-1-7-1.snap", 520);
    bad.insert("snapshot-1-4-1.snap".to_string(), older);
    let options = StorageOptions { alone: true, ..LARGE };
    let (mut next, groups) = Bench::open(bad, options).expect("nothing is lost");
    assert!(groups[&G1].is_whole());
    assert_eq!(groups[&G1].last, id(9, 1));
    assert_eq!(load(&mut next), "older");
    next.settle();
    assert!(!next.disk.found().contains_key("snapshot-1-7-1.snap"), "it is of no use");
}

/// Without space a snapshot is given up, whole: the log goes on, the one before it stays, and the next one may
/// succeed.
#[test]
fn no_space_for_a_snapshot_gives_up_the_snapshot_only() {
    for fails in 0..4 {
        let mut bench = Bench::new(LARGE);
        bench.write(G1, 1, append(1..=9, 1));
        take(&mut bench, 4, &["old"]);
        bench.events.clear();
        let mut done = 0;
        for work in work(7, &["new"]) {
            bench.storage.snapshot(G1, work, &mut bench.events);
            while let Some((ticket, operation)) = bench.disk.next() {
                let result = match (&operation, done == fails) {
                    (Operation::Remove { .. } | Operation::Rename { .. }, _) | (_, false) => {
                        bench.disk.carry_out(&operation, usize::MAX)
                    }
                    (_, true) => Err(io::ErrorKind::StorageFull.into()),
                };
                done += 1;
                bench.storage.complete(Completion { ticket, result }, &mut bench.events);
            }
        }
        let cancelled = |event: &&StorageEvent| {
            matches!(event, StorageEvent::Snapshot { news: SnapshotInput::Cancelled { .. }, .. })
        };
        assert_eq!(bench.events.iter().filter(cancelled).count(), 1, "operation {fails}");
        assert!(!bench.disk.found().keys().any(|name| name.ends_with(".unfinished")));
        bench.write(G1, 2, append(10..=10, 1));
        assert_eq!((bench.durable(G1), load(&mut bench).as_str()), (2, "old"), "operation {fails}");
        take(&mut bench, 9, &["newer"]);
        assert_eq!(load(&mut bench), "newer", "operation {fails}");
    }
}

/// A snapshot does not ride on the log's syncs: each piece is a write with a sync of its own, on the side of the log, and is asked
/// for only once the one before it is durable; the log goes on meanwhile.
#[test]
fn each_piece_has_a_sync_of_its_own_beside_the_log() {
    let mut bench = Bench::new(LARGE);
    bench.settle();
    let mut synced = Vec::new();
    for work in work(4, &["one ", "two ", "three"]) {
        let told = bench.events.len();
        bench.storage.snapshot(G1, work, &mut bench.events);
        let mut waiting = Vec::new();
        while let Some((ticket, operation)) = bench.disk.next() {
            assert!(operation.is_aside(), "{operation:?}");
            if let Operation::Write { data, sync: true, .. } = &operation {
                synced.push(data.len());
            }
            waiting.push((ticket, operation));
        }
        assert_eq!(bench.events.len(), told, "nothing is told of before it is durable");
        for (ticket, operation) in waiting {
            let result = bench.disk.carry_out(&operation, usize::MAX);
            bench.storage.complete(Completion { ticket, result }, &mut bench.events);
        }
    }
    assert_eq!(synced, [8 + 4, 8 + 4, 8 + 5, 16], "three pieces, and the end");
    let before = bench.storage.counters().syncs;
    bench.storage.snapshot(G1, work(7, &[]).remove(0), &mut bench.events);
    let piece = SnapshotOutput::Write { offset: 0, bytes: Bytes::from_static(b"on its way") };
    bench.storage.snapshot(G1, piece, &mut bench.events);
    bench.persist(G1, 1, append(1..=3, 1));
    bench.flush();
    let mut aside = 0;
    while let Some((ticket, operation)) = bench.disk.next() {
        if operation.is_aside() {
            aside += 1;
            continue;
        }
        let result = bench.disk.carry_out(&operation, usize::MAX);
        bench.storage.complete(Completion { ticket, result }, &mut bench.events);
    }
    assert_eq!((bench.durable(G1), bench.storage.counters().syncs), (1, before + 1));
    assert!(aside > 1, "the snapshot's operations did not even begin");
}

/// A snapshot leaves the disk to the log: its pieces are told of no faster than the pace allows.
#[test]
fn snapshots_are_paced() {
    let options = StorageOptions { snapshot_bytes_per_second: 4_000, ..LARGE };
    let mut bench = Bench::new(options);
    let piece = Bytes::from(vec![7; 1_000]);
    bench.storage.snapshot(G1, SnapshotOutput::Begin { meta: meta(4) }, &mut bench.events);
    let mut told_at = Vec::new();
    let mut now = Time::ZERO;
    for i in 0..4 {
        let write = SnapshotOutput::Write { offset: i * 1_000, bytes: piece.clone() };
        bench.storage.snapshot(G1, write, &mut bench.events);
        bench.settle();
        if bench.events.is_empty() {
            now = bench.storage.deadline().expect("a piece is to be told of");
            bench.flush_at(now);
        }
        assert_eq!(bench.events.drain(..).count(), 1);
        told_at.push(now.since(Time::ZERO).as_millis());
    }
    assert_eq!(told_at, [0, 250, 500, 750]);
}

/// ZK-19: a finished file reads back by itself, as a backup; whatever byte is wrong or missing, it is refused.
#[test]
fn a_file_that_left_its_directory_is_checked_whole() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=4, 1));
    take(&mut bench, 4, &["one ", "two"]);
    let whole = Bytes::from(bench.disk.found()[&finished_name(G1, id(4, 1))].clone());
    let file = SnapshotFile::read(&whole).expect("it is whole");
    assert_eq!((file.group, file.meta, &file.content[..]), (G1, meta(4), &b"one two"[..]));
    let (group, meta, content) = in_pieces(&whole).expect("it is whole");
    assert_eq!((group, meta, &content[..]), (G1, self::meta(4), &b"one two"[..]));
    for at in 0..whole.len() {
        assert!(SnapshotFile::read(&whole.slice(..at)).is_err(), "cut at {at}");
        assert!(in_pieces(&whole[..at]).is_err(), "cut at {at}, in pieces");
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x40;
        assert!(in_pieces(&bytes).is_err(), "byte {at} flipped, in pieces");
        assert!(SnapshotFile::read(&bytes.into()).is_err(), "byte {at} flipped");
    }
    let longer = [&whole[..], b"more"].concat();
    assert!(SnapshotFile::read(&longer.into()).is_err(), "something follows its end");
}

/// A file as one reads it who has not the memory for all of it.
fn in_pieces(mut file: &[u8]) -> io::Result<(GroupId, SnapshotMeta, Vec<u8>)> {
    let (group, meta, mut reader) = SnapshotContent::open(&mut file)?;
    let mut content = Vec::new();
    reader.read_to_end(&mut content)?;
    Ok((group, meta, content))
}
