//! The formats in which people keep histories (LIN-3).
//!
//! | format | what it looks like | module |
//! | --- | --- | --- |
//! | Jepsen's log | `INFO  jepsen.util - 3 :invoke :cas [1 2]` | `jepsen_log` |
//! | EDN | `{:process 3, :type :invoke, :f :cas, :value [1 2]}`, one map a line or a vector of them | `edn`, `edn_history` |
//! | JSON lines | `{"type":"invoke","client":3,"f":"cas","value":[1,2]}` | `json_lines` |
//!
//! All give a history of what was [`Said`](crate::models::Said); [`understand`] puts it into the words of a model.
//! `docs/histories.md` describes them for those who write histories.

mod edn;
mod edn_history;
mod events;
mod guess;
mod jepsen_log;
pub mod json_lines;

use std::fmt;

use crate::history::{History, OpId};
use crate::models::{Said, Spoken};
use crate::value::Value;

pub use guess::{Guess, guess_model};

/// A way to write a history down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Lines of a Jepsen log; lines that tell of no operation are passed over.
    JepsenLog,
    /// Jepsen's `history.edn`, and anything else with maps of the same keys.
    Edn,
    /// Our own.
    JsonLines,
}

/// A history as it was written down.
#[derive(Clone, Debug)]
pub struct Written {
    /// What was said.
    pub history: History<Said, Value>,
    /// The line of each operation's invocation, from 1.
    pub lines: Vec<u32>,
    /// How it was written.
    pub format: Format,
}

/// Why a history cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ReadError {}

impl ReadError {
    pub(crate) fn new(line: u32, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// Reads a history; without a format, the text says which it is.
///
/// # Errors
/// The first line that makes no sense, and why.
pub fn read(text: &str, format: Option<Format>) -> Result<Written, ReadError> {
    let format = format.unwrap_or_else(|| format_of(text));
    let (history, lines) = match format {
        Format::JepsenLog => jepsen_log::read(text)?,
        Format::Edn => edn_history::read(text)?,
        Format::JsonLines => json_lines::read(text)?,
    };
    Ok(Written { history, lines, format })
}

/// Puts a history into the words of a model.
///
/// # Errors
/// The first operation that the model does not understand.
pub fn understand<M: Spoken>(
    model: &M,
    written: Written,
) -> Result<History<M::Input, M::Output>, ReadError> {
    let Written { history, lines, .. } = written;
    history.translate(|id: OpId, client, said, outcome| {
        let heard = model.hear(&said, outcome);
        let (mut input, outcome) =
            heard.map_err(|reason| ReadError::new(lines[id.index()], reason))?;
        model.asked_by(client, &mut input);
        Ok((input, outcome))
    })
}

/// What the first line with anything on it looks like.
fn format_of(text: &str) -> Format {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let after_brace = first.strip_prefix('{').map(str::trim_start);
    match after_brace {
        Some(rest) if rest.starts_with('"') => Format::JsonLines,
        Some(_) => Format::Edn,
        None if first.starts_with(['[', '#', ';', '(']) && !first.starts_with("[20") => Format::Edn,
        None => Format::JepsenLog,
    }
}
