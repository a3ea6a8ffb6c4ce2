//! Lessons about what disks lose, and about snapshots.

use quorate_contracts::NodeId;
use quorate_sim::DiskFaults;

use super::{fall_behind, last};
use crate::labs::tester::{Checked, ELECTION, Lab, check};

/// A server starts again with a disk that has lost its newest entries.
fn restart_without(lab: &mut Lab, server: NodeId, entries: usize, noticed: bool) {
    lab.crash(server);
    lab.world.forget(server, entries, noticed);
    lab.world.restart(server);
    lab.connect([server]);
}

/// A follower had lost what it had acknowledged: leaders panicked over its answers, or it voted as if nothing were missing,
/// and somebody was elected without what was committed.
pub(super) fn tail_gone(lab: &mut Lab) -> Checked {
    for noticed in [true, false, true, false] {
        lab.one_any(3)?;
        let leader = lab.leader()?;
        let [forgetful, other] = [1, 2].map(|by| lab.after(leader, by));
        lab.disconnect([other]);
        lab.one_any(2)?;
        lab.one_any(2)?;
        restart_without(lab, forgetful, 2, noticed);
        // Whoever knows what it lost gives no vote at once; for who does not, the leader has to find out.
        if !noticed {
            lab.sleep(ELECTION / 2)?;
        }
        lab.crash(leader);
        lab.connect([other]);
        lab.sleep(ELECTION)?;
        lab.world.restart(leader);
        lab.connect([leader]);
        lab.one_any(3)?;
    }
    Ok(())
}

/// A follower came back with an older log than it had had; its leader panicked, or never fed it again.
pub(super) fn log_reverted(lab: &mut Lab) -> Checked {
    for _ in 0..5 {
        for _ in 0..12 {
            lab.one_any(3)?;
        }
        let leader = lab.leader()?;
        let reverted = lab.after(leader, 1);
        restart_without(lab, reverted, usize::MAX, false);
        lab.one_any(3)?;
    }
    Ok(())
}

/// The same, and nothing is said but heartbeats: they alone must make it whole.
pub(super) fn only_heartbeats(lab: &mut Lab) -> Checked {
    for _ in 0..5 {
        let index = lab.one_any(3)?;
        let leader = lab.leader()?;
        let reverted = lab.after(leader, 1);
        restart_without(lab, reverted, 1, false);
        lab.sleep(ELECTION)?;
        let (count, _) = lab.committed(index)?;
        check(count == 3, || format!("{count} servers have what was committed at {index}"))?;
        let whole = lab.world.replica(reverted).is_some_and(|replica| replica.raft().is_whole());
        check(whole, || format!("{reverted} still lacks something"))?;
    }
    Ok(())
}

/// After an error of one follower's storage, nobody got anything any more. Here that follower ends, and the others go on.
pub(super) fn storage_error(lab: &mut Lab) -> Checked {
    for _ in 0..5 {
        lab.one_any(3)?;
        let leader = lab.leader()?;
        let broken = lab.after(leader, 1);
        let fails = |lab: &Lab, sync_failure_ppm| {
            if let Some(disk) = lab.world.disk(broken) {
                disk.set_faults(DiskFaults { sync_failure_ppm, ..DiskFaults::default() });
            }
        };
        fails(lab, 1_000_000);
        lab.one_any(2)?;
        lab.sleep_ms(100)?;
        check(!lab.world.is_up(broken), || format!("{broken} goes on with a disk that failed"))?;
        fails(lab, 0);
        lab.world.restart(broken);
        lab.one_any(3)?;
    }
    Ok(())
}

/// A snapshot that fell due while another was being taken was never taken, and the log grew for ever.
pub(super) fn snapshot_due_again(lab: &mut Lab) -> Checked {
    // Some ten entries; without a second snapshot there would be some fifty.
    const STATE_BYTES_MAX: usize = 1_500;
    for _ in 0..3 {
        let leader = lab.leader()?;
        for _ in 0..50 {
            let value = lab.any();
            lab.start(leader, value)?;
            lab.sleep_ms(4)?;
        }
        lab.one_any(3)?;
        lab.sleep(4 * ELECTION)?;
        for server in lab.servers() {
            let bytes = lab.world.store(server).map_or(0, quorate_sim::MemoryStore::state_bytes);
            check(bytes <= STATE_BYTES_MAX, || format!("{server}: a log of {bytes} bytes"))?;
        }
    }
    Ok(())
}

/// Pieces of the snapshots of two leaders made one file, of a state that nobody ever had.
pub(super) fn two_senders(lab: &mut Lab) -> Checked {
    lab.one_any(3)?;
    for _ in 0..8 {
        let behind = fall_behind(lab)?;
        let millis = 1 + lab.random.below(40);
        lab.sleep_ms(millis)?;
        if let Some(leader) = lab.world.leader() {
            let next = lab.servers().into_iter().find(|id| ![leader, behind].contains(id));
            lab.world.transfer(leader, next)?;
        }
        lab.one_any(3)?;
    }
    Ok(())
}

/// Most had lost their data, elected one of themselves, and it wrote its emptiness over the one that had everything. Here nobody is
/// elected, and all who lack something say that they are stranded.
pub(super) fn majority_without_data(lab: &mut Lab) -> Checked {
    let mut index = 0;
    for _ in 0..5 {
        index = lab.one_any(3)?;
    }
    let whole = lab.any_server();
    let others = [1, 2].map(|by| lab.after(whole, by));
    let before = last(lab, whole);
    lab.servers().into_iter().for_each(|server| lab.crash(server));
    for other in others {
        restart_without(lab, other, 3, true);
    }
    lab.world.restart(whole);
    lab.connect([whole]);
    lab.sleep(10 * ELECTION)?;
    lab.check_no_leader()?;
    check(last(lab, whole) == before, || format!("{whole} lost something of {index} commands"))?;
    let stranded = |s: &NodeId| lab.world.replica(*s).is_some_and(|r| r.raft().is_stranded());
    check(others.iter().all(stranded), || "not all say that they are stranded".to_string())
}
