//! Lab 2D: snapshots after every tenth command, and a log that stays short.

use quorate_contracts::NodeId;

use super::tester::{Checked, Lab, check};

/// Bytes that term, vote and log of any server may take (`MAXLOGSIZE`).
const LOG_BYTES_MAX: usize = 2_000;

/// How the victim of each round is kept from following.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    None,
    Disconnect,
    Crash,
}

/// Must pass without any InstallSnapshot.
pub(super) fn snapshot_basic(lab: &mut Lab) -> Checked {
    snapshots(lab, Harm::None)?;
    let sent = lab.world.traffic().sent("InstallSnapshot");
    check(sent == 0, || format!("{sent} InstallSnapshot, though nobody was far behind"))
}

pub(super) fn snapshot_install(lab: &mut Lab) -> Checked {
    snapshots(lab, Harm::Disconnect)?;
    let sent = lab.world.traffic().sent("InstallSnapshot");
    check(sent > 0, || "nobody needed a snapshot".to_string())
}

pub(super) fn snapshot_install_crash(lab: &mut Lab) -> Checked {
    snapshots(lab, Harm::Crash)
}

/// `snapcommon`: thirty rounds in which one server falls behind.
fn snapshots(lab: &mut Lab, harm: Harm) -> Checked {
    lab.one_any(3)?;
    let mut leader = lab.leader()?;
    for round in 0..30 {
        let (mut sender, mut victim) = (leader, lab.after(leader, 1));
        if round % 3 == 1 {
            (sender, victim) = (victim, sender);
        }
        match harm {
            Harm::None => {}
            Harm::Disconnect => lab.disconnect([victim]),
            Harm::Crash => lab.crash(victim),
        }
        let followers = if harm == Harm::None { 3 } else { 2 };
        if harm != Harm::None {
            lab.one_any(2)?;
        }
        start_some(lab, sender)?;
        lab.one_any(followers)?;
        check_log_size(lab)?;
        match harm {
            Harm::None => continue,
            Harm::Disconnect => lab.connect([victim]),
            Harm::Crash => lab.revive(victim),
        }
        lab.one_any(3)?;
        leader = lab.leader()?;
    }
    Ok(())
}

fn start_some(lab: &mut Lab, sender: NodeId) -> Checked {
    for _ in 0..5 + lab.random.below(10) {
        let value = lab.any();
        lab.start(sender, value)?;
    }
    Ok(())
}

/// RAFT-18: the log behind a snapshot is dropped.
fn check_log_size(lab: &Lab) -> Checked {
    let sizes = lab.servers().into_iter().filter_map(|node| lab.world.store(node));
    let bytes = sizes.map(|store| store.state_bytes()).max().unwrap_or(0);
    check(bytes < LOG_BYTES_MAX, || format!("the log takes {bytes} bytes"))
}

/// RAFT-17: a restart loads the snapshot and replays what is after it.
pub(super) fn snapshot_all_crash(lab: &mut Lab) -> Checked {
    lab.one_any(3)?;
    for _ in 0..5 {
        for _ in 0..5 + lab.random.below(10) {
            lab.one_any(3)?;
        }
        let before = lab.one_any(3)?;
        crash_and_revive_all(lab);
        let after = lab.one_any(3)?;
        check(after > before, || format!("index {after} after {before}"))?;
    }
    Ok(())
}

pub(super) fn snapshot_init(lab: &mut Lab) -> Checked {
    lab.one_any(3)?;
    for _ in 0..11 {
        lab.one_any(3)?;
    }
    crash_and_revive_all(lab);
    let first = lab.one_any(3)?;
    crash_and_revive_all(lab);
    let second = lab.one_any(3)?;
    check((first, second) == (13, 14), || format!("indexes {first} and {second}, not 13 and 14"))
}

fn crash_and_revive_all(lab: &mut Lab) {
    lab.servers().into_iter().for_each(|node| lab.crash(node));
    lab.servers().into_iter().for_each(|node| lab.revive(node));
}
