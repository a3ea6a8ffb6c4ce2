//! The log survives what disks and crashes do to it.

use std::io;
use std::time::Duration;

use crate::support::{Bench, G1, G2, LARGE, SMALL, append, id, replace, shape, snapshot, vote};
use quorate_contracts::{LogIndex, Random, Record, Term, Time, WriteMark};
use quorate_storage::{Completion, OpenError, Operation, StorageEvent};

/// RAFT-15, RAFT-23, ZK-10: what is queued when a write begins shares its sync, whoever queued it; what comes
/// meanwhile shares the next.
#[test]
fn a_hundred_records_of_two_groups_share_one_sync() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, vote(1, 1));
    let before = bench.storage.counters().syncs;
    for mark in 2..=50 {
        bench.persist(G1, mark, append(mark - 1..=mark - 1, 1));
        bench.persist(G2, mark, append(mark - 1..=mark - 1, 1));
    }
    bench.flush();
    bench.persist(G1, 51, append(50..=50, 1));
    bench.flush();
    bench.persist(G2, 51, append(50..=50, 1));
    bench.flush();
    assert_eq!(bench.durable(G1), 1, "nothing is vouched for before the disk has it");
    bench.settle();
    assert_eq!((bench.durable(G1), bench.durable(G2)), (51, 51));
    let after = bench.storage.counters();
    assert_eq!((after.syncs - before, after.entries), (2, 100));
}

/// RAFT-15: a restart finds term, vote and log as they were vouched for.
#[test]
fn what_was_written_is_found_again() {
    let mut bench = Bench::new(SMALL);
    bench.write(G1, 1, vote(1, 2));
    bench.write(G1, 2, append(1..=5, 1));
    bench.write(G1, 3, Record { hard_state: vote(3, 1).hard_state, ..replace(4..=6, 3) });
    bench.write(G2, 1, vote(7, 3));
    let (_, groups) = bench.reopen(SMALL).expect("it opens");
    assert_eq!(shape(&groups[&G1]), "1@1 2@1 3@1 4@3 5@3 6@3");
    assert_eq!(groups[&G1].term_starts, [id(1, 1), id(4, 3)]);
    assert_eq!((groups[&G1].hard_state.term, groups[&G1].mark), (Term(3), WriteMark(3)));
    assert_eq!((groups[&G2].hard_state.term, groups[&G2].last), (Term(7), id(0, 0)));
}

/// RAFT-16: whatever part of the last write made it to the disk, a restart finds everything before it, and
/// the last record whole or not at all; and the log goes on from there.
#[test]
fn a_tail_torn_at_any_byte_is_left_out() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=3, 1));
    bench.persist(G1, 2, append(4..=6, 1));
    bench.flush();
    let Some((_, last_write)) = bench.disk.next() else { panic!("a write was submitted") };
    let Operation::Write { data, .. } = &last_write else { panic!("{last_write:?}") };
    let before = bench.disk.found();
    // Its padding is zeros, as is what it is written to.
    let whole = data.iter().rposition(|byte| *byte != 0).expect("it says something") + 1;
    for cut in 0..=whole {
        let torn = Bench::open(before.clone(), LARGE).expect("it opened before").0;
        torn.disk.carry_out(&last_write, cut).expect("memory takes it");
        let (mut next, groups) = torn.reopen(LARGE).expect("a torn tail is no damage");
        let found = shape(&groups[&G1]);
        let expected = if cut == whole { "1@1 2@1 3@1 4@1 5@1 6@1" } else { "1@1 2@1 3@1" };
        assert_eq!(found, expected, "cut at {cut} of {whole}");
        // What the crash left behind never comes back, however often the node starts.
        next.settle();
        next.write(G1, 10, replace(4..=4, 2));
        let (_, groups) = next.reopen(LARGE).expect("it opens again");
        assert_eq!(shape(&groups[&G1]), "1@1 2@1 3@1 4@2", "cut at {cut}");
    }
}

