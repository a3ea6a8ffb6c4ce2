//! What users of other implementations of Raft were hit by, as scenarios of ours: each is named after the issue in which
//! it was told, and makes the same thing happen here. They run under the labs' tester, with many seeds each.
//!
//! What came of disks, of what they lost and of snapshots is in `disks`.
//!
//! Left out: eBay/NuRaft 531, a second leader of one term whose messages were ignored. Here that ends the server; a scenario that
//! makes two leaders of one term would need a bug first, so that it is told in `raft/src/follower.rs`.

mod disks;

use std::time::Duration;

use quorate_contracts::{EntryId, NodeId};
use quorate_raft::{Lease, Members};
use quorate_sim::{DiskOptions, NetworkOptions, Passage, Situation, StoreOptions, WorldOptions};

use crate::labs::Row;
use crate::labs::service::Ask;
use crate::labs::tester::{Checked, ELECTION, Lab, check, failed};

/// The catalogue's name.
pub const NAME: &str = "lesson";

const RELIABLE: NetworkOptions = NetworkOptions::LABRPC;

const fn row(
    name: &'static str,
    servers: u64,
    network: NetworkOptions,
    tweak: fn(&mut WorldOptions),
    test: fn(&mut Lab) -> Checked,
) -> Row {
    Row { name, catalogue: NAME, servers, network, tweak, test }
}

/// A quiet LAN, on which answers may come late and twice.
const LATE_AND_TWICE: NetworkOptions = NetworkOptions {
    requests: Passage { duplicate_ppm: 200_000, ..LAN },
    replies: Passage { duplicate_ppm: 200_000, late_ppm: 300_000, ..LAN },
};

/// A quiet LAN, on which three answers of ten come when the next leader may be over as well.
const VERY_LATE: NetworkOptions = NetworkOptions {
    requests: LAN,
    replies: Passage {
        late_ppm: 300_000,
        late_min: Duration::from_millis(500),
        late_max: Duration::from_millis(3_000),
        ..LAN
    },
};

const LAN: Passage = Passage {
    delay_min: Duration::from_micros(50),
    delay_max: Duration::from_millis(2),
    late_max: Duration::from_secs(1),
    ..Passage::INSTANT
};

/// All of them.
pub const CATALOGUE: &[Row] = &[
    row("hashicorp-695-two-hands-on-the-term", 5, RELIABLE, plain, two_hands_on_the_term),
    row("hashicorp-696-transfer-cut-short", 3, RELIABLE, plain, transfer_cut_short),
    row("hashicorp-605-pre-vote-of-a-former-leader", 3, RELIABLE, plain, former_leader),
    row("canonical-203-transfer-against-heartbeats", 3, RELIABLE, plain, transfer_with_heartbeats),
    row("students-guide-term-confusion", 5, VERY_LATE, plain, answers_of_older_terms),
    row("logcabin-44-figure-8", 5, RELIABLE, one_entry_a_message, figure_8),
    row("logcabin-160-large-append", 3, RELIABLE, one_entry_a_message, large_append),
    row("ccf-5674-committed-by-a-deposed-leader", 5, RELIABLE, plain, deposed_leader),
    row("cockroach-106793-rejection-during-a-snapshot", 3, LATE_AND_TWICE, pieces, late_rejections),
    row("dgraph-2707-crash-during-a-snapshot", 3, LATE_AND_TWICE, pieces, crash_in_snapshot),
    row("etcd-10589-read-of-a-single-voter", 1, RELIABLE, plain, single_voter_reads),
    row("etcd-raft-397-read-asked-again", 3, LATE_AND_TWICE, plain, reads_asked_again),
    row("etcd-20418-read-after-a-pause", 3, RELIABLE, leases, read_after_a_pause),
    row("read-at-a-leader-that-handed-over", 3, RELIABLE, plain, read_after_handing_over),
    row("lease-of-a-leader-that-was-cut-off", 3, RELIABLE, leases, lease_outlives_the_link),
    row("lease-by-clocks-that-differ", 3, RELIABLE, bad_clocks, lease_outlives_the_link),
    row("longer-log-of-an-older-term", 3, RELIABLE, plain, longer_but_older),
    row("members-of-a-replaced-entry", 5, RELIABLE, plain, replaced_members),
    row("snapshot-over-a-longer-stale-log", 3, RELIABLE, pieces, snapshot_over_a_longer_log),
    row(
        "entries-replaced-while-they-are-read",
        3,
        RELIABLE,
        nothing_in_memory,
        replaced_while_read,
    ),
    row("camunda-1068-vote-then-crash", 3, RELIABLE, slow_disk, vote_then_crash),
    row("swarmkit-963-one-restart-after-another", 3, RELIABLE, plain, restarts),
    row("etcd-14143-acknowledged-tail-gone", 3, RELIABLE, plain, disks::tail_gone),
    row("openraft-898-log-reverted", 3, RELIABLE, pieces, disks::log_reverted),
    row("openraft-1500-heartbeats-after-a-reversion", 3, RELIABLE, plain, disks::only_heartbeats),
    row("openraft-1795-storage-error", 3, RELIABLE, real_disks, disks::storage_error),
    row("openraft-1829-snapshot-due-again", 3, RELIABLE, slow_pieces, disks::snapshot_due_again),
    row("openraft-1892-snapshots-of-two-leaders", 3, LATE_AND_TWICE, pieces, disks::two_senders),
    row("camunda-30290-majority-without-data", 3, RELIABLE, plain, disks::majority_without_data),
    row("prevote-a-lost-server-comes-back", 5, RELIABLE, plain, lost_server_comes_back),
];

