//! `quorate check`: judges a recorded history.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use quorate_checker::formats::{self, Format, Guess, ReadError, Written, guess_model};
use quorate_checker::models::{Kv, Lock, Queue, Register, Set, Spoken, Txn};
use quorate_checker::picture::{Picture, text::timeline};
use quorate_checker::promises::{Broken, Kept, Promise, keeps, serializable};
use quorate_checker::{Answer, HistoryOf, Limits, Model, OpId, Part, Verdict};
use serde_json::{Value, json};

use crate::failure::{Done, Failure, Kind, tell};

/// Check whether a recorded history is linearizable; exits with 0 (yes), 1 (no) or 2 (undecided)
#[derive(Args)]
#[command(after_help = "Examples:
  quorate check history.edn
  quorate check history.jsonl --model kv --html picture.html
  quorate check reads.jsonl --promise fifo,monotonic-reads
  quorate check - --format jepsen < jepsen.log

Formats and models: docs/histories.md. Exit codes: 0 linearizable, 1 not, 2 undecided, 65 the file makes no sense.")]
pub(crate) struct Check {
    /// The history; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the operations are about; without it, their names tell
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelName>,

    /// How the file is written
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    format: FormatName,

    /// Undecided after so many seconds
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,

    /// Undecided when the search would hold more than so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: usize,

    /// Write a picture: one self-contained page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// What must hold; several with commas. The answer is that of the strictest
    #[arg(long, value_name = "PROMISE", value_delimiter = ',', default_value = "linearizable")]
    promise: Vec<PromiseName>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum PromiseName {
    /// One order of all operations that respects real time
    Linearizable,
    /// Writes are linearizable, reads may be old
    LinearizableWrites,
    /// A client sees what it wrote, or newer
    ReadYourWrites,
    /// A client never sees older than it saw
    MonotonicReads,
    /// A client's operations take effect in the order in which it asked
    Fifo,
    /// The two before, where a client has moved to another server
    SessionOrder,
    /// Transactions could have come one after the other
    Serializable,
    /// And in an order that respects real time
    StrictSerializable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ModelName {
    /// One variable: read, write, cas, append, delete
    Register,
    /// A map of such variables
    Kv,
    /// First in, first out
    Queue,
    /// Add, remove, contains, read
    Set,
    /// Acquire, release, use; with fencing tokens
    Lock,
    /// As `lock`, but a holder may lose it without releasing it
    ExpiringLock,
    /// Transactions on several keys
    Txn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FormatName {
    /// The first line tells
    Auto,
    /// Lines of a Jepsen log
    Jepsen,
    /// Jepsen's history.edn, or one map a line
    Edn,
    /// JSON lines
    Json,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds, 0 or more".to_owned()),
    }
}

impl Check {
    pub(crate) fn run(&self) -> Result<Done, Failure> {
        let text = self.text()?;
        let written =
            formats::read(&text, self.format()).map_err(|error| self.unreadable(&error))?;
        drop(text);
        let guess = guess_model(&written.history);
        match (self.model, guess) {
            (Some(ModelName::Register), _) | (None, Guess::Register) => {
                self.judge("register", &Register::default(), written)
            }
            (Some(ModelName::Kv), Guess::Kv(missing)) | (None, Guess::Kv(missing)) => {
                self.judge("kv", &Kv { missing }, written)
            }
            (Some(ModelName::Kv), _) => self.judge("kv", &Kv::default(), written),
            (Some(ModelName::Queue), _) | (None, Guess::Queue) => {
                self.judge("queue", &Queue, written)
            }
            (Some(ModelName::Set), Guess::Set(by_member)) | (None, Guess::Set(by_member)) => {
                self.judge("set", &Set { by_member }, written)
            }
            (Some(ModelName::Set), _) => self.judge("set", &Set::default(), written),
            (Some(ModelName::Lock), _) | (None, Guess::Lock) => {
                self.judge("lock", &Lock { may_expire: false }, written)
            }
            (Some(ModelName::ExpiringLock), _) => {
                self.judge("expiring-lock", &Lock { may_expire: true }, written)
            }
            (Some(ModelName::Txn), _) | (None, Guess::Txn) => self.judge_transactions(written),
        }
    }

    fn text(&self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = if self.file == Path::new("-") {
            std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
        } else {
            std::fs::read(&self.file).map(|read| bytes = read)
        };
        read.map_err(|error| {
            let what = format!("read {}", self.file.display());
            Failure::new(
                Kind::Data,
                what,
                error,
                "give the file of a recorded history, or - for standard input",
            )
        })?;
        String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            self.unreadable(&format!("line {line}: this is no UTF-8 text"))
        })
    }

