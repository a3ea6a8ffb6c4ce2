//! From a list of events to a history: each end finds its beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ReadError;
use crate::history::{ClientId, History, Nanos, OpId, Position};
use crate::models::Said;
use crate::value::Value;

/// What an event says.
pub(super) enum Event {
    Invoke(Said),
    /// It happened, with this result.
    Ok(Value),
    /// It did not happen.
    Fail,
    /// It may have happened.
    Info,
}

/// Who and what ties an end to its beginning: the client, or an id where a client has several operations on their way.
pub(super) type Thread = (ClientId, Option<u64>);

/// What an end says of the server: its name, and where it stood in the order of changes.
#[derive(Clone, Copy, Default)]
pub(super) struct Answered<'a> {
    pub(super) server: Option<&'a str>,
    pub(super) position: Option<Position>,
}

/// A history while it is read.
#[derive(Default)]
pub(super) struct Events {
    pub(super) history: History<Said, Value>,
    lines: Vec<u32>,
    open: BTreeMap<Thread, OpId>,
    words: BTreeMap<String, Arc<str>>,
    events: u64,
    any_time: bool,
}

impl Events {
    /// The time of the next event: as given, or its number.
    pub(super) fn time(&mut self, given: Option<u64>) -> Nanos {
        self.events += 1;
        self.any_time |= given.is_some();
        Nanos(given.unwrap_or(self.events))
    }

    /// One piece of memory for each name and key, however often it occurs.
    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return known.clone();
        }
        let new: Arc<str> = word.into();
        self.words.insert(word.to_owned(), new.clone());
        new
    }

    pub(super) fn add(
        &mut self,
        line: u32,
        thread: Thread,
        at: Nanos,
        event: Event,
        answered: Answered<'_>,
    ) -> Result<(), ReadError> {
        let client = thread.0;
        if let Event::Invoke(said) = event {
            let id = self.history.invoke(client, at, said);
            self.lines.push(line);
            if let Some(earlier) = self.open.insert(thread, id) {
                let began = self.lines[earlier.index()];
                let reason =
                    format!("{client} asks again, but its operation of line {began} has not ended");
                return Err(ReadError::new(line, reason));
            }
            return Ok(());
        }
        let Some(id) = self.open.remove(&thread) else {
            let reason = format!("an operation of {client} ends that never began");
            return Err(ReadError::new(line, reason));
        };
        match event {
            Event::Ok(value) => self.history.returned(id, at, value),
            Event::Fail => self.history.refused(id, at),
            Event::Info | Event::Invoke(_) => self.history.unknown(id, at),
        }
        if let Some(server) = answered.server {
            self.history.served_by(id, server);
        }
        if let Some(position) = answered.position {
            self.history.stands_at(id, position);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> (History<Said, Value>, Vec<u32>) {
        if !self.any_time {
            self.history.untimed();
        }
        (self.history, self.lines)
    }
}
