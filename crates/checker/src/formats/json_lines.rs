//! Our own format: one JSON object a line.
//!
//! ```text
//! {"type":"invoke","client":1,"time":100,"f":"write","key":"x","value":1}      two lines an operation,
//! {"type":"ok","client":1,"time":250}                                          in the order of their times
//! {"type":"fail","client":1,"time":250}                                        it did not happen
//! {"type":"info","client":1,"time":250}                                        nobody knows
//! {"client":1,"f":"read","key":"x","call":300,"return":420,"result":1}         or one, in any order
//! {"note":"kill -9 n2","time":310}
//! ```
//!
//! Times are nanoseconds since any start. `id` tells operations of one client apart that overlap; `server` is who answered,
//! `position` where it stood in the system's own order of changes (zxid, revision).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

use super::ReadError;
use super::events::{Answered, Event, Events};
use crate::check::HistoryOf;
use crate::history::{ClientId, History, Interval, Nanos, Outcome, Position};
use crate::models::{Said, Spoken};
use crate::value::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    client: Option<u64>,
    id: Option<u64>,
    #[serde(borrow, default)]
    f: Option<Cow<'a, str>>,
    key: Option<Value>,
    #[serde(default)]
    value: Value,
    time: Option<u64>,
    call: Option<u64>,
    #[serde(rename = "return")]
    ret: Option<u64>,
    #[serde(default)]
    result: Value,
    #[serde(borrow, default)]
    server: Option<Cow<'a, str>>,
    position: Option<u64>,
    note: Option<String>,
}

pub(super) fn read(text: &str) -> Result<(History<Said, Value>, Vec<u32>), ReadError> {
    let mut reader = LineReader::default();
    for (number, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| {
            ReadError::new(number, format!("{error}").replace(" at line 1 column", ", column"))
        })?;
        reader.add(number, line)?;
    }
    reader.finish()
}

#[derive(Default)]
struct LineReader {
    events: Events,
    intervals: Vec<Interval<Said, Value>>,
    interval_lines: Vec<u32>,
    first_event: Option<u32>,
    last_time: u64,
}

impl LineReader {
    fn add(&mut self, number: u32, line: Line<'_>) -> Result<(), ReadError> {
        if let Some(note) = line.note {
            let at = Nanos(line.time.unwrap_or(self.last_time));
            self.events.history.note(at, note);
            return Ok(());
        }
        let client = line.client.ok_or_else(|| ReadError::new(number, "there is no `client`"))?;
        if line.kind.is_none() || line.call.is_some() {
            return self.add_interval(number, ClientId(client), line);
        }
        self.first_event.get_or_insert(number);
        if let Some(time) = line.time {
            if time < self.last_time {
                let reason = format!(
                    "time {time} comes after {}: events must be in the order of their times",
                    self.last_time
                );
                return Err(ReadError::new(number, reason));
            }
            self.last_time = time;
        }
        self.add_event(number, ClientId(client), line)
    }

    fn add_event(
        &mut self,
        number: u32,
        client: ClientId,
        line: Line<'_>,
    ) -> Result<(), ReadError> {
        let at = self.events.time(line.time);
        let thread = (client, line.id);
        let event = match line.kind.as_deref() {
            Some("invoke") => Event::Invoke(self.said(number, &line)?),
            Some("ok") => {
                let result = if line.value == Value::Nil { line.result } else { line.value };
                Event::Ok(result)
            }
            Some("fail") => Event::Fail,
            Some("info") => Event::Info,
            other => {
                let reason = format!("`type` is invoke, ok, fail or info, not {other:?}");
                return Err(ReadError::new(number, reason));
            }
        };
        let position = line.position.map(Position);
        self.events.add(
            number,
            thread,
            at,
            event,
            Answered { server: line.server.as_deref(), position },
        )
    }