    fn format(&self) -> Option<Format> {
        match self.format {
            FormatName::Auto => None,
            FormatName::Jepsen => Some(Format::JepsenLog),
            FormatName::Edn => Some(Format::Edn),
            FormatName::Json => Some(Format::JsonLines),
        }
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Failure {
        let what = format!("read {} as a history", self.file.display());
        Failure::new(
            Kind::BadInput,
            what,
            error,
            "docs/histories.md describes the formats; --format and --model choose others",
        )
    }

    fn judge<M: Spoken>(&self, name: &str, model: &M, written: Written) -> Result<Done, Failure> {
        let history = formats::understand(model, written)
            .map_err(|error: ReadError| self.unreadable(&error))?;
        let mut done = Vec::new();
        if self.promise.contains(&PromiseName::Linearizable) {
            done.push(self.linearizable(name, model, &history)?);
        }
        for promise in self.promise.iter().filter_map(|promise| promise.weaker()) {
            if matches!(promise, Promise::Serializable | Promise::StrictSerializable) {
                return Err(self
                    .unreadable(&format!("`{promise}` is about transactions, this is a {name}")));
            }
            done.push(self.tell_kept(promise, &keeps(model, &history, promise)));
        }
        Ok(strictest(&done))
    }

    /// Transactions: serializability by cycles; linearizable means strictly serializable.
    fn judge_transactions(&self, written: Written) -> Result<Done, Failure> {
        let history = formats::understand(&Txn, written)
            .map_err(|error: ReadError| self.unreadable(&error))?;
        let mut done = Vec::new();
        for promise in &self.promise {
            let promise = match promise.weaker() {
                None => Promise::StrictSerializable,
                Some(promise @ (Promise::Serializable | Promise::StrictSerializable)) => promise,
                Some(other) => {
                    return Err(self.unreadable(&format!(
                        "`{other}` is about single reads and writes, these are transactions"
                    )));
                }
            };
            let kept = self.with_limits(|limits| serializable(&history, promise, limits));
            done.push(self.tell_kept(promise, &kept));
        }
        if self.html.is_some() {
            let verdict = self.with_limits(|limits| quorate_checker::check(&Txn, &history, limits));
            self.draw(&Txn, &history, &verdict)?;
        }
        Ok(strictest(&done))
    }

    fn linearizable<M: Spoken>(
        &self,
        name: &str,
        model: &M,
        history: &HistoryOf<M>,
    ) -> Result<Done, Failure> {
        let began = Instant::now();
        let verdict = self.with_limits(|limits| quorate_checker::check(model, history, limits));
        let took = began.elapsed();
        let report = Report { file: &self.file, name, model, history, verdict: &verdict, took };
        tell(&if self.json { report.json().to_string() } else { report.text() });
        self.draw(model, history, &verdict)?;
        Ok(match verdict.answer {
            Answer::Linearizable => Done::Yes,
            Answer::NotLinearizable => Done::No,
            Answer::Unknown => Done::Undecided,
        })
    }

    fn with_limits<T>(&self, work: impl FnOnce(&Limits<'_>) -> T) -> T {
        let began = Instant::now();
        let timeout = Duration::from_secs_f64(self.timeout);
        work(&Limits {
            bytes_max: self.memory.saturating_mul(1 << 20),
            expired: &|| began.elapsed() > timeout,
            ..Limits::default()
        })
    }

    fn draw<M: Spoken>(
        &self,
        model: &M,
        history: &HistoryOf<M>,
        verdict: &Verdict,
    ) -> Result<(), Failure> {
        let Some(path) = &self.html else { return Ok(()) };
        let title = self.file.file_name().map_or("history".into(), |name| name.to_string_lossy());
        let page = Picture::of(&title, model, history, verdict).to_html();
        std::fs::write(path, page).map_err(|error| {
            let what = format!("write {}", path.display());
            Failure::new(Kind::Data, what, error, "is the directory there and writable?")
        })
    }

    fn tell_kept(&self, promise: Promise, kept: &Kept) -> Done {
        let (done, answer, ways) = match kept {
            Kept::Yes => (Done::Yes, "kept", vec![]),
            Kept::No(broken) => (Done::No, "broken", broken.iter().map(in_words).collect()),
            Kept::Unknown(why) => (Done::Undecided, "unknown", vec![why.clone()]),
        };
        if self.json {
            let line = json!({
                "file": self.file.display().to_string(),
                "promise": promise.name(), "answer": answer, "why": ways,
            });
            tell(&line.to_string());
        } else {
            tell(&format!("{}: {promise} {answer}", self.file.display()));
            ways.iter().take(BREACHES_TOLD).for_each(|way| tell(&format!("  {way}")));
        }
        done
    }
}

impl PromiseName {
    fn weaker(self) -> Option<Promise> {
        Some(match self {
            Self::Linearizable => return None,
            Self::LinearizableWrites => Promise::LinearizableWrites,
            Self::ReadYourWrites => Promise::ReadYourWrites,
            Self::MonotonicReads => Promise::MonotonicReads,
            Self::Fifo => Promise::Fifo,
            Self::SessionOrder => Promise::SessionOrder,
            Self::Serializable => Promise::Serializable,
            Self::StrictSerializable => Promise::StrictSerializable,
        })
    }
}

fn strictest(done: &[Done]) -> Done {
    *[Done::No, Done::Undecided].iter().find(|answer| done.contains(answer)).unwrap_or(&Done::Yes)
}

fn in_words(broken: &Broken) -> String {
    let key = broken.key.as_ref().map_or_else(String::new, |key| format!(", key {key}"));
    format!("{}{key}: {}", broken.kind, broken.why)
}

/// A verdict on its way to a reader.
struct Report<'r, M: Spoken> {
    file: &'r Path,
    name: &'r str,
    model: &'r M,
    history: &'r HistoryOf<M>,
    verdict: &'r Verdict,
    took: Duration,
}

/// Wrong parts that are told in full.
const BREACHES_TOLD: usize = 5;

impl<M: Spoken> Report<'_, M> {
    fn text(&self) -> String {
        let mut lines = vec![
            format!("{}: {}", self.file.display(), self.verdict.answer),
            format!(
                "  {} operations{}, {} model, {:.3} s",
                self.history.operations().len(),
                self.parts(),
                self.name,
                self.took.as_secs_f64()
            ),
        ];
        let details = breach_lines(self.model, self.history, self.verdict);
        lines.extend(details.into_iter().map(|line| format!("  {line}")));
        lines.join("\n")
    }