fn plain(_: &mut WorldOptions) {}

fn one_entry_a_message(options: &mut WorldOptions) {
    options.limits.append_bytes = 1;
    options.limits.window_messages = 1;
    options.network.requests.delay_max = Duration::from_millis(20);
    let replies = &mut options.network.replies;
    (replies.delay_min, replies.delay_max) = (Duration::from_millis(5), Duration::from_millis(5));
}

/// Early snapshots, in pieces of one command.
fn pieces(options: &mut WorldOptions) {
    options.limits.snapshot_entries = 10;
    options.limits.snapshot_piece_bytes = 8;
}

/// The same, written more slowly than they fall due.
fn slow_pieces(options: &mut WorldOptions) {
    pieces(options);
    options.limits.snapshot_piece_bytes = 64;
    slow_disk(options);
}

fn real_disks(options: &mut WorldOptions) {
    options.disk = Some(DiskOptions::default());
}

fn leases(options: &mut WorldOptions) {
    options.lease = Some(Lease { drift_ppm: 1_000 });
}

/// Clocks that differ by as much as leases allow for.
fn bad_clocks(options: &mut WorldOptions) {
    options.drift_ppm_max = 100_000;
    options.lease = Some(Lease { drift_ppm: 230_000 });
}

/// A server that starts reads its log from its disk, and slowly.
fn nothing_in_memory(options: &mut WorldOptions) {
    slow_disk(options);
    options.store.tail_entries = 1;
}

fn slow_disk(options: &mut WorldOptions) {
    options.store = StoreOptions {
        sync_min: Duration::from_millis(1),
        sync_max: Duration::from_millis(60),
        ..options.store
    };
}

/// A leader appended in a term that a heartbeat on another thread had just raised. Here proposals and the heartbeats of
/// a later leader reach an old one at the same instant, in any order.
fn two_hands_on_the_term(lab: &mut Lab) -> Checked {
    for _ in 0..20 {
        lab.one_any(5)?;
        let old = lab.leader()?;
        lab.disconnect([old]);
        let new = lab.leader()?;
        lab.connect([old]);
        for _ in 0..20 {
            for server in [old, new] {
                let value = lab.any();
                lab.start(server, value)?;
            }
            lab.sleep_ms(20)?;
        }
    }
    lab.one_any(5)?;
    Ok(())
}

