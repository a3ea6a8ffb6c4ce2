//! Reads EDN, the notation of Clojure's data: as much of it as histories use. Not here: what the data mean.

use super::ReadError;
use crate::value::Value;

/// A form.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Form {
    /// Nil, truth, numbers, strings; vectors, lists and sets of forms that are values.
    Value(Value),
    /// `:name`.
    Keyword(String),
    /// A bare name.
    Symbol(String),
    /// A vector, list or set.
    Sequence(Vec<Form>),
    /// Keys and values, in the order in which they were written.
    Map(Vec<(Form, Form)>),
}

impl Form {
    /// The value with this keyword as its key.
    pub(super) fn field(&self, name: &str) -> Option<&Form> {
        let Self::Map(entries) = self else { return None };
        let is_named = |key: &Form| matches!(key, Form::Keyword(key) if key == name);
        entries.iter().find(|(key, _)| is_named(key)).map(|(_, value)| value)
    }

    /// As a value; keywords, symbols and maps become text.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Keyword(name) | Self::Symbol(name) => name.as_str().into(),
            Self::Sequence(forms) => forms.iter().map(Form::to_value).collect::<Vec<_>>().into(),
            Self::Map(entries) => {
                let mut entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{} {}", key.to_value(), value.to_value()))
                    .collect();
                entries.sort();
                format!("{{{}}}", entries.join(", ")).as_str().into()
            }
        }
    }
}

/// Reads one form after the other.
pub(super) struct Reader<'a> {
    rest: &'a str,
    pub(super) line: u32,
    depth: u32,
}

/// Deeper nesting than that is no history, and would use up the stack.
const DEPTH_MAX: u32 = 64;

impl<'a> Reader<'a> {
    /// A reader of a text that begins at this line.
    pub(super) fn new(text: &'a str, line: u32) -> Self {
        Self { rest: text, line, depth: 0 }
    }