    fn parts(&self) -> String {
        match self.verdict.parts.iter().filter(|part| part.key.is_some()).count() {
            0 => String::new(),
            1 => " of 1 key".to_owned(),
            keys => format!(" of {keys} keys"),
        }
    }

    fn json(&self) -> Value {
        json!({
            "file": self.file.display().to_string(),
            "model": self.name,
            "answer": self.verdict.answer.to_string(),
            "operations": self.history.operations().len(),
            "seconds": self.took.as_secs_f64(),
            "steps": self.verdict.steps,
            "parts": self.verdict.parts.iter().map(|part| self.part(part)).collect::<Vec<_>>(),
        })
    }

    fn part(&self, part: &Part) -> Value {
        let told = |ids: &[OpId]| ids.iter().map(|id| self.operation(*id)).collect::<Vec<_>>();
        let breach = part.breach.as_ref().map(|breach| {
            json!({
                "why": breach.why,
                "stuck": self.operation(breach.stuck),
                "core": breach.core.as_deref().map(told),
                "linearizable_prefix": part.order.len(),
            })
        });
        json!({
            "key": part.key, "answer": part.answer.to_string(), "operations": part.operations.len(), "breach": breach,
        })
    }

    fn operation(&self, id: OpId) -> Value {
        let operation = self.history.operation(id);
        json!({
            "client": operation.client.0,
            "operation": self.model.describe(&operation.input, operation.outcome.output()),
            "call": operation.called.0,
            "return": operation.ended.map(|ended| ended.0),
        })
    }
}

/// What breaks, where and why: each with its contradiction as a small picture.
pub(crate) fn breach_lines<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
    verdict: &Verdict,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (part, breach) in verdict.breaches().take(BREACHES_TOLD) {
        lines.push(String::new());
        lines.push(format!("{}{}", of_key(part), breach.why));
        let core = breach.core.as_deref().filter(|core| core.len() <= OPERATIONS_DRAWN);
        lines.push(String::new());
        lines.extend(timeline(model, history, core.unwrap_or(&[breach.stuck])));
    }
    let more = verdict.breaches().count().saturating_sub(BREACHES_TOLD);
    lines.extend((more > 0).then(|| format!("and {more} more keys break")));
    lines
}

/// More operations do not fit on a terminal.
const OPERATIONS_DRAWN: usize = 12;

fn of_key(part: &Part) -> String {
    part.key.as_ref().map_or_else(String::new, |key| format!("key {key}: "))
}
