//! Lab 2C: what survives crashes, figure 8, and unreliable networks.

use std::time::Duration;

use quorate_contracts::Time;
use quorate_sim::NetworkOptions;

use super::service::Command;
use super::tester::{Actor, Checked, ELECTION, Lab, One, check};

pub(super) fn persist1(lab: &mut Lab) -> Checked {
    lab.one(11, 3, true)?;
    lab.servers().into_iter().for_each(|node| lab.start_anew(node));
    for node in lab.servers() {
        lab.disconnect([node]);
        lab.connect([node]);
    }
    lab.one(12, 3, true)?;
    let leader1 = lab.leader()?;
    lab.disconnect([leader1]);
    lab.revive(leader1);
    lab.one(13, 3, true)?;
    let leader2 = lab.leader()?;
    lab.disconnect([leader2]);
    lab.one(14, 2, true)?;
    lab.revive(leader2);
    lab.wait(4, 3, None)?;
    let follower = lab.leader().map(|leader| lab.after(leader, 1))?;
    lab.disconnect([follower]);
    lab.one(15, 2, true)?;
    lab.revive(follower);
    lab.one(16, 3, true)?;
    Ok(())
}

pub(super) fn persist2(lab: &mut Lab) -> Checked {
    let mut value = 10;
    let mut next = || {
        value += 1;
        value
    };
    for _ in 0..5 {
        lab.one(next(), 5, true)?;
        let leader = lab.leader()?;
        let [a, b, c, d] = [1, 2, 3, 4].map(|by| lab.after(leader, by));
        lab.disconnect([a, b]);
        lab.one(next(), 3, true)?;
        lab.disconnect([leader, c, d]);
        lab.revive(a);
        lab.revive(b);
        lab.sleep(ELECTION)?;
        lab.revive(c);
        lab.one(next(), 3, true)?;
        lab.connect([d, leader]);
    }
    lab.one(1_000, 5, true)?;
    Ok(())
}

pub(super) fn persist3(lab: &mut Lab) -> Checked {
    lab.one(101, 3, true)?;
    let leader = lab.leader()?;
    let [a, b] = [1, 2].map(|by| lab.after(leader, by));
    lab.disconnect([b]);
    lab.one(102, 2, true)?;
    lab.crash(leader);
    lab.crash(a);
    lab.connect([b]);
    lab.revive(leader);
    lab.one(103, 2, true)?;
    lab.revive(a);
    lab.one(104, 3, true)?;
    Ok(())
}

/// RAFT-11: entries of earlier terms on a majority, and leaders that die before they commit their own.
pub(super) fn figure8(lab: &mut Lab) -> Checked {
    lab.one_any(1)?;
    let mut up = 5;
    for _ in 0..1_000 {
        let mut leader = None;
        for node in lab.servers() {
            let value = lab.any();
            leader = lab.start(node, value)?.map(|_| node).or(leader);
        }
        sleep_a_little(lab)?;
        if let Some(leader) = leader {
            lab.crash(leader);
            up -= 1;
        }
        if up < 3 {
            let node = lab.any_server();
            if !lab.world.is_up(node) {
                lab.revive(node);
                up += 1;
            }
        }
    }
    for node in lab.servers() {
        if !lab.world.is_up(node) {
            lab.revive(node);
        }
    }
    lab.one_any(5)?;
    Ok(())
}

/// One time in ten up to half an election, else up to twelve milliseconds.
fn sleep_a_little(lab: &mut Lab) -> Checked {
    let long = lab.random.chance_ppm(100_000);
    let millis = if long { lab.random.below(500) } else { lab.random.below(13) };
    lab.sleep_ms(millis)
}

pub(super) fn unreliable_agree(lab: &mut Lab) -> Checked {
    let mut agreements = Vec::new();
    for i in 1..50 {
        // The last one is waited for; the others go on meanwhile.
        for value in (0..4).map(|j| 100 * i + j).chain([i]) {
            agreements.push(One::new(lab, Command { value, padding: 0 }, 1, true));
        }
        go_on(lab, &mut agreements, |all| all.last().is_none_or(One::is_done))?;
    }
    lab.make_network(NetworkOptions::LABRPC);
    go_on(lab, &mut agreements, |all| all.iter().all(One::is_done))?;
    lab.one(100, 5, true)?;
    Ok(())
}

/// Lets agreements go on at once until it is enough; drops those that were reached.
fn go_on(lab: &mut Lab, all: &mut Vec<One>, enough: impl Fn(&[One]) -> bool) -> Checked {
    while !enough(all) {
        let mut actors: Vec<&mut dyn Actor> =
            all.iter_mut().map(|one| one as &mut dyn Actor).collect();
        let Some(next) = actors.iter().filter_map(|one| one.at()).min() else { break };
        lab.act(&mut actors, next)?;
    }
    all.retain(|one| !one.is_done());
    Ok(())
}

