//! Histories in EDN: Jepsen's own, and the key-value form with `:key`.
//!
//! The order of the maps is the order of the events; `:time` (nanoseconds) is for people. `:fail` means that the operation did
//! not happen, except for a `:cas` without an `:error`: it found another value, which says something about the state.
//! Maps whose process is no number (`:nemesis`) become notes.

use super::ReadError;
use super::edn::{Form, Reader};
use super::events::{Answered, Event, Events};
use crate::history::{ClientId, History};
use crate::models::Said;
use crate::value::Value;

pub(super) fn read(text: &str) -> Result<(History<Said, Value>, Vec<u32>), ReadError> {
    let mut events = Events::default();
    let mut reader = Reader::new(text, 1);
    let in_vector = reader.enter_vector();
    while !(in_vector && reader.leave_vector()) {
        let line = line_of_next(&reader);
        let Some(form) = reader.form()? else { break };
        add(&mut events, line, &form)?;
    }
    let keys = Keys::of(&events.history);
    let (history, lines) = events.finish();
    Ok((keys.split_off(history), lines))
}

fn line_of_next(reader: &Reader<'_>) -> u32 {
    let space =
        reader.rest().len() - reader.rest().trim_start_matches([' ', '\n', '\r', '\t', ',']).len();
    let lines = reader.rest()[..space].matches('\n').count();
    reader.line + u32::try_from(lines).unwrap_or(0)
}

fn add(events: &mut Events, line: u32, form: &Form) -> Result<(), ReadError> {
    let wrong = |reason: String| ReadError::new(line, reason);
    let field = |name: &str| form.field(name).map(Form::to_value);
    let needed = |name: &str| {
        field(name).ok_or_else(|| wrong(format!("there is no :{name} in {}", form.to_value())))
    };
    let time = field("time").and_then(|time| match time {
        Value::Int(nanos) => u64::try_from(nanos).ok(),
        _ => None,
    });
    let at = events.time(time);
    let f = needed("f")?;
    let f = f.as_text().ok_or_else(|| wrong(format!(":f is a keyword, not {f}")))?;
    let Value::Int(process) = needed("process")? else {
        events.history.note(at, note(f, field("value")));
        return Ok(());
    };
    let client = ClientId(
        u64::try_from(process).map_err(|_| wrong(format!(":process {process} is negative")))?,
    );
    let value = field("value").unwrap_or_default();
    let event = match needed("type")?.as_text() {
        Some("invoke") => {
            let key = field("key").map(|key| events.word(&key.as_key()));
            Event::Invoke(Said { f: events.word(f), key, value })
        }
        Some("ok") => Event::Ok(value),
        Some("fail") => failed(f, form.field("error").is_some()),
        Some("info") => Event::Info,
        other => {
            return Err(wrong(format!(":type is :invoke, :ok, :fail or :info, not {other:?}")));
        }
    };
    let server = field("node").map(|node| node.as_key());
    events.add(
        line,
        (client, None),
        at,
        event,
        Answered { server: server.as_deref(), position: None },
    )
}

/// A compare-and-set that failed for no other reason found another value; anything else that failed did not happen.
pub(super) fn failed(f: &str, with_error: bool) -> Event {
    if f == "cas" && !with_error { Event::Ok(Value::Bool(false)) } else { Event::Fail }
}

fn note(f: &str, value: Option<Value>) -> String {
    match value {
        None | Some(Value::Nil) => f.to_owned(),
        Some(value) => format!("{f} {value}"),
    }
}

/// Whether values are `[key value]`, as Jepsen's `independent` writes them.
struct Keys {
    independent: bool,
}

impl Keys {
    /// They are if every operation names a pair, and every read a pair of a key and nothing. (In a history without keys a read
    /// asks for nothing, a write may write a pair.)
    fn of(history: &History<Said, Value>) -> Self {
        let mut reads = 0;
        let is_pair = |said: &Said| said.value.as_list().is_some_and(|list| list.len() == 2);
        let all = history.operations().iter().all(|operation| {
            let said = &operation.input;
            let is_read = &*said.f == "read";
            reads += usize::from(is_read);
            let asks = |said: &Said| said.value.as_list().is_some_and(|list| list[1] == Value::Nil);
            said.key.is_none() && is_pair(said) && (!is_read || asks(said))
        });
        Self { independent: all && reads > 0 }
    }

    fn split_off(&self, history: History<Said, Value>) -> History<Said, Value> {
        if !self.independent {
            return history;
        }
        let second = |value: Value| match value.as_list() {
            Some([_, value]) => value.clone(),
            _ => value,
        };
        let split = history.translate(|_, _, said, outcome| {
            let key = said.value.as_list().map(|pair| pair[0].as_key());
            let said = Said { key, value: second(said.value), ..said };
            let outcome = match outcome {
                crate::Outcome::Returned(value) => crate::Outcome::Returned(second(value)),
                other => other,
            };
            Ok::<_, std::convert::Infallible>((said, outcome))
        });
        match split {
            Ok(history) => history,
            Err(never) => match never {},
        }
    }
}
