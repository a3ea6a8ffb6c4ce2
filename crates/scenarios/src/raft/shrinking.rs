//! Makes a run that failed smaller: fewer deeds, fewer mishaps of messages, calmer weather, and the same property
//! violated. What is left is what a person looks at.

use std::collections::BTreeSet;

use quorate_sim::MessageFault;

use super::plan::Planned;
use super::run::{Run, Script};
use crate::shrink::ddmin;
use crate::{Failure, Report, Shrunk, guarded};

/// A decision against the cluster: something done, or a mishap of one message.
#[derive(Clone)]
enum Decision {
    Deed(Planned),
    Mishap(MessageFault),
}

/// Runs a script that fails again and again, smaller each time, at most about `runs_max` times; reports on the
/// smallest that fails the same way.
pub(super) fn shrink(script: Script, failure: &Failure, runs_max: u32) -> Report {
    let mut run = Run::new(script.clone(), false, true);
    let _ = guarded(|| run.run());
    let end = run.now();
    // What comes after the end of a run that stopped short had no part in it.
    let deeds = script.plan.iter().filter(|planned| planned.at <= end).cloned();
    let mut decisions: Vec<Decision> = deeds.map(Decision::Deed).collect();
    decisions.extend(run.mishaps().into_iter().map(Decision::Mishap));
    let before = decisions.len();

    let mut shrinking = Shrinking { script, failure, runs: runs_max };
    let is_deed = |decision: &Decision| matches!(decision, Decision::Deed(_));
    let (mut deeds, mut mishaps): (Vec<_>, Vec<_>) = decisions.into_iter().partition(is_deed);
    if shrinking.fails(&deeds) {
        mishaps.clear();
    }
    let keep = mishaps.clone();
    deeds = shrinking.ddmin(deeds, |some| [some, &keep].concat());
    mishaps = shrinking.ddmin(mishaps, |some| [&deeds, some].concat());
    let mut rest = [deeds, mishaps].concat();
    shrinking.calm_the_weather(&rest);
    rest = shrinking.ddmin(rest, <[_]>::to_vec);

    let mut run = Run::new(shrinking.with(&rest), true, false);
    let again = guarded(|| run.run()).err().unwrap_or_else(|| failure.clone());
    let mut report = run.report(again);
    let deeds = rest.iter().map(ToString::to_string).collect();
    report.shrunk = Some(Shrunk { before, runs: runs_max - shrinking.runs, deeds });
    report
}

struct Shrinking<'a> {
    script: Script,
    failure: &'a Failure,
    /// Runs left.
    runs: u32,
}

impl Shrinking<'_> {
    /// The script with these decisions only.
    fn with(&self, decisions: &[Decision]) -> Script {
        let mut script = Script { plan: Vec::new(), ..self.script.clone() };
        let mut mishaps = BTreeSet::new();
        for decision in decisions {
            match decision {
                Decision::Deed(planned) => script.plan.push(planned.clone()),
                Decision::Mishap(fault) => {
                    mishaps.insert(*fault);
                }
            }
        }
        script.mishaps = Some(mishaps);
        script
    }

    /// Whether these decisions alone break the same promise.
    fn fails(&mut self, decisions: &[Decision]) -> bool {
        self.runs = self.runs.saturating_sub(1);
        let mut run = Run::new(self.with(decisions), false, false);
        guarded(|| run.run()).is_err_and(|failure| failure.is_alike(self.failure))
    }

    fn ddmin(
        &mut self,
        decisions: Vec<Decision>,
        whole: impl Fn(&[Decision]) -> Vec<Decision>,
    ) -> Vec<Decision> {
        ddmin(decisions, |some| {
            if self.runs == 0 {
                return None;
            }
            Some(self.fails(&whole(some)))
        })
    }

    fn calm_the_weather(&mut self, decisions: &[Decision]) {
        let mut found = true;
        while found && self.runs > 0 {
            found = false;
            for calmer in self.script.weather.calmer() {
                let stormy = std::mem::replace(&mut self.script.weather, calmer);
                if self.fails(decisions) {
                    found = true;
                    break;
                }
                self.script.weather = stormy;
            }
        }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deed(planned) => write!(f, "{planned}"),
            Self::Mishap(MessageFault { from, to, nth, mishap }) => {
                write!(f, "{:>12} message {nth} of {from} to {to}", format!("{mishap:?}"))
            }
        }
    }
}
