//! Jepsen's log lines: `INFO  jepsen.util - 3 :invoke :cas [1 2]`.
//!
//! A line counts if a process number is followed by `:invoke`, `:ok`, `:fail` or `:info`; others are passed over, as logs have all
//! sorts of lines. The order of the lines is the order of the events. `:timed-out` is the outcome of an operation that may have
//! happened if it could change anything, and of a read of which nothing is known.

use super::ReadError;
use super::edn::Reader;
use super::edn_history::failed;
use super::events::{Answered, Event, Events};
use crate::history::{ClientId, History};
use crate::models::Said;
use crate::value::Value;

pub(super) fn read(text: &str) -> Result<(History<Said, Value>, Vec<u32>), ReadError> {
    let mut events = Events::default();
    let mut nonsense = None;
    let mut any = false;
    for (line, text) in (1..).zip(text.lines()) {
        match operation_in(text) {
            Some(found) => {
                any = true;
                add(&mut events, line, found)?;
            }
            None if !text.trim().is_empty() => nonsense = nonsense.or(Some(line)),
            None => {}
        }
    }
    match nonsense {
        Some(line) if !any => {
            let reason =
                "no line tells of an operation: this is no Jepsen log; is it another format?";
            Err(ReadError::new(line, reason))
        }
        _ => Ok(events.finish()),
    }
}

/// What stands in a line: process, type, and the rest.
struct Found<'a> {
    client: ClientId,
    kind: &'a str,
    rest: &'a str,
}

fn operation_in(line: &str) -> Option<Found<'_>> {
    let kinds = [":invoke", ":ok", ":fail", ":info"];
    let (at, kind) = kinds.iter().filter_map(|kind| Some((find_word(line, kind)?, *kind))).min()?;
    let process = line[..at].split_whitespace().next_back()?;
    let client = ClientId(process.parse().ok()?);
    Some(Found { client, kind, rest: &line[at + kind.len()..] })
}

fn find_word(line: &str, word: &str) -> Option<usize> {
    let bounded = |at: usize| {
        let after = line[at + word.len()..].chars().next();
        line[..at].ends_with(char::is_whitespace) && after.is_none_or(char::is_whitespace)
    };
    line.match_indices(word).map(|(at, _)| at).find(|at| bounded(*at))
}

fn add(events: &mut Events, line: u32, found: Found<'_>) -> Result<(), ReadError> {
    let mut reader = Reader::new(found.rest, line);
    let no_f = || ReadError::new(line, format!("no operation follows {}", found.kind));
    let f = reader.form()?.ok_or_else(no_f)?.to_value();
    let f = f.as_text().ok_or_else(no_f)?.to_owned();
    let value = reader.form()?.map(|form| form.to_value()).unwrap_or_default();
    let timed_out = value.as_text().is_some_and(|text| text.starts_with("timed-out"));
    let event = match found.kind {
        ":invoke" => Event::Invoke(Said { f: events.word(&f), key: None, value }),
        ":ok" => Event::Ok(value),
        ":info" => Event::Info,
        _ => failed(&f, timed_out || value == Value::Nil),
    };
    let at = events.time(None);
    events.add(line, (found.client, None), at, event, Answered::default())
}
