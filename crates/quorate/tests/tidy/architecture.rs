//! ARCHITECTURE.md as data: the picture's rows and arrows, the crate table, the paragraphs.
//!
//! ```text
//!  worlds    server    client    scenarios -> sim       rows from top to bottom; arrows hold within a row
//!
//!  | `raft` | `contracts` | what one finds there |        the table: name, what it uses (`-` for nothing), what it is
//!
//!  ### raft                                             a paragraph for each crate
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::Workspace;

pub(crate) struct Architecture {
    rows: Vec<Row>,
    /// What the table says that each crate uses.
    pub(crate) table: BTreeMap<String, BTreeSet<String>>,
    /// The text under each `### name`.
    pub(crate) paragraphs: BTreeMap<String, String>,
}

#[derive(Default)]
struct Row {
    names: BTreeSet<String>,
    arrows: BTreeSet<(String, String)>,
}

impl Architecture {
    pub(crate) fn load() -> Self {
        let path = Workspace::root().join("ARCHITECTURE.md");
        let text = std::fs::read_to_string(&path).expect("the project has an ARCHITECTURE.md");
        Self { rows: picture(&text), table: table(&text), paragraphs: paragraphs(&text) }
    }

    pub(crate) fn row_of(&self, name: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.names.contains(name))
    }

    /// Whether the picture lets one crate use another.
    pub(crate) fn may_use(&self, name: &str, used: &str) -> bool {
        match (self.row_of(name), self.row_of(used)) {
            (Some(from), Some(to)) if from == to => {
                self.rows[from].arrows.contains(&(name.to_owned(), used.to_owned()))
            }
            (Some(from), Some(to)) => from < to,
            _ => false,
        }
    }
}

/// The first ```text block: each line is a row's title and its crates.
fn picture(text: &str) -> Vec<Row> {
    let lines = text
        .lines()
        .skip_while(|line| *line != "```text")
        .skip(1)
        .take_while(|line| *line != "```");
    lines.filter(|line| !line.trim().is_empty()).map(row).collect()
}

fn row(line: &str) -> Row {
    let mut row = Row::default();
    let mut words = line.split_whitespace().skip(1).peekable();
    while let Some(word) = words.next() {
        row.names.insert(word.to_owned());
        while words.next_if_eq(&"->").is_some() {
            if let Some(to) = words.peek() {
                row.arrows.insert((word.to_owned(), (*to).to_owned()));
            }
        }
    }
    row
}

/// Rows whose first cell is a name in backticks and that have three cells.
fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, uses, _] = cells[..] else { return None };
        Some((name.trim_matches('`').to_owned(), quoted(uses)))
    })
    .collect()
}

/// The words between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn paragraphs(text: &str) -> BTreeMap<String, String> {
    let sections = text.split("\n### ").skip(1);
    sections
        .filter_map(|section| section.split_once('\n'))
        .map(|(title, body)| {
            (
                title.trim_matches('`').to_owned(),
                body.split("\n## ").next().unwrap_or(body).to_owned(),
            )
        })
        .collect()
}

#[test]
fn a_row_holds_its_crates_and_arrows() {
    let row = row(" worlds    server   scenarios -> sim");
    assert_eq!(row.names.len(), 3);
    assert!(row.arrows.contains(&("scenarios".to_owned(), "sim".to_owned())));
    assert!(!row.arrows.contains(&("server".to_owned(), "sim".to_owned())));
}
