//! What the pages in `docs/` and the README promise: commands that the real command line takes, links that lead somewhere, and a
//! summary that names every page. Absent: running the commands, which `interop/` does with those that need a cluster.

use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::Arguments;

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).to_path_buf()
}

/// The README and every page of `docs/`, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let pages = pages.chain([root().join("README.md")]);
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// A line's words for quorate, without what is the shell's or the reader's: comments, pipes, and columns of explanation.
fn words(line: &str) -> Vec<&str> {
    let ends = [" #", "   ", " | ", " > ", " && "];
    let end = ends.iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
    line[..end].split_whitespace().collect()
}

#[test]
fn every_command_is_one_that_the_command_line_takes() {
    let mut taken = 0;
    for (path, text) in pages() {
        for line in text.lines().filter(|line| line.starts_with("quorate ")) {
            let parsed = Arguments::command().try_get_matches_from(words(line));
            assert!(parsed.is_ok(), "{}: {line}\n{}", path.display(), parsed.unwrap_err());
            taken += 1;
        }
    }
    assert!(taken > 30, "only {taken} commands were found");
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for (path, text) in pages() {
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            let target = &rest[..rest.find(')').unwrap_or(rest.len())];
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let found = path.parent().unwrap().join(file);
            assert!(found.exists(), "{}: nothing is at {target}", path.display());
        }
    }
}

#[test]
fn the_summary_names_every_page() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for (path, _) in pages() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let named = summary.contains(&format!("]({name})"));
        assert!(named || name == "SUMMARY.md" || name == "README.md", "{name}");
    }
}