    /// The next form; `None` at the end.
    pub(super) fn form(&mut self) -> Result<Option<Form>, ReadError> {
        self.skip();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("nested too deeply"));
        }
        let form = match first {
            '[' | '(' => self.sequence(1)?,
            '{' => self.map()?,
            '"' => self.string()?,
            '#' => self.dispatch()?,
            ']' | ')' | '}' => return Err(self.wrong(format!("`{first}` closes nothing"))),
            '\\' => self.character(),
            _ => self.atom()?,
        };
        self.depth -= 1;
        Ok(Some(form))
    }

    /// Goes into a vector, so that its forms can be read one by one. Says whether there was one.
    pub(super) fn enter_vector(&mut self) -> bool {
        self.skip();
        let vector = self.rest.starts_with('[');
        if vector {
            self.advance(1);
        }
        vector
    }

    /// Whether the vector that was entered ends here.
    pub(super) fn leave_vector(&mut self) -> bool {
        self.skip();
        let ends = self.rest.starts_with(']');
        if ends {
            self.advance(1);
        }
        ends
    }

    /// What is left of the text.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    fn wrong(&self, reason: impl Into<String>) -> ReadError {
        ReadError::new(self.line, reason)
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += u32::try_from(taken.bytes().filter(|b| *b == b'\n').count()).unwrap_or(0);
        self.rest = rest;
        taken
    }

    fn skip(&mut self) {
        loop {
            let is_space = |c: char| c.is_whitespace() || c == ',';
            let space = self.rest.find(|c| !is_space(c)).unwrap_or(self.rest.len());
            self.advance(space);
            if !self.rest.starts_with(';') {
                return;
            }
            let comment = self.rest.find('\n').unwrap_or(self.rest.len());
            self.advance(comment);
        }
    }

    fn sequence(&mut self, opening: usize) -> Result<Form, ReadError> {
        let began = self.line;
        self.advance(opening);
        let mut forms = Vec::new();
        loop {
            self.skip();
            if self.rest.starts_with([']', ')', '}']) {
                self.advance(1);
                return Ok(Form::Sequence(forms));
            }
            match self.form()? {
                Some(form) => forms.push(form),
                None => return Err(ReadError::new(began, "what begins here is never closed")),
            }
        }
    }

    fn map(&mut self) -> Result<Form, ReadError> {
        let line = self.line;
        let Form::Sequence(forms) = self.sequence(1)? else { unreachable!("it is one") };
        if !forms.len().is_multiple_of(2) {
            return Err(ReadError::new(line, "a map has a key without a value"));
        }
        let mut forms = forms.into_iter();
        let mut entries = Vec::new();
        while let (Some(key), Some(value)) = (forms.next(), forms.next()) {
            entries.push((key, value));
        }
        Ok(Form::Map(entries))
    }

    fn string(&mut self) -> Result<Form, ReadError> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.advance(at + 1);
                    return Ok(Form::Value(text.as_str().into()));
                }
                '\\' => text.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, 'r')) => '\r',
                    Some((_, other)) => other,
                    None => break,
                }),
                other => text.push(other),
            }
        }
        Err(self.wrong("a string is never closed"))
    }

    fn character(&mut self) -> Form {
        self.advance(1);
        let end = self.rest.find([' ', ',', ']', ')', '}', '\n']).unwrap_or(self.rest.len());
        Form::Value(self.advance(end).into())
    }

    /// `#{set}`, `#_ discarded`, `#tag form`: a tag is dropped, its form is what counts.
    fn dispatch(&mut self) -> Result<Form, ReadError> {
        if self.rest.starts_with("#{") {
            return self.sequence(2);
        }
        if self.rest.starts_with("#_") {
            self.advance(2);
            self.form()?;
        } else {
            let end = self.rest.find(|c: char| c.is_whitespace() || "[({\"".contains(c));
            self.advance(end.unwrap_or(self.rest.len()));
        }
        self.form()?.ok_or_else(|| self.wrong("something must follow `#`"))
    }

    fn atom(&mut self) -> Result<Form, ReadError> {
        let ends = |c: char| c.is_whitespace() || ",[](){}\";".contains(c);
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let word = self.advance(end);
        if let Some(name) = word.strip_prefix(':') {
            return Ok(Form::Keyword(name.to_owned()));
        }
        Ok(match word {
            "nil" => Form::Value(Value::Nil),
            "true" => Form::Value(Value::Bool(true)),
            "false" => Form::Value(Value::Bool(false)),
            _ => match word.trim_end_matches('N').parse() {
                Ok(number) => Form::Value(Value::Int(number)),
                Err(_) => Form::Symbol(word.to_owned()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Form {
        Reader::new(text, 1).form().expect("it is EDN").expect("there is a form")
    }

    #[test]
    fn forms_of_every_kind() {
        assert_eq!(
            one("[1 nil true \"a \\\"b\\\"\"]").to_value().to_string(),
            "[1 nil true \"a \\\"b\\\"\"]"
        );
        assert_eq!(one("#{3 4}").to_value().to_string(), "[3 4]");
        assert_eq!(one("; a comment\n, #_ gone (1 -2)").to_value().to_string(), "[1 -2]");
        let op = one("#jepsen.history.Op{:type :ok, :value [[:r 1 nil]], :time 12N}");
        assert_eq!(op.field("type"), Some(&Form::Keyword("ok".to_owned())));
        assert_eq!(op.field("time"), Some(&Form::Value(Value::Int(12))));
        assert_eq!(
            op.field("value").map(|v| v.to_value().to_string()),
            Some("[[\"r\" 1 nil]]".to_owned())
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line) in [("{:a 1\n :b}", 1), ("\n\n[1 2", 3), ("\"abc", 1), ("\n]", 2)] {
            let error = Reader::new(text, 1).form().expect_err("it is no EDN");
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(Reader::new(&"[".repeat(100_000), 1).form().is_err());
    }
}
