//! Golden scripts: stories of a small cluster that a person can read (`tests/scripts/*.txt`).
//!
//! A script is a text of commands, each paragraph followed by what happened because of them. What is printed
//! comes from typed events, never from log lines. `UPDATE_GOLDENFILES=1 cargo test -p quorate-raft --test
//! golden` accepts new output; accept it only when you can explain the difference. The commands
//! are listed at the head of `commands.rs`.
//!
//! Not here: chance. Nothing is lost, late or slow unless a script says so; the simulator (`sim`) does
//! the rest.

mod chance;
mod cluster;
mod commands;
mod disk;
mod event;
mod script;

use std::fs;
use std::path::{Path, PathBuf};

use commands::Runner;
use script::Script;

#[test]
fn every_script_tells_what_happens() {
    let update = std::env::var_os("UPDATE_GOLDENFILES").is_some();
    let mut differing = Vec::new();
    for path in scripts() {
        let expected = fs::read_to_string(&path).expect("a script is readable");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = play(&name, &expected);
        if found != expected {
            if update {
                fs::write(&path, &found).expect("a script is writable");
            } else {
                differing.push(difference(&name, &expected, &found));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "\n{}\nIf that is what should happen: UPDATE_GOLDENFILES=1 cargo test -p quorate-raft --test golden",
        differing.join("\n")
    );
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = fs::read_dir(folder).expect("there is a folder of scripts");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

/// The script with the output that it has here.
fn play(name: &str, text: &str) -> String {
    let mut script = Script::parse(text);
    let mut runner = Runner::default();
    for paragraph in &mut script.paragraphs {
        paragraph.output.clear();
        for (line, command) in &paragraph.commands {
            if let Err(problem) = runner.run(command) {
                panic!("{name}:{line}: `{command}`: {problem}");
            }
        }
        paragraph.output = runner.take_output();
    }
    script.to_string()
}

/// The first lines that differ.
fn difference(name: &str, expected: &str, found: &str) -> String {
    let (mut was, mut is) = (expected.lines(), found.lines());
    for number in 1.. {
        match (was.next(), is.next()) {
            (None, None) => break,
            (was, is) if was != is => {
                let (was, is) = (was.unwrap_or("(end)"), is.unwrap_or("(end)"));
                return format!("{name}:{number}\n  expected {was}\n  found    {is}");
            }
            _ => {}
        }
    }
    format!("{name} differs in its line ends")
}
