//! A script as text: paragraphs of commands, each followed by `---` and what happened.
//!
//! ```text
//! # What the script shows (RAFT-5).
//!
//! cluster n1 n2 n3
//! elect n1
//! ---
//! n1  follower 0 → ...
//! ```

use std::fmt;

const SEPARATOR: &str = "---";

/// A script.
pub(crate) struct Script {
    pub(crate) paragraphs: Vec<Paragraph>,
}

/// Some commands, and what came of them.
#[derive(Default)]
pub(crate) struct Paragraph {
    /// Comments and commands as they stand in the file.
    lines: Vec<String>,
    /// The commands alone, with their line numbers.
    pub(crate) commands: Vec<(usize, String)>,
    pub(crate) output: Vec<String>,
}

impl Script {
    /// Reads a text; never fails, since every line is a command, a comment or output.
    pub(crate) fn parse(text: &str) -> Self {
        let mut paragraphs = vec![Paragraph::default()];
        let mut in_output = false;
        for (number, line) in (1..).zip(text.lines()) {
            let last = paragraphs.len() - 1;
            if line.is_empty() {
                paragraphs.push(Paragraph::default());
                in_output = false;
            } else if line == SEPARATOR {
                in_output = true;
            } else if in_output {
                paragraphs[last].output.push(line.to_string());
            } else {
                paragraphs[last].add(number, line);
            }
        }
        paragraphs.retain(|paragraph| !paragraph.lines.is_empty());
        Self { paragraphs }
    }
}

impl Paragraph {
    fn add(&mut self, number: usize, line: &str) {
        self.lines.push(line.to_string());
        for command in line.split('#').next().unwrap_or_default().split(';') {
            if !command.trim().is_empty() {
                self.commands.push((number, command.trim().to_string()));
            }
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, paragraph) in self.paragraphs.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            paragraph.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
            if !paragraph.output.is_empty() {
                writeln!(f, "{SEPARATOR}")?;
            }
            paragraph.output.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        }
        Ok(())
    }
}