/// A transfer that a lost majority interrupted was still under way when its leader was elected again.
fn transfer_cut_short(lab: &mut Lab) -> Checked {
    for _ in 0..5 {
        lab.one_any(3)?;
        let leader = lab.leader()?;
        let [target, other] = [1, 2].map(|by| lab.after(leader, by));
        lab.disconnect([target]);
        lab.world.transfer(leader, Some(target))?;
        lab.sleep_ms(20)?;
        lab.disconnect([other]);
        lab.sleep(2 * ELECTION)?;
        lab.check_no_leader()?;
        // Only it and the target can elect, and its log is as good: sooner or later it leads again.
        lab.connect([target, other]);
        lab.one_any(3)?;
        lead_again(lab, leader)?;
        let value = lab.any();
        check(lab.start(leader, value)?.is_some(), || format!("{leader} takes nothing any more"))?;
        lab.one_any(3)?;
        lab.world.transfer(leader, Some(other))?;
        lab.sleep(ELECTION)?;
        check(lab.leader()? != leader, || format!("{leader} cannot hand over any more"))?;
    }
    Ok(())
}

/// Makes a server lead.
fn lead_again(lab: &mut Lab, server: NodeId) -> Checked {
    for _ in 0..20 {
        let leader = lab.leader()?;
        if leader == server {
            return Ok(());
        }
        lab.world.transfer(leader, Some(server))?;
        lab.sleep(ELECTION / 2)?;
    }
    failed(format!("{server} never leads again"))
}

/// Voters that still believed in a leader refused its own pre-vote when it came back: two of three servers, no leader.
fn former_leader(lab: &mut Lab) -> Checked {
    for _ in 0..10 {
        lab.one_any(3)?;
        let leader = lab.leader()?;
        let down = lab.after(leader, 1);
        lab.crash(down);
        lab.one_any(2)?;
        lab.revive(leader);
        lab.one_any(2)?;
        lab.leader()?;
        lab.revive(down);
    }
    lab.one_any(3)?;
    Ok(())
}

/// A transfer's target asked for pre-votes, which the old leader's heartbeats made hopeless.
fn transfer_with_heartbeats(lab: &mut Lab) -> Checked {
    for _ in 0..20 {
        lab.one_any(3)?;
        let leader = lab.leader()?;
        let target = lab.after(leader, 1);
        lab.world.transfer(leader, Some(target))?;
        lab.sleep_ms(100)?;
        let leads = lab.world.replica(target).is_some_and(|r| r.raft().is_leader());
        check(leads, || format!("{target} does not lead 100 ms after it was asked to"))?;
    }
    lab.one_any(3)?;
    Ok(())
}

/// Figure 8, step by step: an entry of term 2 reaches a majority in a later term, without one of that term on top of it,
/// and a server with an entry of a term in between takes over.
fn figure_8(lab: &mut Lab) -> Checked {
    lab.one_any(5)?;
    // (a) A leader replicates an entry to one follower only.
    let s1 = lab.leader()?;
    let s2 = lab.after(s1, 1);
    lab.disconnect([2, 3, 4].map(|by| lab.after(s1, by)));
    let value = lab.any();
    let Some(_) = lab.start(s1, value)? else { return failed("the leader refused") };
    let entry = last(lab, s1);
    poll(lab, |lab| last(lab, s2) == entry)?;
    lab.disconnect([s2]);
    lab.crash(s1);
    // (b) Another is elected by the other three, and keeps its entry to itself.
    let others = [2, 3, 4].map(|by| lab.after(s1, by));
    lab.connect(others);
    poll(lab, |lab| elected(lab, &others).is_some())?;
    let Some(s5) = elected(lab, &others) else { return failed("nobody was elected") };
    others.into_iter().filter(|s| *s != s5).for_each(|s| lab.world.cut_one_way(s5, s));
    poll(lab, |lab| leads(lab, s5))?;
    lab.sleep_ms(30)?;
    lab.crash(s5);
    // (c) The first is back, and leads a later term; its old entry gets to a third server, and nothing else.
    let followers = others.into_iter().filter(|s| *s != s5).collect::<Vec<_>>();
    lab.revive(s1);
    lab.connect([s2]);
    poll(lab, |lab| followers.iter().any(|s| last(lab, *s) == entry))?;
    let Some(leader) = [s1, s2].into_iter().find(|s| leads(lab, *s)) else { return Ok(()) };
    for server in lab.servers() {
        lab.world.cut_one_way(leader, server);
    }
    lab.sleep_ms(30)?;
    // (d) The one with the entry in between takes over, and replaces it.
    lab.disconnect([s1, s2]);
    lab.revive(s5);
    lab.one_any(3)?;
    lab.connect(lab.servers());
    lab.one_any(5)?;
    let reached = lab.world.situations().count(Situation::Figure8);
    check(reached > 0, || "the old entry never stood on a majority, uncommitted".to_string())
}

