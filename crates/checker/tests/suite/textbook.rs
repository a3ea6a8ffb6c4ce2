//! LIN-6: the textbook cases, drawn. A script *is* a history: a row for each client, a bar for each operation, left before right.
//! Below the line stand the verdict and what the checker says. `UPDATE_GOLDENFILES=1` writes what it says.

use std::path::{Path, PathBuf};

use quorate_checker::models::Register;
use quorate_checker::models::register::{Input, Output};
use quorate_checker::picture::{Picture, text::timeline};
use quorate_checker::{ClientId, History, HistoryOf, Limits, Model, Nanos, Value, Verdict, check};

/// One column of a drawing.
const COLUMN_NS: u64 = 100_000;

/// A bar: who, from column, to column (`None`: nobody knows), what.
type Bar = (u64, usize, Option<usize>, String);

fn bars(line: &str) -> Vec<Bar> {
    let (client, row) = line.split_once(' ').expect("a row begins with its client");
    let client =
        client.strip_prefix('c').and_then(|n| n.parse().ok()).expect("clients are c1, c2, ...");
    let row: Vec<char> = row.chars().collect();
    let mut found = Vec::new();
    let mut from = None;
    for (column, sign) in row.iter().enumerate() {
        match (sign, from) {
            ('├', None) => from = Some(column),
            ('┤' | '├', Some(start)) => {
                let label: String = row[start + 1..column].iter().collect();
                found.push((
                    client,
                    start,
                    Some(column).filter(|_| *sign == '┤'),
                    label.trim().to_owned(),
                ));
                from = (*sign == '├').then_some(column);
            }
            _ => {}
        }
    }
    if let Some(start) = from {
        let label: String = row[start + 1..].iter().collect();
        found.push((client, start, None, label.trim().to_owned()));
    }
    found
}

fn value(text: &str) -> Value {
    if text == "nil" { Value::Nil } else { Value::Int(text.parse().expect("values are numbers")) }
}

fn operation(label: &str) -> (Input, Output) {
    let words: Vec<_> = label.trim_end_matches('?').split_whitespace().collect();
    match words[..] {
        ["write", new] => (Input::Write(value(new)), Output::Done),
        ["read", "=", seen] => (Input::Read, Output::Value(value(seen))),
        ["cas", both] => {
            let (from, to) = both.split_once('→').expect("cas 1→2");
            (Input::Cas(value(from), value(to)), Output::Swapped(true))
        }
        _ => panic!("no operation: {label}"),
    }
}

fn history(drawing: &str) -> HistoryOf<Register> {
    let bars: Vec<_> = drawing.lines().flat_map(bars).collect();
    let mut events: Vec<_> = bars
        .iter()
        .enumerate()
        .flat_map(|(i, (_, from, to, _))| [Some((*from, true, i)), to.map(|to| (to, false, i))])
        .flatten()
        .collect();
    events.sort_unstable();
    let mut history = History::new();
    let mut ids = vec![None; bars.len()];
    for (column, is_call, i) in events {
        let (at, (input, output)) = (Nanos(column as u64 * COLUMN_NS), operation(&bars[i].3));
        match ids[i] {
            None if is_call => ids[i] = Some(history.invoke(ClientId(bars[i].0), at, input)),
            Some(id) => history.returned(id, at, output),
            None => panic!("an end without a beginning"),
        }
    }
    history
}

fn says(history: &HistoryOf<Register>, verdict: &Verdict) -> String {
    let model = Register::default();
    let told = |id| {
        let operation = history.operation(id);
        format!(
            "{} {}",
            operation.client,
            model.describe(&operation.input, operation.outcome.output())
        )
    };
    let mut lines = vec![verdict.answer.to_string()];
    let part = &verdict.parts[0];
    let order: Vec<_> = part.order.iter().map(|id| told(*id)).collect();
    lines.push(format!(
        "order: {}",
        if order.is_empty() { "none".to_owned() } else { order.join(", ") }
    ));
    if let Some(breach) = &part.breach {
        lines.push(format!("stuck: {}", told(breach.stuck)));
        lines.extend(breach.refused.iter().map(|(id, why)| format!("  {}: {why}", told(*id))));
        lines.push(breach.why.clone());
        lines.extend(timeline(&model, history, breach.core.as_deref().unwrap_or_default()));
    }
    lines.join("\n") + "\n"
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.sort();
    paths
}

fn golden(path: &Path, expected: &str, found: &str) {
    if expected != found && std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(path, found).expect("it can be written");
        return;
    }
    assert_eq!(expected, found, "\n{}: UPDATE_GOLDENFILES=1 accepts this", path.display());
}

/// A script: what it shows, in a sentence; its drawing; and everything that stands in it.
struct Script {
    path: PathBuf,
    title: String,
    drawing: String,
    text: String,
}

impl Script {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let drawing = text.split("---\n").next().unwrap_or_default().trim_end().to_owned();
        let title = drawing.lines().next().and_then(|line| line.strip_prefix("# "));
        let title = title.expect("a script begins with what it shows").replace(" (LIN-6)", "");
        Self { title: title.trim_end_matches('.').to_owned(), drawing, path, text }
    }

    fn history(&self) -> HistoryOf<Register> {
        let rows: Vec<_> = self.drawing.lines().filter(|line| line.starts_with('c')).collect();
        history(&rows.join("\n"))
    }
}

/// LIN-6, and a few more of their kind.
#[test]
fn the_checker_says_what_the_scripts_say() {
    for script in scripts().into_iter().map(Script::read) {
        let history = script.history();
        let verdict = check(&Register::default(), &history, &Limits::default());
        let found = format!("{}\n---\n{}", script.drawing, says(&history, &verdict));
        golden(&script.path, &script.text, &found);
    }
}

/// LIN-4, LIN-6: each script has its picture under `docs/pictures`.
#[test]
fn each_script_has_its_picture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures");
    for script in scripts().into_iter().map(Script::read) {
        let history = script.history();
        let verdict = check(&Register::default(), &history, &Limits::default());
        let page = Picture::of(&script.title, &Register::default(), &history, &verdict).to_html();
        let name = script.path.file_stem().expect("scripts have names");
        let path = folder.join(name).with_extension("html");
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        golden(&path, &expected, &page);
    }
}