    fn add_interval(
        &mut self,
        number: u32,
        client: ClientId,
        line: Line<'_>,
    ) -> Result<(), ReadError> {
        let said = self.said(number, &line)?;
        let called =
            line.call.ok_or_else(|| ReadError::new(number, "there is no `type` and no `call`"))?;
        if line.ret.is_some_and(|ret| ret < called) {
            return Err(ReadError::new(number, "`return` comes before `call`"));
        }
        let outcome = match (line.kind.as_deref(), line.ret) {
            (None | Some("ok"), Some(_)) => Outcome::Returned(line.result),
            (None | Some("info"), _) => Outcome::Unknown,
            (Some("fail"), _) => Outcome::Refused,
            (Some(other), _) => {
                let reason = format!("with `call`, `type` is ok, fail or info, not {other}");
                return Err(ReadError::new(number, reason));
            }
        };
        self.intervals.push(Interval {
            client,
            input: said,
            outcome,
            called: Nanos(called),
            ended: line.ret.map(Nanos),
            server: line.server.map(|server| server.as_ref().into()),
            position: line.position.map(Position),
        });
        self.interval_lines.push(number);
        Ok(())
    }

    fn said(&mut self, number: u32, line: &Line<'_>) -> Result<Said, ReadError> {
        let f = line.f.as_deref().ok_or_else(|| ReadError::new(number, "there is no `f`"))?;
        let key = line.key.as_ref().map(|key| self.events.word(&key.as_key()));
        Ok(Said { f: self.events.word(f), key, value: line.value.clone() })
    }

    fn finish(self) -> Result<(History<Said, Value>, Vec<u32>), ReadError> {
        if self.intervals.is_empty() {
            return Ok(self.events.finish());
        }
        if let Some(line) = self.first_event {
            let reason = "a file has either lines with `call` and `return` or events, not both";
            return Err(ReadError::new(line, reason));
        }
        let numbered: Vec<_> =
            self.intervals.iter().map(|i| i.called).zip(self.interval_lines).collect();
        let notes = self.events.history.notes().to_vec();
        let mut history = History::from_intervals(self.intervals);
        notes.into_iter().for_each(|note| history.note(note.at, note.text));
        Ok((history, lines_by_call(numbered)))
    }
}

/// The lines in the order of their calls. (Where calls are at one time, a line near it will do for a message.)
fn lines_by_call(mut numbered: Vec<(Nanos, u32)>) -> Vec<u32> {
    numbered.sort_by_key(|(called, _)| *called);
    numbered.into_iter().map(|(_, line)| line).collect()
}

/// Writes a history, to be read again later or elsewhere: two events an operation, in their order.
pub fn write<M: Spoken>(model: &M, history: &HistoryOf<M>) -> String {
    let mut events = Vec::new();
    for (id, operation) in (0_u64..).zip(history.operations()) {
        let (said, result) = model.say(&operation.input, operation.outcome.output());
        let invoke = json!({
            "type": "invoke", "client": operation.client.0, "id": id, "time": operation.called.0,
            "f": &*said.f, "key": said.key.as_deref(), "value": said.value,
        });
        events.push((operation.called, operation.call.0, invoke));
        let kind = match operation.outcome {
            Outcome::Returned(_) => "ok",
            Outcome::Refused => "fail",
            Outcome::Unknown => "info",
        };
        let Some(ended) = operation.ended else { continue };
        let end = json!({
            "type": kind, "client": operation.client.0, "id": id, "time": ended.0, "value": result,
            "server": operation.server.as_deref(), "position": operation.position.map(|at| at.0),
        });
        events.push((ended, operation.ret.0, end));
    }
    for note in history.notes() {
        events.push((note.at, u32::MAX, json!({"note": note.text, "time": note.at.0})));
    }
    events.sort_by_key(|(at, moment, _)| (*at, *moment));
    let lines = events.into_iter().map(|(_, _, mut event)| {
        if let Some(fields) = event.as_object_mut() {
            fields.retain(|name, value| !value.is_null() || name == "result");
        }
        format!("{event}\n")
    });
    lines.collect()
}