/// Answers to a leader came when it led again, in a later term, and counted for what its follower no longer has
/// ("Students' Guide to Raft", on term confusion).
fn answers_of_older_terms(lab: &mut Lab) -> Checked {
    for _ in 0..10 {
        lab.one_any(5)?;
        let old = lab.leader()?;
        let with = lab.after(old, 1);
        let others = [2, 3, 4].map(|by| lab.after(old, by));
        for server in others {
            lab.world.cut(old, server);
            lab.world.cut(with, server);
        }
        for _ in 0..10 {
            let value = lab.any();
            lab.start(old, value)?;
            lab.sleep_ms(5)?;
        }
        poll(lab, |lab| others.iter().any(|server| leads(lab, *server)))?;
        lab.world.heal();
        let new = others.into_iter().find(|server| leads(lab, *server));
        poll(lab, |lab| {
            !leads(lab, old) && new.is_none_or(|new| last(lab, new) == last(lab, old))
        })?;
        if let Some(new) = new {
            lab.world.transfer(new, Some(old))?;
        }
        lab.sleep(2 * ELECTION)?;
    }
    lab.one_any(5)?;
    Ok(())
}

/// Waits until something is so, looking every half millisecond.
fn poll(lab: &mut Lab, holds: impl Fn(&Lab) -> bool) -> Checked {
    for _ in 0..20_000 {
        if holds(lab) {
            return Ok(());
        }
        lab.sleep(Duration::from_micros(500))?;
    }
    failed("it never came to that")
}

fn last(lab: &Lab, server: NodeId) -> Option<EntryId> {
    lab.world.replica(server).map(|replica| replica.raft().last())
}

fn leads(lab: &Lab, server: NodeId) -> bool {
    lab.world.replica(server).is_some_and(|replica| replica.raft().is_leader())
}

/// The one of three for which the two others have voted, before it has heard of it.
fn elected(lab: &Lab, three: &[NodeId; 3]) -> Option<NodeId> {
    let state =
        |s: &NodeId| lab.world.replica(*s).map(|r| (r.raft().term(), r.raft().hard_state()));
    three.iter().copied().find(|candidate| {
        let votes = three.iter().filter_map(state).filter(|(term, state)| {
            Some(*term) == lab.world.replica(*candidate).map(|r| r.raft().term())
                && state.voted_for == Some(*candidate)
        });
        votes.count() == 3 && !leads(lab, *candidate)
    })
}

/// More entries than fit one message, some of them left out in the middle, made a corrupt log.
fn large_append(lab: &mut Lab) -> Checked {
    lab.one_any(3)?;
    for _ in 0..5 {
        let leader = lab.leader()?;
        let behind = lab.after(leader, 1);
        lab.disconnect([behind]);
        for _ in 0..100 {
            let value = lab.any();
            lab.start(leader, value)?;
        }
        lab.connect([behind]);
        lab.one_any(3)?;
    }
    Ok(())
}

/// Committed entries were lost when a leader became a follower.
fn deposed_leader(lab: &mut Lab) -> Checked {
    for _ in 0..20 {
        let committed = lab.one_any(5)?;
        let leader = lab.leader()?;
        for _ in 0..5 {
            let value = lab.any();
            lab.start(leader, value)?;
        }
        lab.disconnect([leader]);
        let value = lab.any();
        lab.start(leader, value)?;
        lab.one_any(4)?;
        lab.connect([leader]);
        lab.one_any(5)?;
        let (count, _) = lab.committed(committed)?;
        check(count == 5, || format!("{count} servers have what was committed at {committed}"))?;
    }
    Ok(())
}

