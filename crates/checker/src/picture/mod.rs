//! A history as a picture (LIN-4): a row for each client, a bar for each operation, the points at which they took effect,
//! the states in between, and for a bad one where it breaks and why.
//!
//! [`Picture`] is plain data; [`Picture::to_html`] makes one self-contained page of it, [`text::timeline`] a few lines of text for a
//! terminal. Not here: what is right and wrong.

mod html;
mod lanes;
mod points;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::check::HistoryOf;
use crate::engine::{Problem, states_after_each};
use crate::history::{History, OpId, Operation, Outcome};
use crate::model::Model;
use crate::verdict::{Part, Verdict};
use crate::words::{label, short};

/// More bars than that help nobody, and make a browser slow.
const BARS_MAX: usize = 20_000;
/// Longer texts are cut in the middle.
const TEXT_MAX: usize = 160;

/// A picture of a history, as data.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    title: String,
    answer: String,
    /// False: times only number the events.
    timed: bool,
    /// What was left out, if anything was.
    omitted: usize,
    lanes: Vec<String>,
    bars: Vec<Bar>,
    parts: Vec<Shown>,
    notes: Vec<(u64, String)>,
}

/// An operation.
#[derive(Clone, Debug, Serialize)]
struct Bar {
    lane: u32,
    from: u64,
    to: Option<u64>,
    label: String,
    part: u32,
    kind: Kind,
    /// When it took effect, in the order that was found, and as the how-manieth.
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<(f64, usize)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Why it could not come next.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    core: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stuck: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Read,
    Write,
    Unknown,
    Refused,
}

/// A part of the history, and what became of it.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    key: Option<String>,
    answer: String,
    operations: usize,
    initial: String,
    why: Option<String>,
    /// Where it breaks.
    breaks_at: Option<u64>,
}

impl Picture {
    /// The picture of a history and of what a check said about it.
    pub fn of<M: Model>(title: &str, model: &M, history: &HistoryOf<M>, verdict: &Verdict) -> Self {
        let chosen = chosen::<M>(history, verdict);
        let (lanes, lane_of) = lanes::of(history, &chosen);
        let begin = history.operations().iter().map(|o| o.called.0).min().unwrap_or(0);
        let mut bars = BTreeMap::new();
        for (number, part) in (0..).zip(&verdict.parts) {
            let mut findings = Findings::of(model, history, part);
            for id in part.operations.iter().filter(|id| chosen.contains_key(id)) {
                let bar = findings.bar(model, history, *id, begin);
                bars.insert(*id, Bar { lane: lane_of[id], part: number, ..bar });
            }
        }
        let notes =
            history.notes().iter().map(|note| (note.at.0.saturating_sub(begin), note.text.clone()));
        Self {
            title: title.to_owned(),
            answer: verdict.answer.to_string(),
            timed: history.is_timed(),
            omitted: history.operations().len() - bars.len(),
            lanes,
            bars: bars.into_values().collect(),
            parts: verdict.parts.iter().map(|part| shown(model, history, part, begin)).collect(),
            notes: notes.collect(),
        }
    }

    /// One self-contained page: no network, light and dark, to be printed, zoomed, and saved as SVG.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}

/// All operations, or, if there are too many, those that were called last before something broke.
fn chosen<M: Model>(history: &HistoryOf<M>, verdict: &Verdict) -> BTreeMap<OpId, ()> {
    let ids: Vec<_> = history.ids().collect();
    let end = verdict
        .breaches()
        .flat_map(|(_, breach)| breach.core.iter().flatten().chain([&breach.stuck]))
        .max()
        .map_or(ids.len(), |last| (last.index() + BARS_MAX / 10).min(ids.len()))
        .max(BARS_MAX.min(ids.len()));
    let begin = end.saturating_sub(BARS_MAX);
    let cores = verdict.breaches().flat_map(|(_, breach)| breach.core.iter().flatten());
    ids[begin..end].iter().chain(cores).map(|id| (*id, ())).collect()
}

fn shown<M: Model>(model: &M, history: &HistoryOf<M>, part: &Part, begin: u64) -> Shown {
    let breaks_at = part.breach.as_ref().and_then(|breach| history.operation(breach.stuck).ended);
    Shown {
        key: part.key.clone(),
        answer: part.answer.to_string(),
        operations: part.operations.len(),
        initial: cut(&model.describe_state(&model.initial())),
        why: part.breach.as_ref().map(|breach| breach.why.clone()),
        breaks_at: breaks_at.map(|at| at.0.saturating_sub(begin)),
    }
}

/// What was found about the operations of one part.
struct Findings {
    placed: BTreeMap<OpId, (f64, usize, String)>,
    refused: BTreeMap<OpId, String>,
    core: BTreeSet<OpId>,
    stuck: Option<OpId>,
}

impl Findings {
    fn of<M: Model>(model: &M, history: &HistoryOf<M>, part: &Part) -> Self {
        let problem = Problem::of(history, part.order.iter().copied());
        let states = states_after_each(model, &problem);
        let points = points::spread(history, &part.order);
        let texts = states.iter().map(|state| cut(&model.describe_state(state)));
        let placed = part.order.iter().zip(points).zip(texts).enumerate();
        let refused = part.breach.iter().flat_map(|breach| breach.refused.iter().cloned());
        Self {
            placed: placed.map(|(i, ((id, point), text))| (*id, (point, i + 1, text))).collect(),
            refused: refused.collect(),
            core: part.breach.iter().flat_map(|b| b.core.iter().flatten().copied()).collect(),
            stuck: part.breach.as_ref().map(|breach| breach.stuck),
        }
    }

    fn bar<M: Model>(&mut self, model: &M, history: &HistoryOf<M>, id: OpId, begin: u64) -> Bar {
        let operation = history.operation(id);
        let placed = self.placed.remove(&id);
        Bar {
            lane: 0,
            from: operation.called.0 - begin,
            to: operation.ended.map(|ended| ended.0.saturating_sub(begin)),
            label: cut(&label(model, operation)),
            part: 0,
            kind: kind(model, operation),
            point: placed.as_ref().map(|(point, i, _)| (point - begin as f64, *i)),
            state: placed.map(|(_, _, state)| state),
            refused: self.refused.remove(&id),
            core: self.core.contains(&id),
            stuck: self.stuck == Some(id),
            server: operation.server.as_deref().map(str::to_owned),
        }
    }
}

fn kind<M: Model>(model: &M, operation: &Operation<M::Input, M::Output>) -> Kind {
    match &operation.outcome {
        Outcome::Refused => Kind::Refused,
        Outcome::Unknown => Kind::Unknown,
        Outcome::Returned(output) if model.observes(&operation.input, Some(output)) => Kind::Read,
        Outcome::Returned(_) => Kind::Write,
    }
}

fn cut(text: &str) -> String {
    short(text, TEXT_MAX)
}

/// A history that shares nothing with a model: what lanes and points need.
trait AnyHistory {
    fn span(&self, id: OpId) -> (u64, Option<u64>);
}

impl<I, O> AnyHistory for History<I, O> {
    fn span(&self, id: OpId) -> (u64, Option<u64>) {
        let operation = self.operation(id);
        let is_open = !matches!(operation.outcome, Outcome::Returned(_));
        (operation.called.0, operation.ended.filter(|_| !is_open).map(|ended| ended.0))
    }
}