/// RAFT-16: damage to what was acknowledged is refused, with the file's name; never dropped in silence. In the
/// last batch it may be taken for a tear, but not once the log was idle for a while.
#[test]
fn every_flipped_bit_of_an_idle_log_is_refused() {
    let mut bench = Bench::new(LARGE);
    bench.write(G1, 1, append(1..=2, 1));
    bench.write(G1, 2, append(3..=3, 1));
    let unmarked = used(&bench);
    bench.flush_at(Time::ZERO + LARGE.idle);
    bench.settle();
    assert!(used(&bench) > unmarked, "a mark was written");
    let good = bench.disk.found();
    for bit in 0..unmarked * 8 {
        let mut bad = good.clone();
        bad.get_mut("000001.log").expect("it is there")[bit / 8] ^= 1 << (bit % 8);
        match Bench::open(bad, LARGE) {
            Err(OpenError::Damaged { file, .. } | OpenError::BadSegment { file, .. }) => {
                assert_eq!(file, "000001.log");
            }
            Err(other) => panic!("bit {bit}: {other}"),
            Ok((_, groups)) => assert!(!groups[&G1].is_whole(), "bit {bit} was not noticed"),
        }
    }
}

/// How much of the first segment was written to.
fn used(bench: &Bench) -> usize {
    let log = &bench.disk.found()["000001.log"];
    log.iter().rposition(|byte| *byte != 0).expect("it was written to").next_multiple_of(64)
}

/// RAFT-16: a segment that is gone is noticed, the newest one as well.
#[test]
fn a_missing_segment_is_refused() {
    let mut bench = Bench::new(SMALL);
    (1..=12).for_each(|i| bench.write(G1, i, append(4 * i - 3..=4 * i, 1)));
    let files = bench.disk.found();
    let segments: Vec<&String> = files.keys().filter(|name| name.ends_with(".log")).collect();
    assert!(segments.len() > 3, "{segments:?}");
    for name in segments {
        let mut files = files.clone();
        files.remove(name);
        let Err(error) = Bench::open(files, SMALL) else { panic!("it opened without {name}") };
        assert_eq!(error.to_string(), format!("segment {name} is missing, though it was written"));
    }
}

/// RAFT-15: after a failed sync nothing is vouched for any more, and nothing is tried again.
#[test]
fn a_failed_sync_ends_it() {
    let mut bench = Bench::new(LARGE);
    bench.settle();
    bench.persist(G1, 1, vote(1, 2));
    bench.flush();
    bench.settle();
    bench.persist(G1, 2, vote(2, 2));
    bench.flush();
    let (ticket, _) = bench.disk.next().expect("a write was submitted");
    let result = Err(io::Error::other("the device is gone"));
    bench.storage.complete(Completion { ticket, result }, &mut bench.events);
    bench.persist(G1, 3, vote(3, 2));
    bench.flush();
    bench.settle();
    assert_eq!(bench.durable(G1), 1);
    let failed = |event: &StorageEvent| matches!(event, StorageEvent::Failed { reason } if reason.contains("the device is gone"));
    assert_eq!(bench.events.iter().filter(|event| failed(event)).count(), 1);
}

/// A full disk that cannot take the next segment loses nothing. It is asked again, ever more patiently, and
/// writing goes on when there is space.
#[test]
fn no_space_for_the_next_segment_is_waited_out() {
    let mut bench = Bench::new(LARGE);
    bench.persist(G1, 1, vote(1, 2));
    let mut tries = Vec::new();
    for ms in 0..2_000 {
        bench.flush_at(Time::ZERO + Duration::from_millis(ms));
        while let Some((ticket, operation)) = bench.disk.next() {
            assert!(matches!(operation, Operation::Create { .. }), "{operation:?}");
            tries.push(ms);
            let result = Err(io::ErrorKind::StorageFull.into());
            bench.storage.complete(Completion { ticket, result }, &mut bench.events);
        }
    }
    assert_eq!(tries, [0, 100, 300, 700, 1_500]);
    let told = bench
        .events
        .iter()
        .filter(|e| matches!(e, StorageEvent::Room { lack: Some(_), .. }))
        .count();
    assert_eq!((told, bench.durable(G1)), (1, 0));
    let retry_at = bench.storage.deadline().expect("it tries again");
    bench.flush_at(retry_at);
    bench.settle();
    assert_eq!(bench.durable(G1), 1, "the same record, once there is space");
    assert!(
        bench.events.iter().any(|event| matches!(event, StorageEvent::Room { lack: None, .. }))
    );
}