/// A rejection that came late put a follower back to waiting for a snapshot, for ever.
fn late_rejections(lab: &mut Lab) -> Checked {
    lab.one_any(3)?;
    for _ in 0..8 {
        fall_behind(lab)?;
        lab.one_any(3)?;
    }
    Ok(())
}

/// One follower misses what the others then have in a snapshot only; it is back, and has everything still to get.
fn fall_behind(lab: &mut Lab) -> Checked<NodeId> {
    let leader = lab.leader()?;
    let behind = lab.after(leader, 1);
    lab.disconnect([behind]);
    for _ in 0..15 {
        lab.one_any(2)?;
    }
    lab.connect([behind]);
    Ok(behind)
}

/// A follower that crashed in the middle of its snapshot was never sent anything again.
fn crash_in_snapshot(lab: &mut Lab) -> Checked {
    lab.one_any(3)?;
    for _ in 0..8 {
        let behind = fall_behind(lab)?;
        for _ in 0..3 {
            let millis = 5 + lab.random.below(60);
            lab.sleep_ms(millis)?;
            lab.revive(behind);
        }
        lab.one_any(3)?;
    }
    Ok(())
}

/// Asks for a read and waits for its answer; none if it was refused.
fn read(lab: &mut Lab, server: NodeId) -> Checked<Option<u64>> {
    lab.world.take_replies();
    lab.world.request(server, Ask::Read)?;
    for _ in 0..1_000 {
        if let Some((_, found)) = lab.world.take_replies().pop() {
            return Ok(found);
        }
        lab.sleep_ms(10)?;
    }
    failed(format!("a read at {server} was never answered"))
}

/// A leader that is the only voter never answered reads.
fn single_voter_reads(lab: &mut Lab) -> Checked {
    for expected in 1..10 {
        let index = lab.one_any(1)?;
        let found = read(lab, NodeId(1))?;
        let what = || format!("read {found:?} after command {index}");
        check(found == Some(expected) && index == expected, what)?;
    }
    Ok(())
}

/// An answer to an earlier attempt of a read was taken for one to a later attempt: the index was stale.
fn reads_asked_again(lab: &mut Lab) -> Checked {
    for _ in 0..10 {
        let leader = lab.leader()?;
        let reader = lab.after(leader, 1);
        let index = lab.one_any(2)?;
        lab.world.take_replies();
        lab.world.request(reader, Ask::Read)?;
        lab.disconnect([leader]);
        let found = read(lab, reader)?;
        check(found.is_none_or(|found| found >= index), || {
            format!("read {found:?}, though {index} was acknowledged before")
        })?;
        lab.connect([leader]);
        lab.one_any(3)?;
    }
    Ok(())
}

/// A leader that had been stopped answered reads from its old state, by a lease that was over.
fn read_after_a_pause(lab: &mut Lab) -> Checked {
    for _ in 0..10 {
        lab.one_any(3)?;
        let old = lab.leader()?;
        lab.world.pause(old, Duration::from_secs(3));
        lab.sleep_ms(1_500)?;
        let others = [lab.after(old, 1), lab.after(old, 2)];
        let new = others
            .into_iter()
            .find(|s| lab.world.replica(*s).is_some_and(|replica| replica.raft().is_leader()));
        let Some(new) = new else { return failed("nobody took over from a stopped leader") };
        let value = lab.any();
        let Some(started) = lab.start(new, value)? else { return failed("the leader refused") };
        lab.wait(started.index, 2, None)?;
        lab.sleep_ms(1_600)?;
        let found = read(lab, old)?;
        check(found.is_none_or(|found| found >= started.index), || {
            format!("{old} read {found:?} after it was stopped, but {} is newer", started.index)
        })?;
    }
    Ok(())
}

