//! Lab 2B: agreement, with limits on calls and bytes.

use std::time::Duration;

use quorate_contracts::{NodeId, Term};

use super::service::Command;
use super::tester::{Checked, ELECTION, Lab, check, failed};

pub(super) fn basic_agree(lab: &mut Lab) -> Checked {
    for index in 1..=3 {
        let (count, _) = lab.committed(index)?;
        check(count == 0, || format!("{index} is committed before it was started"))?;
        let found = lab.one(index * 100, 3, false)?;
        check(found == index, || format!("got index {found} but expected {index}"))?;
    }
    Ok(())
}

/// Each command is sent to each peer once (RAFT-14).
pub(super) fn rpc_bytes(lab: &mut Lab) -> Checked {
    const SIZE: usize = 5_000;
    lab.one(99, 3, false)?;
    let before = lab.world.traffic().bytes();
    for index in 2..12 {
        let command = Command { value: lab.any(), padding: SIZE - 8 };
        let found = lab.one_command(command, 3, false)?;
        check(found == index, || format!("got index {found} but expected {index}"))?;
    }
    let bytes = lab.world.traffic().bytes() - before;
    let limit = 3 * 10 * SIZE as u64 + 50_000;
    check(bytes <= limit, || format!("{bytes} bytes for 10 commands, expected at most {limit}"))
}

pub(super) fn follower_failure(lab: &mut Lab) -> Checked {
    lab.one(101, 3, false)?;
    let leader = lab.leader()?;
    lab.disconnect([lab.after(leader, 1)]);
    lab.one(102, 2, false)?;
    lab.sleep(ELECTION)?;
    lab.one(103, 2, false)?;
    let leader = lab.leader()?;
    lab.disconnect([lab.after(leader, 1), lab.after(leader, 2)]);
    expect_started(lab, leader, 104, &[4])?;
    lab.sleep(2 * ELECTION)?;
    lab.check_not_committed(4)
}

pub(super) fn leader_failure(lab: &mut Lab) -> Checked {
    lab.one(101, 3, false)?;
    let leader = lab.leader()?;
    lab.disconnect([leader]);
    lab.one(102, 2, false)?;
    lab.sleep(ELECTION)?;
    lab.one(103, 2, false)?;
    let leader = lab.leader()?;
    lab.disconnect([leader]);
    for server in lab.servers() {
        lab.start(server, 104)?;
    }
    lab.sleep(2 * ELECTION)?;
    lab.check_not_committed(4)
}

pub(super) fn fail_agree(lab: &mut Lab) -> Checked {
    lab.one(101, 3, false)?;
    let leader = lab.leader()?;
    let follower = lab.after(leader, 1);
    lab.disconnect([follower]);
    lab.one(102, 2, false)?;
    lab.one(103, 2, false)?;
    lab.sleep(ELECTION)?;
    lab.one(104, 2, false)?;
    lab.one(105, 2, false)?;
    lab.connect([follower]);
    lab.one(106, 3, true)?;
    lab.sleep(ELECTION)?;
    lab.one(107, 3, true)?;
    Ok(())
}

pub(super) fn fail_no_agree(lab: &mut Lab) -> Checked {
    lab.one(10, 5, false)?;
    let leader = lab.leader()?;
    let gone = [lab.after(leader, 1), lab.after(leader, 2), lab.after(leader, 3)];
    lab.disconnect(gone);
    expect_started(lab, leader, 20, &[2])?;
    lab.sleep(2 * ELECTION)?;
    lab.check_not_committed(2)?;
    lab.connect(gone);
    let leader2 = lab.leader()?;
    expect_started(lab, leader2, 30, &[2, 3])?;
    lab.one(1_000, 5, true)?;
    Ok(())
}

/// A leader takes a command, at one of these places.
fn expect_started(lab: &mut Lab, leader: NodeId, value: u64, places: &[u64]) -> Checked {
    match lab.start(leader, value)? {
        Some(started) => check(places.contains(&started.index), || {
            format!("{value} got index {}, expected one of {places:?}", started.index)
        }),
        None => failed(format!("the leader {leader} rejected {value}")),
    }
}

/// Tries something that a change of term spoils, up to five times.
fn unless_term_changes(
    lab: &mut Lab,
    mut attempt: impl FnMut(&mut Lab) -> Checked<Option<()>>,
) -> Checked {
    for nth in 0..5 {
        if nth > 0 {
            lab.sleep(Duration::from_secs(3))?;
        }
        if attempt(lab)?.is_some() {
            return Ok(());
        }
    }
    failed("the term changed too often")
}

