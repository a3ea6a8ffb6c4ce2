//! Groups that sleep when they have nothing to do (RAFT-23), in the simulated world: they cost nothing, a dead leader is
//! replaced as fast as ever, and no mishap leaves a group asleep that has something to do.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_contracts::{NodeId, Random, Time};
use quorate_raft::Timing;
use quorate_scenarios::ledger::{Ask, Clerk, Ledger, Told};
use quorate_sim::{NetworkOptions, Passage, World, WorldOptions};

const SLEEPS_AFTER: Duration = Duration::from_millis(500);

fn cluster(seed: u64, nodes: u64, network: NetworkOptions) -> World<Clerk> {
    let timing = Timing { hibernate_after: Some(SLEEPS_AFTER), ..Timing::default() };
    let options = WorldOptions { nodes, network, timing, measure: true, ..WorldOptions::default() };
    World::new(seed, options, |node, seed| (Ledger::default(), Clerk::new(node, seed)))
}

fn run(world: &mut World<Clerk>, duration: Duration) {
    world.run_for(duration).expect("no property is violated");
}

/// Three servers that sleep, and who leads them.
fn asleep(seed: u64) -> (World<Clerk>, NodeId) {
    let mut world = cluster(seed, 3, NetworkOptions::default());
    run(&mut world, Duration::from_secs(5));
    assert!(world.up().all(|replica| replica.raft().is_hibernating()));
    let leader = world.leader().expect("somebody was elected");
    (world, leader)
}

/// How long until another server than `old` leads.
fn time_without_leader(world: &mut World<Clerk>, old: NodeId) -> Duration {
    let since = world.now();
    while world.leader().is_none_or(|leader| leader == old) {
        run(world, Duration::from_millis(1));
        assert!(world.now().since(since) < Duration::from_secs(10), "nobody is elected");
    }
    world.now().since(since)
}

/// RAFT-14, RAFT-23: an hour costs not one message.
#[test]
fn an_idle_group_sends_nothing() {
    let (mut world, _) = asleep(1);
    let count = |world: &World<Clerk>| {
        let names = ["Heartbeat", "AppendEntries", "Accepted", "RequestPreVote", "Hibernate"];
        names.map(|name| world.traffic().sent(name))
    };
    let before = count(&world);
    run(&mut world, Duration::from_secs(3_600));
    assert_eq!(count(&world), before);
}

/// RAFT-3, RAFT-23: the leader of a group that sleeps dies; its connections tell so at once, or if its machine is gone with it,
/// their silence does.
#[test]
fn a_dead_leader_of_a_sleeping_group_is_replaced_within_a_second() {
    let Timing { election_min, .. } = Timing::default();
    for seed in 0..50 {
        let (mut world, leader) = asleep(seed);
        world.crash(leader, true);
        let took = time_without_leader(&mut world, leader);
        assert!(took < Duration::from_millis(500), "seed {seed}: {took:?} after a close");

        let (mut world, leader) = asleep(seed);
        world.crash(leader, false);
        let took = time_without_leader(&mut world, leader);
        assert!(took < 2 * election_min, "seed {seed}: {took:?} after silence");
    }
}

/// RAFT-23: a client of any server wakes its group.
#[test]
fn a_write_and_a_read_wake_a_sleeping_group() {
    for server in 1..=3 {
        let (mut world, _) = asleep(server);
        world.request(NodeId(server), Ask::Write(7)).expect("no property is violated");
        run(&mut world, Duration::from_millis(100));
        world.request(NodeId(server), Ask::Read(1)).expect("no property is violated");
        run(&mut world, Duration::from_millis(100));
        let told = world.take_replies();
        assert!(told.iter().any(|(_, told)| matches!(told, Told::Written { value: 7, .. })));
        assert!(told.iter().any(|(_, told)| matches!(told, Told::Read { .. })), "{told:?}");
        run(&mut world, Duration::from_secs(3));
        assert!(world.up().all(|replica| replica.raft().is_hibernating()), "and it sleeps again");
    }
}

/// RAFT-23, RAFT-25: crashes, stops, cut links and late messages, most of all around the moments in which groups fall asleep:
/// whatever was said is kept, and once nothing fails any more, every write is taken.
#[test]
fn storms_leave_no_group_asleep_that_has_something_to_do() {
    let late = Passage {
        loss_ppm: 20_000,
        duplicate_ppm: 50_000,
        late_ppm: 50_000,
        delay_max: Duration::from_millis(5),
        ..Passage::default()
    };
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let nodes = [3, 3, 5, 4][random.below(4) as usize];
        let mut world = cluster(seed, nodes, NetworkOptions::both(late));
        let (mut next, mut written) = (1, BTreeSet::new());
        for _ in 0..120 {
            let (id, other) = (NodeId(random.between(1, nodes)), NodeId(random.between(1, nodes)));
            match random.below(12) {
                0 => world.crash(id, random.chance_ppm(700_000)),
                1 | 2 => world.restart(id),
                3 => world.pause(id, Duration::from_millis(random.between(10, 4_000))),
                4 => world.isolate(id),
                5 if id != other => world.cut_one_way(id, other),
                6 | 7 => world.heal(),
                8 | 9 => {
                    world.request(id, Ask::Write(next)).expect("no property is violated");
                    next += 1;
                }
                _ => {}
            }
            run(&mut world, Duration::from_millis(random.between(1, 1_500)));
            written.extend(values_told(&mut world));
        }
        world.heal();
        world.make_network(NetworkOptions::default());
        world.ids().into_iter().for_each(|id| world.restart(id));
        run(&mut world, Duration::from_secs(10));
        let last_words = world.now();
        world.request(NodeId(1), Ask::Write(next)).expect("no property is violated");
        run(&mut world, Duration::from_secs(20));
        written.extend(values_told(&mut world));
        assert_all_have(&world, &written, next, seed, last_words);
    }
}

fn values_told(world: &mut World<Clerk>) -> Vec<u64> {
    let told = world.take_replies().into_iter().filter_map(|(_, told)| match told {
        Told::Written { value, .. } => Some(value),
        _ => None,
    });
    told.collect()
}

fn assert_all_have(
    world: &World<Clerk>,
    written: &BTreeSet<u64>,
    last: u64,
    seed: u64,
    since: Time,
) {
    assert_eq!(world.traffic().sent("Reverted"), 0, "seed {seed}: no disk lost anything");
    assert!(written.contains(&last), "seed {seed}: nobody took {last} after {since}");
    for replica in world.up() {
        let values = replica.machine().values();
        assert!(written.iter().all(|value| values.contains(value)), "seed {seed}: {values:?}");
    }
}
