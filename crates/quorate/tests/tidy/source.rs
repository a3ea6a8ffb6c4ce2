//! One source file, and the search for words in its code (comments do not count).

use std::fmt;
use std::path::{Path, PathBuf};

use super::Workspace;

pub(crate) struct Source {
    path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let root = Workspace::root().canonicalize().expect("the root exists");
        let path = path.canonicalize().expect("the file exists");
        Self { path: path.strip_prefix(root).map(Path::to_owned).unwrap_or(path), text }
    }

    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Where a word stands in code, as `file:line`.
    pub(crate) fn lines_with_word<'a>(
        &'a self,
        word: &'a str,
    ) -> impl Iterator<Item = String> + 'a {
        let numbered = self.text.lines().enumerate();
        numbered
            .filter(move |(_, line)| has_word(code_of(line), word))
            .map(move |(i, _)| format!("{}:{}", self.path.display(), i + 1))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// A line without its comment.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether the word stands there on its own: `Instant` is not in `Instantly` or `InstantX`.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part_of_name(before) && (word.ends_with('!') || !part_of_name(after))
    })
}

#[test]
fn words_are_found_in_code_only() {
    assert!(has_word(code_of("let t = Instant::now();"), "Instant"));
    assert!(!has_word(code_of("// Instant::now() is forbidden"), "Instant"));
    assert!(!has_word(code_of("struct InstantReplay;"), "Instant"));
    assert!(!has_word(code_of("eprintln!(\"x\")"), "println!"));
}
