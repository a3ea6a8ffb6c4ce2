//! The verdict on each batch, and what all of them come to.

use std::path::Path;
use std::sync::mpsc::Receiver;

use quorate_checker::formats::json_lines;
use quorate_checker::models::Kv;
use quorate_checker::{Answer, HistoryOf, Limits, check};
use serde::Serialize;

use super::Shared;
use super::batches::{Number, counted};
use crate::check::breach_lines;

/// A second of a few clients takes thousands of steps. More than a few seconds' worth of them is not spent.
const STEPS_MAX: u64 = 20_000_000;

/// A batch to be judged.
pub(super) struct Case {
    pub(super) number: Number,
    pub(super) history: HistoryOf<Kv>,
    /// Its keys were read a last time: it comes no more.
    pub(super) last: bool,
}

/// What all batches come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Operations that can be explained.
    linearizable: u64,
    /// Those of them whose outcome the client does not know.
    unknown: u64,
    /// Operations of which a limit was met before it was known.
    undecided: u64,
    /// Batches that were read a last time.
    reread: u64,
    /// The first batch that cannot be explained; nothing is counted after it.
    broken: Option<Broken>,
}

/// What cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Broken {
    /// Why, and the operations that contradict each other.
    why: Vec<String>,
    /// Where the batch's history is, for `quorate check`.
    file: String,
}

/// Judges until nobody has anything to be judged.
pub(super) fn run(cases: &Receiver<Case>, directory: &Path, shared: &Shared) {
    let mut first = Counted::default();
    for case in cases {
        let verdict = check(&Kv::default(), &case.history, &Limits::steps(STEPS_MAX));
        let mut tally = shared.tally();
        if tally.broken.is_some() {
            return;
        }
        match verdict.answer {
            Answer::NotLinearizable => {
                let why = breach_lines(&Kv::default(), &case.history, &verdict);
                tally.broken = Some(Broken { why, file: keep(directory, &case) });
                shared.tell("what the clients saw is not linearizable");
            }
            answer => tally.add(answer, &case, first.before(&case)),
        }
        shared.note(|shown| *shown = tally);
    }
}

/// What was counted of batches when they were judged first.
#[derive(Default)]
struct Counted(std::collections::BTreeMap<Number, (u64, u64)>);

impl Counted {
    /// What was counted of this one before.
    fn before(&mut self, case: &Case) -> (u64, u64) {
        match case.last {
            true => self.0.remove(&case.number).unwrap_or_default(),
            false => {
                self.0.insert(case.number, counted(&case.history));
                (0, 0)
            }
        }
    }
}

impl Tally {
    fn add(&mut self, answer: Answer, case: &Case, before: (u64, u64)) {
        let (operations, unknown) = counted(&case.history);
        let (operations, unknown) =
            (operations.saturating_sub(before.0), unknown.saturating_sub(before.1));
        match answer {
            Answer::Linearizable => self.linearizable += operations,
            _ => self.undecided += operations,
        }
        self.unknown += unknown;
        self.reread += u64::from(case.last);
    }
}

/// Writes the history down, and says where.
fn keep(directory: &Path, case: &Case) -> String {
    let file = directory.join(format!("playground-{}.jsonl", case.number.0));
    match std::fs::write(&file, json_lines::write(&Kv::default(), &case.history)) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("nowhere: {}: {error}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use quorate_checker::models::kv::Input;
    use quorate_checker::models::register;
    use quorate_checker::{ClientId, Nanos};

    use super::*;

    /// One client writes 1 and 2, another one reads afterwards, and some write's outcome stays unknown.
    fn case(number: u64, read: i64, last: bool) -> Case {
        let mut history = HistoryOf::<Kv>::default();
        let mut say = |client, op, output| {
            let id = history.invoke(ClientId(client), Nanos(0), Input::new("r0", op));
            match output {
                Some(output) => history.returned(id, Nanos(1), output),
                None => history.unknown(id, Nanos(1)),
            }
        };
        for value in [1, 2] {
            say(1, register::Input::Write(value.into()), Some(register::Output::Done));
        }
        say(2, register::Input::Read, Some(register::Output::Value(read.into())));
        say(2, register::Input::Write(3.into()), None);
        Case { number: Number(number), history, last }
    }

    fn judged(cases: Vec<Case>, directory: &Path) -> Tally {
        let (sender, receiver) = mpsc::channel();
        cases.into_iter().for_each(|case| sender.send(case).unwrap());
        drop(sender);
        let shared = Shared::default();
        run(&receiver, directory, &shared);
        shared.tally()
    }

    /// A batch is counted once, though it is judged twice.
    #[test]
    fn operations_are_counted_once() {
        let nowhere = Path::new("/nowhere");
        let tally = judged(vec![case(0, 2, false), case(1, 2, false), case(0, 2, true)], nowhere);
        let expected = Tally { linearizable: 8, unknown: 2, reread: 1, ..Tally::default() };
        assert_eq!(tally, expected);
    }

    /// A read that is behind an acknowledged write is told in words, and its history is kept; nothing is counted then.
    #[test]
    fn an_old_read_is_told_in_words() {
        let directory = std::env::temp_dir().join(format!("quorate-judge-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let tally =
            judged(vec![case(4, 2, false), case(5, 1, false), case(6, 2, false)], &directory);
        assert_eq!(tally.linearizable, 4);
        let broken = tally.broken.unwrap();
        assert!(broken.why.iter().any(|line| line.contains("r0")), "{broken:?}");
        let kept = std::fs::read_to_string(&broken.file).unwrap();
        assert!(broken.file.ends_with("playground-5.jsonl") && !kept.is_empty());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// A write without an answer may have happened, or not.
    #[test]
    fn an_unknown_outcome_explains_both() {
        for read in [2, 3] {
            let mut history = case(0, 2, false).history;
            let id = history.invoke(ClientId(3), Nanos(2), Input::new("r0", register::Input::Read));
            history.returned(id, Nanos(3), register::Output::Value(read.into()));
            let tally = judged(
                vec![Case { number: Number(0), history, last: false }],
                Path::new("/nowhere"),
            );
            assert_eq!((tally.linearizable, tally.broken), (5, None), "read {read}");
        }
    }
}