/// RAFT-15: a rename that failed may or may not be on the disk: nothing is tried again.
#[test]
fn a_failed_rename_ends_it() {
    let mut bench = Bench::new(LARGE);
    bench.settle();
    bench.persist(G1, 1, vote(1, 2));
    bench.flush();
    let (ticket, operation) = bench.disk.next().expect("the segment is to be named");
    assert!(matches!(operation, Operation::Rename { .. }), "{operation:?}");
    let result = Err(io::Error::other("the directory is gone"));
    bench.storage.complete(Completion { ticket, result }, &mut bench.events);
    bench.flush();
    bench.settle();
    assert!(bench.storage.has_failed() && bench.durable(G1) == 0);
}

/// Old segments go once their entries are in a snapshot; the newest term and vote of a group that has been
/// idle since the first of them stay.
#[test]
fn removing_segments_keeps_an_idle_groups_vote() {
    let mut bench = Bench::new(SMALL);
    bench.write(G2, 1, vote(7, 3));
    for i in 1..=20 {
        bench.write(G1, i, append(4 * i - 3..=4 * i, 1));
    }
    let logs =
        |bench: &Bench| bench.disk.found().keys().filter(|name| name.ends_with(".log")).count();
    assert!(logs(&bench) > 5, "every few records begin a segment");
    snapshot(&mut bench, G1, id(80, 1), &["state"]);
    bench.write(G1, 21, Record { base: Some(id(80, 1)), ..Record::default() });
    (22..=26).for_each(|mark| bench.write(G1, mark, append(mark + 59..=mark + 59, 1)));
    assert!(logs(&bench) <= 4, "{} are left", logs(&bench));
    let (_, groups) = bench.reopen(SMALL).expect("it opens");
    assert_eq!(groups[&G2].hard_state, vote(7, 3).hard_state.expect("it has one"));
    assert_eq!((groups[&G1].base, groups[&G1].last), (id(80, 1), id(85, 1)));
}

/// Entries that are no longer in memory are read back, as they were last written.
#[test]
fn entries_are_read_back_from_the_disk() {
    let mut bench = Bench::new(SMALL);
    bench.write(G1, 1, append(1..=6, 1));
    bench.write(G1, 2, replace(4..=8, 2));
    for (from, expected) in [(1, "1@1 2@1 3@1"), (4, "4@2 5@2 6@2 7@2 8@2"), (9, "")] {
        bench.events.clear();
        bench.storage.read_log(G1, LogIndex(from), LogIndex(9), 1 << 20, &mut bench.events);
        bench.settle();
        let [StorageEvent::Read { entries, .. }] = &bench.events[..] else {
            panic!("{:?}", bench.events)
        };
        let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
        assert_eq!(ids.join(" "), expected, "from {from}");
    }
}

/// RAFT-16: random writes of three groups, and a crash at a random operation, a write cut at a random byte: a
/// restart finds every record that was vouched for, in a prefix of what was written.
#[test]
fn a_crash_anywhere_loses_nothing_that_was_vouched_for() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new(SMALL);
        let mut last = 0;
        let mut history = vec![String::new()];
        let mut tail: Vec<String> = Vec::new();
        for mark in 1..=random.between(1, 30) {
            let from = if last > 0 && random.chance_ppm(200_000) {
                random.between(1, last + 1)
            } else {
                last + 1
            };
            last = from + random.below(4);
            bench.persist(G1, mark, replace(from..=last, mark));
            bench.persist(G2, mark, vote(mark, 1));
            tail.truncate(from as usize - 1);
            tail.extend((from..=last).map(|index| id(index, mark).to_string()));
            history.push(tail.join(" "));
            bench.flush();
            for _ in 0..random.below(4) {
                if let Some((ticket, operation)) = bench.disk.next() {
                    let result = bench.disk.carry_out(&operation, usize::MAX);
                    bench.storage.complete(Completion { ticket, result }, &mut bench.events);
                }
            }
        }
        if let Some((_, torn)) = bench.disk.next() {
            let bytes = random.below(2_000) as usize;
            let _ = bench.disk.carry_out(&torn, bytes);
        }
        let (_, groups) =
            bench.reopen(SMALL).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = groups.get(&G1).map_or(0, |group| group.mark.0);
        assert!(found >= bench.durable(G1), "seed {seed}: {found} is before {}", bench.durable(G1));
        let shape = groups.get(&G1).map(shape).unwrap_or_default();
        assert_eq!(shape, history[found as usize], "seed {seed}, mark {found}");
    }
}
