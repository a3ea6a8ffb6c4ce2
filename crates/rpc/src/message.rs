//! What callers and callees tell each other.

use bytes::Bytes;
use quorate_contracts::{Malformed, Wire, WireReader, WireWriter};

use crate::BODY_BYTES_MAX;

/// A calling process in one of its lives; drawn at its start, never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallerId(pub u64);

/// A called process in one of its lives; drawn at its start, never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Life(pub u64);

impl Life {
    /// Not known yet.
    pub const UNKNOWN: Self = Self(0);
}

/// Numbers the calls of one caller to one callee, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sequence(pub u64);

/// A call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: CallerId,
    /// The life of the callee that is to run it.
    pub life: Life,
    /// Its number.
    pub sequence: Sequence,
    /// The caller has settled every call before this one: their answers need not be kept.
    pub unacknowledged: Sequence,
    /// How long the caller still waits, in milliseconds.
    pub patience_ms: u32,
    /// What is asked.
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// To whom.
    pub caller: CallerId,
    /// To which call.
    pub sequence: Sequence,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a call, as the callee tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was run.
    Run(Outcome),
    /// It was not run: it is for another life than this one.
    OtherLife(Life),
}

/// What came of running a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// What was asked for.
    Done(Bytes),
    /// An error of the application, in words.
    Failed(String),
}

/// Either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// To a callee.
    Call(Call),
    /// To a caller.
    Answer(Answer),
}

mod tag {
    pub(super) const CALL: u8 = 1;
    pub(super) const DONE: u8 = 2;
    pub(super) const FAILED: u8 = 3;
    pub(super) const OTHER_LIFE: u8 = 4;
}

impl Wire for Message {
    fn encode(&self, out: &mut WireWriter) {
        match self {
            Self::Call(call) => {
                out.u8(tag::CALL);
                out.u64(call.caller.0);
                out.u64(call.life.0);
                out.u64(call.sequence.0);
                out.u64(call.unacknowledged.0);
                out.u32(call.patience_ms);
                out.bytes(&call.body);
            }
            Self::Answer(answer) => {
                let head = |out: &mut WireWriter, tag| {
                    out.u8(tag);
                    out.u64(answer.caller.0);
                    out.u64(answer.sequence.0);
                };
                match &answer.verdict {
                    Verdict::Run(Outcome::Done(body)) => {
                        head(out, tag::DONE);
                        out.bytes(body);
                    }
                    Verdict::Run(Outcome::Failed(error)) => {
                        head(out, tag::FAILED);
                        out.bytes(error.as_bytes());
                    }
                    Verdict::OtherLife(life) => {
                        head(out, tag::OTHER_LIFE);
                        out.u64(life.0);
                    }
                }
            }
        }
    }

    fn decode(input: &mut WireReader<'_>) -> Result<Self, Malformed> {
        let tag = input.u8()?;
        let caller = CallerId(input.u64()?);
        if tag == tag::CALL {
            return Ok(Self::Call(Call {
                caller,
                life: Life(input.u64()?),
                sequence: Sequence(input.u64()?),
                unacknowledged: Sequence(input.u64()?),
                patience_ms: input.u32()?,
                body: body(input)?,
            }));
        }
        let sequence = Sequence(input.u64()?);
        let verdict = match tag {
            tag::DONE => Verdict::Run(Outcome::Done(body(input)?)),
            tag::FAILED => Verdict::Run(Outcome::Failed(input.str()?.to_string())),
            tag::OTHER_LIFE => Verdict::OtherLife(Life(input.u64()?)),
            _ => return Err(Malformed("unknown kind of a call's message")),
        };
        Ok(Self::Answer(Answer { caller, sequence, verdict }))
    }
}

fn body(input: &mut WireReader<'_>) -> Result<Bytes, Malformed> {
    let body = input.shared()?;
    if body.len() > BODY_BYTES_MAX {
        Err(Malformed("a call's body is too large"))
    } else {
        Ok(body)
    }
}