pub(super) fn concurrent_starts(lab: &mut Lab) -> Checked {
    unless_term_changes(lab, |lab| {
        let leader = lab.leader()?;
        let Some(first) = lab.start(leader, 1)? else { return Ok(None) };
        let mut places = Vec::new();
        for i in 0..5 {
            match lab.start(leader, 100 + i)? {
                Some(started) if started.term == first.term => places.push(started.index),
                _ => return Ok(None),
            }
        }
        let mut values = Vec::new();
        for place in places {
            let Some(value) = lab.wait(place, 3, Some(first.term))? else { return Ok(None) };
            values.push(value);
        }
        values.sort_unstable();
        check(values == [100, 101, 102, 103, 104], || format!("found {values:?}"))?;
        Ok(Some(()))
    })
}

pub(super) fn rejoin(lab: &mut Lab) -> Checked {
    lab.one(101, 3, true)?;
    let leader1 = lab.leader()?;
    lab.disconnect([leader1]);
    for value in [102, 103, 104] {
        lab.start(leader1, value)?;
    }
    lab.one(103, 2, true)?;
    let leader2 = lab.leader()?;
    lab.disconnect([leader2]);
    lab.connect([leader1]);
    lab.one(104, 2, true)?;
    lab.connect([leader2]);
    lab.one(105, 3, true)?;
    Ok(())
}

/// RAFT-10: logs that differ by hundreds of entries of several terms agree soon.
pub(super) fn backup(lab: &mut Lab) -> Checked {
    lab.one_any(5)?;
    let leader1 = lab.leader()?;
    let [a, b, c, d] = [1, 2, 3, 4].map(|by| lab.after(leader1, by));
    lab.disconnect([b, c, d]);
    start_many(lab, leader1)?;
    lab.sleep(ELECTION / 2)?;
    lab.disconnect([leader1, a]);
    lab.connect([b, c, d]);
    agree_on_many(lab)?;
    let leader2 = lab.leader()?;
    let other = if leader2 == b { lab.after(leader2, 1) } else { b };
    lab.disconnect([other]);
    start_many(lab, leader2)?;
    lab.sleep(ELECTION / 2)?;
    lab.disconnect(lab.servers());
    lab.connect([leader1, a, other]);
    agree_on_many(lab)?;
    lab.connect(lab.servers());
    lab.one_any(5)?;
    Ok(())
}

/// Fifty commands that cannot be committed.
fn start_many(lab: &mut Lab, leader: NodeId) -> Checked {
    for _ in 0..50 {
        let value = lab.any();
        lab.start(leader, value)?;
    }
    Ok(())
}

fn agree_on_many(lab: &mut Lab) -> Checked {
    for _ in 0..50 {
        lab.one_any(3)?;
    }
    Ok(())
}

/// RAFT-14: calls for an election, for ten agreements, and for an idle second.
pub(super) fn count(lab: &mut Lab) -> Checked {
    const AGREEMENTS: u64 = 10;
    lab.leader()?;
    let calls = requests(lab);
    check((1..=30).contains(&calls), || format!("{calls} calls to elect the first leader"))?;
    unless_term_changes(lab, |lab| {
        let leader = lab.leader()?;
        let before = requests(lab);
        let Some(first) = lab.start(leader, 1)? else { return Ok(None) };
        let mut values = Vec::new();
        for i in 1..AGREEMENTS + 2 {
            let value = lab.any();
            values.push(value);
            match lab.start(leader, value)? {
                Some(started) if started.term == first.term => {
                    let (found, expected) = (started.index, first.index + i);
                    check(found == expected, || format!("index {found}, expected {expected}"))?;
                }
                _ => return Ok(None),
            }
        }
        for (index, expected) in (first.index + 1..).zip(&values[..AGREEMENTS as usize]) {
            let Some(value) = lab.wait(index, 3, Some(first.term))? else { return Ok(None) };
            check(value == *expected, || format!("wrong value at {index}"))?;
        }
        if all_terms(lab).iter().any(|term| *term != first.term) {
            return Ok(None);
        }
        let (calls, limit) = (requests(lab) - before, (AGREEMENTS + 1 + 3) * 3);
        check(calls <= limit, || format!("{calls} calls for {AGREEMENTS} entries"))?;
        Ok(Some(()))
    })?;
    let before = requests(lab);
    lab.sleep(ELECTION)?;
    let calls = requests(lab) - before;
    check(calls <= 3 * 20, || format!("{calls} calls for a second of idleness"))
}

fn requests(lab: &Lab) -> u64 {
    lab.servers().into_iter().map(|node| lab.world.traffic().requests_received(node)).sum()
}

fn all_terms(lab: &Lab) -> Vec<Term> {
    lab.world.up().map(|replica| replica.raft().term()).collect()
}
