//! The store by itself: scripts, the words of errors, and a naive store to compare with.

mod db;
mod errors;
mod model;
mod script;
mod snapshot;
mod txn;
