//! The promises that the tests show, by their ids in the specification: `RAFT-16`, `RPC-3`.

use std::collections::BTreeSet;

use super::{Source, Workspace};

/// How far to look behind a comment for the test that it belongs to.
const LINES_TO_TEST: usize = 24;

/// The ids that some test names: in the comment on a test, at the head of a file of tests, or in a golden script.
pub(crate) fn shown(workspace: &Workspace) -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    let files = workspace
        .crates
        .values()
        .flat_map(|krate| [krate.files("src"), krate.files("tests"), krate.scripts()].concat())
        .filter(|path| !path.ends_with("tidy/promises.rs"));
    for path in files {
        let in_tests = path.components().any(|part| part.as_os_str() == "tests");
        let text = Source::read(&path).text;
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains('-')) {
            let following = &lines[at..lines.len().min(at + LINES_TO_TEST)];
            if in_tests || following.iter().any(|line| line.trim() == "#[test]") {
                shown.extend(ids(line));
            }
        }
    }
    shown
}

/// `RAFT-16` in "RAFT-16, and more".
fn ids(line: &str) -> impl Iterator<Item = String> + '_ {
    let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_id = |word: &&str| {
        word.split_once('-').is_some_and(|(kind, number)| {
            ["RAFT", "RPC"].contains(&kind) && number.parse::<u32>().is_ok()
        })
    };
    words.filter(is_id).map(str::to_string)
}

#[test]
fn ids_are_found_in_sentences() {
    let found: Vec<String> = ids("/// RAFT-16, RPC-3: a half-written RAFT- is none").collect();
    assert_eq!(found, ["RAFT-16", "RPC-3"]);
}