/// Figure 8 with servers that lose touch rather than crash; answers come late and out of order from the 200th round on.
pub(super) fn figure8_unreliable(lab: &mut Lab) -> Checked {
    let value = lab.random.below(10_000);
    lab.one(value, 1, true)?;
    let mut connected = 5;
    for round in 0..1_000 {
        if round == 200 {
            lab.make_network(NetworkOptions::LABRPC_LONG_REORDERING);
        }
        let mut leader = None;
        for node in lab.servers() {
            let value = lab.random.below(10_000);
            if lab.start(node, value)?.is_some() && lab.is_connected(node) {
                leader = Some(node);
            }
        }
        sleep_a_little(lab)?;
        if let Some(leader) = leader.filter(|_| lab.random.chance_ppm(500_000)) {
            lab.disconnect([leader]);
            connected -= 1;
        }
        if connected < 3 {
            let node = lab.any_server();
            if !lab.is_connected(node) {
                lab.connect([node]);
                connected += 1;
            }
        }
    }
    lab.connect(lab.servers());
    let value = lab.random.below(10_000);
    lab.one(value, 5, true)?;
    Ok(())
}

/// A client of the churn tests: proposes to everyone, and remembers what it saw committed.
struct Churner {
    me: u64,
    at: Option<Time>,
    /// Value, place, and how often it was looked for.
    trying: Option<(u64, u64, usize)>,
    remembered: Vec<u64>,
    stop: bool,
}

impl Churner {
    fn new(me: u64) -> Self {
        Self { me, at: Some(Time::ZERO), trying: None, remembered: Vec::new(), stop: false }
    }

    fn propose(&mut self, lab: &mut Lab) -> Checked {
        if self.stop {
            self.at = None;
            return Ok(());
        }
        let value = lab.any();
        for node in lab.servers() {
            if let Some(started) = lab.start(node, value)? {
                self.trying = Some((value, started.index, 0));
            }
        }
        let pause = if self.trying.is_some() { 0 } else { 79 + 17 * self.me };
        self.wait(lab, pause);
        Ok(())
    }

    fn wait(&mut self, lab: &Lab, millis: u64) {
        self.at = Some(lab.world.now() + Duration::from_millis(millis));
    }
}

impl Actor for Churner {
    fn at(&self) -> Option<Time> {
        self.at
    }

    fn act(&mut self, lab: &mut Lab) -> Checked {
        let Some((value, index, nth)) = self.trying else { return self.propose(lab) };
        let (count, found) = lab.committed(index)?;
        match [10, 20, 50, 100, 200].get(nth) {
            Some(pause) if count == 0 => {
                self.trying = Some((value, index, nth + 1));
                self.wait(lab, *pause);
            }
            _ => {
                if found == Some(value) {
                    self.remembered.push(value);
                }
                self.trying = None;
                // A network without delay commits at once; in the labs it takes one poll.
                self.wait(lab, 10);
            }
        }
        Ok(())
    }
}

/// Servers come and go under three clients; what a client saw committed stays.
pub(super) fn churn(lab: &mut Lab) -> Checked {
    let mut churners: Vec<Churner> = (0..3).map(Churner::new).collect();
    for _ in 0..20 {
        come_and_go(lab);
        churn_for(lab, &mut churners, Duration::from_millis(700))?;
    }
    churn_for(lab, &mut churners, ELECTION)?;
    lab.make_network(NetworkOptions::LABRPC);
    for node in lab.servers() {
        if !lab.world.is_up(node) {
            lab.world.restart(node);
        }
        lab.connect([node]);
    }
    churners.iter_mut().for_each(|churner| churner.stop = true);
    churn_for(lab, &mut churners, ELECTION)?;
    lab.sleep(ELECTION)?;
    let last = lab.one_any(5)?;
    let mut values = Vec::new();
    for index in 1..=last {
        values.extend(lab.wait(index, 5, None)?);
    }
    let lost = churners.iter().flat_map(|c| &c.remembered).find(|value| !values.contains(value));
    check(lost.is_none(), || format!("{lost:?} was committed and is lost"))
}

fn come_and_go(lab: &mut Lab) {
    if lab.random.chance_ppm(200_000) {
        let node = lab.any_server();
        lab.disconnect([node]);
    }
    if lab.random.chance_ppm(500_000) {
        let node = lab.any_server();
        if !lab.world.is_up(node) {
            lab.world.restart(node);
        }
        lab.connect([node]);
    }
    if lab.random.chance_ppm(200_000) {
        let node = lab.any_server();
        if lab.world.is_up(node) {
            lab.crash(node);
        }
    }
}

fn churn_for(lab: &mut Lab, churners: &mut [Churner], duration: Duration) -> Checked {
    let until = lab.world.now() + duration;
    let mut actors: Vec<&mut dyn Actor> =
        churners.iter_mut().map(|churner| churner as &mut dyn Actor).collect();
    lab.act(&mut actors, until)
}