/// A leader that hands over may be succeeded within a heartbeat, so answers to a round that began before a read arrived say nothing
/// about who leads when it arrives (thesis, 6.4). The old leader hears of nothing here, and has had answers to all it sent.
fn read_after_handing_over(lab: &mut Lab) -> Checked {
    for _ in 0..10 {
        lab.one_any(3)?;
        let old = lab.leader()?;
        let [target, other] = [1, 2].map(|by| lab.after(old, by));
        lab.world.cut_one_way(target, old);
        lab.world.cut_one_way(other, old);
        lab.world.transfer(old, Some(target))?;
        poll(lab, |lab| leads(lab, target))?;
        let value = lab.any();
        let Some(started) = lab.start(target, value)? else { return failed("the leader refused") };
        poll(lab, |lab| lab.committed(started.index).is_ok_and(|(count, _)| count > 0))?;
        let found = read(lab, old)?;
        check(found.is_none_or(|found| found >= started.index), || {
            format!("{old} read {found:?} after it handed over, but {} is newer", started.index)
        })?;
        lab.world.heal();
    }
    Ok(())
}

/// A leader with a lease loses its last follower, which knows at once that it is gone, and another server has wanted to
/// be elected for long. As long as the lease lasts, by whoever's clock, nobody may write what the old leader's readers
/// do not see (thesis, 6.4.1).
fn lease_outlives_the_link(lab: &mut Lab) -> Checked {
    for _ in 0..15 {
        lab.one_any(3)?;
        let old = lab.leader()?;
        let [follower, candidate] = [1, 2].map(|by| lab.after(old, by));
        lab.world.cut(old, candidate);
        lab.sleep(ELECTION)?;
        lab.world.cut(old, follower);
        lab.world.hang_up(old, follower);
        let heirs = [follower, candidate];
        poll(lab, |lab| heirs.iter().any(|heir| leads(lab, *heir)))?;
        let new = heirs.into_iter().find(|heir| leads(lab, *heir));
        let value = lab.any();
        if let Some(new) = new
            && let Some(started) = lab.start(new, value)?
        {
            poll(lab, |lab| lab.committed(started.index).is_ok_and(|(count, _)| count > 0))?;
            let found = read(lab, old)?;
            check(found.is_none_or(|found| found >= started.index), || {
                format!("{old} read {found:?} by its lease, but {} is newer", started.index)
            })?;
        }
        lab.world.heal();
    }
    Ok(())
}

/// Section 5.4.1: a leader that was cut off has the longer log, of an older term; the leader after it dies. Only who has
/// what was committed may be elected.
fn longer_but_older(lab: &mut Lab) -> Checked {
    for _ in 0..8 {
        lab.one_any(3)?;
        let old = lab.leader()?;
        lab.disconnect([old]);
        for _ in 0..10 {
            let value = lab.any();
            lab.start(old, value)?;
        }
        lab.sleep_ms(50)?;
        lab.one_any(2)?;
        let index = lab.one_any(2)?;
        let new = lab.leader()?;
        lab.crash(new);
        lab.connect([old]);
        lab.leader()?;
        lab.world.restart(new);
        lab.connect([new]);
        lab.one_any(3)?;
        let (count, _) = lab.committed(index)?;
        check(count == 3, || format!("{count} servers have what was committed at {index}"))?;
    }
    Ok(())
}

/// Section 6: a leader that is cut off with one follower makes the two of them the members, and the entry is replaced. From then on the
/// members are those from before, for both of them, also when one of them leads.
fn replaced_members(lab: &mut Lab) -> Checked {
    for _ in 0..3 {
        lab.one_any(5)?;
        let old = lab.leader()?;
        let with = lab.after(old, 1);
        let others = [2, 3, 4].map(|by| lab.after(old, by));
        for server in others {
            lab.world.cut(old, server);
            lab.world.cut(with, server);
        }
        lab.world.change_members(old, Members::voters([old, with]))?;
        poll(lab, |lab| last(lab, with) == last(lab, old))?;
        poll(lab, |lab| others.iter().any(|server| leads(lab, *server)))?;
        lab.world.heal();
        lab.one_any(5)?;
        lead_again(lab, old)?;
        for _ in 0..3 {
            lab.one_any(5)?;
            lab.sleep(2 * ELECTION)?;
        }
    }
    Ok(())
}

