//! Three servers on the real storage and simulated disks: what one of them loses to its disk comes back from the others, and
//! until then it promises nothing that it cannot keep (RAFT-15, RAFT-16; FAST '18).

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::{NodeId, Random};
use quorate_raft::Limits;
use quorate_scenarios::ledger::{Ask, Clerk, Ledger, Told};
use quorate_sim::{DiskOptions, SimDisk, World, WorldOptions};
use quorate_storage::Disk;

/// Values that are found in a file by their bytes.
const FIRST_VALUE: u64 = 0xfeed_beef_cafe_0000;
const VALUES: u64 = 20;

fn cluster(seed: u64, limits: Limits) -> World<Clerk> {
    let disk = Some(DiskOptions::default());
    let options = WorldOptions { disk, limits, ..WorldOptions::default() };
    World::new(seed, options, |node, seed| (Ledger::default(), Clerk::new(node, seed)))
}

/// Three servers that hold some values, durably, and have been idle for a while. Who leads, and the others.
fn with_values() -> (World<Clerk>, NodeId, [NodeId; 2]) {
    let mut world = cluster(7, Limits::default());
    run(&mut world, 3_000);
    let leader = world.leader().expect("somebody was elected");
    for value in FIRST_VALUE..FIRST_VALUE + VALUES {
        world.request(leader, Ask::Write(value)).expect("no property is violated");
        run(&mut world, 50);
    }
    run(&mut world, 1_000);
    let others: Vec<NodeId> = world.ids().into_iter().filter(|id| *id != leader).collect();
    (world, leader, [others[0], others[1]])
}

fn run(world: &mut World<Clerk>, millis: u64) {
    world.run_for(Duration::from_millis(millis)).expect("no property is violated");
}

/// The values that clients were told of since the last time.
fn written(world: &mut World<Clerk>) -> impl Iterator<Item = u64> + use<> {
    world.take_replies().into_iter().filter_map(|(_, told)| match told {
        Told::Written { value, .. } => Some(value),
        Told::WriteRefused { .. } | Told::Read { .. } | Told::ReadRefused { .. } => None,
    })
}

fn is_whole(world: &World<Clerk>, id: NodeId) -> bool {
    world.replica(id).is_some_and(|replica| replica.raft().is_whole())
}

fn values(world: &World<Clerk>, id: NodeId) -> Vec<u64> {
    world.replica(id).map_or(Vec::new(), |replica| replica.machine().values().to_vec())
}

/// Where a value was written to in a server's log.
fn place(disk: &SimDisk, value: u64) -> (String, u64) {
    for file in disk.list().expect("it lists") {
        let bytes = disk.read_at(&file.name, 0, file.bytes as usize).expect("it reads");
        let found = bytes.windows(8).position(|window| window == value.to_be_bytes());
        if let (Some(at), true) = (found, file.name.ends_with(".log")) {
            return (file.name, at as u64);
        }
    }
    panic!("{value:x} is nowhere in the log")
}

/// A bit of the value's bytes rots.
fn rot_data(world: &World<Clerk>, id: NodeId, value: u64) {
    let disk = world.disk(id).expect("it has a disk");
    let (file, byte) = place(disk, value);
    assert!(disk.rot(&file, byte + 3, 4));
}

/// A bit of the header of the value's batch rots.
fn rot_header(world: &World<Clerk>, id: NodeId, value: u64) {
    let disk = world.disk(id).expect("it has a disk");
    let (file, byte) = place(disk, value);
    let begins = |at: &u64| disk.read_at(&file, *at, 4).is_ok_and(|magic| magic == b"QBCH");
    let mut heads = (0..=byte / 64).rev().map(|block| block * 64);
    let head = heads.find(begins).expect("the value is in a batch");
    assert!(disk.rot(&file, head + 9, 1));
}

/// Until it has got back what it lost, it does not lead.
fn run_until_whole(world: &mut World<Clerk>, id: NodeId) {
    for _ in 0..1_000 {
        let whole = is_whole(world, id);
        assert!(whole || world.leader() != Some(id), "{id} leads without its entries");
        if whole {
            return;
        }
        run(world, 10);
    }
    panic!("{id} does not get its entries back");
}

fn assert_all_agree(world: &mut World<Clerk>) {
    run(world, 3_000);
    let written: Vec<u64> = (FIRST_VALUE..FIRST_VALUE + VALUES).collect();
    for id in world.ids() {
        assert_eq!(values(world, id), written, "{id}");
    }
}

