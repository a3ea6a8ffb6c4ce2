//! Harm that is aimed: at whoever leads, and at a change of members while it is under way. Random harm seldom hits the few
//! milliseconds in which a majority is just not one.
//!
//! Whom it hits is found when it is done; what is done is drawn before the run, like everything in `plan`.

use std::time::Duration;

use quorate_contracts::{Random, Time};

use super::plan::{Deed, Planned, TICK};
use super::weather::Weather;

/// Draws aimed harm, from a stream of its own.
pub(super) struct Aim<'a> {
    random: Random,
    weather: &'a Weather,
}

impl<'a> Aim<'a> {
    pub(super) fn new(weather: &'a Weather, random: &Random) -> Self {
        Self { random: random.derive("aimed"), weather }
    }

    /// The harm of one tick, and what belongs to it a little later.
    pub(super) fn act(&mut self, at: Time, plan: &mut Vec<Planned>) {
        if !self.random.chance_ppm(self.weather.aimed_ppm) {
            return;
        }
        match self.random.below(10) {
            0..=1 => {
                let noticed = self.random.chance_ppm(500_000);
                plan.push(Planned { at, deed: Deed::CrashLeader { noticed } });
            }
            2..=5 => {
                self.cut_off(at, plan);
            }
            _ => self.secede(at, plan),
        }
    }

    /// The leader and some others are alone, for a while. Returns how many others.
    fn cut_off(&mut self, at: Time, plan: &mut Vec<Planned>) -> u64 {
        let with = self.random.below(self.weather.nodes / 2 + 1);
        let noticed = self.random.chance_ppm(300_000);
        plan.push(Planned { at, deed: Deed::CutOff { with, noticed } });
        let heal_at = at + Duration::from_millis(self.random.between(300, 6_000));
        plan.push(Planned { at: heal_at, deed: Deed::Heal });
        with
    }

    /// They are alone, and one after the other they ask for members of which they would be a majority.
    fn secede(&mut self, at: Time, plan: &mut Vec<Planned>) {
        let with = self.cut_off(at, plan);
        if !self.weather.members_change() {
            return;
        }
        let (mut at, mut with) = (at, with);
        for _ in 0..1 + self.random.below(3) {
            at += TICK * self.random.below(5) as u32;
            let learners = self.random.chance_ppm(500_000);
            plan.push(Planned { at, deed: Deed::Shrink { with, learners } });
            with = self.random.below(with + 1);
        }
    }
}
