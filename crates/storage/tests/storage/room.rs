//! A full disk: what is left is kept for what a node needs to go on, and everything comes back by itself.

use std::io;
use std::time::Duration;

use crate::support::{Bench, G1, G2, LARGE, append, id, snapshot, vote};
use quorate_contracts::{Record, Room, Term, Time};
use quorate_storage::{Completion, Operation, StorageEvent, StorageOptions};

/// Segments of a few records, and a reserve of some more votes.
const KEPT: StorageOptions =
    StorageOptions { segment_bytes: 8 << 10, reserve_bytes: 4 << 10, ..LARGE };

/// Carries out everything; files of this size or more cannot be made.
fn settle(bench: &mut Bench, full_from: u64) {
    while let Some((ticket, operation)) = bench.disk.next() {
        let result = match &operation {
            Operation::Create { name, bytes } if *bytes >= full_from => {
                bench.disk.files.borrow_mut().remove(name);
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => bench.disk.carry_out(&operation, usize::MAX),
        };
        bench.storage.complete(Completion { ticket, result }, &mut bench.events);
    }
}

fn write(bench: &mut Bench, mark: u64, record: Record, full_from: u64) {
    bench.persist(G1, mark, record);
    bench.flush();
    settle(bench, full_from);
}

/// What room was told of, in order.
fn told(bench: &Bench) -> Vec<Room> {
    let room = |event: &StorageEvent| match event {
        StorageEvent::Room { room, .. } => Some(*room),
        _ => None,
    };
    let mut told: Vec<Room> = bench.events.iter().filter_map(room).collect();
    told.dedup();
    told
}

fn files(bench: &Bench, end: &str) -> usize {
    bench.disk.found().keys().filter(|name| name.ends_with(end)).count()
}

/// RAFT-15: nothing is made ready any more: first new writes are to stop, then entries altogether, and votes go on into the
/// reserve. With space, the next segment and the reserve are there again.
#[test]
fn a_full_disk_is_told_of_in_time_and_leaves_room_for_votes() {
    let mut bench = Bench::new(KEPT);
    settle(&mut bench, u64::MAX);
    assert_eq!(files(&bench, "reserve"), 1);
    let mut mark = 0;
    // The segment that is ready is begun, and there is none after it.
    while told(&bench).last() != Some(&Room::Reserve) {
        mark += 1;
        assert!(mark < 1_000, "it never ends");
        write(&mut bench, mark, append(mark..=mark, 1), 1);
        assert_eq!(bench.durable(G1), mark, "what it took is durable");
    }
    assert_eq!(told(&bench), [Room::Enough, Room::Little, Room::Reserve]);
    for term in 2..10 {
        mark += 1;
        write(&mut bench, mark, vote(term, 1), 1);
        assert_eq!(bench.durable(G1), mark, "term {term}");
    }
    assert!(!bench.storage.has_failed());
    bench.events.clear();
    let retry_at = bench.storage.deadline().expect("it looks for room again");
    bench.flush_at(retry_at);
    settle(&mut bench, u64::MAX);
    bench.flush_at(retry_at + Duration::from_secs(10));
    settle(&mut bench, u64::MAX);
    assert_eq!(told(&bench), [Room::Enough]);
    assert_eq!(files(&bench, "reserve"), 1);
    let (_, groups) = bench.reopen(KEPT).expect("it opens");
    assert_eq!(groups[&G1].hard_state.term, Term(9));
}

/// RAFT-15: a node that starts on a full disk, where not even a vote would fit, writes into its reserve.
#[test]
fn a_node_that_starts_on_a_full_disk_can_vote() {
    let mut bench = Bench::new(KEPT);
    settle(&mut bench, u64::MAX);
    write(&mut bench, 1, append(1..=3, 1), u64::MAX);
    let mut files = bench.disk.found();
    files.retain(|name, _| !name.ends_with(".prepared"));
    let (mut next, _) = Bench::open(files, KEPT).expect("it opens");
    settle(&mut next, 1);
    assert_eq!(told(&next), [Room::Little], "a leader's first entry fits as well");
    write(&mut next, 2, vote(5, 3), 1);
    assert_eq!(next.durable(G1), 2);
    let (_, groups) = next.reopen(KEPT).expect("it opens again");
    assert_eq!(groups[&G1].hard_state, vote(5, 3).hard_state.expect("it has one"));
    assert_eq!(groups[&G1].last, id(3, 1));
}

/// RAFT-18: a snapshot makes whole segments needless while there is no room for the next one: the log moves on to the
/// reserve, whose header lets them go, and there is room again.
#[test]
fn a_snapshot_on_a_full_disk_lets_old_segments_go() {
    let mut bench = Bench::new(KEPT);
    settle(&mut bench, u64::MAX);
    let mut mark = 0;
    while files(&bench, ".log") < 4 {
        mark += 1;
        write(&mut bench, mark, append(mark..=mark, 1), u64::MAX);
    }
    settle(&mut bench, u64::MAX);
    bench.disk.files.borrow_mut().retain(|name, _| !name.ends_with(".prepared"));
    let last = mark;
    let (mut bench, _) = Bench::open(bench.disk.found(), KEPT).expect("it opens");
    settle(&mut bench, 8 << 10);
    snapshot(&mut bench, G1, id(last, 1), &["state"]);
    write(&mut bench, mark + 1, Record { base: Some(id(last, 1)), ..Record::default() }, 8 << 10);
    assert_eq!(files(&bench, ".log"), 1, "{:?}", bench.disk.found().keys());
    bench.events.clear();
    bench.flush_at(Time::ZERO + Duration::from_secs(20));
    settle(&mut bench, u64::MAX);
    bench.flush_at(Time::ZERO + Duration::from_secs(40));
    settle(&mut bench, u64::MAX);
    assert_eq!(told(&bench), [Room::Enough]);
    assert_eq!(files(&bench, "reserve"), 1);
    let (_, groups) = bench.reopen(KEPT).expect("it opens");
    assert_eq!((groups[&G1].base, groups[&G1].last), (id(last, 1), id(last, 1)));
    bench.persist(G2, 1, vote(1, 1));
}

/// A disk counts as full before it is: so much is to be left free.
#[test]
fn no_segment_is_made_that_would_leave_too_little_free() {
    let options = StorageOptions { free_bytes_min: 100 << 10, ..KEPT };
    let mut bench = Bench::new(options);
    settle(&mut bench, u64::MAX);
    bench.disk.free.set(107 << 10);
    let mut mark = 0;
    while files(&bench, ".prepared") == 1 {
        mark += 1;
        write(&mut bench, mark, append(mark..=mark, 1), u64::MAX);
    }
    let lack = "109568 bytes are free, 8192 are needed and 102400 are to be left";
    let said = |event: &StorageEvent| matches!(event, StorageEvent::Room { room: Room::Enough, lack: Some(what) } if what == lack);
    assert!(bench.events.iter().any(said), "{:?}", bench.events);
    bench.disk.free.set(108 << 10);
    bench.flush_at(Time::ZERO + Duration::from_secs(1));
    settle(&mut bench, u64::MAX);
    assert_eq!(files(&bench, ".prepared"), 1);
}

/// A log that waits for room asks for no wake-up that it could not use: the node would spin.
#[test]
fn what_waits_for_room_waits_quietly() {
    let options = StorageOptions { reserve_bytes: 0, ..KEPT };
    let mut bench = Bench::new(options);
    settle(&mut bench, u64::MAX);
    let (mut mark, mut now) = (0, Time::ZERO);
    while bench.durable(G1) == mark {
        mark += 1;
        write(&mut bench, mark, append(mark..=mark, 1), 1);
    }
    for _ in 0..20 {
        now += Duration::from_secs(1);
        bench.flush_at(now);
        settle(&mut bench, 1);
        assert!(
            bench.storage.deadline().is_some_and(|at| at > now),
            "{:?}",
            bench.storage.deadline()
        );
    }
}