/// A committed entry of a follower rots while it is down. The leader, which saw it leave or not, sends it again; the log is
/// whole from then on, also after another restart.
#[test]
fn a_rotten_committed_entry_comes_back_from_the_leader() {
    for noticed in [true, false] {
        let (mut world, _, [rotten, _]) = with_values();
        world.crash(rotten, noticed);
        rot_data(&world, rotten, FIRST_VALUE + 4);
        rot_data(&world, rotten, FIRST_VALUE + 11);
        world.restart(rotten);
        assert!(!is_whole(&world, rotten), "it knows what it lost");
        run_until_whole(&mut world, rotten);
        assert_all_agree(&mut world);
        world.crash(rotten, true);
        world.restart(rotten);
        assert!(is_whole(&world, rotten), "what came back was written durably");
        assert_all_agree(&mut world);
    }
}

/// It votes by the ids of its entries: with the old leader gone, it elects the other one, and never leads itself.
#[test]
fn a_server_with_a_rotten_entry_votes_but_does_not_lead() {
    let (mut world, leader, [rotten, other]) = with_values();
    world.crash(rotten, true);
    rot_data(&world, rotten, FIRST_VALUE + 4);
    world.crash(leader, true);
    world.restart(rotten);
    run_until_whole(&mut world, rotten);
    assert_eq!(world.leader(), Some(other));
    world.restart(leader);
    assert_all_agree(&mut world);
}

/// With their headers, entries are gone that it acknowledged. It gives no vote, so that with the leader gone nobody is
/// elected, rather than somebody without a committed entry; and it is healed by whoever leads again.
#[test]
fn a_server_that_lost_headers_gives_no_vote_until_a_leader_confirms_its_log() {
    let (mut world, leader, [rotten, other]) = with_values();
    world.crash(rotten, true);
    rot_header(&world, rotten, FIRST_VALUE + 4);
    world.crash(leader, true);
    world.restart(rotten);
    for _ in 0..500 {
        run(&mut world, 10);
        assert!(world.leader().is_none(), "{rotten} or {other} was elected without a majority");
        assert!(!is_whole(&world, rotten));
    }
    world.restart(leader);
    run_until_whole(&mut world, rotten);
    assert_all_agree(&mut world);
    world.crash(rotten, true);
    world.restart(rotten);
    assert!(is_whole(&world, rotten), "that its log was confirmed was written durably");
    assert_all_agree(&mut world);
}

/// No majority has everything: nobody leads and nothing is lost, until one comes back that does.
#[test]
fn without_a_whole_majority_nobody_leads_and_nothing_is_lost() {
    let (mut world, leader, [one, two]) = with_values();
    world.ids().into_iter().for_each(|id| world.crash(id, true));
    for id in [one, two] {
        rot_data(&world, id, FIRST_VALUE + 4);
        world.restart(id);
    }
    for _ in 0..300 {
        run(&mut world, 10);
        assert_eq!(world.leader(), None);
    }
    world.restart(leader);
    run_until_whole(&mut world, one);
    run_until_whole(&mut world, two);
    assert_all_agree(&mut world);
}

/// What nobody can give back is refused: a server without one of its segments does not start, the others go on.
#[test]
fn a_server_without_a_segment_refuses_to_start() {
    let (mut world, leader, [broken, _]) = with_values();
    world.crash(broken, true);
    let disk = world.disk(broken).expect("it has a disk");
    let (file, _) = place(disk, FIRST_VALUE + 4);
    disk.lose_file(&file);
    world.restart(broken);
    assert!(!world.is_up(broken));
    let why = world.refusal(broken).expect("it says why");
    assert_eq!(why, format!("segment {file} is missing, though it was written"));
    run(&mut world, 2_000);
    assert_eq!(world.leader(), Some(leader));
}

/// A server whose log begins with a snapshot, and the snapshot's file.
fn with_a_snapshot() -> (World<Clerk>, NodeId, NodeId, String) {
    let limits = Limits { snapshot_log_bytes: 500, trailing_entries: 2, ..Limits::default() };
    let mut world = cluster(7, limits);
    run(&mut world, 3_000);
    let leader = world.leader().expect("somebody was elected");
    for value in FIRST_VALUE..FIRST_VALUE + VALUES {
        world.request(leader, Ask::Write(value)).expect("no property is violated");
        run(&mut world, 50);
    }
    run(&mut world, 1_000);
    let rotten = world.ids().into_iter().find(|id| *id != leader).expect("there are others");
    let files = world.disk(rotten).expect("it has a disk").list().expect("it lists");
    let file = files.into_iter().find(|file| file.name.ends_with(".snap")).expect("one is due");
    (world, leader, rotten, file.name)
}