/// A leader that was cut off has more entries than the others have committed meanwhile; their snapshot replaces them all, also on
/// its disk (RAFT-20).
fn snapshot_over_a_longer_log(lab: &mut Lab) -> Checked {
    for _ in 0..5 {
        lab.one_any(3)?;
        let old = lab.leader()?;
        lab.disconnect([old]);
        for _ in 0..40 {
            let value = lab.any();
            lab.start(old, value)?;
        }
        lab.sleep_ms(50)?;
        for _ in 0..12 {
            lab.one_any(2)?;
        }
        lab.connect([old]);
        lab.one_any(3)?;
        lab.revive(old);
        lab.one_any(3)?;
    }
    Ok(())
}

/// A leader dies with entries that nobody else has, and they are replaced when it comes back, in the moment in which it reads its
/// log to apply what was committed: the disk still has the old ones.
fn replaced_while_read(lab: &mut Lab) -> Checked {
    for _ in 0..10 {
        for _ in 0..3 {
            lab.one_any(3)?;
        }
        let old = lab.leader()?;
        lab.disconnect([old]);
        for _ in 0..4 {
            let value = lab.any();
            lab.start(old, value)?;
        }
        lab.sleep_ms(200)?;
        lab.crash(old);
        for _ in 0..4 {
            lab.one_any(2)?;
        }
        lab.revive(old);
        lab.one_any(3)?;
    }
    Ok(())
}

/// Two leaders of one term, since a vote was answered before it was on the disk. Voters crash around their votes.
fn vote_then_crash(lab: &mut Lab) -> Checked {
    for _ in 0..40 {
        let leader = lab.leader()?;
        lab.disconnect([leader]);
        let millis = 400 + lab.random.below(500);
        lab.sleep_ms(millis)?;
        let by = 1 + lab.random.below(2);
        let voter = lab.after(leader, by);
        lab.revive(voter);
        lab.connect([leader]);
    }
    lab.one_any(3)?;
    Ok(())
}

/// Servers that were restarted one after the other held elections for ever.
fn restarts(lab: &mut Lab) -> Checked {
    const ROUNDS: u64 = 10;
    lab.one_any(3)?;
    let before = lab.term()?;
    for _ in 0..ROUNDS {
        for server in lab.servers() {
            lab.revive(server);
            let millis = lab.random.below(300);
            lab.sleep_ms(millis)?;
        }
        lab.leader()?;
    }
    lab.one_any(3)?;
    lab.sleep(ELECTION)?;
    let terms = lab.term()?.0 - before.0;
    let limit = 3 * 3 * ROUNDS;
    check(terms <= limit, || format!("{terms} terms for {} restarts", 3 * ROUNDS))
}

/// RAFT-6: a server that was away, and campaigned all the while, does not depose a healthy leader when it returns.
fn lost_server_comes_back(lab: &mut Lab) -> Checked {
    lab.one_any(5)?;
    let leader = lab.leader()?;
    for by in 1..5 {
        let lost = lab.after(leader, by);
        let before = lab.term()?;
        lab.disconnect([lost]);
        lab.sleep(5 * ELECTION)?;
        lab.connect([lost]);
        lab.one_any(5)?;
        lab.sleep(2 * ELECTION)?;
        let (now, after) = (lab.leader()?, lab.term()?);
        check((now, after) == (leader, before), || {
            format!("{lost} came back, and {leader} of term {before} gave way to {now} of {after}")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunOptions;

    /// RAFT-6, RAFT-7, RAFT-16, RAFT-21 among others: the lessons of others, a few seeds each; `quorate sim lesson --seeds 100` runs
    /// more.
    #[test]
    fn all_lessons() {
        for row in CATALOGUE {
            for seed in 1..=3 {
                let options = RunOptions { trace: true, ..Default::default() };
                if let Err(report) = row.run(seed, &options) {
                    panic!("\n{report}");
                }
            }
        }
    }
}
