//! Writes flat JSON objects: all that a trace line needs. Reading JSON, and anything nested, is not here.

use quorate_contracts::EntryId;
use std::fmt::Write;

/// An object being written.
#[derive(Default)]
pub(crate) struct Object {
    out: String,
}

impl Object {
    fn key(&mut self, key: &str) -> &mut String {
        self.out.push(if self.out.is_empty() { '{' } else { ',' });
        let _ = write!(self.out, "\"{key}\":");
        &mut self.out
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) -> &mut Self {
        let _ = write!(self.key(key), "{value}");
        self
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        let _ = write!(self.key(key), "{value}");
        self
    }

    /// A value that needs no escapes.
    pub(crate) fn word(&mut self, key: &str, value: &str) -> &mut Self {
        let _ = write!(self.key(key), "\"{value}\"");
        self
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        let out = self.key(key);
        out.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c < ' ' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out.push('"');
        self
    }

    pub(crate) fn numbers(&mut self, key: &str, values: impl Iterator<Item = u64>) -> &mut Self {
        let values: Vec<String> = values.map(|value| value.to_string()).collect();
        let _ = write!(self.key(key), "[{}]", values.join(","));
        self
    }

    /// Index and term.
    pub(crate) fn entry(&mut self, key: &str, id: EntryId) -> &mut Self {
        self.numbers(key, [id.index.0, id.term.0].into_iter())
    }

    pub(crate) fn entries(&mut self, key: &str, ids: &[EntryId]) -> &mut Self {
        let ids: Vec<String> = ids.iter().map(|id| format!("[{},{}]", id.index, id.term)).collect();
        let _ = write!(self.key(key), "[{}]", ids.join(","));
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }
}