/// RAFT-16, RAFT-20: a follower's snapshot rots, in its header or in its content. It starts without it, gives no vote, shows
/// nobody what it does not have, and gets the state from its leader.
#[test]
fn a_rotten_snapshot_comes_back_from_the_leader() {
    for byte in [20, 150] {
        let (mut world, leader, rotten, file) = with_a_snapshot();
        world.crash(rotten, true);
        assert!(world.disk(rotten).expect("it has a disk").rot(&file, byte, 3));
        world.restart(rotten);
        assert!(!is_whole(&world, rotten) && values(&world, rotten).is_empty());
        // Without the leader there is no majority that may vote.
        world.crash(leader, true);
        for _ in 0..300 {
            run(&mut world, 10);
            assert_eq!(
                world.leader(),
                None,
                "byte {byte}: somebody was elected by a server without its state"
            );
        }
        world.restart(leader);
        run_until_whole(&mut world, rotten);
        assert_all_agree(&mut world);
        world.crash(rotten, true);
        world.restart(rotten);
        assert!(is_whole(&world, rotten), "what came back was written durably");
        assert_all_agree(&mut world);
    }
}

/// RAFT-16, RAFT-20: the file is gone altogether: as if it were damaged.
#[test]
fn a_lost_snapshot_comes_back_from_the_leader() {
    let (mut world, leader, without, file) = with_a_snapshot();
    world.crash(without, true);
    world.disk(without).expect("it has a disk").lose_file(&file);
    world.restart(without);
    assert!(!is_whole(&world, without) && values(&world, without).is_empty());
    world.crash(leader, true);
    run(&mut world, 3_000);
    assert_eq!(world.leader(), None, "somebody was elected by a server without its state");
    world.restart(leader);
    run_until_whole(&mut world, without);
    assert_all_agree(&mut world);
    world.crash(without, true);
    world.restart(without);
    assert!(is_whole(&world, without), "what came back was written durably");
    assert_all_agree(&mut world);
}

/// Alone, there is nobody to get it from: it refuses to start, and names the file.
#[test]
fn a_server_alone_refuses_a_rotten_snapshot() {
    let mut disk = DiskOptions::default();
    disk.storage.alone = true;
    let limits = Limits { snapshot_log_bytes: 500, trailing_entries: 2, ..Limits::default() };
    let options = WorldOptions { nodes: 1, disk: Some(disk), limits, ..WorldOptions::default() };
    let mut world: World<Clerk> =
        World::new(1, options, |node, seed| (Ledger::default(), Clerk::new(node, seed)));
    run(&mut world, 3_000);
    for value in FIRST_VALUE..FIRST_VALUE + VALUES {
        world.request(NodeId(1), Ask::Write(value)).expect("no property is violated");
        run(&mut world, 50);
    }
    world.crash(NodeId(1), true);
    let disk = world.disk(NodeId(1)).expect("it has a disk");
    let files = disk.list().expect("it lists");
    // An older one, whose removal the crash undid, may be there as well.
    let finished = files.into_iter().filter(|file| file.name.ends_with(".snap"));
    let newest = finished.max_by_key(|file| (file.name.len(), file.name.clone()));
    let file = newest.expect("one is due");
    assert!(disk.rot(&file.name, file.bytes - 40, 1));
    world.restart(NodeId(1));
    let why = world.refusal(NodeId(1)).expect("it says why");
    assert!(why.starts_with(&file.name) && why.contains("no other member"), "{why}");
}

/// Servers die and come back on disks that forget, reorder and tear: every value that a client was told of is there in
/// the end, everywhere.
#[test]
fn storms_on_real_storage_lose_nothing() {
    let limits = Limits { snapshot_log_bytes: 2_000, trailing_entries: 10, ..Limits::default() };
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let mut world = cluster(seed, limits);
        let (mut next, mut acknowledged) = (FIRST_VALUE, BTreeSet::new());
        for _ in 0..150 {
            let id = NodeId(random.between(1, 3));
            match random.below(8) {
                0 if world.up().count() > 1 => world.crash(id, random.chance_ppm(500_000)),
                1 | 2 => world.restart(id),
                _ => {
                    world.request(id, Ask::Write(next)).expect("no property is violated");
                    next += 1;
                }
            }
            run(&mut world, random.between(1, 120));
            acknowledged.extend(written(&mut world));
        }
        world.ids().into_iter().for_each(|id| world.restart(id));
        run(&mut world, 20_000);
        acknowledged.extend(written(&mut world));
        let found = values(&world, NodeId(1));
        assert!(!acknowledged.is_empty() && acknowledged.iter().all(|value| found.contains(value)));
        assert!((2..=3).all(|id| values(&world, NodeId(id)) == found), "seed {seed}");
    }
}
