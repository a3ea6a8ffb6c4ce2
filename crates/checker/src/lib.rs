//! Whether what clients saw can be explained: linearizability (Herlihy & Wing 1990), weaker promises, and pictures.
//!
//! A [`History`] says what clients asked, what they were told, and in which order the calls and returns happened. It is
//! *linearizable* if there is one order of all operations that respects real time and that the object's sequential
//! specification, the [`Model`], allows (LIN-1). [`check()`] finds such an order, or shows that there is none, or says that a limit
//! was met: it never guesses.
//!
//! ```text
//!   formats -> History -> check -> Verdict -> picture
//!                 ^         ^
//!              recorder   Model
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`history`] | operations, clients, the recorder: `invoke`, `returned`, `refused`, `unknown` |
//! | [`model`] | the trait for a sequential specification; [`models`] has those that come along |
//! | `check` | parts by key, taken in turns |
//! | `engine` | the polynomial way for unique values (`chains`), the complete search (`search`) |
//! | `explain`, `core`, `words` | where and why a history breaks |
//! | [`promises`] | weaker than linearizability, and serializability of transactions, by cycles |
//! | [`picture`] | one self-contained page, or a few lines of text |
//! | [`formats`] | Jepsen's logs and EDN, key-value histories, JSON lines |
//!
//! This crate depends on nothing of ours, so that it can judge us and others. It is pure: no clock, no threads; whoever has a
//! clock gives [`Limits`].

pub mod check;
mod core;
mod engine;
mod explain;
pub mod formats;
pub mod history;
pub mod limits;
pub mod model;
pub mod models;
pub mod picture;
pub mod promises;
pub mod value;
pub mod verdict;
mod words;

pub use check::{HistoryOf, check};
pub use engine::Engine;
pub use history::{ClientId, History, Interval, Nanos, Note, OpId, Operation, Outcome, Position};
pub use limits::Limits;
pub use model::{Access, Model, Step};
pub use value::Value;
pub use verdict::{Answer, Breach, Part, Verdict};
