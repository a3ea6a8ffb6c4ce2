//! Three servers on the real storage, whose disks fill up: writes are refused or go to where there is room, reads and
//! elections go on, and with room everything comes back by itself (RAFT-1, RAFT-15).

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::{NodeId, Random, Room};
use quorate_raft::Limits;
use quorate_scenarios::ledger::{Ask, Clerk, Ledger, Told};
use quorate_sim::{DiskOptions, World, WorldOptions};
use quorate_storage::StorageOptions;

fn cluster(seed: u64) -> World<Clerk> {
    let limits = Limits { snapshot_log_bytes: 20_000, trailing_entries: 10, ..Limits::default() };
    let storage = StorageOptions {
        segment_bytes: 6 << 10,
        reserve_bytes: 3 << 10,
        ..DiskOptions::default().storage
    };
    let disk = Some(DiskOptions { storage, ..DiskOptions::default() });
    let options = WorldOptions { disk, limits, ..WorldOptions::default() };
    let mut world =
        World::new(seed, options, |node, seed| (Ledger::default(), Clerk::new(node, seed)));
    run(&mut world, 3_000);
    world
}

fn run(world: &mut World<Clerk>, millis: u64) {
    world.run_for(Duration::from_millis(millis)).expect("no property is violated");
}

fn fill(world: &World<Clerk>, id: NodeId) {
    let disk = world.disk(id).expect("it has a disk");
    disk.set_capacity(disk.used_bytes());
}

fn empty(world: &World<Clerk>, id: NodeId) {
    world.disk(id).expect("it has a disk").set_capacity(u64::MAX);
}

fn room(world: &World<Clerk>, id: NodeId) -> Room {
    world.replica(id).map_or(Room::Enough, |replica| replica.raft().room())
}

fn ask(world: &mut World<Clerk>, id: NodeId, ask: Ask) -> Vec<Told> {
    world.request(id, ask).expect("no property is violated");
    run(world, 50);
    world.take_replies().into_iter().map(|(_, told)| told).collect()
}

/// Writes until this holds; the values that were acknowledged.
fn write_until(
    world: &mut World<Clerk>,
    values: &mut u64,
    done: impl Fn(&World<Clerk>, &[Told]) -> bool,
) {
    for _ in 0..2_000 {
        let at = world.leader().unwrap_or(NodeId(1));
        *values += 1;
        let told = ask(world, at, Ask::Write(*values));
        if done(world, &told) {
            return;
        }
    }
    panic!("it never came to that");
}

fn refused(told: &[Told]) -> bool {
    told.iter().any(|told| matches!(told, Told::WriteRefused { .. }))
}

/// RAFT-7: the leader's disk alone is full. It hands over to one that has room, and nothing is refused.
#[test]
fn a_leader_with_a_full_disk_hands_over_to_one_with_room() {
    let mut world = cluster(1);
    let full = world.leader().expect("somebody leads");
    fill(&world, full);
    let mut values = 0;
    write_until(&mut world, &mut values, |world, told| {
        assert!(!refused(told), "others have room");
        world.leader().is_some_and(|leader| leader != full) && room(world, full) < Room::Enough
    });
    for _ in 0..100 {
        values += 1;
        let at = world.leader().expect("somebody leads");
        assert!(!refused(&ask(&mut world, at, Ask::Write(values))));
    }
    assert_ne!(world.leader(), Some(full));
    assert_eq!(room(&world, full), Room::Reserve, "it follows as far as it can");
    empty(&world, full);
    run(&mut world, 20_000);
    assert!(world.up().all(|replica| replica.machine().values().len() as u64 == values));
}

/// RAFT-21: all disks are full. Writes are refused, at the leader and elsewhere; reads are answered, also after the leader died
/// and another one was elected; with room on a majority, writes go on.
#[test]
fn with_all_disks_full_writes_are_refused_and_reads_go_on() {
    let mut world = cluster(2);
    world.ids().into_iter().for_each(|id| fill(&world, id));
    let mut values = 0;
    write_until(&mut world, &mut values, |_, told| refused(told));
    let old = world.leader().expect("somebody leads");
    run(&mut world, 1_000);
    let follower = world.ids().into_iter().find(|id| *id != old).expect("there are others");
    values += 1;
    ask(&mut world, follower, Ask::Write(values));
    values += 1;
    assert!(
        refused(&ask(&mut world, follower, Ask::Write(values))),
        "not in the first answer only"
    );
    world.crash(old, true);
    run(&mut world, 6_000);
    let new = world.leader().expect("votes are written to full disks");
    let told = ask(&mut world, new, Ask::Read(1));
    assert!(matches!(told[..], [Told::Read { read: 1, .. }]), "{told:?}");
    values += 1;
    assert!(refused(&ask(&mut world, new, Ask::Write(values))));
    world.restart(old);
    run(&mut world, 3_000);
    world.ids().into_iter().for_each(|id| empty(&world, id));
    run(&mut world, 10_000);
    values += 1;
    let told = ask(&mut world, new, Ask::Write(values));
    assert!(told.iter().any(|told| matches!(told, Told::Written { .. })), "{told:?}");
}

/// Disks fill up and are emptied, servers die and come back: what was acknowledged is there, what was refused is not, and
/// in the end everybody agrees.
#[test]
fn storms_of_full_disks_lose_nothing() {
    let (mut refusals, mut writes) = (0, 0);
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let mut world = cluster(seed);
        let (mut next, mut acknowledged, mut turned_away) = (1, BTreeSet::new(), BTreeSet::new());
        for _ in 0..600 {
            let id = NodeId(random.between(1, 3));
            match random.below(60) {
                0 if world.up().count() > 1 => world.crash(id, random.chance_ppm(500_000)),
                1 | 2 => world.restart(id),
                3..=8 => world.ids().into_iter().for_each(|id| fill(&world, id)),
                9 => empty(&world, id),
                _ => {
                    world.request(id, Ask::Write(next)).expect("no property is violated");
                    next += 1;
                }
            }
            run(&mut world, random.between(1, 100));
            for (_, told) in world.take_replies() {
                match told {
                    Told::Written { value, .. } => drop(acknowledged.insert(value)),
                    Told::WriteRefused { value } => drop(turned_away.insert(value)),
                    Told::Read { .. } | Told::ReadRefused { .. } => {}
                }
            }
        }
        world.ids().into_iter().for_each(|id| empty(&world, id));
        world.ids().into_iter().for_each(|id| world.restart(id));
        run(&mut world, 60_000);
        let values = |id| world.replica(NodeId(id)).map(|r| r.machine().values().to_vec());
        let found = values(1).expect("it is up");
        assert!((2..=3).all(|id| values(id).as_ref() == Some(&found)), "seed {seed}");
        let known: BTreeSet<u64> = found.iter().copied().collect();
        assert!(acknowledged.is_subset(&known), "seed {seed}: what was acknowledged is gone");
        assert!(turned_away.is_disjoint(&known), "seed {seed}: what was refused happened");
        (refusals, writes) = (refusals + turned_away.len(), writes + acknowledged.len());
    }
    assert!(refusals > 300 && writes > 300, "{refusals} refused, {writes} written");
}
